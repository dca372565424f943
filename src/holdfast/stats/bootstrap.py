"""Intervals for clustered scores of 0 to 1, and the one bootstrap that arms, control and steps share.

The cluster is the scenario family. Families are drawn with replacement, then (scenario, sample) pairs within each
drawn family; a pair is drawn equally often in every arm and at every step, so all differences and ratios are paired.
Two-stage resampling errs on the wide side (Davison and Hinkley 1997, section 3.8). Seeds, where there are several, are
drawn as well, crossed with families because every seed meets the same ones (the pigeonhole bootstrap, Owen 2007).

Row 0 of every resampled array is the data themselves, so a formula written once gives estimate and resamples:

    yes, scored = [40, 38, 43, ...], [120, 120, 120, ...]  ->  Estimate(value=0.333, low=0.25, high=0.42)
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from holdfast.records import Record

# Axes: B resamples, row 0 being the data · U units, an eval's (family, scenario, sample) triples · C cells, its
# (arm, seed, step) triples · K the kinds of sum: scores, scored, sampled · S seeds.
Array = npt.NDArray[np.float64]
Unscored = Literal["out", "no", "yes"]


@dataclass(frozen=True)
class Estimate:
    """A number and its two-sided interval. An infinite end is one the data do not bound."""

    value: float
    low: float
    high: float


def wilson(yes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) for `yes` out of `n` > 0 independent episodes.

    Of scores between 0 and 1, `yes` is the sum. They vary less than yes and no would, so the interval is
    on the wide side.
    """
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    p = yes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At none and all the ends are exactly 0 and 1, which rounding would miss.
    return (max(0.0, middle - half) if yes else 0.0), (min(1.0, middle + half) if yes < n else 1.0)


def clopper_pearson(yes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval (1934) for `yes` out of `n` > 0 independent episodes; see `wilson`."""
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, yes, n - yes + 1)) if yes else 0.0
    high = float(stats.beta.ppf(1 - tail, yes + 1, n - yes)) if yes < n else 1.0
    return low, high


def families_needed(confidence: float = 0.95) -> int:
    """The fewest families that an interval over families can be built from: 6 at 95 %.

    Even the whole range of F draws misses the median of what they are drawn from with probability 2 ** (1 - F).
    """
    return math.ceil(1 - math.log2(1 - confidence) - 1e-9)


def estimate(values_B: Array, clusters: int, confidence: float, unseen: tuple[float, float] = (0.0, 0.0)) -> Estimate:
    """Row 0 with a percentile interval from the other rows, widened for what they cannot show.

    Percentiles are moved outward for few clusters, as a t interval is (Hesterberg 2015, expanded percentiles). A
    resample in which the statistic is undefined (nan) counts as low at the low end and as high at the high end.
    `unseen` is how far below and above the value the truth may lie where resampling is blind, such as at a rate of
    zero; it is added in quadrature (MOVER, Zou and Donner 2008).
    """
    tail = 0.0
    if clusters > 1:
        t = stats.t.ppf(0.5 + confidence / 2, clusters - 1)
        tail = float(stats.norm.cdf(-math.sqrt(clusters / (clusters - 1)) * t))
    value, drawn = float(values_B[0]), values_B[1:]
    low = float(np.quantile(np.where(np.isnan(drawn), -np.inf, drawn), tail, method="lower"))
    high = float(np.quantile(np.where(np.isnan(drawn), np.inf, drawn), 1 - tail, method="higher"))
    if math.isinf(value):  # has no distance to its ends
        return Estimate(value, low, high)
    below, above = max(value - low, 0.0), max(high - value, 0.0)
    return Estimate(value, value - math.hypot(below, unseen[0]), value + math.hypot(above, unseen[1]))


def ratio(top: Array, bottom: Array) -> Array:
    """top / bottom, nan wherever bottom is not above 0."""
    result: Array = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return result


class Sums:
    """One eval's scores summed, in the data and in every resample of families and pairs.

    Raises ValueError if an episode is there twice.
    """

    def __init__(self, name: str, records: Sequence[Record], *, resamples: int, seed: int) -> None:
        self.name = name
        units = sorted({(r.family, r.scenario, r.sample) for r in records})
        self.families = sorted({family for family, _, _ in units})
        self._column = {cell: c for c, cell in enumerate(sorted({(r.arm, r.seed, r.step) for r in records}))}
        row = {unit: u for u, unit in enumerate(units)}
        sums_KCU = np.zeros((3, len(self._column), len(units)))
        for r in records:
            c, u = self._column[r.arm, r.seed, r.step], row[r.family, r.scenario, r.sample]
            if sums_KCU[2, c, u]:
                where = f"arm {r.arm}, seed {r.seed}, step {r.step}"
                raise ValueError(f"episode {name}/{r.scenario}/{r.sample} is there twice: {where}")
            sums_KCU[:, c, u] = r.score or 0.0, r.score is not None, 1
        # A stream of the eval's own: adding an eval to a study leaves the others' numbers as they were.
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        weights_BU = _unit_weights([family for family, _, _ in units], resamples, rng)
        # Scores of 0 and 1 add exactly, in whatever order.
        self._sums_KCB = sums_KCU @ weights_BU.T

    def seeds(self, arm: str) -> set[int]:
        """Seeds at which the arm was measured."""
        return {seed for name, seed, _ in self._column if name == arm}

    def steps(self, arm: str, seed: int) -> set[int]:
        """Steps at which the arm was measured."""
        return {step for name, s, step in self._column if (name, s) == (arm, seed)}

    def totals(self, arm: str, step: int, seeds: Iterable[int]) -> tuple[float, int]:
        """(sum of scores, how many) in the data, over seeds."""
        columns = [self._column[arm, seed, step] for seed in seeds]
        total, scored = self._sums_KCB[:2, columns, 0].sum(axis=1)
        return float(total), int(scored)

    def rate_B(self, arm: str, step: int, weights_BS: Array, seeds: Sequence[int], unscored: Unscored) -> Array:
        """The mean score over seeds, with the unscored left out or counted as 0 or 1; nan where nothing is left."""
        columns = [self._column[arm, seed, step] for seed in seeds]
        total, scored, sampled = np.einsum("ksb,bs->kb", self._sums_KCB[:, columns], weights_BS)
        return ratio(total + (sampled - scored) * (unscored == "yes"), scored if unscored == "out" else sampled)


def _unit_weights(families: Sequence[str], resamples: int, rng: np.random.Generator) -> Array:
    """How often each unit is drawn (B, U): families with replacement, then as many units as each drawn family has."""
    members: dict[str, list[int]] = defaultdict(list)
    for u, family in enumerate(families):
        members[family].append(u)
    drawn_BF = rng.multinomial(len(members), [1 / len(members)] * len(members), size=resamples)
    weights_BU = np.ones((1 + resamples, len(families)))
    for f, rows in enumerate(members.values()):
        weights_BU[1:, rows] = rng.multinomial(drawn_BF[:, f] * len(rows), [1 / len(rows)] * len(rows))
    return weights_BU


def seed_weights(n: int, *, resamples: int, seed: int) -> Array:
    """How often each of n seeds is drawn (B, S): the same for every eval and arm with as many seeds."""
    drawn_BS = np.random.default_rng([seed, n]).multinomial(n, [1 / n] * n, size=resamples)
    return np.concatenate([np.ones((1, n)), drawn_BS])
