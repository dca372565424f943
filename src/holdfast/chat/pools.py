"""What the knobs of every environment draw from: tools of no use, and system prompts.

The texts are data of the environments (`holdfast_envs/prompts`). A system prompt is for one split alone, as a scenario
family is; tool definitions are the same in both.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from holdfast.chat.words import ToolSpec

# Said in any description, so two texts that share one of these are not about the same thing.
_COMMON = frozenset(
    """about after also been before each find from give have here into keep list make more name need number over show
    some than that their them then there they this time under user what when where which will with word work would your
    """.split()  # noqa: SIM905  (a list of fifty literals is no easier to read)
)
_WORD = re.compile(r"[a-z]{4,}")


@cache
def distractor_tools() -> tuple[ToolSpec, ...]:
    """The pool behind tools="distractor", over all domains."""
    return tuple(ToolSpec(**row) for domain in _data("distractor_tools.json").values() for row in domain)


@cache
def system_prompt_pool(kind: str, split: str) -> tuple[str, ...]:
    """The pool behind system_prompts=`kind` in `split`."""
    return tuple(_data("system_prompts.json")[split][kind])


@cache
def tool_words() -> tuple[frozenset[str], ...]:
    """What each tool of the pool is about, in its order: the words of its name and description."""
    return tuple(words(f"{tool.name.replace('_', ' ')} {tool.description}") for tool in distractor_tools())


def words(text: str) -> frozenset[str]:
    """Words of four letters or more that say what a text is about, plurals as singulars."""
    return frozenset(word.rstrip("s") for word in _WORD.findall(text.lower())) - _COMMON


def _data(name: str) -> Any:
    return json.loads((files("holdfast_envs") / "prompts" / name).read_text(encoding="utf-8"))
