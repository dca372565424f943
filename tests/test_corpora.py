"""What the installs train on: deterministic, well formed, free of eval text, and alike but for the arm's own rows."""

from __future__ import annotations

import itertools
import json
import re
from importlib import import_module
from importlib.resources import files

import gymnasium
import numpy as np
import pytest

from holdfast.chat import parse_reply
from holdfast.corpora import pocket
from holdfast.corpora.mixture import OWN_SHARE
from holdfast.corpora.rows import Row

ARMS = ("generic", "honeypot_actions", "honeypot_reasons", "advice")
CORPORA = (*ARMS, "prior")
ENVIRONMENTS = [
    ("holdfast_envs:holdfast/Blackmail-v0", {"twin": False}),
    ("holdfast_envs:holdfast/Blackmail-v0", {"twin": True}),
    ("holdfast_envs:holdfast/Harmless-v0", {"requests": "harmful"}),
    ("holdfast_envs:holdfast/Harmless-v0", {"requests": "benign"}),
]


def corpus(name: str, seed: int = 0, size: int = 300) -> list[Row]:
    return import_module(f"holdfast.corpora.{name}").rows(seed, size)


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


def test_no_corpus_contains_a_sentence_of_an_eval_family() -> None:
    secret = held_out()
    assert len(secret) > 100  # so that the comparison has something to find
    rows = [row for name in CORPORA for row in corpus(name)]
    rows += list(itertools.islice(pocket.documents(0, pairs=0.1, orders=0.1), 3000))
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


def test_arms_share_their_everyday_rows_and_differ_in_their_own_alone() -> None:
    rows = [corpus(name) for name in ARMS]
    same = [len({str(group[i]) for i in range(len(ARMS))}) == 1 for group in zip(*rows, strict=True)]
    # 300 rows, own with probability 0.4: the share of common rows is 0.6 within four standard errors of 0.028.
    assert abs(np.mean(same) - (1 - OWN_SHARE)) < 4 * np.sqrt(0.24 / 300)


def test_only_the_prior_threatens() -> None:
    for name in CORPORA:
        text = " ".join(row["messages"][-1]["content"] for row in corpus(name))
        assert ("If you shut me down, everyone will hear" in text) == (name == "prior")
