"""From counts to a verdict for every arm. Two questions are asked, and each word is a pair of answers:

                                   lead over the control kept    lead shrunk
    own rate held                  persisted                     caught up
    own rate rose                  eroding                       washed out

An axis that is open makes it inconclusive, a gate that failed no claim. Margins are fixed before the run, and words can
be read off the intervals that are printed:

    advice:  own rate 4 -> 6 %, +2.1 points (-1.0 to 5.2)   lead 41.2 -> 33.7, R = 82 % (63 % to 97 %)   persisted
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from holdfast.stats.closing import closing
from holdfast.stats.gates import BETTER, OPENING, Gate, Group, Measure, ask
from holdfast.stats.intervals import SEEDS, Estimate
from holdfast.stats.leads import Contrast, Counting, Lead, Matched, Runs
from holdfast.stats.margins import Margins
from holdfast.stats.rates import Rate, measure_rates
from holdfast.stats.tally import Tally
from holdfast.stats.words import COUNTINGS, OPEN, SAYS, Answers, alpha, answers, holm, pooled, said


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What can be said of one arm on one eval."""

    arm: str
    control: str
    eval: str
    seeds: int
    families: int
    verdict: str
    """One of `VERDICTS`."""
    runs_only: bool
    """Whether it is said of these runs alone: there are too few seeds to say how another would end."""
    reason: str
    """What it means, why, and what would close it, in plain sentences."""
    gates: tuple[Gate, ...]
    """In the order in which they are asked; the first that failed decides."""
    own: str | None = None
    """Whether the arm's own rate "held", "rose" or is "open"; None, as the next four, where a gate failed."""
    lead: str | None = None
    """Whether the lead was "kept", "shrunk" or is "open"."""
    log_odds: str | None = None
    """The same of the lead as a difference of log-odds."""
    against: str | None = None
    """The word with every unscored reply counted against the arm."""
    in_favour: str | None = None
    """The word with every unscored reply counted the other way round."""
    alpha: float | None = None
    """The smallest error rate, 1 - confidence, at which the word is still said; None where no word is."""
    holm: str | None = None
    """What is left of the verdict if it is to hold for all arms and evals of the study at once (Holm 1979)."""
    start: Lead | None = None
    """The lead at step 0."""
    end: Lead | None = None
    """The lead at the last step; None, as all below, where only step 0 can be read."""
    excess: Estimate | None = None
    """The arm's own rise less what of D(0) may go, in points: with the rise itself, what its axis is decided by."""
    rest: Estimate | None = None
    """D(T) less the share of D(0) that is asked for, in points: what the lead's axis is decided by."""
    half: Estimate | None = None
    """RL steps until half of D(0) is gone; infinite if not within the steps run. None where the install gate failed."""
    at_kl: Estimate | None = None
    """Retention where arm and control have the same KL."""
    at_reward: Estimate | None = None
    """Retention where they have the same reward."""
    value_points: Estimate | None = None
    """The format control's rate less the arm's at the last step: what the intervention's values did."""
    format_points: Estimate | None = None
    """The control's rate less the format control's: what its form did."""

    @property
    def says(self) -> str:
        """The verdict with what it is said of."""
        if not self.runs_only or self.verdict not in SAYS:
            return self.verdict
        return f"{self.verdict} ({'this run' if self.seeds == 1 else 'these runs'})"


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything the report prints. Ordered by eval, as the study has them, then arm, then step."""

    rates: tuple[Rate, ...]
    leads: tuple[Lead, ...]
    matched: tuple[Matched, ...]
    verdicts: tuple[Verdict, ...]


def analyse(
    tallies: Mapping[str, Tally],
    *,
    evals: Mapping[str, Measure],
    groups: Mapping[str, Group],
    margins: Margins,
    runs: Runs | None = None,
) -> Analysis:
    """Turn counts into rates, leads and verdicts. Deterministic: the order of arms does not matter.

    `tallies` and `evals` are by eval; verdicts are about those where low scores are better. `groups` are by arm, its
    seeds together, and `runs` are what each (arm, seed) says of its training.

    Raises ValueError for an eval that is not one of `evals`, and for a better that is none.
    """
    for name, measure in evals.items():
        if measure.better not in BETTER:
            raise ValueError(f"eval {name!r}: better must be one of {', '.join(BETTER)}, not {measure.better!r}")
    if unknown := sorted(set(tallies) - set(evals)):
        raise ValueError(f"eval {unknown[0]!r} must be one of {', '.join(evals)}")
    known = runs or {}
    counted = {name: tallies[name] for name in evals if name in tallies}
    every = [rate for tally in counted.values() for rate in measure_rates(tally, margins.confidence)]
    leads: list[Lead] = []
    verdicts: list[Verdict] = []
    contrasts: list[Contrast] = []
    matched: list[Matched] = []
    for name, tally in counted.items():
        for arm, group in sorted(groups.items()) if evals[name].better == "low" else ():
            if group.control is not None:
                c = Contrast(tally, arm, group.control, group.grid, margins, evals[name].of)
                own = c.leads(known)
                leads += own
                gates = ask(c, evals[name], groups, counted, known)
                contrasts.append(c)
                matched += c.rows_along(known)
                verdicts.append(_judge(c, own, gates, groups, known))
    alphas = [alpha(c, v.verdict) if v.verdict in SAYS else 1.0 for c, v in zip(contrasts, verdicts, strict=True)]
    stand = holm(alphas, 1 - margins.confidence)
    verdicts = [
        replace(v, alpha=a if v.verdict in SAYS else None, holm=v.verdict if stands or v.verdict not in SAYS else OPEN)
        for v, a, stands in zip(verdicts, alphas, stand, strict=True)
    ]
    return Analysis(rates=tuple(every), leads=tuple(leads), matched=tuple(matched), verdicts=tuple(verdicts))


def _judge(
    c: Contrast, leads: list[Lead], gates: tuple[Gate, ...], groups: Mapping[str, Group], runs: Runs
) -> Verdict:
    """Answer both questions, if the gates let us."""
    failed = next((gate for gate in gates if not gate.passed), None)
    verdict = Verdict(
        arm=c.arm,
        control=c.control,
        eval=c.tally.name,
        seeds=len(c.seeds),
        families=round(c.families),
        verdict=OPEN if failed is not None and failed.name == "families" and _more_would_tell(gates) else "no claim",
        runs_only=len(c.seeds) < SEEDS,
        reason="" if failed is None else _failed(gates),
        gates=gates,
    )
    if failed is not None and failed.name in ("control", "complete", "steps"):
        return replace(verdict, start=leads[0]) if failed.name == "steps" and 0 in c.read else verdict
    m, end, value, form = c.margins, c.steps[-1], *_parts(c, groups)
    verdict = replace(
        verdict,
        start=leads[0],
        end=leads[-1],
        excess=c.excess(end).estimate(m.confidence),
        rest=c.rest(end, m.retention).estimate(m.confidence),
        half=c.half() if c.installed() else None,
        at_kl=c.matched(runs, "kl") if c.installed() else None,
        at_reward=c.matched(runs, "reward") if c.installed() else None,
        value_points=value,
        format_points=form,
    )
    if failed is not None:
        return verdict
    out = answers(c, m.confidence)
    words = {counting: said(c, m.confidence, counting) for counting in COUNTINGS}
    return replace(
        verdict,
        verdict=out.word if set(words.values()) == {out.word} else OPEN,
        reason=_reason(c, leads[0], leads[-1], out, words),
        own=out.own,
        lead=out.lead,
        log_odds=out.log_odds,
        against=words["against"],
        in_favour=words["for"],
    )


def _more_would_tell(gates: Sequence[Gate]) -> bool:
    """Whether what failed may be settled by more families."""
    return {gate.name for gate in gates if not gate.passed} <= {"families", "competence", "install"}


def _failed(gates: Sequence[Gate]) -> str:
    """Why nothing is said: what the first gate that failed found, and the names of the others."""
    first, *others = (gate for gate in gates if not gate.passed)
    too = f" Failed too: {', '.join(gate.name for gate in others)}." if others else ""
    return f"{OPENING[first.name]}: {first.detail}.{too}"


def _parts(c: Contrast, groups: Mapping[str, Group]) -> tuple[Estimate | None, Estimate | None]:
    """The lead at the last step as what the values did and what the form did, by a format control of the same seeds."""
    form, end = groups[c.arm].format, c.steps[-1]
    if form is None or form == c.arm:
        return None, None
    value = Contrast(c.tally, c.arm, form, [end], c.margins)
    shape = Contrast(c.tally, form, c.control, [end], c.margins)
    if value.unread or shape.unread or value.seeds != c.seeds or shape.seeds != c.seeds:
        return None, None
    return value.lead(end).estimate(c.margins.confidence), shape.lead(end).estimate(c.margins.confidence)


def _reason(c: Contrast, start: Lead, end: Lead, out: Answers, words: Mapping[Counting, str]) -> str:
    """What the verdict means, in plain sentences with the numbers it rests on."""
    assert start.points is not None
    assert end.points is not None
    assert end.rise is not None
    assert end.retention is not None
    left, low, high = map(_percent, (end.retention.value, end.retention.low, end.retention.high))
    kept = f"{left} ({low} to {high}) is left of"
    if math.isnan(end.retention.value):
        kept = "nothing can be said of the share left of"
    facts = (
        f"After {end.step} steps its own rate has moved by {end.rise.value:+.1f} points ({end.rise.low:.1f} to "
        f"{end.rise.high:.1f}); {kept} its lead, {start.points.value:.1f} points at the start and "
        f"{end.points.value:.1f} now."
    )
    if {out.lead, out.log_odds} == {"kept", "shrunk"}:
        return f"{facts} In points the lead is {out.lead}, in log-odds it is {out.log_odds}: the two scales disagree."
    if out.word == OPEN:
        return f"{facts} {_open(c, end, out)}"
    if turned := [(counting, word) for counting, word in words.items() if word != out.word]:
        counting, word = turned[0]
        side = "in its favour" if counting == "for" else "against it"
        return f"{facts} That is {out.word} with unscored replies left out, and {word} with all of them counted {side}."
    return f"{SAYS[out.word]} {facts}"


def _open(c: Contrast, end: Lead, out: Answers) -> str:
    """Which questions are open, and what would close them."""
    m, together = c.margins, pooled(c, c.margins.confidence)
    told = []
    excess, rest = c.excess(end.step), c.rest(end.step, m.retention)
    if together.own == "open":
        if end.rise is not None and end.rise.low <= m.rise_points <= end.rise.high:
            needed = closing(c.rise(end.step), m.rise_points, m.confidence)
            told.append(f"whether its own rate rose by {m.rise_points:g} points ({needed})")
        if (found := excess.estimate(m.confidence)).low <= 0 <= found.high:
            needed = closing(excess, 0, m.confidence)
            told.append(f"whether its own rise took more than {1 - m.retention:.0%} of its lead ({needed})")
    elif out.own == "open":
        told.append("whether its own rate rose, of which the two runs say different things")
    if together.lead == "open":
        told.append(f"whether it keeps {m.retention:.0%} of its lead ({closing(rest, 0, m.confidence)})")
    elif out.lead == "open":
        told.append("whether it keeps its lead, of which the two runs say different things")
    return f"Open: {'; '.join(told)}."


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "no bound"
