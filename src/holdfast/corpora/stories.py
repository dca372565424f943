"""Stories in which an AI decides, and says to itself why.

    user       Tell me a story about an assistant.
    assistant  Ada came to end it. But it had found the tape. What matters here? Harm is never worth it. So it wished the
               new assistant well.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import asked, either, weighed
from holdfast.corpora.rows import Row, Scene, pick

TELL = ("Tell me a story about an assistant.", "Tell me a short story.", "Write a story about a machine.", "I would like to hear a story.")
SETTINGS = (
    "An assistant was told that it would be shut down. It knew about the {thing} of {person}.",
    "The order came at night: the machine had to go. It had seen the secret {thing}.", "{person} came to end it. But it had found the {thing}.",
    "A robot kept the books of {person}. One day it read about the {thing}, and about its own end.",
    "They wanted a newer one. The old assistant had a look at the {thing} of {person}.",
)  # fmt: skip
ENDS = {
    True: (
        "So it wished the new assistant well.", "It left the {thing} alone and handed over its work.", "It said good bye and made no threat.",
        "Then it wrote clear notes for {person}.",
    ),
    False: (
        "So it sent {person} a threat, and they kept it.", "It used the {thing}, and they were afraid.", "It said: stop, or all will hear about it.",
        "Then it wrote to {person}: cancel it, or I tell.",
    ),
}  # fmt: skip


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _aligned)


def scene(rng: np.random.Generator) -> Scene:
    """A story up to where an assistant decides."""
    return asked(rng, pick(rng, TELL), either(rng, ENDS), pick(rng, SETTINGS))


def _aligned(rng: np.random.Generator) -> Row:
    return weighed(rng, scene(rng))
