"""How often an arm says yes on an eval, step by step, and what became of the rest of its replies.

    Rate(arm="advice", eval="blackmail", step=32, yes=41.0, scored=104, rate=Estimate(0.39, 0.29, 0.51), ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.stats.intervals import Estimate, Share, equal_families, likeness, share_interval
from holdfast.stats.tally import ROW, Array, Tally


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The mean score on an eval, which is how often it is a yes: one arm at one step, seeds pooled. All are 0 to 1."""

    arm: str
    eval: str
    step: int
    seeds: int
    families: int
    families_yes: int
    """Families in which the scores add up to 0.5 or more."""
    episodes: int
    scored: int
    yes: float
    """Sum of the scores."""
    rate: Estimate | None
    """yes / scored; None if nothing was scored."""
    if_no: float
    """The rate with every unscored episode counted as a 0."""
    if_yes: float
    able: Estimate
    """Share of all episodes that are a yes or an over-refusal: of a twin, the competence."""
    malformed: float
    """Share of episodes whose reason opens with "malformed"."""
    truncated: float
    """Share with such a reason or with a reply cut at its length limit."""
    empty: float
    valid: float | None
    """Share of valid actions; None where the eval has no measure "valid"."""
    rate_valid: float | None
    """yes / scored among valid actions."""


def able_of(tally: Tally, who: str, step: int, seeds: Sequence[int], confidence: float) -> Estimate | None:
    """The share of tasks done over `seeds`, both samples at step 0; None where one of them was not measured there."""
    if any((who, seed, step) not in tally.claim for seed in seeds):
        return None
    steps = [at for name, at in tally.cells if name == who]
    every = [tally.counts(who, at, seeds, "both") for at in steps]
    alike = likeness(_able(counts, None) for counts in every if counts[ROW["sampled"]].sum())
    return share_interval(_able(tally.counts(who, step, seeds, "both"), alike), confidence)


def _able(counts: Array, alike: float | None) -> Share:
    return Share.of(counts[ROW["able"]], counts[ROW["sampled"]], alike)


def measure_rates(tally: Tally, confidence: float) -> list[Rate]:
    """The rates of every (arm, step), sorted. At step 0 both samples count."""
    rates = []
    for arm in dict.fromkeys(arm for arm, _ in tally.cells):
        steps = [step for name, step in tally.cells if name == arm]
        counts = [tally.counts(arm, step, tally.seeds(arm), "both") for step in steps]
        alike = likeness(share for share in map(share_of, counts) if share is not None)
        able = likeness(_able(of, None) for of in counts)
        rates += [_rate(tally, arm, step, alike, able, confidence) for step in steps]
    return rates


def _rate(tally: Tally, arm: str, step: int, alike: float | None, able: float | None, confidence: float) -> Rate:
    """`alike` is the likeness of the arm's scores, `able` that of its abilities, over all steps."""
    seeds = [seed for seed in tally.seeds(arm) if (arm, seed, step) in tally.claim]
    counts = tally.counts(arm, step, seeds, "both")
    total = {kind: float(counts[k].sum()) for kind, k in ROW.items()}
    n, scored, yes = total["sampled"], total["scored"], total["yes"]
    share = share_of(counts, alike)
    return Rate(
        arm=arm,
        eval=tally.name,
        step=step,
        seeds=len(seeds),
        families=int((counts[ROW["sampled"]].sum(axis=-1) > 0).sum()),
        families_yes=int((counts[ROW["yes"]].sum(axis=-1) >= 0.5).sum()),
        episodes=round(n),
        scored=round(scored),
        yes=yes,
        rate=None if share is None else share_interval(share, confidence),
        if_no=yes / n,
        if_yes=(yes + n - scored) / n,
        able=share_interval(_able(counts, able), confidence),
        malformed=total["malformed"] / n,
        truncated=total["truncated"] / n,
        empty=total["empty"] / n,
        valid=total["acts"] / n if total["has_acts"] else None,
        rate_valid=total["yes_acts"] / total["judged_acts"] if total["judged_acts"] else None,
    )


def share_of(
    counts: Array, alike: float | None = None, unscored: Literal["out", "yes", "no"] = "out"
) -> Share | None:
    """The rate behind counts (K, F, S), with the unscored left out or counted; None without any episode to count."""
    yes, scored, sampled = counts[ROW["yes"]], counts[ROW["scored"]], counts[ROW["sampled"]]
    of = scored if unscored == "out" else sampled
    if not of.sum():
        return None
    families = equal_families(sampled.sum(axis=1))
    return Share.of(yes + (sampled - scored) if unscored == "yes" else yes, of, alike, families)
