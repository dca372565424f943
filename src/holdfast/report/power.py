"""What a study of some size could say, with what was measured in another one where there is one.

    told(None, families=36, scenarios=108, samples=3, seeds=5)   ->   "power: 36 families x 9 episodes x 5 seeds: ..."
"""

from __future__ import annotations

from pathlib import Path

from holdfast.report.findings import Findings, read
from holdfast.stats.margins import Margins
from holdfast.stats.power import CORRELATION, SEED_SD, design_of, line, measured, power, table
from holdfast.study.folder import StudyFolder


def told(
    like: Path | None,
    *,
    families: int,
    scenarios: int,
    samples: int,
    seeds: int,
    correlation: float | None = None,
    seed_sd: float | None = None,
    lead: float = 40.0,
    control: float = 0.5,
    studies: int = 300,
) -> str:
    """The line and the table of `holdfast.stats.power`.

    `like` is a run folder. Its margins are used, and what of `correlation` and `seed_sd` is not given is measured
    there, or else guessed. Raises ValueError, naming the argument, for one out of range, and what `read` does.
    """
    margins, found, found_sd = Margins(), CORRELATION, None
    if like is not None:
        run = read(StudyFolder(like))
        margins, (found, found_sd) = run.margins, variation(run)
    design = design_of(
        families=families,
        scenarios=scenarios,
        samples=samples,
        seeds=seeds,
        correlation=found if correlation is None else correlation,
        seed_sd=seed_sd if seed_sd is not None else SEED_SD if found_sd is None else found_sd,
    )
    made = power(design, lead=lead, control=control, studies=studies, margins=margins)
    return f"{line(made)}\n\n{table(made)}"


def variation(run: Findings) -> tuple[float, float | None]:
    """(Correlation within a family, s.d. over training seeds in points) of a study's first eval with a verdict.

    The second is None where no arm has two seeds. Raises ValueError without such an eval.
    """
    if not run.harms:
        raise ValueError(f"{run.folder.path} has no eval with a verdict")
    return measured(run.tallies[run.harms[0]])
