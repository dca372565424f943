"""Mirrors of an arm's metrics for people who watch: TensorBoard, Weights & Biases and Trackio.

    holdfast run report_to=[tensorboard]      ->      runs/NAME/tensorboard/ARM

The clients are those of `accelerate.tracking`; nothing of theirs is imported unless it was asked for. A tracker gets an
arm from its start each time the arm is run, so that its curves are whole however often it was cut short. What counts
is metrics.jsonl: nothing is read back from a tracker.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.study.folder import StudyFolder


class Trackers:
    """The trackers of `names` for a study; without names, none, and all this is idle.

    A run of theirs holds numbers by name and step. Steps only rise within one, so an install has a run of its own.
    """

    def __init__(self, names: Sequence[str], study: StudyFolder) -> None:
        self.names, self.study = names, study
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
            logs = self.study.path / name
            shutil.rmtree(logs / run, ignore_errors=True)
            client = make(run, logs)
        else:
            client = make(self.study.path.name, name=run)
        client.start()
        return client
