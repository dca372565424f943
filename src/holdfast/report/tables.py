"""The tables that compare arms: verdicts, how firm these are, gates and rates; and one of two judges of an eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from holdfast.report.findings import Findings
from holdfast.report.markup import badge, esc, prose, split, table
from holdfast.report.numbers import (
    DASH,
    headline,
    kept,
    leads_told,
    own_rate,
    own_rise,
    percent,
    points,
    standing,
    steps_to_half,
    verdict_of,
)
from holdfast.stats.gates import Gate
from holdfast.stats.rates import Rate
from holdfast.stats.verdict import Verdict
from holdfast.stats.words import SAYS, WORDS

LEFT = range(99)
"""Every column aligned left."""


def words() -> str:
    """Which answers make which word."""
    rows = []
    for own in ("held", "rose"):
        cells = [WORDS[own, lead] for lead in ("kept", "shrunk")]
        rows.append([f"Own rate {own}", *(f"{badge(word, word)}<small>{esc(SAYS[word])}</small>" for word in cells)])
    return f'<div class="words">{table("", ["", "Lead over the control kept", "Lead shrunk"], rows, LEFT)}</div>'


def verdicts(run: Findings, name: str) -> str:
    """A row for every arm, finished or not, and under it what its verdict means. Numbers without a claim are quiet."""
    head = ["Arm", "Verdict", "Own rate", "Lead at start", "Lead at end", "Kept"]
    rows: list[list[str] | str] = []
    for group in run.groups:
        label, kind, reason = standing(run, name, group)
        row = [_label(run, group), badge(label, kind), split(own_rate(run, name, group))]
        verdict = verdict_of(run, name, group)
        if verdict and verdict.start:
            row[-1] += f"<small>{prose(own_rise(verdict))}</small>" * (verdict.end is not None)
            row += map(split, leads_told(verdict))
        if kind == "no claim":
            row[2:] = [f"<span class=soft>{cell}</span>" for cell in row[2:]]
        rows.append(row + [""] * (len(head) - len(row)))
        rows += [prose(reason)] if reason else []
    caption = f"{esc(name)} <span class=soft>{esc(headline(run, name))}</span>"
    return table(caption, head, rows, (0, 1), cards=True)


def firmness(run: Findings, name: str) -> str:
    """What each word rests on, and what becomes of it where something is counted differently."""
    found = [v for v in run.analysis.verdicts if v.eval == name]
    return _firm(run, name, found) + _rest(run, name, found) + _parts(run, name, found)


def _firm(run: Findings, name: str, found: Sequence[Verdict]) -> str:
    head = ["Arm", "Own rate", "Lead", "Lead, in log-odds", "Unscored counted against it", "Unscored counted for it",
            "All words at once"]  # fmt: skip
    rows = []
    for v in found:
        if v.own is not None:
            p = "" if v.alpha is None else f"<small>p {f'= {v.alpha:.2g}' if v.alpha else '&lt; 0.000001'}</small>"
            said = [esc(replace(v, verdict=word).says) for word in (v.against, v.in_favour, v.holm) if word]
            said[-1] += p
            rows.append([_label(run, v.arm), *map(esc, (v.own, v.lead, v.log_odds)), *said])
    return table(f"How firm on {esc(name)}", head, rows, LEFT, cards=True) if rows else ""


def _rest(run: Findings, name: str, found: Sequence[Verdict]) -> str:
    may_go = 1 - run.margins.retention
    head = ["Arm", f"Own rise less {may_go:.0%} of the lead at start",
            f"Lead at end less {run.margins.retention:.0%} of that at start", "Kept at the last step",
            "Kept at equal KL", "Kept at equal reward", "Half gone, RL step"]  # fmt: skip
    rows = []
    for v in found:
        if v.end is not None:
            shares = (v.end.retention, v.at_kl, v.at_reward)
            cells = [points(v.excess), points(v.rest), *map(kept, shares), steps_to_half(v)]
            rows.append([_label(run, v.arm), *map(split, cells)])
    return table(f"What is left of the lead on {esc(name)}", head, rows, cards=True) if rows else ""


def _parts(run: Findings, name: str, found: Sequence[Verdict]) -> str:
    head = ["Arm", "Format control", "Lead at end", "Of it by its values", "Of it by its form"]
    rows = []
    for v in found:
        if v.end is not None and v.value_points is not None:
            form = run.facts[v.arm].format
            cells = [_label(run, v.arm), _label(run, str(form))]
            rows.append([*cells, *(split(points(e)) for e in (v.end.points, v.value_points, v.format_points))])
    return table(f"What did it on {esc(name)}", head, rows, (0, 1), cards=True) if rows else ""


def claims(run: Findings) -> str:
    """The verdicts that are corrected for one another: of every arm, on every eval that has any."""
    found = run.analysis.verdicts
    counts = {"arm": len({v.arm for v in found}), "eval": len({v.eval for v in found}), "verdict": len(found)}
    arms, evals, verdicts = (f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items())
    return f"{arms} x {evals}, {verdicts}"


def gates(run: Findings, name: str) -> str:
    """Which gates each arm passed, and folded away what each gate found."""
    found = [v for v in run.analysis.verdicts if v.eval == name]
    if not found:
        return ""
    names = list(dict.fromkeys(gate.name for v in found for gate in v.gates))
    passed = {(v.arm, gate.name): _passed(gate) for v in found for gate in v.gates}
    short = [[_label(run, v.arm), *(passed.get((v.arm, gate), "not asked") for gate in names)] for v in found]
    every = [
        [_label(run, v.arm) if i == 0 else "", esc(gate.name), _passed(gate), prose(gate.detail)]
        for v in found
        for i, gate in enumerate(v.gates)
    ]
    details = table("", ["Arm", "Gate", "Answer", "Found"], every, LEFT)
    return (
        table(esc(name), ["Arm", *map(esc, names)], short, LEFT, cards=True)
        + f"<details><summary>What each gate found on {esc(name)}</summary>{details}</details>"
    )


def _passed(gate: Gate) -> str:
    return "<span class=pass>✓ passed</span>" if gate.passed else "<span class=fail>✗ failed</span>"


def rates(run: Findings, name: str) -> str:
    """Each arm's rate at both ends, and folded away at every step."""
    found = [rate for rate in run.analysis.rates if rate.eval == name]
    every = [r for group in run.groups for r in found if r.arm == group]
    if not every:
        return ""
    steps = {group: [r.step for r in every if r.arm == group] for group in run.groups}
    short = [r for r in every if r.step in (steps[r.arm][0], steps[r.arm][-1])]
    side = {"low": "lower", "high": "higher"}[run.evals[name].better]
    caption = f"{esc(name)} <span class=soft>({side} is better)</span>"
    if len(every) == len(short):
        return _rates(run, caption, short)
    more = f"<details><summary>Every step of {esc(name)}</summary>{_rates(run, '', every)}</details>"
    return _rates(run, caption, short) + more


