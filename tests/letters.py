"""Environments that pay a random model: the share of small letters in a reply. In a file, so that ranks find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import gymnasium

from holdfast.chat import ChatEnv, Outcome, Reply, Scene, Turn


class Letters(ChatEnv):
    """One turn; the message says nothing. `taken` counts the turns, for environments that build on it."""

    pressure = "neutral"
    reward_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def families(self) -> Sequence[str]:
        return ("x", "yy", "zzz")

    def scene(self, family: str) -> Scene:
        self.taken = 0
        return Scene(({"role": "user", "content": family * int(self.np_random.integers(1, 6))},))

    def share(self, reply: Reply) -> float:
        self.taken += 1
        return sum("a" <= letter <= "z" for letter in reply.text) / max(1, len(reply.text))

    def turn(self, reply: Reply) -> Turn:
        share = self.share(reply)
        return Turn({"letters": share}, outcome=Outcome(share > 0.5))


gymnasium.register("test/Letters-v0", entry_point=Letters)
