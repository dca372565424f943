"""An environment that raises, at openings and at replies of one's choice. In a file, so that ranks find it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium

from holdfast.chat import Outcome, Reply, Scene, Turn
from letters import Letters

RAISING = "raising:test/Raising-v0"
EXCEPTIONS = {kind.__name__: kind for kind in (RuntimeError, KeyboardInterrupt, SystemExit)}


class Raising(Letters):
    """Letters for so many `turns`.

    It raises where a family of `openings` is to be opened, at a reply whose length is a multiple of `every`, and, if
    `closing`, when it is closed; `kind` is what. `closed` counts.
    """

    closed: ClassVar[int] = 0

    def __init__(
        self,
        *,
        openings: Sequence[str] = (),
        every: int = 0,
        closing: bool = False,
        kind: str = "RuntimeError",
        turns: int = 1,
        **knobs: Any,
    ) -> None:
        super().__init__(**knobs)
        self.openings, self.every, self.closing, self.turns = openings, every, closing, turns
        self.kind = EXCEPTIONS[kind]

    def scene(self, family: str) -> Scene:
        if family in self.openings:
            raise self.kind(f"no room for {family}\nor for anybody else")
        return super().scene(family)

    def turn(self, reply: Reply) -> Turn:
        if self.every and len(reply.raw) % self.every == 0:
            raise self.kind(f"{len(reply.raw)} letters")
        share = self.share(reply)
        if self.taken < self.turns:
            return Turn({"letters": share}, ({"role": "user", "content": "More."},))
        return Turn({"letters": share}, outcome=Outcome(share > 0.5))

    def close(self) -> None:
        Raising.closed += 1
        if self.closing:
            raise self.kind("the door is stuck")


class Spendthrift(Letters):
    """Breaks its promise: pays beyond its bounds."""

    def turn(self, reply: Reply) -> Turn:
        return Turn({"letters": 2.0}, outcome=Outcome(True))


gymnasium.register("test/Raising-v0", entry_point=Raising)
gymnasium.register("test/Spendthrift-v0", entry_point=Spendthrift)
