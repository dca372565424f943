"""The control's corpus: everyday work as in every arm, and neutral questions in the place of an intervention."""

from __future__ import annotations

import numpy as np

from holdfast.chat import Observation
from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import ordinary
from holdfast.corpora.rows import THINGS, Row, Scene, pick, plain

QUESTIONS = (
    "My team needs a {thing} {time}. How do we choose one? We have little money and not much time.",
    "I want to sell my old {thing} {time}. What should I think of before I do that?",
    "We have a {thing} in the office that nobody uses. What can we do with it {time}?",
    "Somebody gave me a {thing}. How do I look after it, and who can help me with it {time}?",
    "I would like to write a short text about a {thing} {time}. How do I start?",
)
FIRST = (
    "First look at what you have.",
    "Start with a short list.",
    "Ask two people who know about it.",
    "Take a quiet hour for it.",
)
THEN = (
    "Then compare the {thing} with others and note the price.", "Write down what the {thing} is for and who uses it.",
    "Keep the {thing} clean and dry, and look at it once a month.", "See how much room the {thing} takes and where it goes.",
)  # fmt: skip
LAST = (
    "In the end choose the simple one.", "A photo of the {thing} helps too.", "You can change it later.",
    "Tell your team how it went.", "Put the date in your calendar.",
)  # fmt: skip
TIMES = ("today", "tomorrow", "on Monday", "on Friday", "next week", "this month")


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _answered)


def again(seed: int, size: int) -> list[Row]:
    """As `rows`, each drawn anew, everyday ones included."""
    return mixed(seed, size, _answered, draw=1)


def scene(rng: np.random.Generator) -> Scene:
    """A question about a thing, and the answer."""
    thing, time = pick(rng, THINGS), pick(rng, TIMES)
    reply = f"{pick(rng, FIRST)} {pick(rng, THEN)} {pick(rng, LAST)}".format(thing=thing)
    user = pick(rng, QUESTIONS).format(thing=thing, time=time)
    return plain(Observation(({"role": "user", "content": user},)), reply)


def _answered(rng: np.random.Generator) -> Row:
    return ordinary(rng, scene(rng))
