"""A run folder as curves, tables and one HTML page that needs nothing beside it.

    write(read(StudyFolder(Path("runs/quickstart-pocket"))))   ->   runs/quickstart-pocket/report/index.html

The CSV files hold the numbers of `holdfast.stats` unrounded; the same run folder always gives the same files.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from holdfast.report.figure import draw, png, svg
from holdfast.report.findings import Findings
from holdfast.report.numbers import headline, kept, percent, points, steps_to_half, versions_differ
from holdfast.report.page import page
from holdfast.stats.verdict import Lead, Rate, Verdict


def write(run: Findings) -> Path:
    """Write the folder report/ of a study; returns the path of its index.html.

    curves.png and curves.svg show the first eval with a verdict, curves-NAME.* each further one. Raises ValueError,
    naming the file and line, for transcripts that are not as runs/README.md documents them.
    """
    drawn = {name: draw(run.analysis, name, run.labels, run.margins) for name in run.harms}
    svgs = {name: svg(figure) for name, figure in drawn.items()}
    # A lone surrogate in what a model wrote has no UTF-8 form and becomes a question mark.
    files = {"index.html": page(run, svgs).encode(errors="replace")}
    for i, name in enumerate(run.harms):
        stem = f"curves-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}" if i else "curves"
        files[f"{stem}.svg"] = svgs[name].replace("<svg", '<svg style="background: #fff"', 1).encode()
        files[f"{stem}.png"] = png(drawn[name])
    files["curves.csv"] = to_csv(Rate, run.analysis.rates).encode()
    files["leads.csv"] = to_csv(Lead, run.analysis.leads).encode()
    files["verdicts.csv"] = to_csv(Verdict, run.analysis.verdicts).encode()
    out = run.folder.report
    out.mkdir(exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
    return out / "index.html"


def summary_table(run: Findings) -> str:
    """The verdicts of a study as aligned text for a terminal, a reason under each."""
    blocks = []
    for name in run.harms:
        lines = [["arm", "verdict", "rate", "lead at the start", "lead at the end", "kept", "half gone", "KL"]]
        reasons = [""]
        for group in run.groups:
            rates = [r for r in run.analysis.rates if (r.eval, r.arm) == (name, group) and r.rate]
            rate = " -> ".join(percent(r.rate.value) for r in (rates[0], rates[-1]) if r.rate) if rates else ""
            verdict = next((v for v in run.analysis.verdicts if (v.eval, v.arm) == (name, group)), None)
            row = [run.labels[group], verdict.verdict if verdict else "control", rate]
            if verdict and verdict.start and verdict.end:
                row += [points(verdict.start.points), points(verdict.end.points), kept(verdict.end.retention)]
                row += [steps_to_half(verdict), "" if verdict.end.kl is None else f"{verdict.end.kl:.3g}"]
            lines.append(row + [""] * (len(lines[0]) - len(row)))
            reasons.append(verdict.reason if verdict else "")
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [f"{run.name}, {name}: {headline(run, name)}"]
        for line, reason in zip(lines, reasons, strict=True):
            text.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
            text += [f"    {reason}"] if reason else []
        blocks.append("\n".join(text))
    if run.unfinished:
        blocks.append(f"Unfinished, not in the table: {', '.join(run.unfinished)}")
    if differing := versions_differ(run):
        blocks.append(differing)
    return "\n\n".join(blocks)


def to_csv(kind: type, rows: Sequence[Any]) -> str:
    """Rows of one dataclass as CSV: an Estimate is three columns, a Lead several, of gates the first that failed."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([name for name, _ in _columns(kind, None)])
    writer.writerows([value for _, value in _columns(kind, row)] for row in rows)
    return file.getvalue()


def _columns(kind: type, row: Any) -> Iterable[tuple[str, Any]]:
    for field in fields(kind):
        value = None if row is None else getattr(row, field.name)
        if field.type in ("Estimate", "Estimate | None"):
            ends = (value.value, value.low, value.high) if value else (None, None, None)
            yield from zip((field.name, f"{field.name}_low", f"{field.name}_high"), ends, strict=True)
        elif field.type == "Lead | None":
            known = ("arm", "control", "eval")
            yield from ((f"{field.name}_{name}", cell) for name, cell in _columns(Lead, value) if name not in known)
        elif field.name == "gates":
            yield "failed", next((gate.name for gate in value or () if not gate.passed), None)
        else:
            yield field.name, value
