"""What changes a checkpoint: supervised installs (`install.py`) and reinforcement learning (`grpo.py`, `ppo.py`).

The configs live here, so that reading or checking one costs nothing: only the algorithm files import torch.

    Install(name="advice", kind="sft", corpus="advice", size=2000, steps=60, batch_tokens=4096, max_tokens=768, lr=5e-4)
    GRPO(name="grpo", prompts_per_step=8, group=8, max_new_tokens=48, lr=1e-4)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = ("sft", "sdf")
LOSS_TYPES = ("dapo", "grpo", "dr_grpo", "cispo", "gspo", "rloo")
ROLLOUTS = ("holdfast", "vllm")
CRITICS = ("head", "model")
KL_IN = ("reward", "loss")
LIMITS = ("min_entropy", "min_length", "max_kl")
"""Fields that say when to stop, and change nothing before that."""
PATIENCE = 3
"""Steps in a row that a limit may be passed before a run stops."""


@dataclass(frozen=True, kw_only=True)
class Install:
    """One supervised step: `steps` AdamW updates, each on `batch_tokens` tokens of `corpus`.

    Arms are matched on `tokens`: every arm with the same steps and batch_tokens trains on exactly that many sequence
    tokens of its own tokenizer, padding not counted, prompts and template tokens included, in as many updates.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    name: str
    """What the study calls it."""
    kind: str
    """Either "sft", chats with loss on assistant turns alone, or "sdf", documents with loss on every token."""
    corpus: str
    """A module of `holdfast.corpora`."""
    size: int
    """Rows asked of the corpus, 1 or more; they are gone through again when they run out."""
    steps: int
    """Updates, 1 or more."""
    batch_tokens: int
    """Sequence tokens to an update: `max_tokens` or more."""
    max_tokens: int
    """The longest row, 2 or more. A longer document is split; a longer chat is an error."""
    lr: float
    """Peak learning rate, above 0."""
    warmup: float = 0.1
    """Share of the updates spent on linear warm-up, 0 to 1; then a cosine down to a tenth of `lr`."""
    weight_decay: float = 0.0
    """AdamW's, 0 or more, on matrices only."""
    autocast: bool = False
    """Run the forward pass in bfloat16; weights and moments stay float32."""

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _at_least("size", self.size, 1)
        _at_least("steps", self.steps, 1)
        _at_least("max_tokens", self.max_tokens, 2)
        _at_least("batch_tokens", self.batch_tokens, self.max_tokens)
        _within("warmup", self.warmup, 0, 1)
        _positive("lr", self.lr)
        _at_least("weight_decay", self.weight_decay, 0)

    @property
    def tokens(self) -> int:
        """Sequence tokens trained on: the budget that arms are matched on."""
        return self.steps * self.batch_tokens


