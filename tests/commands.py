"""The console script, as a user has it: in a process of its own, or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli import main

ROOT = Path(__file__).parents[1]
PATH = os.pathsep.join([str(ROOT / "src"), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])


def holdfast(
    *arguments: str | Path, before: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": PATH, **environment}
    command = [sys.executable, "-m", "holdfast", *map(str, arguments)]
    return subprocess.run(command, env=env, preexec_fn=before, capture_output=True, text=True, check=False)


def called(capfd: pytest.CaptureFixture[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`holdfast` in this very process: a second less to wait for where nothing is to be run."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(str(stop.code))
    out, err = capfd.readouterr()
    assert out == ""
    return subprocess.CompletedProcess(arguments, status, out, err)


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str | Path) -> None:
    """The mistake is told in one line that has all of `words`, with exit status 2."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("holdfast: error: ")
    for word in words:
        assert str(word) in done.stderr
