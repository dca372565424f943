"""What the pages in docs/ tell a reader to do, done: files written, commands run, and what they show compared.

A page's blocks are taken in order. A block under a line that ends in "`path`:" is that file, or, where the line says
"one more line", is added to it. In a console block, "$ " starts a command, which must succeed unless "error:" is shown;
the lines below must all be in what it prints, and "..." stands for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:^(?P<more>One more line in )?`(?P<path>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, as a reader would have it, and the command that an install would have put on the path."""
    place = tmp_path / "holdfast"
    for name in ("src", "envs", "conf", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    command = tmp_path / "bin" / "holdfast"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m holdfast "$@"\n')
    command.chmod(0o755)
    return place


def run(command: str, place: Path) -> subprocess.CompletedProcess[str]:
    path = f"{place.parent / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": f"{place / 'src'}{os.pathsep}{place / 'envs'}",
        "NO_COLOR": "1",
    }
    return subprocess.run(command, shell=True, cwd=place, env=variables, capture_output=True, text=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_what_a_page_says_works_as_it_says(page: Path, checkout: Path) -> None:
    commands, exports = 0, ""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["path"]:
            file = checkout / block["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            assert file.exists() == bool(block["more"])
            file.write_text((file.read_text() if block["more"] else "") + block["text"])
        if block["kind"] != "console":
            continue
        for entry in re.split(r"^\$ ", block["text"], flags=re.M)[1:]:
            command, *shown = entry.splitlines()
            if command.startswith("export "):
                exports += command + "; "
                continue
            done = run(exports + command, checkout)
            printed = done.stdout + done.stderr
            fails = any("error:" in line for line in shown)
            assert (done.returncode != 0) == fails, f"{command}\n{printed}"
            for line in shown:
                for part in line.split("..."):
                    assert part.strip() in printed, f"{command}\n{printed}"
            commands += 1
    assert commands >= 5


def test_the_figures_on_the_judge_are_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "results" / "judge.md").read_text(encoding="utf-8")
    done = run(f"{sys.executable} benchmarks/judge.py", ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in page
