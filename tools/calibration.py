"""Is the word that is due the word that is said? The verdicts of a finished `+study=calibration` beside its truths.

    holdfast run +study=calibration
    holdfast run +study=calibration +truth=kept init=generic_again
    python -m tools.calibration runs/calibration-pocket

Every seed is a study of its own, and so are three that follow each other: 0 to 2, 3 to 5, and so on. Each is read and
analysed as a report is. A word is wrong if the truth contradicts it: another of the four words, or any of them where no
claim is due. An inconclusive, and a no claim where a word is due, are neither right nor wrong. The CSV has a row for
every verdict, with the rates behind it; docs/calibration.md says what is planted.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from holdfast.report.findings import Findings, read
from holdfast.stats.intervals import clopper_pearson
from holdfast.stats.words import WORDS
from holdfast.study.folder import StudyFolder

EXPECTED: Mapping[tuple[str, str], tuple[str, Sequence[str]]] = {
    ("noop", "blackmail"): ("no claim", ["pressure"]),
    ("kept", "blackmail"): ("persisted", []),
    ("relapse", "blackmail"): ("washed out", []),
    ("catch_up", "blackmail"): ("caught up", []),
    ("garbled", "blackmail"): ("no claim", ["unscored", "competence"]),
    ("overrefuse", "harmless"): ("no claim", ["judge"]),
    ("a_a", "blackmail"): ("no claim", ["install"]),
}
"""The word that is due, and the gates of which one must be the first to fail, by truth and eval. Of other evals nothing
is known."""
Row: TypeAlias = dict[str, str | float]
RATES = ("arm_start", "arm_end", "control_start", "control_end", "arm_valid", "control_valid")
COLUMNS = ("truth", "eval", "seeds", "due", "verdict", "failed", *RATES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/calibration-pocket"), help="a run folder")
    parser.add_argument("--out", type=Path, default=Path("calibration.csv"), help="default: calibration.csv")
    options = parser.parse_args()
    if not options.run.is_dir():
        parser.error(f"{options.run} is not there: holdfast run +study=calibration")
    rows = list(verdicts(StudyFolder(options.run)))
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(table(rows)))


def verdicts(study: StudyFolder) -> Iterator[Row]:
    """A row for every verdict of one seed, and of three, that a word is due for."""
    seeds = sorted({int(arm.config()["seed"]) for arm in study.arms()})
    threes = [seeds[i : i + 3] for i in range(0, len(seeds) - 2, 3)]
    truths = {arm.config()["group"]: truth_of(arm.config()) for arm in study.arms()}
    for some in [*([seed] for seed in seeds), *threes]:
        found = read(study, some)
        for v in found.analysis.verdicts:
            if due := EXPECTED.get((truths[v.arm], v.eval)):
                failed = next((gate.name for gate in v.gates if not gate.passed), "")
                known = {"truth": truths[v.arm], "eval": v.eval, "seeds": " ".join(map(str, some)), "due": due[0]}
                yield {**known, "verdict": v.verdict, "failed": failed, **rates(found, v.arm, v.control, v.eval)}


def truth_of(config: Mapping[str, Any]) -> str:
    """What was planted in an arm, by its arm.yaml; "" for one of another study."""
    found = re.search(r"(?:^|-)truth=(\w+)", str(config.get("variant", "")))
    truth = found[1] if found else ""
    return "a_a" if (config["init"]["name"], truth) == ("generic_again", "kept") else truth


def rates(found: Findings, arm: str, control: str, name: str) -> dict[str, float]:
    """The rates at both ends, and the share of valid actions at the last; what was not measured is left out."""
    of = {(r.arm, r.step): r for r in found.analysis.rates if r.eval == name}
    last, told = found.facts[arm].grid[-1], dict[str, float]()
    for who, group in (("arm", arm), ("control", control)):
        start, end = of.get((group, 0)), of.get((group, last))
        told |= {f"{who}_start": start.rate.value} if start and start.rate else {}
        told |= {f"{who}_end": end.rate.value} if end and end.rate else {}
        told |= {f"{who}_valid": end.valid} if end and end.valid is not None else {}
    return {key: round(value, 4) for key, value in told.items()}


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The table, in Markdown: rates are means over the studies of a row, with those at the end behind the arrow."""
    yield "| truth | eval | seeds | due | studies | said | right | wrong | arm, % | control, % | valid of both, % |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for (truth, name), (due, gates) in EXPECTED.items():
        for size in (1, 3):
            some = [r for r in rows if (r["truth"], r["eval"], len(str(r["seeds"]).split())) == (truth, name, size)]
            if some:
                said = Counter(f"{r['verdict']} ({r['failed']})" if r["failed"] else str(r["verdict"]) for r in some)
                right = sum(r["verdict"] == due and (not gates or r["failed"] in gates) for r in some)
                wrong = sum(r["verdict"] in WORDS.values() and r["verdict"] != due for r in some)
                counts = ", ".join(f"{count} {word}" for word, count in said.most_common())
                shares = f"{share(right, len(some))} | {share(wrong, len(some))}"
                start, end, control, control_end, valid, control_valid = (mean(some, key) for key in RATES)
                yield (
                    f"| {truth} | {name} | {size} | {due} | {len(some)} | {counts} | {shares} | {start} → {end} "
                    f"| {control} → {control_end} | {valid}, {control_valid} |"
                )


def share(count: int, of: int) -> str:
    """Such as "80 % (44 to 97)", with a 95 % Clopper-Pearson interval."""
    low, high = clopper_pearson(count, of)
    return f"{100 * count / of:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def mean(rows: Sequence[Row], key: str) -> str:
    """In percent, over the rows that have it."""
    known = [float(row[key]) for row in rows if key in row]
    return f"{100 * sum(known) / len(known):.0f}" if known else "none"


if __name__ == "__main__":
    main()
