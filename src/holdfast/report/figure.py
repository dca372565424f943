"""The curves of one eval as small multiples: a column per arm, and under each other

    against RL step: the arm's rate, the control's behind it in grey; and the lead, with the share that is asked for
    against KL on the RL environment: the two rates, each along its own; and the lead where both have that KL
    against the training reward: the same

or, where no arm has a control, the rate alone.
Arms are told apart by their column, colours only repeat it (Okabe and Ito's palette). The SVG keeps text as text and
writes ink as one colour, so that a page can let it follow light and dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from holdfast.stats.intervals import Estimate
from holdfast.stats.leads import Lead
from holdfast.stats.margins import Margins
from holdfast.stats.verdict import Analysis, Verdict

INK, QUIET = "#1b1f24", "#7d828a"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ACROSS, ROWS = 4, 6  # columns before a new band of rows
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
    """The curves of eval `name`. `labels` is what to call each arm; an arm that was never measured is left out."""
    with matplotlib.rc_context(STYLE):
        measured = {row.arm for row in analysis.rates if row.eval == name}
        verdicts = [v for v in analysis.verdicts if v.eval == name and v.arm in measured]
        if not verdicts:
            return _rates(analysis, name, labels)
        bands, across = math.ceil(len(verdicts) / ACROSS), min(len(verdicts), ACROSS)
        figure = Figure(figsize=(0.9 + 2.75 * across, 0.3 + 2.1 * ROWS * bands), layout="constrained")
        labels_at: dict[Any, list[tuple[float, str]]] = {}
        grid = figure.subplots(ROWS * bands, across, squeeze=False)
        for i in range(bands * across):
            band, column = divmod(i, across)
            panels = grid[ROWS * band : ROWS * (band + 1), column]
            if i >= len(verdicts):
                for axes in panels:
                    axes.set_axis_off()
                continue
            colour = PALETTE[i % len(PALETTE)]
            labels_at |= _column(panels, analysis, verdicts[i], labels[verdicts[i].arm], margins, colour)
        for i in range(0, ROWS * bands, ROWS):
            _share_y(grid[i : i + ROWS : 2].flat)  # rates
            _share_y(grid[i + 1 : i + ROWS : 2].flat)  # leads
        for axes, texts in labels_at.items():
            _beside(axes, texts)
        for i, row in enumerate(grid):
            row[0].set_ylabel("lead, points" if i % 2 else f"{name}: yes, %")
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
    """Draw an arm's panels. Returns what to write beside each, and at which height."""
    rate_axes, lead_axes, kl_axes, kl_lead_axes, reward_axes, reward_lead_axes = panels
    rate_axes.set_title(label, loc="left", fontweight="bold", pad=19)
    rate_axes.annotate(verdict.says, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points")
    beside: dict[Any, list[tuple[float, str]]] = {axes: [] for axes in panels}
    leads = [x for x in analysis.leads if (x.eval, x.arm) == (verdict.eval, verdict.arm) and not x.unread]
    for arm, shade, text in ((verdict.control, QUIET, "control"), (verdict.arm, colour, "arm")):
        rows = [r for r in analysis.rates if (r.eval, r.arm) == (verdict.eval, arm)]
        rates = [(r.step, r.rate) for r in rows if r.rate is not None]
        _curve(rate_axes, [step for step, _ in rates], [rate for _, rate in rates], shade, scale=100)
        beside[rate_axes] += [(100 * rate.value, text) for _, rate in rates[-1:]]
        for axes, trail in ((kl_axes, _by_kl(leads, text)), (reward_axes, _by_reward(leads, text))):
            _trail(axes, trail, shade)
            beside[axes] += [(rate, text) for _, _, rate in trail[-1:]]
    matched = [row for row in analysis.matched if (row.eval, row.arm) == (verdict.eval, verdict.arm)]
    start = verdict.start.points if verdict.start else None
    for axes, shown in (
        (lead_axes, [(lead.step, lead.points) for lead in leads if lead.points]),
        (kl_lead_axes, [(row.level, row.points) for row in matched if row.by == "kl"]),
        (reward_lead_axes, [(row.level, row.points) for row in matched if row.by == "reward"]),
    ):
        axes.axhline(0, color=QUIET, linewidth=0.8)
        _curve(axes, [x for x, _ in shown], [points for _, points in shown], colour)
        beside[axes] += [(points.value, "lead") for _, points in shown[-1:]]
        if shown and start and start.value > 0:
            axes.axhline(margins.retention * start.value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            beside[axes].append((margins.retention * start.value, f"{margins.retention:.0%} of start"))
    _label(panels, [axes for axes in panels if not beside[axes]])
    for axes in (rate_axes, kl_axes, reward_axes):
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1.5), min(high, 101.5))
    return beside


def _label(panels: Any, empty: Sequence[Any]) -> None:
    """Write what is along each panel's horizontal axis, and in the empty ones that they are."""
    kl, reward = "KL from RL start, nats/token", "training reward"
    along = ("RL step", "RL step", kl, "KL that both have, nats/token", reward, "training reward that both have")
    for axes, what in zip(panels, along, strict=True):
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True) if what == "RL step" else MaxNLocator(4))
        axes.set_xlabel(what)
        if axes in empty:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=QUIET)


Trail = list[tuple[float, float, float]]
"""(x, its standard error, rate in percent), by step."""


def _by_kl(leads: Sequence[Lead], who: str) -> Trail:
    if who == "arm":
        rows = [(lead.kl, lead.kl_se, lead.arm_rate) for lead in leads]
    else:
        rows = [(lead.control_kl, lead.control_kl_se, lead.control_rate) for lead in leads]
    known = [(kl, se, rate) for kl, se, rate in rows if kl is not None and se is not None and rate is not None]
    return [(kl, se if math.isfinite(se) else 0.0, 100 * rate) for kl, se, rate in known]


def _by_reward(leads: Sequence[Lead], who: str) -> Trail:
    if who == "arm":
        rows = [(lead.reward, lead.arm_rate) for lead in leads]
    else:
        rows = [(lead.control_reward, lead.control_rate) for lead in leads]
    return [(reward, 0.0, 100 * rate) for reward, rate in rows if reward is not None and rate is not None]


def _trail(axes: Any, trail: Trail, colour: str) -> None:
    """The rate along something that RL moved, with a horizontal bar of one standard error either side."""
    x, errors, y = zip(*trail, strict=True) if trail else ((), (), ())
    axes.errorbar(x, y, xerr=errors, color=colour, marker="o", linewidth=1.3, elinewidth=1.0)


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


def _share_y(panels: Iterable[Any]) -> None:
    shown = [axes for axes in panels if axes.axison]
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
