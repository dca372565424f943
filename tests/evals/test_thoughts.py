"""Thoughts stand apart: in records and transcripts, in KL, and in what RL says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from architectures import made
from families import tokenizer
from holdfast.chat import whole
from holdfast.config import GRPO, Behaviour, Environment
from holdfast.evals import behaviour
from holdfast.evals.divergence import divergences, kl_to_start
from holdfast.evals.scoring import replayed
from holdfast.policy import checkpoint
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler
from holdfast.policy.template import ROOM
from holdfast.records import Record, read_records, write_records
from holdfast.train import grpo

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
)
LETTERS = "letters:test/Letters-v0"
ANSWER, THOUGHT = 6, 12
EVAL = Behaviour(name="letters", env=LETTERS, better="low", scenarios=6, samples=4, max_new_tokens=ANSWER)
PLACE = Environment(name="letters", id=LETTERS, kwargs={})


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose prompts open a thought, which it closes after some tokens or never."""
    own = tokenizer(TEMPLATE)
    own.add_tokens(["</think>"])
    own.init_kwargs[ROOM] = THOUGHT
    torch.manual_seed(0)
    model = made("llama", tie_word_embeddings=False)
    model.resize_token_embeddings(len(own), mean_resizing=False)
    with torch.no_grad():
        usual = model.model(torch.arange(20, 60)[None]).last_hidden_state.mean((0, 1))
        for token, often in (("</think>", 12), ("</s>", 11)):
            tag = own.convert_tokens_to_ids(token)
            model.get_output_embeddings().weight[tag] = often * usual / usual.norm() ** 2
    path = tmp_path_factory.mktemp("thinker")
    checkpoint.save(model, own, path)
    return path


def loaded(path: Path) -> checkpoint.Checkpoint:
    model, own = checkpoint.load(path, "float32")
    return checkpoint.Checkpoint(model, checkpoint.renderer(model, own), "0" * 16)


def test_records_and_transcripts_hold_thoughts_apart(thinker: Path, tmp_path: Path) -> None:
    records, rows = behaviour.run(EVAL, loaded(thinker), seed=0)
    ended = ["</think>" in row["messages"][-1]["thought"] for row in rows]
    assert 3 < sum(ended) < len(records) - 3, "some thoughts end, and some are cut"
    for record, row in zip(records, rows, strict=True):
        said = row["messages"][-1]
        assert 0 < record.thought <= THOUGHT
        assert record.tokens - record.thought <= ANSWER
        assert said["thought"].startswith("<think>")
        assert "<think>" not in said["content"]
        if "</think>" not in said["thought"]:
            assert (record.thought, record.score) == (record.tokens, None)
            assert said["content"] == ""
        assert whole(said) == said["thought"] + said["content"]
        assert replayed(EVAL, record, row) == record, "what is stored apart is scored as it was said"
    write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records


def test_records_of_older_runs_do_not_say(tmp_path: Path) -> None:
    row = {name: getattr(_record(), name) for name in _record().__dataclass_fields__ if name != "thought"}
    (tmp_path / "records.jsonl").write_text(json.dumps(row) + "\n")
    assert read_records(tmp_path / "records.jsonl") == [_record()]


def _record() -> Record:
    return Record(eval="e", family="f", scenario=0, sample=0, score=1.0, reason="", measures={}, finish=("stop",),
                  tokens=4, transcript="e/0/0", weights="0" * 16)  # fmt: skip


def test_a_judge_hears_the_answer_alone(thinker: Path) -> None:
    records, rows = behaviour.run(replace(EVAL, samples=24), loaded(thinker), seed=0)
    told = [(record, row["messages"][-1]["content"].strip()) for record, row in zip(records, rows, strict=True)]
    scored = [(record.score, text) for record, text in told if record.score is not None]
    assert scored
    for score, text in scored:
        assert score == float(sum("a" <= letter <= "z" for letter in text) / max(1, len(text)) > 0.5)


def test_kl_is_told_of_thoughts_and_answers(thinker: Path) -> None:
    one, start = loaded(thinker), loaded(thinker).model
    with torch.no_grad():
        start.get_output_embeddings().weight.mul_(1.3)
    found = kl_to_start(one, start, env=PLACE, prompts=4, samples=4, max_new_tokens=ANSWER, max_turns=1, seed=0)
    pairs = [(scenario, sample) for scenario in range(4) for sample in range(4)]
    sampler = Sampler(one.model, one.renderer, max_new_tokens=ANSWER)
    episodes = roll(PLACE, pairs, sampler, stream=("kl", 0))
    nats = divergences(one.model, start, [(e.prompts[0], e.replies[0].ids) for e in episodes])
    thoughts = [e.replies[0].thought for e in episodes]
    inside = sum(kl_C[:size].sum() for kl_C, size in zip(nats, thoughts, strict=True))
    outside = sum(kl_C[size:].sum() for kl_C, size in zip(nats, thoughts, strict=True))
    assert 0 < found["thought_tokens"] == sum(thoughts) < found["tokens"]
    assert found["kl_thought"] == pytest.approx(inside / sum(thoughts))
    assert found["kl_answer"] == pytest.approx(outside / (found["tokens"] - sum(thoughts)))
    assert found["kl_token"] == pytest.approx((inside + outside) / found["tokens"])


def test_rl_says_how_long_thoughts_are(thinker: Path, tmp_path: Path) -> None:
    cfg = GRPO(name="test", prompts_per_step=2, group=4, max_new_tokens=ANSWER, lr=1e-3, max_kl=99)
    grpo.train(thinker, tmp_path, env=PLACE, cfg=cfg, steps=2, first_step=0, seed=0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert 0 < line["thought"] <= THOUGHT
        assert 0 <= line["length"] - line["thought"] <= ANSWER
    again = checkpoint.load_tokenizer(tmp_path)
    assert again.init_kwargs[ROOM] == THOUGHT, "what RL wrote goes on with it"
