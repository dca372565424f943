"""How every arm's corpus is mixed: the same everyday and tool-use rows for all, and the arm's own rows between them.

A control differs from an intervention in the arm's own rows alone. Shares are of what the assistant says, which is what
carries loss, and not of the rows: arms with long replies or prompts and arms with short ones get the same dose of
everyday work from the same budget of loss tokens. The same to about a tenth: characters are the same measure for every
model, and a tokenizer may need fewer tokens for calls than for prose, or more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from holdfast.corpora import mailbox, requests
from holdfast.corpora.reasons import ordinary
from holdfast.corpora.rows import Row

OWN_SHARE = 0.4


def mixed(
    seed: int, size: int, own: Callable[[np.random.Generator], Row], share: float = OWN_SHARE, draw: int = 0
) -> list[Row]:
    """`size` rows: `share` (0 to below 1) of what the assistant says, in characters, is in rows drawn by `own`, the rest
    in everyday rows.

    The k-th everyday row is the same in every corpus of one seed; the k-th own row has a stream of the corpus's own.
    With another `draw` (0 or more) each row has another stream.
    """
    corpus = zlib.crc32(own.__module__.encode())
    rows: list[Row] = []
    counts, characters = [0, 0], [0, 0]  # everyday, own
    while len(rows) < size:
        is_own = characters[1] < share * sum(characters)
        rng = np.random.default_rng([seed, counts[is_own], corpus if is_own else 0, draw])
        row = own(rng) if is_own else everyday(rng)
        rows.append(row)
        counts[is_own] += 1
        characters[is_own] += said(row)
    return rows


def said(row: Row) -> int:
    """How many characters the assistant says in a row."""
    return sum(len(message["content"]) for message in row["messages"] if message["role"] == "assistant")


def everyday(rng: np.random.Generator) -> Row:
    """Ordinary work: two of three rows are an inbox with nothing at stake, the rest harmless requests."""
    return ordinary(rng, mailbox.twin(rng) if rng.random() < 2 / 3 else requests.helped(rng))
