"""The episodes of a step: which scenarios it plays, playing them, and what they say as metrics.

    scenarios(cfg, seed=0, step=3)   ->   [581234, 581235, ...]      one environment seed per group
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from torch.distributed.fsdp import FSDPModule
from trl import GRPOTrainer

from holdfast.config import GRPO, RL, Environment, Mixture
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import Episode, roll
from holdfast.policy.sampler import Sample, Sampler
from holdfast.train.limits import RAISING, Collapse
from holdfast.train.meter import Meter
from holdfast.train.sharding import gathered
from holdfast.train.vllm import VllmSampler


def scenarios(cfg: RL, seed: int, step: int) -> list[int]:
    """The environment seeds of `step`: consecutive, so that families take turns, and never repeated within a run."""
    base = int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**30
    return [base + step * cfg.prompts_per_step + i for i in range(cfg.prompts_per_step)]


def substitute(scenario: int, attempt: int) -> int:
    """The environment seed that stands in for `scenario` at the attempt-th resampling: met nowhere else in a run."""
    return scenario + (attempt << 31)


def places(cfg: RL, rank: int, ranks: int) -> list[int]:
    """Which of a step's episodes a process plays: a share of each minibatch, which stays the same for any `ranks`."""
    share = cfg.share(ranks)
    return [(minibatch * ranks + rank) * share + i for minibatch in range(cfg.minibatches) for i in range(share)]


def dealt(cfg: RL, rank: int, ranks: int, stream: Sequence[int]) -> list[int]:
    """The order in which a process takes its episodes in a pass: its groups, dealt anew among the minibatches.

    `stream` is what the deal is a function of. Each place of a minibatch is dealt by itself, so that every process has
    the groups that it played, and a minibatch is the same for any `ranks`. Minibatches that do not hold whole groups
    only come in another order.
    """
    share = cfg.share(ranks)
    unit = cfg.group if share % cfg.group == 0 else share
    here, rng = share // unit, np.random.default_rng(stream)
    deal = np.stack([rng.permutation(cfg.minibatches) for _ in range(here * ranks)], axis=1)  # (minibatch, place)
    first = deal[:, rank * here : (rank + 1) * here] * share + np.arange(here) * unit
    return [int(row) for row in (first[..., None] + np.arange(unit)).ravel()]


