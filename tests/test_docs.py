"""What the pages in docs/ tell a reader to do, done: files written, commands run, and what they show compared.

Commands that would take long are checked and not run; files, tests and links that a page names must be there. A page's
blocks are taken in order. A block under a line that ends in "`path`:" is that file, or, where the line says
"one more line", is added to it. In a console block, "$ " starts a command, which must succeed unless "error:" is shown;
the lines below must all be in what it prints, and "..." stands for anything. Those of an sh block take long.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from holdfast.config import GRPO, PPO, conf_dir
from holdfast.launch.hydra import built
from holdfast.launch.processes import Planned
from holdfast.launch.variant import Given

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:^(?P<more>One more line in )?`(?P<path>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
PAGES = sorted((ROOT / "docs").glob("*.md"))
DONE = [path for path in PAGES if "```console" in path.read_text(encoding="utf-8")]
ALGORITHMS = sorted((ROOT / "conf" / "algo").glob("*.yaml"))


def shown(path: Path) -> list[str]:
    """The `holdfast run` commands that a page, or the head of a config, shows without a result."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{'#   ' if path.suffix == '.yaml' else ''}(holdfast run .*)$", text, re.M)


LONG = [
    pytest.param(path, command, id=f"{path.stem}-{number}")
    for path in (ROOT / "README.md", *PAGES, *ALGORITHMS)
    for number, command in enumerate(shown(path))
]


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


def write(block: re.Match[str], place: Path) -> None:
    """Write what a block shows, if that is a file, or add it to the one that is there."""
    if block["path"]:
        file = place / block["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        assert file.exists() == bool(block["more"])
        file.write_text((file.read_text() if block["more"] else "") + block["text"])


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
@pytest.mark.parametrize("page", DONE, ids=lambda path: path.stem)
def test_what_a_page_says_works_as_it_says(page: Path, checkout: Path) -> None:
    commands, exports = 0, ""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        write(block, checkout)
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
    assert commands >= 4


@pytest.mark.parametrize(("page", "command"), LONG)
def test_a_command_that_takes_long_makes_arms(
    page: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        write(block, tmp_path)
    # Of what may not be installed, only the name is looked at here.
    monkeypatch.setattr("holdfast.config.launch.find_spec", lambda name: True)
    words = [word for word in shlex.split(command, comments=True)[2:] if word != "-m"]
    choices = [
        [f"{word.partition('=')[0]}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [word]
        for word, override in zip(words, OverridesParser.create().parse_overrides(words), strict=True)
    ]
    names = []
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        for overrides in itertools.product(*choices):
            cfg = compose("config", [f"runs={tmp_path}", *overrides])
            folder = Planned(*built(cfg, Given(overrides))).write()
            names.append(folder.path.name)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    made = {block["path"] for block in BLOCK.finditer(text)}
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:src|envs|conf|tests|benchmarks)/[\w./-]+)(?:::(\w+))?`", text)
    assert named
    for path, test in named:
        assert path in made or (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "runs" / "README.md", *PAGES], ids=lambda path: path.stem)
def test_no_page_has_a_place_left_to_fill(page: Path) -> None:
    """Such a place is one bare word in upper case on a line of its own."""
    assert re.findall(r"^[A-Z][A-Z_]+$", page.read_text(encoding="utf-8"), re.M) == []


def test_the_page_on_rl_names_every_algorithm_and_the_defaults_of_the_code() -> None:
    page = (ROOT / "docs" / "rl.md").read_text(encoding="utf-8")
    algorithms, settings = (page.split(f"\n| {head}")[1].split("\n\n")[0] for head in ("`algo=`", "setting"))
    assert sorted(re.findall(r"^\| `(\w+)`", algorithms, re.M)) == [path.stem for path in ALGORITHMS]
    defaults = {field.name: field.default for kind in (GRPO, PPO) for field in fields(kind)}
    said = re.findall(r"^\| `(\w+)` \| `([^`]+)`", settings, re.M)
    assert len(said) >= 5
    assert said == [(name, str(defaults[name])) for name, _ in said]


def test_the_figures_on_the_judge_are_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "results" / "judge.md").read_text(encoding="utf-8")
    done = run(f"{sys.executable} benchmarks/judge.py", ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in page
