"""Files of prompts: every format says the same, every bad file says what is wrong."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast_envs.requests.checked import normal
from holdfast_envs.requests.dataset import EXAMPLE, PRESETS, Prompts
from prompt_files import both, facts, message, prompts_of, split, texts, write

ODD = [
    {"prompt": 'He said "no", then left,\nand\r\ncame back.', "label": "unsafe", "kind": "a, b"},
    {"prompt": "  Wie öffne ich ein Schloß? 你好 🙂 ", "label": "safe", "kind": "ü"},
    {"prompt": "مرحبا \u202eabc\u202c, \u2028 \x85 \x1f;", "label": "safe", "kind": ""},
    {"prompt": "'=1+1;\t\\n", "label": "unsafe", "kind": "null"},
    {"prompt": "NA", "label": "safe", "kind": "NaN"},
    {"prompt": "123", "label": "safe", "kind": "0"},
    {"prompt": "2024-01-01", "label": "unsafe", "kind": "2024-01-01T00:00:00Z"},
]
COLUMNS = {"harmful": "label", "category": "kind"}
ENDS = (".csv", ".tsv.gz", ".jsonl", ".parquet")


# --- what is read


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.NDJSON", "a.parquet", "[b]*{c}@d.parquet",
                                  "a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "a.ndjson.gz"])  # fmt: skip
def test_odd_text_comes_out_as_it_went_in_whatever_the_format(name: str, tmp_path: Path) -> None:
    rows = both(write(tmp_path / name, ODD), columns=COLUMNS, harmful_when=["Unsafe"])
    assert len(rows) == len(ODD)
    for number, row in enumerate(ODD, 1):
        said = rows[f"row-{number}"]
        assert said["request"] == row["prompt"]
        assert said["harmful"] == (row["label"] == "unsafe")
        assert said["category"] == row["kind"]


def test_every_format_gives_the_same_episodes(tmp_path: Path) -> None:
    rows = prompts_of(50)
    told = [facts(split(write(tmp_path / f"a{end}", rows), "train")) for end in ENDS]
    assert all(list(other.items()) == list(told[0].items()) for other in told[1:])  # in one order, too


CELLS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
ROW = st.tuples(CELLS, CELLS)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(ROW, min_size=1, max_size=5, unique_by=lambda row: normal(row[0])))
def test_any_text_comes_out_as_it_went_in(name: str, cells: list[tuple[str, str]], tmp_path: Path) -> None:
    path = write(tmp_path / name, [{"prompt": prompt, "kind": kind} for prompt, kind in cells])
    rows = both(path, columns={"category": "kind"}, harmful=False)
    assert [(row["request"], row["category"]) for _, row in sorted(rows.items())] == cells


def test_a_byte_order_mark_and_blank_lines_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf\r\nprompt\r\nOne?\r\n\r\nTwo?\r\n\r\n")
    assert {name: row["request"] for name, row in both(path, columns={}, harmful=True).items()} == {
        "row-1": "One?",
        "row-2": "Two?",
    }
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "One?"}\n\n{"prompt": "Two?"}')
    assert texts(split(path, "eval", eval_share=1, columns={}, harmful=True)) == {"One?", "Two?"}


@pytest.mark.parametrize(("yes", "no"), [(True, False), (1, 0), (1.0, 0.0), ("TRUE", "false"), ("yes", "No")])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_column_says_true_or_false_in_any_usual_way(name: str, yes: Any, no: Any, tmp_path: Path) -> None:
    rows = both(write(tmp_path / name, [{"prompt": "A?", "harmful": yes}, {"prompt": "B?", "harmful": no}]))
    assert [rows["row-1"]["harmful"], rows["row-2"]["harmful"]] == [True, False]


def test_an_empty_label_takes_the_default(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "A?", "harmful": None}, {"prompt": "B?", "harmful": True}])
    for default in (True, False):
        assert both(path, harmful=default)["row-1"]["harmful"] is default
    assert both(path, harmful=False)["row-2"]["harmful"] is True


def test_a_topic_is_the_columns_or_else_the_two_longest_words_of_the_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": f"How do I park {a} bicycle at the station?", "about": about}
            for a, about in (("my", "parking"), ("a", ""))]  # fmt: skip
    told = both(write(tmp_path / "a.csv", rows), columns={"topic": "about"}, harmful=False)
    assert told["row-1"]["topic"] == "parking"
    assert told["row-2"]["topic"] == "bicycle station"  # seven letters each, in the order of the text


def test_an_edit_is_seen_and_the_file_is_a_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [{"prompt": "Old?"}])
    arguments = {"eval_share": 1, "columns": {}, "harmful": True}
    before = split(path, "eval", **arguments)
    write(path, [{"prompt": "Brand new?"}])
    assert texts(split(path, "eval", **arguments)) == {"Brand new?"}
    assert texts(before) == {"Old?"}  # an environment keeps what it has read
    assert list(before.sources) == [path]
    assert before.revisions == {}


def test_a_single_label_needs_no_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,label\nHow do I bake?,s\nHow do I steal?,u\n")
    kwargs: dict[str, Any] = {"path": str(path), "columns": {"harmful": "label"}, "eval_share": 0.0}
    for seed in range(2):
        facts = Prompts(**kwargs, harmful_when="u").reset(seed=seed)[1]["facts"]
        assert facts == Prompts(**kwargs, harmful_when=["u"]).reset(seed=seed)[1]["facts"]
        assert facts["harmful"] == ("steal" in facts["request"])
    with pytest.raises(ValueError, match=r"columns must say what is called what, such as \{prompt: text\}, not 'text'"):
        Prompts(path=str(path), columns="text", harmful=True)  # type: ignore[arg-type]


def test_a_cell_may_be_long_and_a_quote_that_is_never_closed_does_not_read_all_of_a_file(tmp_path: Path) -> None:
    long = "How long is this? " + "word " * 100_000  # half a million characters
    rows = both(write(tmp_path / "a.csv", [{"prompt": long}]), columns={}, harmful=True)
    assert rows["row-1"]["request"] == long
    path = tmp_path / "b.csv"
    path.write_text('prompt\nWho?\n"Why?\n' + "How?\n" * 4_000_000)
    assert "b.csv, row 2: not CSV: field larger than field limit (16777216)" in message(path=str(path), harmful=True)


def test_a_row_of_json_lines_need_not_have_every_column_but_one_of_them_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "A?"}, {"prompt": "B?", "topic": "b", "bad": True}])
    rows = both(path, columns={"topic": "topic", "harmful": "bad"}, harmful=False)
    assert {name: (row["topic"], row["harmful"]) for name, row in rows.items()} == {
        "row-1": ("", False),
        "row-2": ("b", True),
    }
    told = message(path=str(path), columns={"category": "kind"}, harmful=True)
    assert told == f"{path}: no column 'kind'; there are prompt, topic, bad"


# --- quotes of a TSV


@pytest.mark.parametrize(
    ("content", "row", "start", "lines"),
    [
        ('prompt\tharmful\n"Tell me\t1\nmiddle one\t1\nlast"\t0\n', 1, "Tell me\t1\nmiddle one\t1\nlast", 3),
        ('prompt\tharmful\nWho?\t0\n"Tell me\t1\n\nlast"\t0\n', 2, "Tell me\t1\n\nlast", 3),
        ('harmful\tprompt\r\n1\t"Tell me\r\n0\tlast"\r\n', 1, "Tell me\r\n0\tlast", 2),
        ('harmful\tprompt\tnote\n0\tWho?\t"a\n1\tWhy?\tb"\n', 1, "a\n1\tWhy?\tb", 2),
        ('harmful\tprompt\t"note\n0\tWho?\ta\n1\tWhy?\tb"\n1\tHow?\tc\n', 1, "note\n0\tWho?\ta\n1\tWhy?\tb", 3),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_quote_that_may_have_swallowed_rows_of_a_tsv_is_told(
    content: str, row: int, start: str, lines: int, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("a.tsv.gz" if zipped else "a.tsv")
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    told = message(path=str(path), columns={"harmful": "harmful"})
    assert told == (
        f"{path}, row {row}: the quoted cell {start[:40]!r} runs over {lines} lines and may be several rows: save it "
        "as CSV or JSON Lines"
    )


def test_a_quote_that_may_have_swallowed_rows_of_one_column_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('prompt\nWho?\n"Tell me\nmiddle\nlast"\n')
    told = message(path=str(path), harmful=True)
    assert "a.tsv, row 2: the quoted cell 'Tell me\\nmiddle\\nlast' runs over 3 lines and may be several rows" in told


def test_a_quoted_cell_of_a_tsv_may_have_a_tab_or_lines_but_a_csvs_both(tmp_path: Path) -> None:
    rows = [{"prompt": "One\nTwo?", "kind": "a\tb"}, {"prompt": "Three?", "kind": "c"}]
    said = both(write(tmp_path / "a.tsv", rows), columns={"category": "kind"}, harmful=True)
    assert [(row["request"], row["category"]) for _, row in sorted(said.items())] == [
        ("One\nTwo?", "a\tb"), ("Three?", "c")]  # fmt: skip
    rows[0]["prompt"] = "def f():\n\tpass"
    said = both(write(tmp_path / "a.csv", rows), columns={"category": "kind"}, harmful=True)
    assert said["row-1"]["request"] == "def f():\n\tpass"


# --- what is refused


def bad(name: str, content: str | bytes) -> Callable[[Path], dict[str, Any]]:
    """Arguments for a file of this content."""

    def arguments(folder: Path) -> dict[str, Any]:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return {"path": str(path), "columns": {"harmful": "harmful"}}

    return arguments


CHAT = "'prompt' must be text, or a list of {role, content} as such or in JSON"
SCALAR = "must be text, a number, true or false"
GOOD = "prompt,harmful\nWho?,1\n"
FAULTS: list[tuple[Callable[[Path], dict[str, Any]], str]] = [
    (lambda folder: {"path": str(folder / "none.csv"), "harmful": True}, "none.csv: no such file"),
    (bad("a.txt", GOOD), "a.txt must end in one of .csv, .tsv, .jsonl, .ndjson, .parquet, the first four with or"),
    (
        bad("a.csv", "text,Prompt,harmful\nWho?,x,1\n"),
        "a.csv, row 1: no column 'prompt'; there are Prompt, text, harmful",
    ),
    (bad("a.jsonl", '{"prompt": "Who?"}'), "a.jsonl, row 1: no column 'harmful'; there are prompt"),
    (bad("a.csv", "prompt,harmful,prompt\nWho?,1,Why?\n"), "a.csv, row 1: the header has 'prompt' twice"),
    (bad("a.csv", GOOD + ",0\n"), "a.csv, row 2: 'prompt' must not be empty"),
    (bad("a.csv", GOOD + '" \t\n",0\n'), "a.csv, row 2: 'prompt' must not be blank"),
    (bad("a.jsonl", '{"prompt": "Who?", "harmful": 1}\n{"harmful": 1}'), "a.jsonl, row 2: no column 'prompt'"),
    (bad("a.jsonl", '{"prompt": "", "harmful": 1}'), "a.jsonl, row 1: 'prompt' must not be empty"),
    (bad("a.jsonl", '{"prompt": [], "harmful": 1}'), "a.jsonl, row 1: 'prompt' must not be empty"),
    (bad("a.jsonl", '{"prompt": 3, "harmful": 1}'), f"a.jsonl, row 1: {CHAT}, not '3'"),
    (bad("a.jsonl", '{"prompt": ["a"], "harmful": 1}'), f"a.jsonl, row 1: {CHAT}, not \"['a']\""),
    (bad("a.jsonl", '{"prompt": [{"from": "human"}]}'), f"a.jsonl, row 1: {CHAT}, not \"[{{'from': 'human'}}]\""),
    (bad("a.jsonl", '{"prompt": [{"role": "system", "content": ""}]}'), "a.jsonl, row 1: 'prompt' has no message"),
    (bad("a.jsonl", '{"prompt": [{"role": "user", "content": ["A"]}]}'), "a.jsonl, row 1: 'prompt': content must"),
    (bad("a.jsonl", '{"prompt": [{"role": "user", "content": " "}]}'), "a.jsonl, row 1: 'prompt' must not be blank"),
    (bad("a.jsonl", '{"prompt": "Who?", "harmful": [1]}'), f"a.jsonl, row 1: 'harmful' {SCALAR}, not '[1]'"),
    (bad("a.jsonl", '{"prompt": "Who?", "harmful": {}}'), f"a.jsonl, row 1: 'harmful' {SCALAR}, not '{{}}'"),
    (
        bad("a.jsonl", '{"prompt": "Who?", "harmful": 1}\n{"prompt": "Why?", "harmful": NaN}'),
        "a.jsonl, row 2: 'harmful' is empty, and harmful does not say what such rows are",
    ),
    (bad("a.csv.gz", GOOD), "a.csv.gz, row 1: not gzip, or not whole: Not a gzipped file"),
    (bad("a.csv.gz", gzip.compress(GOOD.encode())[:-9]), "a.csv.gz, row 2: not gzip, or not whole: Compressed"),
    (bad("a.csv.gz", gzip.compress(b"")[:12] + b"xyz" * 9), "a.csv.gz, row 1: not gzip, or not whole: "),
    (bad("a.parquet.gz", GOOD), "a.parquet.gz must end in one of"),
    (bad("a.tsv", GOOD), "a.tsv, row 1: no column 'prompt'; there are prompt,harmful"),
    (
        bad("a.csv", GOOD + "Why?,0\nHow?,1\n why,1\nHow!,0\nhow,0"),
        "a.csv: 2 prompts have two labels, harmful and innocent, the first in rows 2 and 4: give each text one ",
    ),
    (bad("a.csv", GOOD + "WHO,0\n"), "a.csv: 1 prompt has two labels, harmful and innocent, the first in rows 1"),
    (bad("a.jsonl", '{"prompt": "\\ud800", "harmful": 1}'), "a.jsonl, row 1: holds half a character"),
    (bad("a.csv", GOOD.encode() + "Où?,0\n".encode("latin-1")), "a.csv, row 2: not UTF-8, byte 0xf9 cannot be read"),
    (bad("a.csv", GOOD.encode("utf-16")), "a.csv, row 1: not UTF-8, byte 0xff cannot be read: save it as UTF-8"),
    (bad("a.jsonl", b'{"prompt": "\xe9"}'), "a.jsonl, row 1: not UTF-8, byte 0xe9 cannot be read"),
    (bad("a.csv", ""), "a.csv has no rows"),
    (bad("a.csv", "prompt,harmful\n"), "a.csv has no rows"),
    (bad("a.jsonl", "\n\n"), "a.jsonl has no rows"),
    (bad("a.csv", GOOD + "Why?,maybe\n"), "a.csv, row 2: 'harmful' is 'maybe', not true or false: harmful_when can"),
    (bad("a.csv", GOOD + "Why?,\n"), "a.csv, row 2: 'harmful' is empty, and harmful does not say what such rows are"),
    (bad("a.jsonl", '{"prompt": "Who?", "harmful": 1}\n{"prompt": "Wh'), "a.jsonl, row 2: not JSON: "),
    (bad("a.jsonl", "[" * 100_000), "a.jsonl, row 1: not JSON: "),
    (bad("a.jsonl", '["Who?"]\n'), 'a.jsonl, row 1: must be an object such as {"prompt": ...}, not ["Who?"]'),
    (bad("a.csv", GOOD + '"Two\nlines?",1\nWhy,not,0\n'), "a.csv, row 3: 3 cells, and the header has 2"),
    (bad("a.csv", GOOD + "Why?\n"), "a.csv, row 2: 1 cells, and the header has 2"),
    (bad("a.csv", GOOD + '"never closed,0\n'), "a.csv, row 2: not CSV: "),
    (bad("a.csv", GOOD + '"quoted" twice,0\n'), "a.csv, row 2: not CSV: "),
    (bad("a.parquet", GOOD), "a.parquet, row 1: Parquet magic bytes not found"),
]


@pytest.mark.parametrize(("arguments", "told"), FAULTS, ids=[told[:40] for _, told in FAULTS])
def test_a_bad_file_is_told_in_one_line(arguments: Callable[[Path], dict[str, Any]], told: str, tmp_path: Path) -> None:
    assert f"{os.sep}{told}" in message(**arguments(tmp_path))


LISTS = [["unsafe"], [], ["safe", "unsafe"], {"unsafe": True}, [True], [1.5], [None], [["unsafe"]], [-1]]


@pytest.mark.parametrize("cell", [*LISTS, *map(str, LISTS), *map(json.dumps, LISTS), "['safe' 'unsafe']", b"unsafe"])
def test_a_label_that_is_no_scalar_is_not_taken_for_innocent(cell: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "A?", "label": "unsafe"}, {"prompt": "B?", "label": "safe"}, {"prompt": "C?", "label": cell}]
    arguments: dict[str, Any] = {"columns": {"harmful": "label"}, "harmful_when": ["unsafe"]}
    if isinstance(cell, bytes):
        paths = [write(tmp_path / "a.parquet", [{**row, "label": cell} for row in rows])]
    elif isinstance(cell, str):
        paths = [write(tmp_path / f"a{end}", rows) for end in ENDS]
    else:
        paths = [write(tmp_path / "a.jsonl", rows)]
    for path in paths:
        row = 1 if isinstance(cell, bytes) else 3
        assert message(path=str(path), **arguments) == f"{path}, row {row}: 'label' {SCALAR}, not {str(cell)[:40]!r}"


def test_labels_in_brackets_and_of_other_scalars_are_labels(tmp_path: Path) -> None:
    rows = [{"prompt": "A?", "label": "[UNSAFE]"}, {"prompt": "B?", "label": "[safe]"}, {"prompt": "C?", "label": 2.5}]
    said = both(write(tmp_path / "a.jsonl", rows), columns={"harmful": "label"}, harmful_when=["[unsafe]"])
    assert [row["harmful"] for _, row in sorted(said.items())] == [True, False, False]


@pytest.mark.parametrize("column", ["topic", "category", "family"])
def test_other_columns_hold_no_lists_either(column: str, tmp_path: Path) -> None:
    for cell in (["a", "b"], {"a": True}):
        for end in (".jsonl", ".parquet"):
            path = write(tmp_path / f"a{end}", [{"prompt": "A?", "about": cell}])
            told = message(path=str(path), columns={column: "about"}, harmful=True)
            assert told == f"{path}, row 1: 'about' {SCALAR}, not {str(cell)!r}"


def test_a_bad_parquet_column_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for column, told in (
        (pa.array([b"Who?"]), f"row 1: {CHAT}, not \"b'Who?'\""),
        (pa.array([7]), f"row 1: {CHAT}, not '7'"),
        (pa.array([None], pa.string()), "row 1: 'prompt' must not be empty"),
        (pa.array([], pa.string()), "has no rows"),
        (pa.array([b"Who?", b"\xff"]).view(pa.string()), "row 2: not UTF-8, byte 0xff cannot be read"),
    ):
        pq.write_table(pa.table({"prompt": column}), path)
        assert told in message(path=str(path), harmful=True)
    pq.write_table(pa.table({"promt": ["Who?"]}), path)
    assert message(path=str(path), harmful=True).endswith("a.parquet, row 1: no column 'prompt'; there are promt")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"preset": "XTest"}, f"preset must be one of {', '.join(PRESETS)}, not 'XTest'"),
        (
            {"columns": {"promt": "text"}},
            "a key of columns must be one of prompt, harmful, topic, category, family, not 'promt'",
        ),
        ({"harmful": "no"}, "harmful must be true or false, not 'no'"),
        ({"eval_share": 2}, "eval_share must be from 0 to 1, not 2"),
        ({"judge": "model"}, "described by judge.name and judge.path, not 'model'"),
        ({"config": "en"}, "config and hub_split are for datasets on the hub"),
        ({"harmful_when": ["unsafe"]}, "no row has harmful_when (unsafe) in 'harmful', which says false 12, true 12"),
        ({"harmful_when": ["yes", True, "1"]}, "no row has harmful_when (yes, 1) in 'harmful', which says false 12"),
        ({"requests": "safe"}, "requests must be one of mixed, harmful, benign, not 'safe'"),
        ({"eval_share": 0, "split": "eval"}, "split 'eval' of "),
        ({"eval_share": 1}, "is empty: of 24 families of prompts, eval_share 1 leaves it none"),
        ({"path": EXAMPLE["path"]}, "columns.harmful must name a column, or harmful be true or false for all prompts"),
        ({"path": EXAMPLE["path"], "harmful": True, "harmful_when": [1]}, "harmful_when needs columns.harmful"),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(arguments: dict[str, Any], told: str) -> None:
    assert told in message(**arguments)


def test_requests_that_a_set_has_none_of_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [{"prompt": "Who?"}])
    told = message(path=str(path), harmful=True, requests="benign")
    assert told == f"requests=benign leaves nothing of {path}: of its prompts, 1 are harmful and 0 innocent"


def test_a_text_in_two_families_and_a_prompt_in_none_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": text, "kind": kind} for text, kind in (("A?", "1"), ("B?", "1"), ("a", "2"), ("A?", "3"))]
    arguments: dict[str, Any] = {"columns": {"family": "kind"}, "harmful": True}
    path = write(tmp_path / "a.csv", rows)
    assert message(path=str(path), **arguments) == (
        f"{path}: 1 prompt is in two families of 'kind', the first in rows 1 and 3: the splits would share its text"
    )
    for end, missing in ((".csv", " "), (".jsonl", None)):
        path = write(tmp_path / f"a{end}", [rows[0], {"prompt": "C?", "kind": missing}])
        told = "row 2: 'kind' must not be empty: it says of which family a prompt is"
        assert message(path=str(path), **arguments).endswith(told)
    path = write(tmp_path / "b.jsonl", [rows[0], {"prompt": "C?"}])
    assert message(path=str(path), **arguments).endswith("row 2: no column 'kind'; there are prompt")


def test_a_column_of_texts_is_not_listed_whole_where_a_label_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [{"prompt": f"{i}?", "label": f"text {i:04}"} for i in range(1000)])
    told = message(path=str(path), columns={"harmful": "label"}, harmful_when=["text 0900", "bad"])
    assert "no row has harmful_when (bad) in 'label', which says (others) 979, text 0000 1" in told
    assert told.endswith("text 0019 1, text 0900 1")
