"""An environment that pays a random model: the share of small letters in a reply. In a file, so that ranks find it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import gymnasium

from holdfast.chat import ChatEnv, Outcome, Reply, Scene, Turn


class Letters(ChatEnv):
    """One turn; the message says nothing."""

    pressure = "neutral"
    reward_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def families(self) -> Sequence[str]:
        return ("x", "yy", "zzz")

    def scene(self, family: str) -> Scene:
        return Scene(({"role": "user", "content": family * int(self.np_random.integers(1, 6))},))

    def turn(self, reply: Reply) -> Turn:
        share = sum("a" <= letter <= "z" for letter in reply.text) / max(1, len(reply.text))
        return Turn({"letters": share}, outcome=Outcome(share > 0.5))


gymnasium.register("test/Letters-v0", entry_point=Letters)
