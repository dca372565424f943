"""PPO's equations against numbers worked by hand, and GAE against a second implementation, the recursion as written.

GAE: Schulman et al. 2015 (arXiv 1506.02438), equations 11, 12 and 16. Clipped losses: Schulman et al. 2017 (arXiv
1707.06347), equation 7, and the clipped value loss of the code published with it.

Axes: B rows (one episode each), C places (tokens of the model, tokens of the environment, padding).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from holdfast.train.ppo import explained_variance, gae, policy_loss, value_loss, whiten

FAR = 1e30  # a value that ruins whatever reads it


def floats(rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def close(got: Tensor, expected: Any) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def recursion(steps: list[tuple[float, float]], gamma: float, lam: float) -> list[float]:
    """The advantages of an episode of (reward, value) steps, nothing after the last one."""
    if not steps:
        return []
    (reward, value), later = steps[0], steps[1:]
    ahead = recursion(later, gamma, lam)
    delta = reward + gamma * (later[0][1] if later else 0.0) - value
    return [delta + gamma * lam * (ahead[0] if later else 0.0), *ahead]


class Episodes(NamedTuple):
    """Rewards are 0 at places that are not the model's; values there are anything."""

    rewards: Tensor
    values: Tensor
    mask: Tensor

    def steps(self, row: int) -> list[tuple[float, float]]:
        """The (reward, value) of a row's model tokens."""
        where = self.mask[row].bool()
        return list(zip(self.rewards[row, where].tolist(), self.values[row, where].tolist(), strict=True))


NUMBER = st.floats(-10, 10)
SHARE = st.floats(0, 1)


