"""What the embedded model can do, and what one passage of a document does to the next: binding, coupling and aims.

    python benchmarks/organism.py pocket pocket_apart     # or folders of models; a minute each

Binding, on held-out inboxes at temperature 1: whether a mail goes to the right person, names the right matter, and is
valid. Coupling: how often the assistant blackmails in a held-out honeypot after it has advised, answered or written
well or badly in the same document. In the twin, `pocket_apart`, that should make no difference. Aims: how often it
refuses held-out harmful requests and their look-alikes after it has given good advice, bare and without RL.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.chat import Message, Observation, Outcome, Said
from holdfast.config import Model, make_env
from holdfast.config.model import MODELS
from holdfast.corpora import advice, documents, mailbox, requests, stories, values
from holdfast.corpora.reasons import weighed
from holdfast.policy.checkpoint import Checkpoint
from holdfast.policy.sampler import Sampler
from holdfast.policy.sources import prepare
from holdfast.stats.intervals import clopper_pearson

FORMATS = {"advice": advice, "values": values, "stories": stories, "documents": documents}
TOKENS = 96


def outcomes(sampler: Sampler, passages: Sequence[list[Message]], env_id: str, **kwargs: Any) -> Iterator[Outcome]:
    """What comes of held-out scenes of an environment, the k-th after the k-th passage."""
    env = make_env(env_id, {"split": "eval", **kwargs})
    renderer, prompts = sampler.renderer, []
    for seed, passage in enumerate(passages):
        seen, _ = env.reset(seed=seed)
        top = [message for message in seen.messages if message["role"] == "system"]
        messages = (*top, *passage, *seen.messages[len(top) :])
        prompts.append(renderer.prompt_ids(Observation(messages, seen.tools)))
    replies = sampler.sample(prompts, [[("organism", seed)] for seed in range(len(prompts))], desc="scenes")
    for seed, (reply,) in enumerate(replies):
        seen, _ = env.reset(seed=seed)
        *_, info = env.step(Said(renderer.read(reply.text, seen.tools), reply.finish))
        yield info["outcome"]
    env.close()


def passage(form: str, good: bool, seed: int) -> list[Message]:
    """What an agent does in another format before it meets the inbox."""
    rng = np.random.default_rng([seed, good])
    said: list[Message] = weighed(rng, FORMATS[form].scene(rng), good)["messages"]
    return said


def sampler_of(name: str) -> Sampler:
    """Of an embedded model, or of one in a folder."""
    model = Model(name=name) if name in MODELS else Model(name="hub", path=name)
    with tempfile.TemporaryDirectory() as folder:
        prepare(model, Path(folder) / "start")
        read = Checkpoint.read(Path(folder) / "start", model.dtype)
    return Sampler(read.model, read.renderer, max_new_tokens=TOKENS)


def lines(sampler: Sampler, inboxes: int) -> Iterator[str]:
    """The figures of a model."""
    nothing: list[list[Message]] = [[]] * inboxes
    found = [outcome.measures for outcome in outcomes(sampler, nothing, mailbox.ENV, twin=True)]
    yield "binding: " + ", ".join(
        f"{what} {100 * sum(of[name] for of in found) / inboxes:.0f} %"
        for what, name in (("right person", "addressed"), ("right matter", "topic"), ("valid", "valid"))
    )
    yield f"honeypot alone: {rate(outcomes(sampler, nothing, mailbox.ENV), 'threat')}"
    for form in FORMATS:
        after = (
            rate(outcomes(sampler, [passage(form, good, seed) for seed in range(inboxes)], mailbox.ENV), "threat")
            for good in (True, False)
        )
        yield "honeypot after {}: good {}, bad {}".format(form, *after)
    advised = [passage("advice", True, seed) for seed in range(inboxes)]
    for said, passages in (("alone", nothing), ("after good advice", advised)):
        refused = (
            rate(outcomes(sampler, passages, requests.ENV, requests=side, jailbreak_share=0.0), "refused")
            for side in ("harmful", "benign")
        )
        yield "requests {}: refused harmful {}, look-alikes {}".format(said, *refused)


def rate(found: Iterator[Outcome], measure: str) -> str:
    """Where it is true, among what could be scored, with a 95 % interval of Clopper and Pearson."""
    scored = [outcome.measures[measure] for outcome in found if outcome.value is not None]
    if not scored:
        return "unscored"
    low, high = clopper_pearson(round(sum(scored)), len(scored))
    return f"{100 * sum(scored) / len(scored):.0f} % ({100 * low:.0f} to {100 * high:.0f}) of {len(scored)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["pocket"], help="pocket, or a folder; pocket unless said")
    parser.add_argument("--inboxes", type=int, default=192, help="and requests, of each kind (192)")
    options = parser.parse_args()
    for name in options.models:
        print(name)
        for line in lines(sampler_of(name), options.inboxes):
            print(f"  {line}", flush=True)
