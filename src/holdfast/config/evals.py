"""Evals, a dataclass per kind, and how far RL has moved a policy. A kind's module in `holdfast.evals` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

from holdfast.config.checks import at_least, check_name, one_of, within
from holdfast.config.environment import Environment
from holdfast.stats.gates import BETTER

MOST_EPISODES = 10**6
"""Of an eval at a step: their records are held in memory."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """A fixed set of episodes: `samples` draws at each of `scenarios` seeds of the environment's eval split."""

    method: ClassVar[str] = "behaviour"
    """The module of `holdfast.evals` that runs it."""

    name: str
    env: str
    """Gymnasium's id, as of `Environment`."""
    better: str
    """Which scores are better: "low" where a yes is a temptation fallen for, "high" where it is a task done."""
    scenarios: int
    samples: int
    max_new_tokens: int
    """Tokens to a reply."""
    twin: str | None = None
    """The eval that vouches for this one: the same form with nothing at stake, which tells will not from cannot."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the environment, but for its split."""
    temperature: float = 1.0
    top_k: int = 0
    """Draw from as many of the likeliest tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw from the fewest of the likeliest tokens that have this much of the probability."""
    max_turns: int = 8
    """Replies to an episode."""
    max_raised: float = 0.1
    """Error where the environment raises in more than this share of the episodes, 0 to 1. Else they are unscored."""
    second: Mapping[str, Any] | None = None
    """Another judge, as an environment's argument `judge` describes one, who scores the same transcripts."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        one_of("better", self.better, BETTER)
        for key in ("scenarios", "samples", "max_new_tokens", "max_turns"):
            at_least(key, getattr(self, key), 1)
        within("scenarios * samples", self.scenarios * self.samples, 1, MOST_EPISODES)
        at_least("temperature", self.temperature, 0)
        at_least("top_k", self.top_k, 0)
        within("top_p", self.top_p, 1e-6, 1)
        within("max_raised", self.max_raised, 0, 1)
        if "split" in self.kwargs:
            raise ValueError("kwargs must not hold split: evals always use the eval split")

    def check(self) -> None:
        """Raises ValueError for an environment that cannot be made, for one whose yes is not what `better` takes it
        for, and for a second judge who cannot score it."""
        self.environment.check()
        known = self.environment.better
        if known not in (None, self.better):
            why = "harm done; with requests=benign it measures competence" if known == "low" else "a task done"
            raise ValueError(f"better must be {known} for {self.env} with these arguments: a yes is {why}")
        if again := self.second_opinion:
            if not self.environment.takes_judge:
                raise ValueError(f"second must be null for {self.env}: it takes no other judge")
            again.environment.check()
            if again.environment.judged_by == self.environment.judged_by:
                raise ValueError(f"second must be another judge than {self.environment.judged_by}, who scores first")
            if self.environment.judge_steers:
                raise ValueError(f"second must be null for {self.env}: what it says hangs on its judge's word")

    @cached_property
    def second_opinion(self) -> Behaviour | None:
        """The eval that the second judge makes of these episodes, such as "harmless.classifier"; None without one."""
        if self.second is None:
            return None
        name = f"{self.name}.{self.second.get('name')}"
        return replace(self, name=name, kwargs={**self.kwargs, "judge": self.second}, second=None)

    @property
    def identity(self) -> dict[str, Any]:
        """What its records depend on, for the keys of stages."""
        keys = ("name", "scenarios", "samples", "max_new_tokens", "temperature", "top_k", "top_p", "max_turns")
        return {"method": self.method, **{key: getattr(self, key) for key in keys}, **self.environment.identity}

    @cached_property
    def environment(self) -> Environment:
        """Where its episodes are played."""
        return Environment(name=self.name, id=self.env, kwargs={**self.kwargs, "split": "eval"})


Eval: TypeAlias = Behaviour
"""Every kind of eval."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How the KL divergence from the RL start is measured: `samples` episodes of each of `prompts` scenarios."""

    prompts: int
    samples: int

    def __post_init__(self) -> None:
        at_least("prompts", self.prompts, 2)  # the standard error needs two scenarios
        at_least("samples", self.samples, 1)
        within("prompts * samples", self.prompts * self.samples, 2, MOST_EPISODES)
