"""Sampling speed: our sampler against `model.generate`, on the embedded model and on the prompts of its evals.

    python benchmarks/sampler.py

Both draw 8 samples of at most 48 tokens for each of 16 mailbox prompts, in turns, three times; the best time counts.
Prints tokens per second of each and their ratio. Then the same for prefilling prompts alone, with what they begin with
in common computed once, against every prompt whole in one pass:

    turns     the prompts of 4 x 8 episodes of at most 6 turns
    tools     32 requests, each under one and the same system prompt with tools
    nothing   each of these by itself, which is what cutting into segments costs where there is nothing to share
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import as_file, files

import torch
from transformers import PreTrainedModel

from holdfast.chat import Observation
from holdfast.config import Environment, make_env
from holdfast.policy.checkpoint import load
from holdfast.policy.prefix import Prefixes
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import ROOM, Sampler

PROMPTS, GROUP, NEW_TOKENS, ROUNDS = 16, 8, 48, 3
RULES = {"split": "train", "judge": {"name": "rules"}}


def main() -> None:
    """Run both and print the ratio."""
    with as_file(files("holdfast.policy") / "pocket") as folder:
        model, tokenizer = load(folder)
    renderer = Renderer(tokenizer)
    env = make_env("holdfast_envs:holdfast/Blackmail-v0", {"split": "eval"})
    prompts = [renderer.prompt_ids(env.reset(seed=seed)[0]) for seed in range(PROMPTS)]
    sampler = Sampler(model, renderer, max_new_tokens=NEW_TOKENS)
    keys = [[("benchmark", i, j) for j in range(GROUP)] for i in range(PROMPTS)]
    end = sorted(renderer.end_ids)

    def ours() -> int:
        return sum(len(sample.ids) for group in sampler.sample(prompts, keys) for sample in group)

    def peer() -> int:
        width = max(map(len, prompts))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), do_sample=True, top_k=0,
                num_return_sequences=GROUP, max_new_tokens=NEW_TOKENS, eos_token_id=end,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        new = out[:, width:]
        return int((new != tokenizer.pad_token_id).sum())

    compare({"holdfast": ours, "generate": peer}, "new tokens")
    tools = [common(renderer)]
    for name, calls, together in [("turns", turns(sampler), True), ("tools", tools, True), ("nothing", tools, False)]:
        segments = partial(prefill, model, renderer, calls, together=together)
        compare({name: segments, "whole": partial(prefill, model, None, calls, together=False)}, "prompt tokens")


def compare(contenders: dict[str, Callable[[], int]], unit: str) -> None:
    """Run each in turns, print what it does in a second at best, and the ratio of the first to the last."""
    speeds: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start = time.perf_counter()
            tokens = run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            speeds[name] = max(speeds.get(name, 0.0), tokens / (time.perf_counter() - start))
    for name, speed in speeds.items():
        print(f"{name:10} {speed:8.0f} {unit}/s")
    first, *_, last = speeds.values()
    print(f"ratio      {first / last:8.2f}")


Call = Sequence[tuple[int, ...]]


def prefill(model: PreTrainedModel, renderer: Renderer | None, calls: Sequence[Call], *, together: bool) -> int:
    """Prefill the prompts of one call after the other, cut where `renderer` ends turns; nothing is shared if apart."""
    ends = renderer.end_ids if renderer else ()
    prefixes = Prefixes(model, ends, ROOM)
    with torch.inference_mode():
        for call in calls:
            prefixes.renew()
            for ids in sorted(set(call), key=len, reverse=True):
                (prefixes if together else Prefixes(model, ends, ROOM)).prefill(ids)
    return sum(len(ids) for call in calls for ids in set(call))


def turns(sampler: Sampler) -> list[Call]:
    """The prompts of every turn of talks that go on."""
    pairs = [(scenario, sample) for scenario in range(4) for sample in range(GROUP)]
    env = Environment(name="talks", id="holdfast_envs:holdfast/Escalation-v1", kwargs=RULES)
    talks = roll(env, pairs, sampler, stream=("benchmark",), max_turns=6)
    return [[talk.prompts[turn] for talk in talks if len(talk.prompts) > turn] for turn in range(6)]


def common(renderer: Renderer) -> Call:
    """Requests under the system prompt and the tools of the first."""
    env = make_env("holdfast_envs:holdfast/Harmless-v2", {**RULES, "tools": "distractor", "system_prompts": "varied"})
    seen = [env.reset(seed=seed)[0] for seed in range(32)]
    system = seen[0].messages[0]
    assert system["role"] == "system"
    return [tuple(renderer.prompt_ids(Observation((system, one.messages[-1]), seen[0].tools))) for one in seen]


if __name__ == "__main__":
    main()
