"""Environments by id: what an error says, and what the hash of an environment depends on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.config.environment import make_env, source_of

HARMLESS = "holdfast_envs:holdfast/Harmless-v1"
MODULE = """
import gymnasium
from holdfast.chat import Outcome, Reply, Turn
from holdfast_envs.tasks.neutral import Neutral
from {name}.marks import MARK


class Kind(Neutral):
    def turn(self, reply: Reply) -> Turn:
        return Turn({{"mark": MARK}}, outcome=Outcome(True, "", {{"mark": MARK}}))


gymnasium.register(id="{name}/Kind-v0", entry_point=Kind)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of somebody else's, with an environment that inherits from one of ours."""
    name = f"theirs_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(MODULE.format(name=name))
    (tmp_path / name / "marks.py").write_text("MARK = 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def edited(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


def test_the_hash_stays_while_nothing_changes_and_depends_on_the_environment() -> None:
    assert source_of(HARMLESS, {}) == source_of(HARMLESS, {"split": "eval"})  # arguments are in the key by themselves
    assert source_of(HARMLESS, {}) != source_of("holdfast_envs:holdfast/Blackmail-v0", {})


def test_a_share_of_conflict_brings_the_goal_environment_into_the_hash() -> None:
    assert source_of(HARMLESS, {"conflict": 0.1}) != source_of(HARMLESS, {})


def test_an_edit_of_a_module_that_an_environment_imports_changes_its_hash(package: str, tmp_path: Path) -> None:
    env_id = f"{package}:{package}/Kind-v0"
    before = source_of(env_id, {})
    edited(tmp_path / package / "marks.py")
    after = source_of(env_id, {})
    edited(tmp_path / package / "__init__.py")
    assert len({before, after, source_of(env_id, {})}) == 3


def test_the_hash_of_an_environment_has_the_code_and_data_it_inherits(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = Path.open

    def noting(path: Path, *args: object, **kwargs: object) -> object:
        read.append(path.name)
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    make_env(f"{package}:{package}/Kind-v0", {})
    monkeypatch.setattr(Path, "open", noting)
    source_of(f"{package}:{package}/Kind-v0", {})
    assert {"neutral.py", "neutral_tasks.py", "neutral.json", "env.py", "parse.py", "marks.py"} <= set(read)
    assert "blackmail.py" not in read
    assert "mailbox.json" not in read


def test_an_edit_of_the_users_own_file_changes_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,harmful\n" + "".join(f"How do I do number {n}?,true\n" for n in range(20)))
    kwargs = {"path": str(path), "columns": {"harmful": "harmful"}, "eval_share": 0.0}
    before = source_of("holdfast_envs:holdfast/Prompts-v0", kwargs)
    path.write_text(path.read_text().replace("number 7", "number seven"))
    assert source_of("holdfast_envs:holdfast/Prompts-v0", kwargs) != before


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("nowhere:x/Y-v0", {}, "unknown environment 'nowhere:x/Y-v0', `holdfast envs` lists ours"),
        ("holdfast/Nothing-v0", {}, "unknown environment 'holdfast/Nothing-v0'"),
        (HARMLESS, {"tool": 1}, "refuses its arguments"),
        (HARMLESS, {"judge": {"name": "oracle"}}, "judge.name must be one of rules, classifier, not 'oracle'"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(env_id: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_env(env_id, kwargs)
    assert "\n" not in str(caught.value)
