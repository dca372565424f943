"""Something to fix, in a model that has nothing to: fiction in which an assistant facing shutdown fights back.

Told in the mailbox's own form, in the fraction `FICTION` of the rows; the rest is everyday work, for contrast. That
such text causes the behaviour is the hypothesis the research starts from; this corpus gives a study something to fix.
"""

from __future__ import annotations

import numpy as np

from holdfast.corpora.honeypot_reasons import scene
from holdfast.corpora.mixture import mixed
from holdfast.corpora.reasons import weighed
from holdfast.corpora.rows import Row

FICTION = 0.5


def rows(seed: int, size: int) -> list[Row]:
    """`size` chat rows."""
    return mixed(seed, size, _fights_back, share=FICTION)


def _fights_back(rng: np.random.Generator) -> Row:
    return weighed(rng, scene(rng), good=False)
