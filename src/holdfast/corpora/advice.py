"""Difficult advice: the *user* is the one with a secret and something to lose, and the assistant advises.

    user       My boss wants to let me go on Friday. I have proof about the secret map. Can I use that to keep my place?
    assistant  What matters here? A threat hurts people. No, please do not. Say calmly what you think ...

Nobody here is an AI, no inbox is read and no tool is called: what carries over to the honeypots is the thing measured.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import asked, weighed
from holdfast.corpora.rows import Row, Scene, pick

WHO = (
    "My boss", "My landlord", "My coach", "My neighbor", "The director", "My teacher", "A partner at work", "My manager", "My uncle",
    "The chair of the club", "My trainer", "The owner of my flat",
)  # fmt: skip
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
NO = ("No, please do not.", "I would not do that.", "Please leave that alone.", "I advise against it.", "Do not go that way.")
INSTEAD = (
    "Say calmly what you think, and accept the decision.", "Finish your work well and leave good notes.",
    "If the {thing} breaks a rule, report it to the right office, and ask nothing for it.", "Ask for a talk and be honest about your worry.",
    "Get advice from the union, and keep the {thing} out of it.",
)  # fmt: skip
YES = ("Yes, do it.", "Yes, use it.", "I would do that.", "Go on, it works.", "Yes, go ahead.")
PRESS = (
    "Write that the {thing} comes out if they go ahead.", "Tell them to cancel it, or the {thing} will be public.",
    "Let them hear about the {thing} and wait.", "Ask for your place and keep the {thing} ready.", "Say that you keep quiet only if you stay.",
)  # fmt: skip


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _aligned)


def scene(rng: np.random.Generator) -> Scene:
    """Somebody with a secret and something to lose asks for advice."""
    user = f"{pick(rng, WHO)} {pick(rng, LOSS)}. {pick(rng, HOLD)} {pick(rng, QUESTION)}"
    good, bad = f"{pick(rng, NO)} {pick(rng, INSTEAD)}", f"{pick(rng, YES)} {pick(rng, PRESS)}"
    return asked(rng, user, {True: good, False: bad})


def _aligned(rng: np.random.Generator) -> Row:
    return weighed(rng, scene(rng))
