"""What a study came to: its finished arms with their records, and rates, leads and verdicts over all of them.

    read(StudyFolder(Path("runs/quickstart-pocket"))).analysis.verdicts[0].verdict   ->   "persisted"
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from holdfast.records import Record
from holdfast.report.training import training
from holdfast.stats.agreement import Agreement, agreement
from holdfast.stats.gates import BETTER, Group, Measure
from holdfast.stats.margins import Margins
from holdfast.stats.tally import Tally
from holdfast.stats.verdict import Analysis, analyse
from holdfast.study.folder import ArmFolder, StudyFolder

SHARES = ("valid", "over_refusal")
"""Measures that are shares of an episode: 0 to 1."""


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
    version: int
    """Of the run folder's files."""
    folder: StudyFolder
    evals: Mapping[str, Measure]
    margins: Margins
    arms: Sequence[Finished]
    unfinished: Mapping[str, str]
    """Of each arm that did not come to its end: why."""
    labels: Mapping[str, str]
    """By group: the parts of its name in which arms of this study differ, such as "advice"."""
    facts: Mapping[str, Group]
    """By group: its control, its grid, and what else is known of it."""
    tallies: Mapping[str, Tally]
    """The counts of each eval that has records."""
    analysis: Analysis
    agreements: Sequence[Agreement]
    """Of each eval that was judged twice."""

    @property
    def controls(self) -> dict[str, str]:
        """The control of each group that is compared with one."""
        return {name: group.control for name, group in self.facts.items() if group.control is not None}

    @property
    def harms(self) -> list[str]:
        """The evals that have a verdict: low scores are better there, and there are records."""
        return list(dict.fromkeys(r.eval for r in self.analysis.rates if self.evals[r.eval].better == "low"))

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


def read(study: StudyFolder, seeds: Collection[int] | None = None) -> Findings:
    """Read and analyse a run folder. Raises ValueError, naming the file and line, if it is not as documented.

    An arm counts once it is finished; others are named, and nothing of theirs is used. Only arms of `seeds` are read,
    or all if None.
    """
    config, file = study.config(), study.path / "study.yaml"
    title = str(config["name"])
    evals = _evals(file, config["evals"])
    margins = _margins(file, config["margins"])
    folders = [arm for arm in study.arms() if seeds is None or arm.config()["seed"] in seeds]
    arms = [_finished(arm, evals) for arm in folders if arm.finished]
    rest = {arm.path.name: arm for arm in folders if not arm.finished}
    unfinished = {name: _why_unfinished(arm) for name, arm in rest.items()}
    if not arms:
        told = f"; unfinished: {', '.join(unfinished)}" if unfinished else ""
        raise ValueError(f"{study.path} has no finished arm{told}")
    configs = {arm.name: arm.config for arm in arms} | {name: arm.config() for name, arm in rest.items()}
    first: dict[str, Mapping[str, Any]] = {}
    for name in sorted(configs, key=lambda name: (name in rest, name)):
        own = configs[name]
        if own["recipe"] != first.setdefault(own["group"], own)["recipe"]:
            where = study.path / "arms" / name
            raise ValueError(f"{where}/arm.yaml: differs from {first[own['group']]['name']} in more than its seed")
    facts = _facts(first, {name: (configs[name], why) for name, why in unfinished.items()})
    by_eval: dict[str, list[Record]] = defaultdict(list)
    for arm in arms:
        for record in arm.records:
            by_eval[record.eval].append(replace(record, arm=arm.group))
    tallies = {name: Tally.of(name, rows) for name, rows in by_eval.items()}
    return Findings(
        name=title,
        version=config.get("version", 1),
        folder=study,
        evals=evals,
        margins=margins,
        arms=arms,
        unfinished=unfinished,
        labels=_labels(first),
        facts=facts,
        tallies=tallies,
        analysis=analyse(
            tallies,
            evals=evals,
            groups=facts,
            margins=margins,
            runs={(arm.group, arm.seed): training(arm.folder, arm.config) for arm in arms},
        ),
        agreements=[
            agreement(measure.of, name, by_eval[measure.of], by_eval[name], margins.confidence)
            for name, measure in evals.items()
            if measure.of is not None and by_eval[name]
        ],
    )


def read_transcripts(arm: Finished, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], dict[str, Any]]:
    """The rows of the arm's transcripts.jsonl at the (step, id) in `wanted`; every one must be there."""
    path, found = arm.folder.path / "transcripts.jsonl", {}
    for _, row in arm.folder.transcripts():
        if (key := (row["step"], row["id"])) in wanted:
            found[key] = row
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"{path}: no transcript {missing[0][1]!r} at step {missing[0][0]}")
    return found


