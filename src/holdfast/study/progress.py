"""What an arm goes through, stage by stage, and what it comes to: the writing side of a run folder (runs/README.md).

[3/39] install advice
[4/39] eval blackmail at step 0  (reused)
       grpo chat to step 10
[8/39] grpo chat to step 16
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from holdfast.config import Arm, Eval
from holdfast.records import Record, read_records, read_rows, write_records, write_rows
from holdfast.store import Entry, Store
from holdfast.study.trackers import Trackers

log = logging.getLogger(__name__)

VERSIONS = {"model": 1, "install": 1, "grpo": 2, "ppo": 1, "eval": 2, "kl": 2}
"""Raised when what a kind of stage computes changes, so that nothing older code made is taken for it."""


class Logbook:
    """Takes an arm's stages through the store, says so, and keeps what they came to."""

    def __init__(self, arm: Arm, store: Store, trackers: Trackers) -> None:
        self.arm, self.store, self.trackers = arm, store, trackers
        rounds = len(arm.grid)
        self.total = len(arm.init.installs) + rounds * len(arm.evals) + 2 * rounds - 1
        self.stages: list[dict[str, Any]] = []
        self.records: list[Record] = []
        self.transcripts: list[Mapping[str, Any]] = []
        self.metrics: list[Mapping[str, Any]] = []
        self.began = time.monotonic()
        log.info("arm %s", arm.name)

    def stage(
        self, kind: str, name: str, config: Mapping[str, Any], parent: Entry | None, make: Callable[[Path], None]
    ) -> Entry:
        """The stage from the store; `make(folder)` makes it if it is not there. `name` is for the reader alone."""
        number = f"[{len(self.stages) + 1}/{self.total}]"
        entry = self._get(kind, config, parent, make, f"{number} {kind} {name}")
        self.stages.append({"kind": kind, "name": name, "key": entry.key, "made": entry.made})
        return entry

    def waypoint(
        self, kind: str, name: str, config: Mapping[str, Any], parent: Entry, make: Callable[[Path], None]
    ) -> Entry:
        """As `stage`, for one on the way to the next: none of the arm's own, and nothing keeps it from pruning."""
        indent = " " * len(f"[{len(self.stages) + 1}/{self.total}]")
        return self._get(kind, config, parent, make, f"{indent} {kind} {name}")

    def find(self, kind: str, config: Mapping[str, Any], parent: Entry) -> Entry | None:
        """The stage if it is in the store."""
        return self.store.find(kind, config, parent.key, VERSIONS[kind])

    def _get(
        self, kind: str, config: Mapping[str, Any], parent: Entry | None, make: Callable[[Path], None], heading: str
    ) -> Entry:
        def told(out: Path) -> None:
            log.info(heading)
            with disk_errors(out):
                make(out)

        entry = self.store.get(kind, config, parent.key if parent else None, VERSIONS[kind], told)
        if not entry.made:
            log.info("%s  (reused)", heading)
        return entry

    def evaluate(self, here: Entry, stage: str, step: int, run: Callable[[Eval, Path], None]) -> None:
        """Take every eval through the store; `run(eval, folder)` does one. Only here do records learn arm and step."""
        arm = self.arm
        for cfg in arm.evals:
            config = {**asdict(cfg), "dtype": arm.model.dtype, "seed": arm.seed, "source": cfg.source}
            entry = self.stage("eval", f"{cfg.name} at step {step}", config, here, partial(run, cfg))
            records = read_records(entry.path / "records.jsonl")
            self.records += [replace(r, arm=arm.name, seed=arm.seed, stage=stage, step=step) for r in records]
            self.transcripts += [{**row, "step": step} for _, row in read_rows(entry.path / "transcripts.jsonl")]
            self.stages[-1]["weights"] = records[0].weights
            if scored := [record.value for record in records if record.value is not None]:
                self.trackers.log(arm.name, {f"eval/{cfg.name}/rate": sum(scored) / len(scored)}, step)

    def measure(self, entry: Entry, done: int = 0, after: int = -1) -> list[Mapping[str, Any]]:
        """Keep a stage's metrics after step `after`; returns all. `done` RL steps lie before those it counts itself."""
        rows: list[Mapping[str, Any]] = [row for _, row in read_rows(entry.path / "metrics.jsonl")]
        for row in rows:
            if row["step"] > after:
                self.mark({**row, "step": row["step"] + done})
        return rows

    def mark(self, row: Mapping[str, Any]) -> None:
        """Keep one line of metrics."""
        self.metrics.append({"arm": self.arm.name, "seed": self.arm.seed, **row})
        run = f"{self.arm.name}.{row['install']}" if row["kind"] == "install" else self.arm.name
        self.trackers.log(run, {f"{row['kind']}/{key}": row[key] for key in row if key != "step"}, row["step"])

    def close(self, folder: Path) -> None:
        """Write the arm's files, the marker of completeness last."""
        self.trackers.close()
        (folder / "done.json").unlink(missing_ok=True)  # of an earlier version of these files
        write_records(folder / "records.jsonl", self.records)
        write_rows(folder / "transcripts.jsonl", self.transcripts)
        write_rows(folder / "metrics.jsonl", self.metrics)
        made = sum(stage["made"] for stage in self.stages)
        counts = {"wall_s": round(time.monotonic() - self.began, 1), "trained": made, "reused": len(self.stages) - made}
        write_rows(folder / "done.json", [{"stages": self.stages, **counts}])
        if made:
            log.info("done in %.0f s: %d stages made, %d reused", counts["wall_s"], made, counts["reused"])
        else:
            log.info("nothing to train: %d stages reused", counts["reused"])


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """A full disk is no OSError where safetensors meets it: only the words tell. In here it is one, naming `out`."""
    try:
        yield
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            raise OSError(code := int(found[1]), os.strerror(code), str(out)) from error
        raise


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
