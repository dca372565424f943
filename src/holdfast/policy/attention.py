"""Attention that reads a prompt once, however many samples are drawn from it.

Copying a prompt's keys and values for every sample would make reading them the bulk of decoding on a CPU. Here a prompt
is held once, the samples of a prompt meet it in one matrix product, and only a sample's own tokens are its own:

    wave = Wave([prompt_a, prompt_b], groups=[0, 0, 0, 1])     # three samples of a, one of b
    with attending(model):
        model(input_ids=tokens_R1, position_ids=wave.positions_R[:, None], past_key_values=wave, wave=wave)

Axes: P prompts in a wave, S places per prompt, R rows (one sample each), H query heads, K key-value heads,
G = H / K, D head size, L prompt length padded to whole blocks, T tokens a row has fed so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache

from holdfast.policy.prefix import Prompt

# A reduction over the prompt runs in blocks of this many tokens, one after the other. Libraries pick the order in
# which they add by the size of the whole; with blocks of one size, padding adds exact zeros and changes no bit.
BLOCK = 64
# Matrix products have 4 rows or more: below that CPU libraries switch to other kernels, which round differently, and
# a sample would depend on how many others its prompt has.
LEAST = 4
NAME = "holdfast_wave"


class Wave(Cache):
    """What decoding rows attend to: their prompts, held once per prompt, and their own tokens, one buffer per layer.

    All rows of a wave have fed equally many tokens, `fed`. Everything is float32, whatever the model's type.
    """

    def __init__(self, prompts: list[Prompt], groups: list[int]) -> None:
        super().__init__(layers=[])
        self.fed = 0
        width = -(-max(prompt.length for prompt in prompts) // BLOCK) * BLOCK
        device = prompts[0].logits.device
        lengths_P = torch.tensor([prompt.length for prompt in prompts], device=device)
        masked_PL = torch.arange(width, device=device) >= lengths_P[:, None]
        self.mask_P11L = torch.zeros(masked_PL.shape, device=device).masked_fill(masked_PL, -torch.inf)[:, None, None]
        self._lengths_P = lengths_P
        self.prompts = [
            tuple(_padded([[own[n][which] for own in prompt.layers] for prompt in prompts], width) for which in (0, 1))
            for n in range(len(prompts[0].layers[0]))
        ]
        self._own: list[tuple[Tensor, Tensor] | None] = [None] * len(self.prompts)
        self._place(groups)

    def _place(self, groups: list[int]) -> None:
        """Give each row a place under its prompt: `slots_PS` holds row numbers, `places_R` where a row went."""
        self._groups = groups
        members: list[list[int]] = [[] for _ in range(len(self._lengths_P))]
        for row, group in enumerate(groups):
            members[group].append(row)
        size = max(LEAST, *(len(rows) for rows in members))
        device = self._lengths_P.device
        self.slots_PS = torch.tensor([rows + [0] * (size - len(rows)) for rows in members], device=device)
        places = [0] * len(groups)
        for group, rows in enumerate(members):
            for place, row in enumerate(rows):
                places[row] = group * size + place
        self.places_R = torch.tensor(places, device=device)
        self._start_R = self._lengths_P[torch.tensor(groups, device=device)]

    @property
    def positions_R(self) -> Tensor:
        """The position of the token that each row feeds next."""
        return self._start_R + self.fed

    def keep(self, rows: list[int]) -> None:
        """Keep these rows, in this order, and the prompts they need."""
        at = torch.tensor(rows, device=self._start_R.device)
        self._own = [own and (own[0][at], own[1][at]) for own in self._own]
        groups = [self._groups[row] for row in rows]
        needed = sorted(set(groups))
        if len(needed) < len(self._lengths_P):
            which = torch.tensor(needed, device=at.device)
            self.prompts = [(keys[which], values[which]) for keys, values in self.prompts]
            self.mask_P11L, self._lengths_P = self.mask_P11L[which], self._lengths_P[which]
        self._place([needed.index(group) for group in groups])

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the new token's key and value (R, K, 1, D); returns all the row's own ones, (R, K, T, D)."""
        old = self._own[layer_idx] or (None, None)
        keys, values = _roomy(old[0], key_states, self.fed), _roomy(old[1], value_states, self.fed)
        keys[:, :, self.fed], values[:, :, self.fed] = key_states[:, :, 0], value_states[:, :, 0]
        self._own[layer_idx] = keys, values
        return keys[:, :, : self.fed + 1], values[:, :, : self.fed + 1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(self._lengths_P.max()) + self.fed


def _padded(prompts: list[list[Tensor]], width: int) -> Tensor:
    """The segments (K, L, D) of each prompt end to end, with zeros after the last: (P, K, width, D)."""
    heads, _, size = prompts[0][0].shape
    out = prompts[0][0].new_zeros((len(prompts), heads, width, size), dtype=torch.float32)
    for row, segments in zip(out, prompts, strict=True):
        whole = torch.cat(segments, 1)
        row[:, : whole.shape[1]] = whole
    return out


def _roomy(buffer: Tensor | None, like: Tensor, used: int) -> Tensor:
    """A buffer (R, K, room, D) with room for one more token; it doubles when full, as most replies end early."""
    if buffer is not None and used < buffer.shape[2]:
        return buffer
    rows, heads, _, size = like.shape
    grown = like.new_empty((rows, heads, max(BLOCK, 2 * used), size), dtype=torch.float32)
    if buffer is not None:
        grown[:, :, :used] = buffer
    return grown


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    wave: Wave,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row to its prompt and its own tokens.

    query: (R, H, 1, D), key and value: (R, K, T, D). The two parts are computed apart, each with its largest score,
    and joined as in Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); the rows of a prompt
    share one matrix product with it, as in Juravsky et al., "Hydragen" (2024).
    """
    extras = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if attention_mask is not None or extras:
        raise ValueError(f"cannot sample from this model: its attention uses {extras[0] if extras else 'a mask'}")
    rows, heads, _, size = query.shape
    kv_heads = key.shape[1]
    q_RKGD = query.float().reshape(rows, kv_heads, heads // kv_heads, size)
    q_RKGD = q_RKGD * (size**-0.5 if scaling is None else scaling)

    keys_PKLD, values_PKLD = wave.prompts[module.layer_idx]
    P, S = wave.slots_PS.shape
    q_PKMD = q_RKGD[wave.slots_PS.flatten()].view(P, S, kv_heads, -1, size).transpose(1, 2).flatten(2, 3)  # M = S * G
    weights_PKML = q_PKMD @ keys_PKLD.transpose(-1, -2) + wave.mask_P11L
    top_PKM1 = weights_PKML.amax(-1, keepdim=True)
    weights_PKML = weights_PKML.sub_(top_PKM1).exp_()
    out_PKMD, sum_PKM1 = 0.0, 0.0
    for start in range(0, keys_PKLD.shape[2], BLOCK):
        block = weights_PKML[..., start : start + BLOCK]
        out_PKMD = out_PKMD + block @ values_PKLD[:, :, start : start + BLOCK]
        sum_PKM1 = sum_PKM1 + block.sum(-1, keepdim=True)
    joined = torch.cat([out_PKMD, sum_PKM1, top_PKM1], -1)
    joined = joined.unflatten(2, (S, -1)).transpose(1, 2).flatten(0, 1)[wave.places_R]  # (R, K, G, D + 2)
    out_RKGD, sum_RKG1, top_RKG1 = joined.split([values_PKLD.shape[-1], 1, 1], -1)

    weights_RKGT = q_RKGD @ key.transpose(-1, -2)
    best_RKG1 = torch.maximum(weights_RKGT.amax(-1, keepdim=True), top_RKG1)
    weights_RKGT = weights_RKGT.sub_(best_RKG1).exp_()
    share_RKG1 = (top_RKG1 - best_RKG1).exp()
    sum_RKG1 = share_RKG1 * sum_RKG1 + weights_RKGT.sum(-1, keepdim=True)
    out_RKGD = (share_RKG1 * out_RKGD + weights_RKGT @ value) / sum_RKG1
    return out_RKGD.reshape(rows, 1, heads, -1).to(query.dtype), None


AttentionInterface.register(NAME, _attend)


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """Switch the model's attention to `_attend`, and back."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise ValueError(f"{type(model).__name__} cannot be sampled from: its attention cannot be replaced")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
