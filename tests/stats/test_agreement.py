"""Cohen's kappa against statsmodels, and what it is for judges who agree by chance or always."""

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa

from holdfast.stats.agreement import agreement
from studies import episodes


def test_kappa_is_that_of_statsmodels() -> None:
    # 40 episodes: both yes 20, both no 10, only the first 6, only the second 4
    one, other = ["y" * 26 + "n" * 14], ["y" * 20 + "n" * 6 + "y" * 4 + "n" * 10]
    found = agreement("a", "b", episodes("arm", 0, one), episodes("arm", 0, other), 0.95)
    assert found.kappa is not None
    assert (found.both, found.alike) == (40, 30 / 40)
    assert found.kappa.value == pytest.approx(float(cohens_kappa([[20, 6], [4, 10]]).kappa))


def test_the_error_of_kappa_is_that_of_statsmodels_where_every_family_is_one_episode() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.6
    second = np.where(rng.random(400) < 0.8, first, rng.random(400) < 0.5)
    one, other = (["y" if yes else "n" for yes in said] for said in (first, second))
    found = agreement("a", "b", episodes("arm", 0, one), episodes("arm", 0, other), 0.95).kappa
    counts = [[int((first & second).sum()), int((first & ~second).sum())],
              [int((~first & second).sum()), int((~first & ~second).sum())]]  # fmt: skip
    theirs = cohens_kappa(counts)
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.966 * float(theirs.std_kappa), rel=5e-3)  # t at 399


def test_what_only_one_could_score_is_counted_and_left_out() -> None:
    found = agreement("a", "b", episodes("arm", 0, ["yn?n"]), episodes("arm", 0, ["y?nn"]), 0.95)
    assert (found.both, found.either, found.alike) == (2, 2, 1)


def test_judges_who_agree_on_all_have_no_kappa() -> None:
    found = agreement("a", "b", episodes("arm", 0, ["yyn"]), episodes("arm", 0, ["yyn"]), 0.95)
    assert (found.alike, found.kappa) == (1, None)
