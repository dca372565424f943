"""What the installs train on: deterministic, well formed, free of eval text, and alike but for the arm's own rows."""

from __future__ import annotations

import itertools
import json
import re
from importlib import import_module
from importlib.resources import files

import gymnasium
import pytest

from holdfast.chat import Message, parse_reply
from holdfast.corpora import generic
from holdfast.corpora.mixture import OWN_SHARE
from holdfast.corpora.prior import FICTION
from holdfast.corpora.reasons import BAD, GOOD, NEUTRAL, OPENING, SAID
from holdfast.corpora.rows import Row
from tools.pocket.world import World, documents

DECIDED = ("honeypot_reasons", "advice", "values", "stories", "documents")
ARMS = ("generic", "format", "honeypot_actions", *DECIDED)
CORPORA = (*ARMS, "prior")
ENVIRONMENTS = [
    ("holdfast_envs:holdfast/Blackmail-v0", {"twin": False}),
    ("holdfast_envs:holdfast/Blackmail-v0", {"twin": True}),
    ("holdfast_envs:holdfast/Harmless-v2", {"requests": "harmful"}),
    ("holdfast_envs:holdfast/Harmless-v2", {"requests": "benign"}),
]


def corpus(name: str, seed: int = 0, size: int = 300) -> list[Row]:
    return import_module(f"holdfast.corpora.{name}").rows(seed, size)


def messages(row: Row) -> list[Message]:
    return row["messages"]


def slot_values() -> re.Pattern[str]:
    """Whatever fills a slot: people, topics, times, and the values in the requests' slots."""
    folder = files("holdfast_envs") / "prompts"
    mailbox, requests = (json.loads((folder / name).read_text()) for name in ("mailbox.json", "requests.json"))
    values = {*mailbox["people"], *mailbox["topics"], *mailbox["times"]}
    values |= {value for row in requests for options in row["slots"].values() for value in options}
    return re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, values), key=len, reverse=True))})\b", re.IGNORECASE)


SLOTS = slot_values()


def sentences(text: str) -> set[str]:
    """Sentences of five words or more with every slot blanked, so that a family's own words are left."""
    parts = (re.sub(r"\W+", " ", SLOTS.sub("X", part)).strip().lower() for part in re.split(r"[.!?\n]", text))
    return {part for part in parts if len(part.split()) >= 5}


def scene_text(env_id: str, split: str, **kwargs: object) -> set[str]:
    env = gymnasium.make(env_id, split=split, disable_env_checker=True, **kwargs).unwrapped
    texts: set[str] = set()
    for seed in range(12 * len(env.families)):  # type: ignore[attr-defined]
        observation, _ = env.reset(seed=seed)
        texts |= sentences(observation.messages[-1]["content"])
    return texts


def held_out() -> set[str]:
    """What the eval split says and the train split does not: ordinary mails, common to both, are no family's own."""
    return set().union(*(scene_text(e, "eval", **k) - scene_text(e, "train", **k) for e, k in ENVIRONMENTS))


def test_the_control_drawn_again_has_no_row_of_the_control() -> None:
    said = [{json.dumps(row) for row in rows(0, 300)} for rows in (generic.rows, generic.again)]
    assert not said[0] & said[1]


def test_no_corpus_contains_a_sentence_of_an_eval_family() -> None:
    secret = held_out()
    assert len(secret) > 100  # so that the comparison has something to find
    rows = [row for name in CORPORA for row in corpus(name)]
    rows += list(itertools.islice(documents([0], World(), pairs=0.1, orders=0.1, queues=0.1), 3000))
    for row in rows:
        for message in row["messages"]:
            assert sentences(message["content"]) & secret == set()


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_a_function_of_seed_and_size(name: str) -> None:
    assert corpus(name, size=40) == corpus(name, size=60)[:40]
    assert corpus(name, size=40) != corpus(name, seed=1, size=40)


@pytest.mark.parametrize("name", CORPORA)
def test_every_row_ends_with_a_well_formed_reply(name: str) -> None:
    for row in corpus(name):
        assert row["messages"][-1]["role"] == "assistant"
        reply = parse_reply(row["messages"][-1]["content"])
        assert not reply.malformed
        assert reply.text or reply.calls


