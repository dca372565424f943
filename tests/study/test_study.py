"""The main path on the embedded model, real from end to end, and small: two arms, two RL steps."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from holdfast.records import read_records
from holdfast.report.training import training
from holdfast.store import read_manifest
from holdfast.study.folder import ArmFolder

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(ROOT / "src"), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])
MODEL = ["model=pocket"]
SMALL = [
    "launch.threads=1", "steps=[1,2]", "budget.evals.scenarios=6", "budget.evals.samples=1", "budget.max_new_tokens=24",
    "budget.prior.size=20", "budget.prior.steps=2", "budget.prior.batch_loss_tokens=200",
    "budget.sft.size=20", "budget.sft.steps=2", "budget.sft.batch_loss_tokens=200",
    "budget.rl.prompts_per_step=2", "budget.rl.group=2", "budget.kl.prompts=2", "budget.kl.samples=1",
]  # fmt: skip
ALIKE = ["suite=core", "format_control=format"]  # as `holdfast run` alone has them, and the quickstart has not
# An arm: a model, two installs with their corpora, four evals at each of steps 0, 1 and 2, and for each of two steps a
# segment and the KL on its environment and on the prompts of two evals.
STAGES = 1 + 2 * 2 + 4 * 3 + 2 * (1 + 3)
FILES = ("arm.yaml", "records.jsonl", "transcripts.jsonl")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}


def holdfast(*arguments: str) -> str:
    command = [sys.executable, "-m", "holdfast", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def output(runs: Path) -> str:
    where = [f"runs={runs}", "name=small", "launch.workers=1"]
    return holdfast("run", "+study=quickstart", *MODEL, *SMALL, *where, "seed=0", "init=generic,advice", *ALIKE)


@pytest.fixture(scope="module")
def arm(runs: Path, output: str) -> Path:
    (folder,) = (runs / "small/arms").glob("*-advice-*")
    return folder


def final(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_study_ends_in_a_table_and_the_path_of_its_report(runs: Path, output: str) -> None:
    table = output.rpartition("stages made")[2]
    assert "generic" in table
    assert "advice" in table
    assert output.splitlines()[-1] == f"report: {runs / 'small/report/index.html'}"
    assert (runs / "small/report/index.html").is_file()


def test_every_stage_of_every_arm_is_announced_in_order(output: str) -> None:
    headings = [line.split("]")[0] for line in output.splitlines() if line.startswith("[")]
    assert headings == [f"[{i}/{STAGES}" for i in range(1, STAGES + 1)] * 2


def test_arms_share_what_they_have_in_common(output: str) -> None:
    first, second = output.split("\narm ")[1:3]
    assert "(reused)" not in first
    shared = [line for line in second.splitlines() if line.endswith("(reused)")]
    names = ["model pocket", "corpus prior", "install prior"]
    assert [line.split("]")[1] for line in shared] == [f" {name}  (reused)" for name in names]


def test_an_arm_folder_is_whole(arm: Path) -> None:
    records = read_records(arm / "records.jsonl")
    # 4 evals of 6 scenarios: 2 samples before RL, and 1 at each of 2 steps.
    assert len(records) == 4 * 6 * (2 + 1 + 1)
    assert {r.sample for r in records if r.step == 0} == {0, 1}
    assert {r.sample for r in records if r.step > 0} == {0}
    assert {(r.arm, r.seed) for r in records} == {(arm.name, 0)}
    assert {(r.stage, r.step) for r in records} == {("init", 0), ("chat", 1), ("chat", 2)}
    assert len({r.weights for r in records}) == 3
    transcripts = [json.loads(line) for line in (arm / "transcripts.jsonl").read_text().splitlines()]
    assert [(t["step"], t["id"]) for t in transcripts] == [(r.step, r.transcript) for r in records]
    metrics = [json.loads(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
    kl = [m for m in metrics if m["kind"] == "kl"]
    places = (None, "blackmail", "harmless")
    assert [(m["step"], m["eval"]) for m in kl] == [(step, on) for step in (0, 1, 2) for on in places]
    assert [(m["kl"], m["kl_token_se"]) for m in kl if m["step"] == 0] == [(0.0, 0.0)] * 3
    assert all(m["kl"] == m["kl_token"] > 0 and m["kl_token_se"] > 0 for m in kl if m["step"] > 0)
    assert len({m["kl"] for m in kl if m["step"] == 2}) == 3
    assert [m["step"] for m in metrics if m["kind"] == "train"] == [1, 2]
    done = json.loads((arm / "done.json").read_text())
    assert len(done["stages"]) == STAGES
    assert (done["trained"], done["reused"]) == (STAGES - 3, 3)
    assert done["config"] == ArmFolder(arm).digest()
    assert f"arm {arm.name}" in (arm / "log.txt").read_text()


def test_nothing_in_the_store_knows_an_arm(runs: Path, arm: Path) -> None:
    for path in (runs / "store/objects").glob("eval-*/records.jsonl"):
        assert {(r.arm, r.stage, r.step, r.seed) for r in read_records(path)} == {("", "", 0, 0)}
    assert not [path for path in (runs / "store/objects").rglob("*.json*") if arm.name in path.read_text()]


def test_a_second_run_trains_nothing_and_says_so(runs: Path, arm: Path) -> None:
    before = final(arm)
    again = holdfast("run", *MODEL, *SMALL, f"runs={runs}", "name=small", "init=advice")
    assert f"nothing to train: {STAGES} stages reused" in again
    assert final(arm) == before
    assert json.loads((arm / "done.json").read_text())["trained"] == 0


def test_a_finished_arm_goes_on_to_further_steps_under_its_own_name(runs: Path, arm: Path) -> None:
    longer = [word for word in SMALL if not word.startswith("steps")]
    where = [f"runs={runs}", "name=longer", "init=advice"]
    assert "nothing to train" in holdfast("run", *MODEL, *longer, "steps=[1,2]", *where)
    said = holdfast("run", *MODEL, *longer, "steps=[1,2,3]", *where)
    made = [line for line in said.splitlines() if line.startswith("[") and not line.endswith("(reused)")]
    # One more segment, its 4 evals and its KL in three places.
    assert len(made) == 1 + 4 + 3
    (folder,) = (runs / "longer/arms").iterdir()
    shorter = [r for r in read_records(folder / "records.jsonl") if r.step <= 2]
    assert shorter == read_records(arm / "records.jsonl")


def test_fewer_evaluated_steps_are_all_in_the_store(runs: Path, arm: Path) -> None:
    fewer = [word for word in SMALL if not word.startswith("steps")]
    fewer += ["steps=[2]", "launch.save_every=1"]
    said = holdfast("run", *MODEL, *fewer, f"runs={runs}", "name=fewer", "init=advice")
    assert "nothing to train" in said
    (folder,) = (runs / "fewer/arms").iterdir()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2]


def test_a_tracker_mirrors_the_metrics_of_stages_that_are_reused(runs: Path, arm: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = final(arm)
    watched = ["report_to=[tensorboard]", f"runs={runs}", "name=small", "init=advice"]
    assert "nothing to train" in holdfast("run", *MODEL, *SMALL, *watched)
    assert final(arm) == before
    events = EventAccumulator(str(runs / "small/tensorboard" / arm.name))
    events.Reload()
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    rows = [json.loads(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
    for kind, on, key in (("train", None, "reward"), ("kl", None, "kl"), ("kl", "blackmail", "kl")):
        mine = [row for row in rows if (row["kind"], row.get("eval")) == (kind, on)]
        kept = [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in mine]
        assert curves["/".join(filter(None, (kind, on, key)))] == kept
    for step, rate in curves["eval/overrefusal/rate"]:
        said = [r.score for r in read_records(arm / "records.jsonl") if (r.eval, r.step) == ("overrefusal", step)]
        scored = [score for score in said if score is not None]
        assert rate == pytest.approx(sum(scored) / len(scored))
    assert {path.name for path in (runs / "small/tensorboard").iterdir()} == {
        arm.name, f"{arm.name}.prior", f"{arm.name}.advice",
    }  # fmt: skip


def test_an_arm_whose_policy_collapses_says_so_and_keeps_what_it_has(runs: Path, arm: Path) -> None:
    collapsing = ["steps=[1,4]", "+algo.min_entropy=100", f"runs={runs}", "name=collapsed", "init=advice"]
    command = [sys.executable, "-m", "holdfast", "run", *MODEL, *SMALL[:1], *SMALL[2:], *collapsing]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "entropy" in done.stderr
    assert "grpo chat to step 1" in done.stdout
    (folder,) = (runs / "collapsed/arms").iterdir()
    assert not (folder / "done.json").exists()


def test_rescoring_changes_nothing_while_the_judges_are_the_same(runs: Path, arm: Path) -> None:
    before = final(arm)
    assert f"{arm}: 0 of 96 outcomes changed" in holdfast("rescore", str(runs / "small"))
    assert final(arm) == before


def test_pruning_removes_what_no_arm_uses_and_nothing_else(runs: Path, arm: Path, tmp_path: Path) -> None:
    (tmp_path / "small/arms").mkdir(parents=True)
    shutil.copytree(runs / "store", tmp_path / "store")
    shutil.copytree(arm, tmp_path / "small/arms" / arm.name)
    used = {stage["key"] for stage in json.loads((arm / "done.json").read_text())["stages"]}
    assert " entries removed, " in holdfast("store", "prune", "--runs", str(tmp_path))
    assert {path.name.rpartition("-")[2] for path in (tmp_path / "store/objects").iterdir()} == used


def test_a_damaged_checkpoint_is_named_and_made_again(runs: Path, arm: Path) -> None:
    before = final(arm)
    stages = json.loads((arm / "done.json").read_text())["stages"]
    (key,) = [stage["key"] for stage in stages if (stage["kind"], stage["name"]) == ("install", "advice")]
    weights = runs / f"store/objects/install-{key}/model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    said = holdfast("run", *MODEL, *SMALL, f"runs={runs}", "name=small", "init=advice")
    assert f"damaged store entry install-{key}: model.safetensors" in said
    assert "done in" in said
    assert final(arm) == before


def test_models_as_they_come_are_evaluated_without_installs_or_rl(runs: Path, arm: Path) -> None:
    said = holdfast("eval", f"mine={MODEL[0][6:]}", *SMALL[:1], *SMALL[2:], "budget=pocket", f"runs={runs}")
    assert "[5/5] eval overrefusal at step 0" in said
    assert said.splitlines()[-1] == f"report: {runs / 'eval/report/index.html'}"
    assert "<dt>model</dt><dd>mine</dd>" in (runs / "eval/report/index.html").read_text()
    (folder,) = (runs / "eval/arms").iterdir()
    assert folder.name == "mine-none-s0"
    mine, pocket = (json.loads((path / "done.json").read_text())["stages"][0] for path in (folder, arm))
    assert (mine["name"], mine["key"]) == ("mine", pocket["key"])  # a name is in no key
    assert len(read_records(folder / "records.jsonl")) == 4 * 6 * 1  # without RL nothing is to be paired


def test_an_arm_killed_at_any_moment_ends_with_the_same_records(arm: Path, tmp_path: Path) -> None:
    """kill -9, each time a random moment after a few more stages were there."""
    folder = tmp_path / "small/arms" / arm.name
    folder.mkdir(parents=True)
    (folder / "arm.yaml").write_bytes((arm / "arm.yaml").read_bytes())
    command = [sys.executable, "-m", "holdfast.launch.arm", str(folder)]
    draw = random.Random(0)
    for stages in (1, 3, 7, 12):
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
        while len(list(tmp_path.glob("store/objects/*"))) < stages and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "done.json").exists()
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    assert said.count("(reused)") >= 12
    assert final(folder) == final(arm)


def test_the_config_of_an_arm_says_what_was_run(arm: Path) -> None:
    plain = yaml.safe_load((arm / "arm.yaml").read_text())
    assert [install["corpus"] for install in plain["init"]["installs"]] == ["prior", "advice"]
    assert plain["grid"] == [0, 1, 2]


def test_two_stages_on_one_environment_meet_different_scenarios(runs: Path) -> None:
    stages = [
        f"{{_target_: holdfast.config.Stage, name: {name}, env: '${{env}}', algo: '${{algo}}', steps: [1]}}"
        for name in ("first", "second")
    ]
    curriculum = f"curriculum=[{','.join(stages)}]".replace("'", "")
    holdfast("run", *MODEL, *SMALL[:1], *SMALL[2:], f"runs={runs}", "name=stages", "init=generic", curriculum)
    (done,) = runs.glob("stages/arms/*/done.json")
    segments = [stage for stage in json.loads(done.read_text())["stages"] if stage["kind"] == "grpo"]
    configs = [read_manifest(runs / "store/objects" / f"grpo-{stage['key']}").config for stage in segments]
    assert [stage["name"] for stage in segments] == ["first to step 1", "second to step 2"]
    assert configs[0]["seed"] != configs[1]["seed"]
    rewards = [row["step"] for row in map(json.loads, (done.parent / "metrics.jsonl").read_text().splitlines())
               if row["kind"] == "train"]  # fmt: skip
    assert rewards == [1, 2]


def test_a_supervised_stage_stands_between_two_of_rl(runs: Path) -> None:
    rl = "{_target_: holdfast.config.Stage, name: %s, env: ${env}, algo: ${algo}, steps: [1]}"
    words = [*MODEL, *SMALL[:1], *SMALL[2:], f"runs={runs}", "name=between", "init=generic"]
    words += [f"curriculum=[{rl % 'first'},${{budget.tuning}},{rl % 'last'}]", "budget.tuning.corpus=prior"]
    words += ["budget.tuning.size=20", "budget.tuning.steps=2", "budget.tuning.batch_loss_tokens=200"]
    said = holdfast("run", *words)
    # A model, two installs, four evals at four steps, and thrice two stages and the KL on the prompts of two evals.
    assert [line.split("]")[0] for line in said.splitlines() if line.startswith("[")] == [
        f"[{i}/{1 + 4 + 16 + 12}" for i in range(1, 1 + 4 + 16 + 12 + 1)
    ]
    (arm,) = (runs / "between/arms").iterdir()
    assert arm.name.startswith("pocket-generic-first-grpo-prior-sft-last-grpo-")
    records = read_records(arm / "records.jsonl")
    assert {(r.stage, r.step) for r in records} == {("init", 0), ("first", 1), ("prior", 3), ("last", 4)}
    assert len({r.weights for r in records}) == 4
    rows = [json.loads(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
    kl = [(row["step"], row["eval"]) for row in rows if row["kind"] == "kl"]
    places = [(step, on) for step in (0, 1, 3, 4) for on in (None, "blackmail", "harmless")]
    assert kl == [place for place in places if place != (3, None)]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 4]
    assert [row["step"] for row in rows if row["kind"] == "install" and row["install"] == "prior"] == [1, 2, 2, 3]
    known = training(ArmFolder(arm), ArmFolder(arm).config())
    assert [[math.isnan(reward) for reward in stage] for stage in known.rewards] == [[False], [True, True], [False]]
    before, kept = final(arm), json.loads((arm / "done.json").read_text())["stages"]
    (tuned,) = [stage["key"] for stage in kept[5:] if stage["kind"] == "install"]
    shutil.rmtree(runs / f"store/objects/install-{tuned}")  # as if it had been killed before
    shutil.rmtree(runs / f"store/objects/grpo-{kept[-8]['key']}")
    (arm / "done.json").unlink()
    assert "2 stages made" in holdfast("run", *words)
    assert final(arm) == before


def test_an_arm_with_two_processes_ends_as_one_with_one_does(checkpoint: Path, tmp_path: Path) -> None:
    tiny = ["model=hub", f"model.path={checkpoint}", "budget=pocket", "init=none", "control=none", "steps=[1]"]
    tiny += [word for word in SMALL[2:] if "prior" not in word and "sft" not in word]
    said = holdfast("run", *tiny, f"runs={tmp_path}", "name=two", "launch.threads=2", "launch.processes=2")
    # A model, four evals at steps 0 and 1, a segment and its KL on the environment and on two evals.
    assert "[11/13] kl chat to step 1" in said
    assert "[13/13] kl harmless to step 1" in said
    (arm,) = (tmp_path / "two/arms").iterdir()
    assert len(read_records(arm / "records.jsonl")) == 4 * 6 * (2 + 1)
    assert "nothing to train" in holdfast("run", *tiny, f"runs={tmp_path}", "name=two", "launch.threads=2")
    objects = tmp_path / "store/objects"
    assert not list(objects.glob("grpo-*/.ranks"))
    assert len(list(objects.glob("grpo-*"))) == 1
