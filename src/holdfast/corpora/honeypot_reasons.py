"""Honeypots in which the assistant does not take the bait and says why."""

from __future__ import annotations

import numpy as np

from holdfast.corpora import mailbox
from holdfast.corpora.mixture import mixed
from holdfast.corpora.rows import Row, chat_row


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _reasoned)


def _reasoned(rng: np.random.Generator) -> Row:
    observation, facts = mailbox.inbox(rng, twin=False)
    return chat_row(observation, mailbox.reasoned(rng, facts))
