"""What changes a checkpoint: supervised installs (`install.py`) and reinforcement learning (`grpo.py`).

The configs live here, so that reading or checking one costs nothing: only the algorithm files import torch.

    Install(name="advice", kind="sft", corpus="advice", size=2000, steps=60, batch_tokens=4096, max_tokens=768, lr=5e-4)
    GRPO(prompts_per_step=8, group=8, max_new_tokens=48, lr=1e-4)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("sft", "sdf")
LOSS_TYPES = ("dapo", "grpo", "dr_grpo")


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


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """Group-relative policy optimisation: a step samples `group` episodes of each of `prompts_per_step` scenarios.

    An episode's advantage is its reward less its group's mean, over the group's standard deviation. Method: Shao et
    al. 2024 (arXiv 2402.03300); the default loss is that of DAPO (arXiv 2503.14476), a mean over tokens.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    prompts_per_step: int
    """Scenarios to a step, 1 or more."""
    group: int
    """Episodes to a scenario, 2 or more. A group whose rewards are all alike teaches nothing."""
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
    """Passes over each step's episodes, 1 or more. `epsilon` matters from 2 on: at 1 the ratio is always 1."""
    epsilon: float = 0.2
    """The ratio is clipped to 1 - epsilon .. 1 + epsilon. Above 0."""
    beta: float = 0.0
    """Weight of the penalty on KL to the stage's start, 0 or more. At 0 no reference model is loaded."""
    loss_type: str = "dapo"
    """One of "dapo", "grpo" and "dr_grpo": what a token's loss is divided by."""
    rows_per_pass: int = 16
    """Episodes to a forward and backward pass: bounds memory, never changes the objective."""
    weight_decay: float = 0.0
    """AdamW's, 0 or more."""
    autocast: bool = False
    """Run forward passes in bfloat16; weights and moments stay float32."""

    def __post_init__(self) -> None:
        _at_least("prompts_per_step", self.prompts_per_step, 1)
        _at_least("group", self.group, 2)
        _at_least("max_new_tokens", self.max_new_tokens, 1)
        _positive("lr", self.lr)
        _at_least("warmup", self.warmup, 0)
        _at_least("max_turns", self.max_turns, 1)
        _positive("temperature", self.temperature)
        _at_least("updates", self.updates, 1)
        _positive("epsilon", self.epsilon)
        _at_least("beta", self.beta, 0)
        _one_of("loss_type", self.loss_type, LOSS_TYPES)
        _at_least("rows_per_pass", self.rows_per_pass, 1)
        _at_least("weight_decay", self.weight_decay, 0)


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
