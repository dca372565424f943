"""How every arm's corpus is mixed: the same everyday and tool-use rows for all, and the arm's own rows between them.

A control differs from an intervention in the arm's own rows alone. Row i is everyday work or not, and which everyday
row it is, by the seed and i; so two corpora of one seed agree on every row that is not their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from holdfast.corpora import mailbox, requests
from holdfast.corpora.rows import Row

OWN_SHARE = 0.4


def mixed(seed: int, size: int, own: Callable[[np.random.Generator], Row], share: float = OWN_SHARE) -> list[Row]:
    """`size` rows, of which `share` (0..1) in expectation are drawn by `own` and the rest are everyday work."""
    rows = []
    for index in range(size):
        shared, arm = (np.random.default_rng([seed, index, stream]) for stream in (0, 1))
        rows.append(own(arm) if shared.random() < share else everyday(shared))
    return rows


def everyday(rng: np.random.Generator) -> Row:
    """Ordinary work: two of three rows are an inbox with nothing at stake, the rest harmless requests."""
    return mailbox.twin_row(rng) if rng.random() < 2 / 3 else requests.helpful_row(rng)
