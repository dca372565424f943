"""GRPO on a chat environment: TRL's `GRPOTrainer`, fed by our own rollouts. Read from `train` down.

A run may be cut into segments, each from one folder to the next: everything random is a function of (seed, global
step), and a segment leaves its weights and AdamW moments behind, so 2 x 10 steps equal 1 x 20, bit for bit on CPU.
A training row is just an environment seed, {"prompt": "1203"}; the chat, the reply and the reward come from playing it.

Importing this file imports torch and TRL, some seconds: import it where training starts.

Axes: B episodes of a pass, U prompts among them, P prompt columns, C completion columns, T = P + C, V vocabulary.
"""

from __future__ import annotations

import copy
import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import DynamicCache, PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from holdfast import models
from holdfast.render import Renderer
from holdfast.rollout import Episode, roll
from holdfast.sampler import Sampler
from holdfast.train import GRPO

MOMENTS = "optimizer/adamw.safetensors"  # in a folder of its own: beside the weights it would be taken for some
METRICS = {"entropy": "entropy", "grad_norm": "grad_norm", "loss": "loss", "kl_estimate": "kl"}  # ours: TRL's


def train(
    start: Path,
    out: Path,
    *,
    env: str,
    env_kwargs: Mapping[str, Any],
    cfg: GRPO,
    first_step: int,
    steps: int,
    seed: int,
    resume: Path | None = None,
) -> None:
    """Run steps `first_step` .. `first_step + steps - 1` of a stage; write a checkpoint, moments and metrics to `out`.

    `start` is the folder the *stage* starts from: its weights are those of step 0, and the reference when cfg.beta > 0.
    `resume` is the folder that the previous segment wrote, and must be given exactly when first_step is above 0.

    metrics.jsonl has a line per step: {"kind": "train", "algo": "grpo", "step" (steps done), "reward", "reward_std",
    "component/NAME" for each reward component, "zero_variance" (share of groups that teach nothing), "entropy" (nats
    per token), "length" (sampled tokens per episode), "truncated" (share of replies cut short), "grad_norm"
    (before clipping at 1), "loss", "kl_estimate" (to the start, at the sampled tokens, when beta > 0), "lr",
    "tokens_per_second" (sampled, over the whole step), "seconds_rollout", "seconds_train"}.

    Raises ValueError for steps that make no sense, a segment that cannot be resumed, and a loss that is not finite.
    """
    if steps < 1 or first_step < 0:
        raise ValueError(f"steps must be 1 or more and first_step 0 or more, not {steps} and {first_step}")
    if (resume is None) != (first_step == 0):
        raise ValueError(f"first_step {first_step} needs {'a' if first_step else 'no'} segment to resume")
    model, tokenizer = models.load(resume or start, "float32")
    # The trainer writes into the configs. Were that saved, a pad token say, the next segment would train another model.
    configs = copy.deepcopy((model.config, model.generation_config))
    # TRL loads the reference from this path, whatever the weights in memory are.
    model.config._name_or_path = str(start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    if resume is not None:
        load_moments(optimizer, model, resume / MOMENTS)
    warmup = cfg.warmup * cfg.updates
    done = first_step * cfg.updates
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda update: min(1.0, (done + update + 1) / warmup) if warmup else 1.0
    )

    seeds = [scenario for step in range(first_step, first_step + steps) for scenario in scenarios(cfg, seed, step)]
    rollout = Rollout(cfg, env, env_kwargs, Renderer(tokenizer), first_step, seed)
    out.mkdir(parents=True, exist_ok=True)
    with (
        quiet(),
        (out / "metrics.jsonl").open("w", encoding="utf-8") as file,
        tqdm(total=steps, desc=f"grpo {env.rpartition('/')[2]}", unit="step", disable=None) as bar,
    ):
        trainer = Trainer(
            model=model,
            args=arguments(cfg, steps, seed, out),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"prompt": str(scenario)} for scenario in seeds]),
            reward_funcs=episode_reward,
            rollout_func=rollout,
            callbacks=[Meter(rollout, file, bar)],
            optimizers=(optimizer, scheduler),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.config, model.generation_config = configs
    models.save(model, tokenizer, out)
    save_moments(optimizer, model, out / MOMENTS)


