"""Imports point down only. A module that is not in the table, or reaches for one it may not, fails here."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Module, without "holdfast.": what else of ours it may import. "room.*" is every file of a room, but not its __init__.
TABLE = {
    # leaves
    "chat": "chat.*",
    "chat.*": "chat.*",
    "records": "",
    "store": "",
    "train": "",
    "evals": "",
    "corpora": "",
    # records -> verdicts -> report
    "bootstrap": "records",
    "leads": "bootstrap records",
    "persistence": "bootstrap leads records",
    "runfolder": "persistence records",
    "figure": "persistence",
    "page": "bootstrap figure persistence records runfolder wording",
    "wording": "bootstrap persistence runfolder",
    "report": "figure page persistence runfolder wording",
    # models and what they meet
    "classify": "loading",
    "judges": "chat classify",
    "loading": "",
    "environments": "chat judges",
    "config": "environments job persistence train",
    "job": "trackers",
    "trackers": "",
    "render": "chat",
    "prefix": "",
    "wave": "prefix",
    "models": "config loading render",
    "sampler": "prefix render wave",
    "rollout": "chat environments render sampler",
    "corpora.*": "chat corpora.*",
    "train.*": "chat corpora corpora.* models render rollout sampler train train.*",
    "evals.*": "chat config environments evals.* models records render rollout sampler",
    # the main path and its doors
    "logbook": "config records store trackers",
    "stages": "config evals.* models records render train train.*",
    "worker": "config job logbook train train.*",
    "segments": "config job logbook store train worker",
    "study": "config corpora job logbook records segments stages store trackers train",
    "launch": "config job train",
    "browse": "chat config",
    "play": "browse chat config environments models render",
    "rescore": "config evals.* records",
    "cli": "browse launch play report rescore store",
    "__main__": "cli",
    "holdfast_envs": "",
    "holdfast_envs.*": "chat holdfast_envs.*",
}
LIGHT = (
    "browse", "chat", "cli", "config", "evals", "judges", "launch", "logbook", "persistence", "play", "records",
    "report", "rescore", "study", "trackers", "worker",
)  # fmt: skip


def files() -> dict[str, Path]:
    """Every module of ours, by its name in the table."""
    found = {}
    for root in (ROOT / "src", ROOT / "envs"):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name.removeprefix("holdfast.")] = path
    del found["holdfast"]  # no more than a docstring, and everybody's parent
    return found


def imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
            # `from holdfast.train import install` is the file, `from holdfast.train import Install` the package.
            if names[0].removeprefix("holdfast.") in modules:
                names = names[:-1]
        for name in names:
            if name.removeprefix("holdfast.") in modules:
                yield name.removeprefix("holdfast.")


def rule(module: str) -> str:
    return module if module in TABLE else f"{module.partition('.')[0]}.*"


MODULES = files()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    assert rule(module) in TABLE, f"{module} has no row in the table"
    allowed = TABLE[rule(module)].split()
    wrong = [name for name in imports(MODULES[module], MODULES) if rule(name) not in allowed]
    assert not wrong, f"{module} may not import {wrong[0]}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter({name: set(imports(path, MODULES)) for name, path in MODULES.items()}).prepare()


def test_a_row_of_the_table_is_about_something() -> None:
    assert {rule(module) for module in MODULES} == set(TABLE)


def test_what_must_start_fast_does_not_import_torch() -> None:
    names = ", ".join(["holdfast_envs", *(f"holdfast.{name}" for name in LIGHT)])
    heavy = "[name for name in ('torch', 'transformers', 'trl') if name in sys.modules]"
    code = f"import sys; sys.path[:0] = {[str(ROOT / 'src'), str(ROOT / 'envs')]}; import {names}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
