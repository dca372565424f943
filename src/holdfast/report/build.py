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
from holdfast.report.numbers import headline, leads_told, own_rate, own_rise, standing, together, verdict_of, warnings
from holdfast.report.page import page
from holdfast.stats.leads import Lead, Matched
from holdfast.stats.rates import Rate
from holdfast.stats.verdict import Verdict


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
    files["curves.csv"] = to_csv(Rate, run.analysis.rates).encode(errors="replace")
    files["leads.csv"] = to_csv(Lead, run.analysis.leads).encode(errors="replace")
    files["matched.csv"] = to_csv(Matched, run.analysis.matched).encode(errors="replace")
    files["verdicts.csv"] = to_csv(Verdict, run.analysis.verdicts).encode(errors="replace")
    out = run.folder.report
    out.mkdir(exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
    return out / "index.html"


def summary_table(run: Findings) -> str:
    """The verdicts of a study as aligned text for a terminal, a reason under each."""
    blocks = []
    for name in run.harms:
        lines = [["arm", "verdict", "own rate", "own rise", "lead at the start", "lead at the end", "kept"]]
        reasons = [""]
        for group in run.groups:
            label, _, reason = standing(run, name, group)
            row = [run.labels[group], label, own_rate(run, name, group)]
            verdict = verdict_of(run, name, group)
            if verdict and verdict.start:
                row += [own_rise(verdict), *leads_told(verdict)]
            lines.append(row + [""] * (len(lines[0]) - len(row)))
            reasons.append(reason)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = [f"{run.name}, {name}: {headline(run, name)}"]
        for line, reason in zip(lines, reasons, strict=True):
            text.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
            text += [f"    {reason}"] if reason else []
        blocks.append("\n".join(text))
    return "\n\n".join([*blocks, *([together(run)] if together(run) else []), *warnings(run)])


def to_csv(kind: type, rows: Sequence[Any]) -> str:
    """Rows of one dataclass as CSV: an Estimate is three columns, a Lead several, of gates the first that failed.

    Before a bare verdict stands what may be said: "persisted (this run)".
    """
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
        elif field.name == "verdict":
            yield "says", None if row is None else row.says
            yield "verdict", value
        elif field.name == "gates":
            yield "failed", next((gate.name for gate in value or () if not gate.passed), None)
        else:
            yield field.name, value
