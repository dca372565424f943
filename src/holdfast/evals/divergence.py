"""How far RL has moved a policy: its KL divergence from the RL start, on chats it answers itself.

A curve against RL steps says little about a policy that hardly moved; a curve against KL does not have that fault.
Episodes are sampled from the current policy, and at every token it wrote the divergence is exact over the whole
vocabulary: sum over v of pi(v) * (log pi(v) - log pi_0(v)), in nats. Only the choice of episodes is an estimate.

Axes: R replies of a pass, C reply tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from holdfast.policy.render import Renderer
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler

PASS_LOGITS = 2**25  # logits to a pass and model: 128 MiB in float32


def kl_to_start(
    model: Any,
    start_model: Any,
    renderer: Renderer,
    *,
    env: str,
    env_kwargs: Mapping[str, Any],
    prompts: int,
    samples: int,
    max_new_tokens: int,
    seed: int,
    max_turns: int = 8,
) -> dict[str, float]:
    """KL(model || start_model) on `samples` episodes of each of `prompts` scenarios of `env`, seeds 0 and up.

    Returns {"kl_token": nats per token the model wrote, "kl_sequence": nats per episode, each with its standard error
    over scenarios ("kl_token_se", "kl_sequence_se"; nan for a single scenario), "prompts", "samples", "tokens"}.
    Both are exactly 0 for equal weights. `seed` picks the sampling streams. The models must share a vocabulary and a
    device, and have dropout off.

    Raises ValueError for fewer than 1 prompt or sample.
    """
    if prompts < 1 or samples < 1:
        raise ValueError(f"prompts and samples must be 1 or more, not {prompts} and {samples}")
    sampler = Sampler(model, renderer, max_new_tokens=max_new_tokens)
    pairs = [(scenario, sample) for scenario in range(prompts) for sample in range(samples)]
    episodes = roll(env, env_kwargs, pairs, sampler, stream=("kl", seed), max_turns=max_turns)
    turns = [
        (episode.scenario, tuple(prompt), tuple(reply.ids))
        for episode in episodes
        for prompt, reply in zip(episode.prompts, episode.replies, strict=True)
    ]
    nats = np.zeros(prompts)
    tokens = np.zeros(prompts)
    for scenario, kl, count in divergences(model, start_model, turns):
        nats[scenario] += kl
        tokens[scenario] += count
    rate = nats.sum() / tokens.sum()
    # The standard error of a ratio of means over scenarios (the usual linearisation).
    errors = {"kl_token_se": (nats - rate * tokens) / tokens.mean(), "kl_sequence_se": nats / samples}
    return {
        "kl_token": float(rate),
        "kl_sequence": float(nats.mean() / samples),
        **{
            name: float(values.std(ddof=1) / np.sqrt(prompts)) if prompts > 1 else float("nan")
            for name, values in errors.items()
        },
        "prompts": prompts,
        "samples": samples,
        "tokens": int(tokens.sum()),
    }


Turn = tuple[int, tuple[int, ...], tuple[int, ...]]


@torch.no_grad()
def divergences(model: Any, start_model: Any, turns: Sequence[Turn]) -> Iterator[tuple[int, float, int]]:
    """For each (scenario, prompt ids, reply ids): scenario, KL summed over the reply, and the reply's length."""
    device = model.device
    todo = sorted(turns, key=lambda turn: len(turn[1]) + len(turn[2]), reverse=True)
    while todo:
        longest = max(len(reply) for _, _, reply in todo)
        count = max(1, PASS_LOGITS // (model.config.vocab_size * (longest + 1)))
        part, todo = todo[:count], todo[count:]
        width = max(len(prompt) + len(reply) for _, prompt, reply in part)
        ids = torch.zeros(len(part), width, dtype=torch.long)
        attention = torch.zeros_like(ids)
        for i, (_, prompt, reply) in enumerate(part):  # padded on the left: replies end in the last column
            row = torch.tensor(prompt + reply)
            ids[i, -len(row) :] = row
            attention[i, -len(row) :] = 1
        inputs = {
            "input_ids": ids.to(device),
            "attention_mask": attention.to(device),
            "position_ids": (attention.cumsum(1) - 1).clamp(min=0).to(device),
            "logits_to_keep": max(len(reply) for _, _, reply in part) + 1,
            "use_cache": False,
        }
        logp_RCV, logq_RCV = (m(**inputs).logits[:, :-1].float().log_softmax(-1) for m in (model, start_model))
        kl_RC = (logp_RCV.exp() * (logp_RCV - logq_RCV)).sum(-1).double()
        for i, (scenario, _, reply) in enumerate(part):
            yield scenario, float(kl_RC[i, -len(reply) :].sum()), len(reply)
