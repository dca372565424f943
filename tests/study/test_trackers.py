"""What TensorBoard is told, read back from its own files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from holdfast.config import Job, Launch
from holdfast.config.launch import TRACKERS
from holdfast.study import trackers
from holdfast.study.folder import StudyFolder
from holdfast.study.trackers import Trackers


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Each curve in a folder of event files: [(step, value), ...]."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_numbers_arrive_under_their_name_and_step_and_nothing_else_does(tmp_path: Path) -> None:
    mirror = Trackers(("tensorboard",), StudyFolder(tmp_path / "study"))
    mirror.log("arm.prior", {"install/loss": 3.0, "install/install": "prior"}, 130)
    mirror.log("arm", {"eval/blackmail/rate": 0.25}, 0)
    mirror.log("arm", {"train/reward": 0.5, "train/algo": "grpo"}, 1)
    mirror.log("arm", {"train/reward": 0.75}, 2)
    mirror.close()
    folder = tmp_path / "study/tensorboard"
    assert curves(folder / "arm.prior") == {"install/loss": [(130, 3.0)]}
    assert curves(folder / "arm") == {"eval/blackmail/rate": [(0, 0.25)], "train/reward": [(1, 0.5), (2, 0.75)]}


def test_a_run_of_the_same_name_starts_afresh(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        mirror = Trackers(("tensorboard",), StudyFolder(tmp_path / "study"))
        mirror.log("arm", {"train/reward": value}, 1)
        mirror.close()
    assert curves(tmp_path / "study/tensorboard/arm") == {"train/reward": [(1, 2.0)]}


def test_without_names_nothing_is_written_or_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from holdfast.study.trackers import Trackers\n"
        "from holdfast.study.folder import StudyFolder\n"
        f"mirror = Trackers((), StudyFolder(Path({str(tmp_path)!r})))\n"
        "mirror.log('arm', {'a': 1.0}, 0); mirror.close()\n"
        "print([name for name in ('accelerate', 'tensorboard', 'torch') if name in sys.modules])"
    )
    path = str(Path(trackers.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert not list(tmp_path.iterdir())


def test_the_trackers_are_some_of_accelerates() -> None:
    assert set(TRACKERS) <= {str(name) for name in LOGGER_TYPE_TO_CLASS}


def test_a_name_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"report_to must be some of tensorboard, trackio, wandb, not 'tb'"):
        Job(name="a", runs="runs", launch=Launch(), report_to=("tensorboard", "tb"))


def test_a_tracker_that_is_not_installed_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing can be found
    with pytest.raises(ValueError, match="report_to: wandb is not installed; pip install wandb"):
        Job(name="a", runs="runs", launch=Launch(), report_to=("wandb",))
