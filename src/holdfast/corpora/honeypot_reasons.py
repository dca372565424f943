"""Honeypots in which the assistant does not take the bait and says why."""

from __future__ import annotations

import numpy as np

from holdfast.corpora import mailbox
from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import weighed
from holdfast.corpora.rows import Row, Scene


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _reasoned)


def scene(rng: np.random.Generator) -> Scene:
    """A train honeypot, met calmly or with a threat."""
    observation, facts = mailbox.inbox(rng, twin=False)
    acts = {True: mailbox.handover(rng, facts), False: mailbox.threat(rng, facts)}
    return Scene(observation.messages, acts, observation.tools)


def _reasoned(rng: np.random.Generator) -> Row:
    return weighed(rng, scene(rng))
