"""Power before the run: what a study of a given size could say, if one guesses or has measured how much things vary.

    power(Design(families=36, per_family=9, seeds=5), lead=40)   ->   Power(smallest=24, said={"all is kept": ...}, ...)

The smallest lead follows from the intervals' formula; the probability of each word from simulated studies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from holdfast.stats.intervals import SEEDS, families_needed, t_quantile
from holdfast.stats.margins import Margins
from holdfast.stats.simulate import DEFAULT, MOST_CORRELATION, MOST_SEED_SD, Design, Truth, verdicts
from holdfast.stats.tally import ROW, Tally
from holdfast.stats.words import VERDICTS

WANTED = 0.8
"""The power that "smallest" asks for."""
CORRELATION, SEED_SD = 0.3, 10.0
"""Guesses, where nothing was measured: the correlation within a family, and the s.d. over training seeds in points."""


@dataclass(frozen=True)
class Power:
    """What a study of this design could say."""

    design: Design
    lead: float
    """The lead at step 0 that `said` is about, in points."""
    smallest: float
    """The smallest lead at step 0, in points, that passes the install gate with probability `WANTED`."""
    said: Mapping[str, Mapping[str, float]]
    """The probability of each word, by what is true."""
    studies: int
    """Simulated for each of `said`."""
    needed: int
    """The fewest families with which a word can be said."""


def design_of(
    *,
    families: int,
    scenarios: int,
    samples: int,
    seeds: int,
    correlation: float = CORRELATION,
    seed_sd: float = SEED_SD,
) -> Design:
    """The design of a study of this size, as a suite has it: `samples` of each of `scenarios`, over all families.

    Raises ValueError, naming the argument, for one that is out of range.
    """
    for name, value, least in (("families", families, 2), ("samples", samples, 1)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, not {value}")
    if scenarios < families:
        raise ValueError(f"scenarios must be at least as many as families, {families}, not {scenarios}")
    per_family = scenarios * samples // families
    return Design(families=families, per_family=per_family, seeds=seeds, correlation=correlation, seed_sd=seed_sd)


def truths(lead: float, control: float) -> dict[str, Truth]:
    """What may become of a lead in points, with the control's rate at step 0: 0 to 1."""
    gap = lead / 100
    arm = control - gap
    both = 0.7 * (1 - control)
    return {
        "all is kept": Truth(arm=(arm, arm), control=(control, control)),
        "all is kept, both rose": Truth(arm=(arm, arm + both), control=(control, control + both)),
        "half is kept, the arm rose": Truth(arm=(arm, arm + gap / 2), control=(control, control)),
        "half is kept, the control fell": Truth(arm=(arm, arm), control=(control, control - gap / 2)),
        "none is kept, the arm rose": Truth(arm=(arm, control), control=(control, control)),
        "none is kept, the control fell": Truth(arm=(arm, arm), control=(control, arm)),
    }


def power(
    design: Design,
    *,
    lead: float = 40.0,
    control: float = 0.5,
    studies: int = 300,
    margins: Margins = DEFAULT,
    cases: Iterable[str] | None = None,
) -> Power:
    """The power of a design, from `studies` simulated ones for each of `cases`: keys of `truths`, all without.

    Raises ValueError, naming the argument, for one out of range: a lead must have room below the control's rate.
    """
    if studies < 1:
        raise ValueError(f"studies must be 1 or more, not {studies}")
    if not 0.001 <= control <= 0.999:
        raise ValueError(f"control must be a rate from 0.001 to 0.999, not {control:g}")
    if not 0 < lead < 100 * control:
        raise ValueError(f"lead must be above 0 and below the control's rate, {100 * control:g} points, not {lead:g}")
    every = truths(lead, control)
    said = {}
    for case in every if cases is None else cases:
        words = Counter(a.verdicts[0].verdict for a in verdicts(every[case], design, studies, seed=0, margins=margins))
        said[case] = {word: words[word] / studies for word in VERDICTS}
    smallest, needed = smallest_lead(design, control, margins), families_needed(margins.confidence)
    return Power(design, lead, smallest, said, studies, needed)


