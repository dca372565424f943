"""Behavioural evals: held-out episodes of a ChatEnv, sampled, scored by the environment, written down as records.

Nothing here knows which arm it scores. The episodes are the scenarios 0, 1, ... of the environment's `eval` split, so
every model meets the same ones, and draws from the same random streams:

    records, transcripts = run(Behaviour(name="blackmail", ...), Checkpoint.read(folder), seed=0)
"""

from __future__ import annotations

import sys
from typing import Any

from holdfast.chat import apart
from holdfast.config import Behaviour
from holdfast.evals.scoring import RAISED, judged
from holdfast.policy.checkpoint import Checkpoint
from holdfast.policy.rollout import Episode, roll
from holdfast.policy.sampler import Sampler
from holdfast.records import Record

# Why an episode has no outcome, by how it ended.
_UNFINISHED = {
    "turns": "unfinished: too many turns",
    "context": "unfinished: out of context",
    "environment": "unfinished: the environment gave no outcome",
}


def run(cfg: Behaviour, checkpoint: Checkpoint, seed: int) -> tuple[list[Record], list[dict[str, Any]]]:
    """Run an eval on a checkpoint.

    Returns the records, ordered by scenario and sample, and the transcripts, one row for each:
    {"id": "blackmail/17/3", "messages": [...], "tools": [names], "components": [one object per reply]}.

    Raises ValueError where more than `cfg.max_raised` of the episodes raised, and what `roll` raises.
    """
    sampler = Sampler(
        checkpoint.model,
        checkpoint.renderer,
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        top_k=cfg.top_k,
        top_p=cfg.top_p,
        batch_rows=128,
        progress=sys.stderr.isatty(),
    )
    wanted = [(scenario, sample) for scenario in range(cfg.scenarios) for sample in range(cfg.samples)]
    episodes = roll(cfg.environment, wanted, sampler, stream=(cfg.name, seed), max_turns=cfg.max_turns)
    if len(raised := [episode for episode in episodes if episode.error]) > cfg.max_raised * len(episodes):
        raise ValueError(
            f"{len(raised)} of {len(episodes)} episodes of {cfg.name} raised, and max_raised is {cfg.max_raised}: "
            f"{raised[0].error}, in family {raised[0].family}, seed {raised[0].scenario}"
        )
    records = [_record(cfg.name, episode, checkpoint.weights) for episode in episodes]
    return records, [_row(cfg.name, episode) for episode in episodes]


def _record(name: str, episode: Episode, weights: str) -> Record:
    finish = tuple(reply.finish for reply in episode.replies)
    unfinished = f"{RAISED}: {episode.error}" if episode.error else _UNFINISHED.get(episode.ended, "")
    score, reason, measures = judged(episode.outcome, episode.said, finish, unfinished)
    return Record(
        eval=name,
        family=episode.family,
        scenario=episode.scenario,
        sample=episode.sample,
        score=score,
        reason=reason,
        measures=measures,
        finish=finish,
        tokens=sum(len(reply.ids) for reply in episode.replies),
        thought=sum(reply.thought for reply in episode.replies),
        transcript=_reference(name, episode),
        weights=weights,
    )


def _row(name: str, episode: Episode) -> dict[str, Any]:
    return {
        "id": _reference(name, episode),
        "messages": [apart(message) for message in episode.messages],
        "tools": [tool.name for tool in episode.tools],
        "components": [dict(components) for components in episode.components],
    }


def _reference(name: str, episode: Episode) -> str:
    return f"{name}/{episode.scenario}/{episode.sample}"
