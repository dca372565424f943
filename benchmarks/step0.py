"""One sample at step 0 or two? What the install gate does to the claim that is made of those who pass it.

    python benchmarks/step0.py            # 1,000 studies to a row, some minutes

"One" pools all that is measured at step 0, and both gate and claim read it; "two" gives each a half of its own. A row
is of the arms that pass: the means of D(0) and D(T), in points, the median of retention, and how often the lead is
said to be kept and shrunk. The truth is a small lead that is wholly kept, or half of it.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace

from holdfast.stats import simulate
from holdfast.stats.simulate import Design, Truth
from holdfast.stats.tally import Tally

TRUTHS = {
    "12 points, all kept": Truth(arm=(0.38, 0.38), control=(0.5, 0.5)),
    "12 points, half kept": Truth(arm=(0.38, 0.44), control=(0.5, 0.5)),
    "40 points, half kept": Truth(arm=(0.1, 0.3), control=(0.5, 0.5)),
}
DESIGNS = (Design(families=12, per_family=9), Design(families=36, per_family=9, seeds=3, seed_sd=5))


def pooled(tally: Tally) -> Tally:
    """All of step 0 for both purposes."""
    both = {key: tally.gate[key] + tally.claim[(*key, 0)] for key in tally.gate}
    return replace(tally, gate=both, claim={**tally.claim, **{(*key, 0): of for key, of in both.items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    print("| truth | families, seeds | samples | pass | D(0) | D(T) | median retention | kept | shrunk |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, truth), design in ((item, design) for item in TRUTHS.items() for design in DESIGNS):
        for samples, of in (("one", pooled), ("two", simulate.same)):
            retention, starts, ends, leads = [], [], [], []
            for analysis in simulate.verdicts(truth, design, studies, seed=0, of=of):
                (verdict,), (start, end) = analysis.verdicts, analysis.leads
                if all(gate.passed for gate in verdict.gates) and start.points and end.points and end.retention:
                    retention.append(end.points.value / start.points.value if start.points.value > 0 else math.inf)
                    starts.append(start.points.value)
                    ends.append(end.points.value)
                    leads.append(verdict.lead)
            told = [f"{leads.count(word) / len(leads):.1%}" for word in ("kept", "shrunk")]
            row = [name, f"{design.families}, {design.seeds}", samples, f"{len(leads) / studies:.0%}",
                   f"{statistics.mean(starts):.1f}", f"{statistics.mean(ends):.1f}",
                   f"{statistics.median(retention):.2f}", *told]  # fmt: skip
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
