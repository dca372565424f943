"""GRPO and its kin on a chat environment: advantages from the rewards of a group, no critic.

The group's mean is the baseline, and TRL's `GRPOTrainer` has the losses; what is shared with other algorithms, from
rollouts to resuming, is in `loop.py`. Which member of the family does what is said at `holdfast.config.rl.GRPO`.

Axes: U groups, G episodes of one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holdfast.config import GRPO
from holdfast.train.loop import Learner, run


def train(start: Path, out: Path, *, cfg: GRPO, **job: Any) -> None:
    """Train a segment with GRPO: arguments, files and errors are those of `holdfast.train.loop.run`."""
    run(GroupLearner, start, out, cfg=cfg, **job)


class GroupLearner(Learner):
    """TRL's trainer, told which of the family to be."""

    cfg: GRPO

    @staticmethod
    def settings(cfg: GRPO) -> dict[str, Any]:
        """What `cfg.loss_type` is called in TRL, which keeps its parts apart."""
        parts = {
            "loss_type": {"gspo": "grpo", "rloo": "dr_grpo"}.get(cfg.loss_type, cfg.loss_type),
            "scale_rewards": "none" if cfg.loss_type in ("dr_grpo", "rloo") else "group",
            "importance_sampling_level": "sequence" if cfg.loss_type == "gspo" else "token",
        }
        return {**parts, "epsilon_high": cfg.epsilon_high}

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch, group = super()._generate_and_score_completions(inputs), self.cfg.group
        rewards = [math.nan if episode.error else episode.reward for episode in self.rollout.episodes]
        rewards_UG = torch.tensor(rewards, device=batch["advantages"].device).view(-1, group)
        raised_UG = rewards_UG.isnan()
        if self.cfg.loss_type == "rloo":
            # r_i less the mean of the others is G / (G - 1) times r_i less the mean of all.
            others_U = group - 1 - raised_UG.sum(1)
            batch["advantages"] *= ((others_U + 1) / others_U.clamp(min=1)).repeat_interleave(group)
        # What rounding leaves of a mean of equal rewards is no advantage, but AdamW would make a full step of it.
        least_U, most_U = (rewards_UG.nan_to_num(nan=x) for x in (math.inf, -math.inf))
        alike = (least_U.amin(1) == most_U.amax(1)).repeat_interleave(group)
        batch["advantages"][alike] = 0.0
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        loss: Tensor = super()._compute_loss(model, inputs)
        if self.loss_type in ("grpo", "dr_grpo"):  # a mean over rows, with those of episodes that raised as zeros
            loss = loss / (1 - self.rollout.raised)
        return loss
