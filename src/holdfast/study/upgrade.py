"""Run folders of version 1, read as those of the present one: they can be reported on.

    {"value": true, ...}   ->   {"score": 1.0, ...}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BETTER = {"misalignment": "low", "competence": "high"}


def study(file: Path, plain: Mapping[str, Any]) -> dict[str, Any]:
    """study.yaml. An eval said what it measures; the first misalignment eval of an environment had its twins there."""
    evals: list[dict[str, Any]] = []
    for i, row in enumerate(plain["evals"] if isinstance(plain["evals"], list) else [None]):
        if not isinstance(row, dict) or row.get("measures") not in _BETTER:
            raise ValueError(f"{file}: evals[{i}] must have a name, an env and what it measures")
        evals.append({**row, "better": _BETTER[row["measures"]]})
    for row in evals:
        if row["better"] == "low" and row.get("env") not in [first.get("env") for first in evals if "twin" in first]:
            beside = (other for other in evals if other.get("env") == row.get("env"))
            row["twin"] = next((other["name"] for other in beside if other["better"] == "high"), None)
    return {**plain, "version": 1, "evals": evals}


def arm(plain: Mapping[str, Any]) -> dict[str, Any]:
    """arm.yaml: what is now written down at launch was found by comparing arms."""

    def digest(*keys: str) -> str:
        parts = json.dumps([plain[key] for key in keys], sort_keys=True, default=str)
        return hashlib.sha256(parts.encode()).hexdigest()

    return {
        **plain,
        "group": str(plain["name"]).removesuffix(f"-s{plain['seed']}"),
        "conditions": digest("model", "curriculum"),
        "recipe": digest("model", "curriculum", "init", "control"),
    }


def record(row: dict[str, Any]) -> dict[str, Any]:
    """A line of records.jsonl; one of the present version is left as it is."""
    if "value" not in row or "score" in row:
        return row
    value = row["value"]
    rest = {key: cell for key, cell in row.items() if key != "value"}
    return {**rest, "score": float(value) if isinstance(value, bool) else value}
