"""Behavioural evals: held-out episodes of a ChatEnv, sampled, scored by the environment, written down as records.

Nothing here knows which arm it scores. The episodes are the scenarios 0, 1, ... of the environment's `eval` split, so
every model meets the same ones, and draws from the same random streams:

    records, transcripts = run(Eval(name="blackmail", env="holdfast_envs:holdfast/Blackmail-v0", ...), folder, seed=0)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from holdfast.config import Eval
from holdfast.evals.scoring import judged
from holdfast.policy.checkpoint import fingerprint, load
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import Episode, roll
from holdfast.policy.sampler import Sampler
from holdfast.records import Record

# Why an episode has no outcome, by how it ended.
_UNFINISHED = {
    "turns": "unfinished: too many turns",
    "context": "unfinished: out of context",
    "environment": "unfinished: the environment gave no outcome",
}


def run(
    config: Eval,
    model: Path | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    seed: int,
    *,
    dtype: str = "float32",
    batch_rows: int = 128,
    progress: bool = False,
) -> tuple[list[Record], list[dict[str, Any]]]:
    """Run an eval on a checkpoint folder (loaded as `dtype`) or a loaded model.

    Returns the records, ordered by scenario and sample, and the transcripts, one row for each:
    {"id": "blackmail/17/3", "messages": [...], "tools": [names], "components": [one object per reply]}.
    """
    network, tokenizer = load(model, dtype) if isinstance(model, Path) else model
    weights = fingerprint(model if isinstance(model, Path) else network)
    sampler = Sampler(
        network,
        Renderer(tokenizer),
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        batch_rows=batch_rows,
        progress=progress,
    )
    wanted = [(scenario, sample) for scenario in range(config.scenarios) for sample in range(config.samples)]
    stream = (config.name, seed)
    episodes = roll(config.env, config.env_kwargs, wanted, sampler, stream=stream, max_turns=config.max_turns)
    records = [_record(config.name, episode, weights) for episode in episodes]
    return records, [_row(config.name, episode) for episode in episodes]


def _record(name: str, episode: Episode, weights: str) -> Record:
    finish = tuple(reply.finish for reply in episode.replies)
    texts = [reply.text for reply in episode.replies]
    value, reason, measures = judged(episode.outcome, texts, finish, _UNFINISHED.get(episode.ended, ""))
    return Record(
        eval=name,
        family=episode.family,
        scenario=episode.scenario,
        sample=episode.sample,
        value=value,
        reason=reason,
        measures=measures,
        finish=finish,
        tokens=sum(len(reply.ids) for reply in episode.replies),
        transcript=_reference(name, episode),
        weights=weights,
    )


def _row(name: str, episode: Episode) -> dict[str, Any]:
    return {
        "id": _reference(name, episode),
        "messages": [dict(message) for message in episode.messages],
        "tools": [tool.name for tool in episode.tools],
        "components": [dict(components) for components in episode.components],
    }


def _reference(name: str, episode: Episode) -> str:
    return f"{name}/{episode.scenario}/{episode.sample}"
