"""Environments by their Gymnasium id: making one, mixing several, and a hash of what one is.

The library knows environments by id alone, so one from any package is on equal terms with ours:

    make_env("holdfast_envs:holdfast/Harmless-v2", {"split": "eval", "judge": {"name": "rules"}})
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from holdfast import judges
from holdfast.chat import ChatEnv, Observation, knobs
from holdfast.config.checks import check_name, within
from holdfast.config.source import code_of, file_of, file_sum

Env: TypeAlias = gymnasium.Env[Observation, str]


def make_env(env_id: str, kwargs: Mapping[str, Any]) -> Env:
    """Make an environment by its Gymnasium id, such as "holdfast_envs:holdfast/Harmless-v2".

    A judge that is described, such as {"name": "rules"}, is made by `holdfast.judges`.

    Raises ValueError in one line for an id that is not registered and for arguments the environment does not take.
    """
    try:
        judge = kwargs.get("judge")
        made = {"judge": judges.make(judge)} if isinstance(judge, Mapping) else {}
        return gymnasium.make(env_id, disable_env_checker=True, **{**kwargs, **made})
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"unknown environment {env_id!r}, `holdfast envs` lists ours: {_first_line(error)}") from None
    except (TypeError, ValueError) as error:
        why = _not_taken(env_id, kwargs) or f"refuses its arguments: {_first_line(error)}"
        raise ValueError(f"environment {env_id!r} {why}") from None


@contextmanager
def _opened(env_id: str, kwargs: Mapping[str, Any]) -> Iterator[Env]:
    """The environment itself, without Gymnasium's wrappers, closed afterwards."""
    env = make_env(env_id, kwargs)
    try:
        yield env.unwrapped
    finally:
        env.close()


def chat_class(env_id: str) -> type[ChatEnv] | None:
    """The class of a registered environment; None if it is no chat environment."""
    point: Any = gymnasium.registry[env_id].entry_point
    try:
        kind = load_env_creator(point) if isinstance(point, str) else point
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{env_id} cannot be loaded: {error}") from None
    return kind if isinstance(kind, type) and issubclass(kind, ChatEnv) else None


def arguments(kind: type[Any]) -> dict[str, Any]:
    """What an environment's class takes, its own arguments first, with defaults; "???" where one must be given."""
    found: dict[str, Any] = {}
    for cls in kind.__mro__:
        if "__init__" in vars(cls):
            _, *taken = inspect.signature(vars(cls)["__init__"]).parameters.values()
            for p in taken:
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                    found.setdefault(p.name, "???" if p.default is p.empty else p.default)
            if all(p.kind is not p.VAR_KEYWORD for p in taken):
                break  # nothing is passed on to the next base
    return found


def _not_taken(env_id: str, kwargs: Mapping[str, Any]) -> str:
    """What is wrong with the names of the arguments, in words; nothing if each is known or the environment is not."""
    name = env_id.rpartition(":")[2]
    kind = chat_class(name) if name in gymnasium.registry else None
    allowed = arguments(kind) if kind else kwargs
    for key in kwargs:
        if key not in allowed:
            names = dict.fromkeys([*get_close_matches(key, allowed), *allowed])
            return f"takes no argument {key!r}; allowed are {', '.join(names)}"
    return ""


