"""An arm's name says every setting that it was launched with, briefly, and what it says already it does not repeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from composed import arms_of

ARM = "pocket-generic-chat-grpo"


@pytest.fixture
def chats(tmp_path: Path) -> list[str]:
    """Two files of chats that are called alike."""
    row = '{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}\n'
    paths = [tmp_path / place / "chats.jsonl" for place in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(row)
    return [str(path) for path in paths]


def names(tmp_path: Path, *words: str) -> list[str]:
    """Of the arms that a command line stands for."""
    return [arm.name for arm in arms_of(tmp_path, *words)]


@pytest.mark.parametrize(
    ("words", "variants"),
    [
        (["algo.lr=1e-4,1e-5"], ["lr=1e-4", "lr=1e-5"]),
        (["algo.lr=0.5,0.00015"], ["lr=0.5", "lr=1.5e-4"]),
        (["budget.rl.group=4,8"], ["rl.group=4", "rl.group=8"]),
        (["+env.kwargs.n_tools=4,16"], ["kwargs.n_tools=4", "kwargs.n_tools=16"]),
        (["budget=pocket,hub"], ["budget=pocket", "budget=hub"]),
        (["steps=[1],[2,4]"], ["steps=1", "steps=2-4"]),
        (["+model.dtype=float32,bfloat16"], ["dtype=float32", "dtype=bfloat16"]),
        (["+algo.gradient_checkpointing=true,false"], ["gradient_checkpointing=true", "gradient_checkpointing=false"]),
        (["budget.prior.lr=0.05,0.25", "algo.lr=1e-4"], ["lr=1e-4-prior.lr=0.05", "lr=1e-4-prior.lr=0.25"]),
        (["algo.lr=1e-4", "~env.kwargs.split"], ["lr=1e-4-kwargs.split=deleted"]),
        (["++env.kwargs.n_tools=4", "++algo.lr=0.0001"], ["lr=1e-4-kwargs.n_tools=4"]),
    ],
)
def test_an_arm_s_name_has_the_settings_it_was_launched_with(
    words: list[str], variants: list[str], tmp_path: Path
) -> None:
    assert names(tmp_path, "-m", *words) == [f"{ARM}-{variant}-s0" for variant in variants]


@pytest.mark.parametrize(
    ("words", "arm"),
    [
        ([], "pocket-generic-chat-grpo-s0"),
        (["init=advice", "env=tools", "algo=ppo", "seed=3"], "pocket-advice-tools-ppo-s3"),
        (["model=hub", "model.path=Qwen/Qwen2.5-0.5B"], "Qwen2.5_0.5B-generic-chat-grpo-s0"),
        (["env=mixed", "env.shares.augmented=0.1"], "pocket-generic-mixed-0.1-grpo-s0"),
        (["algo.lr=1e-4", "algo.name=grpo-${algo.lr}"], "pocket-generic-chat-grpo-0.0001-s0"),
        (["init.name=plain", "env.name=talk"], "pocket-plain-talk-grpo-s0"),
        (["launch.threads=1", "report_to=[]", "name=mine"], "pocket-generic-chat-grpo-s0"),
        (["suite=harmless", "margins.retention=0.4", "control=none"], "pocket-generic-chat-grpo-s0"),
        (["evals.harmless.samples=1", "budget.kl.prompts=2"], "pocket-generic-chat-grpo-s0"),
        (["steps=[1,2]"], "pocket-generic-chat-grpo-s0"),  # it may be given further ones
        (["budget=hub", "init=none", "curriculum=[]"], "pocket-none-s0"),
        (["+study=quickstart", "init=advice", "seed=0"], "pocket-advice-chat-grpo-s0"),
    ],
)
def test_what_a_name_says_already_or_is_no_part_of_the_arm_is_not_in_its_variant(
    words: list[str], arm: str, tmp_path: Path
) -> None:
    assert names(tmp_path, *words) == [arm]


def test_a_choice_that_no_name_holds_is_in_the_variant(tmp_path: Path) -> None:
    assert names(tmp_path, "-m", "env=chat,tools", "env.name=talk") == [
        "pocket-generic-talk-grpo-env=chat-s0", "pocket-generic-talk-grpo-env=tools-s0",
    ]  # fmt: skip


def test_a_curriculum_may_refer_to_other_settings_and_be_swept(tmp_path: Path) -> None:
    stage = "{_target_: holdfast.config.Stage, name: talk, env: ${env}, algo: ${algo}, steps: [%d]}"
    assert names(tmp_path, f"curriculum=[{stage % 1}]") == ["pocket-generic-talk-grpo-s0"]
    one, two = names(tmp_path, "-m", f"curriculum=[{stage % 1}],[{stage % 2}]")
    assert one.startswith("pocket-generic-talk-grpo-curriculum=")
    assert one != two


def test_supervised_stages_are_named_by_what_they_train_on(tmp_path: Path) -> None:
    stage = "{_target_: holdfast.config.Stage, name: talk, env: ${env}, algo: ${algo}, steps: [1]}"
    words = ["-m", f"curriculum=[{stage},${{budget.tuning}}]", "budget.tuning.corpus=generic,prior"]
    assert names(tmp_path, *words) == [f"pocket-generic-talk-grpo-{corpus}-sft-s0" for corpus in ("generic", "prior")]
    words = ["-m", "curriculum=[${budget.tuning}]", "budget.tuning.lr=1e-4,1e-3", "budget.tuning.name=own"]
    assert names(tmp_path, *words) == [f"pocket-generic-own-sft-tuning.lr={lr}-s0" for lr in ("1e-4", "1e-3")]


def test_a_truth_is_part_of_a_name(tmp_path: Path) -> None:
    words = ["-m", "+truth=overrefuse,noop", "init=generic_again"]
    assert names(tmp_path, *words) == [f"pocket-generic_again-chat-grpo-truth={t}-s0" for t in ("overrefuse", "noop")]


def test_files_of_one_name_are_told_apart(tmp_path: Path, chats: list[str]) -> None:
    one, two = names(tmp_path, "-m", "init=mine", f"init.corpus={','.join(chats)}")
    assert one.startswith("pocket-mine-chat-grpo-corpus=chats.jsonl-")
    assert two.startswith("pocket-mine-chat-grpo-corpus=chats.jsonl-")
    assert one != two


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, two = names(tmp_path, "-m", "model=hub", "model.path=a/model,b/model")
    assert one.startswith("model-generic-chat-grpo-path=model-")
    assert one != two


def test_a_name_of_many_settings_stays_short_and_its_own(tmp_path: Path) -> None:
    words = ["budget.max_new_tokens=24"]
    limits = ("size", "batch_loss_tokens", "max_tokens")
    words += [f"budget.{part}.{key}=1024" for part in ("prior", "sft") for key in limits]
    one, two = names(tmp_path, "-m", *words, "budget.sft.steps=1,2")
    assert one.startswith("pocket-generic-chat-grpo-max_new_tokens=24-prior.batch_loss_tokens=1024-prior.max_tokens=")
    assert one != two
    assert len(one) < 120


def test_the_keys_of_a_study_s_sweep_are_swept(tmp_path: Path) -> None:
    own = tmp_path / "own/study"
    own.mkdir(parents=True)
    sweep = "{steps: '[1],[2]', algo.lr: '1e-4,1e-5'}"
    (own / "mine.yaml").write_text(f"# @package _global_\nhydra: {{mode: MULTIRUN, sweeper: {{params: {sweep}}}}}\n")
    assert names(tmp_path, "--config-dir", str(own.parent), "+study=mine") == [
        f"{ARM}-lr={lr}-steps={steps}-s0" for steps in (1, 2) for lr in ("1e-4", "1e-5")
    ]


def test_sampling_is_that_of_every_eval_and_no_part_of_a_name(tmp_path: Path) -> None:
    alone = ("init=none", "control=none", "format_control=null")
    (plain,) = arms_of(tmp_path, *alone)
    (arm,) = arms_of(tmp_path, *alone, "sampling.top_p=0.9", "sampling.top_k=20")
    assert {(row.temperature, row.top_k, row.top_p) for row in plain.evals} == {(1.0, 0, 1.0)}
    assert {(row.temperature, row.top_k, row.top_p) for row in arm.evals} == {(1.0, 20, 0.9)}
    assert arm.name == plain.name
