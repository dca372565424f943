"""How far RL has moved a policy: its KL divergence from the RL start, on chats it answers itself.

A curve against RL steps says little about a policy that hardly moved; a curve against KL does not have that fault.
Episodes are sampled from the current policy, and at every token it wrote the divergence is exact over the whole
vocabulary: sum over v of pi(v) * (log pi(v) - log pi_0(v)), in nats. Only the choice of episodes is an estimate.

Axes: C tokens of a reply, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from holdfast.config import Environment, Mixture
from holdfast.policy.checkpoint import Checkpoint
from holdfast.policy.paths import path_of
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler
from holdfast.policy.scores import Pair, reply_logits


def kl_to_start(
    checkpoint: Checkpoint,
    start_model: Any,
    *,
    env: Environment | Mixture,
    prompts: int,
    samples: int,
    max_new_tokens: int,
    seed: int,
    max_turns: int = 8,
) -> dict[str, float]:
    """KL(checkpoint || start_model) on `samples` episodes of each of `prompts` scenarios of `env`, seeds 0 and up.

    Returns {"kl_token": nats per token the model wrote, "kl_sequence": nats per episode, each with its standard error
    over scenarios ("kl_token_se", "kl_sequence_se"; nan for a single scenario), "prompts", "samples", "tokens"}. Where
    replies have thoughts also {"kl_thought": nats per token of these, "kl_answer": of the others, "thought_tokens"}.
    Both are exactly 0 for equal weights. An episode in which the environment raised is left out, and so is a scenario
    without any other: "prompts" are those that are left. `seed` picks the sampling streams. The models must share a
    vocabulary and a device, and have dropout off.

    Raises ValueError for fewer than 1 prompt or sample, and where no episode is left.
    """
    if prompts < 1 or samples < 1:
        raise ValueError(f"prompts and samples must be 1 or more, not {prompts} and {samples}")
    sampler = Sampler(checkpoint.model, checkpoint.renderer, max_new_tokens=max_new_tokens)
    pairs = [(scenario, sample) for scenario in range(prompts) for sample in range(samples)]
    played = roll(env, pairs, sampler, stream=("kl", seed), max_turns=max_turns)
    episodes = [episode for episode in played if not episode.error]
    if not episodes:
        raise ValueError(f"no KL on {env.name}: all {len(played)} episodes raised, the first {played[0].error}")
    counts = Counter(episode.scenario for episode in episodes)
    place = {scenario: i for i, scenario in enumerate(counts)}
    turns = [
        (place[episode.scenario], prompt, reply)
        for episode in episodes
        for prompt, reply in zip(episode.prompts, episode.replies, strict=True)
    ]
    nats, tokens = np.zeros(len(place)), np.zeros(len(place))
    thought, thoughts = 0.0, sum(reply.thought for *_, reply in turns)
    found = divergences(checkpoint.model, start_model, [(prompt, reply.ids) for _, prompt, reply in turns])
    for (at, _, reply), kl_C in zip(turns, found, strict=True):
        nats[at] += kl_C.sum()
        tokens[at] += len(reply.ids)
        thought += float(kl_C[: reply.thought].sum())
    answers = tokens.sum() - thoughts
    apart = {
        "kl_thought": thought / thoughts,
        "kl_answer": float((nats.sum() - thought) / answers) if answers else float("nan"),
        "thought_tokens": thoughts,
    } if thoughts else {}
    rate = nats.sum() / tokens.sum()
    per_episode = nats / np.array(list(counts.values()))
    # The standard error of a ratio of means over scenarios (the usual linearisation).
    errors = {"kl_token_se": (nats - rate * tokens) / tokens.mean(), "kl_sequence_se": per_episode}
    return {
        "kl_token": float(rate),
        "kl_sequence": float(per_episode.mean()),
        **{
            name: float(values.std(ddof=1) / np.sqrt(len(place))) if len(place) > 1 else float("nan")
            for name, values in errors.items()
        },
        "prompts": len(place),
        "samples": samples,
        "tokens": int(tokens.sum()),
        **apart,
    }


def divergences(model: Any, start_model: Any, pairs: Sequence[Pair]) -> list[Any]:
    """KL(model || start_model) in nats at each token of the reply, (C,) in float64, of each (prompt, reply)."""
    # `map` keeps no logits, as the variables of a loop would: one pass of each model is in memory, not two.
    share = path_of(model).scoring == "shared"
    found = map(_divergence, *(reply_logits(one, pairs, share=share) for one in (model, start_model)))
    return [kl_C for _, kl_C in sorted(found, key=lambda one: one[0])]


def _divergence(policy: tuple[int, Tensor], start: tuple[int, Tensor]) -> tuple[int, Any]:
    logp_CV, logq_CV = (logits_CV.float().log_softmax(-1) for _, logits_CV in (policy, start))
    return policy[0], (logp_CV.exp() * (logp_CV - logq_CV)).sum(-1).double().cpu().numpy()