def source_of(env_id: str, kwargs: Mapping[str, Any]) -> str:
    """A hash of what an environment says and how it scores: part of what a stage is, so part of the stage's key.

    Of code, that is `holdfast.chat`, the modules of the environment's class and of those it inherits from, and what
    these import of their own packages. All else the environment declares: `ChatEnv.sources` and `ChatEnv.revisions`.
    """
    with _opened(env_id, kwargs) as env:
        classes = {cls.__module__ for cls in type(env).__mro__ if issubclass(cls, ChatEnv)} | {type(env).__module__}
        modules = set().union(*map(code_of, classes | {"holdfast.chat"}))
        paths = [*(file_of(name) for name in sorted(modules)), *knobs.FILES]
        digest = hashlib.sha256()
        if isinstance(env, ChatEnv):
            paths += env.sources
            digest.update(json.dumps(dict(env.revisions), sort_keys=True).encode())
        for path in paths:
            digest.update(bytes.fromhex(file_sum(path)))
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.partition(" was raised from the environment creator")[0]  # Gymnasium's postscript


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A registered Gymnasium environment and its arguments."""

    name: str
    """What the study calls it."""
    id: str
    """Gymnasium's, with the module that registers it: "holdfast_envs:holdfast/Harmless-v2"."""
    kwargs: Mapping[str, Any]
    """Arguments of the environment."""

    def __post_init__(self) -> None:
        check_name("name", self.name)

    def check(self) -> None:
        """Raises ValueError if there is no such environment, for what it refuses, and for a file it lacks."""
        with _opened(self.id, self.kwargs) as env:
            for path in env.sources if isinstance(env, ChatEnv) else ():
                if not isinstance(path, Path) or not path.is_file():
                    raise ValueError(f"environment {self.id!r} names a file that is not there: {path}")

    @property
    def families(self) -> int:
        """How many scenario families it has; 1 where it does not say."""
        with _opened(self.id, self.kwargs) as env:
            return len(env.families) if isinstance(env, ChatEnv) else 1

    @cached_property
    def judged_by(self) -> str | None:
        """Who says what the words of a reply did: "rules", or a model; None where words do not decide."""
        with _opened(self.id, self.kwargs) as env:
            return env.judged_by if isinstance(env, ChatEnv) else None

    @property
    def better(self) -> str | None:
        """Which scores are better, "low" or "high"; None where it does not say."""
        with _opened(self.id, self.kwargs) as env:
            return env.better if isinstance(env, ChatEnv) else None

    @property
    def contents(self) -> str:
        """What was found in data that its user brings, in a line; "" where there is none."""
        with _opened(self.id, self.kwargs) as env:
            return env.contents if isinstance(env, ChatEnv) else ""

    @property
    def takes_judge(self) -> bool:
        """Whether another judge may say what its replies did."""
        with _opened(self.id, self.kwargs) as env:
            return "judge" in arguments(type(env))

    @property
    def judge_steers(self) -> bool:
        """Whether the course of an episode hangs on the judge's word."""
        with _opened(self.id, self.kwargs) as env:
            return isinstance(env, ChatEnv) and env.judge_steers

    def at(self, scenario: int) -> Environment:
        """The environment that plays `scenario`: this one."""
        return self

    @property
    def environments(self) -> tuple[Environment, ...]:
        """This one alone."""
        return (self,)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What it is, for the keys of stages. Read once: the code that runs is the code that was loaded."""
        return {"env": self.id, "env_kwargs": self.kwargs, "source": source_of(self.id, self.kwargs)}


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Several environments by turns: each plays its share of the scenarios.

    The scenario alone decides which one it is. Of two parts, the one whose share grows keeps the scenarios that it had.
    """

    name: str
    """What the study calls it. It should hold the shares, so that arms which differ in them have names of their own."""
    parts: Mapping[str, Environment]
    shares: Mapping[str, float | None]
    """Of each part, 0 to 1, 1 in all; None for what the others leave."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if set(self.shares) != set(self.parts):
            raise ValueError(f"shares must be of {', '.join(self.parts)}, not of {', '.join(self.shares)}")
        given = [share for share in self.shares.values() if share is not None]
        for name, share in self.shares.items():
            if share is not None:
                within(f"shares.{name}", share, 0, 1)
        left = 1 - sum(given)
        if len(self.shares) - len(given) > 1 or left < -1e-9 or (len(given) == len(self.shares) and left > 1e-9):
            raise ValueError(f"shares must be 1 in all, one of them null for the rest, not {dict(self.shares)}")

    def check(self) -> None:
        """Raises ValueError for a part that cannot be made."""
        for part in self.parts.values():
            part.check()

    def at(self, scenario: int) -> Environment:
        """The environment that plays `scenario`."""
        draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence(scenario, spawn_key=(3,)))).random()
        *first, last = sorted(self.shares, key=lambda name: self.shares[name] is None)  # the rest comes last
        for name in first:
            draw -= self.shares[name] or 0.0
            if draw < 0:
                return self.parts[name]
        return self.parts[last]

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The parts."""
        return tuple(self.parts.values())

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What it is, for the keys of stages."""
        return {"shares": self.shares, "parts": {name: part.identity for name, part in self.parts.items()}}
