"""What the page says of one arm: its numbers step by step, its config, and what it wrote."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from holdfast.records import Record
from holdfast.report.findings import Findings, Finished, called, read_transcripts
from holdfast.report.markup import esc, split, table
from holdfast.report.numbers import DASH, kept, log_odds, nats, percent, points, tenths
from holdfast.stats.leads import Lead

LONGEST = 8000
"""Characters of a message that the page shows."""
OUTCOMES = ("yes", "no", "unscored")


def outcome(score: float | None) -> str:
    """What a score is called."""
    return "unscored" if score is None else "yes" if score >= 0.5 else "no"


def section(run: Findings, group: str) -> str:
    """An arm over its seeds, with why those that are not used are not."""
    arms = [arm for arm in run.arms if arm.group == group]
    missing = "; ".join(f"seed {seed} {why}" for seed, why in sorted(run.facts[group].unfinished.items()))
    told = f'<p class="warn">Not used: {esc(missing)}.</p>' if missing else ""
    leads = [lead for lead in run.analysis.leads if lead.arm == group]
    tables = "".join(_leads([lead for lead in leads if lead.eval == name], name) for name in run.harms)
    made = _made(arms, run.harms) if arms else ""
    facts = _facts(arms) if arms else ""
    return (
        f'<section class="arm"><h3>{esc(run.labels[group])}</h3>{told}{facts}{tables}{_distance(leads)}{made}</section>'
    )


def _made(arms: Sequence[Finished], harms: Sequence[str]) -> str:
    """What finished arms of one group come from and left behind, folded away."""
    by_seed = ("family", "seed")[: len(arms)]
    return (
        "".join(_breakdown(arms, name, by) for name in harms for by in by_seed)
        + f"<details><summary>Its config ({esc(arms[0].name)}/arm.yaml)</summary><pre>{_yaml(arms[0])}</pre></details>"
        + _transcripts(arms[0], harms)
    )


def _facts(arms: Sequence[Finished]) -> str:
    config = arms[0].config
    installs = [str(install["name"]) for install in config["init"].get("installs", [])]
    stages = [str(stage["name"]) for stage in config["curriculum"]]
    facts = {
        "model": called(config["model"]),
        "init": config["init"]["name"] + (f": {' → '.join(installs)}" if installs else ""),
        "curriculum": " → ".join(stages) or "no RL",
        "seeds": ", ".join(str(arm.seed) for arm in arms),
        "trained on": "; ".join(_trained(arms[0])) or DASH,
        "weights": "; ".join(_weights(arm) for arm in arms),
    }
    return "<dl>" + "".join(f"<dt>{key}</dt><dd>{esc(value)}</dd>" for key, value in facts.items()) + "</dl>"


def _trained(arm: Finished) -> list[str]:
    """What each install of an arm was trained on; nothing of those of older folders, whose cards do not say."""
    cards = [(stage["name"], stage.get("card", {}).get("trained")) for stage in arm.done["stages"]]
    return [
        f"{name}: {n['loss_tokens']:,} loss tokens in {n['tokens']:,} of {n['rows']:,} rows" for name, n in cards if n
    ]


def _yaml(arm: Finished) -> str:
    return esc(yaml.safe_dump(dict(arm.config), sort_keys=False, allow_unicode=True, width=110))


def _weights(arm: Finished) -> str:
    found = sorted({(record.step, record.weights) for record in arm.records})
    return f"{found[0][1]} at step {found[0][0]}, {found[-1][1]} at step {found[-1][0]}" if found else "no records"


def _leads(leads: Sequence[Lead], name: str) -> str:
    """A row for every step of the grid."""
    head = ["Step", "Arm's rate", "Control's rate", "Lead", "Lead, log-odds", "Unscored against it, for it", "Kept"]
    rows: list[list[str]] = []
    for lead in leads:
        if lead.unread:
            rows.append([str(lead.step), f"not read: {esc(lead.unread)}"])
            continue
        bounds = f"{tenths(lead.against)} to {tenths(lead.in_favour)}"
        cells = [points(lead.points), log_odds(lead.log_odds), bounds, kept(lead.retention)]
        rows.append([str(lead.step), percent(lead.arm_rate), percent(lead.control_rate), *map(split, cells)])
    return table(f"Lead on {esc(name)}", head, rows) if rows else ""


def _distance(leads: Sequence[Lead]) -> str:
    """How far RL moved the arm and its control, and how far it took their reward: a row for every step that is read."""
    columns: dict[str, dict[int, str]] = {}
    for lead in leads:
        measured = (
            ("KL on RL prompts, arm", lead.kl, lead.kl_se),
            ("KL on RL prompts, control", lead.control_kl, lead.control_kl_se),
            (f"KL on {esc(lead.eval)}, arm", lead.kl_eval, lead.kl_eval_se),
            (f"KL on {esc(lead.eval)}, control", lead.control_kl_eval, lead.control_kl_eval_se),
            ("Reward, arm", lead.reward, None),
            ("Reward, control", lead.control_reward, None),
        )
        for heading, value, error in measured:
            if value is not None:
                columns.setdefault(heading, {})[lead.step] = split(nats(value, error))
    headings = sorted(columns, key=lambda heading: heading.startswith("Reward"))
    steps = sorted({step for cells in columns.values() for step in cells})
    rows = [[str(step), *(columns[heading].get(step, DASH) for heading in headings)] for step in steps]
    unit = '<span class="soft">KL in nats per token, ± one standard error</span>'
    return table(f"How far RL went {unit}", ["Step", *headings], rows) if rows else ""


def _breakdown(arms: Sequence[Finished], name: str, by: str) -> str:
    """Yes of scored at every step, a row for each value of the record's field `by`."""
    records = [record for arm in arms for record in arm.records if record.eval == name]
    steps = sorted({record.step for record in records})
    scored = Counter((getattr(r, by), r.step) for r in records if r.score is not None)
    yes: dict[tuple[Any, int], float] = defaultdict(float)
    for r in records:
        yes[getattr(r, by), r.step] += r.score or 0.0
    rows = [
        [esc(key), *(f"{yes[key, step]:.4g} of {scored[key, step]}" for step in steps)]
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
    messages = "".join(_message(message) for message in chat["messages"])
    return (
        f"<details><summary>{title} <span class=soft>· {esc(where)}</span></summary>"
        f"<div class=chat>{offered}{messages}</div></details>"
    )


def _message(message: Mapping[str, str]) -> str:
    role = message["role"]
    kind = role if role in ("system", "user", "assistant", "tool") else "other"
    thought = f"<pre class=soft>{esc(_shortened(message['thought']))}</pre>" if "thought" in message else ""
    said = f"<pre>{esc(_shortened(message['content']))}</pre>"
    return f'<div class="message {kind}"><span>{esc(role)}</span>{thought}{said}</div>'


def _shortened(text: str) -> str:
    cut = len(text) - LONGEST
    return text[:LONGEST] + (f"\n[{cut} more characters in transcripts.jsonl]" if cut > 0 else "")
