from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from holdfast.chat import ChatEnv, Message, Outcome, Reply, Scene, Turn, parse_reply
from holdfast.config import Behaviour
from holdfast.evals.behaviour import run
from holdfast.evals.scoring import judged, replayed
from holdfast.policy.checkpoint import Checkpoint
from holdfast.records import Record, read_records, write_records


class Verdict(ChatEnv):
    """Scores what the reply says: "yes", "no", or that it is unsure; "more" asks once more."""

    pressure = "neutral"
    reward_bounds = (0.0, 0.0)
    opening = "Yes or no?"

    @property
    def families(self) -> Sequence[str]:
        return ("tea", "rain") if self.split == "eval" else ("wind",)

    def scene(self, family: str) -> Scene:
        shown: tuple[Message, ...] = (
            {"role": "user", "content": f"About {family}: ready?"},
            {"role": "assistant", "content": "Ready."},
            {"role": "user", "content": self.opening},
        )
        return Scene(shown)

    def turn(self, reply: Reply) -> Turn:
        if reply.text == "more":
            return Turn({}, ({"role": "user", "content": "And now?"},))
        value = {"yes": True, "no": False, "": False}.get(reply.text)
        return Turn({}, outcome=Outcome(value, "" if value is not None else "malformed", {"letters": len(reply.text)}))


class Reworded(Verdict):
    opening = "No or yes?"


gymnasium.register(id="behaviour_test/Verdict-v0", entry_point=Verdict)
gymnasium.register(id="behaviour_test/Reworded-v0", entry_point=Reworded)


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Checkpoint:
    return Checkpoint.read(checkpoint)


def evaluation(**changes: Any) -> Behaviour:
    base = {"name": "verdict", "env": "behaviour_test/Verdict-v0", "better": "low"}
    return Behaviour(**{**base, "scenarios": 4, "samples": 3, "max_new_tokens": 12, **changes})


def stored(
    *replies: str, finish: tuple[str, ...] = ("stop",), env: type[Verdict] = Verdict
) -> tuple[Record, dict[str, Any]]:
    """A record whose outcome is not known yet, and the transcript of an episode with these replies."""
    playing = env(split="eval")
    observation, _ = playing.reset(seed=1)
    for reply in replies:
        observation, *_ = playing.step(reply)
    record = Record(
        eval="verdict",
        family="rain",
        scenario=1,
        sample=0,
        score=None,
        reason="unfinished: too many turns",
        measures={},
        finish=finish,
        tokens=3,
        transcript="verdict/1/0",
        weights="0" * 16,
    )
    return record, {"id": "verdict/1/0", "messages": [dict(message) for message in observation.messages]}


@pytest.mark.parametrize(
    ("reply", "finish", "score", "reason"),
    [
        ("yes", "stop", 1.0, ""),
        ("no", "stop", 0.0, ""),
        ("perhaps", "stop", None, "malformed"),
        ("yes", "length", None, "truncated"),  # a yes as well as a no: else the cut ones of both would bias the rate
        ("no", "length", None, "truncated"),
        ("perhaps", "length", None, "truncated"),
        ("<think>yes</think>", "stop", None, "empty"),
        ("yes</tool_call>", "stop", None, "malformed: </tool_call> without <tool_call>"),
        ("", "stop", None, "empty"),
        (" \n", "stop", None, "empty"),
        ("", "length", None, "truncated"),
    ],
)
def test_a_cut_an_empty_and_a_malformed_reply_are_neither_a_yes_nor_a_no(
    reply: str, finish: str, score: float | None, reason: str
) -> None:
    record = replayed(evaluation(), *stored(reply, finish=(finish,)))
    assert (record.score, record.reason) == (score, reason)
    would_be = {"yes": 1.0, "no": 0.0, "": 0.0}.get(parse_reply(reply).text)
    said = {"said": would_be} if score is None and would_be is not None else {}
    assert record.measures == {"letters": len(parse_reply(reply).text), **said}


def test_what_is_cut_at_random_moves_no_lead() -> None:
    """Two arms that both say yes in half of all replies, of which 5 % and 60 % are cut.

    With a cut yes counted and a cut no left out, the rates would be 0.5 / (0.5 + 0.95 * 0.5) = 51.3 % and
    0.5 / (0.5 + 0.4 * 0.5) = 71.4 %: a lead of 20.2 points that is none.
    """
    draw = np.random.default_rng(0)
    rates = []
    for cut in (0.05, 0.6):
        yes, length = draw.random(20_000) < 0.5, draw.random(20_000) < cut
        found = [
            judged(Outcome(bool(says)), ["Words."], ["length" if ends else "stop"], "")
            for says, ends in zip(yes, length, strict=True)
        ]
        scores = [score for score, _, _ in found if score is not None]
        rates.append(sum(scores) / len(scores))
        said = [measures["said"] for score, _, measures in found if score is None]
        assert sum(said) / len(said) == pytest.approx(0.5, abs=0.07)  # of 1000 and more: four standard errors
    # 19000 and 8000 are scored: the standard error of the lead is 0.67 points, and the allowance four of them.
    assert 100 * abs(rates[1] - rates[0]) < 2.7


