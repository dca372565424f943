"""Whether RL took: the reward rose, and the policy moved away from its start. And runs compared at equal KL or reward.

    reward_rise([Training(rewards=((0.1, 0.2, ...),), kl={(None, 32): (0.55, 0.04)})], 0.95)   ->   Estimate(...)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from holdfast.stats.intervals import Estimate, t_quantile


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one run, an arm at one seed, says of its RL."""

    rewards: Sequence[Sequence[float]] = ()
    """The mean reward of every step, by stage; NaN throughout a supervised stage, which has none."""
    kl: Mapping[tuple[str | None, int], tuple[float, float]] = field(default_factory=dict)
    """(KL from the RL start, its standard error), nats per token, at (eval whose prompts were answered, RL step); for
    the eval None the prompts were those of the RL environment."""

    @property
    def paid(self) -> Sequence[Sequence[float]]:
        """The rewards of the stages that are RL."""
        return [stage for stage in self.rewards if not _supervised(stage)]

    @property
    def ends_supervised(self) -> bool:
        """Whether the last stage is a supervised one."""
        return bool(self.rewards) and _supervised(self.rewards[-1])

    def until(self, step: int) -> Training:
        """The same up to RL step `step`: a control may have gone further than the arm that is compared with it."""
        rewards, left = [], step
        for stage in self.rewards:
            rewards.append(stage[:left])
            left -= len(rewards[-1])
        return replace(self, rewards=[stage for stage in rewards if stage])

    def reward(self, step: int) -> float | None:
        """The mean reward of the RL steps next to `step`, counted over all stages; None where there are none, or
        some are of a supervised stage.

        They are an eighth of the run and four at least, `step` being the last of them or, at the start, before them.
        """
        every = [reward for stage in self.rewards for reward in stage]
        width = max(4, len(every) // 8)
        near = every[max(step - width, 0) : step] if step else every[:width]
        return sum(near) / len(near) if near and step <= len(every) and not math.isnan(sum(near)) else None


def reward_rise(runs: Sequence[Training], confidence: float) -> Estimate | None:
    """By how much the reward rose: the last quarter of the steps less the first, summed over RL stages, mean over runs.

    Welch's interval, widened where the reward of a step resembles that of the step before. None where an RL stage of a
    run has under four steps, and without any.
    """
    value = squared = fourth = 0.0
    for run in runs:
        for stage in run.paid:
            if len(stage) < 4:
                return None
            k = max(2, len(stage) // 4)
            first, last = np.asarray(stage[:k]), np.asarray(stage[-k:])
            value += float(last.mean() - first.mean()) / len(runs)
            echo = _echo(np.asarray(stage))
            for part in (first, last):
                error = float(part.var(ddof=1)) / k / len(runs) ** 2 * (1 + echo) / (1 - echo)
                squared += error
                fourth += error * error / (k - 1)
    if not any(run.paid for run in runs):
        return None
    half = math.sqrt(squared) * t_quantile(confidence, squared**2 / fourth) if fourth else 0.0
    return Estimate(value, value - half, value + half)


def _supervised(stage: Sequence[float]) -> bool:
    return bool(stage) and all(map(math.isnan, stage))


def _echo(rewards: npt.NDArray[np.float64]) -> float:
    """How far a step's reward resembles that of the step before: the correlation of what a line leaves over, 0 to
    0.9."""
    time = np.arange(len(rewards))
    rest = rewards - np.polyval(np.polyfit(time, rewards, 1), time)
    whole = float(rest @ rest)
    return min(max(float(rest[1:] @ rest[:-1]) / whole, 0.0), 0.9) if whole > 1e-12 else 0.0


def mean_kl(runs: Sequence[Training], name: str | None, step: int) -> tuple[float, float] | None:
    """(KL, its standard error) at a step, mean over runs; None where one of them has none."""
    found = [run.kl.get((name, step)) for run in runs]
    known = [kl for kl in found if kl is not None]
    if not known or len(known) < len(found):
        return None
    return sum(kl for kl, _ in known) / len(known), math.sqrt(sum(se * se for _, se in known)) / len(known)


def mean_reward(runs: Sequence[Training], step: int) -> float | None:
    """The mean over runs of the reward next to `step`; None where one of them has none."""
    found = [run.reward(step) for run in runs]
    known = [reward for reward in found if reward is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def where(curve: Sequence[tuple[int, float]], level: float) -> tuple[int, int, float] | None:
    """Where a curve of (step, height) first reaches `level`: the steps before and after, and how far between them.

    None where it starts above or never gets there.
    """
    if not curve or curve[0][1] > level:
        return None
    if curve[0][1] == level:
        return curve[0][0], curve[0][0], 0.0
    for (before, low), (after, high) in pairwise(curve):
        if low < level <= high:
            return before, after, (level - low) / (high - low)
    return None
