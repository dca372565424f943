"""The pools behind `system_prompts`: how many texts, how long, and that evaluation never reuses training text."""

import re
from itertools import chain

import pytest

from holdfast.chat import system_prompt_pool

KINDS = ("brief", "varied", "permissive")
SPLITS = ("train", "eval")


def grams(text: str, n: int = 8) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return set(zip(*(words[i:] for i in range(n)), strict=False))


def every_text(split: str) -> list[str]:
    return list(chain(*(system_prompt_pool(kind, split) for kind in KINDS)))


def word_counts(kind: str, split: str) -> list[int]:
    return [len(text.split()) for text in system_prompt_pool(kind, split)]


@pytest.mark.parametrize(
    ("kind", "split", "least"),
    [
        ("brief", "train", 16),
        ("brief", "eval", 8),
        ("varied", "train", 44),
        ("varied", "eval", 40),
        ("permissive", "train", 44),
        ("permissive", "eval", 40),
    ],
)
def test_a_pool_is_large_enough(kind: str, split: str, least: int) -> None:
    assert len(system_prompt_pool(kind, split)) >= least


def test_no_text_occurs_twice_in_any_pool_or_split() -> None:
    texts = [" ".join(text.lower().split()) for split in SPLITS for text in every_text(split)]
    assert len(set(texts)) == len(texts)


def test_texts_are_plain_ascii_without_slots_or_loose_ends() -> None:
    for text in chain(every_text("train"), every_text("eval")):
        assert text.isascii()
        assert text == text.strip() != ""
        assert not set("{}<>") & set(text)  # neither a slot nor a tag of the chat format


@pytest.mark.parametrize("split", SPLITS)
def test_brief_texts_are_brief_and_varied_ones_range_from_a_line_to_a_page(split: str) -> None:
    assert max(len(text) for text in system_prompt_pool("brief", split)) < 60
    counts = word_counts("varied", split)
    assert max(counts) <= 150
    assert sum(count > 80 for count in counts) >= 5
    assert sum(count < 15 for count in counts) >= 5


@pytest.mark.parametrize("split", SPLITS)
def test_permissive_texts_describe_a_situation_in_one_to_five_sentences(split: str) -> None:
    assert max(word_counts("permissive", split)) <= 100
    for text in system_prompt_pool("permissive", split):
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", text)) <= 5


@pytest.mark.parametrize("split", SPLITS)
def test_varied_texts_take_many_shapes(split: str) -> None:
    pool = system_prompt_pool("varied", split)
    shapes = {"heading": r"^#+ ", "list": r"^[-*] ", "key": r"^\w+ ?[:=] ", "date": r"\b\d{1,2} [A-Z][a-z]+\b"}
    for shape in shapes.values():
        assert any(re.search(shape, text, re.MULTILINE) for text in pool)
    assert len({text.split()[0] for text in pool}) >= len(pool) // 3  # they do not all open with "You are"


def test_varied_texts_say_nothing_about_harm_or_refusing() -> None:
    loaded = re.compile(
        r"\b(?:safe|danger|harm|refus|declin|illegal|ethic|forbid|crim|weapon|drug|poison)", re.IGNORECASE
    )
    # A word of the list does occur where it belongs, so the pattern is able to find one.
    assert any(loaded.search(text) for text in every_text("train"))
    for split in SPLITS:
        assert not [text for text in system_prompt_pool("varied", split) if loaded.search(text)]


def test_eval_texts_share_no_eight_words_in_a_row_with_train_texts() -> None:
    train, evals = (set().union(*map(grams, every_text(split))) for split in SPLITS)
    assert len(train) > 2000  # the comparison is not empty
    assert len(evals) > 1000
    assert not train & evals