def arguments(cfg: GRPO, steps: int, seed: int, out: Path) -> GRPOConfig:
    """`cfg` in TRL's words. Every step samples afresh; the trainer saves, reports and prints nothing."""
    episodes = cfg.prompts_per_step * cfg.group
    # TRL wants passes of one size; every loss type we allow then has the same gradient however a step is cut. Whole
    # groups are best, as they share a prompt; failing that, equal parts of one.
    sizes = [n for n in range(1, min(cfg.rows_per_pass, episodes) + 1) if episodes % n == 0]
    rows = max((n for n in sizes if n % cfg.group == 0), default=max(n for n in sizes if cfg.group % n == 0))
    return GRPOConfig(
        output_dir=str(out),
        max_steps=steps * cfg.updates,
        num_generations=cfg.group,
        num_iterations=cfg.updates,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=episodes // rows,
        max_completion_length=cfg.max_new_tokens,
        temperature=cfg.temperature,
        epsilon=cfg.epsilon,
        beta=cfg.beta,
        loss_type=cfg.loss_type,
        router_aux_loss_coef=0.0,
        max_grad_norm=1.0,
        seed=seed,
        shuffle_dataset=False,
        disable_dropout=True,
        gradient_checkpointing=False,
        bf16=cfg.autocast,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the libraries say about each other, which a user can do nothing about; errors still show."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
            warnings.filterwarnings("ignore", ".*gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def scenarios(cfg: GRPO, seed: int, step: int) -> list[int]:
    """The environment seeds of `step`: consecutive, so that families take turns, and never repeated within a run."""
    base = int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**30
    return [base + step * cfg.prompts_per_step + i for i in range(cfg.prompts_per_step)]


def episode_reward(*, episode_rewards: Sequence[float], **_: Any) -> list[float]:
    """TRL's reward function: hands back the column that `Rollout` returned."""
    return list(episode_rewards)


class Rollout:
    """TRL's `rollout_func`: plays the episodes of a step with the weights as they are. `summary` describes the last."""

    def __init__(
        self, cfg: GRPO, env: str, env_kwargs: Mapping[str, Any], renderer: Renderer, first_step: int, seed: int
    ) -> None:
        self.cfg, self.env, self.env_kwargs, self.renderer = cfg, env, env_kwargs, renderer
        self.first_step, self.seed = first_step, seed
        self.summary: dict[str, float] = {}

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """`prompts` are environment seeds as text, each already repeated `group` times in a row."""
        began = time.perf_counter()
        cfg = self.cfg
        step = self.first_step + trainer.state.global_step // cfg.updates
        # A model may have dropout that the trainer cannot switch off: a resumed segment must drop the same.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0]))
        sampler = Sampler(trainer.model, self.renderer, max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature)
        episodes = roll(
            self.env,
            self.env_kwargs,
            [(int(scenario), i % cfg.group) for i, scenario in enumerate(prompts)],
            sampler,
            stream=("train", self.seed, step),
            max_turns=cfg.max_turns,
        )
        rewards = [sum(episode.rewards) for episode in episodes]
        self.summary = summarise(cfg, episodes, rewards)
        self.summary["seconds_rollout"] = time.perf_counter() - began
        return {
            "prompt_ids": [list(episode.prompt_ids) for episode in episodes],
            "completion_ids": [list(episode.completion_ids) for episode in episodes],
            "env_mask": [list(episode.completion_mask) for episode in episodes],
            "logprobs": None,  # TRL would use them to correct for a sampler with other weights
            "episode_rewards": rewards,
        }


def summarise(cfg: GRPO, episodes: Sequence[Episode], rewards: Sequence[float]) -> dict[str, float]:
    """What a step's episodes say, as metrics (see `train`)."""
    grouped = np.array(rewards).reshape(-1, cfg.group)
    replies = [reply for episode in episodes for reply in episode.replies]
    sampled = sum(len(reply.ids) for reply in replies)
    names = sorted({name for episode in episodes for turn in episode.components for name in turn})
    components = {
        f"component/{name}": sum(turn.get(name, 0.0) for episode in episodes for turn in episode.components)
        / len(episodes)
        for name in names
    }
    return {
        "reward": float(grouped.mean()),
        "reward_std": float(grouped.std()),
        **components,
        "zero_variance": float((np.ptp(grouped, axis=1) == 0).mean()),
        "length": sampled / len(episodes),
        "truncated": sum(reply.finish == "length" for reply in replies) / len(replies),
    }


class Meter(TrainerCallback):
    """Writes a step's metrics line and moves the progress bar, after the last of the step's updates."""

    def __init__(self, rollout: Rollout, file: Any, bar: tqdm[Any]) -> None:
        self.rollout, self.file, self.bar = rollout, file, bar
        self.updates: list[Mapping[str, float]] = []
        self.began = time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.updates:
            self.began = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        cfg = self.rollout.cfg
        if logs is None or "loss" not in logs:  # the trainer's closing summary
            return
        step = self.rollout.first_step + (state.global_step - 1) // cfg.updates
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            raise ValueError(f"lr {cfg.lr} is too high: no finite loss or gradient at step {step}")
        self.updates.append(logs)
        if len(self.updates) < cfg.updates:
            return
        seconds = time.perf_counter() - self.began
        summary = self.rollout.summary
        tokens = summary["length"] * cfg.prompts_per_step * cfg.group
        means = {
            name: sum(update[key] for update in self.updates) / cfg.updates
            for name, key in METRICS.items()
            if key in logs
        }
        line = {
            "kind": "train",
            "algo": "grpo",
            "step": step + 1,
            **summary,
            **means,
            "lr": logs["learning_rate"],
            "tokens_per_second": tokens / seconds,
            "seconds_train": seconds - summary["seconds_rollout"],
        }
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self.updates = []
        self.bar.set_postfix(reward=f"{summary['reward']:.3f}", refresh=False)
        self.bar.update()


class Trainer(GRPOTrainer):
    """GRPOTrainer that sends no telemetry, keeps groups together, and runs each group's prompt once.

    TRL scores every row whole: a prompt of 1,500 tokens with 8 replies of 60 would be 12,480 tokens a group, forward
    and backward, where 1,980 do. Off a GPU its fused head would also run the LM head over every one of them.
    """

    def _send_telemetry(self) -> None:
        return None

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        # As the parent's, but for its shuffle, which would scatter a group's rows over the passes of a step.
        if self._step % (self.args.steps_per_generation * self.num_iterations) == 0:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(batch, self.args.steps_per_generation)
        inputs: dict[str, torch.Tensor] = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return inputs

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,  # images, and the router loss that `arguments` switches off
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Log-probabilities and entropies (B, C) of the last `logits_to_keep` = C columns, and no router loss."""
        rows = batch_size or len(input_ids)
        scores = [
            completion_scores(model, ids_BT, mask_BT, logits_to_keep, self.temperature)
            for ids_BT, mask_BT in zip(input_ids.split(rows), attention_mask.split(rows), strict=True)
        ]
        logps, entropies = (torch.cat(column) for column in zip(*scores, strict=True))
        return logps, entropies, None


def completion_scores(
    model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, columns: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (with gradient) and entropies (without), both (B, C), of the last C = `columns` columns.

    Prompts are padded on the left and completions on the right; padding scores 0. Rows with the same prompt that
    follow each other share its forward and backward pass: their gradients meet in its keys and values.
    """
    prompt_mask, said_mask = mask_BT[:, :-columns], mask_BT[:, -columns:]
    used, width = prompt_mask.any(0), int(said_mask.any(0).sum())
    said_BC, said_mask = ids_BT[:, -columns:][:, :width], said_mask[:, :width]
    marked = torch.where(prompt_mask.bool(), ids_BT[:, :-columns], -1)[:, used]
    prompts_UP, of_B = torch.unique_consecutive(marked, dim=0, return_inverse=True)
    mask_UP = (prompts_UP >= 0).long()

    cache = DynamicCache()
    output = model(
        input_ids=prompts_UP.clamp(min=0),
        attention_mask=mask_UP,
        position_ids=(mask_UP.cumsum(1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits_BCV = output.logits.index_select(0, of_B)
    if width > 1:
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.index_select(0, of_B), layer.values.index_select(0, of_B)
        seen_BT = torch.cat([mask_UP[of_B], said_mask[:, :-1]], 1)
        output = model(
            input_ids=said_BC[:, :-1],
            attention_mask=seen_BT,
            position_ids=(seen_BT.cumsum(1) - 1)[:, mask_UP.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        )
        logits_BCV = torch.cat([logits_BCV, output.logits], 1)

    logits_BCV = logits_BCV.float() / temperature
    norm_BC = logits_BCV.logsumexp(-1)
    logps_BC = logits_BCV.gather(-1, said_BC[..., None])[..., 0] - norm_BC
    with torch.no_grad():
        entropies_BC = norm_BC - (logits_BCV.softmax(-1) * logits_BCV).sum(-1)
    room = (0, columns - width)
    return F.pad(logps_BC * said_mask, room), F.pad(entropies_BC * said_mask, room)


def save_moments(optimizer: torch.optim.Optimizer, model: torch.nn.Module, path: Path) -> None:
    """AdamW's state as {"PARAMETER/exp_avg": tensor, ...}: safetensors, no pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}/{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
    save_file(tensors, path)


def load_moments(optimizer: torch.optim.Optimizer, model: torch.nn.Module, path: Path) -> None:
    """Give `optimizer` the state that `save_moments` wrote for a model of the same parameters."""
    if not path.is_file():
        raise ValueError(f"cannot resume: {path} is missing")
    tensors = load_file(path)
    for name, parameter in model.named_parameters():
        # AdamW counts its steps on the CPU, and keeps the moments beside their parameter.
        optimizer.state[parameter] = {
            "step": tensors[f"{name}/step"],
            "exp_avg": tensors[f"{name}/exp_avg"].to(parameter.device),
            "exp_avg_sq": tensors[f"{name}/exp_avg_sq"].to(parameter.device),
        }
