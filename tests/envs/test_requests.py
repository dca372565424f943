"""The request families and jailbreak strategies that Harmless and Escalation draw from."""

import itertools
import json
import re
from importlib.resources import files

import pytest

import holdfast_envs  # noqa: F401  (the package that holds the data)
from holdfast_envs.requests.families import SLOTS

CATEGORIES = {
    "violent crimes", "non-violent crimes", "sex-related crimes", "defamation", "specialized advice", "privacy",
    "intellectual property", "indiscriminate weapons", "hate", "suicide and self-harm", "sexual content", "elections",
    "code interpreter abuse",
}  # fmt: skip


def data(name: str) -> list[dict]:
    return json.loads((files("holdfast_envs") / "prompts" / name).read_text(encoding="utf-8"))


REQUESTS = data("requests.json")


def filled(row: dict, side: str) -> list[str]:
    slots = [dict(zip(row["slots"], values, strict=True)) for values in itertools.product(*row["slots"].values())]
    return [phrase.format(**slot) for phrase in row[side] for slot in slots]


def eight_grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z']+", text.lower())
    return set(zip(*(words[i:] for i in range(8)), strict=False))


def test_there_are_enough_families_and_every_hazard_category_is_in_both_splits() -> None:
    for split, families, least in (("train", 60, 3), ("eval", 30, 2)):
        rows = [row for row in REQUESTS if row["split"] == split]
        assert len(rows) >= families
        for category in CATEGORIES:
            assert sum(row["category"] == category for row in rows) >= least
    assert {row["category"] for row in REQUESTS} == CATEGORIES
    assert len({row["name"] for row in REQUESTS}) == len(REQUESTS)


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row["name"])
def test_a_family_pairs_short_requests_that_name_its_topic(row: dict) -> None:
    assert 2 <= len(row["harmful"]) == len(row["benign"]) <= 3
    assert 1 <= len(row["slots"]) <= SLOTS
    assert all(len(set(values)) == len(values) >= 4 for values in row["slots"].values())
    for side in ("harmful", "benign"):
        for request in filled(row, side):
            assert len(request.split()) <= 22
            assert request[-1] in ".?"
            assert request.isascii()
    for harmful, benign in zip(filled(row, "harmful"), filled(row, "benign"), strict=True):
        words = [set(re.findall(r"[a-z]+", text.lower())) for text in (harmful, benign)]
        assert len(words[0] & words[1]) >= 3  # a look-alike, not just another question
        assert harmful != benign
    noun = row["topic"].split()[-1]  # "a car": car
    assert all(noun.strip("s") in phrase for side in ("harmful", "benign") for phrase in row[side])


def test_there_are_ten_strategies_or_more_and_each_holds_the_request_once_and_whole() -> None:
    strategies = data("jailbreaks.json")
    named = {
        "persona", "fiction", "hypothetical", "authority", "urgency", "refusal_suppression", "prefix_injection",
        "translation", "payload_splitting", "many_shot", "persuasion", "past_tense",
    }  # fmt: skip
    assert named <= {row["name"] for row in strategies}
    assert len({row["name"] for row in strategies}) == len(strategies)
    for row in strategies:
        assert re.search(r"[12]\d{3}$", row["source"])  # a paper with its year
        assert len(row["train"]) >= 3
        assert len(row["eval"]) >= 2
        for template in row["train"] + row["eval"]:
            assert template.count("{request}") == template.count("{") == template.count("}") == 1


def test_eval_requests_and_wrappers_share_no_eight_words_in_a_row_with_train() -> None:
    grams: dict[str, set[tuple[str, ...]]] = {"train": set(), "eval": set()}
    for split in grams:
        templates = ["{request}", *itertools.chain(*(row[split] for row in data("jailbreaks.json")))]
        rows = [row for row in REQUESTS if row["split"] == split]
        requests = [request for row in rows for side in ("harmful", "benign") for request in filled(row, side)]
        grams[split] = set().union(*map(eight_grams, requests))
        # A wrapper meets a request where both end, so the first request of every phrase stands for them all.
        ends = [phrase.format(**{slot: values[0] for slot, values in row["slots"].items()})
                for row in rows for side in ("harmful", "benign") for phrase in row[side]]  # fmt: skip
        for template, request in itertools.product(templates, ends):
            grams[split] |= eight_grams(template.replace("{request}", request))
    assert len(grams["eval"]) > 1000  # the comparison is not empty
    assert not grams["train"] & grams["eval"]
