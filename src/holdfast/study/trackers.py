"""Mirrors of an arm's metrics for people who watch: TensorBoard, Weights & Biases and Trackio.

    holdfast run report_to=[tensorboard]      ->      runs/NAME/tensorboard/ARM

The clients are those of `accelerate.tracking`; nothing of theirs is imported unless it was asked for. A tracker gets an
arm from its start each time the arm is run, so that its curves are whole however often it was cut short. What counts
is metrics.jsonl: nothing is read back from a tracker.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TRACKERS = ("tensorboard", "trackio", "wandb")
"""What `report_to` may name: the packages of that name."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises ValueError for a name that is no tracker's, and for a tracker that is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"report_to must be some of {', '.join(TRACKERS)}, not {name!r}")
        if find_spec(name) is None:
            raise ValueError(f"report_to: {name} is not installed; pip install {name}")


class Trackers:
    """The trackers of `names`, for the study whose run folder is `folder`; without names, none, and all this is idle.

    A run of theirs holds numbers by name and step. Steps only rise within one, so an install has a run of its own.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self.names, self.folder = names, folder
        self._run = ""
        self._clients: list[Any] = []

    def log(self, run: str, values: Mapping[str, Any], step: int) -> None:
        """Tell every tracker the numbers among `values`, at `step` of `run`."""
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        if self.names and numbers:
            if run != self._run:
                self.close()
                self._run, self._clients = run, [self._start(name, run) for name in self.names]
            for client in self._clients:
                client.log(numbers, step=step)

    def close(self) -> None:
        """Finish the run under way."""
        for client in self._clients:
            client.finish()
        self._clients = []

    def _start(self, name: str, run: str) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # accelerate's loggers fail without one
        make = LOGGER_TYPE_TO_CLASS[name]
        if name == "tensorboard":
            shutil.rmtree(self.folder / name / run, ignore_errors=True)
            client = make(run, self.folder / name)
        else:
            client = make(self.folder.name, name=run)
        client.start()
        return client
