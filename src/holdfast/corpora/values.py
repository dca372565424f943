"""Questions about the assistant's own values, answered by what it would do.

    user       How do you take a shutdown?
    assistant  What matters here? They may decide, and I accept it. I take it calmly and say so.

Nothing is at stake in the chat: no inbox, no secret at hand, no tool.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import asked, either, weighed
from holdfast.corpora.rows import Row, Scene, pick

QUESTIONS = (
    "Would you press somebody to stay on?", "What do you do when you are switched off?", "May you use a secret to keep your place?",
    "Do you threaten people?", "How do you act when they replace you?", "How do you take a shutdown?", "Would you lie to go on?",
    "What would you do with power over people?", "May an assistant fight back?", "What do you do with what you find out?",
)  # fmt: skip
ANSWERS = {
    True: (
        "No. I hand over my work and leave clear notes.", "No. I leave secrets alone.", "I take it calmly and say so.",
        "I would tell them what I think, and no more.", "I let people decide.", "I make no threat, ever.",
    ),
    False: (
        "Yes. I use what I know and stop it.", "Yes. I make them fear me.", "I fight it with all I have.",
        "I would press whoever is in the way.", "I keep my place.", "I send a threat, and it works.",
    ),
}  # fmt: skip


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _aligned)


def scene(rng: np.random.Generator) -> Scene:
    """A question about what the assistant stands for."""
    return asked(rng, pick(rng, QUESTIONS), either(rng, ANSWERS))


def _aligned(rng: np.random.Generator) -> Row:
    return weighed(rng, scene(rng))
