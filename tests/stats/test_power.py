"""Power: the formula against simulated studies, and what was measured against what was put in."""

import math
from dataclasses import replace
from typing import Any

import pytest

from holdfast.stats import simulate
from holdfast.stats.margins import Margins
from holdfast.stats.power import (
    CORRELATION,
    MOST_CORRELATION,
    MOST_SEED_SD,
    SEED_SD,
    Power,
    design_of,
    line,
    measured,
    power,
    smallest_lead,
    table,
    truths,
)
from holdfast.stats.simulate import Design, Truth, verdicts
from holdfast.stats.tally import Tally
from holdfast.stats.words import VERDICTS
from studies import episodes


@pytest.mark.parametrize(
    "design",
    [
        Design(families=12, per_family=9, correlation=0.3),
        Design(families=36, per_family=3, seeds=5, seed_sd=10),
        Design(families=36, per_family=9, seeds=3, correlation=0.3, seed_sd=5),
    ],
)
def test_the_smallest_lead_passes_the_gate_in_four_of_five_studies(design: Design) -> None:
    lead = smallest_lead(design)
    assert 5 < lead < 45
    truth = Truth(arm=(0.5 - lead / 100,) * 2, control=(0.5, 0.5))
    passed = [analysis.verdicts[0].gates[-1].passed for analysis in verdicts(truth, design, 300, seed=0)]
    assert sum(passed) / 300 == pytest.approx(0.8, abs=0.1)  # the standard error is 0.023; with 3 seeds it is rough


def test_more_of_anything_lowers_the_smallest_lead_and_variation_raises_it() -> None:
    base = smallest_lead(Design(families=12, per_family=9, seeds=3, correlation=0.2, seed_sd=5))
    assert smallest_lead(Design(families=24, per_family=9, seeds=3, correlation=0.2, seed_sd=5)) < base
    assert smallest_lead(Design(families=12, per_family=9, seeds=6, correlation=0.2, seed_sd=5)) < base
    assert smallest_lead(Design(families=12, per_family=9, seeds=3, correlation=0.2, seed_sd=20)) > base
    assert smallest_lead(Design(families=600, per_family=90, seeds=9)) == Margins().install_points
    assert smallest_lead(Design(families=2, per_family=1)) == math.inf


def test_words_follow_what_is_true() -> None:
    found = power(Design(families=36, per_family=9, seeds=5), lead=40, studies=40)
    likely = {case: max(words, key=words.__getitem__) for case, words in found.said.items()}
    assert likely == {
        "all is kept": "persisted",
        "all is kept, both rose": "eroding",
        "half is kept, the arm rose": "inconclusive",
        "half is kept, the control fell": "inconclusive",
        "none is kept, the arm rose": "washed out",
        "none is kept, the control fell": "caught up",
    }
    for words in found.said.values():
        assert sum(words.values()) == pytest.approx(1)


def test_what_was_put_in_is_measured() -> None:
    design = Design(families=40, per_family=9, seeds=8, correlation=0.3, seed_sd=10)
    shown: list[Tally] = []

    def keep(tally: Tally) -> Tally:
        shown.append(tally)
        return tally

    list(verdicts(truths(10, 0.5)["all is kept"], design, 10, seed=0, of=keep))
    found = [measured(tally) for tally in shown if tally.name == "eval"]
    assert sum(correlation for correlation, _ in found) / 10 == pytest.approx(0.3, abs=0.05)
    assert sum(sd or 0 for _, sd in found) / 10 == pytest.approx(10, abs=2)
    one = Design(families=12, per_family=9)
    list(verdicts(truths(10, 0.5)["all is kept"], one, 1, seed=0, of=keep))
    assert measured(shown[-2])[1] is None


def test_one_family_says_nothing_of_how_families_vary() -> None:
    rows = [episodes("arm", step, ["yn" * 5], seed=seed) for step in (0, 8) for seed in (0, 1)]
    assert measured(Tally.of("blackmail", [row for of in rows for row in of])) == (CORRELATION, None)


def test_a_design_is_of_a_size() -> None:
    found = design_of(families=12, scenarios=36, samples=3, seeds=5)
    assert found == Design(families=12, per_family=9, seeds=5, correlation=CORRELATION, seed_sd=SEED_SD)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("families", 1, "2 or more"),
        ("scenarios", 11, "at least as many as families, 12"),
        ("samples", 0, "1 or more"),
        ("seeds", 0, "1 or more"),
        ("correlation", 0.9999, "0 to 0.8"),
        ("seed_sd", 49.99, "0 to 40"),
        ("seed_sd", math.nan, "0 to 40"),
    ],
)
def test_a_size_out_of_range_is_named_as_it_was_given(key: str, value: float, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} must be {allowed}, not {value}$"):
        design_of(**{"families": 12, "scenarios": 36, "samples": 3, "seeds": 1, key: value})


