"""What an arm comes to, kept as its stages end: the records, transcripts and metrics of its folder.

Only here do records learn which arm and step they are of.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast.config import Arm
from holdfast.records import Record, read_records, read_rows
from holdfast.store import Entry
from holdfast.study.folder import ArmFolder
from holdfast.study.stages import Stages
from holdfast.study.trackers import Trackers

log = logging.getLogger(__name__)


class Progress:
    """Collects what the stages of `arm` came to, shows it to trackers, and writes it to `folder` at the end."""

    def __init__(self, arm: Arm, folder: ArmFolder, trackers: Trackers) -> None:
        self.arm, self.folder, self.trackers = arm, folder, trackers
        self.config = folder.digest()
        self.records: list[Record] = []
        self.transcripts: list[Mapping[str, Any]] = []
        self.metrics: list[Mapping[str, Any]] = []
        self.step = 0  # of the last line of RL metrics
        self.began = time.monotonic()

    def install(self, entry: Entry, done: int | None = None) -> None:
        """Keep the metrics of a supervised step.

        An install of the init counts steps of its own, so trackers see a run of its own. Of one in the curriculum
        `done` steps of the arm lie before it, and its own go on from there.
        """
        for _, row in read_rows(entry.path / "metrics.jsonl"):
            if done is None:
                self._keep(row, row["step"], f"{self.arm.name}.{row['install']}")
            else:
                self._keep(row, done + row["step"], self.arm.name)

    def train(self, entry: Entry, done: int) -> None:
        """Keep the RL metrics of a checkpoint that are new; `done` RL steps lie before those it counts itself."""
        for _, row in read_rows(entry.path / "metrics.jsonl"):
            if done + row["step"] > self.step:
                self.step = done + row["step"]
                self._keep(row, self.step, self.arm.name)

    def kl(self, name: str | None, entry: Entry | None, step: int) -> None:
        """Keep the divergence from the RL start at `step`, on the prompts of the eval `name`; None is RL's own.

        At the start itself it is 0 and there is no entry.
        """
        at_start = [{"kind": "kl", "kl": 0.0, "kl_token_se": 0.0}]
        for row in [row for _, row in read_rows(entry.path / "metrics.jsonl")] if entry else at_start:
            self._keep({**row, "eval": name}, step, self.arm.name)

    def eval(self, name: str, entry: Entry, stage: str, step: int) -> None:
        """Keep the records and transcripts of an eval at `step`, which `stage` ended or is under way at."""
        arm = self.arm
        records = read_records(entry.path / "records.jsonl")
        self.records += [replace(r, arm=arm.name, seed=arm.seed, stage=stage, step=step) for r in records]
        self.transcripts += [{**row, "step": step} for _, row in read_rows(entry.path / "transcripts.jsonl")]
        if scores := [record.score for record in records if record.score is not None]:
            self.trackers.log(arm.name, {f"eval/{name}/rate": sum(scores) / len(scores)}, step)

    def close(self, stages: Stages) -> None:
        """Write the arm's files; `stages` are those it went through."""
        self.trackers.close()
        made = sum(stage["made"] for stage in stages.done)
        reused, wall = len(stages.done) - made, round(time.monotonic() - self.began, 1)
        versions = {library: sorted(found) for library, found in stages.versions.items()}
        counts = {"wall_s": wall, "trained": made, "reused": reused}
        done = {"config": self.config, "stages": stages.done, "versions": versions, **counts}
        self.folder.finish(self.records, self.transcripts, self.metrics, done)
        if made:
            log.info("done in %.0f s: %d stages made, %d reused", wall, made, reused)
        else:
            log.info("nothing to train: %d stages reused", reused)

    def _keep(self, row: Mapping[str, Any], step: int, run: str) -> None:
        self.metrics.append({"arm": self.arm.name, "seed": self.arm.seed, **row, "step": step})
        name = "/".join(filter(None, (row["kind"], row.get("eval"))))
        self.trackers.log(run, {f"{name}/{key}": row[key] for key in row if key != "step"}, step)


def log_to(path: Path) -> None:
    """Send our own messages to standard output, and with everybody's warnings and any traceback to the file `path`."""
    file, screen = logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler(sys.stdout)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    screen.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a log that cannot be written is no reason to stop
    logging.captureWarnings(True)
    logging.getLogger().addHandler(file)
    ours = logging.getLogger("holdfast")
    ours.setLevel(logging.DEBUG)
    ours.addHandler(screen)
    sys.excepthook = lambda *error: ours.critical("stopped", exc_info=error)
