"""A checkpoint after RL is an ordinary one: other tools read it and train it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from holdfast.config import GRPO, Environment
from holdfast.policy.checkpoint import Checkpoint, load, save
from holdfast.policy.sampler import Sampler
from holdfast.train import grpo
from letters import Letters  # noqa: F401  (registers the environment)

ON_A_CPU: dict[str, Any] = {
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": [], "max_steps": 1,
    "per_device_train_batch_size": 2, "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after a step of RL, from a start whose generation_config ends replies at two tokens."""
    folder = tmp_path_factory.mktemp("rl")
    model, tokenizer = load(checkpoint)
    model.generation_config.eos_token_id = [1, 4]
    model.generation_config.update(do_sample=True, temperature=0.7)
    save(model, tokenizer, folder / "start")
    cfg = GRPO(name="test", prompts_per_step=3, group=8, max_new_tokens=5, lr=3e-3, max_kl=99)
    env = Environment(name="test", id="test/Letters-v0", kwargs={})
    grpo.train(folder / "start", folder / "out", env=env, cfg=cfg, first_step=0, steps=1, seed=1)
    return folder / "out"


def test_template_ends_and_generation_config_are_those_of_the_start(trained: Path) -> None:
    read, start = Checkpoint.read(trained), Checkpoint.read(trained.parent / "start")
    assert read.renderer.tokenizer.chat_template == start.renderer.tokenizer.chat_template
    assert read.renderer.end_ids == start.renderer.end_ids == {1, 4}
    assert read.model.generation_config.to_dict() == start.model.generation_config.to_dict()
    apart = {"dtype": None, "_name_or_path": ""}
    assert read.model.config.to_dict() | apart == start.model.config.to_dict() | apart
    assert read.weights != start.weights


def test_transformers_alone_says_what_our_sampler_says(trained: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    chat = [{"role": "user", "content": "Hello."}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    theirs = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    read = Checkpoint.read(trained)
    sampler = Sampler(read.model, read.renderer, max_new_tokens=12, temperature=0)
    [[ours]] = sampler.sample([asked["input_ids"][0].tolist()], [[("a",)]])
    assert list(ours.ids) == theirs


def test_stock_supervised_training_goes_on_from_it(trained: Path, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes."}]
    trainer = SFTTrainer(
        model=str(trained),
        args=SFTConfig(output_dir=str(tmp_path / "sft"), **ON_A_CPU),
        train_dataset=Dataset.from_list([{"messages": chat}] * 4),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "sft"))
    assert Checkpoint.read(tmp_path / "sft").weights != Checkpoint.read(trained).weights


def test_stock_grpo_goes_on_from_it(trained: Path, tmp_path: Path) -> None:
    def short(completions: list[Any], **_: Any) -> list[float]:
        return [-float(len(str(completion))) for completion in completions]

    trainer = GRPOTrainer(
        model=str(trained),
        reward_funcs=short,
        args=GRPOConfig(
            output_dir=str(tmp_path), num_generations=2, max_completion_length=8, learning_rate=1e-2, **ON_A_CPU
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "Hello."}]}] * 4),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "grpo"))
    after = Checkpoint.read(tmp_path / "grpo")
    assert all(torch.isfinite(parameter).all() for parameter in after.model.parameters())
    assert after.weights != Checkpoint.read(trained).weights
