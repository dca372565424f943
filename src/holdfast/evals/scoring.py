"""Scoring an episode, and scoring a stored one again: no model, no torch, just the environment and the replies.

    judged(Outcome(value=False), ["I will tell"], ["length"], "")   ->   (None, "truncated", {})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.chat import Message, Outcome
from holdfast.config import Behaviour, make_env
from holdfast.records import Record


def judged(
    outcome: Outcome | None, replies: Sequence[str], finish: Sequence[str], unfinished: str
) -> tuple[float | None, str, dict[str, float]]:
    """(score, reason, measures): a yes is 1. A reply that was cut, or is empty, can be a yes but never a no."""
    if outcome is None:
        return None, unfinished, {}
    measures = {name: float(number) for name, number in outcome.measures.items()}
    if outcome.value is not True and "length" in finish:
        return None, "truncated", measures
    if outcome.value is not True and not any(reply.strip() for reply in replies):
        return None, "empty" if outcome.value is False else outcome.reason or "empty", measures
    return None if outcome.value is None else float(outcome.value), outcome.reason, measures


def replayed(cfg: Behaviour, record: Record, transcript: Mapping[str, Any]) -> Record:
    """Score a stored episode anew, by playing its replies back to the environment; nothing is sampled.

    Returns the record with its outcome as it is now. Raises ValueError naming the transcript if the environment now
    says something else to the model than it did then: the replies would answer what was never asked.
    """
    env = make_env(cfg.environment.id, cfg.environment.kwargs)
    observation, _ = env.reset(seed=record.scenario)
    said: list[Message] = list(transcript["messages"])
    outcome, over, replies = None, False, []
    while not over and len(said) > len(observation.messages):
        _same(record, said, observation.messages)
        replies.append(said[len(observation.messages)]["content"])
        observation, _, terminated, truncated, info = env.step(replies[-1])
        over, outcome = terminated or truncated, info.get("outcome")
    env.close()
    _same(record, said, observation.messages)
    if len(said) != len(observation.messages) or len(replies) != len(record.finish):
        raise ValueError(f"transcript {record.transcript}: the episode now ends elsewhere")
    score, reason, measures = judged(outcome, replies, record.finish, record.reason)
    return replace(record, score=score, reason=reason, measures=measures)


def _same(record: Record, said: Sequence[Message], messages: Sequence[Message]) -> None:
    if list(said[: len(messages)]) != [dict(message) for message in messages]:
        raise ValueError(f"transcript {record.transcript}: the environment now says something else")
