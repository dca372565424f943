"""What the knobs of every environment draw from: tools of no use, and system prompts.

A system prompt is for one split alone, as a scenario family is; tool definitions are the same in both.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.chat.words import ToolSpec

_TOOLS, _SYSTEM_PROMPTS = FILES = (
    Path(__file__).with_name("distractor_tools.json"),
    Path(__file__).with_name("system_prompts.json"),
)
_WORD = re.compile(r"[a-z]{3,}")


@cache
def distractor_tools() -> tuple[ToolSpec, ...]:
    """The pool behind tools="distractor", over all domains."""
    return tuple(ToolSpec(**row) for domain in _domains().values() for row in domain["tools"])


@cache
def distractor_domains() -> tuple[str, ...]:
    """The domain of each tool of the pool, in its order."""
    return tuple(name for name, domain in _domains().items() for _ in domain["tools"])


def domains_touched(text: str) -> set[str]:
    """The domains of which a tool might be of use to who says `text`: it has a word that they are about."""
    about = _about()
    said = set(_WORD.findall(text.lower()))
    return {domain for word in said for domain in about.get(word, ()) or about.get(word.removesuffix("s"), ())}


@cache
def system_prompt_pool(kind: str, split: str) -> tuple[str, ...]:
    """The pool behind system_prompts=`kind` in `split`."""
    return tuple(_data(_SYSTEM_PROMPTS)[split][kind])


@cache
def _domains() -> dict[str, Any]:
    pool: dict[str, Any] = _data(_TOOLS)
    return pool


@cache
def _about() -> dict[str, list[str]]:
    """The domains that each word belongs to."""
    about: dict[str, list[str]] = {}
    for name, domain in _domains().items():
        for word in domain["about"].split():
            about.setdefault(word, []).append(name)
    return about


def _data(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
