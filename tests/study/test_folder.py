"""A run folder: what is written down at launch, what may change afterwards, and folders of an older version."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from holdfast.config import conf_dir
from holdfast.launch.hydra import check, write_arm
from holdfast.report.build import write
from holdfast.report.findings import read
from holdfast.study.folder import ArmFolder, StudyFolder
from holdfast.study.rescore import rescore

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).with_name("version1")
"""A part of a run folder of version 1, and the tables that the code of that version made of it."""


def launched(tmp_path: Path, *overrides: str) -> ArmFolder:
    """The folder of an arm that was checked and written, and not run."""
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"runs={tmp_path}", *overrides])
    check(cfg, {})
    return write_arm(cfg)[0]


def finished(tmp_path: Path, *overrides: str) -> ArmFolder:
    folder = launched(tmp_path, *overrides)
    folder.finish([], [], [], {"stages": []})
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_version_1_reports_what_it_did(tmp_path: Path) -> None:
    study = StudyFolder(Path(shutil.copytree(OLD, tmp_path / "old")))
    report = write(read(study)).parent
    for name in ("leads.csv", "verdicts.csv"):
        assert (report / name).read_text() == (OLD / name).read_text()
    for new, old in zip(rows(report / "curves.csv"), rows(OLD / "curves.csv"), strict=True):
        assert {**new, "yes": float(new["yes"])} == {**old, "yes": float(old["yes"])}


def test_a_folder_of_version_1_is_not_scored_again(tmp_path: Path) -> None:
    study = StudyFolder(Path(shutil.copytree(OLD, tmp_path / "old")))
    with pytest.raises(ValueError, match="old is of version 1: it can be reported on, and not be scored again"):
        list(rescore(study))


def test_no_second_file_knows_the_names_of_a_run_folder() -> None:
    name = re.compile(r'"(?:study\.yaml|arm\.yaml|done\.json|collapse\.jsonl|log\.txt)"')
    knowing = {path.name for path in (ROOT / "src").rglob("*.py") if name.search(path.read_text(encoding="utf-8"))}
    assert knowing - {"ranks.py", "findings.py"} == {"folder.py"}  # a rank's own log, and the names in messages


def test_what_is_known_at_launch_is_written_down(tmp_path: Path) -> None:
    advice, other, longer, control, lr = (
        launched(tmp_path, *overrides).config()
        for overrides in (
            ["init=advice"],
            ["init=advice", "seed=1"],
            ["init=advice", "seed=2", "steps=[8,64]"],
            ["init=generic"],
            ["init=generic", "algo.lr=1e-5", "seed=3"],
        )
    )
    assert advice["group"] == other["group"] == longer["group"] == "pocket-advice-chat-grpo"
    assert advice["recipe"] == other["recipe"] == longer["recipe"] != control["recipe"]
    assert advice["conditions"] == control["conditions"] == longer["conditions"] != lr["conditions"]
    evals = yaml.safe_load((tmp_path / "study/study.yaml").read_text())["evals"]
    assert {row["name"]: (row["better"], row["twin"]) for row in evals} == {
        "blackmail": ("low", "mailbox"),
        "mailbox": ("high", None),
        "harmless": ("low", "overrefusal"),
        "overrefusal": ("high", None),
    }


@pytest.mark.parametrize("steps", ["[8,16,24,32,48]", "[4,8,12,16,24,32]"])
def test_a_finished_arm_may_be_given_further_steps(tmp_path: Path, steps: str) -> None:
    folder = finished(tmp_path)
    assert launched(tmp_path, f"steps={steps}").path == folder.path
    assert not folder.finished  # until they are done
    assert folder.arm().grid == [0, *yaml.safe_load(steps)]


@pytest.mark.parametrize("other", ["steps=[8,16,24]", "steps=[8,16,24,40]", "algo.lr=1e-5"])
def test_a_finished_arm_is_not_run_with_other_settings(tmp_path: Path, other: str) -> None:
    folder = finished(tmp_path)
    before = (folder.path / "arm.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"arm.yaml has .*, and now it is .*name=\.\.\."):
        launched(tmp_path, other, *(["steps=[8,16,24,32,40]"] if "lr" in other else []))
    assert folder.finished
    assert (folder.path / "arm.yaml").read_bytes() == before


def test_a_list_in_an_eval_s_arguments_is_the_same_list_when_it_is_read_back(tmp_path: Path) -> None:
    words = ["evals.harmless.env=holdfast_envs:holdfast/Prompts-v0", "~evals.harmless.kwargs.requests"]
    words += ["+evals.harmless.kwargs.harmful_when=['true','yes']", "+evals.harmless.kwargs.eval_share=0.5"]
    finished(tmp_path, *words)
    assert launched(tmp_path, *words).finished
    assert launched(tmp_path, "init=advice", *words).path.is_dir()


def test_a_folder_without_a_config_is_no_arm(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    (folder.study.path / "arms/half-made").mkdir()
    assert [arm.path for arm in folder.study.arms()] == [folder.path]
    assert launched(tmp_path, "init=advice").path.is_dir()


def test_a_study_of_a_newer_version_is_told(tmp_path: Path) -> None:
    study = launched(tmp_path).study
    file = study.path / "study.yaml"
    file.write_text(file.read_text().replace("version: 2", "version: 3"))
    with pytest.raises(ValueError, match=r"study.yaml: version 3 is of a newer Holdfast; this one reads up to 2"):
        study.config()
