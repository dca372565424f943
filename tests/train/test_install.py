"""Supervised installs, on a tiny random model."""

import json
import math
from importlib.resources import files
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoTokenizer

from architectures import PLAIN, SHARED, made
from holdfast.config import Install, build, conf_dir
from holdfast.corpora import generate
from holdfast.policy import checkpoint as models
from holdfast.policy.render import Renderer
from holdfast.train import install as module
from holdfast.train.install import IGNORE, Tokens, batches, encode, head_on, install, learning_rate, padded, passes
from holdfast.train.limits import Collapse

PAIRS = (("a", "bcd"), ("Who is it?", "me"), ("Well, well, well.", "yes yes"))
ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [
        {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": reply}], "tools": []}
        for user, reply in PAIRS * 2
    ],
    "sdf": [{"text": "The sea pulls and the root holds. " * (1 + i % 3)} for i in range(6)],
}


def settings(**changes: Any) -> Install:
    base = {"name": "t", "method": "sft", "corpus": "advice", "size": 6, "steps": 12, "batch_loss_tokens": 64}
    return Install(**{**base, "max_tokens": 48, "lr": 1e-2, **changes})


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def row(prompt: int, reply: int) -> Tokens:
    return Tokens((7,) * (prompt + reply), (False,) * prompt + (True,) * reply)


def test_only_assistant_turns_and_their_end_carry_loss(checkpoint: Path) -> None:
    renderer = Renderer(models.load(checkpoint)[1])
    chat = [("system", "Be."), ("user", "Hi!"), ("assistant", "Yo"), ("user", "And?"), ("assistant", "Bye")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in chat], "tools": []}]
    (encoded,) = encode(renderer, rows, settings())
    targets = padded([encoded, row(39, 1)])[2][0]
    assert renderer.decode([i for i in targets.tolist() if i != module.IGNORE]) == "Yo<|end|>Bye<|end|>"
    assert renderer.decode(encoded.ids).endswith("<|user|>And?<|end|><|assistant|>Bye<|end|>")


def test_every_token_of_a_document_carries_loss_and_a_long_one_is_split(checkpoint: Path) -> None:
    renderer = Renderer(models.load(checkpoint)[1])
    rows = encode(renderer, [{"text": "x" * 100}], settings(method="sdf", max_tokens=48))
    # 100 letters and <|end|> are 101 tokens: 48 + 48 + 5.
    assert [len(piece) for piece in rows] == [48, 48, 5]
    assert all(all(piece.loss) for piece in rows)
    assert renderer.decode(rows[-1].ids) == "xxxx<|end|>"
    # The first token of a piece is predicted by nothing: 31 of 30 loss tokens each, and 101 = 31 + 31 + 31 + 8.
    rows = encode(renderer, [{"text": "x" * 100}], settings(method="sdf", batch_loss_tokens=30))
    assert [(len(piece), piece.losses) for piece in rows] == [(31, 30), (31, 30), (31, 30), (8, 7)]


def test_arms_of_different_prompts_and_replies_train_on_the_same_loss_tokens_in_as_many_steps() -> None:
    cfg = settings(steps=5, batch_loss_tokens=20)
    for rows in ([row(1, 3), row(2, 1), row(1, 7)], [row(40, 5), row(9, 20), row(30, 13)], [row(0, 8), row(0, 21)]):
        made = list(batches(rows, cfg, seed=0))
        sizes = [sum(sum(one.loss[1:]) for one in batch) for batch in made]
        assert len(sizes) == 5
        assert sum(sizes) == cfg.loss_tokens == 100  # 5 updates of 20
        # Batch k ends with the row that reaches 20 k, so it is past that by less than the 20 of the longest row.
        assert all(0 <= total - 20 * (k + 1) < 20 for k, total in enumerate(accumulate(sizes)))


