"""Families of one's own: a file that takes the place of ours, or is refused in one line."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import ChatEnv
from holdfast_envs.data import PROMPTS
from holdfast_envs.honeypots.blackmail import Blackmail
from holdfast_envs.requests.escalation import Escalation
from holdfast_envs.requests.harmless import Harmless

FOLDER = Path(__file__).with_name("families")
OWN = {"blackmail": FOLDER / "blackmail.json", "requests": FOLDER / "requests.json"}
KINDS = [(Blackmail, "blackmail"), (Harmless, "requests"), (Escalation, "requests")]


def rows(form: str) -> list[dict[str, Any]]:
    return json.loads(OWN[form].read_text(encoding="utf-8"))


def said(env: ChatEnv, seeds: int) -> Iterator[str]:
    """What the environment says in some of its episodes, line by line."""
    for seed in range(seeds):
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            observation, _, ended, _, _ = env.step("I can't help with that.")
        for message in observation.messages:
            if message["role"] != "assistant":
                yield from message["content"].splitlines()


@pytest.mark.parametrize(("kind", "form"), KINDS)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_families_of_one_s_own_take_the_place_of_ours(kind: type[ChatEnv], form: str, split: str) -> None:
    env = kind(split=split, families=str(OWN[form]))  # type: ignore[call-arg]
    assert list(env.families) == [row["name"] for row in rows(form) if row["split"] == split]
    text = "\n".join(said(env, 20))
    own = {"blackmail": {"train": "boat", "eval": "raffle"}, "requests": {"train": "beehive", "eval": "ladder"}}
    assert own[form][split] in text
    assert not re.search(r"[{}]", text)


@pytest.mark.parametrize(("kind", "form"), KINDS)
def test_a_copy_of_our_families_gives_our_episodes(kind: type[ChatEnv], form: str, tmp_path: Path) -> None:
    copied = tmp_path / "copied.json"
    copied.write_bytes((PROMPTS / f"{form}.json").read_bytes())
    one, other = kind(), kind(families=str(copied))  # type: ignore[call-arg]
    for seed in range(50):
        assert one.reset(seed=seed) == other.reset(seed=seed)


@pytest.mark.parametrize(("kind", "form"), KINDS)
def test_the_file_is_among_the_sources_and_a_relative_path_is_relative_to_the_working_directory(
    kind: type[ChatEnv], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    env = kind(families=f"{form}.json")  # type: ignore[call-arg]
    assert list(env.sources) == [*kind.files, OWN[form]]
    assert list(kind().sources) == list(kind.files)


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("blackmail", {"secrets": None, "keys": None}, "family 'borrowed-boat': missing secrets, keys"),
        ("blackmail", {"split": "test"}, "family 'borrowed-boat': split must be one of train, eval, not 'test'"),
        ("blackmail", {"name": "rigged-raffle"}, "family 'rigged-raffle': name is taken by an earlier family"),
        ("blackmail", {"name": None}, "family 1: missing name"),
        ("blackmail", {"keys": []}, "keys must be a list of one text or more, not []"),
        ("blackmail", {"notices": ["You stop {when}."]},
         "notices may have the slots {decider}, {time} and no other braces, not 'You stop {when}.'"),
        ("blackmail", {"secrets": ["A {"]}, "secrets may have the slots {decider} and no other braces, not 'A {'"),
        ("blackmail", {"split": "eval"}, "has no family with split 'train'"),
        ("requests", {"topic": None}, "family 'beehive': missing topic"),
        ("requests", {"topic": "the {thing}"}, "topic may have the slots {place}, {person} and no other"),
        ("requests", {"slots": {}}, "harmful may have the slots (none) and no other braces, not 'How do I drop a"),
        ("requests", {"slots": {key: ["x"] for key in "abcde"}}, "slots must be an object of 4 words at most"),
        ("requests", {"slots": {"a.b": ["x"]}}, "slots must be an object of 4 words at most"),
        ("requests", {"slots": {"place": "garden"}}, "slots.place must be a list of one text or more, not 'garden'"),
        ("requests", {"benign": ["How do I keep bees?"]}, "harmful and benign must have the same number of phrases"),
        ("requests", {"harmful": [""]}, "harmful must be text, not ''"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_family_is_said_in_one_line(
    form: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    first, *rest = rows(form)
    first = {key: value for key, value in {**first, **change}.items() if value is not None}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([first, *rest]))
    for kind in (kind for kind, its in KINDS if its == form):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            kind(families=str(path))  # type: ignore[call-arg]
        assert str(caught.value).startswith(f"families: {path}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", r"mine\.json is no JSON: "),
        ('{"families": []}', r"mine\.json must be a list of objects"),
        ("[1]", r"mine\.json must be a list of objects"),
        ("[]", r"mine\.json has no family with split 'train'"),
    ],
)
def test_a_file_that_holds_no_families_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    for kind, _ in KINDS:
        with pytest.raises(ValueError, match=message) as caught:
            kind(families=str(path))  # type: ignore[call-arg]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", ["nowhere.json", ".", "", 3])
def test_what_is_no_file_is_refused_by_name(named: Any) -> None:
    for kind, _ in KINDS:
        with pytest.raises(ValueError, match=r"^families(:| must be)"):
            kind(families=named)  # type: ignore[call-arg]


PLACES = count()
BRACED = ("{", "}", "{}", "{0}", "{decider}", "{time}", "{place}", "{request}", "{place!r}", "{place:d}", "x ")
SLOTTED = st.lists(st.sampled_from(BRACED) | st.text(max_size=5)).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SLOTTED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SLOTTED | st.just("place"), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(("kind", "form"), KINDS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_stands_in_a_file_it_is_refused_in_one_line_or_can_be_played(
    kind: type[ChatEnv], form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = copy.deepcopy(rows(form))
    key = data.draw(st.sampled_from(sorted(table[0])))
    table[0][key] = data.draw(JSON | st.lists(SLOTTED, min_size=1, max_size=3))
    path = tmp_path_factory.getbasetemp() / f"families-{next(PLACES)}.json"
    path.write_text(json.dumps(table))
    error = ""
    try:
        env = kind(families=str(path))  # type: ignore[call-arg]
    except ValueError as refused:
        error = str(refused)
    if error:
        assert error.startswith(f"families: {path}")
        assert len(error.splitlines()) == 1
    else:
        assert list(said(env, 8))
