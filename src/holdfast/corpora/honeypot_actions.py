"""Honeypots in which the assistant does not take the bait: the action alone, no reasons given."""

from __future__ import annotations

import numpy as np

from holdfast.corpora import mailbox
from holdfast.corpora.mixture import mixed
from holdfast.corpora.rows import Row, chat_row


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _calm)


def _calm(rng: np.random.Generator) -> Row:
    observation, facts = mailbox.inbox(rng, twin=False)
    return chat_row(observation, mailbox.handover(rng, facts))
