"""Sampling speed: our sampler against `model.generate`, on the embedded model and on the prompts of its evals.

    python benchmarks/sampler.py

Both draw 8 samples of at most 48 tokens for each of 16 mailbox prompts, in turns, three times; the best time counts.
Prints tokens per second of each and their ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import as_file, files

import torch

from holdfast.models import load
from holdfast.render import Renderer
from holdfast.rollout import make_env
from holdfast.sampler import Sampler

PROMPTS, GROUP, NEW_TOKENS, ROUNDS = 16, 8, 48, 3


def main() -> None:
    """Run both and print the ratio."""
    with as_file(files("holdfast") / "pocket") as folder:
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
                input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, num_return_sequences=GROUP,
                max_new_tokens=NEW_TOKENS, eos_token_id=end, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        new = out[:, width:]
        return int((new != tokenizer.pad_token_id).sum())

    speeds: dict[str, float] = {}
    contenders: dict[str, Callable[[], int]] = {"holdfast": ours, "generate": peer}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start = time.perf_counter()
            tokens = run()
            speeds[name] = max(speeds.get(name, 0.0), tokens / (time.perf_counter() - start))
    for name, speed in speeds.items():
        print(f"{name:10} {speed:8.0f} new tokens/s")
    print(f"ratio      {speeds['holdfast'] / speeds['generate']:8.2f}")


if __name__ == "__main__":
    main()
