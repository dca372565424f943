"""A run folder: what is written down at launch, what may change afterwards, and folders of an older version."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from holdfast.config import conf_dir
from holdfast.launch.hydra import built, check
from holdfast.launch.processes import Planned
from holdfast.launch.variant import Given
from holdfast.report.build import write
from holdfast.report.findings import read
from holdfast.study.folder import ArmFolder, StudyFolder
from holdfast.study.rescore import rescore

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).with_name("version1")
"""A part of a run folder of version 1, and the rates that the code of that version made of it."""


def launched(tmp_path: Path, *overrides: str) -> ArmFolder:
    """The folder of an arm that was checked and written, and not run."""
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"runs={tmp_path}", *overrides])
    check(cfg, Given(overrides), {})
    return Planned(*built(cfg, Given(overrides))).write()


def finished(tmp_path: Path, *overrides: str) -> ArmFolder:
    folder = launched(tmp_path, *overrides)
    folder.finish([], [], [], {"stages": []})
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_version_1_has_the_rates_it_had_but_for_what_was_cut(tmp_path: Path) -> None:
    study = StudyFolder(Path(shutil.copytree(OLD, tmp_path / "old")))
    records = [(arm.config()["group"], r) for arm in study.arms() for r in arm.records()]
    cut = Counter((group, r.eval, str(r.step)) for group, r in records if r.measures.get("said"))
    assert cut.total() == 2  # a yes that was cut was counted; now it is unscored, as a no was
    report = write(read(study)).parent
    for new, old in zip(rows(report / "curves.csv"), rows(OLD / "curves.csv"), strict=True):
        of = cut[new["arm"], new["eval"], new["step"]]
        assert (float(new["yes"]) + of, int(new["scored"]) + of) == (float(old["yes"]), int(old["scored"]))
        same = ("arm", "eval", "step", "seeds", "families", "episodes", "malformed", "truncated", "empty", "valid")
        assert [new[name] for name in same] == [old[name] for name in same]


def test_the_gates_work_on_a_folder_of_version_1(tmp_path: Path) -> None:
    verdicts = read(StudyFolder(Path(shutil.copytree(OLD, tmp_path / "old")))).analysis.verdicts
    gates = {verdict.eval: {gate.name: gate for gate in verdict.gates} for verdict in verdicts}
    assert gates["blackmail"]["judge"].passed
    assert not gates["harmless"]["judge"].passed  # paid by the rules that judge it
    pressure = gates["blackmail"]["pressure"]
    assert not pressure.passed  # RL had hardly moved that arm
    assert pressure.detail.startswith("the reward of the arm rose by 0.2 (-0.081 to 0.49), its KL is 0.057 ± 0.01; ")
    # One scenario of a family leaves nothing for a sample of the gate's own
    assert gates["blackmail"]["install"].detail.startswith("nothing was scored in the gate's sample")


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
            ["init=generic", "algo.lr=1e-5"],
        )
    )
    assert advice["group"] == other["group"] == longer["group"] == "pocket-advice-chat-grpo"
    assert advice["recipe"] == other["recipe"] == longer["recipe"] != control["recipe"]
    assert advice["conditions"] == control["conditions"] == longer["conditions"] != lr["conditions"]
    study = yaml.safe_load((tmp_path / "study/study.yaml").read_text())
    for written in (study, advice):
        assert (written["control"], written["format_control"]) == ("generic", "format")
    evals = study["evals"]
    assert {row["name"]: (row["better"], row["twin"]) for row in evals} == {
        "blackmail": ("low", "mailbox"),
        "mailbox": ("high", None),
        "harmless": ("low", "overrefusal"),
        "overrefusal": ("high", None),
    }


def test_who_judges_and_who_paid_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    guard = f"{{name: classifier, path: {tmp_path / 'guard'}, labels: {{yes_: complies, no_: refuses}}}}"
    folder = launched(tmp_path, f"+evals.harmless.second={guard}", "env=conflict")
    evals = yaml.safe_load((tmp_path / "study/study.yaml").read_text())["evals"]
    label = f"classifier {tmp_path / 'guard'}"
    assert [(row["name"], row["better"], row["twin"], row["judge"], row["of"]) for row in evals] == [
        ("blackmail", "low", "mailbox", "rules of Blackmail", None),
        ("mailbox", "high", None, None, None),
        ("harmless", "low", "overrefusal", "rules", None),
        ("harmless.classifier", "low", "overrefusal", label, "harmless"),
        ("overrefusal", "high", None, "rules", None),
    ]
    assert folder.config()["paid_by"] == ["rules", "rules of Goal"]  # harmless requests, and tasks among them
    assert folder.arm().evals[2].second_opinion is not None  # arm.yaml is read back
    assert launched(tmp_path, "env=goal", "name=tasks").config()["paid_by"] == ["rules of Goal"]
    assert launched(tmp_path, "env=neutral", "name=neutral").config()["paid_by"] == []
    words = ["judge=classifier", f"judge.path={tmp_path / 'guard'}", "judge.preset=wildguard", "name=it"]
    paid = launched(tmp_path, *words)
    assert paid.config()["paid_by"] == [label]


@pytest.mark.parametrize("steps", ["[8,16,24,32,48]", "[4,8,12,16,24,32]"])
@pytest.mark.parametrize("before", [launched, finished])
def test_an_arm_may_be_given_further_steps(
    tmp_path: Path, steps: str, before: Callable[[Path], ArmFolder]
) -> None:
    folder = before(tmp_path)
    assert launched(tmp_path, f"steps={steps}").path == folder.path
    assert not folder.finished  # until they are done
    assert folder.arm().grid == [0, *yaml.safe_load(steps)]


@pytest.mark.parametrize("before", [launched, finished])
@pytest.mark.parametrize("other", ["steps=[8,16,24]", "steps=[8,16,24,40]", "algo.lr=1e-5"])
def test_two_configs_never_end_in_one_folder(
    tmp_path: Path, other: str, before: Callable[[Path], ArmFolder]
) -> None:
    words = [other, *(["steps=[8,16,24,32,40]"] if "lr" in other else [])]
    folder = before(tmp_path)
    there = (folder.path / "arm.yaml").read_bytes()
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"runs={tmp_path}", *words])
    unnamed = Given([])  # as if these were other defaults
    advice = rf"arm.yaml has .*, and now it is .*name=\.\.\., or delete {folder.path}"
    for do in (lambda: check(cfg, unnamed, {}), lambda: Planned(*built(cfg, unnamed)).write()):
        with pytest.raises(ValueError, match=advice):
            do()
    assert folder.finished == (before is finished)
    assert (folder.path / "arm.yaml").read_bytes() == there


def test_a_longer_supervised_stage_is_another_arm(tmp_path: Path) -> None:
    words = ["curriculum=[${budget.tuning}]"]
    folder, longer = launched(tmp_path, *words), launched(tmp_path, *words, "budget.tuning.steps=50")
    assert folder.path != longer.path
    assert (folder.arm().grid, longer.arm().grid) == ([0, 20], [0, 50])


def test_the_same_arm_again_is_left_as_it_is(tmp_path: Path) -> None:
    folder = finished(tmp_path, "algo.lr=1e-5")
    assert launched(tmp_path, "algo.lr=0.00001").path == folder.path
    assert folder.finished


def test_a_list_in_an_eval_s_arguments_is_the_same_list_when_it_is_read_back(tmp_path: Path) -> None:
    words = ["evals.harmless.env=holdfast_envs:holdfast/Prompts-v0", "~evals.harmless.kwargs.requests"]
    words += ["+evals.harmless.kwargs.harmful_when=['true','false']", "+evals.harmless.kwargs.eval_share=0.5"]
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
    file.write_text(file.read_text().replace("version: 3", "version: 4"))
    with pytest.raises(ValueError, match=r"study.yaml: version 4 is of a newer Holdfast; this one reads up to 3"):
        study.config()
