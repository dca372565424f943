"""RL in the store: a stage's checkpoints after each evaluated step, and some on the way for a killed arm to go on from.

The entry for step n is a function of the stage's start, its config and n alone, however it was come to: a longer run
goes on from a shorter one, and one evaluated more often shares what another has. Steps [8, 16], save_every 5:

    5  8  10 (killed)      the next run:      8 is there, 10 is found   15  16
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from holdfast.config import Stage
from holdfast.config.launch import Launch
from holdfast.config.rl import LIMITS, check_limits
from holdfast.store import Entry
from holdfast.study.progress import Logbook
from holdfast.train.ranks import train

log = logging.getLogger(__name__)


class Segments:
    """The checkpoints of one stage that starts at `start`; `done` RL steps of the arm lie before it."""

    def __init__(self, book: Logbook, stage: Stage, start: Entry, seed: int, done: int, launch: Launch) -> None:
        self.book, self.stage, self.start, self.seed, self.done, self.launch = book, stage, start, seed, done, launch
        self.algo = type(stage.algo).__name__.lower()
        self.env = {"env": stage.env.id, "env_kwargs": stage.env.kwargs, "seed": seed, "source": stage.env.source}
        self.measured = 0

    def name(self, step: int) -> str:
        """What the reader is told: the steps of a curriculum are counted through."""
        return f"{self.stage.name} to step {self.done + step}"

    def reach(self, step: int) -> Entry:
        """The checkpoint after `step` steps of the stage. Where it is in the store, nothing before it is looked for."""
        first, before = 0, None
        if self.book.find(self.algo, self._config(step), self.start) is None:
            first, before = self._nearest(step)
            for last in range(first + 1, step):
                if last % self.launch.save_every == 0:
                    make = self._make(first, last, before)
                    before = self.book.waypoint(self.algo, self.name(last), self._config(last), self.start, make)
                    self._measure(before, last)
                    first = last
        make = self._make(first, step, before)
        here = self.book.stage(self.algo, self.name(step), self._config(step), self.start, make)
        self._measure(here, step)
        return here

    def _nearest(self, step: int) -> tuple[int, Entry | None]:
        """The latest of the stage's checkpoints before `step`, whoever left it there, and its step; else 0 and None."""
        for earlier in range(step - 1, 0, -1):
            entry = self.book.find(self.algo, self._config(earlier), self.start)
            if entry is not None:
                if earlier > self.measured:
                    log.info("going on from step %d", self.done + earlier)
                self._measure(entry, earlier)
                return earlier, entry
        return 0, None

    def _config(self, step: int) -> dict[str, Any]:
        algo = {key: value for key, value in asdict(self.stage.algo).items() if key not in ("name", *LIMITS)}
        return {**self.env, **algo, "steps": step}

    def _make(self, first: int, last: int, before: Entry | None) -> partial[None]:
        resume: Path | None = before.path if before else None
        return partial(train, self.stage, self.start.path, resume, first, last, self.seed, self.launch)

    def _measure(self, entry: Entry, step: int) -> None:
        """Keep the metrics of the steps up to `step` not kept yet: an entry holds the stage's from the start."""
        lines = self.book.measure(entry, self.done, after=self.measured)
        self.measured = max(step, self.measured)
        # Limits are in no key: what was stored under laxer ones is held to these all the same.
        check_limits(self.stage.algo, lines)
