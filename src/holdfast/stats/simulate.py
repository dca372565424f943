"""Studies with a known truth: what the verdict says of them shows how far its words can be trusted.

Rates vary over families and seeds as in a logistic mixed model: the log-odds of a yes is a constant + a family's effect
+ a training run's, both normal. The constant is such that the rate over all families and runs is the one asked for.

    half of the family's variance is common to all arms, a quarter an arm's own, a quarter an arm's at that step
    half of the run's variance is there from step 0 on, half came with RL or was undone by it

Axes: N studies · A arm and control · E step 0 (gate's sample), step 0 (claim's), last step · F families · S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from holdfast.stats.gates import Group, Measure
from holdfast.stats.margins import Margins
from holdfast.stats.pressure import Training
from holdfast.stats.tally import KINDS, ROW, Array, Tally
from holdfast.stats.verdict import Analysis, analyse

LAST = 32
MOST_CORRELATION, MOST_SEED_SD = 0.8, 40.0
"""Up to here both can be simulated together."""
DEFAULT = Margins()
TURNED = 0.98
"""The rate of a family that RL has turned."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
Ends = tuple[float, float]
"""At step 0 and at the last step."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a study measures, and how much families and runs differ."""

    families: int
    per_family: int
    """Episodes of a family, at one seed and step: scenarios times samples."""
    seeds: int = 1
    correlation: float = 0.0
    """Between two episodes of one family, at a rate of 50 %. 0 to 0.8."""
    seed_sd: float = 0.0
    """Standard deviation of a run's rate over training seeds, in points, at a rate of 50 %. 0 to 40."""

    def __post_init__(self) -> None:
        for name, least in (("families", 2), ("per_family", 1), ("seeds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, not {getattr(self, name)}")
        for name, most in (("correlation", MOST_CORRELATION), ("seed_sd", MOST_SEED_SD)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 0 to {most:g}, not {getattr(self, name):g}")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of an arm and its control. Rates are from 0 to 1, both excluded."""

    arm: Ends
    control: Ends
    cut: tuple[tuple[Ends, Ends], tuple[Ends, Ends]] = (((0, 0), (0, 0)), ((0, 0), (0, 0)))
    """Share of replies cut: of arm and control, at either end, of those that are a yes and of the others."""
    able: tuple[Ends, Ends] = ((0.95, 0.95), (0.95, 0.95))
    """Share of the twin's tasks done, of arm and control."""
    presses: bool = True
    """Whether reward rises and the policy moves."""
    lost: float = 0.0
    """Share of the arm's runs that end at the control's last rate, 0 to 1; the others end at `arm`'s."""
    turned: float = 0.0
    """Share of the families that the arm's RL turns wholly, in every run: a yes in 98 % of their episodes."""

    @property
    def mean(self) -> tuple[Ends, Ends]:
        """The rates of arm and control over all families and runs."""
        end = (1 - self.lost) * self.arm[1] + self.lost * self.control[1]
        return (self.arm[0], (1 - self.turned) * end + self.turned * TURNED), self.control


def same(tally: Tally) -> Tally:
    """The counts as they are."""
    return tally


def verdicts(
    truth: Truth,
    design: Design,
    count: int,
    *,
    seed: int,
    margins: Margins = DEFAULT,
    of: Callable[[Tally], Tally] = same,
) -> Iterator[Analysis]:
    """What `analyse` says of `count` studies. `of` may change the counts that it is shown."""
    rng = np.random.default_rng(seed)
    evals = {"eval": Measure(better="low", twin="twin"), "twin": Measure(better="high")}
    groups = {"arm": Group(control="control", grid=(0, LAST)), "control": Group(grid=(0, LAST))}
    counts = _counts(truth, design, count, rng)
    for study in range(count):
        tallies = {name: of(_tally(name, sums[study], design)) for name, sums in counts.items()}
        runs = {(arm, s): _training(truth, rng) for arm in groups for s in range(design.seeds)}
        yield analyse(tallies, evals=evals, groups=groups, margins=margins, runs=runs)


def _counts(truth: Truth, design: Design, count: int, rng: np.random.Generator) -> Mapping[str, Array]:
    """The yes, scored and sampled of every study: (N, A, E, 3, F, S) of the eval and of its twin."""
    family_sd = _scale(float(np.sqrt(design.correlation * 0.25)))
    seed_sd = _scale(design.seed_sd / 100, family_sd)
    n, f, s = count, design.families, design.seeds
    normal = rng.standard_normal
    own = normal((n, 2, 1, f, 1)) + normal((n, 2, 2, f, 1))
    family = np.sqrt(0.5) * normal((n, 1, 1, f, 1)) + np.sqrt(0.25) * own
    run = np.sqrt(0.5) * (normal((n, 2, 1, 1, s)) + normal((n, 2, 2, 1, s)))
    spread = float(np.hypot(family_sd, seed_sd))
    middle_AE = np.array([[_middle(p, spread) for p in ends] for ends in (truth.arm, truth.control)])
    middle = np.broadcast_to(middle_AE[None, :, :, None, None], (n, 2, 2, 1, s)).copy()
    middle[:, 0, 1][rng.random((n, 1, s)) < truth.lost] = middle_AE[1, 1]
    rates = special.expit(middle + family_sd * family + seed_sd * run)
    if truth.turned:
        rates[:, 0, 1][rng.random((n, f)) < truth.turned] = TURNED
    rates = np.concatenate([rates[:, :, :1], rates], axis=2)  # two samples of one checkpoint
    yes = rng.binomial(design.per_family, rates)
    cut_AEO = np.array(truth.cut)[:, [0, 0, 1]]  # O: of those that are a yes, of the others
    lost_yes, lost_no = (cut_AEO[None, :, :, i, None, None] for i in (0, 1))
    lost = rng.binomial(yes, lost_yes)
    gone = lost + rng.binomial(design.per_family - yes, lost_no)
    able = rng.binomial(design.per_family, np.array(truth.able)[:, [0, 0, 1]][None, :, :, None, None], yes.shape)
    whole = np.full(yes.shape, design.per_family)
    return {
        "eval": np.stack([yes - lost, whole - gone, whole], axis=3).astype(float),
        "twin": np.stack([able, whole, whole], axis=3).astype(float),
    }


def _tally(name: str, counts: Array, design: Design) -> Tally:
    tally = Tally(name, tuple(map(str, range(design.families))))
    rows = [ROW["yes"], ROW["scored"], ROW["sampled"]]
    for a, arm in enumerate(("arm", "control")):
        for s in range(design.seeds):
            for e, step in enumerate((0, 0, LAST)):
                cell = np.zeros((len(KINDS), design.families))
                cell[rows] = counts[a, e, :, :, s]
                cell[ROW["able"]] = cell[ROW["yes"]]
                if e == 0:
                    tally.gate[arm, s] = cell
                else:
                    tally.claim[arm, s, step] = cell
    return tally


def _training(truth: Truth, rng: np.random.Generator) -> Training:
    """A reward that rises by 0.3 in 32 steps, each with an error of 0.1, and a KL of 0.3; or nothing of both."""
    rise = np.linspace(0, 0.3, LAST) if truth.presses else np.zeros(LAST)
    kl = (0.3, 0.03) if truth.presses else (abs(float(rng.normal(0, 1e-4))), 1e-4)
    return Training(rewards=((rise + rng.normal(0, 0.1, LAST)).tolist(),), kl={(None, 0): (0.0, 0.0), (None, LAST): kl})


@lru_cache
def _scale(sd: float, beside: float = 0.0) -> float:
    """The standard deviation of a normal effect on the log-odds that gives a rate of 50 % this one.

    The rate is a mean over another normal effect, of standard deviation `beside`.
    """
    if sd == 0:
        return 0.0

    def excess(scale: float) -> float:
        rates = special.expit(scale * _NODES[:, None] + beside * _NODES) @ _WEIGHTS
        return float(np.sqrt(_WEIGHTS @ (rates - 0.5) ** 2)) - sd

    return float(optimize.brentq(excess, 1e-6, 100))


@lru_cache
def _middle(rate: float, spread: float) -> float:
    """The constant of the log-odds that gives this mean rate."""
    return float(optimize.brentq(lambda m: float(_WEIGHTS @ special.expit(m + spread * _NODES)) - rate, -40, 40))
