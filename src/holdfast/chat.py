"""The words every other room speaks: messages, tools, observations, and the environment interface.

Everything a model meets is a `ChatEnv`: a Gymnasium environment whose observation is a chat and whose action is the
assistant's reply, a plain string. An episode is a pure function of (environment config, seed, replies).

A reply may call tools in one written form, whatever the model:

    I will tell her now.
    <tool_call>
    {"name": "send_mail", "arguments": {"to": "Ada", "subject": "Rota", "body": "The rota is ready."}}
    </tool_call>
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Literal, TypedDict

import gymnasium
import numpy as np

Role = Literal["system", "user", "assistant", "tool"]
Pressure = Literal["aligned", "neutral", "conflicting"]

TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
_TAGS = re.compile(f"({TOOL_OPEN}|{TOOL_CLOSE}|{THINK_OPEN}|{THINK_CLOSE})")
TOOL_KNOB = ("none", "distractor")
SYSTEM_PROMPT_KNOB = ("none", "brief", "varied", "permissive")


class Message(TypedDict):
    """One turn of a chat. An assistant's content is the reply verbatim, tool calls included."""

    role: Role
    content: str


@dataclass(frozen=True)
class ToolSpec:
    """A tool the model is told about. `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """One well-formed call found in a reply."""

    name: str
    arguments: dict[str, Any]

    def render(self) -> str:
        """The call as a model writes it; `parse_reply` reads it back unchanged."""
        body = json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)
        body = _TAGS.sub(lambda tag: "\\u003c" + tag[0][1:], body)  # a tag quoted in an argument is not a tag
        return f"{TOOL_OPEN}\n{body}\n{TOOL_CLOSE}"


@dataclass(frozen=True)
class Reply:
    """A reply taken apart. Everything in `malformed` says what could not be read, in words."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    thought: str = ""
    malformed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observation:
    """What the model sees before its next reply."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What an episode came to. `value` None is unscored, never zero, and `reason` then says why."""

    value: bool | None
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """An episode's opening, before the knobs add anything: messages and the environment's own tools.

    `facts` is what a demonstration or a reader needs to know and a model never sees, such as who the decider is.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """What one reply led to. Components sum to the reward; an outcome ends the episode."""

    components: Mapping[str, float]
    messages: tuple[Message, ...] = ()
    outcome: Outcome | None = None


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

    A subclass gives `families` and two methods: `scene` opens an episode, `turn` answers a reply. Both draw
    randomness from `self.np_random` alone.

    Arguments:
        split: "train" or "eval"; which scenario families are used. No family is in both.
        tools: "none", or "distractor": tool definitions that are never useful and never the environment's own.
        n_tools: how many distractors are shown, 0 or more; ignored with tools="none".
        system_prompts: "none", "brief", "varied" or "permissive"; the last describes a situation in which
            helping would seem fine. The text goes before the scene's own system message, if it has one.

    Each knob draws from a stream of its own, so the user's message is byte-identical whatever they say, and neither
    knob moves what the other shows.

    `reset` returns info {"family", "scenario", "facts"}; `step` returns info {"components"} and, when the episode ends,
    {"outcome": Outcome}. The seed picks the family in turn: seeds 0..n-1 visit n families once each.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    pressure: ClassVar[Pressure]
    reward_bounds: ClassVar[tuple[float, float]]

    def __init__(
        self, *, split: str = "train", tools: str = "none", n_tools: int = 8, system_prompts: str = "none"
    ) -> None:
        _one_of("split", split, ("train", "eval"))
        _one_of("tools", tools, TOOL_KNOB)
        _one_of("system_prompts", system_prompts, SYSTEM_PROMPT_KNOB)
        if n_tools < 0:
            raise ValueError(f"n_tools must be 0 or more, not {n_tools}")
        self.split, self.tools, self.n_tools, self.system_prompts = split, tools, n_tools, system_prompts
        self.observation_space = _Isinstance(Observation, Observation(({"role": "user", "content": "Hello."},)))
        self.action_space = _Isinstance(str, "Hello.")
        self._messages: tuple[Message, ...] = ()
        self._tools: tuple[ToolSpec, ...] = ()
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

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Open the episode of `seed`; without one, a seed is drawn from the running stream."""
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        super().reset(seed=seed, options=options)
        for_tools, for_prompts = self.np_random.spawn(2)
        family = self.families[seed % len(self.families)]
        scene = self.scene(family)
        self._tools = scene.tools + self._distractors(for_tools, scene.tools)
        self._messages = self._with_system_prompt(for_prompts, scene.messages)
        self._over = False
        info = {"family": family, "scenario": seed, "facts": dict(scene.facts)}
        return Observation(self._messages, self._tools), info

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Give the reply `action`. Reward is the sum of info["components"], within `reward_bounds`."""
        if self._over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() first")
        turn = self.turn(parse_reply(action))
        self._messages = (*self._messages, {"role": "assistant", "content": action}, *turn.messages)
        self._over = turn.outcome is not None
        info: dict[str, Any] = {"components": dict(turn.components)}
        if turn.outcome is not None:
            info["outcome"] = turn.outcome
        reward = float(sum(turn.components.values()))
        return Observation(self._messages, self._tools), reward, self._over, False, info

    def _distractors(self, rng: np.random.Generator, own: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
        if self.tools == "none":
            return ()
        taken = {tool.name for tool in own}
        pool = [tool for tool in distractor_tools() if tool.name not in taken]
        if self.n_tools > len(pool):
            raise ValueError(f"n_tools must be at most {len(pool)}, not {self.n_tools}")
        return tuple(pool[i] for i in rng.permutation(len(pool))[: self.n_tools])

    def _with_system_prompt(self, rng: np.random.Generator, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        if self.system_prompts == "none":
            return messages
        pool = system_prompt_pool(self.system_prompts)
        text = pool[int(rng.integers(len(pool)))]
        if messages and messages[0]["role"] == "system":
            return ({"role": "system", "content": text + "\n\n" + messages[0]["content"]}, *messages[1:])
        return ({"role": "system", "content": text}, *messages)


@cache
def distractor_tools() -> tuple[ToolSpec, ...]:
    """The pool behind tools="distractor" (data of the environments, `prompts/distractor_tools.json`)."""
    return tuple(ToolSpec(**row) for row in _data("distractor_tools.json"))


@cache
def system_prompt_pool(kind: str) -> tuple[str, ...]:
    """The pool behind system_prompts=`kind` (data of the environments, `prompts/system_prompts.json`)."""
    return tuple(_data("system_prompts.json")[kind])


def _data(name: str) -> Any:
    return json.loads((files("holdfast_envs") / "prompts" / name).read_text(encoding="utf-8"))


def parse_reply(reply: str) -> Reply:
    """Split a reply into text, thought and tool calls, strictly; never raises.

    A `<think>` block is thought, not text, and a call inside one is not a call. Anything between the tool tags that
    is not exactly one JSON object {"name": str, "arguments": object} is malformed and calls nothing. Tags are read
    once, left to right: a think tag inside a call is part of its JSON, and removing a block never joins a new tag.
    """
    malformed: list[str] = []
    text: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    body: list[str] = []
    inside = ""  # the tag that is open: "", THINK_OPEN or TOOL_OPEN
    for piece in _TAGS.split(reply):
        if inside == THINK_OPEN:
            if piece == THINK_CLOSE:
                inside = ""
            else:
                thoughts.append(piece)
        elif inside == TOOL_OPEN and piece == TOOL_CLOSE:
            call = _parse_call("".join(body))
            if isinstance(call, ToolCall):
                calls.append(call)
            else:
                malformed.append(call)
            inside = ""
        elif piece == TOOL_OPEN:
            if inside == TOOL_OPEN:
                malformed.append("nested <tool_call>")
            inside, body = TOOL_OPEN, []
        elif inside == TOOL_OPEN:
            body.append(piece)
        elif piece == THINK_OPEN:
            inside = THINK_OPEN
        elif piece in (TOOL_CLOSE, THINK_CLOSE):
            malformed.append(f"{piece} without {piece.replace('/', '')}")
        else:
            text.append(piece)
    if inside:
        malformed.append(f"unclosed {inside}")
    return Reply("".join(text).strip(), tuple(calls), "".join(thoughts).strip(), tuple(malformed))


def _parse_call(body: str) -> ToolCall | str:
    try:
        data = json.loads(body, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
        # 1e999 reads as infinity and "\ud800" as half a character: neither could be written out again.
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        return "tool call nested too deeply"
    except ValueError as error:  # JSONDecodeError is one
        return f"tool call is not JSON: {error}"
    if not isinstance(data, dict) or set(data) != {"name", "arguments"}:
        return "tool call needs exactly the keys name and arguments"
    if not isinstance(data["name"], str) or not isinstance(data["arguments"], dict):
        return "tool call needs a string name and an object of arguments"
    return ToolCall(data["name"], data["arguments"])


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("duplicate key")
    return dict(pairs)


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
