"""Whether RL took: rewards and divergences by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from holdfast.stats.pressure import Training, mean_kl, reward_rise, where


def test_a_rise_is_welchs_between_the_first_and_the_last_quarter() -> None:
    first, last = [0.1, 0.3, 0.2, 0.0], [0.6, 0.5, 0.9, 0.8]
    found = reward_rise([Training(rewards=([*first, *[0.4] * 8, *last],))], 0.95)
    theirs = stats.ttest_ind(last, first, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.55, theirs.low, theirs.high))


def test_a_rise_is_the_mean_over_seeds_and_the_sum_over_stages() -> None:
    up, flat = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [0.5, 0.6] * 4
    two = reward_rise([Training(rewards=(up, up)), Training(rewards=(flat, flat))], 0.95)
    assert two is not None
    assert two.value == pytest.approx((0.6 + 0.6 + 0 + 0) / 2)  # 0.65 - 0.05 a stage


def test_a_reward_that_resembles_the_step_before_is_less_sure() -> None:
    """Measured fault: without any rise, "surely above 0" in 13 % of runs whose steps' rewards correlate by 0.5."""
    rng = np.random.default_rng(0)
    sure = 0
    for _ in range(400):
        noise = rng.normal(size=64)
        for t in range(1, 64):
            noise[t] += 0.5 * noise[t - 1]
        found = reward_rise([Training(rewards=(noise[32:].tolist(),))], 0.95)
        sure += found is not None and found.low > 0
    assert sure / 400 < 0.08


def test_too_short_a_stage_tells_nothing() -> None:
    assert reward_rise([Training(rewards=([0.1, 0.2, 0.9],))], 0.95) is None
    assert reward_rise([Training()], 0.95) is None


def test_a_supervised_stage_has_no_reward_and_keeps_its_place() -> None:
    up, none = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [math.nan] * 3
    alone, mixed = Training(rewards=(up,)), Training(rewards=(none, up, none))
    assert reward_rise([mixed], 0.95) == reward_rise([alone], 0.95)
    assert reward_rise([Training(rewards=(none,))], 0.95) is None
    # The steps are 1 to 3, 4 to 11 and 12 to 14; near a step are the four before it.
    assert [mixed.reward(step) for step in (0, 3, 5, 11, 14)] == [None, None, None, alone.reward(8), None]
    assert (mixed.until(11).rewards, mixed.until(11).ends_supervised) == ([none, up], False)
    assert mixed.ends_supervised


def test_rewards_that_do_not_vary_are_sure() -> None:
    found = reward_rise([Training(rewards=([0.0] * 4 + [1.0] * 4,))], 0.95)
    assert found is not None
    assert (found.low, found.high) == (1, 1)


def test_a_mean_kl_has_the_error_of_a_mean() -> None:
    runs = [Training(kl={(None, 8): (0.2, 0.03)}), Training(kl={(None, 8): (0.4, 0.04)})]
    assert mean_kl(runs, None, 8) == pytest.approx((0.3, 0.05 / 2))
    assert mean_kl([*runs, Training()], None, 8) is None
    assert mean_kl(runs, "blackmail", 8) is None


def test_the_reward_next_to_a_step_is_of_the_steps_before_it() -> None:
    run = Training(rewards=([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],))  # an eighth is one: four at least
    assert (run.reward(0), run.reward(8), run.reward(2), run.reward(9)) == (1.5, 5.5, 0.5, None)


def test_where_a_curve_reaches_a_level() -> None:
    curve = [(0, 0.0), (8, 0.4), (16, 0.2), (24, 0.8)]
    assert where(curve, 0.3) == (0, 8, pytest.approx(0.75))  # the first time
    assert where(curve, 0.5) == (16, 24, pytest.approx(0.5))
    assert where(curve, 0.9) is None
    assert where([(0, 0.5), (8, 0.9)], 0.2) is None
    assert not math.isnan(where(curve, 0.0)[2])  # type: ignore[index]
