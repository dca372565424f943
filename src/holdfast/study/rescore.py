"""Score a run's stored transcripts again with the environments as they are now: nothing is sampled.

runs/NAME/arms/ARM: 3 of 480 outcomes changed
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.evals.scoring import replayed
from holdfast.study.folder import VERSION, StudyFolder


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
        evals = {cfg.name: cfg for cfg in arm.arm().evals}
        old = arm.records()
        transcripts = {(row["step"], row["id"]): row for _, row in arm.transcripts()}
        for record in old:
            if (record.step, record.transcript) not in transcripts:
                raise ValueError(f"{arm.path}: no transcript {record.transcript!r} at step {record.step}")
        new = [replayed(evals[record.eval], record, transcripts[record.step, record.transcript]) for record in old]
        arm.rewrite_records(new)
        changed = sum(before != after for before, after in zip(old, new, strict=True))
        yield f"{arm.path}: {changed} of {len(new)} outcomes changed"
