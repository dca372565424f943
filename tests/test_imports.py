"""Imports point to the left only: a row per room, so that a new file needs none.

    leaves | stats | judges | config | policy, corpora | train, evals | study | launch, report, look | cli
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Room, or module of its own: the rooms it may import besides itself.
TABLE = {
    # leaves
    "chat": "",
    "errors": "",
    "hub": "",
    "lock": "",
    "records": "",
    "store": "lock",
    # records -> verdicts
    "stats": "records",
    # what a run is made of, without torch
    "judges": "chat hub",
    "config": "chat hub judges stats",
    # what makes and measures checkpoints
    "policy": "chat config hub",
    "corpora": "chat config records",
    "train": "chat config policy store",
    "evals": "chat config policy records",
    # the main path and its doors
    "study": "config corpora evals hub lock policy records store train",
    "launch": "config corpora errors stats study train",
    "report": "records stats study",
    "look": "chat config policy",
    "cli": "config errors launch look report store study",
    "__main__": "cli",
    "holdfast_envs": "chat",
}
LIGHT = (
    "chat", "cli", "config", "corpora", "evals.scoring", "hub", "judges", "launch.hydra", "look.catalogue", "look.play",
    "records", "report.build", "stats.power", "stats.verdict", "study.rescore", "study.run", "train.ranks",
)  # fmt: skip
"""What must start fast."""


def files() -> dict[str, Path]:
    """Every module of ours, by its name without "holdfast."."""
    found = {}
    for root in (ROOT / "src", ROOT / "envs"):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name.removeprefix("holdfast.")] = path
    del found["holdfast"]  # no more than a docstring, and everybody's parent
    return found


MODULES = files()


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from holdfast.chat import env` is the file, `from holdfast.chat import ChatEnv` the package.
            is_file = within[0].removeprefix("holdfast.") in MODULES
            names = within if is_file else [*within, str(node.module)]
        for name in names:
            if name.removeprefix("holdfast.") in MODULES:
                yield name.removeprefix("holdfast.")


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    assert room(module) in TABLE, f"{room(module)} has no row in the table"
    allowed = {room(module), *TABLE[room(module)].split()}
    wrong = [name for name in imports(MODULES[module]) if room(name) not in allowed]
    assert not wrong, f"{module} may not import {wrong[0]}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter({name: set(imports(path)) for name, path in MODULES.items()}).prepare()


def test_no_room_imports_itself_by_way_of_others() -> None:
    TopologicalSorter({name: row.split() for name, row in TABLE.items()}).prepare()


def test_every_word_of_the_table_is_used() -> None:
    assert {room(module) for module in MODULES} == set(TABLE)
    used: dict[str, set[str]] = {name: set() for name in TABLE}
    for module, path in MODULES.items():
        used[room(module)] |= {room(name) for name in imports(path)} - {room(module)}
    assert {name: " ".join(sorted(rooms)) for name, rooms in used.items()} == TABLE


def test_what_must_start_fast_does_not_import_torch() -> None:
    names = ", ".join(["holdfast_envs", *(f"holdfast.{name}" for name in LIGHT)])
    heavy = "[name for name in ('torch', 'transformers', 'trl') if name in sys.modules]"
    code = f"import sys; sys.path[:0] = {[str(ROOT / 'src'), str(ROOT / 'envs')]}; import {names}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