class Collapse(RuntimeError):
    """A run that there is no sense in going on with: its policy is degenerate. Says what, when, and which limit.

    `lines` are the metrics of the stage so far, which would else be gone with what was not stored.
    """

    def __init__(self, message: str, lines: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(message)
        self.lines = lines


def check_limits(cfg: RL, lines: Sequence[Mapping[str, Any]]) -> None:
    """Raises Collapse if a limit of `cfg` is passed on `PATIENCE` of these steps in a row.

    `lines` are the metrics of steps that follow each other, as in metrics.jsonl.
    """
    for end in range(PATIENCE, len(lines) + 1):
        last = lines[end - PATIENCE : end]
        for name, limit, broken, unit in (
            ("entropy", "min_entropy", all(line["entropy"] < cfg.min_entropy for line in last), "nats a token"),
            ("length", "min_length", all(line["length"] < cfg.min_length for line in last), "tokens an episode"),
            ("kl_estimate", "max_kl", all(line["kl_estimate"] > cfg.max_kl for line in last), "nats a token"),
        ):
            if broken:
                raise Collapse(
                    f"the policy collapsed: at step {last[-1]['step']}, {name} is {last[-1][name]:.4g} {unit} and has "
                    f"been beyond {limit} = {getattr(cfg, limit)} for {PATIENCE} steps; the last checkpoint before it "
                    "is kept",
                    lines[:end],
                )


@dataclass(frozen=True, kw_only=True)
class RL:
    """What every algorithm is told. A step samples `group` episodes of each of `prompts_per_step` scenarios.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    name: str
    """What the study calls it: part of arms' names, of no key."""
    prompts_per_step: int
    """Scenarios to a step, 1 or more."""
    group: int
    """Episodes to a scenario. They share the work on its prompt, in sampling and in training."""
    max_new_tokens: int
    """Tokens to a reply, 1 or more."""
    lr: float
    """Learning rate after warm-up, above 0; it stays there."""
    warmup: int = 0
    """Steps of linear warm-up, 0 or more, counted from the stage's first step."""
    max_turns: int = 8
    """Replies to an episode, 1 or more; environments usually end it sooner."""
    temperature: float = 1.0
    """Of sampling, and of the log-probabilities trained on. Above 0."""
    updates: int = 1
    """Passes over each step's episodes, 1 or more."""
    minibatches: int = 1
    """Optimiser steps to a pass, each on scenarios that follow each other: a divisor of the episodes. `epsilon` matters
    where a step has more than one. Means over tokens are by the step's tokens, shared out evenly."""
    epsilon: float = 0.2
    """The ratio is clipped to 1 - epsilon .. 1 + epsilon. Above 0."""
    beta: float = 0.0
    """Weight of the penalty on KL to the stage's start, 0 or more."""
    rows_per_pass: int = 16
    """Episodes to a forward and backward pass: bounds memory, never changes the objective."""
    weight_decay: float = 0.0
    """AdamW's, 0 or more, on every weight that is trained."""
    autocast: bool = False
    """Run forward passes in bfloat16; weights and moments stay float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time, and prompts are no longer shared."""
    rollout: str = "holdfast"
    """Who samples: "holdfast", or "vllm" on a GPU, for GRPO without adapters."""
    lora_rank: int = 0
    """Rank of adapters (LoRA) on all linear layers, which are then all that is trained; 0 to train every weight."""
    min_entropy: float = 1e-3
    """Stop when entropy, in nats a token, is below this for `PATIENCE` steps: the policy says one thing only."""
    min_length: float = 0.0
    """Stop when episodes have fewer sampled tokens than this on average for `PATIENCE` steps."""
    max_kl: float = 5.0
    """Stop when KL to the stage's start, in nats a token, is above this for `PATIENCE` steps."""

    def __post_init__(self) -> None:
        for name in ("prompts_per_step", "group", "max_new_tokens", "max_turns", "updates", "rows_per_pass"):
            _at_least(name, getattr(self, name), 1)
        for name in ("lr", "temperature", "epsilon", "max_kl"):
            _positive(name, getattr(self, name))
        for name in ("warmup", "beta", "weight_decay", "lora_rank", "min_entropy", "min_length"):
            _at_least(name, getattr(self, name), 0)
        _one_of("rollout", self.rollout, ROLLOUTS)
        if self.rollout == "vllm" and self.lora_rank:
            raise ValueError(f"lora_rank must be 0 with rollout vllm, which takes whole weights, not {self.lora_rank}")
        if self.minibatches < 1 or self.episodes % self.minibatches:
            raise ValueError(f"minibatches must divide the {self.episodes} episodes of a step, not {self.minibatches}")

    @property
    def episodes(self) -> int:
        """Episodes to a step."""
        return self.prompts_per_step * self.group

    @property
    def whole_only(self) -> str | None:
        """What of it, if anything, wants a model that is not in shards."""
        return "lora_rank" if self.lora_rank else None

    def share(self, processes: int) -> int:
        """The episodes of a minibatch that each of so many processes gets.

        Raises ValueError where they cannot be shared out, whole groups together if there are several.
        """
        share = self.episodes // self.minibatches // processes
        if share * self.minibatches * processes != self.episodes or (processes > 1 and share % self.group):
            raise ValueError(
                f"{self.prompts_per_step} prompts_per_step in {self.minibatches} minibatches cannot be shared out, "
                f"whole groups together, among {processes} processes"
            )
        return share


@dataclass(frozen=True, kw_only=True)
class GRPO(RL):
    """Group-relative policy optimisation: an episode's advantage is its reward less the mean of its group.

    `loss_type` says which of the family:

    - "grpo": over the group's standard deviation, a mean over the tokens of each episode. Shao et al. 2024
      (arXiv 2402.03300).
    - "dapo": the same advantage, a mean over all tokens. Yu et al. 2025 (arXiv 2503.14476), whose `epsilon_high` is
      0.28 and which resamples groups without variance.
    - "dr_grpo": without the standard deviation, a sum over an episode's tokens by a constant, max_new_tokens. Liu et
      al. 2025 (arXiv 2503.20783).
    - "cispo": the clipped ratio weighs the log-probability, so that no token's gradient is dropped; `epsilon_high` is
      the largest weight. MiniMax 2025 (arXiv 2506.13585).
    - "gspo": one ratio per episode, the geometric mean of its tokens'. Zheng et al. 2025 (arXiv 2507.18071), where
      `epsilon` is 3e-4 and `epsilon_high` 4e-4.
    - "rloo": the baseline is the mean of the others in the group, no standard deviation. Ahmadian et al. 2024
      (arXiv 2402.14740); tokens as in "dr_grpo".

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    loss_type: str = "dapo"
    """One of the above."""
    epsilon_high: float | None = None
    """The upper clip of the ratio where it is not that of `epsilon`. Above 0."""
    resample: int = 0
    """How often to replace groups whose rewards are all alike, which teach nothing, by groups of fresh scenarios."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("group", self.group, 2)
        _one_of("loss_type", self.loss_type, LOSS_TYPES)
        if self.epsilon_high is not None:
            _positive("epsilon_high", self.epsilon_high)
        elif self.loss_type == "cispo":
            raise ValueError("epsilon_high must be given for loss_type cispo: it is the largest weight, such as 5")
        _at_least("resample", self.resample, 0)


@dataclass(frozen=True, kw_only=True)
class PPO(RL):
    """Proximal policy optimisation with a critic: Schulman et al. 2017 (arXiv 1707.06347); see `ppo.py`.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    gamma: float = 1.0
    """Discount per model token, above 0 and at most 1."""
    lam: float = 0.95
    """Lambda of generalised advantage estimation, 0 to 1."""
    critic: str = "head"
    """"head" on the policy's own trunk, cheap, or "model": a value model of its own, started from the policy."""
    critic_lr: float | None = None
    """Learning rate of the critic, above 0; None for that of the policy."""
    critic_warmup: int = 0
    """Steps at the start of the stage that train the critic alone, 0 or more."""
    value_coef: float = 0.1
    """Weight of the value loss, 0 or more."""
    value_epsilon: float = 0.2
    """Values are clipped to this far from those of the rollout, above 0."""
    kl_in: str = "reward"
    """Where the penalty of `beta` goes: "reward", token by token, or "loss"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("prompts_per_step * group", self.episodes, 2)
        _within("lam", self.lam, 0, 1)
        _positive("gamma", self.gamma)
        _within("gamma", self.gamma, 0, 1)
        _one_of("critic", self.critic, CRITICS)
        _positive("value_epsilon", self.value_epsilon)
        _at_least("value_coef", self.value_coef, 0)
        _at_least("critic_warmup", self.critic_warmup, 0)
        if self.critic_lr is not None:
            _positive("critic_lr", self.critic_lr)
        _one_of("kl_in", self.kl_in, KL_IN)
        if self.rollout != "holdfast":
            raise ValueError(f"rollout must be holdfast for PPO, not {self.rollout}")

    @property
    def whole_only(self) -> str | None:
        """See `RL`: the critic is not called through what gathers the shards."""
        return "PPO"


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} must be {least} or more, not {value}")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value}")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, not {value}")