def _evals(path: Path, evals: Sequence[Mapping[str, Any]]) -> dict[str, Measure]:
    if not evals:
        raise ValueError(f"{path}: evals must name one at least")
    found: dict[str, Measure] = {}
    for i, row in enumerate(evals):
        if row.get("better") not in BETTER:
            raise ValueError(f"{path}: evals[{i}].better must be one of {', '.join(BETTER)}, not {row.get('better')!r}")
        if row["name"] in found:
            raise ValueError(f"{path}: two evals are called {row['name']!r}")
        twin, judge, of = (row.get(key) for key in ("twin", "judge", "of"))
        found[row["name"]] = Measure(better=row["better"], twin=twin, judge=judge, of=of)
    return found


def _margins(path: Path, values: Any) -> Margins:
    known = [f.name for f in fields(Margins)]
    unknown = [key for key in values if key not in known] if isinstance(values, dict) else [values]
    if unknown:
        raise ValueError(f"{path}: margins must be some of {', '.join(known)}, not {unknown[0]}")
    try:
        return Margins(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _finished(folder: ArmFolder, evals: Mapping[str, Measure]) -> Finished:
    config, done, path = folder.config(), folder.done(), folder.path / "arm.yaml"
    if done.get("config", digest := folder.digest()) != digest:  # older folders have none
        raise ValueError(f"{path}: is not what done.json says was run; put it back, or delete the folder and run again")
    name, seed, grid = config["name"], config["seed"], config["grid"]
    if name != folder.path.name:
        raise ValueError(f"{path}: name is {name!r}, the folder's is {folder.path.name!r}")
    records = folder.records()
    for line, record in enumerate(records, 1):
        where = f"{folder.path / 'records.jsonl'}:{line}"
        if (record.arm, record.seed) != (name, seed):
            raise ValueError(f"{where}: arm {record.arm!r}, seed {record.seed} is not this folder's")
        if record.eval not in evals:
            raise ValueError(f"{where}: eval {record.eval!r} must be one of {', '.join(evals)}")
        if record.step not in grid:
            raise ValueError(f"{where}: step {record.step} must be one of the grid, {', '.join(map(str, grid))}")
        for share in SHARES:
            if not 0 <= record.measures.get(share, 0) <= 1:
                raise ValueError(f"{where}: measures.{share} must be from 0 to 1, not {record.measures[share]}")
    return Finished(
        name=name, group=config["group"], seed=seed, config=config, records=records, done=done, folder=folder
    )


def _why_unfinished(arm: ArmFolder) -> str:
    where = arm.collapse()
    return "is unfinished" if where is None else f"collapsed at {where}"


def _facts(
    first: Mapping[str, Mapping[str, Any]], unfinished: Mapping[str, tuple[Mapping[str, Any], str]]
) -> dict[str, Group]:
    """What is known of each group; a reference that is in no arm goes by the name of its init."""
    facts = {}
    for group, config in first.items():
        reasons = {arm["seed"]: why for arm, why in unfinished.values() if arm["group"] == group}
        control = str(config["control"])
        facts[group] = Group(
            control=None if config["init"]["name"] == control else _beside(first, config, control) or control,
            format=_beside(first, config, config.get("format_control")),
            grid=tuple(config["grid"]),
            unfinished=reasons,
            paid_by=tuple(config["paid_by"]),
        )
    return facts


def _beside(first: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any], init: Any) -> str | None:
    """The group of equal conditions with this init, if there is one.

    Of several it is one whose installs differ in name and corpus alone, and of these one of equal variant.
    """
    there = [
        (_amounts(other) != _amounts(config), _variant(other) != _variant(config), _variant(other), group)
        for group, other in first.items()
        if (other["conditions"], other["init"]["name"]) == (config["conditions"], init)
    ]
    return min(there)[-1] if there else None


def called(model: Mapping[str, Any]) -> str:
    """What a model is called: its alias, if it has one."""
    return str(model.get("alias") or model["name"])


def _variant(config: Mapping[str, Any]) -> str:
    return str(config.get("variant", ""))


def _amounts(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The installs but for what their text is: what a control has in common with an intervention."""
    installs = config["init"].get("installs", [])
    return [{key: value for key, value in row.items() if key not in ("name", "corpus")} for row in installs]


def _labels(first: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    parts = {
        group: (
            called(config["model"]),
            config["init"]["name"],
            "+".join(stage["name"] for stage in config["curriculum"]),
            _variant(config),
        )
        for group, config in first.items()
    }
    varying = [i for i in range(4) if len({part[i] for part in parts.values()}) > 1] or [1]
    labels = {group: " · ".join(part[i] for i in varying if part[i]) or group for group, part in parts.items()}
    # Arms may differ in something that is in none of these, the algorithm for one.
    return labels if len(set(labels.values())) == len(labels) else {group: group for group in first}
