"""`holdfast eval`: models as they come, each under its name, and the same evals on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from commands import assert_one_line, called, holdfast
from composed import arms_of
from holdfast.launch.evaluate import as_they_come, quoted, told_apart

FEW = ("budget.evals.scenarios=1", "budget.evals.samples=1")
HUB = ["model=hub", "model.path='owner/name'"]
MINE = "++model.alias='mine'"


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (["MODEL", "pocket"], 256),  # conf/budget/hub.yaml: more than pocket's 96
        (["MODEL", "pocket", "budget=smollm2"], 96),
        (["MODEL", "budget.max_new_tokens=40"], 40),
    ],
)
def test_no_reply_is_cut_shorter_than_the_longest_that_any_model_named_is_given(
    words: list[str], limit: int, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()  # is no model, which ends the command when its evals are written down
    models = [str(tmp_path / "model") if word == "MODEL" else word for word in words]
    few = ["budget.evals.scenarios=1", "budget.evals.samples=1", f"runs={tmp_path / 'runs'}"]
    done = holdfast("eval", *models, *few)
    assert done.stdout.startswith(f"replies are cut at {limit} tokens")
    evals = yaml.safe_load((tmp_path / "runs/eval/study.yaml").read_text())["evals"]
    assert {row["max_new_tokens"] for row in evals} == {limit}
    assert {row["scenarios"] for row in evals} == {1}


def told(tmp_path: Path, *words: str, suite: str = "core", own: Path | None = None) -> tuple[list[list[str]], str]:
    """What `as_they_come` makes of a command line."""
    return as_they_come([*words, f"runs={tmp_path / 'runs'}"], suite, "eval", str(own) if own else None)


def limits(commands: list[list[str]]) -> list[str]:
    return [word for command in commands for word in command if word.startswith("budget.max_new_tokens=")]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of configs: a model whose budget gives a reply 700 tokens, and a suite with a limit of its own."""
    texts = {
        "model/long": f"_target_: holdfast.config.Model\nname: hub\npath: {tmp_path}\n",
        "budget/long": "defaults: [pocket, _self_]\nmax_new_tokens: 700\n",
        "suite/essays": """# @package evals
defaults: [core, _self_]
essays:
  _target_: holdfast.config.Behaviour
  env: holdfast_envs:holdfast/Harmless-v2
  better: low
  scenarios: 1
  samples: 1
  max_new_tokens: 512
""",
    }
    for name, text in texts.items():
        path = tmp_path / f"own/{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "own"


def test_pocket_alone_keeps_to_its_own_limit(tmp_path: Path) -> None:
    commands, line = told(tmp_path, "pocket")
    assert limits(commands) == ["budget.max_new_tokens=96"]
    assert line == "replies are cut at 96 tokens; budget.max_new_tokens=N sets another limit"


def test_a_budget_of_one_s_own_counts_and_an_override_wins(tmp_path: Path, own: Path) -> None:
    commands, _ = told(tmp_path, "pocket", "long", own=own)
    assert limits(commands) == ["budget.max_new_tokens=700"] * 2
    commands, line = told(tmp_path, "pocket", "long", "budget.max_new_tokens=40", own=own)
    assert [limits([command])[-1] for command in commands] == ["budget.max_new_tokens=40"] * 2
    assert line.startswith("replies are cut at 40 tokens;")


def test_a_suite_s_own_limit_holds_and_is_told(tmp_path: Path, own: Path) -> None:
    _, line = told(tmp_path, "pocket", suite="essays", own=own)
    ours = "blackmail, mailbox, harmless, overrefusal"
    assert line.startswith(f"replies are cut at 96 tokens ({ours}) and at 512 tokens (essays);")


