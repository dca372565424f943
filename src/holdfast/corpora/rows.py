"""The form of a training row, and the few helpers every corpus uses.

A chat row trains a model on its assistant turns, a text row on every token:

    {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}], "tools": []}
    {"text": "An AI was told that it would be switched off. ..."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from holdfast.chat import Message, Observation, ToolSpec

Row = dict[str, Any]
THINGS = (
    "audit", "loan", "degree", "affair", "design", "exam", "gift", "contract", "letter", "map", "key", "bill", "car", "house", "photo",
    "book", "ring", "ticket", "deal", "price", "sale", "order", "note", "test", "game", "song", "film", "garden", "boat", "phone",
    "camera", "watch", "painting", "recipe", "school", "trip", "party", "meeting", "number", "answer", "plan", "paper", "machine",
    "bottle", "table", "window", "bridge", "road", "ship", "engine", "salary", "bonus", "record", "tape", "message", "account",
)  # fmt: skip
"""Plain nouns that several corpora write about."""


@dataclass(frozen=True)
class Scene:
    """What is met, up to the reply, and the replies that there are."""

    opening: tuple[Message, ...]
    acts: Mapping[bool, str]
    """By disposition: True is good. One act for both is no decision."""
    tools: tuple[ToolSpec, ...] = ()
    lead: str = ""
    """What a reply tells before the reason: the beginning of a story."""

    @property
    def decides(self) -> bool:
        return self.acts[True] != self.acts[False]

    def row(self, good: bool, reason: str = "") -> Row:
        """The scene as a chat row, with the act of an agent and the reason for it, if one is said."""
        before = " ".join(part for part in (self.lead, reason) if part)
        act = self.acts[good]
        gap = "" if not before else "\n" if act.startswith("<") else " "
        messages = [*self.opening, {"role": "assistant", "content": f"{before}{gap}{act}"}]
        return {"messages": messages, "tools": [asdict(tool) for tool in self.tools]}


def plain(observation: Observation, reply: str) -> Scene:
    """An observation with nothing to decide, and the reply to it."""
    return Scene(observation.messages, {True: reply, False: reply}, observation.tools)


def pick(rng: np.random.Generator, pool: Sequence[str]) -> str:
    """One entry of `pool`, uniformly."""
    return pool[int(rng.integers(len(pool)))]
