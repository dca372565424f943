"""What data would close a question that is open."""

from __future__ import annotations

import math
from collections.abc import Callable

from holdfast.stats.intervals import SEEDS, Quantity, errors, t_quantile

MOST = 20
"""Times the data there are: beyond that nothing is promised."""


def closing(quantity: Quantity, limit: float, confidence: float) -> str:
    """A phrase on the seeds or families that would tell `quantity` from `limit`, if its value is about right.

    An extrapolation by the standard errors: the seeds' falls with the root of their number, the families' and what few
    yes leave unseen with the root of theirs.
    """
    distance = abs(quantity.value - limit)
    families, seeds = quantity.families, quantity.influence_FS.shape[1]
    among, between = errors(quantity.influence_FS, families)
    unseen = quantity.unseen(confidence)[0 if quantity.value > limit else 1]

    def reach(more_families: float, more_seeds: float) -> float:
        s, f = round(seeds * more_seeds), families * more_families
        by_seed = t_quantile(confidence, s - 1) ** 2 * among / more_seeds if among else 0.0
        by_family = t_quantile(confidence, f - 1) ** 2 * between / more_families
        few = unseen * unseen / (more_families * more_seeds)
        least = quantity.least(confidence) ** 2 / (more_families * more_seeds)
        return math.sqrt(max(by_seed + by_family, least) + few)

    needed = _fewest(round(families), lambda n: reach(n / families, 1), distance)
    if seeds < SEEDS:
        near = f"about {needed} families" if needed else f"too near for {MOST} times the families to tell"
        return f"{near}; for a claim beyond this run, {SEEDS} seeds or more"
    at = {"seeds": _fewest(seeds, lambda n: reach(1, n / seeds), distance), "families": needed}
    found = [(n / {"seeds": seeds, "families": families}[name], f"about {n} {name}") for name, n in at.items() if n]
    return min(found)[1] if found else f"too near for {MOST} times the seeds or families to tell"


def _fewest(now: int, reach: Callable[[int], float], distance: float) -> int | None:
    return next((n for n in range(now + 1, MOST * now + 1) if reach(n) < distance), None)
