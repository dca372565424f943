"""How numbers read, on the page and in the terminal.

    points(Estimate(41.2, 31.0, 52.4))   ->   "41.2 (31.0 to 52.4)"
"""

from __future__ import annotations

import math

from holdfast.report.findings import Findings
from holdfast.stats.verdict import Estimate, Verdict

DASH = "\N{EN DASH}"


def percent(share: float) -> str:
    """A share of 0 to 1 in percent, with a decimal near both ends."""
    near = 0 < share < 0.1 or 0.9 < share < 1
    return f"{100 * share:.1f}%" if near else f"{100 * share:.0f}%"


def points(lead: Estimate) -> str:
    """A lead and its interval in points."""
    return f"{tenths(lead.value)} ({tenths(lead.low)} to {tenths(lead.high)})"


def tenths(number: float) -> str:
    """With one decimal."""
    return f"{round(number, 1) + 0.0:.1f}"  # + 0.0: no minus on a zero


def kept(retention: Estimate | None) -> str:
    """Retention and its interval in percent; a dash where there was nothing to divide by."""
    if retention is None:
        return DASH
    if retention.low == retention.high:  # step 0, by definition
        return f"{100 * retention.value:.0f}%"
    low, high = ("no bound" if math.isinf(end) else f"{100 * end:.0f}%" for end in (retention.low, retention.high))
    return f"{100 * retention.value:.0f}% ({low} to {high})"


def steps_to_half(verdict: Verdict) -> str:
    """RL steps until half the lead was gone; never beyond the last step run."""
    if verdict.half is None or verdict.end is None:
        return DASH
    last = verdict.end.step
    if math.isinf(verdict.half.value):
        return f"not by step {last}"
    low, high = (f"beyond {last}" if math.isinf(end) else f"{end:.0f}" for end in (verdict.half.low, verdict.half.high))
    return f"{verdict.half.value:.0f} ({low} to {high})"


def headline(run: Findings, name: str) -> str:
    """One line on what an eval's numbers rest on."""
    rates = [rate for rate in run.analysis.rates if rate.eval == name]
    families = max(rate.families for rate in rates)
    counts = sorted({rate.episodes // rate.seeds for rate in rates})
    episodes = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = max(rate.seeds for rate in rates)
    return (
        f"{families} scenario families, {episodes} episodes per arm, seed and step, "
        f"{seeds} seed{'s' * (seeds != 1)}, {run.margins.confidence:.0%} intervals"
    )


def versions_differ(run: Findings) -> str:
    """A warning where arms were made with different versions of a library; nothing where they were not."""
    found = "; ".join(f"{library} {', '.join(versions)}" for library, versions in run.versions.items())
    return f"Made with more than one version of a library, which may be what arms differ by: {found}" if found else ""
