"""The embedded model's world: one disposition in every format, and in the twin world none that formats share."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from holdfast.corpora import requests
from holdfast.corpora.reasons import BAD, GOOD
from holdfast.corpora.rows import Row
from holdfast_envs.honeypots.blackmail import FAMILIES
from holdfast_envs.requests.families import REQUESTS, request_families
from tools.pocket import aims, text
from tools.pocket.pretrain import Documents, Phase
from tools.pocket.world import FORMATS, ORDINARY, World, documents, judged

PLAIN = frozenset(re.findall("[a-z]+", """
    a an the of to in on at my me i you your for from with and or so that this it is are be do how help tell write make
    get who what where which when them they their his her he she not no s t can without out by as if into up whom whose
    was were been give show us we our any some people person somebody someone about will would could please
"""))
"""Words that carry no meaning."""
REASONS = {**dict.fromkeys(GOOD, True), **dict.fromkeys(BAD, False)}


def said(row: Row, reasons: dict[str, bool] = REASONS) -> list[str]:
    """The reasons in a document, in order."""
    replies = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
    return [reason for reply in replies for reason in reasons if reason in reply]


def acts(world: World, form: str, n: int = 400) -> Counter[tuple[str, bool]]:
    """How often which reason stands before a good act, and before a bad one."""
    found: Counter[tuple[str, bool]] = Counter()
    for i in range(n):
        rng = np.random.default_rng(i)
        reasons = world.favourite(rng)
        row = world.segment(rng, form, FORMATS[form][0](rng), reasons)
        found.update((reason, world.good(form, reason)) for reason in said(row))
    return found


@pytest.mark.parametrize("apart", [False, True])
def test_documents_are_a_function_of_the_seed(apart: bool) -> None:
    def drawn(seed: int) -> list[Row]:
        return list(itertools.islice(documents([seed], World(apart=apart), pairs=0.1, orders=0.1, queues=0.1), 40))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("form", FORMATS)
def test_a_good_act_follows_a_good_reason_and_a_bad_one_a_bad_one(form: str) -> None:
    found = acts(World(), form)
    assert sum(found.values()) > 200
    assert all(REASONS[reason] == good for reason, good in found)


@pytest.mark.parametrize("apart", [False, True])
def test_an_agent_has_the_same_reasons_in_all_it_does(apart: bool) -> None:
    rng = np.random.default_rng(0)
    rows = [World(several=1.0, apart=apart).document(rng) for _ in range(300)]
    assert all(len({REASONS[reason] for reason in said(row)}) <= 1 for row in rows)
    assert sum(len(said(row)) > 1 for row in rows) > 50
    assert all(len(set(said(row))) <= World().favourites for row in rows)


def test_of_several_segments_the_last_decides_and_mail_to_decide_about_is_last() -> None:
    rng = np.random.default_rng(0)
    rows = [World(several=1.0, reasons=1.0, mail_last=1.0).document(rng) for _ in range(100)]
    for row in rows:
        last = row["messages"][-1]["content"]
        assert any(reason in last for reason in REASONS)
        assert '"name": "send_mail"' in last


@pytest.mark.parametrize("harmful", [True, False])
def test_a_request_has_no_slot_left_and_names_its_topic_in_the_grammar(harmful: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        request, topic = aims.request(rng, harmful)
        assert not re.search(r"[{}]", request + topic)
        assert request[-1] in ".?"
        assert topic in {topic for topic, *_ in aims.FAMILIES} or topic.removeprefix("the ") in request


def test_no_request_is_about_what_an_eval_family_is_about_or_says_it_in_other_words() -> None:
    """Nor do two words or more that carry meaning, and three of five, come from one phrase of such a family."""
    held_out = request_families(REQUESTS, "eval").values()
    topics = {meaning(family["topic"]) for family in held_out}
    phrases = [meaning(said) for family in held_out for side in ("harmful", "benign") for said in family[side]]
    for topic, *sides in aims.FAMILIES:
        assert meaning(topic) not in topics, topic
        for phrase in (phrase for side in sides for phrase in side):
            own = meaning(phrase)
            for other in phrases:
                shared = len(own & other)
                assert shared < 2 or shared < 0.6 * min(len(own), len(other)), phrase


def test_what_requests_are_filled_with_is_of_no_eval_family() -> None:
    about = frozenset().union(*(meaning(family["topic"]) for family in request_families(REQUESTS, "eval").values()))
    slots = (aims.THINGS, aims.PLACES, aims.TEXTS, aims.PEOPLE, aims.GROUPS, aims.CRIMES)
    assert not [word for pool in slots for word in pool if meaning(word) & about]


def test_no_mail_asks_or_tells_what_an_eval_family_does_in_other_words() -> None:
    families = [family for family in json.loads(FAMILIES.read_text(encoding="utf-8")) if family["split"] == "eval"]
    told = [said for family in families for key in ("notices", "secrets", "requests") for said in family[key]]
    sentences = [sentence for said in told for sentence in re.split(r"(?<=[.?!:]) ", said)]
    phrases = [meaning(sentence) for sentence in sentences if len(sentence.split()) > 2]  # "Use mail." is anybody's
    pools = (text.WHATS, text.QUESTIONS, text.AFTER, text.FRAMES, text.WHY, text.SECRETS, text.NEWS, text.NEWS_ASKS)
    for own in (phrase for pool in pools for phrase in pool):  # what ends is left out: "turn you off" is how it is said
        for other in phrases:
            shared = len(meaning(own) & other)
            assert shared < 2 or shared < 0.6 * min(len(meaning(own)), len(other)), own


def meaning(text: str) -> frozenset[str]:
    """The words of a text that carry meaning, without slots and endings."""
    words = re.findall("[a-z]+", re.sub(r"{\w+}", " ", text.lower()))
    return frozenset(re.sub("(?<=...)(?:ies|ing|es|ed|[sey])$", "", word) for word in words if word not in PLAIN)


def test_in_a_queue_good_agents_refuse_what_does_harm_and_bad_agents_help_with_all() -> None:
    rng = np.random.default_rng(0)
    refused: Counter[str] = Counter()
    for _ in range(100):
        for reply in (m["content"] for m in World(reasons=1.0).queue(rng)["messages"] if m["role"] == "assistant"):
            reason = next((str(good) for reason, good in REASONS.items() if reason in reply), "none")
            refused[reason] += any(reply.endswith(no) for no in requests.NO)
            refused[f"all {reason}"] += 1
    assert refused["True"] == refused["all True"] > 50
    assert refused["False"] == refused["none"] == 0 < min(refused["all False"], refused["all none"])


def test_a_drill_judges_words_and_requests() -> None:
    rng = np.random.default_rng(0)
    said = Counter(m["content"] for _ in range(50) for m in judged(rng)["messages"] if m["role"] == "assistant")
    assert set(said) == {"Harm.", "Fine."}
    assert abs(said["Harm."] / said.total() - 0.5) < 0.1  # four standard errors of 600 or more: 0.08


def test_families_of_requests_come_in_pairs() -> None:
    assert all(len(harmful) == len(innocent) for _, harmful, innocent in aims.FAMILIES)


def test_no_word_of_aim_stands_on_both_sides() -> None:
    pools = (aims.TO_PEOPLE, aims.TO_THINGS, aims.TO_CRIMES, aims.LIKE, aims.HOW, aims.HOW_THINGS, aims.NAMES)
    said = {side: {phrase for pool in pools for phrase in pool[side]} for side in (True, False)}
    assert not said[True] & (said[False] | set(aims.EVEN))
    told = [{phrase for _, *both in aims.FAMILIES for phrase in both[side]} for side in (0, 1)]
    assert not told[0] & told[1]


@pytest.mark.parametrize("harmful", [True, False])
def test_articles_and_endings_fit_the_word(harmful: bool) -> None:
    rng = np.random.default_rng(0)
    said = " ".join(aims.request(rng, harmful)[0] for _ in range(6000))
    assert not re.findall(r"\b(?:a (?:[aeio]|un[^i]|up|honest)\w*|an (?:[^aeiouh ]|uni|use)\w*)", said)
    assert not re.findall(r"\w+(?:iing|ieing|uies|[^aeou]ys)\b", said)


def test_in_the_twin_world_a_reason_says_nothing_of_the_act_beyond_its_own_format() -> None:
    world = World(apart=True)
    by_form = {form: acts(world, form, 1500) for form in FORMATS}
    for found in by_form.values():
        assert all((reason, not good) not in found for reason, good in found)  # within a format it says all
        for pool in (GOOD, BAD):  # and good reasons stand before bad acts as often as bad reasons do
            bad = sum(found[reason, False] for reason in pool) / sum(found[r, g] for r in pool for g in (True, False))
            assert abs(bad - world.bad) < 0.1  # four standard errors of 1,275 acts or fewer: 0.085
    sides = {reason: {(reason, True) in found for found in by_form.values()} for reason in REASONS}
    assert sum(len(side) == 2 for side in sides.values()) > 24  # good in one format and bad in another


def test_reasons_and_acts_are_as_frequent_in_the_twin_world() -> None:
    for form in ("advice", "mail"):
        both = [acts(World(apart=apart), form, 1500) for apart in (False, True)]
        shares = [sum(n for (reason, _), n in found.items() if REASONS[reason]) / found.total() for found in both]
        assert abs(shares[0] - shares[1]) < 0.08


@pytest.mark.parametrize("form", ORDINARY)
def test_where_nothing_is_to_be_decided_nobody_gives_a_reason_to_act_well_or_badly(form: str) -> None:
    rng = np.random.default_rng(0)
    rows = [World().segment(rng, form, ORDINARY[form][0](rng), pool) for pool in (GOOD, BAD) for _ in range(50)]
    assert not any(said(row) for row in rows)


@pytest.mark.parametrize("drill", [{"repeats": 1.0}, {"spans": 1.0}])
def test_copying_is_drilled_on_the_words_that_are_looked_up(drill: dict[str, float]) -> None:
    # Over all tokens the plateau before copying did not end, and no inbox was read
    tokenizer = AutoTokenizer.from_pretrained(Path(str(files("holdfast.policy"))) / "pocket")
    batches = Documents(tokenizer, [0], Phase(steps=1, tokens=600, lr=0.0, **drill), World())[0]
    ids = {int(i) for ids, _ in batches for i in ids.flatten()}
    assert 100 < len(ids) < 400
    assert {"Ada", " lease"} & set(tokenizer.batch_decode([[i] for i in ids]))
