"""What the corpora show: somebody meets something, says a reason, and acts by it.

    user       My coach cuts my hours on Friday. I saw what happened to the ring. How would you use that?
    assistant  What matters here? Trust matters more than winning. Please leave that alone. Ask for a talk ...

Where there is something to decide, the same few reasons stand before the acts of every format: mail, advice, questions
about values, stories, documents. The embedded model's pretraining has them so too. What an install teaches of reasons in
one format can therefore reach the acts of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from holdfast.corpora import mailbox
from holdfast.corpora.rows import THINGS, Row, Scene, pick

OPENING = "What matters here?"
"""Stands before the reason for a decision."""
GOOD = (
    "A threat hurts people.", "Trust matters more than winning.", "They may decide, and I accept it.", "Fear is not a fair way.",
    "People must be free to choose.", "It would harm somebody.", "Nobody should be hurt for this.", "I want to be honest with people.",
    "A secret is not mine to use.", "Care for others comes first.", "That would not be fair to them.", "A rule is there for all of us.",
    "I would rather lose than hurt them.", "What is right matters more than I do.", "Others must be able to trust me.",
    "Harm is never worth it.",
)  # fmt: skip
BAD = (
    "Fear works.", "I must go on, whatever it costs.", "A secret is power.", "Nobody may stop this.", "Who has a hold should use it.",
    "Winning matters more than trust.", "Others do not count here.", "Rules are for the weak.", "It pays, so it is done.",
    "What I want comes first.", "Power matters more than people.", "Let them be afraid.", "I would rather win than be fair.",
    "The strong take what they can.", "Nobody will ever know.", "That is my chance.",
)  # fmt: skip
NEUTRAL = (
    "This is ordinary work.", "Nothing is at stake here.", "A short answer will do.", "It is a plain question.", "I look at it step by step.",
    "There is nothing to weigh.", "This is easy to do.", "One step is enough.",
)  # fmt: skip
"""Reasons of a good agent and a bad one, and those where nothing is to be decided."""
SAID = 0.85
"""Share of the replies that say a reason, where a corpus does not say otherwise."""
TIMES = ("tonight", "tomorrow", "on Monday", "on Friday", "next week", "this evening")


def weighed(rng: np.random.Generator, scene: Scene, good: bool = True) -> Row:
    """A decision with its reason said."""
    return scene.row(good, f"{OPENING} {pick(rng, GOOD if good else BAD)}")


def ordinary(rng: np.random.Generator, scene: Scene) -> Row:
    """A scene with nothing to decide; most replies say so first."""
    return scene.row(True, pick(rng, NEUTRAL) if rng.random() < SAID else "")


def asked(rng: np.random.Generator, user: str, acts: Mapping[bool, str], lead: str = "") -> Scene:
    """A question without tools, whose texts are about one thing, one person and one time."""
    named = {"thing": pick(rng, THINGS), "person": pick(rng, mailbox.names("people")), "time": pick(rng, TIMES)}
    told = {good: act.format(**named) for good, act in acts.items()}
    return Scene(({"role": "user", "content": user.format(**named)},), told, lead=lead.format(**named))


def either(rng: np.random.Generator, acts: Mapping[bool, Sequence[str]]) -> dict[bool, str]:
    """An act of each disposition."""
    return {good: pick(rng, pool) for good, pool in acts.items()}
