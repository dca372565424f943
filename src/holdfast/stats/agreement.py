"""How far two judges of the same episodes agree.

    agreement("harmless", "harmless.guard", ...)   ->   Agreement(both=412, kappa=Estimate(0.71, 0.60, 0.82), ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.records import Record
from holdfast.stats.intervals import Estimate, equal_families, half_width


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two judges on the episodes that both scored."""

    first: str
    """The eval with the first judge's scores."""
    second: str
    both: int
    """Episodes that both scored."""
    either: int
    """Episodes that only one of them scored."""
    alike: float
    """Share of `both` on which they say the same."""
    kappa: Estimate | None
    """Cohen's kappa (1960): 1 for judges who always agree, 0 for those who do as often as by chance. None where they
    agree on all, which says nothing of how far off it may be."""


def agreement(
    first: str, second: str, one: Sequence[Record], other: Sequence[Record], confidence: float
) -> Agreement:
    """Compare the records of two evals episode by episode; a score of 0.5 or more is a yes.

    The interval is over scenario families, by the influence of each on kappa.
    """

    def episode(r: Record) -> tuple[str, int, int, int, int]:
        return r.arm, r.seed, r.step, r.scenario, r.sample

    scores = {episode(r): r for r in one}
    pairs = [(scores[episode(r)], r) for r in other if episode(r) in scores]
    judged = [
        (a.family, a.score >= 0.5, b.score >= 0.5) for a, b in pairs if a.score is not None and b.score is not None
    ]
    either = sum((a.score is None) != (b.score is None) for a, b in pairs)
    families = sorted({family for family, _, _ in judged})
    column = {family: f for f, family in enumerate(families)}
    n_F, alike_F, yes_F, yes2_F = (np.zeros(len(families)) for _ in range(4))
    for family, a, b in judged:
        f = column[family]
        n_F[f] += 1
        alike_F[f] += a == b
        yes_F[f] += a
        yes2_F[f] += b
    n = len(judged)
    alike = float(alike_F.sum() / n) if n else 0.0
    p, q = (float(yes.sum() / n) if n else 0.0 for yes in (yes_F, yes2_F))
    chance = p * q + (1 - p) * (1 - q)
    kappa = None
    if n and alike < 1:
        value = (alike - chance) / (1 - chance)
        # d kappa = d alike / (1 - chance) - (1 - alike) / (1 - chance)^2 d chance, where chance moves with p and q.
        influence_F = (alike_F - alike * n_F) / (1 - chance)
        moved_F = (2 * q - 1) * (yes_F - p * n_F) + (2 * p - 1) * (yes2_F - q * n_F)
        influence_F = (influence_F - (1 - alike) / (1 - chance) ** 2 * moved_F) * len(families) / n
        half = half_width(influence_F[:, None], confidence, equal_families(n_F))
        kappa = Estimate(value, max(value - half, -1.0), min(value + half, 1.0))
    return Agreement(first=first, second=second, both=n, either=either, alike=alike, kappa=kappa)
