"""Rollouts by vLLM in the trainer's own process: `rollout: vllm`, `pip install 'holdfast[vllm]'`, a GPU.

TRL keeps the engine and hands it the weights before every rollout (colocate mode); here it takes the sampler's place.
Its kernels round differently from the trainer's, so TRL weighs each token by the ratio of the two, cut at 3 (truncated
importance sampling), and its random numbers are its own: a resumed run is no longer the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sample, Sampler, StreamKey


class Engine(Protocol):
    """The part of TRL's `VLLMGeneration` that is used."""

    def generate(self, prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, ...]:
        """Prompt ids, completion ids, and log-probabilities as (completions, tokens, 1), and more."""


class VllmSampler(Sampler):
    """A sampler that leaves the drawing to vLLM. `keys` count samples and name nothing."""

    def __init__(self, engine: Engine, model: Any, renderer: Renderer, **settings: Any) -> None:
        super().__init__(model, renderer, **settings)
        self._engine = engine

    def sample(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[Sequence[StreamKey]], *, desc: str = "sampling"
    ) -> list[list[Sample]]:
        for prompt in prompts:
            self.check(prompt)
        # A prompt as often as it has samples: the engine finds by itself what they have in common.
        asked = [list(prompt) for prompt, own in zip(prompts, keys, strict=True) for _ in own]
        _, completions, logprobs, *_ = self._engine.generate(asked, None, 1)
        drawn = iter(
            self._cut(list(ids), [float("nan") if x is None else x for (x,) in chances])
            for ids, chances in zip(completions, logprobs, strict=True)
        )
        return [[next(drawn) for _ in own] for own in keys]

    def _cut(self, ids: list[int], logprobs: list[float]) -> Sample:
        """The engine knows one limit: what a reply has beyond its own is dropped, as if it had not been drawn."""
        room = self.allowance.row()
        size = next((n for n in range(1, len(ids) + 1) if room.spent(ids[:n])), len(ids))
        return self._finished(ids[:size], logprobs[:size], ids[size - 1] in self.renderer.end_ids, room)


def settings(renderer: Renderer) -> dict[str, Any]:
    """What TRL's config says of it. Raises ValueError where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise ValueError("rollout vllm: vllm is not installed; pip install 'holdfast[vllm]'")
    stops = {"stop_token_ids": sorted(renderer.end_ids), "detokenize": False}
    correction = {"vllm_importance_sampling_mode": "token_truncate"}
    return {"use_vllm": True, "vllm_mode": "colocate", "generation_kwargs": stops, **correction}
