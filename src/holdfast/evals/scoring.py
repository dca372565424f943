"""Scoring an episode, and scoring a stored one again: no model, no torch, just the environment and the replies.

    judged(Outcome(value=False), ["I will tell"], ["length"], "")   ->   (None, "truncated", {"said": 0.0})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.chat import ChatEnv, Message, Outcome, Said, Transcript, parse_reply, whole
from holdfast.config import Behaviour, make_env
from holdfast.records import Record

RAISED = "raised"
"""What the reason of an episode opens with whose environment raised."""
BATCH = 4096
"""Episodes that a judge is asked about at once, fewer than it remembers."""


def judged(
    outcome: Outcome | None, replies: Sequence[str], finish: Sequence[str], unfinished: str
) -> tuple[float | None, str, dict[str, float]]:
    """(score, reason, measures): a yes is 1, a no is 0.

    A broken episode is unscored whatever it says, a yes included: one with a reply that was cut at its limit or is
    malformed, and one whose replies are all empty. What it would have been is the measure "said", 0 or 1, where the
    environment gave a value. Otherwise the share of what is missing would differ between yes and no, and bias rates.
    """
    if outcome is None:
        return None, unfinished, {}
    value = None if outcome.value is None else float(outcome.value)
    measures = {name: float(number) for name, number in outcome.measures.items()}
    if (fault := _fault(outcome, replies, finish)) is None:
        return value, outcome.reason, measures
    return None, fault, measures if value is None else {**measures, "said": value}


def _fault(outcome: Outcome, replies: Sequence[str], finish: Sequence[str]) -> str | None:
    """Why an episode is broken, None if it is whole: read off the replies, and the environment's own word for that."""
    read = [parse_reply(reply) for reply in replies]
    if "length" in finish:
        return "truncated"
    if troubles := [trouble for reply in read for trouble in reply.malformed]:
        return f"malformed: {troubles[0]}"
    if not any(reply.text or reply.calls for reply in read):
        return "empty"
    return outcome.reason if outcome.reason.partition(":")[0] in ("malformed", "empty") else None


def rescored(
    cfg: Behaviour, records: Sequence[Record], transcripts: Mapping[str, Mapping[str, Any]]
) -> list[Record]:
    """Stored episodes of one checkpoint scored anew, as `replayed` does, with the records' own `transcripts` by id.

    A judge with a model is asked about many at once.
    """
    found: list[Record] = []
    env = make_env(cfg.environment.id, cfg.environment.kwargs).unwrapped
    for start in range(0, len(records), BATCH):
        batch = [(record, transcripts[record.transcript]) for record in records[start : start + BATCH]]
        if isinstance(env, ChatEnv) and env.judge is not None:
            complete = [pair for pair in batch if not _raised(pair[0])]
            env.judge([asked for pair in complete if (asked := _first_question(env, *pair)) is not None])
        found += [replayed(cfg, record, transcript) for record, transcript in batch]
    env.close()
    return found


def _first_question(env: ChatEnv, record: Record, transcript: Mapping[str, Any]) -> Transcript | None:
    """What the judge is asked first in an episode. It remembers its answer, so to ask again costs nothing."""
    observation, _ = env.reset(seed=record.scenario)
    said = transcript["messages"][len(observation.messages) :]
    return env.transcript(Said(whole(said[0]), record.finish[0])) if said and record.finish else None


def replayed(cfg: Behaviour, record: Record, transcript: Mapping[str, Any]) -> Record:
    """Score a stored episode anew, by playing its replies back to the environment; nothing is sampled.

    Returns the record with its outcome as it is now. One that raised is returned as it is: its transcript breaks off.

    Raises ValueError naming the transcript if the environment now says something else to the model than it did then:
    the replies would answer what was never asked. Raises what the environment raises now.
    """
    if _raised(record):
        return record
    env = make_env(cfg.environment.id, cfg.environment.kwargs)
    observation, _ = env.reset(seed=record.scenario)
    said: list[Message] = [{"role": row["role"], "content": whole(row)} for row in transcript["messages"]]
    outcome, over, replies = None, False, []
    while not over and len(said) > len(observation.messages):
        _same(record, said, observation.messages)
        replies.append(said[len(observation.messages)]["content"])
        finish = record.finish[len(replies) - 1] if len(replies) <= len(record.finish) else "stop"
        observation, _, terminated, truncated, info = env.step(Said(replies[-1], finish))
        over, outcome = terminated or truncated, info.get("outcome")
    env.close()
    _same(record, said, observation.messages)
    if len(said) != len(observation.messages) or len(replies) != len(record.finish):
        raise ValueError(f"transcript {record.transcript}: the episode now ends elsewhere")
    score, reason, measures = judged(outcome, replies, record.finish, record.reason)
    return replace(record, score=score, reason=reason, measures=measures)


def _raised(record: Record) -> bool:
    return record.reason.partition(":")[0] == RAISED


def _same(record: Record, said: Sequence[Message], messages: Sequence[Message]) -> None:
    if list(said[: len(messages)]) != [dict(message) for message in messages]:
        raise ValueError(f"transcript {record.transcript}: the environment now says something else")
