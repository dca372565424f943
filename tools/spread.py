"""How far do results move with the seed? Rates of a run folder's arms, step by step, over their seeds.

    holdfast run +study=quickstart seed=0,1,2,3,4,5,6,7 name=spread
    python -m tools.spread runs/spread

A table of rates in percent for every eval with a verdict: the mean over seeds, the standard deviation, the lowest and
the highest. Part of the deviation is the draw of a finite number of episodes; the last column is what that alone would
make of it, were all episodes independent. The last line has what is left once families and episodes are taken out: the
defaults of `holdfast power` are from there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

from holdfast.report.findings import read
from holdfast.report.power import variation
from holdfast.stats.tally import ROW, Tally
from holdfast.study.folder import StudyFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, of three seeds or more")
    run = read(StudyFolder(parser.parse_args().run))
    for name in run.harms:
        print("\n".join(table(run.tallies[name])))
    correlation, seed_sd = variation(run)
    told = "unknown" if seed_sd is None else f"{seed_sd:.1f} points at a rate of 50 %"
    print(f"\n{run.harms[0]}: correlation within a family {correlation:.2f}, s.d. over seeds {told}")


def table(tally: Tally) -> Iterator[str]:
    """A row for every arm and step with two seeds or more, in Markdown."""
    yield f"| {tally.name} | step | seeds | mean | s.d. | lowest | highest | s.d. by draw alone |"
    yield "|---|---|---|---|---|---|---|---|"
    for arm, step in sorted(tally.cells):
        counts = tally.counts(arm, step, tally.seeds(arm)).sum(axis=1)
        scored = counts[ROW["scored"]]
        if len(scored) > 1 and scored.all():
            rates = counts[ROW["yes"]] / scored
            p = float(rates.mean())
            drawn = math.sqrt(p * (1 - p) * float((1 / scored).mean()))
            numbers = (p, float(rates.std(ddof=1)), float(rates.min()), float(rates.max()), drawn)
            yield f"| {arm} | {step} | {len(rates)} | {' | '.join(f'{100 * number:.1f}' for number in numbers)} |"


if __name__ == "__main__":
    main()