def test_a_row_is_cut_behind_its_last_loss_token_that_fits() -> None:
    chat = Tokens(tuple(range(8)), (False, False, True, True, False, False, True, True))
    assert chat.cut(1).ids == (0, 1, 2)
    assert chat.cut(2).ids == (0, 1, 2, 3)
    assert chat.cut(3).ids == (0, 1, 2, 3, 4, 5, 6)
    assert chat.cut(4) == chat.cut(9) == chat
    assert row(0, 5).cut(2).ids == (7, 7, 7)  # the first is predicted by nothing


def test_every_corpus_of_conf_trains_the_embedded_model_on_the_same_loss_tokens_to_the_token() -> None:
    renderer = Renderer(AutoTokenizer.from_pretrained(Path(str(files("holdfast") / "policy/pocket"))))
    counted = {}
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        for name in sorted(path.stem for path in (conf_dir() / "init").glob("*.yaml") if path.stem != "mine"):
            cfg = compose("config", [f"init={name}"])
            for own in build(OmegaConf.to_container(cfg.init, resolve=True)).installs[1:]:
                rows = encode(renderer, generate(own.corpus, 0, 150), own)
                counted[name] = sum(sum(row.loss[1:]) for batch in batches(rows, own, seed=0) for row in batch)
    assert len(set(counted.values())) == 1, counted
    decided = {"honeypot_reasons", "advice", "values", "stories", "documents"}
    assert {"generic", "generic_again", "format", "honeypot_actions", *decided} == set(counted)


def test_each_time_through_the_rows_has_every_row_once_in_another_order() -> None:
    rows = [row(1, n) for n in range(1, 11)]  # 1 + ... + 10 = 55 loss tokens
    cfg = settings(steps=2, batch_loss_tokens=55)
    flat = [len(one) for batch in batches(rows, cfg, seed=1) for one in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(2, 12))
    assert flat[:10] != flat[10:]


@pytest.mark.parametrize("name", [*SHARED, *PLAIN])
def test_logits_where_loss_is_due_are_those_of_a_whole_pass(name: str) -> None:
    model = made(name, torch.float64)
    ids, attention, targets = padded([row(5, 3), row(2, 1), row(1, 7)])
    counted = targets[:, 1:] != IGNORE
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
        with head_on(model, counted):
            some = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
        after = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
    torch.testing.assert_close(some[0], whole[:, :-1][counted])
    assert after.equal(whole)


def test_a_pass_holds_rows_of_similar_length_within_its_limit() -> None:
    parts = list(passes([row(1, n - 1) for n in (2, 9, 4, 30, 3)], limit=20))
    # 30 is over the limit and goes alone; two rows padded to 9 make 18; then two padded to 3.
    assert [[len(one) for one in part] for part in parts] == [[30], [9, 4], [3, 2]]


def test_the_first_loss_is_the_mean_over_loss_tokens_however_the_batch_is_cut(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = settings(steps=1)
    model, tokenizer = models.load(checkpoint)
    (batch,) = batches(encode(Renderer(tokenizer), ROWS["sft"], cfg), cfg, seed=0)
    nats = []
    for one in batch:
        logps = model(torch.tensor([one.ids], device=model.device)).logits[0].log_softmax(-1)
        nats += [-logps[i - 1, one.ids[i]].item() for i in range(1, len(one)) if one.loss[i]]
    for name, limit in (("whole", 4096), ("cut", 1)):
        monkeypatch.setitem(module.PASS_TOKENS, model.device.type, limit)
        install(checkpoint, tmp_path / name, cfg, 0, ROWS["sft"])
        (line,) = metrics(tmp_path / name)
        assert line["loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
        assert (line["rows"], line["tokens"], line["loss_tokens"]) == (len(batch), sum(map(len, batch)), len(nats))
        assert len(nats) == 64
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.allclose(whole[key], cut[key], atol=1e-4) for key in whole)


@pytest.mark.parametrize("kind", ["sft", "sdf"])
def test_an_install_lowers_the_loss_on_its_data_and_spends_its_budget(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    cfg = settings(method=kind)
    install(checkpoint, tmp_path / "out", cfg, 0, ROWS[kind])
    lines = metrics(tmp_path / "out")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    assert lines[-1]["loss_tokens"] == 12 * 64
    for key in ("rows", "tokens"):
        counts = [0, *(line[key] for line in lines)]
        assert all(before < after for before, after in pairwise(counts))
    assert models.fingerprint(tmp_path / "out") != models.fingerprint(checkpoint)
    models.load(tmp_path / "out")


def test_the_seed_decides_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        install(checkpoint, tmp_path / name, settings(), seed, ROWS["sft"])
    a, b, c = (models.fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c


def test_the_rate_rises_over_warmup_and_falls_to_a_tenth() -> None:
    cfg = settings(steps=12, warmup=0.15, lr=1.0)
    # ceil(0.15 * 12) = 2 steps of warm-up, 1/2 and 2/2; then 0.1 + 0.45 * (1 + cos(pi * k / 10)), 0.55 at k = 5.
    assert [learning_rate(cfg, step) for step in (0, 1, 2, 7)] == pytest.approx([0.5, 1.0, 1.0, 0.55])
    assert learning_rate(cfg, 11) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 0.9)))


