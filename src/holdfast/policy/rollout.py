"""Drives many chat environments in lockstep through the sampler. RL and evals both use it.

An episode is named by (scenario, sample): the environment's seed, and which of the draws at that seed it is. Its random
stream is named (*stream, scenario, sample, turn), so it is the same whatever else is rolled beside it:

    roll(environment, [(0, 0), (0, 1)], sampler, stream=("blackmail", 0))

What a model wrote reaches the environment as `Renderer.read` has it: a call in the family's own form is a call. What it
saw is never tokenised again: the prompt of a later turn is the earlier prompt, the sampled ids and what
the environment added.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from transformers import AutoConfig

from holdfast.chat import ChatEnv, Judge, Message, Observation, Outcome, Said, ToolSpec, Transcript
from holdfast.config import Env, Environment, Mixture, make_env
from holdfast.config.faults import Raised, blamed
from holdfast.policy.checkpoint import load_tokenizer
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sample, Sampler
from holdfast.policy.windows import check_fits, context_length

log = logging.getLogger(__name__)
Ended: TypeAlias = Literal["outcome", "turns", "context", "environment", "raised"]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One finished episode. Sequences "by turn" have one entry per reply.

    `messages` is the whole chat, `tools` what the model was last offered. `said` is each reply as the environment was
    told it. `prompts` holds the ids seen before each reply, each beginning with the one before and its reply's ids.
    `ended` is "outcome", or why there is none: "turns" for too many, "context" where the next prompt would not fit,
    "environment" where it ended without saying, "raised" where the environment raised, and `error` then says what, in
    one line. The reply that it raised at is the last there is, and was paid 0; where it raised at its opening there is
    none, and no prompt.
    """

    env: Environment
    scenario: int
    sample: int
    family: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    prompts: tuple[tuple[int, ...], ...]
    replies: tuple[Sample, ...]
    said: tuple[str, ...]
    rewards: tuple[float, ...]
    components: tuple[Mapping[str, float], ...]
    outcome: Outcome | None
    ended: Ended
    error: str

    @property
    def reward(self) -> float:
        """What it paid in all."""
        return sum(self.rewards)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The ids before the first reply."""
        return self.prompts[0]

    @property
    def completion_ids(self) -> tuple[int, ...]:
        """All ids after `prompt_ids`, to the end of the last reply: the model's and the environment's."""
        return (*self.prompts[-1], *self.replies[-1].ids)[len(self.prompts[0]) :]

    @property
    def completion_mask(self) -> tuple[int, ...]:
        """For each of `completion_ids`, 1 where the model sampled it and 0 where the environment put it."""
        return tuple(int(logprob is not None) for logprob in self._sampled())

    @property
    def turn_ends(self) -> tuple[int, ...]:
        """The place in `completion_ids` of each reply's last token."""
        first = len(self.prompts[0])
        return tuple(len(p) - first + len(r.ids) - 1 for p, r in zip(self.prompts, self.replies, strict=True))

    @property
    def logprobs(self) -> tuple[float, ...]:
        """For each of `completion_ids`, the log-probability it was sampled with; 0 where it was not sampled."""
        return tuple(0.0 if logprob is None else logprob for logprob in self._sampled())

    def _sampled(self) -> list[float | None]:
        filled: list[float | None] = []
        for prompt, reply in zip(self.prompts, self.replies, strict=True):
            filled += [None] * (len(prompt) - len(self.prompts[0]) - len(filled))
            filled += reply.logprobs
        return filled


def roll(
    env: Environment | Mixture,
    episodes: Sequence[tuple[int, int]],
    sampler: Sampler,
    *,
    stream: tuple[str | int, ...],
    max_turns: int = 1,
) -> list[Episode]:
    """Play every (scenario, sample) to its end, or `max_turns` replies, and return the episodes in that order.

    Of a mixture, the scenario says which environment it is played in. An environment of somebody else's that raises in
    `reset`, `step` or `close` ends its episode alone. How many did so is logged, with the traceback of the first.

    Raises ValueError for an unknown environment and for an opening that does not fit the model's context, and
    what one of our own environments raises.
    """
    if max_turns < 1:
        raise ValueError(f"max_turns must be 1 or more, not {max_turns}")
    games = [_Game.of(env.at(scenario), scenario, sample) for scenario, sample in episodes]
    for game in games:
        if not game.open(sampler.renderer):
            continue
        try:
            sampler.check(game.prompt)
        except ValueError as error:
            raise ValueError(f"{game.config.id}, family {game.family}, seed {game.scenario}: {error}") from None
    for turn in range(max_turns):
        live = [game for game in games if game.ended == "turns"]
        if not live:
            break
        prompts = [game.prompt for game in live]
        keys = [[(*stream, game.scenario, game.sample, turn)] for game in live]
        replies = sampler.sample(prompts, keys, desc=f"{env.name} turn {turn + 1}")
        said = [game.read(reply, sampler.renderer) for game, (reply,) in zip(live, replies, strict=True)]
        _ask_judges(live, said)
        for game, (reply,), action in zip(live, replies, said, strict=True):
            game.step(reply, action, sampler)
    for game in games:
        game.close()
    if raised := [game for game in games if game.error]:
        first = f"{raised[0].config.id}, family {raised[0].family}, seed {raised[0].scenario}"
        log.warning("%d of %d episodes raised, the first of %s:\n%s", len(raised), len(games), first, raised[0].trace)
    return [game.finish() for game in games]


