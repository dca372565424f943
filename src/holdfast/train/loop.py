"""What all RL algorithms share: episodes in, AdamW steps out, a line of metrics a step. Read from `run` down.

The trainer is TRL's `GRPOTrainer`, fed by our own rollouts; an algorithm is a subclass of `Learner`. A run may be cut
into segments, each from one folder to the next: everything random is a function of (seed, global step), and a segment
leaves weights, critic and AdamW moments behind, so 2 x 10 steps equal 1 x 20, bit for bit on a CPU. Under `accelerate
launch` every rank plays and trains its share of the episodes.

Importing this file imports torch and TRL, some seconds: import it where training starts.

Axes: B episodes, C completion columns, T prompt and completion columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PrinterCallback
from trl import GRPOTrainer
from trl.models.utils import _ForwardRedirection
from trl.trainer.utils import pad, split_tensor_dict

from holdfast.config import RL, Environment, Mixture
from holdfast.policy.checkpoint import load, renderer, save
from holdfast.policy.paths import path_of
from holdfast.policy.scores import completion_scores
from holdfast.train import lora, vllm
from holdfast.train.arguments import arguments, quiet
from holdfast.train.checkpoint import CRITIC, MOMENTS, load_moments, save_moments, save_tensors, whole_weights
from holdfast.train.episodes import Rollout, dealt
from holdfast.train.meter import Meter
from holdfast.train.sharding import check_sharding, sharded

MOST_NATS = 20.0
"""Of a token's log-ratio to the start."""