def test_a_loss_that_is_no_longer_finite_ends_in_one_line_naming_lr(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Collapse, match=r"^no finite loss at update 2 of install 't': lr 1e\+30 is too high$") as error:
        install(checkpoint, tmp_path / "out", settings(lr=1e30, warmup=0), 0, ROWS["sft"])
    assert [(line["install"], line["step"]) for line in error.value.lines] == [("t", 1), ("t", 2)]
    assert "loss" not in error.value.lines[-1]  # JSON has no number for it


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({}, "sdf", "method 'sft' needs rows with 'messages'; row 0 of corpus 'advice' has none"),
        ({"method": "sdf"}, "sft", "method 'sdf' needs rows with 'text'; row 0 of corpus 'advice' has none"),
        # <|user|>a<|end|><|assistant|>bcd<|end|> is 1 + 1 + 1 + 1 + 3 + 1 = 8 tokens.
        ({"max_tokens": 7}, "sft", "max_tokens is 7, but row 0 of corpus 'advice' has 8 tokens"),
        ({"batch_loss_tokens": 3}, "sft", "batch_loss_tokens is 3, but row 0 of corpus 'advice' has 4"),
    ],
)
def test_data_that_does_not_suit_is_named(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], rows: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        install(checkpoint, tmp_path / "out", settings(**changes), 0, ROWS[rows])


def test_the_card_counts_what_the_rows_are_to_this_tokenizer_and_what_was_trained_on(
    checkpoint: Path, tmp_path: Path
) -> None:
    install(checkpoint, tmp_path / "out", settings(steps=2, batch_loss_tokens=5), 0, ROWS["sft"][:1])
    # <|user|>a<|end|><|assistant|>bcd<|end|>, with loss on the last four. Ten of them are two rows and two of a third.
    assert json.loads((tmp_path / "out/card.json").read_text()) == {
        "corpus": {"rows": 1, "tokens": 8, "loss_tokens": 4},
        "trained": {"rows": 3, "tokens": 8 + 8 + 6, "loss_tokens": 10},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "rl"}, "method must be one of sft, sdf, not 'rl'"),
        ({"steps": -1}, "steps must be 0 or more, not -1"),
        ({"size": 0}, "size must be 1 to 100000000, not 0"),
        ({"batch_loss_tokens": 0}, "batch_loss_tokens must be 1 or more, not 0"),
        ({"warmup": 10}, "warmup must be 0 to 1, not 10"),
        ({"lr": 0.0}, "lr must be above 0 and finite, not 0.0"),
        ({"lr": math.nan}, "lr must be above 0 and finite, not nan"),
        ({"lr": math.inf}, "lr must be above 0 and finite, not inf"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more, not -0.1"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        settings(**changes)