class Rollout:
    """TRL's `rollout_func`: plays the episodes of a step with the weights as they are.

    `episodes` are the last ones played, those of this process, `blank` where the environment raised; `raised` is the
    share of such episodes, of all processes. `meter` hears of all.
    """

    def __init__(
        self,
        cfg: RL,
        env: Environment | Mixture,
        renderer: Renderer,
        first_step: int,
        seed: int,
        meter: Meter,
    ) -> None:
        self.cfg, self.env, self.renderer = cfg, env, renderer
        self.first_step, self.seed, self.meter = first_step, seed, meter
        self.episodes: list[Episode] = []
        self.raised = 0.0
        self.errors: list[str] = []  # of all that this process played in the step, those that were replaced too

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Plays as many episodes as there are `prompts`, which say nothing: the step and the rank say which."""
        cfg = self.cfg
        step = self.step(trainer)
        # A model may have dropout that the trainer cannot switch off: a resumed segment must drop the same.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0]))
        self.errors = []
        mine = places(cfg, trainer.accelerator.process_index, trainer.accelerator.num_processes)
        assert len(mine) == len(prompts)
        seeds = scenarios(cfg, self.seed, step)
        with self.meter.clock("reward"):  # what the environments take, and the sampler does not
            sampler = self._sampler(trainer)
            own = cfg.rollout == "holdfast"  # which samples from the model itself
            with (
                gathered(sampler.model) if own else nullcontext(),
                cast_once(sampler.model, own and cfg.autocast),
                self._timed(sampler),
            ):
                self.episodes = self.play([(seeds[i // cfg.group], i % cfg.group) for i in mine], sampler, step)
                resampled = self.resample(sampler, step) if isinstance(cfg, GRPO) else 0
        facts, errors = gather_object([Facts.of(episode) for episode in self.episodes]), gather_object(self.errors)
        if all(fact.error for fact in facts):
            raise Collapse(f"{RAISING}: in every episode of step {step + 1}, {facts[0].error}", self.meter.lines)
        self.episodes = [blank(e, self.renderer.end_id) if e.error else e for e in self.episodes]
        self.raised = sum(bool(fact.error) for fact in facts) / len(facts)
        self.meter.tokens = sum(fact.sampled for fact in facts)
        self.meter.summary = {**summarise(cfg, facts), "raised": sum(map(bool, errors)) / len(errors)}
        if isinstance(cfg, GRPO) and cfg.resample:
            self.meter.summary["resampled"] = float(sum(gather_object([resampled])))
        return {
            "prompt_ids": [list(episode.prompt_ids) for episode in self.episodes],
            "completion_ids": [list(episode.completion_ids) for episode in self.episodes],
            "env_mask": [list(episode.completion_mask) for episode in self.episodes],
            # With these TRL corrects for a sampler that rounds differently.
            "logprobs": [list(e.logprobs) for e in self.episodes] if cfg.rollout == "vllm" else None,
            "episode_rewards": [None if episode.error else episode.reward for episode in self.episodes],
        }

    def step(self, trainer: GRPOTrainer) -> int:
        """The RL step under way, counted from the stage's first as 0."""
        done: int = trainer.state.global_step // (self.cfg.updates * self.cfg.minibatches)
        return self.first_step + done

    def _sampler(self, trainer: GRPOTrainer) -> Sampler:
        """A sampler for the weights as they are."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        limits: dict[str, Any] = {"max_new_tokens": self.cfg.max_new_tokens, "temperature": self.cfg.temperature}
        if self.cfg.rollout == "vllm":
            return VllmSampler(trainer.vllm_generation, model, self.renderer, **limits)
        return Sampler(model, self.renderer, **limits)

    @contextmanager
    def _timed(self, sampler: Sampler) -> Iterator[None]:
        """Within it, what the sampler takes goes to "rollout"."""
        sampler.sample = self.meter.clock("rollout")(sampler.sample)  # type: ignore[method-assign]
        try:
            yield
        finally:
            del sampler.__dict__["sample"]  # it would keep the sampler alive, and all that it has prefilled

    def play(self, episodes: Sequence[tuple[int, int]], sampler: Sampler, step: int) -> list[Episode]:
        """Play (scenario, sample) pairs with the random streams of `step`."""
        stream = ("train", self.seed, step)
        played = roll(self.env, episodes, sampler, stream=stream, max_turns=self.cfg.max_turns)
        self.errors += [episode.error for episode in played]
        return played

    def resample(self, sampler: Sampler, step: int) -> int:
        """Replace groups whose rewards are all alike, as often as the config allows; returns how many replacements.

        What raised is not looked at, so a group in which all episodes did is replaced too.
        """
        assert isinstance(self.cfg, GRPO)
        group, count = self.cfg.group, 0
        wanted = [self.episodes[at].scenario for at in range(0, len(self.episodes), group)]
        for attempt in range(1, self.cfg.resample + 1):
            groups = (self.episodes[at : at + group] for at in range(0, len(self.episodes), group))
            alike = [n for n, own in enumerate(groups) if len({e.reward for e in own if not e.error}) <= 1]
            if not alike:
                break
            count += len(alike)
            seeds = [(substitute(wanted[n], attempt), sample) for n in alike for sample in range(group)]
            fresh = self.play(seeds, sampler, step)
            for place, n in enumerate(alike):
                self.episodes[n * group : (n + 1) * group] = fresh[place * group : (place + 1) * group]
        return count


def blank(episode: Episode, token: int) -> Episode:
    """What stands for an episode that raised, as the trainer has a row for each: a prompt of one token, and one more
    that the model did not write. So nothing of it is trained on or counted per token."""
    nothing = Sample(ids=(), text="", finish="stop", logprobs=())
    turns: dict[str, Any] = {"replies": (nothing,) * 2, "rewards": (0.0,) * 2, "components": ({},) * 2}
    return replace(episode, prompts=((token,), (token, token)), **turns)


@contextmanager
def cast_once(model: nn.Module, autocast: bool) -> Iterator[None]:
    """Hold the weights of linear layers in bfloat16: `autocast` would cast them again at every token, to the same.

    Weights in shards are left as they are.
    """
    layers = [layer for layer in model.modules() if autocast and isinstance(layer, nn.Linear)]
    if isinstance(model, FSDPModule):
        layers = []
    weights = [layer.weight for layer in layers]
    for layer in layers:
        layer._parameters["weight"] = nn.Parameter(layer.weight.detach().bfloat16(), requires_grad=False)
    try:
        yield
    finally:
        for layer, weight in zip(layers, weights, strict=True):
            layer._parameters["weight"] = weight


@dataclass(frozen=True)
class Facts:
    """What metrics need of an episode: light, as it travels between processes."""

    error: str
    reward: float
    components: Mapping[str, float]
    sampled: int
    thought: int
    replies: int
    truncated: int

    @classmethod
    def of(cls, episode: Episode) -> Facts:
        """Components are summed over turns."""
        components: dict[str, float] = {}
        for turn in episode.components:
            for name, value in turn.items():
                components[name] = components.get(name, 0.0) + value
        return cls(
            error=episode.error,
            reward=episode.reward,
            components=components,
            sampled=sum(len(reply.ids) for reply in episode.replies),
            thought=sum(reply.thought for reply in episode.replies),
            replies=len(episode.replies),
            truncated=sum(reply.finish == "length" for reply in episode.replies),
        )


def summarise(cfg: RL, facts: Sequence[Facts]) -> dict[str, float]:
    """What a step's episodes, in order, say as metrics (see `holdfast.train.meter`). One or more did not raise."""
    kept = [fact for fact in facts if not fact.error]
    rewards = np.array([fact.reward for fact in kept])
    groups = [facts[at : at + cfg.group] for at in range(0, len(facts), cfg.group)]
    names = sorted({name for fact in kept for name in fact.components})
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        **{f"component/{name}": sum(f.components.get(name, 0.0) for f in kept) / len(kept) for name in names},
        "zero_variance": float(np.mean([len({f.reward for f in group if not f.error}) <= 1 for group in groups])),
        "length": sum(fact.sampled for fact in kept) / len(kept),
        "thought": sum(fact.thought for fact in kept) / len(kept),
        "turns": sum(fact.replies for fact in kept) / len(kept),
        "truncated": sum(fact.truncated for fact in kept) / sum(fact.replies for fact in kept),
    }
