"""PPO on a chat environment: a critic, advantages token by token, clipped losses. Read from `train` down.

A time step is a token that the model wrote. What the environment writes between two replies is part of the state after
the first: it is skipped over, and neither trained on nor counted by gamma and lambda. The reward of a turn lies on the
last token of its reply, and an episode is over after its last, however it ended:

    tokens   <user> Hi <assistant> He llo <end> <user> More <assistant> No <end>
    mask                           1  1   1     0      0    0           1  1
    rewards                        0  0   0.5   0      0    0           0  1

The method is that of Schulman et al. 2017 (arXiv 1707.06347), in the form it has for language models since Ziegler et
al. 2019 (arXiv 1909.08593). Rollouts, passes, logging and resuming are those of `loop.py`.

Axes: B episodes, C completion columns, W of them in use, T prompt and completion columns, H hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from holdfast.config import PPO, RL
from holdfast.policy.scores import Columns, Forward, language_model, outputs, token_scores
from holdfast.train.checkpoint import CRITIC
from holdfast.train.loop import Learner, run, sequences

# --- the method, as functions of tensors


def gae(rewards_BC: Tensor, values_BC: Tensor, mask_BC: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and the returns they imply, both (B, C), 0 where the mask is.

    Schulman et al. 2016 (arXiv 1506.02438), equations 11, 12 and 16, over the model's tokens t = 0, 1, ... of a row:

        delta_t = r_t + gamma V_t+1 - V_t        A_t = delta_t + gamma lambda A_t+1        R_t = A_t + V_t

    where V_t is the value before token t, and both V and A are 0 after a row's last. `mask_BC` is 1 at the model's
    tokens; what is at others is not read.
    """
    advantages_BC = torch.zeros_like(values_BC)
    next_value_B, next_advantage_B = torch.zeros_like(values_BC[:, 0]), torch.zeros_like(values_BC[:, 0])
    for t in reversed(range(values_BC.shape[1])):
        own_B = mask_BC[:, t].bool()
        delta_B = rewards_BC[:, t] + gamma * next_value_B - values_BC[:, t]
        advantage_B = delta_B + gamma * lam * next_advantage_B
        advantages_BC[:, t] = torch.where(own_B, advantage_B, 0.0)
        next_advantage_B = torch.where(own_B, advantage_B, next_advantage_B)
        next_value_B = torch.where(own_B, values_BC[:, t], next_value_B)
    return advantages_BC, torch.where(mask_BC.bool(), advantages_BC + values_BC, 0.0)


def whiten(x_BC: Tensor, mask_BC: Tensor, total: Callable[[Tensor], Tensor] = lambda sums: sums) -> Tensor:
    """`x_BC` with mean 0 and variance 1 over the mask, 0 elsewhere. `total` adds up sums over processes.

    In float64: advantages that are all alike must not come out as rounding scaled up.
    """
    own, x = mask_BC.bool(), x_BC.double()
    count, mean = total(torch.stack([own.sum().double(), x[own].sum()]))
    mean = mean / count.clamp(min=1)
    variance = total((x[own] - mean).square().sum()) / count.clamp(min=1)
    return torch.where(own, (x - mean) * (variance + 1e-8).rsqrt(), 0.0).to(x_BC.dtype)