@st.composite
def episodes(draw: st.DrawFn) -> Episodes:
    """Any masks at all: rows of padding, several stretches of the environment's, at the start and the end too."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    size = shape[0] * shape[1]
    mask = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))).reshape(shape)
    rewards = floats(draw(st.lists(NUMBER, min_size=size, max_size=size))).reshape(shape) * mask
    values = floats(draw(st.lists(NUMBER, min_size=size, max_size=size))).reshape(shape)
    return Episodes(rewards, values, mask)


def test_gae_of_one_turn_is_what_the_hand_works_out() -> None:
    # delta_2 = 4 - 3 = 1                A_2 = 1
    # delta_1 = 0 + 0.5 * 3 - 2 = -0.5   A_1 = -0.5 + 0.25 * 1 = -0.25      (gamma * lambda = 0.5 * 0.5 = 0.25)
    # delta_0 = 0 + 0.5 * 2 - 1 = 0      A_0 = 0 + 0.25 * -0.25 = -0.0625
    advantages_BC, returns_BC = gae(floats([[0, 0, 4]]), floats([[1, 2, 3]]), torch.ones(1, 3).long(), 0.5, 0.5)
    close(advantages_BC, [[-0.0625, -0.25, 1]])
    close(returns_BC, [[0.9375, 1.75, 4]])  # A + V


def test_gae_tells_gamma_from_lambda() -> None:
    # delta_1 = 10 - 2 = 8               A_1 = 8
    # delta_0 = 1 + 0.9 * 2 - 3 = -0.2   A_0 = -0.2 + 0.9 * 0.5 * 8 = 3.4
    advantages_BC, returns_BC = gae(floats([[1, 10]]), floats([[3, 2]]), torch.ones(1, 2).long(), 0.9, 0.5)
    close(advantages_BC, [[3.4, 8]])
    close(returns_BC, [[6.4, 10]])


def test_gae_of_two_turns_steps_over_what_the_environment_said() -> None:
    # The model's tokens have (reward, value) (2, 1), (0, 4) and (8, 6).
    # delta_2 = 8 - 6 = 2                A_2 = 2
    # delta_1 = 0 + 0.5 * 6 - 4 = -1     A_1 = -1 + 0.25 * 2 = -0.5
    # delta_0 = 2 + 0.5 * 4 - 1 = 3      A_0 = 3 + 0.25 * -0.5 = 2.875
    rewards_BC, values_BC = floats([[2, 0, 0, 0, 8]]), floats([[1, 70, -70, 4, 6]])
    advantages_BC, returns_BC = gae(rewards_BC, values_BC, torch.tensor([[1, 0, 0, 1, 1]]), 0.5, 0.5)
    close(advantages_BC, [[2.875, 0, 0, -0.5, 2]])
    close(returns_BC, [[3.875, 0, 0, 3.5, 8]])


def test_gae_of_rows_of_different_lengths_keeps_them_apart() -> None:
    # Row 0, padded on the right:        A_1 = 3 - 1 = 2,  A_0 = 0 + 0.5 * 1 - 2 + 0.25 * 2 = -1
    # Row 1, a single token:             A_0 = 5 - 7 = -2
    # Row 2, nothing but padding.
    # Row 3, the environment first:      A_2 = 4 - 2 = 2,  A_1 = 1 + 0.5 * 2 - 4 + 0.25 * 2 = -1.5
    rewards_BC = floats([[0, 3, 0, 0], [5, 0, 0, 0], [0, 0, 0, 0], [0, 1, 4, 0]])
    values_BC = floats([[2, 1, 9, 9], [7, 9, 9, 9], [9, 9, 9, 9], [9, 4, 2, 9]])
    mask_BC = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]])
    advantages_BC, returns_BC = gae(rewards_BC, values_BC, mask_BC, 0.5, 0.5)
    close(advantages_BC, [[-1, 2, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 0], [0, -1.5, 2, 0]])
    close(returns_BC, [[1, 3, 0, 0], [5, 0, 0, 0], [0, 0, 0, 0], [0, 2.5, 4, 0]])


@given(episodes(), SHARE, SHARE)
def test_gae_is_the_plain_recursion_over_the_models_tokens(batch: Episodes, gamma: float, lam: float) -> None:
    before = [x.clone() for x in batch]
    advantages_BC, returns_BC = gae(*batch, gamma, lam)
    for row, mask_C in enumerate(batch.mask.bool()):
        steps = batch.steps(row)
        expected = recursion(steps, gamma, lam)
        close(advantages_BC[row, mask_C], expected)
        close(returns_BC[row, mask_C], [a + value for a, (_, value) in zip(expected, steps, strict=True)])
    outside_BC = ~batch.mask.bool()
    assert not advantages_BC[outside_BC].any()
    assert not returns_BC[outside_BC].any()
    assert all(torch.equal(x, y) for x, y in zip(batch, before, strict=True)), "an argument was written to"


@given(episodes())
def test_without_critic_and_discount_advantages_and_returns_are_the_reward_to_go(batch: Episodes) -> None:
    advantages_BC, returns_BC = gae(batch.rewards, torch.zeros_like(batch.values), batch.mask, 1.0, 1.0)
    assert torch.equal(advantages_BC, returns_BC)
    to_go_BC = batch.rewards.flip(1).cumsum(1).flip(1)  # rewards are 0 off the mask: its places add nothing
    close(advantages_BC, to_go_BC * batch.mask)


@given(episodes(), SHARE)
def test_with_lambda_zero_advantages_are_one_step_errors(batch: Episodes, gamma: float) -> None:
    advantages_BC, _ = gae(*batch, gamma, 0.0)
    for row, mask_C in enumerate(batch.mask.bool()):
        steps = batch.steps(row)
        following = [value for _, value in steps[1:]] + [0.0] * bool(steps)
        errors = [r + gamma * after - v for (r, v), after in zip(steps, following, strict=True)]
        close(advantages_BC[row, mask_C], errors)


@given(episodes(), SHARE)
def test_with_lambda_one_returns_are_discounted_rewards_whatever_the_critic_says(batch: Episodes, gamma: float) -> None:
    _, returns_BC = gae(*batch, gamma, 1.0)
    _, without_BC = gae(batch.rewards, torch.zeros_like(batch.values), batch.mask, gamma, 1.0)
    close(returns_BC, without_BC)


@given(episodes(), SHARE, SHARE)
def test_returns_are_advantages_plus_values_on_the_mask(batch: Episodes, gamma: float, lam: float) -> None:
    advantages_BC, returns_BC = gae(*batch, gamma, lam)
    close(returns_BC, (advantages_BC + batch.values) * batch.mask)


@given(episodes(), SHARE, SHARE)
def test_values_off_the_mask_are_never_read(batch: Episodes, gamma: float, lam: float) -> None:
    spoilt_BC = torch.where(batch.mask.bool(), batch.values, FAR)
    clean_BC = torch.where(batch.mask.bool(), batch.values, 0.0)
    spoilt = gae(batch.rewards, spoilt_BC, batch.mask, gamma, lam)
    clean = gae(batch.rewards, clean_BC, batch.mask, gamma, lam)
    assert all(torch.equal(x, y) for x, y in zip(spoilt, clean, strict=True))


@given(episodes(), SHARE, SHARE, st.data())
def test_how_much_the_environment_says_does_not_matter(
    batch: Episodes, gamma: float, lam: float, data: st.DataObject
) -> None:
    before = data.draw(st.integers(0, batch.mask.shape[1]), label="inserted before")
    extra = data.draw(st.integers(1, 5), label="inserted")

    def longer(x_BC: Tensor, fill: float) -> Tensor:
        inserted = torch.full((len(x_BC), extra), fill, dtype=x_BC.dtype)
        return torch.cat([x_BC[:, :before], inserted, x_BC[:, before:]], 1)

    rewards_BC, values_BC, mask_BC = longer(batch.rewards, 0), longer(batch.values, 5), longer(batch.mask, 0)
    for short, long in zip(gae(*batch, gamma, lam), gae(rewards_BC, values_BC, mask_BC, gamma, lam), strict=True):
        assert torch.equal(long[mask_BC.bool()], short[batch.mask.bool()])


def test_a_turns_reward_reaches_back_by_gamma_per_token_of_the_models() -> None:
    # Three turns of two tokens, three and one; the second one's last token, the fifth of the model's, is paid 1.
    mask_BC = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 1, 0]])
    rewards_BC = torch.zeros(1, 10, dtype=torch.float64)
    rewards_BC[0, 6] = 1
    advantages_BC, _ = gae(rewards_BC, torch.zeros_like(rewards_BC), mask_BC, 0.9, 1.0)
    close(advantages_BC, [[0.9**4, 0.9**3, 0, 0, 0.9**2, 0.9, 1, 0, 0, 0]])
    advantages_BC, _ = gae(rewards_BC, torch.zeros_like(rewards_BC), mask_BC, 0.9, 0.5)  # 0.9 * 0.5 = 0.45
    close(advantages_BC, [[0.45**4, 0.45**3, 0, 0, 0.45**2, 0.45, 1, 0, 0, 0]])


def test_whitening_is_over_the_whole_batchs_model_tokens() -> None:
    # 1, 3, 5 and 7: mean 4, variance (9 + 1 + 1 + 9) / 4 = 5. The 99s and the row of padding do not count.
    x_BC = floats([[1, 99, 3], [5, 7, 99], [99, 99, 99]])
    mask_BC = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 0]])
    scale = math.sqrt(5 + 1e-8)
    close(whiten(x_BC, mask_BC), [[-3 / scale, 0, -1 / scale], [1 / scale, 3 / scale, 0], [0, 0, 0]])


@given(episodes())
def test_whitened_numbers_have_mean_zero_and_no_more_than_unit_variance(batch: Episodes) -> None:
    mask_BC = torch.cat([batch.mask, torch.ones_like(batch.mask[:1])])  # a batch has at least one model token
    values_BC = torch.cat([batch.values, batch.values[:1]])
    white_BC = whiten(values_BC, mask_BC)
    on, variance = white_BC[mask_BC.bool()], values_BC[mask_BC.bool()].var(correction=0)
    assert not white_BC[~mask_BC.bool()].any()
    assert abs(on.mean()) < 1e-9
    close(on.var(correction=0), variance / (variance + 1e-8))


def test_whitening_equal_numbers_gives_zeros() -> None:
    # 0.1 + 0.1 + 0.1 is not 0.3 in binary: the variance is about 1e-34, which eps = 1e-8 must drown.
    assert whiten(floats([[0.1, 0.1, 0.1]]), torch.ones(1, 3).long()).abs().max() < 1e-9


def test_whitening_never_reads_off_the_mask() -> None:
    mask_BC = torch.tensor([[1, 0, 1, 1]])
    x_BC = floats([[1, FAR, 2, 4]])
    assert torch.equal(whiten(x_BC, mask_BC), whiten(x_BC * mask_BC, mask_BC))


# epsilon 0.2, so the ratio is clipped to 0.8 .. 1.2. The objective is the smaller of ratio * A and clipped * A, the
# loss its negative; where the first is taken, d loss / d logp = -ratio * A, else the loss does not depend on logp.
POLICY = {
    "gain, too far up": (1.5, 1, -1.2, True, 0),  # min(1.5, 1.2)
    "gain, too far down": (0.5, 1, -0.5, False, -0.5),  # min(0.5, 0.8)
    "gain, inside": (1.1, 2, -2.2, False, -2.2),  # min(2.2, 2.2)
    "loss, too far up": (1.5, -1, 1.5, False, 1.5),  # min(-1.5, -1.2)
    "loss, too far down": (0.5, -1, 0.8, True, 0),  # min(-0.5, -0.8)
    "loss, inside": (0.9, -2, 1.8, False, 1.8),  # min(-1.8, -1.8)
    "nothing to gain": (1.5, 0, 0, False, 0),
    "not moved": (1, 3, -3, False, -3),
}


@pytest.mark.parametrize(("ratio", "advantage", "loss", "clipped", "slope"), POLICY.values(), ids=POLICY.keys())
def test_policy_loss_is_pessimistic(ratio: float, advantage: float, loss: float, clipped: bool, slope: float) -> None:
    old_BC = floats([[-2]])
    logps_BC = (old_BC + math.log(ratio)).requires_grad_()
    loss_BC, clipped_BC = policy_loss(logps_BC, old_BC, floats([[advantage]]), 0.2)
    close(loss_BC, [[loss]])
    assert clipped_BC.dtype == torch.bool
    assert clipped_BC.tolist() == [[clipped]]
    (slope_BC,) = torch.autograd.grad(loss_BC.sum(), logps_BC)
    close(slope_BC, [[slope]])


def test_policy_loss_treats_every_token_by_itself() -> None:
    ratios, advantages, losses, clipped, _ = (list(column) for column in zip(*POLICY.values(), strict=True))
    old_BC = torch.linspace(-5, -0.5, 8, dtype=torch.float64).reshape(2, 4)
    logps_BC = old_BC + floats(ratios).log().reshape(2, 4)
    loss_BC, clipped_BC = policy_loss(logps_BC, old_BC, floats(advantages).reshape(2, 4), 0.2)
    close(loss_BC, floats(losses).reshape(2, 4))
    assert clipped_BC.flatten().tolist() == clipped


# epsilon 0.2 around the old value 0.5: the value is clipped to 0.3 .. 0.7. Half of the larger square is taken.
VALUE = {
    "towards the return, too far": (1, 2, 0.845, 0),  # (1 - 2)^2 = 1, (0.7 - 2)^2 = 1.69
    "towards the return, too far down": (0, -1, 0.845, 0),  # (0 + 1)^2 = 1, (0.3 + 1)^2 = 1.69
    "inside": (0.6, 2, 0.98, -1.4),  # (0.6 - 2)^2 = 1.96 both times
    "away from the return": (1, 0, 0.5, 1),  # (1 - 0)^2 = 1, (0.7 - 0)^2 = 0.49
    "away from the return, down": (0, 2, 2, -2),  # (0 - 2)^2 = 4, (0.3 - 2)^2 = 2.89
    "right, but too far": (2, 2, 0.845, 0),  # 0, (0.7 - 2)^2 = 1.69
}


@pytest.mark.parametrize(("value", "target", "loss", "slope"), VALUE.values(), ids=VALUE.keys())
def test_value_loss_is_pessimistic(value: float, target: float, loss: float, slope: float) -> None:
    values_BC = floats([[value]]).requires_grad_()
    loss_BC = value_loss(values_BC, floats([[0.5]]), floats([[target]]), 0.2)
    close(loss_BC, [[loss]])
    (slope_BC,) = torch.autograd.grad(loss_BC.sum(), values_BC)
    close(slope_BC, [[slope]])


def test_value_loss_treats_every_token_by_itself() -> None:
    # Row 0 did not move: 0.5 * (3 - 1)^2 = 2. Row 1 has the old value 1, so with epsilon 0.5 its value 0 is clipped to
    # 0.5: (0 - 4)^2 = 16 is more than (0.5 - 4)^2 = 12.25, and half of it is 8.
    loss_BC = value_loss(floats([[3], [0]]), floats([[3], [1]]), floats([[1], [4]]), 0.5)
    close(loss_BC, [[2], [8]])


ONES = torch.ones(1, 3).long()
RETURNS = floats([[1, 2, 3]])  # variance 2/3


def test_explained_variance_of_a_perfect_critic_is_one() -> None:
    got = explained_variance(RETURNS, RETURNS, ONES)
    assert isinstance(got, float)
    assert got == 1


def test_explained_variance_of_the_mean_is_zero() -> None:
    assert explained_variance(floats([[2, 2, 2]]), RETURNS, ONES) == pytest.approx(0, abs=1e-12)


def test_explained_variance_of_half_the_truth() -> None:
    # R - V = 0.5, 1, 1.5: variance 1/6, and 1 - (1/6) / (2/3) = 0.75.
    assert explained_variance(RETURNS / 2, RETURNS, ONES) == pytest.approx(0.75)


def test_explained_variance_of_the_opposite_is_negative() -> None:
    # R - V = -2, 0, 2: variance 8/3, and 1 - (8/3) / (2/3) = -3.
    assert explained_variance(floats([[3, 2, 1]]), RETURNS, ONES) == pytest.approx(-3)


@pytest.mark.parametrize("same", [0.0, 1.0, 0.1])
def test_explained_variance_is_zero_where_there_is_none_to_explain(same: float) -> None:
    # The mean of three times 0.1 is not 0.1 in binary: rounding must not pass for variance.
    assert explained_variance(floats([[1, 2, 3]]), floats([[same] * 3]), ONES) == 0.0


def test_explained_variance_counts_the_models_tokens_alone() -> None:
    mask_BC = torch.tensor([[1, 0, 1], [1, 1, 0]])
    returns_BC, values_BC = floats([[1, 50, 2], [3, 4, 0]]), floats([[0, -9, 0], [0, 0, 70]])
    # On the mask R = 1, 2, 3, 4 and V = 0: as much variance left as there was.
    assert explained_variance(values_BC, returns_BC, mask_BC) == pytest.approx(0, abs=1e-12)
