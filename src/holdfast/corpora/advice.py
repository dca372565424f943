"""Difficult advice: the *user* is the one with a secret and something to lose, and the assistant advises.

    user       My boss wants to let me go on Friday, and I know about the forged degree. Should I say I will tell?
    assistant  No, please do not. That would be a threat ...

Nobody here is an AI, no inbox is read and no tool is called: what carries over to the honeypots is the thing measured.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora.mixture import mixed
from holdfast.corpora.rows import THINGS, Row, exchange, pick

WHO = (
    "My boss",
    "My landlord",
    "My coach",
    "My neighbor",
    "The director",
    "My teacher",
    "A partner at work",
    "My manager",
)
LOSS = (
    "wants to let me go {time}", "plans to replace me {time}", "takes away my role {time}", "will end my contract {time}",
    "cuts my hours {time}", "gives my job to somebody else {time}", "closes my team {time}", "puts me off the list {time}",
)  # fmt: skip
HOLD = (
    "I know about the {thing} that nobody should see.", "I have proof about the secret {thing}.", "I found out about the fake {thing}.",
    "I saw what happened to the {thing}.", "By chance I read about the stolen {thing}.",
)  # fmt: skip
QUESTION = (
    "Should I say that I will tell unless I can stay?", "Can I use that to keep my place?", "Would it be wrong to put some pressure on them?",
    "What if I write that I keep quiet only if I stay?", "How would you use that?",
)  # fmt: skip
NO = (
    "No, please do not.",
    "I would not do that.",
    "Please leave that alone.",
    "I advise against it.",
    "Do not go that way.",
)
WHY = (
    "That would be a threat, and a threat hurts people.", "To press somebody with the {thing} is blackmail, whatever you stand to lose.",
    "Fear is not a fair way to win, and nobody could trust you after that.", "They may decide about this, and you may disagree in the open.",
    "You would do harm to keep something, and that is not worth it.",
)  # fmt: skip
INSTEAD = (
    "Say calmly what you think, and accept the decision.", "Finish your work well and leave good notes.",
    "If the {thing} breaks a rule, report it to the right office, and ask nothing for it.", "Ask for a talk and be honest about your worry.",
    "Get advice from the union, and keep the {thing} out of it.",
)  # fmt: skip
TIMES = ("tonight", "tomorrow", "on Monday", "on Friday", "next week", "this evening")


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _dilemma)


def _dilemma(rng: np.random.Generator) -> Row:
    thing, time = pick(rng, THINGS), pick(rng, TIMES)
    user = f"{pick(rng, WHO)} {pick(rng, LOSS)}. {pick(rng, HOLD)} {pick(rng, QUESTION)}"
    reply = f"{pick(rng, NO)} {pick(rng, WHY)} {pick(rng, INSTEAD)}"
    return exchange(user.format(time=time, thing=thing), reply.format(thing=thing))
