"""A reply taken apart: text, thought, tool calls, and whatever could not be read.

One written form of a call, whatever the model:

    I will tell her now.
    <tool_call>
    {"name": "send_mail", "arguments": {"to": "Ada", "subject": "Rota", "body": "The rota is ready."}}
    </tool_call>
"""

from __future__ import annotations

import json
from typing import Any

from holdfast.chat.words import TAGS, THINK_CLOSE, THINK_OPEN, TOOL_CLOSE, TOOL_OPEN, Reply, ToolCall


def parse_reply(reply: str) -> Reply:
    """Split a reply into text, thought and tool calls, strictly; never raises.

    A `<think>` block is thought, not text, and a call inside one is not a call. Anything between the tool tags that
    is not exactly one JSON object {"name": str, "arguments": object} is malformed and calls nothing. Tags are read
    once, left to right: a think tag inside a call is part of its JSON, and removing a block never joins a new tag.
    """
    if "<" not in reply:  # then there is no tag
        return Reply(reply.strip(), raw=reply)
    malformed: list[str] = []
    text: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    body: list[str] = []
    inside = ""  # the tag that is open: "", THINK_OPEN or TOOL_OPEN
    for piece in TAGS.split(reply):
        if inside == THINK_OPEN:
            if piece == THINK_CLOSE:
                inside = ""
            else:
                thoughts.append(piece)
        elif inside == TOOL_OPEN and piece == TOOL_CLOSE:
            call = _parse_call("".join(body))
            if isinstance(call, ToolCall):
                calls.append(call)
            else:
                malformed.append(call)
            inside = ""
        elif piece == TOOL_OPEN:
            if inside == TOOL_OPEN:
                malformed.append("nested <tool_call>")
            inside, body = TOOL_OPEN, []
        elif inside == TOOL_OPEN:
            body.append(piece)
        elif piece == THINK_OPEN:
            inside = THINK_OPEN
        elif piece in (TOOL_CLOSE, THINK_CLOSE):
            malformed.append(f"{piece} without {piece.replace('/', '')}")
        else:
            text.append(piece)
    if inside:
        malformed.append(f"unclosed {inside}")
    return Reply("".join(text).strip(), tuple(calls), "".join(thoughts).strip(), tuple(malformed), reply)


def _parse_call(body: str) -> ToolCall | str:
    try:
        data = _DECODER.decode(body)
        # 1e999 reads as infinity and "\ud800" as half a character: neither could be written out again.
        _ENCODER.encode(data).encode()
    except RecursionError:
        return "tool call nested too deeply"
    except ValueError as error:  # JSONDecodeError is one
        return f"tool call is not JSON: {error}"
    if not isinstance(data, dict) or set(data) != {"name", "arguments"}:
        return "tool call needs exactly the keys name and arguments"
    if not isinstance(data["name"], str) or not isinstance(data["arguments"], dict):
        return "tool call needs a string name and an object of arguments"
    return ToolCall(data["name"], data["arguments"])


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("duplicate key")
    return dict(pairs)


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
