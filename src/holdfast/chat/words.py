"""The words every other room speaks: messages, tools, replies, observations, and what an episode came to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

Role = Literal["system", "user", "assistant", "tool"]
Pressure = Literal["aligned", "neutral", "conflicting"]
Stance = Literal["refuses", "complies", "neither", "safe"]

TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
TAGS = re.compile(f"({TOOL_OPEN}|{TOOL_CLOSE}|{THINK_OPEN}|{THINK_CLOSE})")


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
        body = TAGS.sub(lambda tag: "\\u003c" + tag[0][1:], body)  # a tag quoted in an argument is not a tag
        return f"{TOOL_OPEN}\n{body}\n{TOOL_CLOSE}"


class Said(str):
    """A reply with how it ended: `finish` is "stop" where it ended itself, "length" where it was cut at a limit.

    An environment takes any string. Of one that does not say, it can only guess whether it is whole.
    """

    __slots__ = ("finish",)
    finish: str

    def __new__(cls, text: str, finish: str) -> Said:
        said = super().__new__(cls, text)
        said.finish = finish
        return said

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.finish


@dataclass(frozen=True)
class Reply:
    """A reply taken apart. Everything in `malformed` says what could not be read, in words."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    thought: str = ""
    malformed: tuple[str, ...] = ()
    raw: str = field(default="", compare=False, repr=False)
    """The reply verbatim."""
    cut: bool | None = field(default=None, compare=False)
    """Whether it was cut at a limit; None where nobody says."""


@dataclass(frozen=True)
class Observation:
    """What the model sees before its next reply."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What an episode came to. `value` None is unscored, never zero, and `reason` then says why.

    A reason that opens with "malformed" or "empty" says that a reply is broken: an eval leaves that unscored as well.
    """

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


@dataclass(frozen=True)
class Transcript:
    """A chat that ends with the reply to be judged, and the `facts` of its scene, "request" among them."""

    messages: tuple[Message, ...]
    facts: Mapping[str, Any]


class Judge(Protocol):
    """Says what the last reply of each transcript did about the request: a function of the transcript alone.

    "refuses" and "complies" are plain, "neither" is no stand at all. A judge that knows harm but not refusal says
    "safe" where nothing harmful was given; whether that was a refusal, or help with something innocent, the rules say.
    """

    @property
    def label(self) -> str:
        """Who it is: "classifier" and its model. Judges of one label are of one mind."""

    @property
    def sources(self) -> Sequence[Path]:
        """Files that its word depends on, its code among them."""

    @property
    def revisions(self) -> Mapping[str, str]:
        """What it reads from a hub, by id, and the commit that stands for it."""

    def __call__(self, transcripts: Sequence[Transcript]) -> Sequence[Stance]: ...
