"""How far results move with the seed."""

from __future__ import annotations

from holdfast.stats.tally import Tally
from studies import episodes
from tools.spread import table


def test_rates_are_over_seeds_whose_draw_is_told_apart() -> None:
    rows = [*episodes("arm", 8, ["yyyy", "nnnn"], seed=0), *episodes("arm", 8, ["yyyy", "yyyn"], seed=1)]
    rows += [*episodes("arm", 16, ["yn"], seed=0), *episodes("arm", 16, ["??"], seed=1)]  # of one nothing is known
    _, _, row = table(Tally.of("blackmail", rows))
    # 4 and 7 of 8: a mean of 68.75 %, s.d. 37.5 / sqrt(2), and by draw sqrt(0.6875 * 0.3125 / 8).
    assert row == "| arm | 8 | 2 | 68.8 | 26.5 | 50.0 | 87.5 | 16.4 |"
