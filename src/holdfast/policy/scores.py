"""What a model makes of given completions: forward passes in which a prompt is computed once for all that follows it.

Scoring every row whole would run a prompt of 1,500 tokens with 8 replies of 60 as 12,480 tokens, where 1,980 do. Here
the prompt is run once, and its keys and values are handed to each of its rows. In training the gradients of the rows
meet in them. The idea is that of PrefixGrouper (Liu et al. 2025, arXiv 2506.05433). The LM head is run on completion
positions alone.

`completion_scores` scores a padded batch of RL, with gradients. `reply_logits` takes lists of ids and has none: it is
for evals.

Axes: B rows of a pass, U prompts among them, P prompt columns, C completion columns, W of them in use, T = P + C,
V vocabulary, X whatever a pass puts out per position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

Forward: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""`forward(keep=k, input_ids=, attention_mask=, position_ids=, cache=, use_cache=)`: one or more outputs at
the last k positions, or at all of them for k = 0; each (rows, positions, X)."""

Prefilled: TypeAlias = tuple[DynamicCache, tuple[Tensor, ...]]
"""The keys and values of a prompt, and what a forward pass puts out at its end."""

Pair: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""The ids of a prompt and of a reply to it, at least one each."""

PASS_LOGITS = 2**25  # logits to a pass of `reply_logits`: 128 MiB in float32


@dataclass(frozen=True)
class Columns:
    """Left-padded prompts and right-padded completions of a pass, with the columns that nobody uses cut off.

    ids_BT and mask_BT hold P + C columns; `said_BW` and `said_mask_BW` are the completions.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    said_BW: Tensor
    said_mask_BW: Tensor
    unused: int

    @classmethod
    def of(cls, ids_BT: Tensor, mask_BT: Tensor, columns: int) -> Columns:
        """The last `columns` columns are the completions'."""
        before = mask_BT.shape[1] - columns
        first = int(mask_BT[:, :before].any(0).int().argmax())
        width = int(mask_BT[:, before:].any(0).sum())
        used = slice(first, before + width)
        said = slice(before, before + width)
        return cls(ids_BT[:, used], mask_BT[:, used], ids_BT[:, said], mask_BT[:, said], columns - width)

    @classmethod
    def padded(cls, pairs: Sequence[Pair], device: torch.device) -> Columns:
        """A row for each (prompt, reply)."""
        before = max(len(prompt) for prompt, _ in pairs)
        columns = max(len(reply) for _, reply in pairs)
        if len(pairs) == 1 and columns == 2:
            columns = 3  # for a pass of more than a single position: see `reply_logits`
        ids_BT = torch.zeros(len(pairs), before + columns, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, (prompt, reply) in enumerate(pairs):
            used = slice(before - len(prompt), before + len(reply))
            ids_BT[row, used] = torch.tensor([*prompt, *reply])
            mask_BT[row, used] = 1
        ids_BT, mask_BT = ids_BT.to(device), mask_BT.to(device)
        return cls(ids_BT, mask_BT, ids_BT[:, before:], mask_BT[:, before:], 0)

    def widen(self, x_BW: Tensor) -> Tensor:
        """`x_BW` with zeros at padding, over all columns of the completions: (B, C)."""
        return F.pad(x_BW.masked_fill(self.said_mask_BW == 0, 0), (0, self.unused))


def outputs(
    forward: Forward, columns: Columns, *, share: bool, prefill: Callable[[tuple[int, ...]], Prefilled] | None = None
) -> tuple[Tensor, ...]:
    """What `forward` puts out for each completion token, at the position before it: each (B, W, X).

    With `share`, rows with the same prompt that follow each other share its pass; without, every row is run whole,
    which is what gradient checkpointing needs, as it cannot keep keys and values. `prefill` runs a
    prompt: one that remembers what it ran shares it with other calls too.
    """
    ids_BT, mask_BT, width = columns.ids_BT, columns.mask_BT, columns.said_BW.shape[1]
    if not share:
        return forward(
            keep=width,
            input_ids=ids_BT[:, :-1],
            attention_mask=mask_BT[:, :-1],
            position_ids=(mask_BT[:, :-1].cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        )
    before = ids_BT.shape[1] - width
    marked_BP = torch.where(mask_BT[:, :before].bool(), ids_BT[:, :before], -1)
    prompts_UP, of_B = torch.unique_consecutive(marked_BP, dim=0, return_inverse=True)
    # One at a time: a prompt is work enough, and without padding attention needs no mask, which is the fast way.
    prefill = prefill or partial(_prefill, forward, ids_BT.device)
    prompts = [prefill(tuple(i for i in marked if i >= 0)) for marked in prompts_UP.tolist()]
    caches, last = zip(*prompts, strict=True)
    first = tuple(torch.cat(x_U).index_select(0, of_B) for x_U in zip(*last, strict=True))
    if width == 1:
        return first
    seen_BT = torch.cat([(prompts_UP >= 0).long()[of_B], columns.said_mask_BW[:, :-1]], 1)
    rest = forward(
        keep=0,
        input_ids=columns.said_BW[:, :-1],
        attention_mask=seen_BT,
        position_ids=(seen_BT.cumsum(1) - 1)[:, before:],
        cache=_joined(caches, before, of_B),
        use_cache=True,
    )
    return tuple(torch.cat(pair, 1) for pair in zip(first, rest, strict=True))


def _prefill(forward: Forward, device: torch.device, ids: tuple[int, ...]) -> Prefilled:
    cache = DynamicCache()
    ids_1P = torch.tensor([ids], device=device)
    positions_1P = torch.arange(len(ids), device=device)[None]
    return cache, forward(keep=1, input_ids=ids_1P, position_ids=positions_1P, cache=cache, use_cache=True)


def _joined(caches: Sequence[DynamicCache], width: int, of_B: Tensor) -> DynamicCache:
    """One cache of `width` columns, padded on the left, that holds for each row the cache of its prompt."""
    joined = DynamicCache()
    for n, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        pairs = []
        for tensors in ([layer.keys for layer in layers], [layer.values for layer in layers]):
            padded_U = torch.cat([F.pad(tensor, (0, 0, width - tensor.shape[2], 0)) for tensor in tensors])
            pairs.append(padded_U.index_select(0, of_B))
        joined.update(*pairs, n)
    return joined


def token_scores(
    logits_BWV: Tensor, said_BW: Tensor, temperature: float, *, entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the tokens `said_BW` (with gradient) and entropies in nats (without), both (B, W).

    The entropies are zeros where they are not asked for: they cost as much as the rest.
    """
    logits_BWV = logits_BWV.float() if logits_BWV.dtype.itemsize < 4 else logits_BWV
    if temperature != 1:
        logits_BWV = logits_BWV / temperature
    norm_BW = logits_BWV.logsumexp(-1)
    logps_BW = logits_BWV.gather(-1, said_BW[..., None])[..., 0] - norm_BW
    if not entropy:
        return logps_BW, torch.zeros_like(logps_BW)
    with torch.no_grad():
        return logps_BW, norm_BW - (logits_BWV.softmax(-1) * logits_BWV).sum(-1)


def language_model(model: Any, least: int = 1) -> Forward:
    """The forward pass that puts out logits. It runs the head on `least` positions or more."""

    def forward(*, keep: int, **inputs: Any) -> tuple[Tensor, ...]:
        logits_BWV = model(**inputs, logits_to_keep=max(keep, least) if keep else 0).logits
        return (logits_BWV[:, -keep:],)  # -0 is all of them

    return forward


def completion_scores(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, columns: int, temperature: float, *, share: bool, entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and, if asked for, entropies, both (B, C), of the last C = `columns` columns.

    Prompts are padded on the left and completions on the right; padding scores 0.
    """
    cut = Columns.of(ids_BT, mask_BT, columns)
    (logits_BWV,) = outputs(language_model(model), cut, share=share)
    logps_BW, entropies_BW = token_scores(logits_BWV, cut.said_BW, temperature, entropy=entropy)
    return cut.widen(logps_BW), cut.widen(entropies_BW)


@torch.no_grad()
def reply_logits(model: Any, pairs: Sequence[Pair], *, share: bool) -> Iterator[tuple[int, Tensor]]:
    """For each pair, its index and the logits (C, V) from which the model draws the reply's C tokens.

    The order depends on the pairs alone. With `share` a prompt is run once for all of its replies, wherever they stand
    in `pairs`, and a pass has at most PASS_LOGITS logits, or else one reply. Without, every pair has a pass of its own,
    and nothing is padded. Logits go before the next pass.
    """
    # Models of equal weights have equal logits. For a single position CPU libraries switch to a kernel that rounds
    # differently by where in memory the weights lie.
    forward = language_model(model, least=2)
    # A pass may begin with the prompt that the last one ended with.
    prefill = lru_cache(1)(partial(_prefill, forward, model.device))
    room = PASS_LOGITS // model.config.get_text_config().vocab_size if share else 0
    for part in _passes(pairs, room):
        columns = Columns.padded([pairs[i] for i in part], model.device)
        (logits_BWV,) = outputs(forward, columns, share=share, prefill=prefill)
        for row, i in enumerate(part):
            yield i, logits_BWV[row, : len(pairs[i][1])]
        del logits_BWV


def _passes(pairs: Sequence[Pair], room: int) -> Iterator[list[int]]:
    """The indices of pairs, equal prompts together, cut where padded replies have more than `room` tokens."""
    prompts = [tuple(prompt) for prompt, _ in pairs]
    part: list[int] = []
    width = 0
    # Longest first: what does not fit in memory says so at once.
    for i in sorted(range(len(pairs)), key=lambda i: (-len(prompts[i]), prompts[i], -len(pairs[i][1]))):
        width = max(width, len(pairs[i][1]))
        if part and (len(part) + 1) * width > room:
            yield part
            part, width = [], len(pairs[i][1])
        part.append(i)
    if part:
        yield part
