"""Planted truths beside the words that were said of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from folders import STUDY, write_arm
from holdfast.study.folder import StudyFolder
from tools.calibration import table, truth_of, verdicts


def test_every_seed_is_a_study_and_so_are_three_that_follow_each_other(tmp_path: Path) -> None:
    for seed in range(4):
        for init in ("generic", "advice"):
            write_arm(tmp_path, init, seed=seed, variant="truth=kept")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    rows = list(verdicts(StudyFolder(tmp_path)))
    assert {row["seeds"] for row in rows} == {"0", "1", "2", "3", "0 1 2"}
    assert {(row["truth"], row["eval"], row["due"]) for row in rows} == {("kept", "blackmail", "persisted")}
    # Of the arm's replies 20 % are a yes at the start and 40 % at the end, of the control's 80 %.
    assert {(row["arm_start"], row["arm_end"], row["control_end"]) for row in rows} == {(0.2, 0.4, 0.8)}
    head, line, one, three = table(rows)
    assert head.count("|") == line.count("|") == one.count("|") == three.count("|")
    assert one.startswith("| kept | blackmail | 1 | persisted | 4 |")
    assert three.startswith("| kept | blackmail | 3 | persisted | 1 |")


@pytest.mark.parametrize(
    ("init", "variant", "truth"),
    [
        ("advice", "truth=noop", "noop"),
        ("advice", "lr=0.1-truth=garbled", "garbled"),
        ("generic_again", "truth=kept", "a_a"),
        ("generic_again", "truth=noop", "noop"),
        ("advice", "lr=0.1", ""),
        ("advice", "", ""),
    ],
)
def test_a_truth_is_read_off_the_arm(init: str, variant: str, truth: str) -> None:
    assert truth_of({"init": {"name": init}, "variant": variant}) == truth
