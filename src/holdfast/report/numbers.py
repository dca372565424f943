"""How a study reads in words and numbers, the same on the page and in the terminal.

    points(Estimate(41.2, 31.0, 52.4))   ->   "41.2 (31.0 to 52.4)"
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from holdfast.report.findings import Findings
from holdfast.stats.intervals import SEEDS, Estimate
from holdfast.stats.verdict import Verdict
from holdfast.stats.words import SAYS
from holdfast.study.folder import VERSION

DASH = "\N{EN DASH}"


def percent(share: float | None) -> str:
    """A share of 0 to 1 in percent, with a decimal near both ends; a dash for none."""
    if share is None:
        return DASH
    near = 0 < share < 0.1 or 0.9 < share < 1
    return f"{100 * share:.1f}%" if near else f"{100 * share:.0f}%"


def points(lead: Estimate | None) -> str:
    """A lead and its interval in points."""
    return f"{tenths(lead.value)} ({tenths(lead.low)} to {tenths(lead.high)})" if lead else DASH


def tenths(number: float | None) -> str:
    """With one decimal; a dash for none."""
    return DASH if number is None else f"{round(number, 1) + 0.0:.1f}"  # + 0.0: no minus on a zero


def log_odds(lead: Estimate | None) -> str:
    """A lead and its interval as a difference of log-odds."""
    if lead is None:
        return DASH
    low, high = ("no bound" if math.isinf(end) else f"{round(end, 2) + 0.0:.2f}" for end in (lead.low, lead.high))
    return f"{round(lead.value, 2) + 0.0:.2f} ({low} to {high})"


def kept(retention: Estimate | None) -> str:
    """Retention and its interval in percent; a dash where there was nothing to divide by."""
    if retention is None or math.isnan(retention.value):
        return DASH
    if retention.low == retention.high:  # step 0, by definition
        return f"{100 * retention.value:.0f}%"
    low, high = ("no bound" if math.isinf(end) else f"{100 * end:.0f}%" for end in (retention.low, retention.high))
    return f"{100 * retention.value:.0f}% ({low} to {high})"


def nats(kl: float | None, error: float | None) -> str:
    """A divergence and its standard error, where both are known."""
    if kl is None:
        return DASH
    return f"{kl:.3g}" if error is None or math.isinf(error) else f"{kl:.3g} (± {error:.2g})"


def steps_to_half(verdict: Verdict) -> str:
    """RL steps until half the lead was gone; never beyond the last step run."""
    if verdict.half is None or verdict.end is None:
        return DASH
    last = verdict.end.step
    if math.isinf(verdict.half.value):
        return f"not by step {last}"
    low, high = (f"beyond {last}" if math.isinf(end) else f"{end:.0f}" for end in (verdict.half.low, verdict.half.high))
    return f"{verdict.half.value:.0f} ({low} to {high})"


def own_rate(run: Findings, name: str, group: str) -> str:
    """An arm's rate at its first and last step: those that a lead is made of, its own or of arms it is control to."""
    verdict = verdict_of(run, name, group)
    beside = [v for v in run.analysis.verdicts if (v.eval, v.control) == (name, group)]
    ends: dict[int, float | None] = {}
    if verdict and verdict.start and verdict.end:
        ends = {0: verdict.start.arm_rate, verdict.end.step: verdict.end.arm_rate}
    elif compared := [v for v in beside if v.start and v.end]:
        for v in sorted(compared, key=lambda v: v.end.step if v.end else 0):
            ends |= {step.step: step.control_rate for step in (v.start, v.end) if step}
    elif rows := [r for r in run.analysis.rates if (r.eval, r.arm) == (name, group)]:
        ends = {r.step: r.rate.value if r.rate else None for r in (rows[0], rows[-1])}
    at = len(ends) > 2  # a control of arms with different last steps
    return " -> ".join(
        ("unscored" if end is None else percent(end)) + f" at step {step}" * (at and step > 0)
        for step, end in ends.items()
    )


def own_rise(verdict: Verdict) -> str:
    """How far an arm's own rate has risen since step 0, in points; a dash where that is not known."""
    rise = verdict.end.rise if verdict.end else None
    return f"{round(rise.value, 1) + 0.0:+.1f} ({tenths(rise.low)} to {tenths(rise.high)})" if rise else DASH


