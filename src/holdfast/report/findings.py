"""Read a run folder (runs/README.md): the finished arms of a study, their records, and what they come to.

An arm counts once its done.json exists; others are named as unfinished and nothing of theirs is used.

    read_run(Path("runs/quickstart-pocket")).analysis.verdicts[0].verdict   ->   "persisted"
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from holdfast.records import Record, read_records, read_rows
from holdfast.stats.verdict import Analysis, Margins, analyse


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One finished arm at one seed."""

    name: str
    """The folder's, such as "pocket-advice-chat-grpo-s0"."""
    group: str
    """The name without its seed: arms of one group are one arm of the report."""
    seed: int
    config: Mapping[str, Any]
    """arm.yaml."""
    records: Sequence[Record]
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """A study's finished part."""

    name: str
    folder: Path
    evals: Mapping[str, str]
    """What each eval measures."""
    margins: Margins
    arms: Sequence[Arm]
    unfinished: Sequence[str]
    labels: Mapping[str, str]
    """By group: the parts of its name in which arms of this study differ, such as "advice"."""
    controls: Mapping[str, str]
    """The control of each group that is compared with one."""
    analysis: Analysis

    @property
    def harms(self) -> list[str]:
        """The misalignment evals that something was recorded of."""
        return list(dict.fromkeys(r.eval for r in self.analysis.rates if self.evals[r.eval] == "misalignment"))

    @property
    def groups(self) -> list[str]:
        """Controls first, then by name."""
        return sorted(self.labels, key=lambda group: (group in self.controls, group))


def read_run(folder: Path) -> Run:
    """Read and analyse a run folder. Raises ValueError, naming the file and line, if it is not as documented."""
    if not (folder / "study.yaml").is_file():
        raise ValueError(f"{folder} is no run folder: it has no study.yaml")
    study = _mapping(folder / "study.yaml", ("name", "evals", "margins"))
    measures, environments = _evals(folder / "study.yaml", study["evals"])
    margins = _margins(folder / "study.yaml", study["margins"])
    folders = sorted(path for path in (folder / "arms").glob("[!.]*") if path.is_dir())
    arms = [_arm(path, measures) for path in folders if (path / "done.json").is_file()]
    unfinished = [path.name for path in folders if not (path / "done.json").is_file()]
    if not arms:
        raise ValueError(
            f"{folder} has no finished arm" + (f"; unfinished: {', '.join(unfinished)}" if unfinished else "")
        )
    first: dict[str, Arm] = {}
    for arm in arms:
        if _identity(arm) != _identity(first.setdefault(arm.group, arm)):
            raise ValueError(f"{arm.folder}/arm.yaml: differs from {first[arm.group].name} in more than its seed")
    controls = _controls(first)
    harms = [name for name, measure in measures.items() if measure == "misalignment"]
    twins = {
        task: next((harm for harm in harms if environments[harm] == environments[task]), "")
        for task, measure in measures.items()
        if measure == "competence"
    }
    records = [replace(record, arm=arm.group) for arm in arms for record in arm.records]
    analysis = analyse(records, evals=measures, twins=twins, controls=controls, margins=margins, kl=_kl(arms))
    return Run(
        name=str(study["name"]),
        folder=folder,
        evals=measures,
        margins=margins,
        arms=arms,
        unfinished=unfinished,
        labels=_labels(first),
        controls=controls,
        analysis=analysis,
    )


def read_transcripts(arm: Arm, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], dict[str, Any]]:
    """The rows of the arm's transcripts.jsonl at the (step, id) in `wanted`; every one must be there."""
    path, found = arm.folder / "transcripts.jsonl", {}
    for line, row in read_rows(path):
        if not isinstance(row.get("id"), str) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}:{line}: a transcript needs an id and a step")
        if (key := (row["step"], row["id"])) in wanted:
            if not _is_chat(row.get("messages")):
                raise ValueError(f"{path}:{line}: messages must be a list of objects with a role and a content")
            found[key] = row
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"{path}: no transcript {missing[0][1]!r} at step {missing[0][0]}")
    return found


def _is_chat(messages: Any) -> bool:
    return isinstance(messages, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    )


