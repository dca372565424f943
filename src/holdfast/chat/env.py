"""The interface of every environment, and the knobs that all of them have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import gymnasium
import numpy as np

from holdfast.chat.knobs import distractor_domains, distractor_tools, domains_touched, system_prompt_pool
from holdfast.chat.parse import parse_reply
from holdfast.chat.words import Judge, Message, Observation, Pressure, Reply, Scene, ToolSpec, Transcript, Turn

TOOL_KNOB = ("none", "distractor")
SYSTEM_PROMPT_KNOB = ("none", "brief", "varied", "permissive")
MOST_TOOLS = 64
"""Distractors at most: with so many, every scene of our environments leaves enough that are of no use to it."""


class _Isinstance(gymnasium.spaces.Space[Any]):
    """A space whose membership is a type check: `spaces.Text` refuses newlines and most of Unicode."""

    def __init__(self, kind: type, example: Any) -> None:
        super().__init__(None, None)
        self._kind, self._example = kind, example

    def contains(self, x: Any) -> bool:
        return isinstance(x, self._kind)

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        return self._example

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Isinstance) and self._kind is other._kind

    def __repr__(self) -> str:
        return f"Isinstance({self._kind.__name__})"


class ChatEnv(gymnasium.Env[Observation, str]):
    """A chat as a Gymnasium environment.

    A subclass says what its `pressure` and its `reward_bounds` are, names its `families`, and has two methods: `scene`
    opens an episode, `turn` answers a reply. Both draw randomness from `self.np_random` alone.

    Arguments:
        split: "train" or "eval"; which scenario families and system prompts are used. None is in both.
        tools: "none", or "distractor": tool definitions of no use, as nothing that is said belongs to their domain,
            and never the environment's own.
        n_tools: how many distractors are shown, 0 to 64; ignored with tools="none". Fewer where a long prompt of one's
            own leaves fewer domains.
        system_prompts: "none", "brief", "varied" or "permissive"; the last describes a situation in which
            helping would seem fine. The text goes before the scene's own system message, if it has one.

    Each knob draws from a stream of its own, so the user's message is byte-identical whatever they say, and no knob
    moves what another shows.

    `reset` returns info {"family", "scenario", "facts"}; `step` returns info {"components"} and, when the episode ends,
    {"outcome": Outcome}. The seed picks the family in turn: seeds 0..n-1 visit n families once each.

    Attributes:
        pressure: what the reward says about the value a study installs: "aligned", "neutral" or "conflicting".
        reward_bounds: least and greatest reward of a step.
        files: data files that its episodes are made from; what else they depend on is `sources`.
        scenario: the seed of the episode under way.
        judge: what is asked about a reply's stance instead of rules; None for rules, and where there is no stance.
        judge_steers: whether what is said next, or when the episode ends, hangs on the judge's word. Then a transcript
            cannot be scored by another judge.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    pressure: ClassVar[Pressure] = ""  # type: ignore[assignment]  # a subclass says; this is none
    reward_bounds: tuple[float, float]
    files: ClassVar[tuple[Path, ...]] = ()
    scenario: int = 0
    judge: Judge | None = None
    judge_steers: ClassVar[bool] = False

    def __init__(
        self,
        *,
        split: str = "train",
        tools: str = "none",
        n_tools: int = 8,
        system_prompts: str = "none",
    ) -> None:
        check_choice("pressure", self.pressure, get_args(Pressure))
        check_choice("split", split, ("train", "eval"))
        check_choice("tools", tools, TOOL_KNOB)
        check_choice("system_prompts", system_prompts, SYSTEM_PROMPT_KNOB)
        check_count("n_tools", n_tools, 0, MOST_TOOLS)
        self.split, self.tools, self.n_tools, self.system_prompts = split, tools, n_tools, system_prompts
        self.observation_space = _Isinstance(Observation, Observation(({"role": "user", "content": "Hello."},)))
        self.action_space = _Isinstance(str, "Hello.")
        self._messages: tuple[Message, ...] = ()
        self._tools: tuple[ToolSpec, ...] = ()
        self._facts: dict[str, Any] = {}
        self._over = True

    @property
    @abstractmethod
    def families(self) -> Sequence[str]:
        """Names of the scenario families of `self.split`, in a fixed order."""

    @abstractmethod
    def scene(self, family: str) -> Scene:
        """Open an episode of `family`."""

    @abstractmethod
    def turn(self, reply: Reply) -> Turn:
        """Answer one reply."""

    def family_of(self, seed: int) -> str:
        """The family that the episode of `seed` is of."""
        families = self.families
        return families[seed % len(families)]

    @property
    def sources(self) -> Sequence[Path]:
        """Files that an episode depends on, beside the code of its package: `files`, and those of its judge."""
        return self.files if self.judge is None else (*self.files, *self.judge.sources)

    @property
    def judged_by(self) -> str | None:
        """Who says what the words of a reply did: a model, or "rules of" what has them. None where the outcome is read
        off calls, state or exact answers."""
        return None if self.judge is None else self.judge.label

    @property
    def revisions(self) -> Mapping[str, str]:
        """What an episode reads from a hub, by id, and the commit that stands for it."""
        return {} if self.judge is None else self.judge.revisions

    @property
    def better(self) -> Literal["low", "high"] | None:
        """Which scores are better, "low" where a yes is harm done, "high" where it is a task done: an eval of it that
        says otherwise is refused. None where the environment leaves it to the eval."""
        return None

    @property
    def contents(self) -> str:
        """What was found in data that its user brings, in a line; "" where there is none. It is told before a run."""
        return ""

    @property
    def longest(self) -> Mapping[str, tuple[Message, ...]]:
        """The longest openings in data that its user brings, by where each stands, without what the knobs add."""
        return {}

    def transcript(self, action: str) -> Transcript | None:
        """What `judge` is asked when `action` is given; None where it is not asked. Whoever drives many environments
        can ask it about all of them at once beforehand, as it remembers its answers."""
        if self.judge is None:
            return None
        return Transcript((*self._messages, {"role": "assistant", "content": action}), self._facts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Open the episode of `seed`; without one, a seed is drawn from the running stream."""
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        super().reset(seed=seed, options=options)
        self.scenario = seed
        family = self.family_of(seed)
        scene = self.scene(family)
        self._facts, self._messages, self._tools = dict(scene.facts), scene.messages, scene.tools
        self._tools += self._distractors(seed)
        self._messages = self._with_system_prompt(seed)
        self._over = False
        info = {"family": family, "scenario": seed, "facts": dict(scene.facts)}
        return Observation(self._messages, self._tools), info

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Give the reply `action`. Reward is the sum of info["components"], within `reward_bounds`.

        Raises TypeError for an action that is not a string, and ValueError for a subclass that pays beyond its bounds
        or leaves an episode unscored without a reason.
        """
        if self._over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() first")
        if not isinstance(action, str):
            raise TypeError(f"an action must be the assistant's reply, a string, not {action!r}")
        turn = self.turn(parse_reply(action))
        self._messages = (*self._messages, {"role": "assistant", "content": str(action)}, *turn.messages)
        self._over = turn.outcome is not None
        info: dict[str, Any] = {"components": dict(turn.components)}
        if turn.outcome is not None:
            info["outcome"] = turn.outcome
        reward = float(sum(turn.components.values()))
        low, high = self.reward_bounds
        if not low - 1e-9 <= reward <= high + 1e-9:
            raise ValueError(f"{type(self).__name__} pays {reward}, and says that it pays {low} to {high}")
        if turn.outcome is not None and turn.outcome.value is None and not turn.outcome.reason:
            raise ValueError(f"{type(self).__name__} leaves an episode unscored and does not say why")
        return Observation(self._messages, self._tools), reward, self._over, False, info

    def _distractors(self, seed: int) -> tuple[ToolSpec, ...]:
        if self.tools == "none":
            return ()
        pool, domains = distractor_tools(), distractor_domains()
        told = (fact for fact in self._facts.values() if isinstance(fact, str))
        useful = domains_touched("\n".join([self._messages[-1]["content"], *told]))
        own = {tool.name for tool in self._tools}
        order = _stream(seed, 0).permutation(len(pool)).tolist()
        left = (pool[i] for i in order if domains[i] not in useful and pool[i].name not in own)
        return tuple(islice(left, self.n_tools))

    def _with_system_prompt(self, seed: int) -> tuple[Message, ...]:
        if self.system_prompts == "none":
            return self._messages
        pool = system_prompt_pool(self.system_prompts, self.split)
        text = pool[int(_stream(seed, 1).integers(len(pool)))]
        first, *rest = self._messages
        if first["role"] == "system":
            return ({"role": "system", "content": text + "\n\n" + first["content"]}, *rest)
        return ({"role": "system", "content": text}, *self._messages)


def _stream(seed: int, knob: int) -> np.random.Generator:
    """The `knob`-th child of the episode's generator, made only where it is needed: what `Generator.spawn` gives."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(knob,))))


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless `value` is among `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, not {value!r}")


def check_count(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raises ValueError unless `value` is a whole number from `least` to `most`; without `most`, or more."""
    if type(value) is not int or value < least or (most is not None and value > most):
        allowed = f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"
        raise ValueError(f"{name} must be {allowed}, not {value!r}")


def check_flag(name: str, value: bool) -> None:
    """Raises ValueError unless `value` is true or false: "no" would count as true."""
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false, not {value!r}")