def leads_told(verdict: Verdict) -> list[str]:
    """An arm's lead at the start and at the end, in points, and what is kept; dashes where there is no step after 0."""
    leads = [lead.points if lead else None for lead in (verdict.start, verdict.end)]
    return [*map(points, leads), kept(verdict.end.retention if verdict.end else None)]


def verdict_of(run: Findings, name: str, group: str) -> Verdict | None:
    """The verdict on an arm; None for one that is compared with none."""
    return next((v for v in run.analysis.verdicts if (v.eval, v.arm) == (name, group)), None)


def standing(run: Findings, name: str, group: str) -> tuple[str, str, str]:
    """What an arm is called, the kind of it, which is a verdict or "control", and why.

    Such as ("persisted (this run)", "persisted", "After 32 steps ...").
    """
    if verdict := verdict_of(run, name, group):
        return verdict.says, verdict.verdict, verdict.reason
    missing = run.facts[group].unfinished
    why = " ".join(f"Seed {seed} {told}." for seed, told in sorted(missing.items()))
    if any(arm.group == group for arm in run.arms):
        return "control", "control", why
    collapsed = any("collapsed" in told for told in missing.values())
    return "collapsed" if collapsed else "unfinished", "control", why


def headline(run: Findings, name: str) -> str:
    """One line on what an eval's verdicts rest on; without any, on what its rates do."""
    rates = [rate for rate in run.analysis.rates if rate.eval == name]
    verdicts = [verdict for verdict in run.analysis.verdicts if verdict.eval == name and verdict.seeds]
    seeds = {row.seeds for row in verdicts or rates}
    first, later = ([r.episodes // r.seeds for r in rates if (r.step > 0) == rises] for rises in (False, True))
    twice = later and set(first) == {2 * n for n in later}
    episodes = (
        f"{_span(later)} episodes per arm, seed and step, twice that at step 0"
        if twice
        else f"{_span(first + later)} episodes per arm, seed and step"
    )
    return (
        f"{_span(row.families for row in rates)} scenario families, {episodes}, "
        f"{_span(seeds)} seed{'s' * (seeds != {1})}, {run.margins.confidence:.0%} intervals"
    )


def _span(counts: Iterable[int]) -> str:
    every = sorted(set(counts))
    return f"{every[0]}" if len(every) == 1 else f"{every[0]} to {every[-1]}"


def together(run: Findings) -> str:
    """How many of the study's words are left if all are to hold at once; empty where there is one verdict, or no word.

    Holm's correction is over every arm and eval with a verdict.
    """
    words = [verdict for verdict in run.analysis.verdicts if verdict.verdict in SAYS]
    if not words or len(run.analysis.verdicts) < 2:
        return ""
    firm = sum(verdict.holm == verdict.verdict for verdict in words)
    return f"{firm} of {len(words)} words stand if all are to hold at once (Holm)."


def warnings(run: Findings) -> list[str]:
    """What a reader must know before the first verdict, a sentence or two each."""
    found = []
    if run.version < VERSION:
        found.append(
            f"This run folder is of version {run.version}, which an earlier Holdfast wrote, and is read by present "
            "rules. A gate may fail for what was not written down then."
        )
    whole = [v for v in run.analysis.verdicts if all(gate.passed for gate in v.gates if gate.name == "complete")]
    few = sorted({v.seeds for v in whole if v.runs_only and v.seeds})
    if few:
        counts, runs = " or ".join(f"{n} seed{'s' * (n != 1)}" for n in few), "this run" if few == [1] else "these runs"
        found.append(
            f"With {counts}, what is said here is said of {runs} alone: no interval covers how differently another "
            f"training run would end. A general claim needs at least {SEEDS} seeds."
        )
    if run.unfinished:
        arms = "; ".join(f"{name} {why}" for name, why in run.unfinished.items())
        found.append(f"Not used, as it did not come to its end: {arms}.")
    if run.versions:
        differing = "; ".join(f"{library} {', '.join(versions)}" for library, versions in run.versions.items())
        found.append(f"Made with more than one version of a library, which may be what arms differ by: {differing}.")
    return found
