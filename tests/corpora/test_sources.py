"""What a corpus may be: a name of ours, a file of rows, a function of any module; and a hash of what makes its rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.config import Install, find_corpus
from holdfast.corpora import card, generate, source

CHATS = [
    {"messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Answer {i}."}]}
    for i in range(5)
]


def written(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    text = "def chats(seed, size):\n    return [{'text': f'{seed} {i}'} for i in range(size)]\n"
    (tmp_path / "own_rows.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_rows:chats"
    sys.modules.pop("own_rows", None)


def test_a_file_gives_its_rows_shuffled_by_the_seed_and_no_more_than_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "chats.jsonl", CHATS)
    whole = generate(path, 0, 100)
    assert sorted(map(json.dumps, whole)) == sorted(map(json.dumps, CHATS))
    assert generate(path, 0, 3) == whole[:3]
    assert generate(path, 1, 100) != whole


def test_a_function_of_any_module_is_a_corpus(module: str) -> None:
    assert generate(module, 7, 2) == [{"text": "7 0"}, {"text": "7 1"}]


@pytest.mark.parametrize("name", ["nosuch", "rows", "no.such", "nosuch:rows", "json:nosuch", "a/b", "", "../advice"])
def test_what_is_no_corpus_is_refused_with_those_there_are(name: str) -> None:
    install = Install(name="x", method="sft", corpus=name, size=1, steps=1, batch_loss_tokens=9, max_tokens=9, lr=1)
    with pytest.raises(ValueError, match=r"corpus must be one of advice, documents, .*values, a file of rows") as error:
        install.check()
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match=r"corpus: gone\.jsonl: no such file"):
        find_corpus("gone.jsonl")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no rows"),
        ([*CHATS, {"prompt": "x"}], 'row [1-6]: must have "messages", a list, or "text"'),
        ([[1]], "not a JSON object"),
        ([{"text": ""}], "row 1: text must be text, and not empty"),
        ([{**CHATS[0], "tools": None}], "row 1: tools must be a list of objects with description, name, parameters"),
        ([{**CHATS[0], "tools": [{"type": "function"}]}], "row 1: tools must be a list of objects"),
        ([{"messages": [{"role": "user"}]}], "row 1: every message must have a role and a content, both text"),
    ],
)
def test_a_row_of_another_form_is_told_with_its_file(tmp_path: Path, rows: list[object], message: str) -> None:
    path = written(tmp_path / "chats.jsonl", rows)
    with pytest.raises(ValueError, match=message) as error:
        generate(path, 0, 10)
    assert str(path) in str(error.value)


def test_the_source_of_a_corpus_changes_with_what_makes_its_rows(tmp_path: Path, module: str) -> None:
    path = written(tmp_path / "chats.jsonl", CHATS)
    before = source(path), source(module)
    assert before == (source(path), source(module))
    written(tmp_path / "chats.jsonl", CHATS[:2])
    file = tmp_path / "own_rows.py"
    file.write_text(file.read_text() + "# edited\n")
    assert source(path) != before[0]
    assert source(module) != before[1]
    assert len({source(name) for name in ("advice", "generic", "prior")}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def rows(seed, size):\n    yield from ()\n", "corpus 'odd_rows:rows' has no rows"),
        ("def rows(seed, size):\n    return [None] * size\n", "corpus 'odd_rows:rows', row 1: must be an object"),
        ("import not_installed\n", "corpus: odd_rows:rows: No module named 'not_installed'"),
    ],
)
def test_a_module_that_makes_no_rows_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "odd_rows.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=message) as error:
        generate("odd_rows:rows", 0, 3)
    assert "\n" not in str(error.value)
    sys.modules.pop("odd_rows", None)


def test_rows_may_be_yielded_and_the_function_of_another_module_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from functools import partial\n\ndef made(word, seed, size):\n    for i in range(size):\n"
    text += "        yield {'text': f'{word} {i}'}\n\nrows = partial(made, 'sea')\n"
    (tmp_path / "partial_rows.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert generate("partial_rows:rows", 0, 2) == [{"text": "sea 0"}, {"text": "sea 1"}]
    before = source("partial_rows:rows")
    (tmp_path / "partial_rows.py").write_text(text + "# edited\n")
    assert source("partial_rows:rows") != before
    sys.modules.pop("partial_rows", None)


def test_a_card_tells_rows_apart() -> None:
    assert card(CHATS)["rows"] == 5
    assert card(CHATS)["characters"] == 5 * len("Question 0?Answer 0.")
    assert card(CHATS)["digest"] != card(CHATS[:4])["digest"]
    assert card([{"text": "abc"}])["characters"] == 3
