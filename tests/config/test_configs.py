"""Every config composes and builds, and says in its head what it is for and how to use it. A new one is tested too."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from holdfast.config import Arm, Launch, Model, build, conf_dir, first_difference, unbuild
from holdfast.config.checks import check_name
from holdfast.judges import Classifier
from holdfast.launch.hydra import built, check
from holdfast.launch.processes import Planned
from holdfast.launch.variant import Given
from tools.calibration import EXPECTED

FILES = sorted(path.relative_to(conf_dir()).with_suffix("").as_posix() for path in conf_dir().rglob("*.yaml"))
# What has to be given with a choice that is not complete by itself.
WITH = {
    "init/mine": [f"init.corpus={Path(__file__).parent / 'chats.jsonl'}"],
    "model/hub": ["model.path=owner/name"],
    "judge/classifier": ["judge.path=owner/name", "judge.preset=wildguard"],
}


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        yield


def arm_of(tmp_path: Path, *overrides: str) -> Arm:
    cfg = compose("config", [f"runs={tmp_path}", *overrides])
    check(cfg, Given(overrides), {})
    return Planned(*built(cfg, Given(overrides))).write().arm()


def choice(file: str) -> list[str]:
    group, _, name = file.rpartition("/")
    plus = "+" * (group in ("study", "truth"))
    return [f"{plus}{group}={name}", *WITH.get(file, [])] if group else []


@pytest.mark.parametrize("file", FILES)
def test_a_config_composes_and_builds(file: str, tmp_path: Path) -> None:
    arm = arm_of(tmp_path, *choice(file))
    assert arm.grid[0] == 0
    assert {cfg.better for cfg in arm.evals} == {"low", "high"}
    assert all((cfg.twin is None) == (cfg.better == "high") for cfg in arm.evals)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("study/")])
def test_every_arm_of_a_study_builds_and_its_controls_are_among_them(file: str, tmp_path: Path) -> None:
    cfg = compose("config", choice(file), return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    swept = {key: str(values).split(",") for key, values in cfg.hydra.sweeper.params.items()}
    swept["seed"] = swept.get("seed", ["0"])[:2]  # of further ones there is nothing to learn
    sweep = [[f"{key}={value}" for value in values] for key, values in swept.items()]
    arms = [arm_of(tmp_path, *choice(file), *overrides) for overrides in itertools.product(*sweep)]
    assert len({arm.name for arm in arms}) == len(arms)
    assert {arm.study for arm in arms} == {arms[0].study}
    assert {arms[0].control, arms[0].format_control} <= {None, *(arm.init.name for arm in arms)}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("truth/")])
def test_a_truth_says_which_word_is_due_as_its_table_does(file: str) -> None:
    head = (conf_dir() / f"{file}.yaml").read_text(encoding="utf-8").partition("#   holdfast")[0].lower()
    name = file.rpartition("/")[2]
    (due,) = [word for (truth, _), (word, _) in EXPECTED.items() if truth == name]
    assert re.search(rf"\b{due} is due\b", " ".join(head.split()))
    study = compose("config", choice("study/calibration"), return_hydra_config=True)
    assert name in study.hydra.sweeper.params["+truth"].split(",")


@pytest.mark.parametrize("file", FILES)
def test_a_config_opens_with_its_purpose_and_a_command_that_can_be_read(file: str) -> None:
    lines = (conf_dir() / f"{file}.yaml").read_text(encoding="utf-8").splitlines()
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    purpose = [line for line in head if not line.startswith(("#   ", "# @package"))]
    commands = [line.strip("# ") for line in head if line.startswith("#   holdfast ")]
    assert purpose
    assert commands
    for command in commands:
        words = shlex.split(command.partition("      ")[0])[2:]  # a remark may follow, well apart
        OverridesParser.create().parse_overrides([word for word in words if "=" in word])


@pytest.mark.parametrize("model", ["pocket", "smollm2", "hub"])
def test_inits_of_one_model_have_installs_of_equal_budgets_and_share_the_first(model: str, tmp_path: Path) -> None:
    given = WITH.get(f"model/{model}", [])
    inits = [file for file in FILES if file.startswith("init/")]
    arms = [arm_of(tmp_path, f"model={model}", *given, *choice(file)) for file in inits]
    installs = {arm.init.name: arm.init.installs for arm in arms}
    prior, own = installs.pop("prior"), []
    assert installs.pop("none") == ()
    for shared in installs.values():
        assert shared[: len(prior)] == prior
        own += shared[len(prior) :]
    assert len(own) == len(installs)
    assert len({(row.steps, row.loss_tokens) for row in own}) == 1
    assert len(prior) == (model != "pocket")  # which has it from pretraining


def test_the_budget_follows_the_model_unless_it_is_chosen(tmp_path: Path) -> None:
    assert arm_of(tmp_path, "model=smollm2", "name=a").grid == [0, 3, 6, 9, 12]
    assert arm_of(tmp_path, "model=smollm2", "budget=pocket", "name=b").grid == [0, 8, 16, 24, 32]


def test_a_curriculum_counts_its_steps_through(tmp_path: Path) -> None:
    second = "{_target_: holdfast.config.Stage, name: again, env: ${env}, algo: ${algo}, steps: [1, 5]}"
    first = "{_target_: holdfast.config.Stage, name: chat, env: ${env}, algo: ${algo}, steps: [2, 4]}"
    arm = arm_of(tmp_path, f"curriculum=[{first}, {second}]")
    assert arm.grid == [0, 2, 4, 5, 9]  # 4 + 1, 4 + 5
    assert arm.name == "pocket-generic-chat-grpo-again-grpo-s0"


def test_a_supervised_stage_counts_its_updates_as_steps(tmp_path: Path) -> None:
    rl = "{_target_: holdfast.config.Stage, name: chat, env: ${env}, algo: ${algo}, steps: [2, 4]}"
    arm = arm_of(tmp_path, f"curriculum=[{rl},${{budget.tuning}},{rl}]", "budget.tuning.steps=3")
    assert arm.grid == [0, 2, 4, 7, 9, 11]  # 4, 4 + 3, 7 + 2, 7 + 4
    assert arm.name == "pocket-generic-chat-grpo-generic-sft-chat-grpo-tuning.steps=3-s0"
    assert [stage.name for stage in arm.rl] == ["chat", "chat"]
    assert [install.name for install in arm.installs] == ["generic", "generic"]
    assert arm.paid_by == ["rules"]


def test_what_a_supervised_stage_cannot_be_made_of_is_told_before_anything_starts(tmp_path: Path) -> None:
    words = ["curriculum=[${budget.tuning}]", "budget.tuning.corpus=gone.jsonl"]
    with pytest.raises(ValueError, match=r"curriculum\.gone\.jsonl: corpus: gone\.jsonl: no such file"):
        arm_of(tmp_path, *words)
    with pytest.raises(ValueError, match=r"curriculum\.prior\.steps must be 1 or more, not 0"):
        arm_of(tmp_path, "curriculum=[${budget.prior}]")
    with pytest.raises(ValueError, match=r"curriculum\.name must be letters, digits"):
        arm_of(tmp_path, *words, "budget.tuning.name=a/b")
    with pytest.raises(ValueError, match=r"curriculum must be of type list of Stage \| Install, not"):
        arm_of(tmp_path, "curriculum=[${env}]")


def test_controls_are_of_one_curriculum_supervised_stages_and_their_length_included(tmp_path: Path) -> None:
    rl = "{_target_: holdfast.config.Stage, name: chat, env: ${env}, algo: ${algo}, steps: [%d]}"
    tuning = ["curriculum=[${budget.tuning}]", "budget.tuning.steps=3"]
    arms = {
        "short": arm_of(tmp_path, *tuning, "name=a"),
        "long": arm_of(tmp_path, *tuning, "budget.tuning.steps=4", "name=b"),
        "other init": arm_of(tmp_path, *tuning, "init=advice", "name=c"),
        "then RL": arm_of(tmp_path, f"curriculum=[${{budget.tuning}},{rl % 2}]", "name=d"),
        "then more": arm_of(tmp_path, f"curriculum=[${{budget.tuning}},{rl % 4}]", "name=e"),
    }
    conditions = {name: arm.conditions for name, arm in arms.items()}
    assert conditions["short"] == conditions["other init"]
    assert conditions["then RL"] == conditions["then more"]
    assert len(set(conditions.values())) == 3


def good() -> dict[str, Any]:
    return {"_target_": "holdfast.config.Init", "name": "mine", "installs": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "init.nmae is no setting; allowed are name, installs, corpus"),
        ({"_target_": "os.system"}, "init._target_ must be one of holdfast.config.Arm, "),
        ({"name": 3}, "init.name must be of type str, not 3"),
        ({"installs": [1]}, r"init.installs must be of type list of Install, not \(1,\)"),
        ({"name": "a/b"}, "init: name must be letters, digits, dots, _ and -"),
    ],
)
def test_a_mistake_is_told_with_its_key(change: dict[str, Any], message: str) -> None:
    assert build(good(), "init").name == "mine"
    with pytest.raises(ValueError, match=message):
        build({**good(), **change}, "init")


def test_a_missing_key_is_told() -> None:
    with pytest.raises(ValueError, match=r"init\.installs is missing"):
        build({"_target_": "holdfast.config.Init", "name": "mine"}, "init")


def test_a_true_is_no_number_and_a_whole_number_is() -> None:
    margins = {"_target_": "holdfast.config.Margins", "retention": 1}
    assert build(margins).retention == 1
    with pytest.raises(ValueError, match=r"margins\.retention must be of type float, not True"):
        build({**margins, "retention": True}, "margins")


def test_every_model_has_a_name_for_its_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Measured fault: "." and a folder without a letter of ASCII were both called "", and their arm -none-s0
    def label(path: str) -> str:
        return Model(name="hub", path=path).label

    (tmp_path / "tuned" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tuned" / "in")
    assert [label(path) for path in ("owner/A-1.5B", ".", "..", "./final/")] == ["A_1.5B", "in", "tuned", "final"]
    named = [label(path) for path in ("模型", "другая", "模型/7B")]
    assert named == ["c98e11", "437a0f", "7B"]
    for name in named:
        check_name("alias", name)


def test_the_first_difference_is_named_with_both_values() -> None:
    old = {"name": "a", "evals": [{"name": "blackmail", "samples": 4}, {"name": "mailbox", "samples": 4}]}
    new = {"name": "a", "evals": [{"name": "blackmail", "samples": 4}, {"name": "mailbox", "samples": 8}]}
    assert first_difference(old, old) is None
    assert first_difference(old, new) == ("evals.mailbox.samples", 4, 8)
    assert first_difference(old, {"name": "a"}) == ("evals", old["evals"], None)
    assert first_difference({}, {"name": "a"}) == ("name", None, "a")


def test_what_is_written_for_an_arm_reads_back_as_the_same_arm(tmp_path: Path) -> None:
    words = ["init=advice", "seed=3", "algo.lr=3e-5"]
    cfg: DictConfig = compose("config", [f"runs={tmp_path}", *words])
    planned = Planned(*built(cfg, Given(words)))
    folder, job = planned.write(), planned.job
    plain = yaml.safe_load((folder.path / "arm.yaml").read_text(encoding="utf-8"))
    assert job.launch == Launch()
    assert folder.path == tmp_path / "study/arms/pocket-advice-chat-grpo-lr=3e-5-s3"
    assert (plain["name"], plain["grid"]) == (folder.path.name, [0, 8, 16, 24, 32])
    assert plain["group"] == "pocket-advice-chat-grpo-lr=3e-5"
    assert folder.arm().curriculum[0].algo.lr == 3e-5
    assert planned.write().path == folder.path


@pytest.mark.parametrize("env", ["chat", "tools", "prompts", "augmented"])
def test_the_judge_is_part_of_the_environment_s_arguments_and_plain(env: str, tmp_path: Path) -> None:
    rules = arm_of(tmp_path, f"env={env}", "name=a")
    assert rules.curriculum[0].env.kwargs["judge"] == {"name": "rules"}
    chosen = ["judge=classifier", "judge.path=owner/name", "judge.labels={LABEL_0:complies,LABEL_1:refuses}"]
    arm = arm_of(tmp_path, f"env={env}", *chosen, "name=b")
    assert arm.curriculum[0].env.kwargs["judge"] == {
        "name": "classifier",
        "path": "owner/name",
        "preset": None,
        "labels": {"LABEL_0": "complies", "LABEL_1": "refuses"},
        "revision": None,
        "prompt": None,
        "max_new_tokens": 64,
        "batch_size": 16,
        "max_length": None,
    }


def test_the_classifier_of_conf_is_the_classifier_of_the_code() -> None:
    plain = yaml.safe_load((conf_dir() / "judge/classifier.yaml").read_text(encoding="utf-8"))
    settings = {key: value for key, value in plain.items() if key not in ("name", "path")}
    assert settings == {spec.name: spec.default for spec in fields(Classifier) if spec.name != "path"}


def test_what_is_built_can_be_taken_apart_and_built_again(tmp_path: Path) -> None:
    cfg: DictConfig = compose("config", [f"runs={tmp_path}", "launch.processes=2", "launch.threads=3"])
    planned = Planned(*built(cfg, Given([])))
    arm, job = planned.write().arm(), planned.job
    assert (job.launch.processes, job.launch.threads, job.report_to) == (2, 3, ())
    assert build(json.loads(json.dumps(unbuild(job)))) == job
    assert build(json.loads(json.dumps(unbuild(arm)))) == arm


def test_how_an_arm_is_launched_and_watched_is_not_written_down_with_it(tmp_path: Path) -> None:
    folder = Planned(*built(compose("config", [f"runs={tmp_path}"]), Given([]))).write()
    plain = folder.path / "arm.yaml"
    before = plain.read_text(encoding="utf-8")
    words = ["launch.processes=2", "report_to=[tensorboard]"]
    Planned(*built(compose("config", [f"runs={tmp_path}", *words]), Given(words))).write()
    assert plain.read_text(encoding="utf-8") == before


def test_rl_that_cannot_be_launched_as_asked_is_told_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "fsdp.yaml"
    file.write_text("distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_version: 2}\n")
    for asked, complaint in (
        (["launch.processes=3"], "cannot be shared out, whole groups together, among 3 processes"),
        (["launch.processes=2", "+algo.minibatches=32"], "in 32 minibatches cannot be shared out"),
        ([f"launch.accelerate={file}", "algo=ppo"], "launch.accelerate asks for FSDP, which is for GRPO without"),
        ([f"launch.accelerate={file}", "+algo.lora_rank=4"], "launch.accelerate asks for FSDP"),
    ):
        with pytest.raises(ValueError, match=complaint):
            check(compose("config", [f"runs={tmp_path}", *asked]), Given(asked), {})


def test_an_accelerate_config_says_how_many_processes_there_are(tmp_path: Path) -> None:
    file = tmp_path / "fsdp.yaml"
    file.write_text("distributed_type: FSDP\nnum_processes: 8\nfsdp_config: {fsdp_version: 2}\n")
    launch = Launch(accelerate=str(file))
    assert (launch.count, launch.sharded) == (8, True)
    file.write_text("distributed_type: MULTI_GPU\nnum_processes: 3\n")
    assert (Launch(accelerate=str(file)).count, Launch(accelerate=str(file)).sharded) == (3, False)
    with pytest.raises(ValueError, match="processes must be left out with accelerate="):
        Launch(accelerate=str(file), processes=2)
    for text, complaint in (
        ("num_machines: 2", "must be for one machine, num_machines: 1, not 2 in"),
        ("distributed_type: DEEPSPEED", "must ask for plain processes or FSDP, not DEEPSPEED in"),
        ("distributed_type: FSDP", "must ask for FSDP with fsdp_version: 2, not None in"),
        ("distributed_type: FSDP\nfsdp_config: {fsdp_version: 1}", "must ask for FSDP with fsdp_version: 2, not 1 in"),
    ):
        file.write_text(f"num_processes: 2\n{text}\n")
        with pytest.raises(ValueError, match=f"accelerate {complaint}"):
            Launch(accelerate=str(file))
    for text in ("distributed_type: FSDP\n", "- a list\n", "{not yaml\n"):
        file.write_text(text)
        with pytest.raises(ValueError, match="accelerate must be a config file with num_processes, not"):
            Launch(accelerate=str(file))
