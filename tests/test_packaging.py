"""Holdfast as a wheel somewhere else, as an editable install, and as a module in a checkout: the same commands work."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What an environment under test needs of the one that runs the tests. On PYTHONPATH its .pth files count for nothing,
# so that Holdfast being installed there is of no help.
LIBRARIES = sysconfig.get_paths()["purelib"]


def run(command: list[str | Path], cwd: Path, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env={**env, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(*arguments: str | Path, python: Path = Path(sys.executable)) -> None:
    """pip for the environment of `python`, with nothing but what is here."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "--python", python, arguments[0], *quiet, *arguments[1:]]
    run(command, ROOT, PYTHONPATH=LIBRARIES)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def bare_environment(folder: Path) -> Path:
    """A virtual environment without any package; returns its interpreter."""
    run([sys.executable, "-m", "venv", "--without-pip", folder], ROOT)
    return folder / "bin" / "python"


def assert_works(command: list[str | Path], home: Path, cwd: Path, path: str) -> None:
    """`command` finds its environments and its configs, and they are those under `home`."""
    assert "holdfast/Blackmail-v0" in run([*command, "envs"], cwd, PYTHONPATH=path)
    assert "name: advice" in run([*command, "run", "--cfg", "job", "init=advice"], cwd, PYTHONPATH=path)
    python = [command[0]] if command[1:] else [Path(command[0]).with_name("python")]
    code = "import holdfast, holdfast_envs; from holdfast.config import conf_dir as c; print(holdfast.__file__, "
    for found in run([*python, "-c", code + "holdfast_envs.__file__, c())"], cwd, PYTHONPATH=path).split():
        assert Path(found).is_relative_to(home), found


def test_a_wheel_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "venv")
    pip("install", wheel, python=python)
    assert_works([python.with_name("holdfast")], tmp_path / "venv", tmp_path, LIBRARIES)


def test_an_editable_install_works_from_another_folder(tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "venv")
    pip("install", "--editable", ROOT, python=python)
    assert_works([python.with_name("holdfast")], ROOT, tmp_path, LIBRARIES)


def test_the_module_works_in_a_checkout_that_was_never_installed(tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "venv")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "envs"), LIBRARIES])
    assert_works([python, "-m", "holdfast"], ROOT, ROOT, path)


def test_the_wheel_holds_every_file_that_git_would(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for root, prefix in (("src", ""), ("envs", ""), ("conf", "holdfast/conf/")):
        for path in (ROOT / root).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert prefix + path.relative_to(ROOT / root).as_posix() in inside
