"""Decoding by a model's own attention and cache, for models whose prompts cannot be shared as `attention.py` does.

    plain = Plain(model, prompt_ids)
    plain.keep([0] * 8)
    logits_RV = plain.step(tokens_R)

A prompt is still run once for all samples of it: its cache is copied for each row. Layers may keep a window, or a state
instead of keys and values. Rows of a pass have one prompt, so nothing is padded and nothing needs a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class Plain:
    """Rows that decode together after one prompt, at first one. `logits_RV` are those of the tokens that come next,
    `nbytes` what the prompt takes in memory for a row."""

    def __init__(self, model: PreTrainedModel, prompt: Sequence[int]) -> None:
        self.model, self.fed = model, len(prompt)
        cache = DynamicCache(config=model.config)
        ids_1L = torch.tensor([list(prompt)], device=model.device)
        output = model(input_ids=ids_1L, cache=cache, use_cache=True, logits_to_keep=1)
        # RecurrentGemma's output has none, and so it is refused: its layers keep a state of their own, for these rows.
        self.cache = output.cache
        self.logits_RV: Tensor = output.logits[:, -1]
        held = [value for layer in self.cache.layers for value in vars(layer).values()]
        self.nbytes = sum(value.nbytes for value in held if isinstance(value, Tensor))

    def keep(self, rows: list[int]) -> None:
        """Keep these rows, in this order, as often as they are named."""
        at = torch.tensor(rows, device=self.model.device)
        self.cache.reorder_cache(at)
        self.logits_RV = self.logits_RV[at]

    def step(self, tokens_R: Tensor) -> Tensor:
        """Feed each row its token; returns the logits (R, V) of the next."""
        positions_R1 = torch.full((len(tokens_R), 1), self.fed, device=tokens_R.device)
        output = self.model(input_ids=tokens_R[:, None], position_ids=positions_R1, cache=self.cache, use_cache=True)
        self.fed += 1
        self.logits_RV = output.logits[:, -1]
        return self.logits_RV
