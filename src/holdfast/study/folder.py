"""A run folder (runs/README.md): the one place that knows its file names, for writing and for reading.

    StudyFolder(Path("runs/quickstart-pocket")).arms()[0].records()
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from holdfast.config import Arm, build, first_difference
from holdfast.lock import acquire
from holdfast.records import Record, read_records, read_rows, write_records, write_rows
from holdfast.study import form, upgrade

VERSION = 3
"""Of the files of a run folder; `upgrade` reads older ones."""
_FOR_READERS = ("name", "group", "conditions", "recipe", "grid", "paid_by")
"""What arm.yaml holds beside the arm: known when it was launched, and written down for the report."""


def store_of(runs: Path) -> Path:
    """The store of finished stages, which all studies in the folder `runs` share."""
    return runs / "store"


class StudyFolder:
    """The folder of a study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = store_of(path.parent)
        self.report = path / "report"

    def arms(self) -> list[ArmFolder]:
        """Every arm, finished or not, by name."""
        return [ArmFolder(file.parent) for file in sorted((self.path / "arms").glob("[!.]*/arm.yaml"))]

    def config(self) -> dict[str, Any]:
        """study.yaml, as of the present version. Raises ValueError where it is missing, no mapping or too new."""
        file = self.path / "study.yaml"
        if not file.is_file():
            raise ValueError(f"{self.path} is no run folder: it has no study.yaml")
        plain = read_mapping(file, ("name", "evals", "margins"))
        form.check(file, plain, {"name": form.TEXT, "version?": form.VERSION, "evals": [form.EVAL]})
        if (version := plain.get("version", 1)) > VERSION:
            raise ValueError(f"{file}: version {version} is of a newer Holdfast; this one reads up to {VERSION}")
        return upgrade.study(file, plain) if version < VERSION else plain

    def arm(self, arm: Arm) -> ArmFolder:
        """The folder of `arm` in this study."""
        return ArmFolder(self.path / "arms" / arm.name)

    def check_config(self, arm: Arm) -> dict[str, Any]:
        """What study.yaml is to hold, which all arms share. Raises ValueError if there is one that says otherwise."""
        file = self.path / "study.yaml"
        of = {again.name: row.name for row in arm.evals if (again := row.second_opinion)}
        shared = {
            "version": VERSION,
            "name": arm.study,
            "control": arm.control,
            "format_control": arm.format_control,
            "evals": [
                {**asdict(row), "judge": row.environment.judged_by, "of": of.get(row.name)} for row in arm.measured
            ],
            "kl": asdict(arm.kl),
            "margins": asdict(arm.margins),
        }
        if file.exists() and (difference := first_difference(read_mapping(file, ()), as_read(shared))):
            _refuse(file, *difference, "a name of its own for the new study, name=...")
        return shared

    def write_config(self, arm: Arm) -> None:
        """Write study.yaml, if it is not there. Raises what `check_config` does."""
        shared = self.check_config(arm)
        if not (self.path / "study.yaml").exists():
            write_yaml(self.path / "study.yaml", shared)