def run(
    learner: type[Learner],
    start: Path,
    out: Path,
    *,
    env: Environment | Mixture,
    cfg: RL,
    first_step: int,
    steps: int,
    seed: int,
    resume: Path | None = None,
) -> None:
    """Run steps `first_step` .. `first_step + steps - 1` of a stage; write checkpoint, moments and metrics to `out`.

    `start` is the folder the *stage* starts from: its weights are those of step 0, and what KL is measured to.
    `resume` is the folder that the previous segment wrote, and must be given exactly when first_step is above 0.
    What is written is the same however the steps before were cut into segments. The lines of metrics.jsonl are
    described in `holdfast.train.meter`.

    Raises ValueError for steps that make no sense and a segment that cannot be resumed, and Collapse.
    """
    if steps < 1 or first_step < 0:
        raise ValueError(f"steps must be 1 or more and first_step 0 or more, not {steps} and {first_step}")
    if (resume is None) != (first_step == 0):
        raise ValueError(f"first_step {first_step} needs {'a' if first_step else 'no'} segment to resume")
    for path in (resume / name for name in ("metrics.jsonl", MOMENTS)) if resume else ():
        if not path.is_file():
            raise ValueError(f"cannot resume: {path} is missing")
    ranks = PartialState(cpu=not torch.cuda.is_available())  # puts each rank on a device of its own
    # A segment's folder holds adapters apart, and folded into the weights.
    model, tokenizer = load(start if resume is None or cfg.lora_rank else resume, "float32")
    # The trainer writes into the configs. Were that saved, a pad token say, the next segment would train another model.
    configs = copy.deepcopy((model.config, model.generation_config))
    render = renderer(model, tokenizer)
    thought = render.template.thought_tokens
    settings = {**learner.settings(cfg), **(vllm.settings(render) if cfg.rollout == "vllm" else {})}
    out.mkdir(parents=True, exist_ok=True)
    shown = f"{cfg.method} {env.name}"
    with (
        quiet(),
        tqdm(total=steps, desc=shown, unit="step", disable=None if ranks.is_main_process else True) as bar,
        Meter(cfg, first_step, out, resume, bar, write=ranks.is_main_process) as meter,
    ):
        trainer = learner(
            cfg,
            Rollout(cfg, env, render, first_step, seed, meter),
            start=start,
            resume=resume,
            model=model,
            args=arguments(cfg, learner.copies(cfg), settings, steps, seed, out, ranks.num_processes, thought),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(
                [{"prompt": ""}] * (steps * cfg.episodes // learner.copies(cfg))  # `Rollout` knows whose turn it is
            ),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(meter)
        trainer.train()
    trainer.write(out, configs)
    ranks.wait_for_everyone()


def episode_reward(*, episode_rewards: Sequence[float | None], **_: Any) -> list[float | None]:
    """TRL's reward function: hands back the column that `Rollout` returned. A None has no part in its group's baseline
    and no advantage."""
    return list(episode_rewards)


class Learner(GRPOTrainer):
    """GRPOTrainer that sends no telemetry, keeps groups together, runs each group's prompt once, and says what it does.

    TRL scores every row whole, and off a GPU its fused head would run the LM head over every position.
    """

    scores: Callable[..., tuple[Tensor, ...]] = staticmethod(completion_scores)
    """The pass of the trained model: log-probabilities, entropies and what else the algorithm wants of it."""
    beside: list[Tensor]
    """What the trained model's last pass put out beside the first two."""

    @staticmethod
    def copies(cfg: RL) -> int:
        """How many episodes TRL compares with each other."""
        return cfg.group

    @staticmethod
    def settings(cfg: Any) -> dict[str, Any]:
        """What the algorithm adds to `arguments`."""
        raise NotImplementedError

    def __init__(
        self, cfg: Any, rollout: Rollout, *, start: Path, resume: Path | None, model: Any, **kwargs: Any
    ) -> None:
        self.cfg, self.rollout, self.resume = cfg, rollout, resume
        self._episodes: dict[str, Any] = {}  # of the step, as tensors
        self._mask_BC: Tensor | None = None  # of the loss under way
        self._tokens = torch.zeros(())  # of the step, in all processes
        self.clock = rollout.meter.clock
        if cfg.lora_rank:
            lora.attach(model, cfg.lora_rank, seed=kwargs["args"].seed)
            if resume is not None:
                lora.load(model, resume / "adapter")
        begin = model if cfg.lora_rank else load(start, "float32")[0]
        path = path_of(model)  # before the trainer takes it over, casts and shards it
        self.extend(model)
        super().__init__(model=model, reward_funcs=episode_reward, rollout_func=rollout, **kwargs)
        check_sharding(self.accelerator, whole_only=cfg.whole_only)
        # What is shared depends on the prompts: processes that hold shards would make different passes.
        whole = cfg.gradient_checkpointing or sharded(self.accelerator)
        # One row at a time is without padding, which not every architecture sees through.
        self.alone = path.scoring == "whole"
        if self.alone and sharded(self.accelerator):
            raise ValueError(f"{type(model).__name__} cannot be sharded: its rows must be run one at a time")
        self.share = not (whole or self.alone)
        self.beta, self.ref_model = cfg.beta, Start(begin.to(self.accelerator.device), bool(cfg.lora_rank))

    def extend(self, model: PreTrainedModel) -> None:
        """Give the model what else the algorithm trains, before the trainer takes it over."""

    # --- optimiser

    def rates(self) -> list[tuple[list[torch.nn.Parameter], float, Callable[[int], float]]]:
        """(parameters, learning rate, its factor at an update counted from the stage's first) for each group."""
        warmup = self.cfg.warmup * self.cfg.updates * self.cfg.minibatches
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return [(trained, self.cfg.lr, lambda update: min(1.0, (update + 1) / warmup) if warmup else 1.0)]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        groups = [{"params": parameters, "lr": rate} for parameters, rate, _ in self.rates()]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=self.cfg.weight_decay)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.resume is not None:  # only now: under FSDP2 the optimiser got other parameters since it was made
            load_moments(self.optimizer, self.model, self.resume)
        done = self.rollout.first_step * self.cfg.updates * self.cfg.minibatches
        factors = [lambda update, factor=factor: factor(done + update) for *_, factor in self.rates()]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factors)
        return self.lr_scheduler

    def write(self, out: Path, configs: tuple[Any, Any]) -> None:
        """Write the checkpoint, with the configs it came with, and what a later segment needs. Every rank calls it."""
        model, main = self.accelerator.unwrap_model(self.model), self.accelerator.is_main_process
        save_moments(self.optimizer, model, out, write=main)
        critic = model._modules.pop("critic", None)  # no part of the policy from here on
        weights = whole_weights(model, keep=main)
        valued = whole_weights(critic, keep=main) if critic is not None else {}
        if not main:
            return
        if valued:
            save_tensors(valued, out / CRITIC)
        if self.cfg.lora_rank:
            lora.save(model, out / "adapter")
            weights = lora.merged(model)
        model.config, model.generation_config = configs
        save(model, self.processing_class, out, weights)

    # --- a step

    def _send_telemetry(self) -> None:
        return None

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        with self.clock("backward"):  # what the parts below take is theirs
            loss: Tensor = super().training_step(*args, **kwargs)
        return loss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._mask_BC, self._tokens = inputs["model_mask"], inputs["num_items_in_batch"]
        with self.clock("forward"):
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        self._mask_BC = None
        return loss

    def report(self, name: str, x_BC: Tensor) -> None:
        """Log the mean of `x_BC` over the step's tokens: as the trainer averages over passes, each gives its sum over
        what a pass has on average."""
        assert self._mask_BC is not None
        share = self.total((x_BC.detach() * self._mask_BC).sum()) / self._tokens.clamp(min=1)
        self._metrics["train"][name].append(share.item() * self.args.steps_per_generation)

    def total(self, sums: Tensor) -> Tensor:
        """The sum over all processes."""
        return self.accelerator.reduce(sums, reduction="sum")

    def own(self, logps_BC: Tensor) -> Tensor:
        """In a loss, log-probabilities of the environment's tokens become 0, as are old ones and the start's: nothing
        learns from them, but a ratio of theirs may overflow, and infinity times a mask of 0 is nan."""
        return logps_BC if self._mask_BC is None else logps_BC.masked_fill(self._mask_BC == 0, 0.0)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Tensor]:
        # As the parent's, but for its shuffle, which would scatter a group's rows over the minibatches.
        parts = self.args.steps_per_generation
        update, part = divmod(self._step % (parts * self.num_iterations), parts)
        if update == part == 0:
            with self.clock("score"):  # `Rollout` takes its own time
                self._episodes = self._generate_and_score_completions(generation_batch)
        if part == 0:
            ranks = self.accelerator.num_processes
            stream = [self.args.seed, self.rollout.step(self), update]
            order = dealt(self.cfg, self.accelerator.process_index, ranks, stream)
            rows = {name: x[order] if x is not None and x.ndim else x for name, x in self._episodes.items()}
            self._buffered_inputs = split_tensor_dict(rows, parts)
        inputs: dict[str, Tensor] = self._buffered_inputs[part]
        return inputs

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        batch["model_mask"] = mask_BC = batch["completion_mask"] * batch["tool_mask"]
        logps_BC = pad([torch.tensor(episode.logprobs) for episode in self.rollout.episodes], padding_value=0.0)
        batch["sampled_logps"] = logps_BC.to(self.accelerator.device)
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            if name in batch:  # see `own`
                batch[name] = batch[name].masked_fill(mask_BC == 0, 0.0)
        self._metrics["train"]["kl_to_start"].append(self.kl_to_start(batch))
        return batch

    @torch.no_grad()
    def kl_to_start(self, batch: Mapping[str, Tensor]) -> float:
        """KL to the stage's start in nats a token, at the sampled tokens of the first episode of every group."""
        rows = slice(None, None, self.cfg.group)
        mask_BC = batch["model_mask"][rows]
        if "ref_per_token_logps" in batch:
            start_BC = batch["ref_per_token_logps"][rows]
        else:
            ids_BT, mask_BT = sequences(batch, rows)
            size = self.args.per_device_train_batch_size
            start_BC, _, _ = self._get_per_token_logps_and_entropies(
                self.ref_model, ids_BT, mask_BT, mask_BC.shape[1], size
            )
        sums = self.total(log_ratios(batch["sampled_logps"][rows], start_BC, mask_BC))
        return (sums[0] / sums[1].clamp(min=1)).item()

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,  # images, and the router loss that `arguments` switches off
    ) -> tuple[Tensor, Tensor, None]:
        """Log-probabilities and entropies (B, C) of the last `logits_to_keep` = C columns, and no router loss."""
        started = isinstance(model, Start)
        score = partial(completion_scores if started else self.scores, entropy=compute_entropy)
        logps_BC, entropies_BC, *more = self.scored(model, score, input_ids, attention_mask, logits_to_keep, batch_size)
        if not started:
            self.beside = more
        if compute_entropy:
            self.report("token_entropy", entropies_BC)
        return self.own(logps_BC), entropies_BC, None

    def scored(
        self,
        model: Any,
        method: Callable[..., tuple[Tensor, ...]],
        ids_BT: Tensor,
        mask_BT: Tensor,
        columns: int,
        rows: int | None = None,
    ) -> tuple[Tensor, ...]:
        """`method(model, ids, mask, columns, temperature, share=)`, `rows` rows at a time.

        `model` is the trained one, maybe wrapped, or `ref_model`, the start: with adapters, that is the same one.
        """
        call = partial(method, columns=columns, temperature=self.temperature, share=self.share)
        size = 1 if self.alone else rows or len(ids_BT)
        parts = list(zip(ids_BT.split(size), mask_BT.split(size), strict=True))
        with self.accelerator.autocast():
            if isinstance(model, Start):
                with model.scoring() as start:
                    found = [call(start, ids, mask) for ids, mask in parts]
            else:
                plain = self.accelerator.unwrap_model(model)
                if plain is not model:  # what wraps it must see a single forward pass, whatever goes on in it
                    call = partial(_ForwardRedirection(), model, plain, partial(call, plain))
                else:
                    call = partial(call, plain)
                found = [call(ids, mask) for ids, mask in parts]
        return tuple(torch.cat(column) for column in zip(*found, strict=True))


