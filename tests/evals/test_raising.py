"""Environments that raise, in evals and in the KL: unscored with the reason, never a no."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.config import Behaviour, Environment, make_env
from holdfast.evals.behaviour import run
from holdfast.evals.divergence import divergences, kl_to_start
from holdfast.evals.scoring import replayed, rescored
from holdfast.policy.checkpoint import Checkpoint
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler
from holdfast.records import read_records, write_records
from raising import RAISING


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Checkpoint:
    return Checkpoint.read(checkpoint)


def evaluation(max_raised: float = 1.0, **kwargs: Any) -> Behaviour:
    sizes = {"scenarios": 6, "samples": 4, "max_new_tokens": 8}
    return Behaviour(name="letters", env=RAISING, better="high", kwargs=kwargs, max_raised=max_raised, **sizes)


def test_an_episode_that_raised_is_unscored_with_the_reason_and_the_others_are_as_they_were(
    loaded: Checkpoint, tmp_path: Path
) -> None:
    records, transcripts = run(evaluation(openings=["zzz"], every=4), loaded, 0)
    whole, all_of_them = run(evaluation(), loaded, 0)
    counts = {"opening": 0, "step": 0, "whole": 0}
    for record, row, other, full in zip(records, transcripts, whole, all_of_them, strict=True):
        said = full["messages"][-1]["content"]
        assert record.family == other.family
        if record.family == "zzz":
            counts["opening"] += 1
            reason = "raised: RuntimeError: no room for zzz"
            assert record == replace(other, score=None, reason=reason, measures={}, finish=(), tokens=0)
            assert row == {**full, "messages": [], "components": []}
        elif len(said) % 4 == 0:
            counts["step"] += 1
            reason = f"raised: RuntimeError: {len(said)} letters"
            assert record == replace(other, score=None, reason=reason, measures={})
            assert row == {**full, "components": [{}]}
        else:
            counts["whole"] += 1
            assert (record, row) == (other, full)
    assert all(counts.values())
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records


def test_more_of_it_than_the_limit_is_an_error_that_says_what(loaded: Checkpoint) -> None:
    run(evaluation(max_raised=8 / 24, openings=["zzz"]), loaded, 0)
    what = (
        r"^8 of 24 episodes of letters raised, and max_raised is 0\.3: RuntimeError: no room for zzz, "
        r"in family zzz, seed 2$"
    )
    with pytest.raises(ValueError, match=what):
        run(evaluation(max_raised=0.3, openings=["zzz"]), loaded, 0)
    with pytest.raises(ValueError, match=r"^max_raised must be 0 to 1, not -1$"):
        evaluation(max_raised=-1)


def test_a_limit_is_no_part_of_what_records_depend_on() -> None:
    assert evaluation(max_raised=0.3).identity == evaluation().identity


def test_what_raised_is_not_scored_again(loaded: Checkpoint) -> None:
    records, transcripts = run(evaluation(openings=["zzz"], every=4), loaded, 0)
    rows = {row["id"]: row for row in transcripts}
    mended = evaluation()
    for cfg in (evaluation(openings=["zzz"], every=4), mended):
        assert rescored(cfg, records, rows) == records
        assert [replayed(cfg, record, rows[record.transcript]) for record in records] == records


class Ear:
    """A judge that counts what it is asked."""

    label, sources, revisions = "ear", (), {}  # type: ignore[var-annotated]

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, transcripts: Any) -> list[str]:
        self.asked += len(transcripts)
        return ["neither"] * len(transcripts)


def test_no_judge_is_asked_about_what_raised(loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = evaluation(openings=["zzz"])
    records, transcripts = run(cfg, loaded, 0)
    ear = Ear()
    monkeypatch.setattr(type(make_env(RAISING, {}).unwrapped), "judge", ear)
    assert rescored(cfg, records, {row["id"]: row for row in transcripts}) == records
    assert ear.asked == 16


def kl(loaded: Checkpoint, start: Any, prompts: int = 6, **kwargs: Any) -> dict[str, float]:
    env = Environment(name="letters", id=RAISING, kwargs=kwargs)
    return kl_to_start(loaded, start, env=env, prompts=prompts, samples=4, max_new_tokens=8, seed=0)


@pytest.fixture(scope="module")
def start(checkpoint: Path) -> Any:
    model = Checkpoint.read(checkpoint).model
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def test_the_kl_is_of_the_episodes_that_did_not_raise(loaded: Checkpoint, start: Any) -> None:
    found = kl(loaded, start, openings=["zzz"], every=4)
    sampler = Sampler(loaded.model, loaded.renderer, max_new_tokens=8)
    pairs = [(scenario, sample) for scenario in (0, 1, 3, 4) for sample in range(4)]
    episodes = roll(
        Environment(name="letters", id=RAISING, kwargs={}), pairs, sampler, stream=("kl", 0), max_turns=8
    )
    kept = [episode for episode in episodes if len(episode.replies[0].text) % 4]
    assert 8 < len(kept) < 16
    pairs = [(e.prompts[0], e.replies[0].ids) for e in kept]
    nats = [kl_C.sum() for kl_C in divergences(loaded.model, start, pairs)]
    tokens = sum(len(episode.replies[0].ids) for episode in kept)
    assert (found["prompts"], found["tokens"]) == (4, tokens)
    assert found["kl_token"] == pytest.approx(sum(nats) / tokens, rel=1e-5)
    means = [np.mean([x for x, e in zip(nats, kept, strict=True) if e.scenario == n]) for n in (0, 1, 3, 4)]
    assert found["kl_sequence"] == pytest.approx(np.mean(means), rel=1e-5)
    assert found["kl_sequence_se"] == pytest.approx(np.std(means, ddof=1) / 2, rel=1e-5)


def test_a_kl_of_nothing_is_an_error(loaded: Checkpoint, start: Any) -> None:
    what = "^no KL on letters: all 24 episodes raised, the first RuntimeError: no room for x$"
    with pytest.raises(ValueError, match=what):
        kl(loaded, start, openings=["x", "yy", "zzz"])
