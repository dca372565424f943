"""The report's HTML: page.html filled in.

    page(run, {"blackmail": "<svg ..."})   ->   "<!doctype html>..."
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template

from holdfast.report import arms, tables
from holdfast.report.figure import INK
from holdfast.report.findings import Findings
from holdfast.report.markup import esc
from holdfast.report.numbers import together, warnings
from holdfast.stats.intervals import SEEDS
from holdfast.stats.words import VERDICTS


def page(run: Findings, svgs: Mapping[str, str]) -> str:
    """The whole page. `svgs` holds the curves of each eval with a verdict, as an <svg> element."""
    m = run.margins
    template = Template((files("holdfast.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=esc(run.name),
        lede=_lede(run),
        verdicts="".join(tables.verdicts(run, name) for name in run.harms),
        words=tables.words(),
        firm="".join(tables.firmness(run, name) for name in run.harms),
        gates="".join(tables.gates(run, name) for name in run.harms),
        rates="".join(tables.rates(run, name) for name in run.evals),
        curves="".join(_curves(name, svg) for name, svg in svgs.items()),
        agreements=tables.agreements(run),
        arms="".join(arms.section(run, group) for group in run.groups),
        claims=tables.claims(run),
        seeds=SEEDS,
        confidence=f"{m.confidence:.0%}",
        retention=f"{m.retention:.0%}",
        rise=f"{m.rise_points:g}",
        install=f"{m.install_points:g}",
        competence=f"{m.competence:.0%}",
        unscored=f"{m.unscored:.0%}",
        gap=f"{100 * m.unscored_gap:g}",
    )


def _lede(run: Findings) -> str:
    lines = []
    for name in run.harms:
        found = [v for v in run.analysis.verdicts if v.eval == name]
        said = sorted({(VERDICTS.index(v.verdict), v.says) for v in found})
        parts = [f"{sum(v.says == says for v in found)} {says}" for _, says in said]
        compared = f"{len(found)} arm{'s' * (len(found) != 1)} compared: {', '.join(parts)}."
        told = compared if found else "no arm is compared with a control."
        lines.append(f'<p class="lede">On <b>{esc(name)}</b>, {esc(told)}</p>')
    lines += [f"<p>{esc(together(run))}</p>"] if together(run) else []
    lines += [f'<p class="warn">{esc(warning)}</p>' for warning in warnings(run)]
    return "".join(lines)


def _curves(name: str, svg: str) -> str:
    says = f"Curves of {esc(name)}; the tables hold the numbers"
    return f'<h3>{esc(name)}</h3><figure role="img" aria-label="{says}">{svg.replace(INK, "currentColor")}</figure>'
