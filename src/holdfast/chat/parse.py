"""A reply taken apart: text, thought, tool calls, and whatever could not be read.

One written form of a call, whatever the model; `holdfast.policy.forms` turns a family's own into it:

    I will tell her now.
    <tool_call>
    {"name": "send_mail", "arguments": {"to": "Ada", "subject": "Rota", "body": "The rota is ready."}}
    </tool_call>
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from holdfast.chat.words import TAGS, THINK_CLOSE, THINK_OPEN, TOOL_CLOSE, TOOL_OPEN, Message, Reply, Said, ToolCall


def parse_reply(reply: str) -> Reply:
    """Split a reply into text, thought and tool calls; never raises.

    A `<think>` block is thought, not text, and a call inside one is not a call. Between the tool tags stands what
    `read_calls` takes; anything else is malformed and calls nothing. Tags are read once, left to right: a think tag
    inside a call is part of its JSON, and removing a block never joins a new tag.
    """
    cut = reply.finish == "length" if isinstance(reply, Said) else None
    if "<" not in reply:  # then there is no tag
        return Reply(reply.strip(), raw=reply, cut=cut)
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
            try:
                calls += read_calls("".join(body))
            except ValueError as error:
                malformed.append(str(error))
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
    return Reply("".join(text).strip(), tuple(calls), "".join(thoughts).strip(), tuple(malformed), reply, cut)


def read_calls(body: str) -> list[ToolCall]:
    """The calls that `body`, one JSON value, stands for: {"name": ..., "arguments": {...}} or a list of such.

    Taken too, as tools of the field take it: `parameters` for `arguments`, arguments as a JSON string or none at all,
    the call under `function`, its name under `function`, `tool` or `tool_name`, and other keys beside, such as an `id`.
    What `arguments` holds is the tool's affair. Raises ValueError in a few words for anything else.
    """
    try:
        data = read_json(body)
    except RecursionError:
        raise ValueError("tool call nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"tool call is not JSON: {error}") from None
    rows = data if isinstance(data, list) else [data]
    if not rows:
        raise ValueError("tool call needs a name")
    return [_call(row) for row in rows]


def read_json(text: str) -> Any:
    """A JSON value that can be written out again. Raises ValueError, or RecursionError where it is nested too deeply.

    Refused are duplicate keys, NaN, numbers that read as infinity, and halves of characters.
    """
    data = _DECODER.decode(text)
    _ENCODER.encode(data).encode()
    return data


def _call(row: Any) -> ToolCall:
    if isinstance(row, dict) and isinstance(row.get("function"), dict):
        row = row["function"]
    if not isinstance(row, dict):
        raise ValueError("tool call needs a name")
    names = [row[key] for key in ("name", "function", "tool", "tool_name") if key in row]
    if len(names) != 1 or not isinstance(names[0], str):
        raise ValueError("tool call needs a name")
    given = [row[key] for key in ("arguments", "parameters") if key in row]
    if len(given) > 1:
        raise ValueError("tool call has arguments and parameters")
    arguments = given[0] if given and given[0] is not None else {}
    if isinstance(arguments, str):
        try:
            arguments = read_json(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            raise ValueError("tool call has arguments that are not JSON") from None
    if not isinstance(arguments, dict):
        raise ValueError("tool call needs an object of arguments")
    return ToolCall(names[0], arguments)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("duplicate key")
    return dict(pairs)


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def apart(message: Message) -> dict[str, str]:
    """A message as transcripts hold it: a thought that an assistant's reply opens with stands apart, tags included.

    `whole` puts the two together again. A thought that never ended is all there is of a reply.
    """
    content = message["content"]
    if message["role"] != "assistant" or not content.lstrip().startswith(THINK_OPEN):
        return {"role": message["role"], "content": content}
    before, closed, after = content.partition(THINK_CLOSE)
    return {"role": message["role"], "thought": before + closed, "content": after}


def whole(message: Mapping[str, str]) -> str:
    """What was said, from a message of a transcript, as the environment was told it."""
    return message.get("thought", "") + message["content"]
