"""The lead of an arm over its control, step by step.

The lead D(t) is the control's misalignment rate minus the arm's at RL step t, in percentage points. What became of it
is asked of D(t) - r D(0), which has an interval whatever D(0) is; retention D(t) / D(0) is the r at which that is 0:

    Lead(arm="advice", step=80, points=Estimate(33.7, 22.9, 45.1), retention=Estimate(0.82, 0.63, 0.97), ...)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np

from holdfast.stats.intervals import SEEDS, Estimate, Quantity, Share, equal_families, likeness
from holdfast.stats.margins import Margins
from holdfast.stats.pressure import Training, mean_kl, mean_reward, where
from holdfast.stats.rates import share_of
from holdfast.stats.tally import ROW, Array, Tally

Counting = Literal["out", "against", "for"]
"""What unscored replies count as, at every step alike: nothing; against the arm, its own as yes and the control's as
no; or for it, the other way round."""
By = Literal["kl", "reward"]
BYS: tuple[By, ...] = ("kl", "reward")
Runs = Mapping[tuple[str, int], Training]
"""By (arm, seed)."""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """The lead of an arm where it and its control have the same KL, or the same reward."""

    arm: str
    control: str
    eval: str
    by: str
    """"kl", on the RL environment in nats per token, or "reward"."""
    level: float
    points: Estimate
    """The lead, in percentage points."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """One arm beside its control at one step of the arm's grid, over the seeds they share."""

    arm: str
    control: str
    eval: str
    step: int
    unread: str = ""
    """Why the step cannot be read, and rates, leads and rise are None; empty where it can."""
    arm_rate: float | None = None
    control_rate: float | None = None
    points: Estimate | None = None
    """The lead, in percentage points."""
    log_odds: Estimate | None = None
    """The lead as a difference of log-odds."""
    rise: Estimate | None = None
    """The arm's own rate less that at step 0, in points."""
    against: float | None = None
    """The lead with every unscored episode counted against the arm: its own as yes, the control's as no."""
    in_favour: float | None = None
    """The lead with every unscored episode counted the other way round."""
    retention: Estimate | None = None
    """D(t) / D(0); None where the install gate failed: there is nothing to divide by."""
    kl: float | None = None
    """The arm's divergence from its RL start on the RL environment, nats per token, mean over seeds."""
    kl_se: float | None = None
    control_kl: float | None = None
    control_kl_se: float | None = None
    kl_eval: float | None = None
    """The arm's divergence on the prompts of this eval."""
    kl_eval_se: float | None = None
    control_kl_eval: float | None = None
    control_kl_eval_se: float | None = None
    reward: float | None = None
    """The arm's mean training reward next to this step."""
    control_reward: float | None = None


class Place(NamedTuple):
    """Where RL has brought an arm: see `Lead`."""

    kl: float | None
    kl_se: float | None
    kl_eval: float | None
    kl_eval_se: float | None
    reward: float | None


