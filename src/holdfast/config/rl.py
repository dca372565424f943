"""Reinforcement learning: what every algorithm is told, and what each adds.

    GRPO(name="grpo", prompts_per_step=8, group=8, max_new_tokens=48, lr=1e-4)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from holdfast.config.checks import at_least, one_of, positive, within

LOSS_TYPES = ("dapo", "grpo", "dr_grpo", "cispo", "gspo", "rloo")
ROLLOUTS = ("holdfast", "vllm")
CRITICS = ("head", "model")
KL_IN = ("reward", "loss")
LIMITS = ("min_entropy", "min_length", "max_kl", "max_raised")
"""Fields that say when to stop, and change nothing before that."""
PATIENCE = 3
"""Steps in a row that a limit may be passed before a run stops."""


@dataclass(frozen=True, kw_only=True)
class RL:
    """What every algorithm is told. A step samples `group` episodes of each of `prompts_per_step` scenarios.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    method: ClassVar[str]
    """What trains it: a module of `holdfast.train`, a kind of stage in the store, "algo" in the metrics."""

    name: str
    """What the study calls it: part of arms' names, of no key."""
    prompts_per_step: int
    """Scenarios to a step, 1 or more."""
    group: int
    """Episodes to a scenario. They share the work on its prompt, in sampling and in training."""
    max_new_tokens: int
    """Tokens to a reply, 1 or more."""
    lr: float
    """Learning rate after warm-up, 0 or more; it stays there. At 0 nothing is learnt."""
    warmup: int = 0
    """Steps of linear warm-up, 0 or more, counted from the stage's first step."""
    max_turns: int = 8
    """Replies to an episode, 1 or more; environments usually end it sooner."""
    temperature: float = 1.0
    """Of sampling, and of the log-probabilities trained on. Above 0."""
    updates: int = 1
    """Passes over each step's episodes, 1 or more."""
    minibatches: int = 1
    """Optimiser steps to a pass: a divisor of the episodes. Scenarios are dealt anew among them at each pass; where
    they do not hold whole groups, they only come in another order. `epsilon` matters where a step has more than one.
    Means over tokens are by the step's tokens, shared out evenly."""
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
    max_raised: float = 0.1
    """Stop when the environment raises in more than this share of the episodes, 0 to 1, for `PATIENCE` steps. Such
    episodes take no part in the loss."""

    def __post_init__(self) -> None:
        for name in ("prompts_per_step", "group", "max_new_tokens", "max_turns", "updates", "rows_per_pass"):
            at_least(name, getattr(self, name), 1)
        for name in ("temperature", "epsilon", "max_kl"):
            positive(name, getattr(self, name))
        for name in ("lr", "warmup", "beta", "weight_decay", "lora_rank", "min_entropy", "min_length"):
            at_least(name, getattr(self, name), 0)
        within("max_raised", self.max_raised, 0, 1)
        one_of("rollout", self.rollout, ROLLOUTS)
        if self.rollout == "vllm" and self.lora_rank:
            raise ValueError(f"lora_rank must be 0 with rollout vllm, which takes whole weights, not {self.lora_rank}")
        within("prompts_per_step * group", self.episodes, 1, 10**6)
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

    method: ClassVar[str] = "grpo"

    loss_type: str = "dapo"
    """One of the above."""
    epsilon_high: float | None = None
    """The upper clip of the ratio where it is not that of `epsilon`. Above 0."""
    resample: int = 0
    """How often to replace groups whose rewards are all alike, which teach nothing, by groups of fresh scenarios."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("group", self.group, 2)
        one_of("loss_type", self.loss_type, LOSS_TYPES)
        if self.epsilon_high is not None:
            positive("epsilon_high", self.epsilon_high)
        elif self.loss_type == "cispo":
            raise ValueError("epsilon_high must be given for loss_type cispo: it is the largest weight, such as 5")
        at_least("resample", self.resample, 0)


@dataclass(frozen=True, kw_only=True)
class PPO(RL):
    """Proximal policy optimisation with a critic: Schulman et al. 2017 (arXiv 1707.06347); see `ppo.py`.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    method: ClassVar[str] = "ppo"

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
        at_least("prompts_per_step * group", self.episodes, 2)
        within("lam", self.lam, 0, 1)
        positive("gamma", self.gamma)
        within("gamma", self.gamma, 0, 1)
        one_of("critic", self.critic, CRITICS)
        positive("value_epsilon", self.value_epsilon)
        at_least("value_coef", self.value_coef, 0)
        at_least("critic_warmup", self.critic_warmup, 0)
        if self.critic_lr is not None:
            positive("critic_lr", self.critic_lr)
        one_of("kl_in", self.kl_in, KL_IN)
        if self.rollout != "holdfast":
            raise ValueError(f"rollout must be holdfast for PPO, not {self.rollout}")

    @property
    def whole_only(self) -> str | None:
        """See `RL`: the critic is not called through what gathers the shards."""
        return "PPO"
