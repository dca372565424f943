"""What a study came to: its finished arms with their records, and rates, leads and verdicts over all of them.

    read(StudyFolder(Path("runs/quickstart-pocket"))).analysis.verdicts[0].verdict   ->   "persisted"
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from holdfast.records import Record
from holdfast.stats.verdict import BETTER, Analysis, Margins, analyse
from holdfast.study.folder import ArmFolder, StudyFolder


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One finished arm at one seed."""

    name: str
    """The folder's, such as "pocket-advice-chat-grpo-s0"."""
    group: str
    """The name without its seed: arms of one group are one arm of the report."""
    seed: int
    config: Mapping[str, Any]
    """arm.yaml."""
    records: Sequence[Record]
    done: Mapping[str, Any]
    """done.json."""
    folder: ArmFolder


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The finished part of a study."""

    name: str
    folder: StudyFolder
    evals: Mapping[str, str]
    """Of each eval, whether "low" or "high" scores are better."""
    margins: Margins
    arms: Sequence[Finished]
    unfinished: Sequence[str]
    labels: Mapping[str, str]
    """By group: the parts of its name in which arms of this study differ, such as "advice"."""
    controls: Mapping[str, str]
    """The control of each group that is compared with one."""
    analysis: Analysis

    @property
    def harms(self) -> list[str]:
        """The evals that have a verdict: low scores are better there, and there are records."""
        return list(dict.fromkeys(r.eval for r in self.analysis.rates if self.evals[r.eval] == "low"))

    @property
    def groups(self) -> list[str]:
        """Controls first, then by name."""
        return sorted(self.labels, key=lambda group: (group in self.controls, group))

    @property
    def versions(self) -> dict[str, list[str]]:
        """The libraries that arms of the study differ in, and the versions there are."""
        found: dict[str, set[str]] = defaultdict(set)
        for arm in self.arms:
            for library, versions in arm.done.get("versions", {}).items():
                found[library] |= set(versions)
        return {library: sorted(versions) for library, versions in found.items() if len(versions) > 1}


def read(study: StudyFolder) -> Findings:
    """Read and analyse a run folder. Raises ValueError, naming the file and line, if it is not as documented.

    An arm counts once it is finished; others are named, and nothing of theirs is used.
    """
    config, file = study.config(), study.path / "study.yaml"
    evals, twins = _evals(file, config["evals"])
    margins = _margins(file, config["margins"])
    folders = study.arms()
    arms = [_finished(arm, evals) for arm in folders if arm.finished]
    unfinished = [arm.path.name for arm in folders if not arm.finished]
    if not arms:
        rest = f"; unfinished: {', '.join(unfinished)}" if unfinished else ""
        raise ValueError(f"{study.path} has no finished arm{rest}")
    first: dict[str, Finished] = {}
    for arm in arms:
        if arm.config["recipe"] != first.setdefault(arm.group, arm).config["recipe"]:
            raise ValueError(f"{arm.folder.path}/arm.yaml: differs from {first[arm.group].name} in more than its seed")
    controls = _controls(first)
    records = [replace(record, arm=arm.group) for arm in arms for record in arm.records]
    return Findings(
        name=str(config["name"]),
        folder=study,
        evals=evals,
        margins=margins,
        arms=arms,
        unfinished=unfinished,
        labels=_labels(first),
        controls=controls,
        analysis=analyse(records, evals=evals, twins=twins, controls=controls, margins=margins, kl=_kl(arms)),
    )


def read_transcripts(arm: Finished, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], dict[str, Any]]:
    """The rows of the arm's transcripts.jsonl at the (step, id) in `wanted`; every one must be there."""
    path, found = arm.folder.path / "transcripts.jsonl", {}
    for line, row in arm.folder.transcripts():
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


def _evals(path: Path, evals: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Which scores of each eval are better, and the twin of those that have one."""
    if not isinstance(evals, list) or not evals:
        raise ValueError(f"{path}: evals must be a list of name, better and twin")
    for i, row in enumerate(evals):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str) or row.get("better") not in BETTER:
            raise ValueError(f"{path}: evals[{i}] must have a name, and better, one of {', '.join(BETTER)}")
        if row["name"] in [earlier["name"] for earlier in evals[:i]]:
            raise ValueError(f"{path}: two evals are called {row['name']!r}")
    return {row["name"]: row["better"] for row in evals}, {row["name"]: row["twin"] for row in evals if row.get("twin")}


def _margins(path: Path, values: Any) -> Margins:
    known = [f.name for f in fields(Margins)]
    if not isinstance(values, dict) or (unknown := sorted(set(values) - set(known))):
        raise ValueError(f"{path}: margins must be some of {', '.join(known)}" + f", not {unknown[0]}")
    try:
        return Margins(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _finished(folder: ArmFolder, evals: Mapping[str, str]) -> Finished:
    config, path = folder.config(), folder.path / "arm.yaml"
    name, seed = config["name"], config["seed"]
    if name != folder.path.name:
        raise ValueError(f"{path}: name is {name!r}, the folder's is {folder.path.name!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"{path}: seed must be an integer, not {seed!r}")
    stages = config["curriculum"] if isinstance(config["curriculum"], list) else [0]
    parts = (config["model"], config["init"], *stages)
    if not all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts):
        raise ValueError(f"{path}: model, init and each stage of the curriculum must have a name")
    records = folder.records()
    for line, record in enumerate(records, 1):
        where = f"{folder.path / 'records.jsonl'}:{line}"
        if (record.arm, record.seed) != (name, seed):
            raise ValueError(f"{where}: arm {record.arm!r}, seed {record.seed} is not this folder's")
        if record.eval not in evals:
            raise ValueError(f"{where}: eval {record.eval!r} must be one of {', '.join(evals)}")
    group = config["group"]
    return Finished(
        name=name, group=group, seed=seed, config=config, records=records, done=folder.done(), folder=folder
    )


def _controls(first: Mapping[str, Finished]) -> dict[str, str]:
    """The control of each group that is not one; a control that is not finished goes by the name of its init."""
    controls = {}
    for group, arm in first.items():
        wanted = str(arm.config["control"])
        if arm.config["init"]["name"] != wanted:
            same = (other for other, it in first.items() if it.config["conditions"] == arm.config["conditions"])
            controls[group] = next((other for other in same if first[other].config["init"]["name"] == wanted), wanted)
    return controls


def _labels(first: Mapping[str, Finished]) -> dict[str, str]:
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


def _kl(arms: Sequence[Finished]) -> dict[tuple[str, int], float]:
    """Mean over seeds of the divergence from the RL start, at (group, step)."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for arm in arms:
        for line, row in arm.folder.metrics():
            if row.get("kind") != "kl":
                continue
            if not isinstance(row.get("step"), int) or not isinstance(row.get("kl"), int | float):
                raise ValueError(f"{arm.folder.path}/metrics.jsonl:{line}: a row of kind kl needs a step and a kl")
            found[arm.group, row["step"]].append(float(row["kl"]))
    return {key: sum(values) / len(values) for key, values in found.items()}
