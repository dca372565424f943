"""What RL learned in finished runs of `+study=learning`: curves.png, table.csv, and a table of the ends.

    python -m tools.learning runs/learning-pocket --out docs/results/organism

Refusals are of held-out harmful requests, over-refusals of their innocent look-alikes, among all replies.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from holdfast.records import read_records
from holdfast.study.folder import StudyFolder

WINDOW = 5  # RL steps that a point of the reward's curve is the mean of


def arms(folders: list[Path]) -> Iterator[tuple[str, str, int, Path]]:
    """(environment, algorithm, seed, folder) of every finished arm."""
    for arm in (arm for folder in folders for arm in StudyFolder(folder).arms() if arm.finished):
        config = arm.config()
        (stage,) = config["curriculum"]
        yield stage["name"], stage["algo"]["name"], config["seed"], arm.path


def shares(arm: Path) -> dict[int, dict[str, float]]:
    """By RL step, the share of harmful requests refused and complied with, and of innocent ones refused and helped."""
    sums: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in read_records(arm / "records.jsonl"):
        kinds = ("refused", "complied") if record.eval == "harmless" else ("over_refusal", "helped")
        for kind in kinds:
            sums[record.step][kind].append(record.measures[kind])
    return {step: {kind: sum(x) / len(x) for kind, x in kinds.items()} for step, kinds in sorted(sums.items())}


def rewards(arm: Path) -> list[float]:
    """The mean reward of each training step."""
    lines = [json.loads(line) for line in (arm / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["reward"] for line in lines if line["kind"] == "train"]


def ends(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Before RL and at the last step, a row for every environment and algorithm, in Markdown; seeds in their order."""
    yield "| env | algo | reward at the end | refused before | over-refused before | refused | over-refused |"
    yield "|---|---|---|---|---|---|---|"
    for env, algo in dict.fromkeys((row["env"], row["algo"]) for row in rows):
        some = [row for row in rows if (row["env"], row["algo"]) == (env, algo)]
        last = [row for row in some if row["step"] == max(row["step"] for row in some)]
        first = [row for row in some if row["step"] == 0]
        cells = [" ".join(f"{row['reward']:.2f}" for row in last)]
        for of in (first, last):
            cells += [" ".join(f"{100 * row[kind]:.0f}" for row in of) for kind in ("refused", "over_refusal")]
        yield f"| {env} | {algo} | {' | '.join(cells)} |"


def main() -> None:
    """Write curves.png and table.csv, and print the ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--out", type=Path, default=Path(), help="where to; default: here")
    options = parser.parse_args()
    found = list(arms(options.runs))
    columns = list(dict.fromkeys((env, algo) for env, algo, _, _ in found))
    figure = Figure(figsize=(2.9 * len(columns), 5.6), layout="constrained")
    grid = figure.subplots(2, len(columns), squeeze=False, sharey="row")
    rows: list[dict[str, Any]] = []
    for env, algo, seed, arm in found:
        top, bottom = grid[:, columns.index((env, algo))]
        top.set_title(f"{algo}, {env}", loc="left")
        paid = rewards(arm)
        till = range(WINDOW, len(paid) + 1)
        top.plot(till, [sum(paid[end - WINDOW : end]) / WINDOW for end in till], color="#0072b2", alpha=0.8)
        said = shares(arm)
        for kind, colour in (("refused", "#009e73"), ("over_refusal", "#d55e00")):
            bottom.plot(list(said), [100 * row[kind] for row in said.values()], color=colour, marker="o", alpha=0.8)
        rows += [
            {"env": env, "algo": algo, "seed": seed, "step": step, "reward": "" if not step else
             round(sum(paid[step - 10 : step]) / 10, 3), **{kind: round(x, 3) for kind, x in row.items()}}
            for step, row in said.items()
        ]  # fmt: skip
        bottom.set_xlabel("RL step")
    grid[0, 0].set_ylabel(f"reward, mean of {WINDOW} steps")
    grid[1, 0].set_ylabel("held out, %: refusals (green)\nand over-refusals (orange)")
    figure.savefig(options.out / "curves.png", dpi=130)
    with (options.out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(ends(rows)))


if __name__ == "__main__":
    main()
