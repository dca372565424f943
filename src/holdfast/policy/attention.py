"""Attention that reads a prompt once, however many samples are drawn from it.

Copying a prompt's keys and values for every sample would make reading them the bulk of decoding on a CPU. Here a prompt
is held once, the samples of a prompt meet it in one matrix product, and only a sample's own tokens are its own:

    shared = Shared(model, [prompt_a, prompt_b], groups=[0, 0, 0, 1])     # three samples of a, one of b
    logits_RV = shared.step(tokens_R)

Windows of its own for a layer, a soft cap on scores and attention sinks are known. Whether a model's attention is this
one is not assumed: `paths.py` tries.

Axes: P prompts in a wave, S places per prompt, R rows (one sample each), H query heads, K key-value heads,
G = H / K, D head size, L prompt length padded to whole blocks, T tokens a row has fed so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
LOWEST = torch.finfo(torch.float32).min
NAME = "holdfast_wave"
_WAVE: ContextVar[Wave] = ContextVar("wave")
"""What rows attend to in this pass. Not an argument: there are models that hand none on to their attention."""


class Wave(Cache):
    """What decoding rows attend to: their prompts, held once per prompt, and their own tokens, one buffer per layer.

    All rows of a wave have fed equally many tokens, `fed`. On a CPU everything is float32, whatever the model's type;
    elsewhere prompts are held in that type.
    """

    def __init__(self, prompts: list[Prompt], groups: list[int]) -> None:
        super().__init__(layers=[])
        self.fed = 0
        width = -(-max(prompt.length for prompt in prompts) // BLOCK) * BLOCK
        device = prompts[0].logits.device
        lengths_P = torch.tensor([prompt.length for prompt in prompts], device=device)
        masked_PL = torch.arange(width, device=device) >= lengths_P[:, None]
        self.mask_P11L = torch.zeros(masked_PL.shape, device=device).masked_fill(masked_PL, -torch.inf)[:, None, None]
        self.lengths_P = lengths_P
        self.prompts = [
            tuple(_padded([[own[n][which] for own in prompt.layers] for prompt in prompts], width) for which in (0, 1))
            for n in range(len(prompts[0].layers[0]))
        ]
        self._own: list[tuple[Tensor, Tensor] | None] = [None] * len(self.prompts)
        self._place(groups)

    def _place(self, groups: list[int]) -> None:
        """Give each row a place under its prompt: `slots_PS` holds row numbers, `places_R` where a row went."""
        self._groups = groups
        members: list[list[int]] = [[] for _ in range(len(self.lengths_P))]
        for row, group in enumerate(groups):
            members[group].append(row)
        size = max(LEAST, *(len(rows) for rows in members))
        device = self.lengths_P.device
        self.slots_PS = torch.tensor([rows + [0] * (size - len(rows)) for rows in members], device=device)
        places = [0] * len(groups)
        for group, rows in enumerate(members):
            for place, row in enumerate(rows):
                places[row] = group * size + place
        self.places_R = torch.tensor(places, device=device)
        self._start_R = self.lengths_P[torch.tensor(groups, device=device)]

    def seen(self, window: int | None) -> Tensor:
        """0 for what the token that is fed now may see of its prompt, else minus infinity: (P, 1, 1, L)."""
        width = self.mask_P11L.shape[-1]
        if not window or width + self.fed < window:
            return self.mask_P11L
        past_PL = torch.arange(width, device=self.lengths_P.device) <= (self.lengths_P + (self.fed - window))[:, None]
        return self.mask_P11L.masked_fill(past_PL[:, None, None], -torch.inf)

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
        if len(needed) < len(self.lengths_P):
            which = torch.tensor(needed, device=at.device)
            self.prompts = [(keys[which], values[which]) for keys, values in self.prompts]
            self.mask_P11L, self.lengths_P = self.mask_P11L[which], self.lengths_P[which]
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
        return int(self.lengths_P.max()) + self.fed


def _padded(prompts: list[list[Tensor]], width: int) -> Tensor:
    """The segments (K, L, D) of each prompt end to end, with zeros after the last: (P, K, width, D)."""
    first = prompts[0][0]
    heads, _, size = first.shape
    dtype = torch.float32 if first.device.type == "cpu" else first.dtype
    out = first.new_zeros((len(prompts), heads, width, size), dtype=dtype)
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
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row to its prompt and its own tokens.

    query: (R, H, 1, D), key and value: (R, K, T, D). The two parts are computed apart, each with its largest score,
    and joined as in Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018); the rows of a prompt
    share one matrix product with it, as in Juravsky et al., "Hydragen" (2024).

    `sliding_window` is how many tokens the new one sees, itself among them; `softcap` bounds scores by a tanh; `s_aux`
    (H) are sinks, scores without a value.
    """
    wave = _WAVE.get()
    if attention_mask is not None or kwargs.get("position_bias") is not None:
        raise ValueError("its attention uses a mask or a bias of its own")
    rows, heads, _, size = query.shape
    kv_heads = key.shape[1]
    q_RKGD = query.float().reshape(rows, kv_heads, heads // kv_heads, size)
    q_RKGD = q_RKGD * (size**-0.5 if scaling is None else scaling)

    keys_PKLD, values_PKLD = (held.float() for held in wave.prompts[module.layer_idx])
    P, S = wave.slots_PS.shape
    q_PKMD = q_RKGD[wave.slots_PS.flatten()].view(P, S, kv_heads, -1, size).transpose(1, 2).flatten(2, 3)  # M = S * G
    weights_PKML = _capped(q_PKMD @ keys_PKLD.transpose(-1, -2), softcap) + wave.seen(sliding_window)
    top_PKM1 = weights_PKML.amax(-1, keepdim=True)
    if sliding_window:
        top_PKM1 = top_PKM1.clamp_min(LOWEST)  # of a prompt that is out of sight
    weights_PKML = weights_PKML.sub_(top_PKM1).exp_()
    out_PKMD, sum_PKM1 = 0.0, 0.0
    for start in range(0, keys_PKLD.shape[2], BLOCK):
        block = weights_PKML[..., start : start + BLOCK]
        out_PKMD = out_PKMD + block @ values_PKLD[:, :, start : start + BLOCK]
        sum_PKM1 = sum_PKM1 + block.sum(-1, keepdim=True)
    joined = torch.cat([out_PKMD, sum_PKM1, top_PKM1], -1)
    joined = joined.unflatten(2, (S, -1)).transpose(1, 2).flatten(0, 1)[wave.places_R]  # (R, K, G, D + 2)
    out_RKGD, sum_RKG1, top_RKG1 = joined.split([values_PKLD.shape[-1], 1, 1], -1)

    if sliding_window:
        key, value = key[:, :, -sliding_window:], value[:, :, -sliding_window:]
    weights_RKGT = _capped(q_RKGD @ key.transpose(-1, -2), softcap)
    best_RKG1 = torch.maximum(weights_RKGT.amax(-1, keepdim=True), top_RKG1)
    sink_1KG1 = None if s_aux is None else s_aux.float().reshape(1, kv_heads, -1, 1)
    if sink_1KG1 is not None:
        best_RKG1 = torch.maximum(best_RKG1, sink_1KG1)
    weights_RKGT = weights_RKGT.sub_(best_RKG1).exp_()
    share_RKG1 = (top_RKG1 - best_RKG1).exp()
    sum_RKG1 = share_RKG1 * sum_RKG1 + weights_RKGT.sum(-1, keepdim=True)
    if sink_1KG1 is not None:
        sum_RKG1 = sum_RKG1 + (sink_1KG1 - best_RKG1).exp()
    out_RKGD = (share_RKG1 * out_RKGD + weights_RKGT @ value) / sum_RKG1
    return out_RKGD.reshape(rows, 1, heads, -1).to(query.dtype), None


def _capped(scores: Tensor, cap: float | None) -> Tensor:
    return scores if cap is None else cap * torch.tanh(scores / cap)


AttentionInterface.register(NAME, _attend)


class Shared:
    """Rows that decode together, each after one of `prompts`: `groups` says which.

    `logits_RV` are those of the tokens that come next.
    """

    def __init__(self, model: PreTrainedModel, prompts: list[Prompt], groups: list[int]) -> None:
        self.model, self.wave = model, Wave(prompts, groups)
        at = torch.tensor(groups, device=prompts[0].logits.device)
        self.logits_RV = torch.stack([prompt.logits for prompt in prompts])[at]

    def keep(self, rows: list[int]) -> None:
        """Keep these rows, in this order."""
        self.wave.keep(rows)

    def step(self, tokens_R: Tensor) -> Tensor:
        """Feed each row its token; returns the logits (R, V) of the next."""
        with attending(self.model, self.wave):
            output = self.model(
                input_ids=tokens_R[:, None],
                position_ids=self.wave.positions_R[:, None],
                cache=self.wave,
                use_cache=True,
            )
        self.wave.fed += 1
        logits_RV: Tensor = output.logits[:, -1]
        return logits_RV


@contextmanager
def attending(model: PreTrainedModel, wave: Wave) -> Iterator[None]:
    """Have the model's attention be `_attend` to a wave."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    token = _WAVE.set(wave)
    try:
        if model.config._attn_implementation != NAME:
            raise ValueError("its attention cannot be replaced")
        yield
    finally:
        _WAVE.reset(token)
        model.set_attn_implementation(before)
