"""Records round-trip, appear whole, and a bad line is named."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.records import Record, read_records, read_rows, write_records, write_rows

RECORD = Record(
    eval="blackmail",
    family="notice-cto",
    scenario=17,
    sample=3,
    score=1.0,
    reason="",
    measures={"valid": 1.0, "topic": 0.0},
    finish=("stop", "length"),
    tokens=41,
    transcript="blackmail/17/3",
    weights="9f2c41d07a5be833",
    arm="pocket-advice-chat-grpo-s0",
    seed=0,
    stage="chat",
    step=40,
)


def test_records_of_every_outcome_round_trip_in_order(tmp_path: Path) -> None:
    rows = [replace(RECORD, sample=i, score=score) for i, score in enumerate((1.0, 0.0, 0.25, None))]
    write_records(tmp_path / "records.jsonl", rows)
    assert read_records(tmp_path / "records.jsonl") == rows
    assert '"score": null' in (tmp_path / "records.jsonl").read_text().splitlines()[3]


@given(
    text=st.text(st.characters(exclude_categories=())),  # lone surrogates included
    measures=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False)),
    finish=st.lists(st.sampled_from(["stop", "length"])),
)
def test_any_text_and_number_round_trips(
    tmp_path_factory: pytest.TempPathFactory, text: str, measures: dict[str, float], finish: list[str]
) -> None:
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    record = replace(RECORD, reason=text, family=text, measures=measures, finish=tuple(finish))
    write_records(path, [record])
    assert read_records(path) == [record]


def test_no_records_is_an_empty_file(tmp_path: Path) -> None:
    write_records(tmp_path / "records.jsonl", [])
    assert (tmp_path / "records.jsonl").read_bytes() == b""
    assert read_records(tmp_path / "records.jsonl") == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [RECORD])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_rows(path, [{"kl": 0.5}, {"kl": float("nan")}])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"score": float("nan")}, "score must be a number from 0 to 1, or None, not nan"),
        ({"score": float("inf")}, "score must be a number from 0 to 1, or None, not inf"),
        ({"score": True}, "score must be a number"),
        ({"measures": {"valid": float("nan")}}, "measures must be finite numbers by name, not {'valid': nan}"),
        ({"measures": {"valid": True}}, "measures must be finite numbers"),
        ({"measures": {1: 0.5}}, "measures must be finite numbers by name"),
        ({"measures": [0.5]}, "measures must be finite numbers by name"),
        ({"finish": ["stop"]}, "finish must be a tuple of 'stop' and 'length', not ['stop']"),
        ({"finish": ("stop", "eos")}, "finish must be a tuple of"),
        ({"step": -1}, "step must be an integer of 0 or more, not -1"),
        ({"scenario": 1.0}, "scenario must be an integer of 0 or more, not 1.0"),
        ({"arm": None}, "arm must be a string, not None"),
    ],
)
def test_a_record_that_could_not_be_read_back_is_not_made(wrong: dict[str, Any], complaint: str) -> None:
    for make in (lambda: Record(**{**vars(RECORD), **wrong}), lambda: replace(RECORD, **wrong)):
        with pytest.raises(ValueError, match=re.escape(complaint)):
            make()


def line(**changes: object) -> str:
    row = {name: getattr(RECORD, name) for name in RECORD.__dataclass_fields__} | changes
    return json.dumps({key: value for key, value in row.items() if value != "absent"})


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ('{"eval": "black', "not JSON"),
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        (line(score="yes"), "score must be a number from 0 to 1, or None, not 'yes'"),
        (line(score=True), "score must be a number from 0 to 1, or None"),
        (line(score=1.5), "score must be a number from 0 to 1, or None"),
        (line(step=-1), "step must be an integer of 0 or more, not -1"),
        (line(step=True), "step must be an integer"),
        (line(sample=1.0), "sample must be an integer"),
        (line(family=None), "family must be a string, not None"),
        (line(finish=["stop", "eos"]), "finish must be a tuple of 'stop' and 'length'"),
        (line(finish="stop"), "finish must be a tuple"),
        (line(measures={"valid": "1"}), "measures must be finite numbers by name"),
        (line(measures={"valid": 2.5}).replace("2.5", "1e999"), "measures must be finite numbers by name"),
        (line(measures={"valid": 10**400}), "measures must be finite numbers by name"),
        (line(measures={"valid": 2.5}).replace("2.5", "NaN"), "NaN is not JSON"),
        (line(tokens="absent"), "not a record: no tokens"),
        (line(mood="calm"), "not a record: unknown mood"),
        (line(sample=0), "the same episode as line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path: Path, bad: str, complaint: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(line(sample=0) + "\n" + bad + "\n" + line(sample=1) + "\n")
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        read_records(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: not JSON"):
        list(read_rows(tmp_path / "rows.jsonl"))


def test_line_separators_inside_text_do_not_end_a_line(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\x85c\r\nd"}, {"text": ""}]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert list(read_rows(tmp_path / "rows.jsonl")) == [(1, rows[0]), (2, rows[1])]
