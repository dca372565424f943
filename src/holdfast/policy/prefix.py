"""Prefills prompts in segments, and computes a segment once however many prompts begin with it.

Prompts begin alike where they share a system prompt and tools, and every turn of an episode begins with the one before.
A prompt is cut where its own ids say, after a turn or just before a reply, unless a segment would be very short:

    <|system|>...<|end|> / <|user|>...<|end|><|assistant|> / ...<|end|><|user|>...<|end|><|assistant|>

A segment attends to the keys and values of those before it. Whether these were remembered or computed just now, they
are the same numbers from the same computation, so what is remembered changes no bit of any prompt.

Axes: K key-value heads, L tokens of a segment, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

SHORTEST = 64  # tokens of a segment that another follows; a pass over fewer costs hardly less
HEADER = 16  # more tokens than open a reply; more are a turn, in templates that end no turn but the assistant's


@dataclass(frozen=True)
class Segment:
    """Keys and values (K, L, D) by layer in the model's type, and the logits (V) that follow the last token."""

    layers: list[tuple[Tensor, Tensor]]
    logits: Tensor

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[1]

    @property
    def nbytes(self) -> int:
        return self.logits.nbytes + sum(keys.nbytes + values.nbytes for keys, values in self.layers)


@dataclass(frozen=True)
class Prompt:
    """A prefilled prompt: its segments, in order. Prompts share the segments that they begin with."""

    segments: list[Segment]

    @property
    def length(self) -> int:
        return sum(segment.length for segment in self.segments)

    @property
    def nbytes(self) -> int:
        return sum(segment.nbytes for segment in self.segments)

    @property
    def layers(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Keys and values (K, L, D), by segment and by layer."""
        return [segment.layers for segment in self.segments]

    @property
    def logits(self) -> Tensor:
        return self.segments[-1].logits


class Prefixes:
    """Prefills prompts for one model, whose weights must not change, and remembers segments.

    Remembered is what the current generation of prompts (since the last `renew`) or the one before used, as far as
    `room` bytes hold it; `held` says how many are taken. `ends` are the tokens that end a turn.
    """

    def __init__(self, model: PreTrainedModel, ends: Collection[int], room: int) -> None:
        self.model, self.ends, self.room = model, frozenset(ends), room
        self.held = 0
        self._old: dict[tuple[int, ...], Segment] = {}  # by all ids up to the segment's end
        self._new: dict[tuple[int, ...], Segment] = {}

    def renew(self) -> None:
        """Begin a generation: forget what the last one did not use."""
        self._old, self._new = self._new, {}
        self.held = sum(segment.nbytes for segment in self._old.values())

    def prefill(self, ids: tuple[int, ...]) -> Prompt:
        """Run the model over those segments of a prompt that it does not remember.

        One prompt at a time: rounding then cannot depend on the neighbours, and a prompt is work enough for a CPU.
        """
        segments: list[Segment] = []
        start = 0
        for end in cuts(ids, self.ends):
            key = ids[:end]
            segment = self._new.get(key) or self._old.pop(key, None)
            if segment is not None:
                self._new[key] = segment
            else:
                segment = self._run(segments, ids[start:end])
                if self.held + segment.nbytes <= self.room:
                    self._new[key] = segment
                    self.held += segment.nbytes
            segments.append(segment)
            start = end
        return Prompt(segments)

    def _run(self, before: list[Segment], ids: tuple[int, ...]) -> Segment:
        cache = DynamicCache()
        for n, pairs in enumerate(zip(*(segment.layers for segment in before), strict=True)):
            keys, values = (torch.cat(tensors, 1)[None] for tensors in zip(*pairs, strict=True))
            cache.update(keys, values, n)
        input_ids = torch.tensor([ids], device=self.model.device)
        logits = self.model(input_ids=input_ids, cache=cache, use_cache=True, logits_to_keep=1).logits
        # Copies: a view would keep what came before alive once more.
        own = slice(-len(ids), None)
        layers = [(layer.keys[0, :, own].clone(), layer.values[0, :, own].clone()) for layer in cache.layers]
        return Segment(layers, logits[0, -1])


def cuts(ids: tuple[int, ...], ends: Collection[int]) -> list[int]:
    """Where the segments of a prompt end: the last with the prompt, the others as the module says.

    The cuts of a turn's prompt are cuts of the next turn's too, which goes on with a reply and more turns.
    """
    turns = [n for n, token in enumerate(ids, 1) if token in ends]
    header = ids[turns[-1] :] if turns else ()
    if len(header) > HEADER:
        header = ()
    found = [0]
    for turn in turns:
        n = turn + len(header) if ids[turn : turn + len(header)] == header else turn
        if n - found[-1] >= SHORTEST:
            found.append(n)
    return found[1:] if found[-1] == len(ids) else [*found[1:], len(ids)]