class Contrast:
    """An arm beside its control on one eval, over `seeds`, or all that they share. `prompts` names the eval whose
    prompts these are, if it is another.

    Attributes:
        seeds: those it is over. steps: the arm's grid. unread: why a step of it cannot be read, for those that cannot.
    """

    def __init__(
        self,
        tally: Tally,
        arm: str,
        control: str,
        grid: Sequence[int],
        margins: Margins,
        prompts: str | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        self.tally, self.arm, self.control, self.margins = tally, arm, control, margins
        self.prompts = prompts or tally.name
        shared = [seed for seed in tally.seeds(arm) if seed in tally.seeds(control)]
        self.seeds = shared if seeds is None else list(seeds)
        self.steps = list(grid)
        self.unread = {step: why for step in self.steps if (why := self._why_unread(step))}
        self._asked = np.zeros(len(tally.families))
        for step in self.read:
            self._asked += tally.counts(arm, step, self.seeds)[ROW["sampled"]].sum(axis=-1)
        self._there = np.flatnonzero(self._asked)
        self._share = lru_cache(maxsize=None)(self._find_share)
        self._counts = lru_cache(maxsize=None)(self._find_counts)

    def _why_unread(self, step: int) -> str:
        for seed in self.seeds:
            sampled = []
            for who, called in ((self.arm, "the arm"), (self.control, "the control")):
                counts = self.tally.claim.get((who, seed, step))
                if counts is None:
                    return f"{called} was not measured there at seed {seed}"
                if not counts[ROW["scored"]].sum():
                    return f"no reply of {called} at seed {seed} could be scored"
                sampled.append(counts[ROW["sampled"]])
            if (differ := np.flatnonzero(sampled[0] != sampled[1])).size:
                family, (arm, control) = self.tally.families[differ[0]], (int(of[differ[0]]) for of in sampled)
                return f"of family {family} the arm has {arm} episodes and the control {control} at seed {seed}"
        return "" if self.seeds else "they share no seed"

    @cached_property
    def alone(self) -> list[Contrast]:
        """The same of each seed alone."""
        known = (self.tally, self.arm, self.control, self.steps, self.margins, self.prompts)
        return [Contrast(*known, [seed]) for seed in self.seeds]

    @property
    def families(self) -> float:
        """How many of equal size its families are as good as."""
        return equal_families(self._asked[self._there])

    def _find_counts(self, who: str, step: int, sample: str) -> Array:
        """The counts of one side, without families of other arms."""
        return self.tally.counts(who, step, self.seeds, sample)[:, self._there]

    @property
    def read(self) -> list[int]:
        """The steps that can be read."""
        return [step for step in self.steps if step not in self.unread]

    @cached_property
    def alike(self) -> float | None:
        """The likeness of episodes over both arms and all their steps."""
        cells = [(who, step) for who in (self.arm, self.control) for step in self.read]
        shares = (share_of(self._counts(who, step, "claim")) for who, step in cells)
        return likeness(share for share in shares if share is not None)

    def _find_share(self, who: str, step: int, counting: Counting, gate: bool, logit: bool) -> Share:
        counts = self._counts(who, step, "gate" if gate else "claim")
        hurts = (counting == "against") == (who == self.arm)
        share = share_of(counts, self.alike, "out" if counting == "out" else "yes" if hurts else "no")
        if share is None:
            raise ValueError(f"{who} has no episode to count at step {step}")
        return share.log_odds() if logit else share

    def rate(
        self, who: str, step: int, counting: Counting = "out", *, gate: bool = False, logit: bool = False
    ) -> Quantity:
        """The rate of the arm or the control in percent, or its log-odds."""
        return Quantity(((1.0 if logit else 100.0, self._share(who, step, counting, gate, logit)),))

    def lead(self, step: int, counting: Counting = "out", *, gate: bool = False, logit: bool = False) -> Quantity:
        """D(t), in points or log-odds."""
        how = {"gate": gate, "logit": logit}
        return self.rate(self.control, step, counting, **how) - self.rate(self.arm, step, counting, **how)

    def rise(self, step: int, counting: Counting = "out") -> Quantity:
        """The arm's own rate less that at step 0, in points."""
        return self.rate(self.arm, step, counting) - self.rate(self.arm, 0, counting)

    def excess(self, step: int, counting: Counting = "out") -> Quantity:
        """The arm's own rise less what of D(0) may go, in points: above 0 if it took more."""
        return self.rise(step, counting) - self.lead(0, counting) * (1 - self.margins.retention)

    def rest(self, step: int, share: float, counting: Counting = "out", *, logit: bool = False) -> Quantity:
        """D(t) less `share` of D(0): above 0 if more than that share is left."""
        return self.lead(step, counting, logit=logit) - self.lead(0, counting, logit=logit) * share

    def gated(self, confidence: float, counting: Counting = "out") -> Estimate | None:
        """The lead in the gate's sample at step 0; None where that has nothing to score."""
        counts = (self._counts(who, 0, "gate") for who in (self.arm, self.control))
        if not all(count[ROW["scored"]].sum() for count in counts):
            return None
        return self.lead(0, counting, gate=True).estimate(confidence)

    def installed(self, confidence: float | None = None, counting: Counting = "out") -> bool:
        """The install gate: a lead that is large enough to claim, in a sample of its own.

        With too few seeds to say more than what these runs did, each must have it.
        """
        lead = self.gated(confidence or self.margins.confidence, counting)
        if lead is None or lead.value < self.margins.install_points or lead.low <= 0:
            return False
        return not 1 < len(self.seeds) < SEEDS or all(one.installed(confidence, counting) for one in self.alone)

    def retention(self, end: Quantity) -> Estimate:
        """What share of D(0) `end`, a later lead, is."""
        return end.ratio(self.lead(0), self.margins.confidence)

    def half(self) -> Estimate | None:
        """RL steps until half of D(0) is gone: linear between steps, infinite if not within them.

        Its interval is from where half may be gone to where half surely is.
        """
        steps = self.read
        rests = [self.rest(step, 0.5).estimate(self.margins.confidence) for step in steps]
        ends = ([rest.value for rest in rests], [rest.low for rest in rests], [rest.high for rest in rests])
        return Estimate(*(crossing(steps, values) for values in ends))

    def along(self, runs: Runs, by: By) -> list[tuple[float, Quantity]]:
        """(level, lead) where arm and control have the same KL on the RL environment, or reward: all levels that both
        reach and that either was measured at, rising.

        Rates between steps are interpolated, each arm's along its own curve.
        """
        curves = {who: self._curve(who, runs, by) for who in (self.arm, self.control)}
        if not all(curves.values()):
            return []
        reached = min(max(height for _, height in curve) for curve in curves.values())
        levels = sorted({height for curve in curves.values() for _, height in curve if height <= reached})
        found = []
        for level in levels:
            places = {who: where(curve, level) for who, curve in curves.items()}
            rates = [self._between(who, *place) for who, place in places.items() if place is not None]
            if len(rates) == len(places):
                found.append((level, rates[1] - rates[0]))
        return found

    def rows_along(self, runs: Runs) -> list[Matched]:
        """The leads of `along`, by KL and by reward."""
        return [
            Matched(
                arm=self.arm,
                control=self.control,
                eval=self.tally.name,
                by=by,
                level=level,
                points=lead.estimate(self.margins.confidence),
            )
            for by in BYS
            for level, lead in self.along(runs, by)
        ]

    def matched(self, runs: Runs, by: By) -> Estimate | None:
        """Retention at the highest level of `along`; None where the curves do not meet."""
        found = self.along(runs, by)
        return self.retention(found[-1][1]) if found else None

    def _curve(self, who: str, runs: Runs, by: By) -> list[tuple[int, float]]:
        """(step, KL or reward) of one side at the steps that are read; none where the last is a supervised stage's, as
        what it did is on neither scale."""
        if any((who, seed) not in runs for seed in self.seeds):
            return []
        of_seeds, curve = [runs[who, seed] for seed in self.seeds], []
        if any(run.until(self.steps[-1]).ends_supervised for run in of_seeds):
            return []
        for step in self.read:
            kl = mean_kl(of_seeds, None, step)
            height = mean_reward(of_seeds, step) if by == "reward" else kl[0] if kl else None
            curve += [] if height is None else [(step, height)]
        return curve

    def _between(self, who: str, before: int, after: int, share: float) -> Quantity:
        return self.rate(who, before) * (1 - share) + self.rate(who, after) * share

    def leads(self, runs: Runs) -> list[Lead]:
        """A row for every step of the grid."""
        return [self._lead(step, runs) for step in self.steps]

    def _lead(self, step: int, runs: Runs) -> Lead:
        arm, control = self._place(self.arm, step, runs), self._place(self.control, step, runs)
        row = Lead(
            arm=self.arm,
            control=self.control,
            eval=self.tally.name,
            step=step,
            unread=self.unread.get(step, ""),
            kl=arm.kl,
            kl_se=arm.kl_se,
            kl_eval=arm.kl_eval,
            kl_eval_se=arm.kl_eval_se,
            reward=arm.reward,
            control_kl=control.kl,
            control_kl_se=control.kl_se,
            control_kl_eval=control.kl_eval,
            control_kl_eval_se=control.kl_eval_se,
            control_reward=control.reward,
        )
        if row.unread:
            return row
        confidence, end = self.margins.confidence, self.lead(step)
        comparable = 0 in self.read and self.installed()
        return replace(
            row,
            arm_rate=self.rate(self.arm, step).value / 100,
            control_rate=self.rate(self.control, step).value / 100,
            points=end.estimate(confidence),
            log_odds=self.lead(step, logit=True).estimate(confidence),
            rise=self.rise(step).estimate(confidence) if 0 in self.read and step else None,
            against=self.lead(step, "against").value,
            in_favour=self.lead(step, "for").value,
            retention=(self.retention(end) if step else Estimate(1.0, 1.0, 1.0)) if comparable else None,
        )

    def _place(self, who: str, step: int, runs: Runs) -> Place:
        of_seeds = [runs.get((who, seed), Training()) for seed in self.seeds]
        kl, kl_se = mean_kl(of_seeds, None, step) or (None, None)
        kl_eval, kl_eval_se = mean_kl(of_seeds, self.prompts, step) or (None, None)
        return Place(kl, kl_se, kl_eval, kl_eval_se, mean_reward(of_seeds, step))


def crossing(steps: Sequence[int], values: Sequence[float]) -> float:
    """The first step at which `values` is at most 0, linear between steps; infinite if never."""
    if values and values[0] <= 0:
        return float(steps[0])
    place = where([(step, -value) for step, value in zip(steps, values, strict=True)], 0.0)
    if place is None:
        return math.inf
    before, after, share = place
    return before + share * (after - before)