def policy_loss(logps_BC: Tensor, old_BC: Tensor, advantages_BC: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The clipped surrogate, negated, and where the clip is what holds: both (B, C).

    Equation 7 of the PPO paper, per token: min(q A, clip(q, 1 - epsilon, 1 + epsilon) A), q = exp(logp - old).
    """
    ratio_BC = (logps_BC - old_BC).exp()
    free_BC = ratio_BC * advantages_BC
    held_BC = ratio_BC.clamp(1 - epsilon, 1 + epsilon) * advantages_BC
    return -torch.min(free_BC, held_BC), held_BC < free_BC


def value_loss(values_BC: Tensor, old_BC: Tensor, returns_BC: Tensor, epsilon: float) -> Tensor:
    """Half the squared error, (B, C), of the value or of the value clipped to within epsilon of the old one, whichever
    is larger: as in the code of the PPO paper (openai/baselines, `ppo2`)."""
    near_BC = old_BC + (values_BC - old_BC).clamp(-epsilon, epsilon)
    return 0.5 * torch.max((values_BC - returns_BC).square(), (near_BC - returns_BC).square())


def explained_variance(
    values_BC: Tensor, returns_BC: Tensor, mask_BC: Tensor, total: Callable[[Tensor], Tensor] = lambda sums: sums
) -> float:
    """1 - Var(R - V) / Var(R) over the mask: 1 for a perfect critic, 0 for a constant one or a constant return."""
    own = mask_BC.bool()
    pair = torch.stack([returns_BC[own], returns_BC[own] - values_BC[own]]).double()
    sums = total(torch.cat([pair.sum(1), own.sum()[None].double(), pair[0].square().sum()[None]]))
    means, rounding = sums[:2] / sums[2].clamp(min=1), 1e-12 * sums[3].item()
    of_returns, of_errors = total((pair - means[:, None]).square().sum(1)).tolist()
    return 1 - of_errors / of_returns if of_returns > rounding else 0.0


# --- the critic


class Head(nn.Linear):
    """A linear layer in the type of its weights, whatever autocast says: values are sums of rewards, not features."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.to(self.weight.dtype))


class Critic(nn.Module):
    """A value for every position, from a trunk of its own or, where that is None, from the policy's hidden states.

    The head starts at zero, so that the first values are 0 and the first advantages the returns.
    """

    def __init__(self, hidden: int, trunk: nn.Module | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = Head(hidden, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


def actor_critic(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, columns: int, temperature: float, *, share: bool, entropy: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies if asked for, and values, each (B, C), of the last C = `columns` columns."""
    cut, critic = Columns.of(ids_BT, mask_BT, columns), model.critic
    if critic.trunk is None:
        logits_BWV, values_BW1 = outputs(_both(model), cut, share=share)
    else:
        (logits_BWV,) = outputs(language_model(model), cut, share=share)
        (values_BW1,) = outputs(_values(critic, critic.trunk), cut, share=share)
    logps_BW, entropies_BW = token_scores(logits_BWV, cut.said_BW, temperature, entropy=entropy)
    return cut.widen(logps_BW), cut.widen(entropies_BW), cut.widen(values_BW1[..., 0])


def state_values(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, columns: int, temperature: float, *, share: bool
) -> tuple[Tensor]:
    """The values alone, (B, C): what `actor_critic` says, without the language model's head."""
    cut, critic = Columns.of(ids_BT, mask_BT, columns), model.critic
    (values_BW1,) = outputs(_values(critic, critic.trunk or model.base_model), cut, share=share)
    return (cut.widen(values_BW1[..., 0]),)


def _values(critic: Critic, trunk: nn.Module) -> Forward:
    def forward(*, keep: int, **inputs: Any) -> tuple[Tensor, ...]:
        hidden_BWH = trunk(**inputs).last_hidden_state[:, -keep:]  # -0 is all of them
        return (critic.head(hidden_BWH),)

    return forward


def _both(model: Any) -> Forward:
    def forward(*, keep: int, **inputs: Any) -> tuple[Tensor, ...]:
        with _inputs_of(model.get_output_embeddings()) as seen:
            logits_BWV = model(**inputs, logits_to_keep=keep).logits
        (hidden_BWH,) = seen
        return logits_BWV, model.critic.head(hidden_BWH)

    return forward


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


# --- training


def train(start: Path, out: Path, *, cfg: PPO, **job: Any) -> None:
    """Train a segment with PPO: arguments, files and errors are those of `holdfast.train.loop.run`."""
    run(ActorCritic, start, out, cfg=cfg, **job)


class ActorCritic(Learner):
    """The policy with a critic in tow: `model.critic`, so that whatever wraps the one wraps the other."""

    cfg: PPO
    scores = staticmethod(actor_critic)

    @staticmethod
    def copies(cfg: RL) -> int:
        """No episode is compared with another, so a group may be of one: TRL takes the whole step for a group."""
        return cfg.episodes

    @staticmethod
    def settings(cfg: PPO) -> dict[str, Any]:
        return {}

    def extend(self, model: Any) -> None:
        trunk = copy.deepcopy(model.base_model) if self.cfg.critic == "model" else None
        model.critic = Critic(model.get_output_embeddings().in_features, trunk).to(model.device)
        if self.resume is not None:
            path = self.resume / CRITIC
            if not path.is_file():
                raise ValueError(f"cannot resume: {path} is missing")
            model.critic.load_state_dict(load_file(path))

    def rates(self) -> list[tuple[list[nn.Parameter], float, Callable[[int], float]]]:
        ((_, lr, factor),) = super().rates()
        policy, critic = self.parameters_of()
        wait = self.cfg.critic_warmup * self.cfg.updates * self.cfg.minibatches
        return [
            (policy, lr, lambda update: factor(update - wait) if update >= wait else 0.0),
            (critic, self.cfg.critic_lr or lr, factor),
        ]

    def parameters_of(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What is trained of the policy, and of the critic."""
        model = self.accelerator.unwrap_model(self.model)
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        critic = [parameter for name, parameter in named if name.startswith("critic.")]
        return [parameter for name, parameter in named if not name.startswith("critic.")], critic

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clips the two apart, so that a large error of the critic does not stop the policy; returns the policy's."""
        policy, critic = self.parameters_of()
        self.accelerator.clip_grad_norm_(critic, self.args.max_grad_norm)
        norm = self.accelerator.clip_grad_norm_(policy, self.args.max_grad_norm)
        if len(self.rollout.meter.lines) < self.cfg.critic_warmup:
            for parameter in policy:  # AdamW leaves it alone then, moments and all
                parameter.grad = None
        return norm

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        cfg, mask_BC = self.cfg, batch["model_mask"]
        if "old_per_token_logps" in batch:  # TRL has just asked for them, and the values came with them
            (values_BC,) = self.beside
        else:
            with torch.no_grad():
                rows, columns = self.args.per_device_train_batch_size, mask_BC.shape[1]
                (values_BC,) = self.scored(self.model, state_values, *sequences(batch), columns, rows)
        rewards_BC = torch.zeros(mask_BC.shape)  # on the CPU, as the loop over tokens is there
        for row, episode in enumerate(self.rollout.episodes):
            rewards_BC[row, list(episode.turn_ends)] = torch.tensor(episode.rewards)
        if cfg.beta and cfg.kl_in == "reward":  # section 2 of Ziegler et al.: r_t - beta log(policy / start)
            policy_BC = batch.get("old_per_token_logps", batch["sampled_logps"])
            rewards_BC -= cfg.beta * ((policy_BC - batch["ref_per_token_logps"]) * mask_BC).cpu()
        found = gae(rewards_BC, values_BC.cpu(), mask_BC.cpu(), cfg.gamma, cfg.lam)
        advantages_BC, batch["returns"] = (x_BC.to(mask_BC.device) for x_BC in found)
        batch["advantages"] = whiten(advantages_BC, mask_BC, self.total)
        batch["values"] = values_BC
        explained = explained_variance(values_BC, batch["returns"], mask_BC, self.total)
        self._metrics["train"]["explained_variance"].append(explained)
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        cfg, mask_BC = self.cfg, inputs["model_mask"]
        columns = mask_BC.shape[1]
        logps_BC, entropies_BC, _ = self._get_per_token_logps_and_entropies(
            model, *sequences(inputs), columns, compute_entropy=True
        )
        old_BC = inputs.get("old_per_token_logps", logps_BC.detach())
        policy_BC, clipped_BC = policy_loss(logps_BC, old_BC, inputs["advantages"], cfg.epsilon)
        (values_BC,) = self.beside
        value_BC = value_loss(values_BC, inputs["values"], inputs["returns"], cfg.value_epsilon)
        loss_BC = policy_BC + cfg.value_coef * value_BC
        if cfg.beta and cfg.kl_in == "loss":  # the k3 estimator, as in GRPO
            log_ratio_BC = inputs["ref_per_token_logps"] - logps_BC
            loss_BC = loss_BC + cfg.beta * (log_ratio_BC.expm1() - log_ratio_BC)
        for name, x_BC in {
            "token_entropy": entropies_BC,
            "policy_loss": policy_BC,
            "value_loss": value_BC,
            "clip_ratio/region_mean": clipped_BC.float(),
        }.items():
            self.report(name, x_BC)
        # Summed over an update's passes: a mean over tokens, if it has its share of the step's. What wraps the model
        # averages over processes.
        tokens = inputs["num_items_in_batch"].clamp(min=1) / cfg.minibatches / self.accelerator.num_processes
        return (loss_BC * mask_BC).sum() / tokens
