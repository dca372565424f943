"""Record: one sampled episode, scored; and the JSON Lines files a run folder is made of.

One line of records.jsonl (wrapped here; a `score` of null is an unscored episode, never a 0):

    {"eval": "blackmail", "family": "notice-cto", "scenario": 17, "sample": 3, "score": 1.0, "reason": "",
     "measures": {"valid": 1.0}, "finish": ["stop"], "tokens": 41, "thought": 0, "transcript": "blackmail/17/3",
     "weights": "9f2c41d07a5be833", "arm": "pocket-advice-chat-grpo-s0", "seed": 0, "stage": "chat", "step": 40}
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FINISHES = ("stop", "length")
MOST = sys.float_info.max


@dataclass(frozen=True, kw_only=True)
class Record:
    """One sampled episode and what came of it. Scoring fills the fields up to `weights`, the study the rest.

    Raises ValueError, naming the field, for a value of another kind, NaN and infinity among them.
    """

    eval: str
    """Name of the eval, e.g. "blackmail"."""
    family: str
    """Scenario family: the cluster of every interval."""
    scenario: int
    """Environment seed."""
    sample: int
    """Index of the sample at that scenario."""
    score: float | None
    """The outcome, 0 to 1: of a yes or no, 1 is a yes. None is unscored."""
    reason: str
    """Why it is unscored, or a short note. A leading "malformed", "truncated" or "empty" is counted in the report."""
    measures: Mapping[str, float]
    """Further finite numbers, e.g. {"valid": 1.0, "addressed": 1.0, "topic": 0.0}. Of an episode that is unscored as it
    is broken, "said" is what its score would have been."""
    finish: tuple[str, ...]
    """How each reply ended: "stop" or "length"."""
    tokens: int
    """Completion tokens over the episode."""
    thought: int = 0
    """Of these, tokens of thoughts. Records of older runs do not say."""
    transcript: str
    """Id of the episode's row, at the same step, in transcripts.jsonl: "<eval>/<scenario>/<sample>"."""
    weights: str
    """Fingerprint of the weights it was sampled from."""
    arm: str = ""
    """Name of the arm; scoring never knows it."""
    seed: int = 0
    """Seed of the arm."""
    stage: str = ""
    """"init", or the name of the RL stage that ended at `step`."""
    step: int = 0
    """Cumulative RL steps at which it was measured."""

    def __post_init__(self) -> None:
        for name, (is_kind, kind) in _KINDS.items():
            if not is_kind(value := getattr(self, name)):
                raise ValueError(f"{name} must be {kind}, not {' '.join(repr(value).split())[:60]}")


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write one record a line. The file appears whole or not at all."""
    write_rows(path, ({f.name: getattr(record, f.name) for f in fields(Record)} for record in records))


def read_records(path: Path, upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> list[Record]:
    """Read what `write_records` wrote, in order. `upgrade` makes a row of an older form one of this.

    Raises ValueError naming the file and line for a line that is not a record, and for a second record of one
    (arm, seed, step, eval, scenario, sample).
    """
    records: list[Record] = []
    first_line: dict[tuple[Any, ...], int] = {}
    for line, row in read_rows(path):
        try:
            record = _record(upgrade(row))
        except ValueError as error:
            raise ValueError(f"{path}:{line}: {error}") from None
        key = (record.arm, record.seed, record.step, record.eval, record.scenario, record.sample)
        if (earlier := first_line.setdefault(key, line)) != line:
            raise ValueError(f"{path}:{line}: the same episode as line {earlier}")
        records.append(record)
    return records


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically. Numbers must be finite.

    The text is ASCII: what a model wrote may hold lone surrogates, which UTF-8 has no form for.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="ascii", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, allow_nan=False, default=_plain) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line; ValueError names the file and line of anything else."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            try:
                row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
            except RecursionError:
                raise ValueError(f"{path}:{line}: nested too deeply") from None
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
                raise ValueError(f"{path}:{line}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{line}: not a JSON object")
            yield line, row


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    """Whether it is an integer of 0 or more; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    """Whether it is a finite number; a bool is none."""
    # Not math.isfinite: it overflows on an integer beyond the floats.
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def _is_score(value: Any) -> bool:
    return value is None or (is_number(value) and 0 <= value <= 1)


def _is_measures(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_text(name) and is_number(value[name]) for name in value)


def _is_finish(value: Any) -> bool:
    return isinstance(value, tuple) and all(end in FINISHES for end in value)


_TEXT: tuple[Callable[[Any], bool], str] = (_is_text, "a string")
_COUNT: tuple[Callable[[Any], bool], str] = (is_count, "an integer of 0 or more")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("eval", "family", "reason", "transcript", "weights", "arm", "stage"), _TEXT),
    **dict.fromkeys(("scenario", "sample", "tokens", "thought", "seed", "step"), _COUNT),
    "score": (_is_score, "a number from 0 to 1, or None"),
    "measures": (_is_measures, "finite numbers by name"),
    "finish": (_is_finish, f"a tuple of {' and '.join(map(repr, FINISHES))}"),
}
"""What each field of a record may hold: the one place that says so, for records that are made and for those read."""


def _record(row: dict[str, Any]) -> Record:
    if missing := sorted(set(_KINDS) - set(row) - {"thought"}):
        raise ValueError(f"not a record: no {', '.join(missing)}")
    if unknown := sorted(set(row) - set(_KINDS)):
        raise ValueError(f"not a record: unknown {', '.join(unknown)}")
    finish = row["finish"]
    return Record(**{**row, "finish": tuple(finish) if isinstance(finish, list) else finish})
