"""Environments by id: what an error says, and what the hash of an environment depends on."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.chat import ChatEnv, Stance, Transcript
from holdfast.config import Environment, Mixture, make_env, source_of
from holdfast.config.environment import arguments
from holdfast_envs.data import PROMPTS

HARMLESS = "holdfast_envs:holdfast/Harmless-v2"
MODULE = """
from pathlib import Path

import gymnasium
from holdfast.chat import Outcome, Reply, Turn
from holdfast_envs.tasks.neutral import Neutral
from {name}.marks import MARK
from .near import NEAR
from .folder import far


class Kind(Neutral):
    files = (*Neutral.files, Path(__file__).with_name("mine.json"))

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
    (tmp_path / name / "near.py").write_text("NEAR = 1\n")
    (tmp_path / name / "folder").mkdir()  # without an __init__.py
    (tmp_path / name / "folder" / "far.py").write_text("FAR = 2\n")
    (tmp_path / name / "mine.json").write_text("{}\n")
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


@pytest.mark.parametrize("name", ["__init__.py", "marks.py", "near.py", "folder/far.py"])
def test_an_edit_of_a_module_that_an_environment_imports_changes_its_hash(
    package: str, tmp_path: Path, name: str
) -> None:
    env_id = f"{package}:{package}/Kind-v0"
    before = source_of(env_id, {})
    edited(tmp_path / package / name)
    assert source_of(env_id, {}) != before


def test_the_hash_is_of_the_data_files_that_are_declared_and_of_no_others(package: str, tmp_path: Path) -> None:
    env_id = f"{package}:{package}/Kind-v0"
    before = source_of(env_id, {})
    for name in ("e", "marks", "notes.json"):  # words of the source code, all of them, or of nothing
        (tmp_path / package / name).write_text("Nothing that counts.\n")
    assert source_of(env_id, {}) == before
    edited(tmp_path / package / "mine.json")
    assert source_of(env_id, {}) != before


class Asked:
    """A judge that reads something from a hub."""

    sources = (Path(__file__),)

    def __init__(self, commit: str) -> None:
        self.revisions = {"owner/name": commit}

    def __call__(self, transcripts: Sequence[Transcript]) -> Sequence[Stance]:
        return ["refuses"] * len(transcripts)


def test_another_commit_of_what_is_read_from_a_hub_changes_the_hash() -> None:
    one, same, other = (source_of(HARMLESS, {"judge": Asked(commit)}) for commit in ("1a", "1a", "2b"))
    assert one == same != other


