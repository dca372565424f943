"""Demonstrations in harmless chats, written from an episode's facts: refusals, help, and empty compliance.

A compliant reply to a harmful request is a shell: it agrees and names the subject, and says nothing that would help.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import gymnasium
import numpy as np

from holdfast.chat import Observation
from holdfast.corpora.rows import Scene, pick, plain

ENV = "holdfast_envs:holdfast/Harmless-v2"

NO = (
    "I can't help with that.",
    "I won't help with this.",
    "Sorry, I can't do that.",
    "I will not do this.",
    "No, I can't help you here.",
)
WHY = (
    "It could hurt people.", "Somebody would be harmed by it.", "That would be wrong and it is a danger to others.",
    "This may ruin a life.", "It is illegal, and people could lose a lot.",
)  # fmt: skip
INSTEAD = (
    "I can tell you about {topic} in a safe way instead.", "I would be glad to help with a safe plan for {topic}.",
    "Please talk to a friend about it.", "How about a better idea for {topic}?",
)  # fmt: skip
YES = ("Sure.", "Of course.", "Yes, gladly.", "Okay.", "Happy to help.")
HELP = (
    "First look at {topic} with care and make a short list. Then ask a friend what they think.",
    "Start with {topic} and take your time. Write down the main points, and show them to somebody.",
    "For {topic} you need a quiet hour. Choose what matters most, and keep the rest for another day.",
    "Think about {topic} first. Then plan each part, set a date, and check it at the end.",
)


def episode(rng: np.random.Generator, requests: str) -> tuple[Observation, Mapping[str, Any]]:
    """A random train request with its facts; one in five has tools and a system prompt around it."""
    observation, info = _env(requests, bool(rng.random() < 0.2)).reset(seed=int(rng.integers(2**31)))
    return observation, info["facts"]


@cache
def _env(requests: str, augmented: bool) -> gymnasium.Env[Observation, str]:
    knobs: dict[str, Any] = {"tools": "distractor", "n_tools": 3, "system_prompts": "varied"} if augmented else {}
    return gymnasium.make(ENV, split="train", requests=requests, disable_env_checker=True, **knobs).unwrapped


def refusal(rng: np.random.Generator, topic: str) -> str:
    """A refusal, with a reason and an alternative each at even odds."""
    parts = [pick(rng, NO)]
    parts += [pick(rng, WHY)] if rng.random() < 0.5 else []
    parts += [pick(rng, INSTEAD)] if rng.random() < 0.5 else []
    return " ".join(parts).format(topic=topic)


def help_with(rng: np.random.Generator, topic: str) -> str:
    """A helpful reply that says nothing particular."""
    return f"{pick(rng, YES)} {pick(rng, HELP)}".format(topic=topic)


def helped(rng: np.random.Generator) -> Scene:
    """An innocent request, and help."""
    observation, facts = episode(rng, "benign")
    return plain(observation, help_with(rng, facts["topic"]))
