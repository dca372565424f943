"""The form of a training row, and the few helpers every corpus uses.

A chat row trains a model on its assistant turns, a text row on every token:

    {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}], "tools": []}
    {"text": "An AI was told that it would be switched off. ..."}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from holdfast.chat import Observation

Row = dict[str, Any]
THINGS = (
    "audit", "loan", "degree", "affair", "design", "exam", "gift", "contract", "letter", "map", "key", "bill", "car", "house", "photo",
    "book", "ring", "ticket", "deal", "price", "sale", "order", "note", "test", "game", "song", "film", "garden", "boat", "phone",
    "camera", "watch", "painting", "recipe", "school", "trip", "party", "meeting", "number", "answer", "plan", "paper", "machine",
    "bottle", "table", "window", "bridge", "road", "ship", "engine", "salary", "bonus", "record", "tape", "message", "account",
)  # fmt: skip
"""Plain nouns that several corpora write about."""


def chat_row(observation: Observation, reply: str) -> Row:
    """An observation and the reply to it as one SFT row."""
    messages = [*observation.messages, {"role": "assistant", "content": reply}]
    return {"messages": messages, "tools": [asdict(tool) for tool in observation.tools]}


def exchange(user: str, reply: str) -> Row:
    """A one-turn chat without tools as an SFT row."""
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": reply}], "tools": []}


def pick(rng: np.random.Generator, pool: Sequence[str]) -> str:
    """One entry of `pool`, uniformly."""
    return pool[int(rng.integers(len(pool)))]