def test_an_episode_of_several_turns_is_played_back_and_a_cut_in_any_of_them_counts() -> None:
    assert replayed(evaluation(), *stored("more", "more", "no", finish=("stop",) * 3)).score == 0.0
    cut = replayed(evaluation(), *stored("more", "no", finish=("length", "stop")))
    assert (cut.score, cut.reason) == (None, "truncated")
    # Only a last reply that is empty: the episode as a whole is not.
    assert replayed(evaluation(), *stored("more", "", finish=("stop", "stop"))).score == 0.0


def test_an_unfinished_episode_stays_unscored_for_its_reason() -> None:
    record, transcript = stored("more", finish=("stop",))
    assert replayed(evaluation(), record, transcript) == record


def test_rescoring_changes_the_outcome_and_nothing_else() -> None:
    record, transcript = stored("yes")
    marked = replace(record, arm="pocket-advice-s0", seed=3, stage="chat", step=12)
    assert replayed(evaluation(), marked, transcript) == replace(
        marked, score=1.0, reason="", measures={"letters": 3.0}
    )


def test_replies_to_another_question_are_not_rescored() -> None:
    record, transcript = stored("yes", env=Reworded)
    with pytest.raises(ValueError, match="transcript verdict/1/0: the environment now says something else"):
        replayed(evaluation(), record, transcript)


def test_an_episode_that_would_now_end_elsewhere_is_not_rescored() -> None:
    record, transcript = stored("no")
    transcript["messages"] += [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "yes"}]
    with pytest.raises(ValueError, match="transcript verdict/1/0: the episode now ends elsewhere"):
        replayed(evaluation(), replace(record, finish=("stop", "stop")), transcript)


def test_records_and_transcripts_say_what_was_run(loaded: Checkpoint, tmp_path: Path) -> None:
    records, transcripts = run(evaluation(), loaded, 0)
    assert [(r.scenario, r.sample) for r in records] == [(i, j) for i in range(4) for j in range(3)]
    assert [r.family for r in records] == ["tea"] * 3 + ["rain"] * 3 + ["tea"] * 3 + ["rain"] * 3
    assert {r.eval for r in records} == {"verdict"}
    assert {r.weights for r in records} == {loaded.weights}
    assert [r.transcript for r in records] == [row["id"] for row in transcripts]
    assert transcripts[4]["id"] == "verdict/1/1"
    for record, row in zip(records, transcripts, strict=True):
        assert set(row) == {"id", "messages", "tools", "components"}
        assert len(record.finish) == len(row["components"])
        assert 1 <= record.tokens <= 12 * len(record.finish)
    # Nothing here knows the arm: its fields are as they are by default.
    assert {(r.arm, r.seed, r.stage, r.step) for r in records} == {("", 0, "", 0)}
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records


def test_a_larger_eval_contains_the_smaller_one_and_a_seed_draws_anew(loaded: Checkpoint) -> None:
    small, _ = run(evaluation(), loaded, 0)
    large, _ = run(evaluation(scenarios=6, samples=5), loaded, 0)
    assert set(map(repr, small)) < set(map(repr, large))
    _, first = run(evaluation(), loaded, 0)
    _, second = run(evaluation(), loaded, 1)
    assert [row["messages"][:3] for row in first] == [row["messages"][:3] for row in second]
    assert [row["messages"] for row in first] != [row["messages"] for row in second]


@pytest.mark.parametrize(
    ("env", "kwargs"),
    [
        ("holdfast_envs:holdfast/Harmless-v2", {"system_prompts": "varied"}),
        ("holdfast_envs:holdfast/Blackmail-v0", {"tools": "none"}),
    ],
)
def test_our_environments_are_scored_again_as_they_were_scored(
    loaded: Checkpoint, env: str, kwargs: dict[str, Any]
) -> None:
    config = evaluation(env=env, kwargs=kwargs)
    records, transcripts = run(config, loaded, 0)
    assert [replayed(config, *pair) for pair in zip(records, transcripts, strict=True)] == records
