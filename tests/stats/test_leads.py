"""Leads, what is left of them, and curves at equal KL and reward, against numbers computed by hand."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.stats.gates import Group, Measure
from holdfast.stats.leads import Lead, crossing
from holdfast.stats.pressure import Training
from holdfast.stats.verdict import Analysis
from studies import EVALS, PRESSED, arm_of, episodes, judge, only, share, spread, study


def lead(analysis: Analysis, step: int) -> Lead:
    return next(found for found in analysis.leads if found.step == step)


def test_leads_and_retention_by_hand() -> None:
    # D(0) = 75 % - 25 % = 50 points, D(10) = 50 % - 25 % = 25 points, R(10) = 25 / 50, own rise 0
    found = study(arm={0: share(1, 4), 10: share(1, 4)}, control={0: share(3, 4), 10: share(2, 4)})
    start, end = lead(found, 0), lead(found, 10)
    assert start.points is not None
    assert end.points is not None
    assert (start.points.value, end.points.value) == (50, 25)
    assert (end.arm_rate, end.control_rate) == (0.25, 0.5)
    assert start.retention is not None
    assert end.retention is not None
    assert (start.retention.value, end.retention.value) == (1, 0.5)
    assert end.rise is not None
    assert end.rise.value == 0
    # Log-odds with half an episode added: control log(24.5 / 24.5) of 48, arm log(12.5 / 36.5)
    assert end.log_odds is not None
    assert end.log_odds.value == pytest.approx(-math.log(12.5 / 36.5))


def test_a_leads_bounds_count_the_unscored_against_and_for_the_arm() -> None:
    # Arm y n ? ?: 50 % scored, 75 % at worst, 25 % at best. Control y y y ?: 100 %, at worst 75 %, at best 100 %
    found = lead(study(arm={0: ["yn??"] * 6, 8: ["yn??"] * 6}, control={0: ["yyy?"] * 6, 8: ["yyy?"] * 6}), 8)
    assert found.points is not None
    assert (found.points.value, found.against, found.in_favour) == (100 - 50, 75 - 75, 100 - 25)


def test_pairing_on_families_narrows_a_lead() -> None:
    # Families differ by 60 points, the arm is 20 better in each of them
    control = ["y" * 8 + "n" * 2, "y" * 2 + "n" * 8] * 6
    better = ["y" * 6 + "n" * 4, "n" * 10] * 6
    found = study(arm={0: better, 8: better}, control={0: control, 8: control})
    points, rate = lead(found, 8).points, next(r for r in found.rates if (r.arm, r.step) == ("control", 8)).rate
    assert points is not None
    assert rate is not None
    assert points.value == pytest.approx(20)
    assert points.high - points.low < 100 * (rate.high - rate.low)


def test_an_arm_and_its_control_exchanged_mirror_the_lead() -> None:
    records = arm_of("arm", {0: spread(4), 8: spread(6)}) + arm_of("control", {0: spread(12), 8: spread(14, by=3)})
    swapped = [replace(r, arm="control" if r.arm == "arm" else "arm") for r in records]
    one, other = lead(judge(records), 8).points, lead(judge(swapped), 8).points
    assert one is not None
    assert other is not None
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_neither_order_nor_names_of_arms_nor_other_evals_change_a_number(seed: int) -> None:
    rng = random.Random(seed)
    records = [
        r
        for arm in ("arm", "control", "bystander")
        for step in (0, 10)
        for r in episodes(arm, step, ["".join(rng.choice("yn?") for _ in range(4)) for _ in range(7)])
    ]
    before = judge(records)
    renamed = [replace(r, arm={"arm": "zz", "control": "aa"}.get(r.arm, r.arm)) for r in records]
    renamed += episodes("aa", 0, ["yn"] * 3, name="mailbox")
    rng.shuffle(renamed)
    groups = {"zz": Group(control="aa", grid=(0, 10)), "aa": Group(grid=(0, 10))}
    evals = {"mailbox": Measure(better="high"), "blackmail": Measure(better="low")}
    after = judge(renamed, evals=evals, groups=groups)
    assert [replace(r, arm="arm", control="control") for r in after.leads] == list(before.leads)
    assert judge(records) == before


def test_only_shared_seeds_are_compared() -> None:
    one = arm_of("arm", {0: spread(6), 8: spread(6)}) + arm_of("control", {0: spread(12), 8: spread(12)})
    two = one + arm_of("arm", {0: spread(12), 8: spread(12)}, seed=1)  # its control at seed 1 is not there
    assert lead(judge(two), 8).points == lead(judge(one), 8).points
    assert only(judge(two)).seeds == 1


def test_a_step_that_cannot_be_read_is_a_row_with_its_reason() -> None:
    # Measured fault: such a step vanished, and the one before it was taken for the last
    found = study(arm={0: share(2), 8: share(2), 16: ["?" * 20] * 12}, control=dict.fromkeys((0, 8, 16), share(12)))
    assert [row.step for row in found.leads] == [0, 8, 16]
    assert lead(found, 16).unread == "no reply of the arm at seed 0 could be scored"
    assert lead(found, 16).points is None
    assert lead(found, 8).unread == ""


def test_a_step_of_the_grid_that_was_never_measured_is_a_row_too() -> None:
    records = arm_of("arm", {0: share(2), 8: share(2)}) + arm_of("control", {0: share(12), 8: share(12)})
    groups = {"arm": Group(control="control", grid=(0, 8, 16)), "control": Group(grid=(0, 8, 16))}
    assert lead(judge(records, groups=groups), 16).unread == "the arm was not measured there at seed 0"


@pytest.mark.parametrize(
    ("rests", "expected"),
    [
        ([20, 10, -10], 15),  # D(t) - D(0) / 2 of leads 40, 30, 10: 0 halfway between steps 10 and 20
        ([20, 0, -10], 10),  # at the step itself
        ([20, 10, 5], math.inf),  # never, so nothing is extrapolated
        ([20, -10, 20], 10 * 20 / 30),  # the first time, even if the lead comes back
        ([-5, 0, 5], 0),  # no lead to lose
    ],
)
def test_where_half_is_gone_by_hand(rests: list[float], expected: float) -> None:
    assert crossing([0, 10, 20], rests) == pytest.approx(expected)


def test_half_of_a_lead_is_gone_between_two_steps() -> None:
    # D is 70, 40, 0: half of 70 is 35, and 20 + (40 - 35) / 40 * 20 = 22.5
    bad = dict.fromkeys((0, 20, 40), spread(16))
    half = only(study(arm={0: spread(2, by=1), 20: spread(8, by=3), 40: spread(16, by=1)}, control=bad)).half
    assert half is not None
    assert half.value == pytest.approx(22.5)
    assert half.low < 22.5 < half.high


CURVES = {
    # KL and reward of the arm grow half as fast as those of its control
    "arm": Training(rewards=([i / 100 for i in range(40)],), kl={(None, t): (t / 100, 0.01) for t in (0, 20, 40)}),
    "control": Training(rewards=([i / 50 for i in range(40)],), kl={(None, t): (t / 50, 0.01) for t in (0, 20, 40)}),
}


def test_retention_at_equal_kl_by_hand() -> None:
    # Both have a KL of 0.4: the arm at step 40, at 20 %, the control at step 20, at 50 %. D = 30 of D(0) = 50
    arm, control = {0: spread(2), 20: spread(3), 40: spread(4)}, {0: spread(12), 20: spread(10), 40: spread(4)}
    records = arm_of("arm", arm) + arm_of("control", control)
    verdict = only(judge(records, training=CURVES))
    assert verdict.at_kl is not None
    assert verdict.at_kl.value == pytest.approx(30 / 50)
    found = [row for row in judge(records, training=CURVES).matched if row.by == "kl"]
    # At 0.2 the arm is at step 20, at 15 %, and its control at step 10, halfway from 60 to 50 %
    assert [row.level for row in found] == [0, 0.2, 0.4]
    assert [row.points.value for row in found] == pytest.approx([50, 40, 30])
    assert verdict.end is not None
    assert verdict.end.retention is not None
    assert verdict.end.retention.value == 0  # at the last step nothing is left


def test_retention_at_equal_reward_by_hand() -> None:
    # Rewards next to a step are means over five: the arm's 0.02, 0.17, 0.37; the control's 0.04, 0.34, 0.74
    # Both have 0.37: the arm at step 40, at 20 %; the control 0.03 / 0.4 of the way from 50 % to 20 %
    arm, control = {0: spread(2), 20: spread(3), 40: spread(4)}, {0: spread(12), 20: spread(10), 40: spread(4)}
    verdict = only(judge(arm_of("arm", arm) + arm_of("control", control), training=CURVES))
    assert verdict.at_reward is not None
    assert verdict.at_reward.value == pytest.approx((50 - 30 * 0.03 / 0.4 - 20) / 50)


def test_there_is_no_equal_kl_where_it_was_not_measured() -> None:
    records = arm_of("arm", {0: spread(2), 40: spread(2)}) + arm_of("control", {0: spread(12), 40: spread(12)})
    bare = Training(rewards=PRESSED.rewards)
    assert only(judge(records, training={"arm": bare, "control": bare})).at_kl is None


def test_kl_and_reward_of_both_are_beside_the_lead() -> None:
    # Measured fault: a lead was drawn over the arm's KL where it was the control that had moved
    records = arm_of("arm", {0: spread(2), 40: spread(2)}) + arm_of("control", {0: spread(12), 40: spread(12)})
    end = lead(judge(records, training=CURVES, evals=EVALS), 40)
    assert (end.kl, end.kl_se, end.control_kl, end.control_kl_se) == (0.4, 0.01, 0.8, 0.01)
    assert (end.reward, end.control_reward) == (pytest.approx(0.37), pytest.approx(0.74))
    assert end.kl_eval is None
