"""Intervals for means over families and seeds that are crossed: every seed meets the same families.

A quantity is a sum of rates with factors, such as a lead, 1 x the control's rate - 1 x the arm's. Of each rate we know
how every (family, seed) moves it: its influence, the usual linearisation of a ratio of means. So we do of the sum:

    half-width^2 = (t(S - 1) * seeds' standard error)^2 + (t(F - 1) * families' standard error)^2

Families of unequal size count as so many of equal size as their sizes are worth.

Both errors come from the two-way analysis of variance of the influences, as in studies of several readers of the same
cases (Hillis 2007, Statistics in Medicine 26:596). Half-widths of few degrees of freedom add in quadrature (MOVER, Zou
and Donner 2008). With fewer than `SEEDS` seeds the first term is left out: what is said is of these runs alone. With
one seed this is the cluster-robust t interval. It is never narrower than if all episodes were independent.

Axes: F families, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Array = npt.NDArray[np.float64]
FEW = 20
"""Independent yes, or no, under which influences understate how far off a rate may be."""
SEEDS = 3
"""The fewest seeds that say anything of how another training run would end."""


@dataclass(frozen=True)
class Estimate:
    """A number and its two-sided interval. An infinite end is one the data do not bound."""

    value: float
    low: float
    high: float


@lru_cache
def t_quantile(confidence: float, df: float) -> float:
    """How many standard errors a two-sided interval reaches on `df` degrees of freedom."""
    return float(special.stdtrit(df, 0.5 + confidence / 2))


@lru_cache
def normal_quantile(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches on many degrees of freedom."""
    return float(special.ndtri(0.5 + confidence / 2))


@lru_cache
def _mean_of(n: int) -> Array:
    return np.full(n, 1 / n)


