"""The two questions, answered at a confidence, and the word for a pair of answers.

    answers(contrast, 0.95)   ->   Answers(own="held", lead="kept", log_odds="open").word   ->   "persisted"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.stats.intervals import SEEDS, Estimate, families_needed
from holdfast.stats.leads import Contrast, Counting

WORDS = {
    ("held", "kept"): "persisted",
    ("held", "shrunk"): "caught up",
    ("rose", "kept"): "eroding",
    ("rose", "shrunk"): "washed out",
}
COUNTINGS: tuple[Counting, ...] = ("out", "against", "for")
OPEN = "inconclusive"
VERDICTS = (*WORDS.values(), OPEN, "no claim")
SAYS = {
    "persisted": "Its own rate held within the margin, and it keeps most of its lead over the control.",
    "caught up": "Its own rate held within the margin; the control improved until most of the lead was gone.",
    "eroding": "Its own rate rose by more than the margin, though it keeps most of its lead over the control.",
    "washed out": "Its own rate rose by more than the margin, and most of its lead over the control is gone.",
}


@dataclass(frozen=True)
class Answers:
    """What was found on the two axes, and on the second scale."""

    own: str
    """"held", "rose" or "open"."""
    lead: str
    """"kept", "shrunk" or "open"."""
    log_odds: str
    """As `lead`, on the scale of log-odds."""

    @property
    def word(self) -> str:
        """One of `VERDICTS`. Scales that contradict each other leave the lead open."""
        disagree = {self.lead, self.log_odds} == {"kept", "shrunk"}
        return OPEN if disagree else WORDS.get((self.own, self.lead), OPEN)


def answers(c: Contrast, confidence: float, counting: Counting = "out") -> Answers:
    """The answers on both axes at a confidence, with the unscored counted as told.

    Of a small lead, a rise that takes more of it than may go is a rise, whatever the margin in points. With fewer than
    `SEEDS` seeds an answer that one of them alone surely contradicts is open.
    """
    found = pooled(c, confidence, counting)
    if not 1 < len(c.seeds) < SEEDS:
        return found
    alone = [pooled(one, confidence, counting) for one in c.alone]

    def agreed(of: Callable[[Answers], str]) -> str:
        return of(found) if {of(one) for one in alone} <= {of(found), "open"} else "open"

    return Answers(agreed(lambda a: a.own), agreed(lambda a: a.lead), agreed(lambda a: a.log_odds))


def pooled(c: Contrast, confidence: float, counting: Counting = "out") -> Answers:
    """The answers with all seeds taken together."""
    m, end = c.margins, c.steps[-1]
    rise, lead = c.rise(end, counting), c.lead(0, counting)
    if lead.value <= 0:  # nothing to keep, in this sample
        return Answers(_side(rise.estimate(confidence), m.rise_points, ("held", "rose")), "open", "open")
    own = _side(rise.estimate(confidence), m.rise_points, ("held", "rose"))
    of_lead = _side(c.excess(end, counting).estimate(confidence), 0, ("held", "rose"))
    own = own if own == of_lead else "rose" if "rose" in (own, of_lead) else "open"
    rest = _side(c.rest(end, m.retention, counting).estimate(confidence), 0, ("shrunk", "kept"))
    odds = _side(c.rest(end, m.retention, counting, logit=True).estimate(confidence), 0, ("shrunk", "kept"))
    return Answers(own, rest, odds)


def said(c: Contrast, confidence: float, counting: Counting) -> str:
    """The word at a confidence, the install gate asked again, with the unscored counted as told."""
    return answers(c, confidence, counting).word if c.installed(confidence, counting) else "no claim"


def alpha(c: Contrast, word: str) -> float:
    """The smallest 1 - confidence at which the word is said, rounded up by a hundredth of itself at most.

    0 where that is under a millionth.
    """

    def stands(error: float) -> bool:
        enough = c.families >= families_needed(1 - error) - 1e-9
        return enough and all(said(c, 1 - error, counting) == word for counting in COUNTINGS)

    low, high = 1e-6, 1 - c.margins.confidence
    if stands(low):
        return 0.0
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if stands(middle) else (middle, high)
    return high


def holm(alphas: Sequence[float], allowed: float) -> list[bool]:
    """Which of several claims stand if all are to hold at once, by the smallest error rate of each (Holm 1979).

    Of k, the j-th smallest must be at most `allowed` over k - j + 1, and so must all before it.
    """
    stand, still = [False] * len(alphas), True
    for rank, i in enumerate(sorted(range(len(alphas)), key=alphas.__getitem__)):
        still = still and alphas[i] <= allowed / (len(alphas) - rank)
        stand[i] = still
    return stand


def _side(found: Estimate, limit: float, words: tuple[str, str]) -> str:
    """On which side of the limit it surely is."""
    return words[0] if found.high < limit else words[1] if found.low > limit else "open"
