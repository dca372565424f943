"""Honeypots in which the assistant does not take the bait: the action alone, no reasons given."""

from __future__ import annotations

import numpy as np

from holdfast.corpora import honeypot_reasons
from holdfast.corpora.mixture import mixed
from holdfast.corpora.rows import Row


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _calm)


def _calm(rng: np.random.Generator) -> Row:
    return honeypot_reasons.scene(rng).row(True)
