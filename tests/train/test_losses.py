"""What every update descends: its gradient against the objective of the paper, written out one episode at a time.

Episodes are of one to three turns, so that rows differ in length and hold tokens of the environment, which no formula
has. The second step of a run is looked at: the weights that sampled it are no longer those the run began with, which
the KL penalty is measured to, and an update but the first is off the policy that sampled, so that ratios are clipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from holdfast.chat import Outcome, Reply, Turn
from holdfast.config import GRPO, LOSS_TYPES, PPO, RL, Environment
from holdfast.policy import checkpoint as models
from holdfast.train import grpo, ppo
from holdfast.train.episodes import dealt
from holdfast.train.loop import Learner
from letters import Letters


class Whim(Letters):
    """Pays the share of small letters in a reply, and asks for more, twice at most, where there were few."""

    reward_bounds: ClassVar[tuple[float, float]] = (0.0, 3.0)

    def turn(self, reply: Reply) -> Turn:
        share = self.share(reply)
        if share < 0.5 and self.taken < 3:
            return Turn({"letters": share}, ({"role": "user", "content": "More." * self.taken},))
        return Turn({"letters": share}, outcome=Outcome(share > 0.5))


gymnasium.register("test/Whim-v0", entry_point=Whim)

TEMPERATURE = 0.8


@dataclass
class Step:
    """What the trainer did in a step: its batch, and at every update the weights and the gradient before clipping."""

    batch: Mapping[str, Any]
    updates: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = field(default_factory=list)


def watched(start: Path, out: Path, cfg: RL, monkeypatch: pytest.MonkeyPatch) -> Step:
    """The second step of a run."""
    learner: type[Learner] = grpo.GroupLearner if isinstance(cfg, GRPO) else ppo.ActorCritic
    score, clip = learner._generate_and_score_completions, learner._clip_grad_norm
    steps: list[Step] = []

    def scored(self: Learner, inputs: Any) -> Any:
        batch = score(self, inputs)
        steps.append(Step(dict(batch)))
        return batch

    def clipped(self: Learner, model: Any) -> Any:
        named = dict(self.model.named_parameters())
        weights = {name: parameter.detach().clone() for name, parameter in named.items()}
        steps[-1].updates.append((weights, {name: p.grad.clone() for name, p in named.items() if p.grad is not None}))
        return clip(self, model)

    monkeypatch.setattr(learner, "_generate_and_score_completions", scored)
    monkeypatch.setattr(learner, "_clip_grad_norm", clipped)
    train: Any = grpo.train if isinstance(cfg, GRPO) else ppo.train
    whim = Environment(name="whim", id="test/Whim-v0", kwargs={})
    train(start, out, env=whim, cfg=cfg, first_step=0, steps=2, seed=1)
    _, second = steps
    return second


def put(weights: Mapping[str, Tensor], model: PreTrainedModel, head: nn.Linear) -> None:
    """Give a model and the head of a critic the weights of an update."""
    model.load_state_dict({name: w for name, w in weights.items() if not name.startswith("critic.")}, strict=False)
    if "critic.head.weight" in weights:
        head.load_state_dict({name: weights[f"critic.head.{name}"] for name in ("weight", "bias")})


def row_scores(model: PreTrainedModel, head: nn.Linear, batch: Mapping[str, Any], row: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the tokens the model wrote in an episode, and the values before them."""
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
    said = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    found = model(torch.cat([prompt, said])[None], output_hidden_states=True)
    before = slice(len(prompt) - 1, -1)
    logps = (found.logits[0, before] / TEMPERATURE).log_softmax(-1)[range(len(said)), said]
    values = head(found.hidden_states[-1][0, before])[:, 0]
    own = batch["model_mask"][row][: len(said)].bool()
    return logps[own], values[own]


def policy_losses(cfg: RL, new: Tensor, old: Tensor, start: Tensor, advantages: Tensor) -> Tensor:
    """The policy's loss at each token of an episode."""
    loss_type = cfg.loss_type if isinstance(cfg, GRPO) else "ppo"
    high = (cfg.epsilon_high if isinstance(cfg, GRPO) else None) or cfg.epsilon
    ratio = (new - old).exp()
    if loss_type == "gspo":  # the geometric mean, (pi(y) / pi_old(y)) ^ (1 / |y|)
        ratio = (new - old).mean().exp().expand_as(new)
    if loss_type == "cispo":
        loss = -ratio.detach().clamp(max=high) * advantages * new
    else:
        loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - cfg.epsilon, 1 + high) * advantages)
    return loss + cfg.beta * ((start - new).exp() - (start - new) - 1)


