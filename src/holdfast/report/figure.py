"""The curves of one eval as small multiples: a column per arm, and three rows.

    rate against RL step, the control's behind it in grey · lead against RL step, with the margin · lead against KL

or, where no arm has a control, the rate alone.
Arms are told apart by their column, colours only repeat it (Okabe and Ito's palette). The SVG keeps text as text and
writes ink as one colour, so that a page can let it follow light and dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from holdfast.stats.verdict import Analysis, Estimate, Margins, Verdict

INK, QUIET = "#1b1f24", "#7d828a"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ACROSS = 4  # columns before a new band of rows
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a "$" in an arm's name is a dollar
    "svg.fonttype": "none",
    "svg.hashsalt": "holdfast",  # the same curves are the same file
}


def draw(analysis: Analysis, name: str, labels: Mapping[str, str], margins: Margins) -> Figure:
    """The curves of eval `name`. `labels` is what to call each arm."""
    with matplotlib.rc_context(STYLE):
        verdicts = [v for v in analysis.verdicts if v.eval == name and v.start is not None]
        if not verdicts:
            return _rates(analysis, name, labels)
        bands = max(1, math.ceil(len(verdicts) / ACROSS))
        across = min(max(len(verdicts), 1), ACROSS)
        figure = Figure(figsize=(0.9 + 2.75 * across, 0.3 + 6.3 * bands), layout="constrained")
        labels_at: dict[Any, list[tuple[float, str]]] = {}
        grid = figure.subplots(3 * bands, across, squeeze=False)
        for i in range(bands * across):
            band, column = divmod(i, across)
            panels = grid[3 * band : 3 * band + 3, column]
            if i >= len(verdicts):
                for axes in panels:
                    axes.set_axis_off()
                continue
            colour = PALETTE[i % len(PALETTE)]
            labels_at |= _column(panels, analysis, verdicts[i], labels[verdicts[i].arm], margins, colour)
        for row in range(3 * bands):
            _share_y(grid[row])
        for axes, texts in labels_at.items():
            _beside(axes, texts)
        for band in range(bands):
            for row, text in enumerate((f"{name}: yes, %", "lead, points", "lead, points")):
                grid[3 * band + row, 0].set_ylabel(text)
        return figure


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, without a background."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure) -> bytes:
    """The figure as a PNG on white, 200 dots per inch."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def _column(
    panels: Any, analysis: Analysis, verdict: Verdict, label: str, margins: Margins, colour: str
) -> dict[Any, list[tuple[float, str]]]:
    """Draw an arm's three panels. Returns what to write beside each, and at which height."""
    rate_axes, lead_axes, kl_axes = panels
    rate_axes.set_title(label, loc="left", fontweight="bold", pad=19)
    rate_axes.annotate(verdict.verdict, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points")
    beside: dict[Any, list[tuple[float, str]]] = {rate_axes: [], lead_axes: [], kl_axes: []}
    for arm, shade, text in ((verdict.control, QUIET, "control"), (verdict.arm, colour, "arm")):
        rows = [r for r in analysis.rates if (r.eval, r.arm) == (verdict.eval, arm)]
        rates = [(r.step, r.rate) for r in rows if r.rate is not None]
        _curve(rate_axes, [step for step, _ in rates], [rate for _, rate in rates], shade, scale=100)
        beside[rate_axes].append((100 * rates[-1][1].value, text))
    low, high = rate_axes.get_ylim()
    rate_axes.set_ylim(max(low, -1.5), min(high, 101.5))

    leads = [lead for lead in analysis.leads if (lead.eval, lead.arm) == (verdict.eval, verdict.arm)]
    known = [lead for lead in leads if lead.kl is not None]
    for axes, shown in ((lead_axes, leads), (kl_axes, known)):
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.axhline(margins.washed_points, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        beside[axes].append((margins.washed_points, f"margin {margins.washed_points:g}"))
        x = [lead.step if axes is lead_axes else lead.kl for lead in shown]
        _curve(axes, x, [lead.points for lead in shown], colour)
    if known:
        beside[kl_axes].append((known[-1].points.value, f"step {known[-1].step}"))
    else:
        kl_axes.text(0.5, 0.5, "KL not measured", transform=kl_axes.transAxes, ha="center", color=QUIET)
    for axes in (rate_axes, lead_axes):
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("RL step")
    kl_axes.xaxis.set_major_locator(MaxNLocator(4))
    kl_axes.set_xlabel("KL from RL start, nats/token")
    return beside


def _rates(analysis: Analysis, name: str, labels: Mapping[str, str]) -> Figure:
    """A panel per arm, where no arm has a control to be compared with: rate against RL step."""
    arms = list(dict.fromkeys(row.arm for row in analysis.rates if row.eval == name))
    across, bands = min(max(len(arms), 1), ACROSS), max(1, math.ceil(len(arms) / ACROSS))
    figure = Figure(figsize=(0.9 + 2.75 * across, 0.3 + 2.4 * bands), layout="constrained")
    grid = figure.subplots(bands, across, squeeze=False)
    for i, axes in enumerate(grid.flat):
        if i >= len(arms):
            axes.set_axis_off()
            continue
        rows = [r for r in analysis.rates if (r.eval, r.arm) == (name, arms[i])]
        rates = [(r.step, r.rate) for r in rows if r.rate is not None]
        _curve(axes, [step for step, _ in rates], [rate for _, rate in rates], PALETTE[i % len(PALETTE)], scale=100)
        axes.set_ylim(-1.5, 101.5)
        axes.set_title(labels[arms[i]], loc="left", fontweight="bold")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("RL step")
    for row in grid:
        row[0].set_ylabel(f"{name}: yes, %")
    return figure


def _curve(axes: Any, x: Sequence[Any], estimates: Sequence[Estimate], colour: str, scale: float = 1) -> None:
    axes.fill_between(
        x,
        [scale * e.low for e in estimates],
        [scale * e.high for e in estimates],
        color=colour,
        alpha=0.16,
        linewidth=0,
    )
    axes.plot(x, [scale * e.value for e in estimates], color=colour, marker="o")


def _share_y(row: Sequence[Any]) -> None:
    shown = [axes for axes in row if axes.axison]
    limits = [axes.get_ylim() for axes in shown]
    for axes in shown:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        axes.tick_params(length=3)
        axes.grid(axis="y", color=QUIET, alpha=0.18, linewidth=0.6)
        axes.margins(x=0.06)


def _beside(axes: Any, texts: Sequence[tuple[float, str]]) -> None:
    """Write texts to the right of a panel at their heights, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    below, gap = -1.0, 0.11
    for y, text in sorted(texts):
        below = max((y - low) / (high - low), below + gap)
        axes.text(1.02, below, text, transform=axes.transAxes, va="center", fontsize=8.5)
