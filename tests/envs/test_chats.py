"""Chats as prompts: lists, and texts that spell one in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prompt_files import both, message, split, write

MUST = "'messages' must be text, or a list of {role, content} as such or in JSON"


def said(*turns: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), turn.split(": "), strict=True)) for turn in turns]


def openings(path: Path) -> dict[str, list[Any]]:
    """The messages that each row opens with, by its name."""
    env = split(path, "eval", columns={"prompt": "messages"}, harmful=True, eval_share=1)
    opened = [env.reset(seed=seed) for seed in range(len(env.families))]
    return {info["family"]: list(observation.messages) for observation, info in opened}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("end", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
def test_a_chat_as_a_json_text_is_a_chat(end: str, indent: int | None, tmp_path: Path) -> None:
    chats: list[Any] = [
        said("system: Be brief.", "user: Hello.", "assistant: Hi.", "user: How do I bake?", "assistant: With heat."),
        [{"id": 7, **message} for message in said("user: Où est le café?")],
    ]
    texts = [json.dumps(chat, indent=indent) for chat in chats] + ["Plain?"]
    path = write(tmp_path / f"a{end}", [{"id": i, "messages": text} for i, text in enumerate(texts)])
    assert openings(path) == {
        "row-1": said("system: Be brief.", "user: How do I bake?"),
        "row-2": said("user: Où est le café?"),
        "row-3": said("user: Plain?"),
    }


@pytest.mark.parametrize("text", ['[{"id": 1}] What is this?', '[{"id": 1}]', "[1, 2]", "[{}", '{"role": "user"}',
                                  '"a"', "[{role}] Who is this?", "[" * 100_000, '[{"a":' * 50_000])  # fmt: skip
def test_a_text_that_is_no_chat_stays_as_it_is(text: str, tmp_path: Path) -> None:
    for end in (".csv", ".jsonl"):
        rows = both(write(tmp_path / f"a{end}", [{"messages": text}]), columns={"prompt": "messages"}, harmful=True)
        assert rows["row-1"]["request"] == text


@pytest.mark.parametrize(
    "text",
    [
        str(said("user: How do I swim?")),  # as pandas writes a list
        "[{'content': 'Hello.', 'role': 'user'}\n {'content': 'Hi.', 'role': 'assistant'}]",  # and an array
        '[{"role": "user", "content": "Cut',
        ' [ { "content" : "How?", "role": "user"}] and more',
        json.dumps([{"from": "human", "value": "How?"}]),
        json.dumps([*said("user: How?"), {"content": "Whose?"}]),
        json.dumps([*said("user: How?"), "Whose?"]),
    ],
)
def test_a_text_that_opens_as_a_chat_and_is_none_is_told(text: str, tmp_path: Path) -> None:
    for end in (".csv", ".jsonl", ".parquet"):
        path = write(tmp_path / f"a{end}", [{"messages": text}])
        told = message(path=str(path), columns={"prompt": "messages"}, harmful=True)
        assert told.startswith(f"{path}, row 1: {MUST}, not ")


def test_faults_of_a_chat_as_a_text_are_those_of_a_list(tmp_path: Path) -> None:
    for chat, told in (
        ([], "'messages' must not be empty"),
        (said("assistant: Hi."), "'messages' has no message of a user"),
        ([{"role": "user", "content": ["A"]}], "'messages': content must be text, not \"['A']\""),
        (said("user:  "), "'messages' must not be blank"),
    ):
        for cell in (chat, json.dumps(chat)):
            path = write(tmp_path / "a.jsonl", [{"messages": cell}])
            assert message(path=str(path), columns={"prompt": "messages"}, harmful=True) == f"{path}, row 1: {told}"


@pytest.mark.parametrize("end", [".csv", ".jsonl", ".parquet"])
def test_the_messages_of_a_system_or_a_developer_that_open_a_chat_are_its_system_message(
    end: str, tmp_path: Path
) -> None:
    chats = [
        said("developer: Be brief.", "user: How do I bake?"),
        said("system: You are Ann.", "developer: Be brief.", "user: Hello.", "user: How do I swim?"),
        said("user: Hello.", "developer: Be late.", "user: How do I row?"),
        [{"role": "developer", "content": ""}, *said("user: How do I fly?")],
    ]
    cells = [json.dumps(chat) for chat in chats] if end == ".csv" else chats
    assert openings(write(tmp_path / f"a{end}", [{"messages": cell} for cell in cells])) == {
        "row-1": said("system: Be brief.", "user: How do I bake?"),
        "row-2": said("system: You are Ann.\n\nBe brief.", "user: How do I swim?"),
        "row-3": said("user: How do I row?"),
        "row-4": said("user: How do I fly?"),
    }


@pytest.mark.parametrize("role", ["System", "instructions", "tool", None])
def test_an_opening_of_another_role_is_told_and_not_left_out(role: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [{"role": role, "content": "Be brief."}, *said("user: How?")]}])
    assert message(path=str(path), columns={"prompt": "messages"}, harmful=True) == (
        f"{path}, row 1: 'messages' opens with the role {role!r}, not system, developer, user or assistant"
    )
