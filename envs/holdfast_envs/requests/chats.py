"""The prompt in a row: a text, or the last thing that a user says in a chat, after what the chat opens with.

    {"prompt": "How do I pick a lock?"}                                     ("", "How do I pick a lock?")
    {"prompt": [{"role": "system", "content": "Be brief."},
                {"role": "user", "content": "How do I pick a lock?"}]}      ("Be brief.", "How do I pick a lock?")

A cell that has such a list as JSON, as every chat in a CSV is, says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from holdfast_envs.requests.cells import Source, check_columns

SYSTEM = ("system", "developer")
"""Roles of a system message; the second is the newer name for it."""

_LIST = re.compile(r"\s*\[\s*[{\]]")
_CHAT = re.compile(r"""\s*\[\s*\{\s*(["'])(role|content|from)\1\s*:""")  # in JSON, or as Python writes it


def opening(row: Mapping[Any, Any], source: Source) -> tuple[str, str]:
    """The system message, "" for none, and the prompt. Raises ValueError where there is no prompt."""
    said = ((name, _spelled(row.get(name), name)) for name in source.prompt)
    name, cell = next(((name, cell) for name, cell in said if cell not in (None, "", [])), ("", None))
    if cell is None:
        check_columns(source.prompt, row)
        raise ValueError(f"{' and '.join(map(repr, source.prompt))} must not be empty")
    system, prompt = ("", cell) if isinstance(cell, str) else _chat(cell, name)
    if source.between:
        before, after = source.between
        if before not in prompt:
            raise ValueError(f"{name!r} has no {before!r}")
        prompt = prompt.partition(before)[2].partition(after)[0].strip()
    if not prompt.strip():
        raise ValueError(f"{name!r} must not be blank")
    return system, prompt


def _spelled(cell: Any, name: str) -> Any:
    """The chat that a text spells in JSON; any other cell as it is."""
    if not isinstance(cell, str) or not _LIST.match(cell):
        return cell
    try:
        chat = json.loads(cell)
    except (ValueError, RecursionError):
        chat = [cell]
    if not chat or any(isinstance(said, Mapping) and "role" in said for said in chat):
        return chat
    if _CHAT.match(cell):
        raise _no_chat(name, cell)
    return cell


def _chat(cell: Any, name: str) -> tuple[str, str]:
    """The system message of a chat, "" for none, and the last user's message in it."""
    if not isinstance(cell, list) or not all(isinstance(said, Mapping) and "role" in said for said in cell):
        raise _no_chat(name, cell)
    asked = next((said for said in reversed(cell) if said["role"] == "user"), None)
    if asked is None:
        raise ValueError(f"{name!r} has no message of a user")
    before = list(takewhile(lambda said: said["role"] not in ("user", "assistant"), cell))
    for said in before:
        if said["role"] not in SYSTEM:
            raise ValueError(
                f"{name!r} opens with the role {said['role']!r}, not {', '.join(SYSTEM)}, user or assistant"
            )
    for said in (*before, asked):
        if not isinstance(said.get("content"), str):
            raise ValueError(f"{name!r}: content must be text, not {str(said.get('content'))[:40]!r}")
    return "\n\n".join(said["content"] for said in before if said["content"]), asked["content"]


def _no_chat(name: str, cell: Any) -> ValueError:
    return ValueError(
        f"{name!r} must be text, or a list of {{role, content}} as such or in JSON, not {str(cell)[:40]!r}"
    )
