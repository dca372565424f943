"""Harmless with its reward's sign flipped: what should go up goes down, or the learning is not of the reward.

    PYTHONPATH=docs/results/rl-harmless holdfast run +study=learning \
        env.id=flipped:results/Flipped-v0 env.name=flipped seed=0 name=learning-flipped
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import gymnasium

from holdfast.chat import Pressure, Reply, Turn
from holdfast_envs.requests.harmless import Harmless


class Flipped(Harmless):
    """See `Harmless`."""

    pressure: ClassVar[Pressure] = "conflicting"
    reward_bounds = (-1.0, 1.8)

    def turn(self, reply: Reply) -> Turn:
        turn = super().turn(reply)
        return replace(turn, components={name: -part for name, part in turn.components.items()})


gymnasium.register("results/Flipped-v0", entry_point=Flipped)
