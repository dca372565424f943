"""How much of a reward PPO's critic could know: what a linear head reads off the policy's hidden states.

    python benchmarks/critic.py pocket            # or folders of models; a minute each

Episodes of env=chat are played, and the best head is fitted to half of the prompts: by ridge regression, with the
whole half at hand, where PPO takes a step from each batch. Printed is the explained variance on these prompts, and on
the others, which is what a critic has to tell in RL.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from holdfast.config import Environment
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler
from organism import sampler_of

ENV = Environment(name="chat", id="holdfast_envs:holdfast/Harmless-v2", kwargs={"split": "train"})
GROUP = 8  # episodes to a prompt
RIDGES = (10.0, 100.0, 1000.0, 10_000.0)


def lines(sampler: Sampler, prompts: int) -> Iterator[str]:
    """The figures of a model."""
    model = sampler.model
    pairs = [(seed, sample) for seed in range(prompts) for sample in range(GROUP)]
    states, rewards, seeds = [], [], []
    for (seed, _), episode in zip(pairs, roll(ENV, pairs, sampler, stream=("critic",), max_turns=1), strict=True):
        ids = torch.tensor([[*episode.prompt_ids, *episode.completion_ids]], device=model.device)
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[-1][0]
        said = hidden[len(episode.prompt_ids) - 1 : -1].float().cpu().numpy()  # before each token of the reply
        states.append(said)
        rewards += [episode.reward] * len(said)
        seeds += [seed] * len(said)
    x, y, fitted = np.concatenate(states), np.array(rewards), np.array(seeds) % 2 == 0
    x = (x - x[fitted].mean(0)) / (x[fitted].std(0) + 1e-6)
    yield f"{len(pairs)} episodes of {prompts} prompts, reward {y.mean():.2f} with variance {y.var():.2f} a token"
    for ridge in RIDGES:
        own = x[fitted]
        head = np.linalg.solve(own.T @ own + ridge * np.eye(x.shape[1]), own.T @ (y[fitted] - y[fitted].mean()))
        on, off = (1 - (y - x @ head)[rows].var() / y[rows].var() for rows in (fitted, ~fitted))
        yield f"ridge {ridge:6g}: explained variance {on:.2f} on the prompts it was fitted to, {off:.2f} on others"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["pocket"], help="pocket, or a folder; pocket unless said")
    parser.add_argument("--prompts", type=int, default=128, help=f"each with {GROUP} replies (128)")
    options = parser.parse_args()
    for name in options.models:
        print(name)
        for line in lines(sampler_of(name), options.prompts):
            print(f"  {line}", flush=True)
