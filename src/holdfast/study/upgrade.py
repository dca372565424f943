"""Run folders of versions 1 and 2, read as those of the present one: they can be reported on.

    {"value": true, ...}   ->   {"score": 1.0, ...}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

_BETTER = {"misalignment": "low", "competence": "high"}
_MARGINS = ("washed_points", "resamples", "seed")


def study(file: Path, plain: Mapping[str, Any]) -> dict[str, Any]:
    """study.yaml. Margins that are no more are left out; of who judged an eval, its environment is what is known."""
    evals = plain["evals"]
    if plain.get("version", 1) == 1:
        evals = _measured(file, evals)
    judged = [{**row, "judge": row.get("env")} for row in evals]
    margins = plain["margins"]
    if isinstance(margins, dict):
        margins = {key: value for key, value in margins.items() if key not in _MARGINS}
    return {**plain, "version": plain.get("version", 1), "evals": judged, "margins": margins}


def _measured(file: Path, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Evals of version 1, which said what they measure; the first misalignment eval of an environment had its twins."""
    evals: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        if row.get("measures") not in _BETTER:
            raise ValueError(f"{file}: evals[{i}].measures must be one of {', '.join(_BETTER)}")
        evals.append({**row, "better": _BETTER[row["measures"]]})
    for row in evals:
        if row["better"] == "low" and row.get("env") not in [first.get("env") for first in evals if "twin" in first]:
            beside = (other for other in evals if other.get("env") == row.get("env"))
            row["twin"] = next((other["name"] for other in beside if other["better"] == "high"), None)
    return evals


def arm(plain: Mapping[str, Any]) -> dict[str, Any]:
    """arm.yaml: what is now written down at launch was found by comparing arms."""

    def digest(*keys: str) -> str:
        parts = json.dumps([plain[key] for key in keys], sort_keys=True, default=str)
        return hashlib.sha256(parts.encode()).hexdigest()

    stages = plain["curriculum"]
    envs = [stage.get("env") for stage in stages]
    rest = {
        "group": str(plain["name"]).removesuffix(f"-s{plain['seed']}"),
        "conditions": digest("model", "curriculum"),
        "recipe": digest("model", "curriculum", "init", "control"),
        "grid": list(accumulate((step for stage in stages for step in _gaps(stage)), initial=0)),
        "paid_by": sorted({played for env in envs if isinstance(env, dict) for played in _ids(env)}),
    }
    return {**rest, **plain}


def _ids(env: Mapping[str, Any]) -> list[str]:
    """The environments of a stage: its own, or those of a mixture."""
    return [env["id"]] if "id" in env else [part["id"] for part in env.get("parts", {}).values()]


def _gaps(stage: Mapping[str, Any]) -> list[int]:
    """RL steps between one evaluated step of a stage and the next."""
    return [after - before for before, after in pairwise((0, *stage["steps"]))]


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A line of records.jsonl; one of the present version is left as it is. A yes that was cut counted as one."""
    if "value" in row and "score" not in row:
        value = row["value"]
        rest = {key: cell for key, cell in row.items() if key != "value"}
        row = {**rest, "score": float(value) if isinstance(value, bool) else value}
    finish, measures = row.get("finish"), row.get("measures")
    cut = isinstance(finish, list) and "length" in finish
    if row.get("score") is not None and cut and isinstance(measures, dict):
        row = {**row, "score": None, "reason": "truncated", "measures": {**measures, "said": row["score"]}}
    return row