class ArmFolder:
    """The folder of one arm at one seed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study = StudyFolder(path.parents[1])
        self.log = path / "log.txt"

    @property
    def finished(self) -> bool:
        """Whether the arm counts."""
        return (self.path / "done.json").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from running this arm. Raises ValueError, naming the folder, where one is at it."""
        file = self.path / "lock"
        try:
            handle = acquire(file)
        except BlockingIOError:
            pid = file.read_text(encoding="utf-8").strip()
            who = f"process {pid}" if pid else "another process"
            raise ValueError(f"{self.path} is in use by {who}: wait until it ends, or end it") from None
        try:
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(handle)

    def config(self) -> dict[str, Any]:
        """arm.yaml, as of the present version. Raises ValueError, naming the file and the key, for what it is not."""
        file = self.path / "arm.yaml"
        plain = read_mapping(file, ())
        form.check(file, plain, form.LAUNCHED)
        plain = plain if "paid_by" in plain else upgrade.arm(plain)
        form.check(file, plain, form.ARM)
        return plain

    def arm(self) -> Arm:
        """The arm that arm.yaml describes."""
        plain = self.config()
        arm: Arm = build({key: value for key, value in plain.items() if key not in _FOR_READERS})
        return arm

    def check_config(self, arm: Arm, plain: Mapping[str, Any]) -> dict[str, Any] | None:
        """What arm.yaml is to hold, None where it does. `plain` is what `arm` was built from.

        An arm may be given further steps. Raises ValueError where the one that is there differs in anything else.
        """
        known = {"group": arm.group, "conditions": arm.conditions, "recipe": arm.recipe, "grid": arm.grid}
        known["paid_by"] = arm.paid_by
        new = as_read({"name": arm.name, **plain, **known})
        file = self.path / "arm.yaml"
        if file.exists():
            old = read_mapping(file, ())
            difference = first_difference(old, new)
            if difference is None:
                return None
            if not _extends(old, new):
                _refuse(file, *difference, f"another study, name=..., or delete {self.path}")
        return new

    def write_config(self, arm: Arm, plain: Mapping[str, Any]) -> None:
        """Write arm.yaml. A finished arm with further steps counts again when they are done.

        Raises what `check_config` and `locked` do.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            new = self.check_config(arm, plain)
            if new is not None:
                (self.path / "done.json").unlink(missing_ok=True)
                write_yaml(self.path / "arm.yaml", new)

    def digest(self) -> str:
        """Of what arm.yaml says, however it is written down: 16 hex digits."""
        plain = read_mapping(self.path / "arm.yaml", ())
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def records(self) -> list[Record]:
        """records.jsonl. Raises ValueError, naming the file and line, for what is no record."""
        return read_records(self.path / "records.jsonl", upgrade.record)

    def rewrite_records(self, records: Iterable[Record]) -> None:
        """Put other records in the place of those that are there."""
        write_records(self.path / "records.jsonl", records)

    def transcripts(self) -> Iterable[tuple[int, dict[str, Any]]]:
        """(line, row) of transcripts.jsonl. Raises ValueError, naming the file and line, for what is none."""
        return self._rows("transcripts.jsonl", lambda row: form.TRANSCRIPT)

    def metrics(self) -> Iterable[tuple[int, dict[str, Any]]]:
        """(line, row) of metrics.jsonl. Raises ValueError, naming the file and line, for what a report cannot read."""
        return self._rows("metrics.jsonl", lambda row: form.METRIC.get(str(row.get("kind")), {}))

    def done(self) -> dict[str, Any]:
        """done.json: the stages behind a finished arm. Raises ValueError, naming the file, for what it is not."""
        file = self.path / "done.json"
        rows = [row for _, row in read_rows(file)]
        if len(rows) != 1:
            raise ValueError(f"{file}: must be one JSON object in one line, not {len(rows)}")
        form.check(file, rows[0], form.DONE)
        return rows[0]

    def collapsed(self, lines: Sequence[Mapping[str, Any]] | None) -> None:
        """Keep the metrics of a stage that ended in `Collapse`; None where it has not."""
        if lines is None:
            (self.path / "collapse.jsonl").unlink(missing_ok=True)
        else:
            write_rows(self.path / "collapse.jsonl", lines)

    def collapse(self) -> str | None:
        """Where a stage ended in `Collapse`, "RL step 12" or "update 3 of install prior"; None where none has."""
        if not (self.path / "collapse.jsonl").is_file():
            return None
        rows = [row for _, row in self._rows("collapse.jsonl", lambda row: form.COLLAPSE)]
        last = max(rows, key=lambda row: row["step"], default={"step": 0})
        return f"update {last['step']} of install {last['install']}" if "install" in last else f"RL step {last['step']}"

    def _rows(self, name: str, of: Callable[[Mapping[str, Any]], form.Form]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line, row) of a JSON Lines file, each checked against the form that it should have."""
        for line, row in read_rows(self.path / name):
            form.check(f"{self.path / name}:{line}", row, of(row))
            yield line, row

    def finish(
        self,
        records: Iterable[Record],
        transcripts: Iterable[Mapping[str, Any]],
        metrics: Iterable[Mapping[str, Any]],
        done: Mapping[str, Any],
    ) -> None:
        """Write what the arm came to, the marker of completeness last."""
        (self.path / "done.json").unlink(missing_ok=True)  # of an earlier version of these files
        write_records(self.path / "records.jsonl", records)
        write_rows(self.path / "transcripts.jsonl", transcripts)
        write_rows(self.path / "metrics.jsonl", metrics)
        write_rows(self.path / "done.json", [done])


def read_mapping(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """A YAML file that holds a mapping with these keys. Raises ValueError, naming the file, for anything else."""
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


def as_read(data: Mapping[str, Any]) -> dict[str, Any]:
    """What reading `data` back from YAML gives: lists for tuples."""
    read: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(data), sort_keys=False))
    return read


def write_yaml(path: Path, data: Mapping[str, Any]) -> None:
    """Write YAML: the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:  # of a full disk it does not say where
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _extends(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether `new` is `old` with further steps in its last stage, which is RL, and nothing else."""
    if not old.get("curriculum") or len(old["curriculum"]) != len(new["curriculum"]):
        return False
    *_, before = old["curriculum"]
    *_, after = new["curriculum"]
    if not (isinstance(before["steps"], list) and isinstance(after["steps"], list)):
        return False
    stages = [*new["curriculum"][:-1], {**after, "steps": before["steps"]}]
    longer = {**new, "grid": old.get("grid"), "curriculum": stages}
    return set(before["steps"]) <= set(after["steps"]) and first_difference(old, longer) is None


def _refuse(path: Path, key: str, old: Any, new: Any, advice: str) -> None:
    raise ValueError(f"{path} has {key}: {old}, and now it is {new}; take {advice}")