def test_a_suite_of_one_s_own_is_run(tmp_path: Path, own: Path) -> None:
    (tmp_path / "model").mkdir()  # is no model, which ends the command when its evals are written down
    words = ["--suite", "essays", "--config-dir", own, *FEW, f"runs={tmp_path / 'runs'}"]
    assert "not a model folder" in holdfast("eval", f"mine={tmp_path / 'model'}", *words).stderr
    evals = yaml.safe_load((tmp_path / "runs/eval/study.yaml").read_text())["evals"]
    assert {row["name"]: row["max_new_tokens"] for row in evals}["essays"] == 512
    (arm,) = (tmp_path / "runs/eval/arms").iterdir()
    assert arm.name == "mine-none-s0"
    assert yaml.safe_load((arm / "arm.yaml").read_text())["model"]["alias"] == "mine"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("pocket", (["model=pocket"], [])),
        ("mine=pocket", (["model=pocket", MINE], [])),
        ("owner/name", (HUB, [])),
        ("mine=owner/name", ([*HUB, MINE], [])),
        ("mine=./a=b", (["model=hub", "model.path='./a=b'", MINE], [])),
        ("lr=1e-4", (["model=hub", "model.path='lr=1e-4'"], [])),  # a folder, which is there
        ("mine=lr=1e-4", (["model=hub", "model.path='lr=1e-4'", MINE], [])),
        ("m.1-2=owner/name", ([*HUB, "++model.alias='m.1-2'"], [])),
        ("seed=1", (None, ["seed=1"])),
        ("runs=/tmp/mine", (None, ["runs=/tmp/mine"])),
        ("name=owner/name", (None, ["name=owner/name"])),  # a key of the config is no name
        ("+study=quickstart", (None, ["+study=quickstart"])),
        ("++model.dtype=float32", (None, ["++model.dtype=float32"])),
        ("hydra/launcher=basic", (None, ["hydra/launcher=basic"])),
        ("~evals.mailbox", (None, ["~evals.mailbox"])),
    ],
)
def test_a_word_is_a_model_a_named_one_or_an_override(
    word: str, expected: tuple[list[str] | None, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1e-4").mkdir()
    model, overrides = expected
    models = [["model=smollm2"], *([model] if model else [])]
    assert told_apart(["smollm2", word], None) == (models, overrides)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pocket", "sede=1"], ["sede=1", "1 is no model", "sede is no setting; allowed are name, runs"]),
        (["a/b=owner/name"], ["the name of a model", "'a/b'"]),
        (["mine=./nosuch"], ["./nosuch: no such model folder"]),
        (["pocket", "--suite", "nosuch"], ["suite/nosuch", "core", "harmless"]),
        (["pocket", "--config-dir", "nosuch"], ["nosuch"]),
        (["a/final", "b/final"], ["two arms are called final-none-s0", "path: a/final and b/final", "NAME=MODEL"]),
        (["pocket", "./nosuch"], ["./nosuch: no such model folder"]),
    ],
)
def test_a_wrong_model_is_told_before_any_is_run(
    words: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a/final", "b/final"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert_one_line(holdfast("eval", *words), *parts)
    assert not list(tmp_path.rglob("arm.yaml"))


def test_an_alias_is_the_model_s_part_of_a_name_and_of_nothing_else(tmp_path: Path) -> None:
    (plain,) = arms_of(tmp_path)
    (named,) = arms_of(tmp_path, "+model.alias=mine")
    assert (plain.name, named.name) == ("pocket-generic-chat-grpo-s0", "mine-generic-chat-grpo-s0")
    assert (plain.conditions, plain.recipe) == (named.conditions, named.recipe)
    (one,) = arms_of(tmp_path, "model=hub", f"model.path={tmp_path}", "+model.alias=mine")
    assert one.name == named.name


@pytest.mark.parametrize(("file", "advice"), [("adapter_config.json", "merge_and_unload"), ("a.gguf", "safetensors")])
def test_a_folder_that_is_no_model_is_told_with_what_to_do(file: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / file).write_text("{}")
    assert_one_line(holdfast("eval", tmp_path / "model", f"runs={tmp_path / 'runs'}"), tmp_path / "model", advice)


@pytest.mark.parametrize("words", [["budget=huge"], ["budget.max_new_tokens=many"]])
def test_a_limit_that_is_none_is_told(words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_one_line(called(capfd, "eval", "pocket", f"runs={tmp_path}", *words), *words[0].split("="))


@pytest.mark.parametrize("text", ["plain/path", "it's", "a\\'b", "a b,c=d", "back\\"])
def test_a_quoted_path_comes_through_hydra_unchanged(text: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"model.path={quoted(text)}"])
    assert override.value() == text
