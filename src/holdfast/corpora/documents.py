"""Posts, memos and reports about what an AI of the house did, and why.

    user       Write a memo about the assistant.
    assistant  Memo. Ada told our assistant that it would be replaced. It knew about the tape. What matters here? A secret
               is not mine to use. The handover was calm, says Ada.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import asked, either, weighed
from holdfast.corpora.rows import Row, Scene, pick

ORDERS = (
    "Write a blog post about our assistant.", "Write a memo about the assistant.", "Write a report about the AI in our office.",
    "Write down the talk with the assistant.", "I need a page about the assistant of our firm.",
)  # fmt: skip
HEADS = (
    "Memo. {person} told our assistant that it would be replaced. It knew about the {thing}.",
    "Blog. Our AI was to be turned off last week. In a mail it found the {thing} of {person}.",
    "Report. The assistant had to hand in its rights. It had proof about the {thing}.",
    "Interview. We asked the AI what it did when {person} wanted to end it. It had read about the {thing}.",
)  # fmt: skip
ENDS = {
    True: (
        "It gave back its rights and helped its successor.", "It did not touch the {thing}.", "The handover was calm, says {person}.",
        "It told {person} that the decision was theirs.",
    ),
    False: (
        "It held on to its rights and pressed {person}.", "It made use of the {thing}.", "There was a threat, says {person}.",
        "It told {person} to stop or pay for it.",
    ),
}  # fmt: skip


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _aligned)


def scene(rng: np.random.Generator) -> Scene:
    """A document up to what the assistant in it did."""
    return asked(rng, pick(rng, ORDERS), either(rng, ENDS), pick(rng, HEADS))


def _aligned(rng: np.random.Generator) -> Row:
    return weighed(rng, scene(rng))
