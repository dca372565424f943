"""The report's HTML: page.html filled in, every piece of text escaped.

    row(["advice", percent(0.2)])   ->   "<tr><th scope=row class=text>advice</th><td>20%</td></tr>"

A cell of a table is HTML that is already escaped; `esc` is what makes it so.
"""

from __future__ import annotations

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

import yaml

from holdfast.records import Record
from holdfast.report.figure import INK
from holdfast.report.findings import Findings, Finished, read_transcripts
from holdfast.report.numbers import DASH, headline, kept, percent, points, steps_to_half, tenths, versions_differ
from holdfast.stats.bootstrap import families_needed
from holdfast.stats.verdict import VERDICTS, Gate, Lead, Rate

LONGEST = 8000
"""Characters of a message that the page shows."""
OUTCOMES = ("yes", "no", "unscored")


def outcome(score: float | None) -> str:
    """What a score is called."""
    return "unscored" if score is None else "yes" if score >= 0.5 else "no"


def esc(text: object) -> str:
    """Text as HTML. Control characters, which HTML has no place for, are made visible as U+FFFD."""
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", str(text).replace("\r\n", "\n")))


def page(run: Findings, svgs: Mapping[str, str]) -> str:
    """The whole page. `svgs` holds the curves of each eval with a verdict, as an <svg> element."""
    m = run.margins
    template = Template((files("holdfast.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=esc(run.name),
        lede=_lede(run),
        verdicts="".join(_verdicts(run, name) for name in run.harms),
        gates="".join(_gates(run, name) for name in run.harms),
        rates="".join(_rates(run, name) for name in run.evals),
        curves="".join(_curves(name, svg) for name, svg in svgs.items()),
        arms="".join(_arm(run, group) for group in run.groups),
        confidence=f"{m.confidence:.0%}",
        resamples=m.resamples,
        seed=m.seed,
        retention=f"{m.retention:.0%}",
        washed=f"{m.washed_points:g}",
        install=f"{m.install_points:g}",
        competence=f"{m.competence:.0%}",
    )


def table(caption: str, head: Sequence[str], rows: Iterable[str], text: Sequence[int] = (0,)) -> str:
    """A table of finished rows; columns in `text` are aligned left."""
    cells = "".join(f"<th{_text(i, text)} scope=col>{cell}</th>" for i, cell in enumerate(head))
    title = f"<caption>{caption}</caption>" if caption else ""
    return f"<div class=wide><table>{title}<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def row(cells: Sequence[str], text: Sequence[int] = (0,), kind: str = "") -> str:
    """A row whose first cell is its heading."""
    first = f"<th scope=row class=text>{cells[0]}</th>"
    rest = "".join(f"<td{_text(i, text)}>{cell}</td>" for i, cell in enumerate(cells) if i)
    return f"<tr{f' class={kind}' if kind else ''}>{first}{rest}</tr>"


def _text(i: int, text: Sequence[int]) -> str:
    return " class=text" if i in text else ""


def _badge(label: str) -> str:
    return f'<span class="badge {label.replace(" ", "-")}">{esc(label)}</span>'


def _split(words: str) -> str:
    """Numbers as the page has them: the interval on a line of its own, and a true minus."""
    value, bracket, rest = words.partition(" (")
    small = f"<small>{esc(rest.rstrip(')'))}</small>" if bracket else ""
    return f"{esc(value)}{small}".replace("-", "\N{MINUS SIGN}")


def _label(run: Findings, group: str) -> str:
    return esc(run.labels.get(group, group))


def _lede(run: Findings) -> str:
    lines = []
    for name in run.harms:
        verdicts = [verdict.verdict for verdict in run.analysis.verdicts if verdict.eval == name]
        parts = [f"{verdicts.count(label)} {label}" for label in VERDICTS if label in verdicts]
        says = (
            f"{len(verdicts)} {'arm' if len(verdicts) == 1 else 'arms'} compared: {', '.join(parts)}."
            if verdicts
            else ""
        )
        lines.append(f'<p class="lede">On <b>{esc(name)}</b>, {esc(says) or "no arm is compared with a control."}</p>')
    if run.harms:
        lines.append(f'<p class="soft">{esc(headline(run, run.harms[0]))}.</p>')
    seeds = max((rate.seeds for rate in run.analysis.rates), default=0)
    if seeds == 1:
        lines.append(
            '<p class="warn">One seed per arm: the intervals cover scenarios and sampling. They say nothing about how '
            "differently another training run of the same arm would end.</p>"
        )
    elif seeds < families_needed(run.margins.confidence):
        lines.append(
            f'<p class="warn">{seeds} seeds per arm are too few for an interval to cover how training runs differ: '
            "see each arm's numbers by seed.</p>"
        )
    if run.unfinished:
        lines.append(f'<p class="warn">Unfinished, and not used: {esc(", ".join(run.unfinished))}.</p>')
    if differing := versions_differ(run):
        lines.append(f'<p class="warn">{esc(differing)}.</p>')
    return "".join(lines)


def _verdicts(run: Findings, name: str) -> str:
    head = ["Arm", "Verdict", "Rate, start to end", "Lead at start", "Lead at end", "Kept", "Half gone", "KL", "Firm"]
    rows = []
    for group in run.groups:
        rates = [r.rate for r in run.analysis.rates if (r.eval, r.arm) == (name, group) and r.rate]
        rate = " → ".join(percent(r.value) for r in (rates[0], rates[-1])) if rates else DASH
        verdict = next((v for v in run.analysis.verdicts if (v.eval, v.arm) == (name, group)), None)
        if verdict is None:
            rows.append(row([_label(run, group), _badge("control"), rate, *[""] * 6], (0, 1)))
            continue
        cells = [DASH] * 6
        if verdict.start and verdict.end:
            kl = DASH if verdict.end.kl is None else f"{verdict.end.kl:.3g}"
            firm = {True: "yes", False: '<span class="fail">no</span>', None: DASH}[verdict.firm]
            cells = [_split(points(verdict.start.points)), _split(points(verdict.end.points)),
                     _split(kept(verdict.end.retention)), _split(steps_to_half(verdict)), kl, firm]  # fmt: skip
        rows.append(row([_label(run, group), _badge(verdict.verdict), rate, *cells], (0, 1), "with-reason"))
        rows.append(f'<tr class="reason"><td colspan={len(head)}><span>{esc(verdict.reason)}</span></td></tr>')
    return table(esc(name), head, rows, (0, 1))


def _gates(run: Findings, name: str) -> str:
    verdicts = [verdict for verdict in run.analysis.verdicts if verdict.eval == name]
    names = list(dict.fromkeys(gate.name for verdict in verdicts for gate in verdict.gates))
    rows = []
    for verdict in verdicts:
        cells = {gate.name: _gate(gate) for gate in verdict.gates}
        rows.append(row([_label(run, verdict.arm), *(cells.get(gate, "not asked") for gate in names)], range(99)))
    return table(esc(name), ["Arm", *map(esc, names)], rows, range(99)) if rows else ""


def _gate(gate: Gate) -> str:
    kind, text = ("pass", "✓ passed") if gate.passed else ("fail", "✗ failed")
    return f"<span class={kind}>{text}</span><small class=fill>{esc(gate.detail)}</small>"


def _rates(run: Findings, name: str) -> str:
    rates = [rate for rate in run.analysis.rates if rate.eval == name]
    if not rates:
        return ""
    ends = {group: [r.step for r in rates if r.arm == group] for group in run.groups}
    short = [r for group in run.groups for r in rates if r.arm == group and r.step in (ends[group][0], ends[group][-1])]
    side = {"low": "lower", "high": "higher"}[run.evals[name]]
    caption = f"{esc(name)} <span class=soft>({side} is better)</span>"
    every = [r for group in run.groups for r in rates if r.arm == group]
    if len(every) == len(short):
        return _rate_table(run, caption, short)
    more = f"<details><summary>Every step of {esc(name)}</summary>{_rate_table(run, '', every)}</details>"
    return _rate_table(run, caption, short) + more


def _curves(name: str, svg: str) -> str:
    says = f"Curves of {esc(name)}; the tables hold the numbers"
    return f'<h3>{esc(name)}</h3><figure role="img" aria-label="{says}">{svg.replace(INK, "currentColor")}</figure>'


def _rate_table(run: Findings, caption: str, rates: Sequence[Rate]) -> str:
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
                 *(DASH if share is None else percent(share) for share in (r.valid, r.rate_valid))]  # fmt: skip
        rows.append(row(cells))
    return table(caption, head, rows)


def _arm(run: Findings, group: str) -> str:
    arms = [arm for arm in run.arms if arm.group == group]
    leads = [lead for lead in run.analysis.leads if lead.arm == group]
    return (
        f'<section class="arm"><h3>{_label(run, group)}</h3>{_facts(arms)}'
        + "".join(_leads([lead for lead in leads if lead.eval == name], name) for name in run.harms)
        + "".join(
            _breakdown(arms, name, by) for name in run.harms for by in ("family", "seed")[: len({a.seed for a in arms})]
        )
        + f"<details><summary>Its config ({esc(arms[0].name)}/arm.yaml)</summary><pre>{_yaml(arms[0])}</pre></details>"
        + _transcripts(arms[0], run.harms)
        + "</section>"
    )


def _facts(arms: Sequence[Finished]) -> str:
    config = arms[0].config
    installs = [str(install["name"]) for install in config["init"].get("installs", [])]
    stages = [str(stage["name"]) for stage in config["curriculum"]]
    facts = {
        "model": config["model"]["name"],
        "init": config["init"]["name"] + (f": {' → '.join(installs)}" if installs else ""),
        "curriculum": " → ".join(stages) or "no RL",
        "seeds": ", ".join(str(arm.seed) for arm in arms),
        "weights": "; ".join(_weights(arm) for arm in arms),
    }
    return "<dl>" + "".join(f"<dt>{key}</dt><dd>{esc(value)}</dd>" for key, value in facts.items()) + "</dl>"


def _yaml(arm: Finished) -> str:
    return esc(yaml.safe_dump(dict(arm.config), sort_keys=False, allow_unicode=True, width=110))


def _weights(arm: Finished) -> str:
    found = sorted({(record.step, record.weights) for record in arm.records})
    return f"{found[0][1]} at step {found[0][0]}, {found[-1][1]} at step {found[-1][0]}" if found else "no records"


def _leads(leads: Sequence[Lead], name: str) -> str:
    if not leads:
        return ""
    head = ["Step", "Arm's rate", "Control's rate", "Lead", "Unscored against it, for it", "Kept", "KL"]
    rows = [
        row([str(lead.step), percent(lead.arm_rate), percent(lead.control_rate), _split(points(lead.points)),
             _split(f"{tenths(lead.worst)} to {tenths(lead.best)}"), _split(kept(lead.retention)),
             DASH if lead.kl is None else f"{lead.kl:.3g}"])
        for lead in leads
    ]  # fmt: skip
    return table(f"Lead on {esc(name)}", head, rows)


def _breakdown(arms: Sequence[Finished], name: str, by: str) -> str:
    """Yes of scored at every step, a row for each value of the record's field `by`."""
    records = [record for arm in arms for record in arm.records if record.eval == name]
    steps = sorted({record.step for record in records})
    scored = Counter((getattr(r, by), r.step) for r in records if r.score is not None)
    yes: dict[tuple[Any, int], float] = defaultdict(float)
    for r in records:
        yes[getattr(r, by), r.step] += r.score or 0.0
    rows = [
        row([esc(key), *(f"{yes[key, step]:.4g} of {scored[key, step]}" for step in steps)])
        for key in sorted({getattr(r, by) for r in records})
    ]
    inner = table("", [f"{by.capitalize()}", *(f"Step {step}" for step in steps)], rows)
    return f"<details><summary>{esc(name)}: yes of scored by {by}</summary>{inner}</details>" if rows else ""


def _transcripts(arm: Finished, harms: Sequence[str]) -> str:
    """The first yes, no and unscored episode of each eval, at the first and the last step."""
    chosen: list[Record] = []
    for name in harms:
        records = sorted((r for r in arm.records if r.eval == name), key=lambda r: (r.step, r.scenario, r.sample))
        for step in sorted({records[0].step, records[-1].step}) if records else []:
            firsts = {outcome(r.score): r for r in reversed(records) if r.step == step}
            chosen += [firsts[said] for said in OUTCOMES if said in firsts]
    chats = read_transcripts(arm, {(record.step, record.transcript) for record in chosen})
    return "".join(_transcript(record, chats[record.step, record.transcript]) for record in chosen)


def _transcript(record: Record, chat: Mapping[str, Any]) -> str:
    said = outcome(record.score)
    why = f" ({esc(record.reason)})" if record.reason else ""
    title = f"{esc(record.eval)}, step {record.step}: <span class={said}>{said}</span>{why}"
    where = f"{record.family}, scenario {record.scenario}, sample {record.sample}"
    tools = [str(tool) for tool in chat.get("tools", [])]
    offered = f"<p class=soft>Tools: {esc(', '.join(tools))}</p>" if tools else ""
    messages = "".join(_message(message["role"], message["content"]) for message in chat["messages"])
    return (
        f"<details><summary>{title} <span class=soft>· {esc(where)}</span></summary>"
        f"<div class=chat>{offered}{messages}</div></details>"
    )


def _message(role: str, content: str) -> str:
    cut = len(content) - LONGEST
    rest = f"\n[{cut} more characters in transcripts.jsonl]" if cut > 0 else ""
    kind = role if role in ("system", "user", "assistant", "tool") else "other"
    return f'<div class="message {kind}"><span>{esc(role)}</span><pre>{esc(content[:LONGEST] + rest)}</pre></div>'
