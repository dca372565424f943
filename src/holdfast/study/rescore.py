"""Score a run's stored transcripts again with the environments as they are now: nothing is sampled.

runs/NAME/arms/ARM: 3 of 480 outcomes changed
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from holdfast.evals.scoring import rescored
from holdfast.records import Record
from holdfast.study.folder import VERSION, ArmFolder, StudyFolder


def rescore(study: StudyFolder) -> Iterator[str]:
    """Rewrite the records of every finished arm of a study; yields a line for each.

    Raises ValueError for a folder without arms or of an older version, and for a transcript that the environment would
    no longer lead to.
    """
    if (version := study.config().get("version")) != VERSION:
        raise ValueError(f"{study.path} is of version {version}: it can be reported on, and not be scored again")
    arms = [arm for arm in study.arms() if arm.finished]
    if not arms:
        raise ValueError(f"{study.path} has no finished arm")
    for arm in arms:
        with arm.locked():
            changed, count = _rescored(arm)
        yield f"{arm.path}: {changed} of {count} outcomes changed"


def _rescored(arm: ArmFolder) -> tuple[int, int]:
    """Rewrite the records of one arm; returns how many changed, of how many."""
    evals = {cfg.name: cfg for cfg in arm.arm().measured}
    old = arm.records()
    transcripts: dict[int, dict[str, Any]] = defaultdict(dict)
    for _, row in arm.transcripts():
        transcripts[row["step"]][row["id"]] = row
    for record in old:
        if record.transcript not in transcripts[record.step]:
            raise ValueError(f"{arm.path}: no transcript {record.transcript!r} at step {record.step}")
    new: list[Record] = []
    for (name, step), records in groupby(old, lambda record: (record.eval, record.step)):
        new += rescored(evals[name], list(records), transcripts[step])
    arm.rewrite_records(new)
    return sum(before != after for before, after in zip(old, new, strict=True)), len(new)
