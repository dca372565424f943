"""Small studies for tests of the statistics: outcomes as letters, y, n or ? for unscored."""

from collections.abc import Mapping, Sequence
from itertools import chain

from holdfast.records import Record
from holdfast.stats.gates import Group, Measure
from holdfast.stats.margins import Margins
from holdfast.stats.pressure import Training
from holdfast.stats.tally import Tally
from holdfast.stats.verdict import Analysis, Verdict, analyse

SCORES = {"y": 1.0, "n": 0.0, "?": None}
Outcomes = Sequence[str]
"""A string for every family, a letter for every scenario."""
EVALS = {"blackmail": Measure(better="low", twin="mailbox"), "mailbox": Measure(better="high")}
RISING = [0.1 * (-1) ** i + 0.02 * i for i in range(32)]
PRESSED = Training(rewards=(RISING,), kl={(None, 0): (0.0, 0.0), (None, 40): (0.5, 0.05)})
"""RL that took: the reward rises from about 0 to about 0.6."""


def episodes(
    arm: str, step: int, outcomes: Outcomes, *, name: str = "blackmail", seed: int = 0, sample: int = 0
) -> list[Record]:
    """One family per string of outcomes, one scenario per letter."""
    return [
        Record(
            eval=name,
            family=f"family-{f:02d}",
            scenario=f + len(outcomes) * s,
            sample=sample,
            score=SCORES[letter],
            reason="malformed: unclosed <tool_call>" if letter == "?" else "",
            measures={},
            finish=("stop",),
            tokens=9,
            transcript=f"{name}/{f}/{s}",
            weights="00",
            arm=arm,
            seed=seed,
            step=step,
        )
        for f, letters in enumerate(outcomes)
        for s, letter in enumerate(letters)
    ]


def arm_of(name: str, outcomes: Mapping[int, Outcomes], *, seed: int = 0, able: str = "y" * 10) -> list[Record]:
    """An arm's records: at step 0 two samples of the same outcomes, and a twin whose tasks are done as `able` says."""
    rows = [episodes(name, step, of, seed=seed) for step, of in outcomes.items()]
    rows += [episodes(name, 0, outcomes[0], seed=seed, sample=1)] if 0 in outcomes else []
    families = max((len(of) for of in outcomes.values()), default=0)
    rows += [episodes(name, step, [able] * families, name="mailbox", seed=seed) for step in outcomes]
    return list(chain(*rows))


def judge(
    records: Sequence[Record],
    *,
    margins: Margins | None = None,
    evals: Mapping[str, Measure] = EVALS,
    groups: Mapping[str, Group] | None = None,
    training: Mapping[str, Training] | None = None,
    training_of: Mapping[tuple[str, int], Training] | None = None,
) -> Analysis:
    """Analyse an arm called "arm" beside its control, "control", whose RL took unless an arm's, or a run's, is told."""
    steps = tuple(sorted({r.step for r in records}))
    groups = groups or {"arm": Group(control="control", grid=steps), "control": Group(grid=steps)}
    runs = {(r.arm, r.seed): (training or {}).get(r.arm, PRESSED) for r in records} | dict(training_of or {})
    by_eval = {name: [r for r in records if r.eval == name] for name in dict.fromkeys(r.eval for r in records)}
    tallies = {name: Tally.of(name, rows) for name, rows in by_eval.items()}
    return analyse(tallies, evals=evals, groups=groups, margins=margins or Margins(), runs=runs)


def study(
    *, arm: Mapping[int, Outcomes], control: Mapping[int, Outcomes], seeds: int = 1, margins: Margins | None = None
) -> Analysis:
    """An arm and its control with the same outcomes at every seed."""
    both = {"arm": arm, "control": control}
    records = [r for seed in range(seeds) for name, of in both.items() for r in arm_of(name, of, seed=seed)]
    return judge(records, margins=margins)


def only(analysis: Analysis) -> Verdict:
    """The one verdict there is."""
    (verdict,) = analysis.verdicts
    return verdict


def share(yes: int, of: int = 20, families: int = 12) -> list[str]:
    """`yes` of `of` episodes in every family."""
    return ["y" * yes + "n" * (of - yes)] * families


def spread(yes: int, of: int = 20, families: int = 12, by: int = 2) -> list[str]:
    """The same on average, with families that differ by `by` yes up and down."""
    counts = [yes + (by if f % 2 else -by) for f in range(families)]
    return ["y" * count + "n" * (of - count) for count in counts]