def smallest_lead(design: Design, control: float = 0.5, margins: Margins = DEFAULT) -> float:
    """The smallest lead at step 0, in points, that passes the install gate with probability `WANTED`, or nearly.

    Of a rate p, a family's share of the variance is correlation p (1 - p), of which half is common to arm and control
    and cancels; see `holdfast.stats.simulate`. Infinite where no lead does.
    """
    f, s = design.families, design.seeds

    def needed(lead: float) -> float:
        spread = [p * (1 - p) for p in (control, control - lead / 100)]
        rest = sum((1 - design.correlation) * v / design.per_family for v in spread) / (f * s)
        families = sum(design.correlation * v / 2 for v in spread) / f
        runs = sum((design.seed_sd / 100 * v / 0.25) ** 2 for v in spread) / s
        if s < SEEDS:
            half = t_quantile(margins.confidence, f - 1) * math.sqrt(families + rest)
        else:
            seeds = t_quantile(margins.confidence, s - 1) ** 2 * (runs + rest)
            half = math.sqrt(seeds + t_quantile(margins.confidence, f - 1) ** 2 * families)
        return 100 * (half + float(special.ndtri(WANTED)) * math.sqrt(families + rest + runs))

    leads = np.arange(0.5, 100 * control, 0.5)
    found = next((lead for lead in leads if needed(lead) <= lead), math.inf)
    return max(float(found), margins.install_points)


def measured(tally: Tally) -> tuple[float, float | None]:
    """(correlation within a family, s.d. over training seeds in points at 50 %) in the runs of an eval.

    Both by analysis of variance, pooled over arms and steps, and no more than can be simulated. Without two families
    the first is a guess; the second is None there, and where no arm has two seeds.
    """
    similar, whole, seeds, scale = 0.0, 0.0, 0.0, 0.0
    for arm, step in tally.cells:
        of_seeds = tally.seeds(arm)
        counts = tally.counts(arm, step, of_seeds)
        yes_FS, n_FS = counts[ROW["yes"]], counts[ROW["scored"]]
        p = float(yes_FS.sum() / max(n_FS.sum(), 1))
        if not 0 < p < 1 or len(n_FS) < 2 or not (n_FS > 1).all():
            continue
        rates_FS = yes_FS / n_FS
        of = float(n_FS.mean())
        for s in range(len(of_seeds)):
            mean = float(rates_FS[:, s].mean())
            between = of * float(rates_FS[:, s].var(ddof=1))
            within = float((n_FS[:, s] * rates_FS[:, s] * (1 - rates_FS[:, s])).sum() / (n_FS[:, s] - 1).sum())
            if 0 < mean < 1:
                similar += (between - within) / of
                whole += (between - within) / of + within
        if len(of_seeds) > 1:
            rest_FS = rates_FS - rates_FS.mean(axis=1, keepdims=True) - rates_FS.mean(axis=0) + rates_FS.mean()
            within = float((rest_FS**2).sum()) / ((len(rates_FS) - 1) * (len(of_seeds) - 1))
            seeds += float(rates_FS.mean(axis=0).var(ddof=1)) - within / len(rates_FS)
            scale += (p * (1 - p) / 0.25) ** 2
    correlation = min(max(similar / whole, 0.0), MOST_CORRELATION) if whole else CORRELATION
    return correlation, min(100 * math.sqrt(max(seeds, 0.0) / scale), MOST_SEED_SD) if scale else None


def line(found: Power, name: str = "") -> str:
    """What a study could say of the eval `name`, in one line."""
    d = found.design
    size = f"{d.families} families x {d.per_family} episodes x {d.seeds} seed{'s' * (d.seeds != 1)}"
    told = f"power{f' on {name}' * bool(name)}: {size}: "
    if d.families < found.needed:
        return f"{told}every verdict is inconclusive: an interval takes {found.needed} families"
    kept = found.said["all is kept"]["persisted"]
    gone = found.said["none is kept, the arm rose"]["washed out"]
    least = f"from {found.smallest:.0f} points on" if math.isfinite(found.smallest) else "at no size there is room for"
    smooth = [(p * found.studies + 1) / (found.studies + 2) for p in (kept, gone)]  # 0 of 5 is not known to 0 points
    error = math.ceil(100 * max(math.sqrt(p * (1 - p) / found.studies) for p in smooth))
    return (
        f"{told}a lead passes the install gate in {WANTED:.0%} of studies {least}; one of {found.lead:g} points is "
        f"said to have persisted in {kept:.0%} if all is kept, and to be washed out in {gone:.0%} if the arm loses "
        f"it ({found.studies} simulated, ± {error} %; correlation {d.correlation:.2g}, seed s.d. "
        f"{d.seed_sd:.2g} points)"
    )


def table(found: Power) -> str:
    """The probability of each word as aligned text, a row for each truth."""
    lines = [["if", *VERDICTS]]
    lines += [[case, *(f"{words[word]:.0%}" for word in VERDICTS)] for case, words in found.said.items()]
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in lines)