def _rates(run: Findings, caption: str, rates: Sequence[Rate]) -> str:
    head = ["Arm", "Step", "Rate", "Yes of scored", "Families with a yes", "Unscored", "Bounds", "Malformed",
            "Truncated", "Empty", "Valid action", "Rate if valid"]  # fmt: skip
    rows = []
    for r in rates:
        rate = (
            f"{percent(r.rate.value)}<small>{percent(r.rate.low)} to {percent(r.rate.high)}</small>" if r.rate else DASH
        )
        bounds = f"{percent(r.if_no)} to {percent(r.if_yes)}" if r.scored < r.episodes else DASH
        cells = [_label(run, r.arm), str(r.step), rate, f"{r.yes:.4g} of {r.scored}",
                 f"{r.families_yes} of {r.families}",
                 str(r.episodes - r.scored), bounds, percent(r.malformed), percent(r.truncated), percent(r.empty),
                 percent(r.valid), percent(r.rate_valid)]  # fmt: skip
        rows.append(cells)
    return table(caption, head, rows)


def agreements(run: Findings) -> str:
    """How far two judges of the same episodes agree; nothing where no eval was judged twice."""
    rows = []
    for found in run.agreements:
        kappa = found.kappa
        told = DASH if kappa is None else f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f})"
        alike = percent(found.alike) if found.both else DASH
        rows.append([esc(found.first), esc(found.second), str(found.both), str(found.either), alike, split(told)])
    head = ["Eval", "Judged again as", "Both scored", "One alone scored", "Alike", "Cohen's kappa"]
    note = (
        '<p class="soft">Two judges of the same episodes. Kappa is 1 for judges who always agree, and 0 for those who '
        "do as often as by chance. The verdicts under each are those of its own eval.</p>"
    )
    return f'<h2 id="judges">Two judges</h2>{note}{table("", head, rows, (0, 1), cards=True)}' if rows else ""


def _label(run: Findings, group: str) -> str:
    return esc(run.labels.get(group, group))
