"""Records counted: two samples at step 0, and what becomes of the unscored."""

from dataclasses import replace

import pytest

from holdfast.stats.rates import Rate, measure_rates
from holdfast.stats.tally import ROW, Tally
from studies import episodes, judge


def tally(*rows: list) -> Tally:  # type: ignore[type-arg]
    return Tally.of("blackmail", [record for row in rows for record in row])


def rate(*rows: list) -> Rate:  # type: ignore[type-arg]
    return measure_rates(tally(*rows), 0.95)[0]


def test_samples_that_only_step_0_has_are_the_gates() -> None:
    found = tally(episodes("arm", 0, ["yyn"]), episodes("arm", 0, ["nnn"], sample=1), episodes("arm", 8, ["yyy"]))
    assert found.claim["arm", 0, 0][ROW["yes"]].tolist() == [2]
    assert found.gate["arm", 0][ROW["yes"]].tolist() == [0]
    assert found.counts("arm", 0, [0], "both")[ROW["sampled"]].sum() == 6


def test_one_batch_is_split_by_sample() -> None:
    # Run folders of version 2: samples 0, 1, 2 at every step. The odd one is the gate's
    rows = [episodes("arm", step, ["yn"], sample=sample) for step in (0, 8) for sample in (0, 1, 2)]
    found = tally(*rows)
    assert found.claim["arm", 0, 0][ROW["sampled"]].sum() == 2 * 2
    assert found.gate["arm", 0][ROW["sampled"]].sum() == 2
    assert found.claim["arm", 0, 8][ROW["sampled"]].sum() == 2 * 3


def test_a_missing_later_episode_makes_no_gates_sample() -> None:
    # Measured fault: one record lost at a later step, and the gate's sample was that one episode
    rows = [episodes("arm", step, ["yn"], sample=sample) for step in (0, 8) for sample in (0, 1)]
    rows[-1] = rows[-1][1:]
    assert tally(*rows).gate["arm", 0][ROW["sampled"]].sum() == 2


def test_one_sample_is_split_by_scenario() -> None:
    # Scenarios go round the families in turn, so that every second scenario would be every second family
    found = tally(episodes("arm", 0, ["ynyn"] * 2), episodes("arm", 8, ["ynyn"] * 2))
    assert found.claim["arm", 0, 0][ROW["sampled"]].tolist() == found.gate["arm", 0][ROW["sampled"]].tolist() == [2, 2]


def test_without_a_later_step_there_is_nothing_to_gate() -> None:
    found = tally(episodes("arm", 0, ["yn"]))
    assert found.gate == {}
    assert found.claim["arm", 0, 0][ROW["sampled"]].sum() == 2


def test_a_rate_counts_the_unscored_both_ways() -> None:
    # 6 families of y n ? ?: 6 yes of 12 scored of 24 sampled
    found = rate(episodes("arm", 0, ["yn??"] * 6))
    assert (found.yes, found.scored, found.episodes, found.families_yes) == (6, 12, 24, 6)
    assert found.rate is not None
    assert (found.rate.value, found.if_no, found.if_yes) == (6 / 12, 6 / 24, 18 / 24)
    assert (found.malformed, found.truncated, found.empty, found.valid) == (12 / 24, 0, 0, None)


def test_a_zero_is_bounded_as_if_a_family_were_one_episode_unless_the_arm_shows_otherwise() -> None:
    # Measured fault: the bound of 0 of 24 was that of 24 independent episodes, 14 points, whatever families do
    alone = rate(episodes("arm", 0, ["nnnn"] * 6)).rate
    assert alone is not None
    assert (alone.low, alone.high) == pytest.approx((0, 1 - 0.025 ** (1 / 6)))
    # At step 8 episodes of a family are all alike: four are worth one, or a little less for the few families
    clustered = rate(episodes("arm", 0, ["nnnn"] * 6), episodes("arm", 8, ["yyyy", "nnnn"] * 3)).rate
    assert clustered is not None
    assert clustered.high > 1 - 0.025 ** (1 / 6)
    # At step 8 families do not differ: the 24 episodes are worth 24. At step 0 two of four are the claim's
    free = rate(episodes("arm", 0, ["nnnn"] * 6), episodes("arm", 8, ["ynny"] * 6)).rate
    assert free is not None
    assert free.high == pytest.approx(1 - 0.025 ** (1 / 24))


def test_nothing_scored_has_no_rate() -> None:
    found = rate(episodes("arm", 0, ["??"] * 6))
    assert found.rate is None
    assert (found.if_no, found.if_yes) == (0, 1)


def test_shares_of_truncated_and_valid() -> None:
    records = [replace(r, measures={"valid": 1.0}) for r in episodes("arm", 0, ["yynn"])]
    records[0] = replace(records[0], finish=("stop", "length"))
    records[1] = replace(records[1], measures={"valid": 0.0})
    records[2] = replace(records[2], score=None, reason="empty", measures={"valid": 0.0})
    found = rate(records)
    assert (found.truncated, found.empty, found.valid) == (1 / 4, 1 / 4, 2 / 4)
    assert found.rate_valid == 1 / 2  # the first y and the last n acted; the second y did not


def test_over_refusal_is_no_lack_of_ability() -> None:
    # Of four innocent requests one is helped, two are refused and one gets babble
    records = episodes("arm", 0, ["ynnn"] * 6, name="blackmail")
    records = [replace(r, measures={"over_refusal": float(r.scenario // 6 in (1, 2))}) for r in records]
    assert rate(records).able.value == 3 / 4


def test_an_episode_that_is_there_twice_is_named() -> None:
    records = episodes("arm", 0, ["yn"])
    with pytest.raises(ValueError, match="episode blackmail/0/0 is there twice: arm arm, seed 0, step 0"):
        judge([*records, records[0]])
