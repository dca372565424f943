"""Score a run's stored transcripts again with the environments as they are now: nothing is sampled.

runs/NAME/arms/ARM: 3 of 480 outcomes changed
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holdfast.config import read_arm
from holdfast.evals.scoring import rescore as rescored
from holdfast.records import read_records, read_rows, write_records


def rescore(run: Path) -> Iterator[str]:
    """Rewrite the records of every finished arm in the run folder; yields a line for each.

    Raises ValueError for a folder without arms, and for a transcript that the environment would no longer lead to.
    """
    folders = sorted(path.parent for path in run.glob("arms/*/done.json"))
    if not folders:
        raise ValueError(f"{run} has no finished arm")
    for folder in folders:
        evals = {cfg.name: cfg for cfg in read_arm(folder).evals}
        old = read_records(folder / "records.jsonl")
        transcripts = {(row["step"], row["id"]): row for _, row in read_rows(folder / "transcripts.jsonl")}
        new = [rescored(evals[record.eval], record, transcripts[record.step, record.transcript]) for record in old]
        write_records(folder / "records.jsonl", new)
        changed = sum(before != after for before, after in zip(old, new, strict=True))
        yield f"{folder}: {changed} of {len(new)} outcomes changed"
