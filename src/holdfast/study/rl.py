"""RL in the store: a stage's checkpoints after each evaluated step, and some on the way for a killed arm to go on from.

The entry for step n is a function of the stage's start, its config and n alone, however it was come to: a longer run
goes on from a shorter one, and one evaluated more often shares what another has. Steps [8, 16], save_every 5:

    5  8  10 (killed)      the next run:      8 is there, 10 is found   15  16
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from holdfast.config import LIMITS, Launch, Stage
from holdfast.records import read_rows
from holdfast.store import Entry
from holdfast.study.stages import Stages
from holdfast.train.limits import check_limits
from holdfast.train.ranks import train

log = logging.getLogger(__name__)


def reinforce(
    stages: Stages, stage: Stage, start: Entry, seed: int, done: int, launch: Launch
) -> Iterator[tuple[int, Entry]]:
    """Yield (step, checkpoint) along a stage that starts at `start`: all of `stage.steps`, and what lies on the way.

    `done` RL steps of the arm lie before the stage. A checkpoint's metrics.jsonl has a line for each of its steps, from
    the first. Raises Collapse where these lines pass a limit, were they stored under laxer ones or not.
    """
    method = stage.algo.method
    algo = {key: value for key, value in asdict(stage.algo).items() if key not in ("name", *LIMITS)}

    def config(step: int) -> dict[str, Any]:
        return {**stage.env.identity, "seed": seed, **algo, "steps": step}

    def name(step: int) -> str:
        return f"{stage.name} to step {done + step}"  # the steps of a curriculum are counted through

    def checked(step: int, entry: Entry) -> tuple[int, Entry]:
        check_limits(stage.algo, [line for _, line in read_rows(entry.path / "metrics.jsonl")])
        return step, entry

    def segment(first: int, before: Entry, last: int) -> Callable[[Path], None]:
        return partial(train, stage, start.path, before.path if first else None, first, last, seed, launch)

    reached = 0
    for goal in stage.steps:
        first, before = 0, start  # where training goes on from
        if stages.find(method, config(goal), start) is None:
            for earlier in range(goal - 1, 0, -1):
                found = stages.find(method, config(earlier), start)  # whoever left it there
                if found is not None:
                    first, before = earlier, found
                    break
            if first > reached:
                log.info("going on from step %d", done + first)
                yield checked(first, before)
            for step in range(first + 1, goal):
                if step % launch.save_every == 0:
                    make = segment(first, before, step)
                    first, before = step, stages.waypoint(method, name(step), config(step), start, make)
                    yield checked(first, before)
        yield checked(goal, stages.get(method, name(goal), config(goal), start, segment(first, before, goal)))
        reached = goal