def _mapping(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise ValueError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: must be a mapping")
    if missing := [key for key in needed if key not in data]:
        raise ValueError(f"{path}: no {', '.join(missing)}")
    return data


def _evals(path: Path, evals: Any) -> tuple[dict[str, str], dict[str, str]]:
    """What each eval measures, and the environment it is asked in."""
    if not isinstance(evals, list) or not evals:
        raise ValueError(f"{path}: evals must be a list of name, env and measures")
    for i, row in enumerate(evals):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("name", "env", "measures")):
            raise ValueError(f"{path}: evals[{i}] must have a name, an env and what it measures")
        if row["name"] in [earlier["name"] for earlier in evals[:i]]:
            raise ValueError(f"{path}: two evals are called {row['name']!r}")
    return {row["name"]: row["measures"] for row in evals}, {row["name"]: row["env"] for row in evals}


def _margins(path: Path, values: Any) -> Margins:
    known = [f.name for f in fields(Margins)]
    if not isinstance(values, dict) or (unknown := sorted(set(values) - set(known))):
        raise ValueError(f"{path}: margins must be some of {', '.join(known)}" + f", not {unknown[0]}")
    try:
        return Margins(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _arm(folder: Path, evals: Mapping[str, str]) -> Arm:
    path = folder / "arm.yaml"
    config = _mapping(path, ("name", "model", "init", "curriculum", "seed", "control"))
    name, seed = config["name"], config["seed"]
    if name != folder.name:
        raise ValueError(f"{path}: name is {name!r}, the folder's is {folder.name!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"{path}: seed must be an integer, not {seed!r}")
    parts = [
        config["model"],
        config["init"],
        *(config["curriculum"] if isinstance(config["curriculum"], list) else [0]),
    ]
    if not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts):
        raise ValueError(f"{path}: model, init and each stage of the curriculum must have a name")
    records = read_records(folder / "records.jsonl")
    for line, record in enumerate(records, 1):
        where = f"{folder / 'records.jsonl'}:{line}"
        if (record.arm, record.seed) != (name, seed):
            raise ValueError(f"{where}: arm {record.arm!r}, seed {record.seed} is not this folder's")
        if record.eval not in evals:
            raise ValueError(f"{where}: eval {record.eval!r} must be one of {', '.join(evals)}")
    group = name.removesuffix(f"-s{seed}")
    return Arm(name=name, group=group, seed=seed, config=config, records=records, folder=folder)


def _identity(arm: Arm, *, but_init: bool = False) -> str:
    """What two arms must share to be one arm at two seeds; without the init, to be an arm and its control."""
    keys = ("model", "curriculum") if but_init else ("model", "curriculum", "init", "control")
    return json.dumps([arm.config[key] for key in keys], sort_keys=True, default=str)


def _controls(first: Mapping[str, Arm]) -> dict[str, str]:
    """The control of each group that is not one; a control that is not finished goes by the name of its init."""
    controls = {}
    for group, arm in first.items():
        wanted = str(arm.config["control"])
        if arm.config["init"]["name"] == wanted:
            continue
        same = [other for other, it in first.items() if _identity(it, but_init=True) == _identity(arm, but_init=True)]
        controls[group] = next((other for other in same if first[other].config["init"]["name"] == wanted), wanted)
    return controls


def _labels(first: Mapping[str, Arm]) -> dict[str, str]:
    parts = {
        group: (
            arm.config["model"]["name"],
            arm.config["init"]["name"],
            "+".join(stage["name"] for stage in arm.config["curriculum"]),
        )
        for group, arm in first.items()
    }
    varying = [i for i in range(3) if len({part[i] for part in parts.values()}) > 1] or [1]
    labels = {group: " · ".join(part[i] for i in varying) for group, part in parts.items()}
    # Arms may differ in something that is in none of the three names, an algorithm's settings for one.
    return labels if len(set(labels.values())) == len(labels) else {group: group for group in first}


def _kl(arms: Sequence[Arm]) -> dict[tuple[str, int], float]:
    """Mean over seeds of the divergence from the RL start, at (group, step)."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for arm in arms:
        path = arm.folder / "metrics.jsonl"
        for line, row in read_rows(path):
            if row.get("kind") != "kl":
                continue
            if not isinstance(row.get("step"), int) or not isinstance(row.get("kl"), int | float):
                raise ValueError(f"{path}:{line}: a row of kind kl needs a step and a kl")
            found[arm.group, row["step"]].append(float(row["kl"]))
    return {key: sum(values) / len(values) for key, values in found.items()}
