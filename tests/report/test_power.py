"""Power by what was measured in another study, and by its margins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from folders import STUDY, write_run
from holdfast.report.findings import read
from holdfast.report.power import told, variation
from holdfast.stats.margins import Margins
from holdfast.stats.power import power, table
from holdfast.stats.simulate import Design
from holdfast.study.folder import StudyFolder

SIZE = {"families": 12, "scenarios": 36, "samples": 3, "seeds": 1}


def test_like_another_study_is_what_was_measured_there_and_its_margins(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tiny")
    (run / "study.yaml").write_text(yaml.safe_dump({**STUDY, "margins": {"retention": 0.9, "rise_points": 1.0}}))
    correlation, seed_sd = variation(read(StudyFolder(run)))
    assert (correlation, seed_sd) == (0, None)  # every family alike, one seed
    line, _, *rows = told(run, **SIZE, studies=20).splitlines()
    assert line.endswith("correlation 0, seed s.d. 10 points)")
    design = Design(families=12, per_family=9, seed_sd=10)
    strict = power(design, studies=20, margins=Margins(retention=0.9, rise_points=1.0))
    assert "\n".join(rows) == table(strict) != table(power(design, studies=20))


def test_what_is_given_is_not_measured(tmp_path: Path) -> None:
    line = told(write_run(tmp_path / "tiny"), **SIZE, correlation=0.2, seed_sd=0.0, studies=1)
    assert re.search(r"correlation 0\.2, seed s\.d\. 0 points\)", line)


def test_a_study_without_a_verdict_measures_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "tiny")
    evals = [{**row, "better": "high"} for row in STUDY["evals"]]
    (run / "study.yaml").write_text(yaml.safe_dump({**STUDY, "evals": evals}))
    with pytest.raises(ValueError, match="tiny has no eval with a verdict"):
        told(run, **SIZE)
