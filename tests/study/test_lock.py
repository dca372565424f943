"""An arm's folder is one process's at a time, and free again when that is gone, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from holdfast.config import conf_dir
from holdfast.launch.hydra import built
from holdfast.launch.processes import Planned
from holdfast.launch.variant import Given
from holdfast.study.folder import ArmFolder
from holdfast.study.rescore import rescore

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(ROOT / "src"), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])


def process(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PATH}, stdout=pipe, stderr=pipe, text=True)


@contextmanager
def running(folder: ArmFolder) -> Iterator[subprocess.Popen[str]]:
    """The arm under way in a process of its own."""
    arm = process("holdfast.launch.arm", folder.path)
    try:
        assert arm.stdout is not None
        assert arm.stdout.readline() == f"arm {folder.path.name}\n"
        yield arm
    finally:
        arm.kill()
        arm.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> ArmFolder:
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        return Planned(*built(compose("config", [f"runs={tmp_path}"]), Given([]))).write()


@pytest.mark.parametrize("steps", ["[8,16,24,32]", "[8,16,24,32,40]"])
def test_a_second_process_that_would_run_an_arm_is_told_who_does(folder: ArmFolder, steps: str) -> None:
    before = (folder.path / "arm.yaml").read_bytes()
    with running(folder) as first:
        commands = [["holdfast", "run", f"runs={folder.study.path.parent}", f"steps={steps}"]]
        commands += [["holdfast.launch.arm", str(folder.path)]]
        log = folder.log.read_bytes()
        for command in commands:
            second = process(*command)
            said, complaint = second.communicate()
            assert (second.returncode, said, len(complaint.splitlines())) == (2, "", 1), complaint
            assert complaint.startswith(f"holdfast: error: {folder.path}")
            assert f"{folder.path} is in use by process {first.pid}: " in complaint
        assert first.poll() is None
        assert folder.log.read_bytes().startswith(log)
    assert (folder.path / "arm.yaml").read_bytes() == before


def test_the_lock_dies_with_its_process(folder: ArmFolder) -> None:
    with running(folder) as first:
        first.kill()
        assert first.wait() == -signal.SIGKILL
        with running(folder) as second:  # at once, and it says what it does
            assert (folder.path / "lock").read_text() == f"{second.pid}\n"


def test_an_arm_that_is_under_way_is_not_scored_again(folder: ArmFolder) -> None:
    folder.finish([], [], [], {"stages": []})
    with folder.locked(), pytest.raises(ValueError, match=f"is in use by process {os.getpid()}"):
        list(rescore(folder.study))
    assert len(list(rescore(folder.study))) == 1