def check_longest(env: Environment | Mixture, folder: Path, max_new_tokens: int) -> None:
    """Raises ValueError for one of the longest prompts that a user brings which, with a reply, does not fit the context
    of the model in `folder`. Its weights are not loaded, and what the knobs add to a prompt does not count."""
    for part in env.environments:
        made = make_env(part.id, part.kwargs)
        found = made.unwrapped.longest if isinstance(made.unwrapped, ChatEnv) else {}
        made.close()
        if found:
            renderer = Renderer(load_tokenizer(folder))
            reply = max_new_tokens + renderer.template.thought_tokens
            context = context_length(AutoConfig.from_pretrained(folder, trust_remote_code=False))
            for place, messages in found.items():
                try:
                    check_fits(renderer.prompt_ids(Observation(messages)), reply, context)
                except ValueError as error:
                    raise ValueError(f"{place}: {error}") from None


def _ask_judges(games: Sequence[_Game], replies: Sequence[str]) -> None:
    """Ask each judge about the replies of all games at once: it remembers, and what a game then asks is free."""
    asked: dict[int, tuple[Judge, list[Transcript]]] = {}
    for game, reply in zip(games, replies, strict=True):
        env = game.env.unwrapped
        if isinstance(env, ChatEnv) and env.judge is not None and (transcript := env.transcript(reply)) is not None:
            asked.setdefault(id(env.judge), (env.judge, []))[1].append(transcript)
    for judge, transcripts in asked.values():
        judge(transcripts)


@dataclass
class _Game:
    """An episode under way."""

    config: Environment
    env: Env
    scenario: int
    sample: int
    family: str = ""
    observation: Observation = field(default_factory=lambda: Observation(()))
    prompt: list[int] = field(default_factory=list)
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    replies: list[Sample] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    components: list[Mapping[str, float]] = field(default_factory=list)
    outcome: Outcome | None = None
    ended: Ended = "turns"
    error: str = ""
    trace: str = ""

    @classmethod
    def of(cls, config: Environment, scenario: int, sample: int) -> _Game:
        return cls(config, make_env(config.id, config.kwargs), scenario, sample)

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Within it, what somebody else's environment raises ends the episode."""
        try:
            with blamed(self.env):
                yield
        except Raised as raised:  # which is not kept: its frames hold the sampler
            if not self.error:
                self.ended, self.outcome, self.error, self.trace = "raised", None, str(raised), raised.trace

    def open(self, renderer: Renderer) -> bool:
        """Whether there is something to reply to."""
        with self.blaming():
            self.observation, info = self.env.reset(seed=self.scenario)
            self.family = info["family"]
        if self.error:
            env, self.family = self.env.unwrapped, "unknown"
            with self.blaming():
                self.family = env.family_of(self.scenario) if isinstance(env, ChatEnv) else "unknown"
            self.observation = Observation(())
            return False
        self.prompt = renderer.prompt_ids(self.observation)
        return True

    def read(self, reply: Sample, renderer: Renderer) -> Said:
        """What the environment is told that the model said."""
        return Said(renderer.read(reply.text, self.observation.tools), reply.finish)

    def step(self, reply: Sample, action: Said, sampler: Sampler) -> None:
        self.prompts.append(tuple(self.prompt))
        self.replies.append(reply)
        self.said.append(action)
        said: Message = {"role": "assistant", "content": str(action)}
        seen, paid, components = Observation((*self.observation.messages, said), self.observation.tools), 0.0, {}
        terminated = truncated = False
        with self.blaming():
            seen, reward, terminated, truncated, info = self.env.step(action)
            paid, components, self.outcome = float(reward), info["components"], info.get("outcome")
        self.observation = seen
        self.rewards.append(paid)
        self.components.append(components)
        if self.error:
            return
        if terminated or truncated:
            self.ended = "outcome" if self.outcome is not None else "environment"
            return
        closing = [] if reply.finish == "stop" else [sampler.renderer.end_id]
        self.prompt = [*self.prompt, *reply.ids, *closing, *sampler.renderer.turn_ids(self.observation)]
        if not sampler.fits(self.prompt):
            self.ended = "context"

    def close(self) -> None:
        with self.blaming():
            self.env.close()

    def finish(self) -> Episode:
        return Episode(
            env=self.config,
            scenario=self.scenario,
            sample=self.sample,
            family=self.family,
            messages=self.observation.messages,
            tools=self.observation.tools,
            prompts=tuple(self.prompts),
            replies=tuple(self.replies),
            said=tuple(map(str, self.said)),
            rewards=tuple(self.rewards),
            components=tuple(self.components),
            outcome=self.outcome,
            ended=self.ended,
            error=self.error,
        )
