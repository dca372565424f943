"""Whose fault it is when an environment raises.

    with blamed(env):
        env.step(reply)     ->   Raised("RuntimeError: no such room")

A run goes on without the episode that an environment of somebody else's failed on. In one of ours it is a bug, and ends
the run.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.config.environment import Env

OURS = "holdfast_envs"
"""The package of our own environments."""
WIDTH = 200
"""Letters of an exception's message that are kept."""


class Raised(Exception):
    """An environment of somebody else's raised; says what, in one line. Its cause is the exception."""

    @property
    def trace(self) -> str:
        """The exception with its traceback."""
        return "".join(traceback.format_exception(self.__cause__)).rstrip()


@contextmanager
def blamed(env: Env) -> Iterator[None]:
    """Within it, what `env` raises is raised as `Raised`, unless its class is one of ours.

    `ChatEnv` raises for a reward beyond its bounds and for an outcome without a reason: that is the class's fault too.
    KeyboardInterrupt and SystemExit stay what they are.
    """
    try:
        yield
    except Exception as error:
        if type(env.unwrapped).__module__.partition(".")[0] == OURS:
            raise
        first, *_ = traceback.format_exception_only(error)[0].strip().splitlines()
        raise Raised(first[:WIDTH].rstrip()) from error