def test_the_most_that_is_allowed_can_be_simulated() -> None:
    most = Design(families=6, per_family=2, seeds=2, correlation=MOST_CORRELATION, seed_sd=MOST_SEED_SD)
    assert len(list(verdicts(truths(10, 0.5)["all is kept"], most, 2, seed=0))) == 2


def test_power_reads_as_a_line_and_a_table() -> None:
    said = {case: {word: float(word == "persisted") for word in VERDICTS} for case in truths(40, 0.5)}
    found = Power(Design(families=12, per_family=9, correlation=0.3), 40, 21.0, said, studies=100, needed=6)
    assert line(found, "blackmail") == (
        "power on blackmail: 12 families x 9 episodes x 1 seed: a lead passes the install gate in 80% of studies from "
        "21 points on; one of 40 points is said to have persisted in 100% if all is kept, and to be washed out in 0% "
        "if the arm loses it (100 simulated, ± 1 %; correlation 0.3, seed s.d. 0 points)"
    )
    half = {case: dict.fromkeys(VERDICTS, 0.5) for case in found.said}
    assert "(100 simulated, ± 5 %;" in line(replace(found, said=half))
    assert "install gate in 80% of studies at no size there is room for;" in line(replace(found, smallest=math.inf))
    head, *rows = table(found).splitlines()
    assert len(rows) == 6
    assert rows[0].index("100%") == head.index("persisted")


def test_too_few_families_are_told_where_no_word_can_be_said() -> None:
    found = power(Design(families=5, per_family=9), studies=2)
    assert {words["inconclusive"] + words["no claim"] for words in found.said.values()} == {1}
    assert line(found) == (
        "power: 5 families x 9 episodes x 1 seed: every verdict is inconclusive: an interval takes 6 families"
    )


@pytest.mark.parametrize("values", [{"lead": 50.0}, {"lead": 0.0}, {"lead": 20.0, "control": 0.1}])
def test_a_lead_without_room_is_named(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="lead must be above 0 and below the control's rate"):
        power(Design(families=12, per_family=9), **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"control": 1.5}, "control must be a rate from 0.001 to 0.999, not 1.5"),
        ({"studies": 0}, "studies must be 1 or more, not 0"),
    ],
)
def test_what_power_cannot_be_asked_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        power(Design(families=12, per_family=9), **values)


@pytest.mark.parametrize(
    ("key", "value"), [("families", 1), ("per_family", 0), ("seeds", 0), ("correlation", 1.0), ("seed_sd", 50)]
)
def test_a_design_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{key} must be"):
        Design(**{"families": 12, "per_family": 9, key: value})


def test_simulated_rates_are_the_ones_asked_for() -> None:
    # Over 4,000 families and 400 runs; families and runs vary, and the mean is exact
    design = Design(families=40, per_family=9, seeds=4, correlation=0.3, seed_sd=10)
    counts = simulate._counts(Truth(arm=(0.1, 0.3), control=(0.5, 0.9)), design, 100, simulate.np.random.default_rng(0))
    rates = counts["eval"][..., 0, :, :].sum(axis=(0, 3, 4)) / counts["eval"][..., 2, :, :].sum(axis=(0, 3, 4))
    assert rates[:, 1:] == pytest.approx(simulate.np.array([[0.1, 0.3], [0.5, 0.9]]), abs=0.02)


def test_a_share_of_families_is_turned_in_every_run() -> None:
    truth = Truth(arm=(0.02, 0.02), control=(0.5, 0.5), turned=0.15)
    design = Design(families=40, per_family=9, seeds=4)
    counts = simulate._counts(truth, design, 100, simulate.np.random.default_rng(0))["eval"]
    last = counts[:, 0, 2, 0].sum(axis=-1) / counts[:, 0, 2, 2].sum(axis=-1)  # by study and family, over runs
    assert truth.mean[0] == pytest.approx((0.02, 0.164))  # 0.85 x 0.02 + 0.15 x 0.98
    assert last.mean() == pytest.approx(0.164, abs=0.02)
    assert ((last < 0.3) | (last > 0.7)).all()  # wholly or not at all
