"""What would close an open question, against the interval that it promises."""

import numpy as np
import pytest

from holdfast.stats.closing import closing
from holdfast.stats.intervals import Array, Quantity, Share, t_quantile


def of(value: float, influence_FS: Array) -> Quantity:
    return Quantity(((1.0, Share(value, influence_FS, 0.5, 1e9, 0.0)),))


def spread_over(families: int, seeds: int, by: str, sd: float) -> Array:
    """Influences that vary over families or over seeds alone, with this standard deviation."""
    n = families if by == "families" else seeds
    values = np.linspace(-1, 1, n)
    values *= sd / values.std(ddof=1)
    return values[:, None] + np.zeros((1, seeds)) if by == "families" else values[None, :] + np.zeros((families, 1))


@pytest.mark.parametrize(("by", "now"), [("families", 12), ("seeds", 3)])
def test_the_number_told_is_the_fewest_whose_interval_ends_short(by: str, now: int) -> None:
    found = closing(of(4.0, spread_over(12, 3, by, 8.0)), 0, 0.95)
    number = int(found.split()[1])
    assert found == f"about {number} {by}"
    assert number > now

    def half(n: int) -> float:
        return t_quantile(0.95, n - 1) * 8 / n**0.5

    assert half(number) < 4 <= half(number - 1)


def test_with_too_few_seeds_three_are_asked_for_too() -> None:
    found = closing(of(4.0, spread_over(12, 1, "families", 8.0)), 0, 0.95)
    assert found.endswith(" families; for a claim beyond this run, 3 seeds or more")


def test_what_is_at_the_limit_is_not_promised() -> None:
    assert closing(of(0.0, spread_over(12, 3, "families", 8.0)), 0, 0.95).startswith("too near for 20 times")


def test_a_rate_of_zero_asks_for_more_than_there_are() -> None:
    # Measured fault: nothing varied, so what was there was told to be enough
    none = Share.of(np.zeros((12, 1)), np.full((12, 1), 9.0), None)
    found = closing(Quantity(((100.0, none),)), 10, 0.95)
    assert int(found.split()[1]) > 12