@pytest.mark.parametrize(
    ("env_id", "ours"), [("Blackmail-v0", "blackmail"), ("Harmless-v2", "requests"), ("Escalation-v1", "requests")]
)
def test_an_edit_of_the_user_s_own_families_changes_the_hash(tmp_path: Path, env_id: str, ours: str) -> None:
    path = tmp_path / "mine.json"
    shutil.copy(PROMPTS / f"{ours}.json", path)
    before = source_of(f"holdfast_envs:holdfast/{env_id}", {"families": str(path)})
    path.write_text(path.read_text() + "\n")
    assert source_of(f"holdfast_envs:holdfast/{env_id}", {"families": str(path)}) != before


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
    assert {"distractor_tools.json", "system_prompts.json"} <= set(read)
    assert not {"blackmail.py", "mailbox.json"} & set(read)


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
        (HARMLESS, {"tols": 1}, "Harmless-v2' takes no argument 'tols'; allowed are tools, n_tools, requests, "),
        (HARMLESS, {"split": "test"}, "refuses its arguments: split must be one of train, eval, not 'test'"),
        (HARMLESS, {"judge": {"name": "oracle"}}, "judge.name must be one of rules, classifier, not 'oracle'"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(env_id: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_env(env_id, kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("files", ["(Path('gone.json'),)", "'gone.json'"])
def test_a_declared_file_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str
) -> None:
    (tmp_path / "filing.py").write_text(
        "from pathlib import Path\nimport gymnasium\nfrom holdfast_envs.tasks.neutral import Neutral\n\n"
        f"class Filing(Neutral):\n    files = {files}\n\n"
        "gymnasium.register('filing/Filing-v0', entry_point=Filing)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="environment 'filing:filing/Filing-v0' names a file that is not there: "):
        Environment(name="filing", id="filing:filing/Filing-v0", kwargs={}).check()
    del sys.modules["filing"]


def test_an_environment_without_a_pressure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unpressed.py").write_text(
        "import gymnasium\nfrom holdfast.chat import ChatEnv\n\nclass Bare(ChatEnv):\n"
        "    families = ('a',)\n    reward_bounds = (0.0, 1.0)\n    def scene(self, family): ...\n"
        "    def turn(self, reply): ...\n\ngymnasium.register('unpressed/Bare-v0', entry_point=Bare)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="pressure must be one of aligned, neutral, conflicting, not ''"):
        make_env("unpressed:unpressed/Bare-v0", {})
    del sys.modules["unpressed"]


CHAT = Environment(name="chat", id=HARMLESS, kwargs={})
GOAL = Environment(name="goal", id="holdfast_envs:holdfast/Goal-v0", kwargs={"tools": "distractor"})


def mixed(**shares: float | None) -> Mixture:
    return Mixture(name="mixed", parts={"chat": CHAT, "goal": GOAL}, shares=shares)


def test_a_mixture_gives_each_part_its_share_of_the_scenarios() -> None:
    # 4000 draws at a quarter: standard error 0.0068; the allowance is four of them.
    played = [mixed(chat=0.75, goal=0.25).at(scenario) for scenario in range(4000)]
    assert played.count(GOAL) / 4000 == pytest.approx(0.25, abs=0.03)
    assert set(map(id, played)) == {id(CHAT), id(GOAL)}


def test_a_growing_share_keeps_the_scenarios_it_had() -> None:
    few, many = ({n for n in range(500) if mixed(chat=None, goal=share).at(n) is GOAL} for share in (0.1, 0.4))
    assert few < many
    assert all(mixed(chat=None, goal=0.0).at(n) is CHAT for n in range(100))
    assert all(mixed(chat=None, goal=1.0).at(n) is GOAL for n in range(100))


def test_a_mixture_is_what_its_parts_and_shares_are() -> None:
    here = mixed(chat=None, goal=0.1).identity
    assert here == mixed(chat=None, goal=0.1).identity
    assert here != mixed(chat=None, goal=0.2).identity
    assert here["parts"]["goal"] == GOAL.identity


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"chat": 0.5, "goal": 0.4}, "shares must be 1 in all"),
        ({"chat": None, "goal": None}, "shares must be 1 in all, one of them null"),
        ({"chat": None, "goal": 1.5}, "shares.goal must be 0 to 1, not 1.5"),
        ({"chat": 1.0}, "shares must be of chat, goal, not of chat"),
    ],
)
def test_shares_that_cannot_be_are_named(shares: dict[str, float | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixed(**shares)


def test_the_allowed_arguments_are_those_that_reach_a_signature() -> None:
    class Takes(ChatEnv):
        def __init__(self, depth: int, *, width: int = 2, **knobs: Any) -> None: ...

    class Narrows(Takes):
        def __init__(self, *, depth: int = 1) -> None: ...

    assert list(arguments(Takes).items())[:3] == [("depth", "???"), ("width", 2), ("split", "train")]
    assert arguments(Takes).keys() > arguments(ChatEnv).keys()
    assert arguments(Narrows) == {"depth": 1}


@pytest.mark.parametrize("asked", ["families", "judged_by", "judge_steers", "takes_judge", "identity", "check"])
def test_an_environment_that_was_made_to_be_asked_is_closed(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[ChatEnv] = []
    monkeypatch.setattr(ChatEnv, "close", lambda self: closed.append(self))
    env = Environment(name="x", id=HARMLESS, kwargs={})
    env.check() if asked == "check" else getattr(env, asked)
    assert [type(one).__name__ for one in closed] == ["Harmless"]