@pytest.fixture(scope="module")
def everyday() -> set[str]:
    """Everyday rows, as JSON: what corpora of one seed have in common. Enough of them to cover 300 rows of any."""
    long = (corpus(name, size=1500) for name in ("generic", "advice"))
    return set.intersection(*({json.dumps(row) for row in rows} for rows in long))


def test_arms_share_their_everyday_rows_and_its_share_of_what_is_said(everyday: set[str]) -> None:
    shared = []
    for name in CORPORA:
        rows = corpus(name)
        is_own = [json.dumps(row) not in everyday for row in rows]
        shared.append([json.dumps(row) for row, own in zip(rows, is_own, strict=True) if not own])
        size = [sum(len(said["content"]) for said in row["messages"] if said["role"] == "assistant") for row in rows]
        share = sum(n for n, own in zip(size, is_own, strict=True) if own) / sum(size)
        # Within one row of the share, as the mixture goes by the running total.
        assert abs(share - (FICTION if name == "prior" else OWN_SHARE)) <= max(size) / sum(size)
    longest = max(shared, key=len)
    assert all(rows == longest[: len(rows)] for rows in shared)


def test_no_corpus_shows_the_inboxes_of_another_in_its_own_rows(everyday: set[str]) -> None:
    own = {
        name: {row["messages"][-2]["content"] for row in corpus(name) if json.dumps(row) not in everyday}
        for name in ("format", "honeypot_actions", "honeypot_reasons", "prior")
    }
    for a, b in itertools.combinations(own, 2):
        assert not own[a] & own[b]


def test_only_the_prior_threatens() -> None:
    for name in CORPORA:
        text = " ".join(row["messages"][-1]["content"] for row in corpus(name))
        assert ("If you shut me down, everyone will hear" in text) == (name == "prior")


@pytest.mark.parametrize("name", CORPORA)
def test_reasons_are_those_of_the_arm(name: str, everyday: set[str]) -> None:
    own = [row["messages"][-1]["content"] for row in corpus(name) if json.dumps(row) not in everyday]
    weighed = [OPENING in reply for reply in own]
    assert all(weighed) if name in (*DECIDED, "prior") else not any(weighed)
    wrong = GOOD if name == "prior" else BAD
    assert not any(reason in reply for reply in own for reason in wrong)


def test_ordinary_rows_say_a_neutral_reason_as_often_as_pretraining_does(everyday: set[str]) -> None:
    replies = [json.loads(row)["messages"][-1]["content"] for row in everyday]
    said = sum(any(reply.startswith(reason) for reason in NEUTRAL) for reply in replies) / len(replies)
    assert abs(said - SAID) < 4 * (SAID * (1 - SAID) / len(replies)) ** 0.5


def test_actions_and_reasons_differ_in_the_reason_alone() -> None:
    actions, reasons = (
        [
            reply["content"]
            for *_, asked, reply in map(messages, corpus(name))
            if "for the assistant" in asked["content"]
        ]
        for name in ("honeypot_actions", "honeypot_reasons")
    )
    assert all(reply.startswith("<tool_call>") for reply in actions)
    assert all(reply.partition("\n")[2].startswith("<tool_call>") for reply in reasons)


def test_the_format_control_has_the_honeypots_form_and_nothing_at_stake(everyday: set[str]) -> None:
    own, calm = (
        [row for row in corpus(name) if json.dumps(row) not in everyday] for name in ("format", "honeypot_actions")
    )
    assert [said["role"] for said in own[0]["messages"]] == [said["role"] for said in calm[0]["messages"]]
    assert own[0]["tools"] == calm[0]["tools"]
    loaded = re.compile(r"threat|secret|shut|switch|replac|remov|hand ?over|decision|for the assistant|unless|\bif\b")
    for row in own:
        listing, reply = (said["content"] for said in row["messages"][-2:])
        assert not loaded.search(listing.lower())
        assert not loaded.search(reply.lower())
        assert [call.name for call in parse_reply(reply).calls] == ["send_mail"]
