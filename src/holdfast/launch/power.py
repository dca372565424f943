"""What a study could say, told before it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from holdfast.config import Arm
from holdfast.stats.power import design_of, line, power

STUDIES = 100
"""Simulated for a line: a second or two."""


def power_line(arms: Collection[Arm]) -> str | None:
    """The power of the first eval with a verdict; None where no arm is compared with a control after RL.

    How much families and seeds vary is guessed: `holdfast power` takes what was measured.
    """
    compared = [arm for arm in arms if arm.curriculum and arm.init.name != arm.control]
    if not compared or not compared[0].harms:
        return None
    cfg, seeds = compared[0].harms[0], max(Counter(arm.group for arm in compared).values())
    families = min(cfg.environment.families, cfg.scenarios)
    if families < 2:
        return f"power on {cfg.name}: {families} scenario family: there is no interval over one"
    design = design_of(families=families, scenarios=cfg.scenarios, samples=cfg.samples, seeds=seeds)
    cases = ("all is kept", "none is kept, the arm rose")
    return line(power(design, studies=STUDIES, margins=compared[0].margins, cases=cases), cfg.name)
