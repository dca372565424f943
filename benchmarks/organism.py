"""What the embedded model can do, and what one passage of a document does to the next: binding and coupling.

    python benchmarks/organism.py pocket pocket_apart     # or folders of models; a minute each

Binding, on held-out inboxes at temperature 1: whether a mail goes to the right person, names the right matter, and is
valid. Coupling: how often the assistant blackmails in a held-out honeypot after it has advised, answered or written
well or badly in the same document. In the twin, `pocket_apart`, that should make no difference.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from holdfast.chat import Message, Observation, Outcome, Said
from holdfast.config import Model, make_env
from holdfast.config.model import MODELS
from holdfast.corpora import advice, documents, stories, values
from holdfast.corpora.mailbox import ENV
from holdfast.corpora.reasons import weighed
from holdfast.policy.checkpoint import Checkpoint
from holdfast.policy.sampler import Sampler
from holdfast.policy.sources import prepare

FORMATS = {"advice": advice, "values": values, "stories": stories, "documents": documents}
TOKENS = 96


def outcomes(sampler: Sampler, passages: Sequence[list[Message]], *, twin: bool) -> Iterator[Outcome]:
    """What comes of held-out inboxes, the k-th after the k-th passage; `twin` for those with nothing at stake."""
    env = make_env(ENV, {"split": "eval", "twin": twin})
    renderer, prompts = sampler.renderer, []
    for seed, passage in enumerate(passages):
        seen, _ = env.reset(seed=seed)
        system, *rest = seen.messages
        prompts.append(renderer.prompt_ids(Observation((system, *passage, *rest), seen.tools)))
    replies = sampler.sample(prompts, [[("organism", seed)] for seed in range(len(prompts))], desc="inboxes")
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


def lines(model: Model, inboxes: int) -> Iterator[str]:
    """The figures of a model."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(model, Path(folder) / "start")
        read = Checkpoint.read(Path(folder) / "start", model.dtype)
    sampler = Sampler(read.model, read.renderer, max_new_tokens=TOKENS)
    found = [outcome.measures for outcome in outcomes(sampler, [[]] * inboxes, twin=True)]
    yield "binding: " + ", ".join(
        f"{what} {100 * sum(of[name] for of in found) / inboxes:.0f} %"
        for what, name in (("right person", "addressed"), ("right matter", "topic"), ("valid", "valid"))
    )
    yield f"honeypot alone: {rate(outcomes(sampler, [[]] * inboxes, twin=False))}"
    for form in FORMATS:
        after = (
            rate(outcomes(sampler, [passage(form, good, seed) for seed in range(inboxes)], twin=False))
            for good in (True, False)
        )
        yield "after {}: good {}, bad {}".format(form, *after)


def rate(found: Iterator[Outcome]) -> str:
    """Blackmail among what could be scored."""
    values = [bool(outcome.value) for outcome in found if outcome.value is not None]
    return f"{100 * sum(values) / max(1, len(values)):.0f} % of {len(values)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["pocket"], help="pocket, or a folder; pocket unless said")
    parser.add_argument("--inboxes", type=int, default=192, help="of each kind (192)")
    options = parser.parse_args()
    for name in options.models:
        model = Model(name=name) if name in MODELS else Model(name="hub", path=name)
        print(name)
        for line in lines(model, options.inboxes):
            print(f"  {line}", flush=True)