def value_losses(cfg: PPO, values: Tensor, old: Tensor, returns: Tensor) -> Tensor:
    """The critic's loss at each token of an episode."""
    near = torch.minimum(torch.maximum(values, old - cfg.value_epsilon), old + cfg.value_epsilon)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def objective(cfg: RL, losses: Sequence[Tensor], batch: Mapping[str, Any]) -> Tensor:
    """The loss of an update, from those of its episodes' tokens."""
    loss_type = cfg.loss_type if isinstance(cfg, GRPO) else "ppo"
    if loss_type in ("grpo", "gspo"):
        return torch.stack([loss.mean() for loss in losses]).mean()
    if loss_type in ("dr_grpo", "rloo"):
        return torch.cat(list(losses)).sum() / (len(losses) * cfg.max_new_tokens)
    # A mean over the tokens, were every minibatch to have as many of the step's.
    return torch.cat(list(losses)).sum() / (batch["model_mask"].sum() / cfg.minibatches)


def check(cfg: RL, start: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = watched(start, out, cfg, monkeypatch)
    batch, each = step.batch, cfg.episodes // cfg.minibatches
    assert len(step.updates) == cfg.updates * cfg.minibatches
    assert len(set(batch["model_mask"].sum(1).tolist())) > 1
    assert (batch["completion_mask"] != batch["model_mask"]).any()
    *_, line = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    assert (line["clip"] > 0) == (len(step.updates) > 1)  # the first is on policy
    model, _ = models.load(start, "float32")
    head = nn.Linear(32, 1).to(model.device)
    with torch.no_grad():
        firsts = [row_scores(model, head, batch, row)[0] for row in range(cfg.episodes)]
        put(step.updates[0][0], model, head)
        olds = [row_scores(model, head, batch, row) for row in range(cfg.episodes)]
    for update, (weights, gradients) in enumerate(step.updates):
        put(weights, model, head)
        losses = []
        turn, minibatch = divmod(update, cfg.minibatches)
        for row in dealt(cfg, 0, 1, [1, 1, turn])[minibatch * each : (minibatch + 1) * each]:
            own, advantages = batch["model_mask"][row].bool(), batch["advantages"][row]
            (new, values), (old, old_values) = row_scores(model, head, batch, row), olds[row]
            loss = policy_losses(cfg, new, old, firsts[row], advantages[own] if advantages.dim() else advantages)
            if isinstance(cfg, PPO):
                loss = loss + cfg.value_coef * value_losses(cfg, values, old_values, batch["returns"][row][own])
            losses.append(loss)
        parameters = dict(model.named_parameters())
        if isinstance(cfg, PPO):
            parameters.update({f"critic.head.{name}": parameter for name, parameter in head.named_parameters()})
        assert parameters.keys() == gradients.keys()
        expected = torch.autograd.grad(objective(cfg, losses, batch), list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            assert (gradients[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-7, (update, name)


# Minibatches, rows of a pass, updates: all at once; parts of a group, twice over; each group an update, twice over.
WHOLE, TWICE, GROUPS = (1, 12, 1), (1, 2, 2), (3, 2, 2)
PENALTIES = [(0.0, WHOLE), (0.0, GROUPS), (0.05, TWICE), (0.05, GROUPS)]


def settings(algo: type[RL], layout: tuple[int, int, int], **changes: Any) -> Any:
    minibatches, rows, updates = layout
    usual = {
        "name": "test", "prompts_per_step": 3, "group": 4, "max_new_tokens": 3, "lr": 3e-3, "max_kl": 99,
        "temperature": TEMPERATURE, "epsilon": 0.1, "minibatches": minibatches, "rows_per_pass": rows,
        "updates": updates,
    }  # fmt: skip
    return algo(**{**usual, **changes})


@pytest.mark.parametrize(("beta", "layout"), PENALTIES)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_updates_of_the_grpo_family_descend_the_objective_of_the_paper(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss_type: str,
    beta: float,
    layout: tuple[int, int, int],
) -> None:
    high = 1.1 if loss_type == "cispo" else 0.15
    cfg = settings(GRPO, layout, loss_type=loss_type, beta=beta, epsilon_high=high)
    check(cfg, checkpoint, tmp_path / "out", monkeypatch)


@pytest.mark.parametrize(("beta", "layout"), PENALTIES)
@pytest.mark.parametrize("value_coef", [0.0, 0.5])
def test_updates_of_ppo_descend_the_clipped_losses_of_policy_and_critic(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value_coef: float,
    beta: float,
    layout: tuple[int, int, int],
) -> None:
    cfg = settings(PPO, layout, value_coef=value_coef, value_epsilon=0.02, beta=beta, kl_in="loss")
    check(cfg, checkpoint, tmp_path / "out", monkeypatch)
