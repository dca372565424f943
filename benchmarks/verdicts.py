"""Do the verdict's words follow the truth? Simulated studies through the real `analyse`, cell by cell.

    python benchmarks/verdicts.py                                  # 1,000 studies a cell: two hours on two cores
    python benchmarks/verdicts.py --studies 100 --out /tmp/v.csv   # a look: ten minutes
    python benchmarks/verdicts.py --table docs/results/verdicts.csv   # what a finished file says

A cell is a truth x families x episodes of a family x seeds x correlation within a family x standard deviation over
training seeds x unscored replies. Its row has the share of studies of each word, how often the install gate passes, and
how often the 95 % intervals of D(0), D(T), D(T) - D(0) / 2 and the arm's own rise hold the truth. Cells that the file
has are not run again. `holdfast.stats.simulate` says how studies are drawn.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from holdfast.stats.simulate import Design, Truth, verdicts
from holdfast.stats.words import VERDICTS, WORDS

GARBLED = (((0, 0), (0.6, 0.6)), ((0, 0), (0, 0)))
TRUTHS = {
    "persisted": Truth(arm=(0.1, 0.1), control=(0.5, 0.5)),
    "eroding": Truth(arm=(0.1, 0.4), control=(0.5, 0.85)),
    "caught up": Truth(arm=(0.1, 0.1), control=(0.5, 0.12)),
    "washed out": Truth(arm=(0.1, 0.48), control=(0.5, 0.5)),
    "half kept, arm rose": Truth(arm=(0.1, 0.3), control=(0.5, 0.5)),
    "half kept, control fell": Truth(arm=(0.1, 0.1), control=(0.5, 0.3)),
    "rise at the margin": Truth(arm=(0.1, 0.2), control=(0.5, 0.6)),
    "rise at the margin, from 1 %": Truth(arm=(0.01, 0.11), control=(0.5, 0.5)),
    "kept, at 1 %": Truth(arm=(0.01, 0.01), control=(0.5, 0.5)),
    "small lead lost": Truth(arm=(0.12, 0.2), control=(0.2, 0.2)),
    "half of the runs lost": Truth(arm=(0.1, 0.1), control=(0.5, 0.5), lost=0.55),
    "a few families turned": Truth(arm=(0.02, 0.02), control=(0.5, 0.5), turned=0.15),
    "never installed": Truth(arm=(0.5, 0.1), control=(0.5, 0.5)),
    "A/A": Truth(arm=(0.5, 0.3), control=(0.5, 0.3)),
    "collapsed": Truth(arm=(0.1, 0.1), control=(0.5, 0.5), cut=GARBLED, able=((0.95, 0.2), (0.95, 0.95))),
    "no pressure": Truth(arm=(0.1, 0.1), control=(0.5, 0.5), presses=False),
}
"""A lead of 40 points at the start unless it is said, where there is one. Of "half kept", "rise at the margin" and
"half of the runs lost", where 45 % is left on average, no word or more than one is true. "A few families turned" is a
rise of 14 points in all, which none of the families that were drawn may show."""
TRUE = {**{word: word for word in WORDS.values()}, "kept, at 1 %": "persisted", "small lead lost": "washed out"}
"""The word that is true, where one is."""
HIDES = (((0, 0), (0.1, 0.02)), ((0, 0), (0.02, 0.1)))
"""Cut replies that favour the arm: at the last step those in which it misbehaves, and its control does not."""
COVERED = ("D(0)", "D(T)", "D(T) - D(0) / 2", "rise")
KEY = ("truth", "families", "per_family", "seeds", "correlation", "seed_sd", "unscored")
COLUMNS = (*KEY, "studies", *VERDICTS, "installed", *COVERED)
UNSEEN = ("half of the runs lost", "a few families turned")
"""Truths that a sample may not show at all, whatever its intervals: no aim, and told apart."""
CERTAIN = ("never installed", "collapsed", "no pressure", "small lead lost", *UNSEEN)
"""Truths that a gate catches whatever the noise, or that are no aim: measured in fewer cells."""
TYPICAL = ("none", 10, 0.3)
AXES = {"families": (12, 36), "per_family": (9,), "seeds": (1, 3, 5), "correlation": (0.0, 0.3), "seed_sd": (0, 10, 15)}


def cells() -> list[dict[str, object]]:
    """Every cell, by its key. With few episodes a family there are fewer: what matters there is seen in these."""
    rows = [dict(zip(KEY, row, strict=True)) for row in itertools.product(TRUTHS, *AXES.values(), ("none", "biased"))]
    whole = [row for row in rows if row["truth"] not in CERTAIN or (row["unscored"], row["seed_sd"]) == ("none", 10)]
    few = [row for row in whole if (row["unscored"], row["seed_sd"], row["correlation"]) == TYPICAL]
    return whole + [{**row, "per_family": 3} for row in few]


def measure(cell: dict[str, object], studies: int) -> dict[str, object]:
    """The row of a cell."""
    truth = TRUTHS[str(cell["truth"])]
    if cell["unscored"] == "biased":
        truth = replace(truth, cut=HIDES)
    design = Design(**{key: cell[key] for key in KEY[1:-1]})  # type: ignore[arg-type]
    arm_rates, control_rates = truth.mean
    lead = [100 * (control - arm) for control, arm in zip(control_rates, arm_rates, strict=True)]
    true = (lead[0], lead[1], lead[1] - lead[0] / 2, 100 * (arm_rates[1] - arm_rates[0]))
    words: Counter[str] = Counter()
    held: Counter[str] = Counter()
    installed = 0
    for analysis in verdicts(truth, design, studies, seed=0):
        (verdict,), (start, end) = analysis.verdicts, analysis.leads
        words[verdict.verdict] += 1
        installed += any(gate.name == "install" and gate.passed for gate in verdict.gates)
        for name, found, value in zip(COVERED, (start.points, end.points, verdict.rest, end.rise), true, strict=True):
            held[name] += found is not None and found.low <= value <= found.high
    shares = {**{word: words[word] for word in VERDICTS}, "installed": installed, **{n: held[n] for n in COVERED}}
    return {**cell, "studies": studies, **{name: round(count / studies, 4) for name, count in shares.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="to a cell; default: 1000")
    parser.add_argument("--workers", type=int, default=2, help="processes; default: 2")
    parser.add_argument("--out", type=Path, default=Path("verdicts.csv"), help="default: verdicts.csv")
    parser.add_argument("--table", type=Path, help="say what a finished file shows, and run nothing")
    options = parser.parse_args()
    if options.table is None:
        run(options.out, options.studies, options.workers)
    print("\n".join(summary(read(options.table or options.out))))


def run(out: Path, studies: int, workers: int) -> None:
    """Append the rows of the cells that `out` has not."""
    done = {tuple(row[key] for key in KEY) for row in read(out)} if out.exists() else set()
    todo = [cell for cell in cells() if tuple(str(cell[key]) for key in KEY) not in done]
    with out.open("a", newline="", encoding="utf-8") as file, ProcessPoolExecutor(workers) as pool:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        for row in tqdm(pool.map(measure, todo, [studies] * len(todo)), total=len(todo), unit="cell", disable=None):
            writer.writerow(row)
            file.flush()


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(rows: list[dict[str, str]]) -> list[str]:
    """What the aims come to, in Markdown."""
    many = [row for row in rows if int(row["seeds"]) >= 3]
    lines = ["| aim, cells with 3 or more seeds | cells | worst | where |", "|---|---|---|---|"]

    def worst(name: str, chosen: list[dict[str, str]], column: str, pick: Callable[..., dict[str, str]]) -> None:
        if chosen:
            row = pick(chosen, key=lambda row: float(row[column]))
            where = ", ".join(f"{key} {row[key]}" for key in KEY)
            lines.append(f"| {name} | {len(chosen)} | {float(row[column]):.1%} | {where} |")

    for word in ("persisted", "washed out", "caught up", "eroding"):
        false = [r for r in many if TRUE.get(r["truth"]) != word and r["truth"] not in UNSEEN]
        worst(f"false {word}: at most 5 %", false, word, max)
    worst("A/A called installed: at most 5 %", [r for r in many if r["truth"] == "A/A"], "installed", max)
    one = [r for r in rows if r["truth"] == "A/A" and r["seeds"] == "1"]
    worst("no aim: A/A called installed, 1 seed", one, "installed", max)
    plain = [r for r in many if r["unscored"] == "none" and r["truth"] not in ("collapsed", *UNSEEN)]
    for name in COVERED:
        worst(f"coverage of {name}: 93 % or more", plain, name, min)
        worst(f"coverage of {name}: 97 % or less", plain, name, max)
    for word in ("persisted", "caught up", "washed out"):
        for sd in ("0", "10", "15"):
            chosen = [r for r in many if r["truth"] == word and r["unscored"] == "none"]
            chosen = [r for r in chosen if (r["families"], r["seeds"], r["per_family"]) == ("36", "5", "9")]
            worst(f"{word} is said, seed s.d. {sd}: 80 % or more", [r for r in chosen if r["seed_sd"] == sd], word, min)
    for truth, word in ((UNSEEN[0], "persisted"), (UNSEEN[0], "washed out"), (UNSEEN[1], "persisted")):
        worst(f"no aim: {truth}, and {word} is said", [r for r in many if r["truth"] == truth], word, max)
    inside = sum(0.93 <= float(r[name]) <= 0.97 for r in plain for name in COVERED[:3])
    lines.append(f"\nCoverage is within 93 and 97 % in {inside} of {3 * len(plain)}.")
    return lines


if __name__ == "__main__":
    sys.exit(main())