@dataclass(frozen=True)
class Start:
    """The policy that the stage started from: a model of its own, or the trained one with its adapters off."""

    model: PreTrainedModel
    adapted: bool

    @contextmanager
    def scoring(self) -> Iterator[PreTrainedModel]:
        with lora.disabled(self.model) if self.adapted else nullcontext():
            yield self.model


def log_ratios(logps_BC: Tensor, start_BC: Tensor, mask_BC: Tensor) -> Tensor:
    """(sum of log policy / start over the sampled tokens, how many they are): the k1 estimator of the KL divergence.

    Schulman 2020, "Approximating KL divergence". It may be negative. The k3 estimator varies less near the start, but
    one token that the start finds likelier by 20 nats makes 5e8 nats of it, and a limit would stop runs for that. Here
    a token counts `MOST_NATS` at most.
    """
    ratios_BC = (logps_BC - start_BC).masked_fill(mask_BC == 0, 0.0)
    ratios_BC = ratios_BC.nan_to_num(nan=0.0)  # what vLLM says of a token that it cannot weigh
    ratios_BC = ratios_BC.clamp(-MOST_NATS, MOST_NATS)
    return torch.stack([ratios_BC.sum(dtype=torch.float64), mask_BC.sum().double()])


def sequences(batch: Mapping[str, Tensor], rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask (B, T) of prompts and completions."""
    ids = torch.cat([batch["prompt_ids"][rows], batch["completion_ids"][rows]], 1)
    return ids, torch.cat([batch["prompt_mask"][rows], batch["completion_mask"][rows]], 1)
