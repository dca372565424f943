"""A study's power is told before it starts, for the arms that a command stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from composed import arms_of
from holdfast.launch.power import power_line


def test_the_line_is_of_the_studys_own_size(tmp_path: Path) -> None:
    # 12 families of the eval split; 36 scenarios x 3 samples are 9 episodes a family
    line = power_line(arms_of(tmp_path, "-m", "init=generic,advice", "seed=0,1,2"))
    assert line is not None
    assert line.startswith("power on blackmail: 12 families x 9 episodes x 3 seeds: a lead passes the install gate in ")
    assert line.endswith("correlation 0.3, seed s.d. 10 points)")


def test_fewer_scenarios_than_families_are_fewer_families(tmp_path: Path) -> None:
    line = power_line(arms_of(tmp_path, "-m", "init=generic,advice", "budget.evals.scenarios=1"))
    assert line == "power on blackmail: 1 scenario family: there is no interval over one"


@pytest.mark.parametrize(
    "words",
    [["init=generic"], ["init=none", "control=none"], ["init=advice", "curriculum=[]"]],
    ids=lambda words: words[0],
)
def test_without_a_comparison_after_rl_there_is_no_line(words: list[str], tmp_path: Path) -> None:
    assert power_line(arms_of(tmp_path, *words)) is None