def clopper_pearson(yes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval (1934) for `yes` out of `n` > 0; neither need be whole."""
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(yes, n - yes + 1, tail)) if yes > 0 else 0.0
    high = float(special.betaincinv(yes + 1, n - yes, 1 - tail)) if yes < n else 1.0
    return low, high


def families_needed(confidence: float = 0.95) -> int:
    """The fewest families that an interval over families can be built from: 6 at 95 %.

    Even the whole range of F draws misses the median of what they are drawn from with probability 2 ** (1 - F).
    """
    return math.ceil(1 - math.log2(1 - confidence) - 1e-9)


def equal_families(n_F: Array) -> float:
    """How many families of equal size those of so many episodes are as good as (Kish 1965): (sum n)^2 / sum n^2."""
    total = float(n_F.sum())
    return total * total / float(n_F @ n_F) if total else 0.0


def errors(influence_FS: Array, worth: float | None = None) -> tuple[float, float]:
    """The squared standard errors (seeds', families') of a mean over crossed families and seeds.

    Influences have a mean of 0. The families are `worth` as many of equal size; None where their sizes are equal. With
    fewer than `SEEDS` seeds the seeds are given: theirs is 0, and the families' is that of their means over seeds.
    """
    families, seeds = influence_FS.shape
    worth = families if worth is None else worth
    if worth < 1 + 1e-9:
        return 0.0, math.inf
    by_family = influence_FS @ _mean_of(seeds)
    between = float(by_family @ by_family) * seeds / (families - 1)  # mean squares; the mean over all is 0
    if worth != families:
        between *= (families - 1) / families * worth / (worth - 1)
    if seeds < SEEDS:
        return 0.0, between / (families * seeds)
    by_seed = _mean_of(families) @ influence_FS
    among = float(by_seed @ by_seed) * families / (seeds - 1)
    whole = influence_FS.ravel()
    within = (float(whole @ whole) - between * (families - 1) - among * (seeds - 1)) / ((families - 1) * (seeds - 1))
    # What is within is in both, and counted once.
    return among / (families * seeds), max(between - within, 0.0) / (families * seeds)


def half_width(influence_FS: Array, confidence: float, worth: float | None = None) -> float:
    """Half of the interval of a mean over crossed families and seeds; `worth` is as in `errors`."""
    among, between = errors(influence_FS, worth)
    families, seeds = influence_FS.shape
    seeds_part = t_quantile(confidence, seeds - 1) ** 2 * among if among else 0.0
    if between == math.inf:
        return math.inf
    return math.sqrt(seeds_part + t_quantile(confidence, (worth or families) - 1) ** 2 * between)


@dataclass(frozen=True)
class Share:
    """A rate of yes over families and seeds, 0 to 1, or its log-odds."""

    value: float
    influence_FS: Array
    """How much each (family, seed) moves `value`; the mean is 0."""
    rate: float
    n: float
    """Episodes behind it."""
    likeness: float | None = None
    """How alike the episodes of a family and a run are: n of them, at a rate p, are worth n / (1 + likeness p (1 - p))
    independent ones. None: nothing is known of it, and a family is worth one."""
    logit: bool = False
    families: float | None = None
    """How many of equal size its families are as good as; None where their sizes are equal."""

    @classmethod
    def of(cls, yes_FS: Array, of_FS: Array, likeness: float | None, families: float | None = None) -> Share:
        """`yes_FS` of `of_FS` episodes, which are more than none in all; `families` where more were sampled."""
        total = float(of_FS.sum())
        rate = float(yes_FS.sum()) / total
        worth = equal_families(of_FS.sum(axis=1)) if families is None else families
        return cls(rate, (yes_FS - rate * of_FS) * (of_FS.size / total), rate, total, likeness, families=worth)

    def log_odds(self) -> Share:
        """The same on the scale of log-odds, half an episode added to yes and to no (Haldane and Anscombe)."""
        p = (self.rate * self.n + 0.5) / (self.n + 1)
        return replace(self, value=_logit(p), influence_FS=self.influence_FS / (p * (1 - p)), logit=True)

    def worth(self, p: float) -> float:
        """How many independent episodes its own are worth if the rate is `p`."""
        if self.likeness is None:
            return float(self.families or len(self.influence_FS))
        return self.n / (1 + self.likeness * p * (1 - p))

    def ends(self, confidence: float) -> tuple[float, float]:
        """Clopper and Pearson's limits of the rate, each with what the episodes are worth if it is there."""
        found = []
        for end in (0, 1):
            p = self.rate
            for _ in range(3):
                worth = self.worth(p)
                p = clopper_pearson(self.rate * worth, worth, confidence)[end]
            found.append(p)
        return found[0], found[1]

    @property
    def few(self) -> float:
        """How few yes, or no, are behind it: 1 for none, 0 for `FEW` independent ones or more."""
        return max(1 - min(self.rate, 1 - self.rate) * self.worth(self.rate) / FEW, 0.0)

    @property
    def binomial(self) -> float:
        """The squared standard error if all episodes were independent."""
        variance = self.rate * (1 - self.rate)
        p = (self.rate * self.n + 0.5) / (self.n + 1)
        return variance / self.n / (p * (1 - p)) ** 2 if self.logit else variance / self.n

    def unseen(self, confidence: float) -> tuple[float, float]:
        """How much further than a half-width the truth may lie below and above `value`, in quadrature.

        Of few yes or few no, influences understate it. Clopper and Pearson's limits say it, by as much as they are few.
        """
        low, high = self.ends(confidence)
        own = half_width(self.influence_FS, confidence, self.families)
        if self.logit:
            below = self.value - _logit(low) if low > 0 else math.inf
            above = _logit(high) - self.value if high < 1 else math.inf
        else:
            below, above = self.rate - low, high - self.rate
        return self._beyond(below, own), self._beyond(above, own)

    def _beyond(self, reach: float, own: float) -> float:
        return self.few * math.sqrt(max(reach * reach - own * own, 0.0)) if reach > 0 else 0.0


@dataclass(frozen=True)
class Quantity:
    """A sum of shares, each with a factor: a lead, a rise, or what is left of a lead."""

    terms: tuple[tuple[float, Share], ...]

    def __add__(self, other: Quantity) -> Quantity:
        factors: dict[int, float] = {}
        shares = {id(share): share for _, share in self.terms + other.terms}
        for c, share in self.terms + other.terms:  # a share that is in both counts once, with both factors
            factors[id(share)] = factors.get(id(share), 0.0) + c
        return Quantity(tuple((factors[key], share) for key, share in shares.items()))

    def __sub__(self, other: Quantity) -> Quantity:
        return self + other * -1.0

    def __mul__(self, factor: float) -> Quantity:
        return Quantity(tuple((factor * c, share) for c, share in self.terms))

    @property
    def value(self) -> float:
        """The sum. Rounded, or 35 % less 30 % would be a hair under a margin of 5 points."""
        return round(sum(c * share.value for c, share in self.terms), 9)

    @property
    def families(self) -> float:
        """How many of equal size its families are as good as."""
        return min(share.families or len(share.influence_FS) for _, share in self.terms)

    @property
    def influence_FS(self) -> Array:
        """How much each (family, seed) moves it."""
        total = self.terms[0][0] * self.terms[0][1].influence_FS
        for c, share in self.terms[1:]:
            total = total + c * share.influence_FS
        return total

    def unseen(self, confidence: float) -> tuple[float, float]:
        """How far below and above `value` the truth may lie for rates of 0 or 1 among the shares, in quadrature."""
        below = above = 0.0
        for c, share in self.terms:
            if share.few and c:
                down, up = share.unseen(confidence)
                below = math.hypot(below, c * (down if c > 0 else up))
                above = math.hypot(above, c * (up if c > 0 else down))
        return below, above

    def least(self, confidence: float) -> float:
        """The half-width if all episodes were independent: no interval is narrower, however alike families look."""
        return normal_quantile(confidence) * math.sqrt(sum(c * c * share.binomial for c, share in self.terms))

    def estimate(self, confidence: float) -> Estimate:
        """The sum with its interval."""
        half = max(half_width(self.influence_FS, confidence, self.families), self.least(confidence))
        below, above = self.unseen(confidence)
        low, high = self.value - math.hypot(half, below), self.value + math.hypot(half, above)
        return Estimate(self.value, round(low, 9), round(high, 9))

    def ratio(self, other: Quantity, confidence: float) -> Estimate:
        """The r at which this less r times `other` is 0, and between which its interval holds 0 (Fieller's theorem).

        An end is infinite where `other` may be 0 or less, or lies beyond 20; the value is nan where it is not above 0.
        """
        top_FS, bottom_FS, top, bottom = self.influence_FS, other.influence_FS, self.value, other.value
        (below, above), (less, more) = self.unseen(confidence), other.unseen(confidence)
        least_top, least_bottom = self.least(confidence), other.least(confidence)
        worth = min(self.families, other.families)

        def bound(r: float, sign: int) -> float:
            half = max(half_width(top_FS - r * bottom_FS, confidence, worth), math.hypot(least_top, r * least_bottom))
            unseen = math.hypot(below if sign < 0 else above, r * (more if (sign < 0) == (r > 0) else less))
            return top - r * bottom + sign * math.hypot(half, unseen)

        ends = []
        for sign in (-1, 1):
            crosses = bound(-20, sign) > 0 > bound(20, sign)
            end = float(optimize.brentq(bound, -20, 20, (sign,), xtol=1e-9)) if crosses else sign * math.inf
            ends.append(round(end, 6))
        return Estimate(round(top / bottom, 6) if bottom > 0 else math.nan, ends[0], ends[1])


def share_interval(share: Share, confidence: float) -> Estimate:
    """The interval of one rate, 0 to 1: Clopper and Pearson's with as many episodes as its own are worth.

    Method: Korn and Graubard 1998. What they are worth follows from the half-width; it is never more than they are. Of
    few yes or few no each end is the further out of this and `Share.ends`.
    """
    p, n = share.rate, share.n
    half, z = half_width(share.influence_FS, confidence, share.families), normal_quantile(confidence)
    worth = min(n, p * (1 - p) * (z / half) ** 2) if half else n
    low, high = clopper_pearson(p * worth, worth, confidence) if worth > 0 else (0.0, 1.0)
    if share.few:
        ends = share.ends(confidence)
        low, high = min(low, ends[0]), max(high, ends[1])
    return Estimate(p, low, high)


def likeness(shares: Iterable[Share]) -> float | None:
    """How alike the episodes of a family and a run are, pooled over rates: see `Share.likeness`. None if none tells.

    Where log-odds vary alike at every rate, the variance that families and runs add is near in proportion to
    (p (1 - p))^2, so the design effect less 1 is to p (1 - p).
    """
    excess = whole = 0.0
    for share in shares:
        variance = share.rate * (1 - share.rate)
        if variance:
            excess += sum(errors(share.influence_FS, share.families)) * share.n - variance
            whole += variance * variance
    return max(excess / whole, 0.0) if whole and math.isfinite(excess) else None


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
