from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from holdfast.policy.attention import BLOCK
from holdfast.policy.checkpoint import load
from holdfast.policy.prefix import Prefixes, cuts
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sample, Sampler, StreamKey, uniforms

LENGTHS = (5, BLOCK - 1, BLOCK, BLOCK + 1, 150)


@pytest.fixture(scope="module")
def renderer(checkpoint: Path) -> Renderer:
    """Stops at a twelfth of all tokens, so that replies of random weights have all lengths."""
    renderer = Renderer(load(checkpoint)[1])
    renderer.end_ids = set(range(1, 320, 12))
    return renderer


def network(heads: int = 4, kv_heads: int = 2, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=1,
        **settings,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return network().to(getattr(torch, request.param))


def prompts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(6, 320, length).tolist() for length in lengths]


END, REPLY = 1, 5  # ends every turn of `talk`; opens a reply
WORDS = [token for token in range(6, 320) if token % 12 != 1]  # that end nothing


def turn(length: int) -> list[int]:
    return [4, *np.random.default_rng(length).choice(WORDS, length - 2).tolist(), END]


def talk(*lengths: int) -> list[int]:
    """A prompt of turns with so many tokens each, and one more token that opens the reply."""
    return [token for length in lengths for token in turn(length)] + [REPLY]


def later(prompt: list[int], reply: int, user: int) -> list[int]:
    """The prompt of the next turn: a reply and a user's turn of so many tokens more."""
    return [*prompt, *turn(reply)[1:], *turn(user + 1), REPLY]


# Turns 1, 2 and 3 of two episodes that part after turn 1. A segment ends after 100 tokens (system), 171 (+ 70 of the
# user and 1 that opens the reply), then every reply of 40, user's turn of 50 and opening of a reply: 262, 353.
OPENING = talk(100, 70)
TURNS = [[OPENING], [later(OPENING, 41 + i, 49 - i) for i in (0, 4)]]
TURNS.append([later(prompt, 41 - i, 49 + i) for i, prompt in enumerate(TURNS[1])])
SYSTEM_IN_COMMON = [talk(100, 30), talk(100, 70), talk(100, 90), talk(100, 20, 20, 40)]


def keys(count: int, samples: int) -> list[list[StreamKey]]:
    return [[("eval", scenario, sample, 0) for sample in range(samples)] for scenario in range(count)]


def full_logprobs(model: PreTrainedModel, prompt: list[int], ids: tuple[int, ...], temperature: float) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float()
    return (logits / temperature).log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


def test_a_sample_is_bit_for_bit_the_same_alone_and_in_a_batch_of_64(
    model: PreTrainedModel, renderer: Renderer
) -> None:
    sampler = Sampler(model, renderer, max_new_tokens=40)
    together = sampler.sample(prompts(), keys(5, 13))  # 65 rows, padded to 72
    for i, prompt in enumerate(prompts()):
        for j in (0, 7, 12):
            alone = sampler.sample([prompt], [[("eval", i, j, 0)]])
            assert alone == [[together[i][j]]]


@pytest.mark.parametrize("batch_rows", [1, 3, 20])
def test_a_sample_does_not_depend_on_how_the_work_is_cut(renderer: Renderer, batch_rows: int) -> None:
    whole = Sampler(network(), renderer, max_new_tokens=24).sample(prompts(), keys(5, 5))
    cut = Sampler(network(), renderer, max_new_tokens=24, batch_rows=batch_rows).sample(prompts(), keys(5, 5))
    assert cut == whole


def test_a_shorter_limit_only_cuts(renderer: Renderer) -> None:
    long = Sampler(network(), renderer, max_new_tokens=30).sample(prompts(), keys(5, 4))
    short = Sampler(network(), renderer, max_new_tokens=10).sample(prompts(), keys(5, 4))
    assert [[s.ids for s in row] for row in short] == [[s.ids[:10] for s in row] for row in long]


def test_keys_name_streams_and_equal_keys_draw_alike(renderer: Renderer) -> None:
    sampler = Sampler(network(), renderer, max_new_tokens=24)
    [replies] = sampler.sample(prompts()[:1], [[("a", 0), ("a", 0), ("a", 1), ("b", 0)]])
    assert replies[0] == replies[1]
    assert len({reply.ids for reply in replies}) == 3


def test_uniforms_are_pinned_and_a_longer_draw_begins_with_the_shorter() -> None:
    # Records made on one machine can be made again on another only while these numbers stay.
    pinned = [0.9158221570191306, 0.5970733560073076, 0.19540241473785824]
    assert uniforms(("blackmail", 0, 7, 3, 0), 3).tolist() == pinned
    assert uniforms(("blackmail", 0, 7, 3, 0), 50)[:3].tolist() == pinned
    assert uniforms(("blackmail", "0", 7, 3, 0), 3).tolist() != pinned


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_at_temperature_0_the_reply_is_that_of_generate(renderer: Renderer, attention: str, kv_heads: int) -> None:
    model = network(kv_heads=kv_heads, attn_implementation=attention)
    replies = Sampler(model, renderer, max_new_tokens=30, temperature=0).sample(prompts(), keys(5, 1))
    for prompt, (reply,) in zip(prompts(), replies, strict=True):
        input_ids = torch.tensor([prompt])
        expected = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            do_sample=False,
            max_new_tokens=30,
            eos_token_id=sorted(renderer.end_ids),
            pad_token_id=0,
        )
        assert list(reply.ids) == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logprobs_are_those_of_a_full_forward_pass(checkpoint: Path, temperature: float, kv_heads: int) -> None:
    model, renderer = network(kv_heads=kv_heads), Renderer(load(checkpoint)[1])
    sampled = Sampler(model, renderer, max_new_tokens=150, temperature=temperature).sample(prompts(), keys(5, 6))
    assert max(len(reply.ids) for row in sampled for reply in row) > 2 * BLOCK
    for prompt, row in zip(prompts(), sampled, strict=True):
        for reply in row:
            expected = full_logprobs(model, prompt, reply.ids, temperature)
            torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=2e-4, rtol=0)


def test_in_bfloat16_logprobs_are_about_as_near_to_exact_ones_as_a_forward_pass_is(renderer: Renderer) -> None:
    model, exact = network().bfloat16(), network().bfloat16().float()
    sampled = Sampler(model, renderer, max_new_tokens=30).sample(prompts(), keys(5, 8))
    ours, theirs = [], []
    for prompt, row in zip(prompts(), sampled, strict=True):
        for reply in row:
            expected = full_logprobs(exact, prompt, reply.ids, 1.0)
            ours.append((torch.tensor(reply.logprobs) - expected).abs())
            theirs.append((full_logprobs(model, prompt, reply.ids, 1.0) - expected).abs())
    assert torch.cat(ours).mean() < 1.2 * torch.cat(theirs).mean()


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_tokens_come_as_often_as_their_probability_says(renderer: Renderer, temperature: float) -> None:
    model, [prompt] = network(), prompts((20,))
    draws = 4000
    [replies] = Sampler(model, renderer, max_new_tokens=1, temperature=temperature, batch_rows=1000).sample(
        [prompt], keys(1, draws)
    )
    with torch.no_grad():
        probabilities = (
            (model(input_ids=torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1).double().numpy()
        )
    counts = Counter(reply.ids[0] for reply in replies)
    # Tokens expected fewer than 5 times go into one bin, as Pearson's test wants.
    common = [token for token in range(320) if probabilities[token] * draws >= 5]
    observed = [counts[token] for token in common]
    expected = [probabilities[token] * draws for token in common]
    observed.append(draws - sum(observed))
    expected.append(draws - sum(expected))
    assert len(common) > 10
    assert stats.chisquare(observed, expected).pvalue > 0.01


@pytest.mark.parametrize(
    ("settings", "kept"), [({"top_k": 3}, 3), ({"top_p": 0.05}, None), ({"top_k": 3, "top_p": 1e-4}, 1)]
)
def test_only_the_likeliest_tokens_are_drawn_and_log_probabilities_are_of_what_is_drawn_from(
    renderer: Renderer, settings: dict[str, Any], kept: int | None
) -> None:
    model, [prompt] = network(), prompts((20,))
    logits = model(torch.tensor([prompt])).logits[0, -1].double()
    shares, order = logits.softmax(-1).sort(descending=True)
    size = kept or int((shares.cumsum(-1) < 0.05).sum()) + 1
    expected = dict(zip(order[:size].tolist(), (shares[:size] / shares[:size].sum()).log().tolist(), strict=True))
    (drawn,) = Sampler(model, renderer, max_new_tokens=1, **settings).sample([prompt], [[("t", n) for n in range(400)]])
    assert {reply.ids[0] for reply in drawn} == set(expected)
    for reply in drawn:
        assert reply.logprobs[0] == pytest.approx(expected[reply.ids[0]], abs=1e-5)


def test_replies_end_at_an_end_token_or_are_cut(renderer: Renderer) -> None:
    replies = [r for row in Sampler(network(), renderer, max_new_tokens=12).sample(prompts(), keys(5, 8)) for r in row]
    assert {reply.finish for reply in replies} == {"stop", "length"}
    for reply in replies:
        ends = [token in renderer.end_ids for token in reply.ids]
        assert not any(ends[:-1])
        assert ends[-1] == (reply.finish == "stop")
        assert len(reply.ids) == len(reply.logprobs)
        assert len(reply.ids) == 12 or reply.finish == "stop"
        said = reply.ids[:-1] if reply.finish == "stop" else reply.ids
        assert reply.text == renderer.decode(said)


def watched(model: PreTrainedModel) -> list[tuple[int, int]]:
    """The (rows, tokens) of every forward pass from here on."""
    passes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return passes


def test_a_prompt_is_prefilled_once_however_many_samples_and_copies_it_has(renderer: Renderer) -> None:
    model = network()
    passes = watched(model)
    first, second = prompts((30, 40))
    # 25 samples of the first prompt, over two mentions and four waves of 8 rows.
    Sampler(model, renderer, max_new_tokens=4, batch_rows=8).sample(
        [first, second, first], [[("a", i) for i in range(12)], [("b", 0)], [("c", i) for i in range(13)]]
    )
    assert sorted(shape for shape in passes if shape[1] > 1) == [(1, 30), (1, 40)]


def prefilled(passes: list[tuple[int, int]]) -> list[int]:
    """The tokens of every pass over a prompt; decoding passes have 8 rows or more."""
    return [shape[1] for shape in passes if shape[0] == 1]


def test_what_prompts_begin_with_in_common_is_prefilled_once(renderer: Renderer) -> None:
    model = network()
    passes = watched(model)
    Sampler(model, renderer, max_new_tokens=4).sample(SYSTEM_IN_COMMON, keys(4, 2))
    # Longest first: 100 of the system's turn, then what each has beyond it: 90 + 1, 20 + 20 + 40 + 1, 70 + 1, 30 + 1.
    assert prefilled(passes) == [100, 91, 81, 71, 31]


def test_the_prompt_of_a_turn_is_prefilled_from_where_the_last_turn_s_ended(renderer: Renderer) -> None:
    model = network()
    passes = watched(model)
    sampler = Sampler(model, renderer, max_new_tokens=4)
    fed = []
    for prompts in TURNS:
        sampler.sample(prompts, keys(len(prompts), 1))
        fed.append(prefilled(passes))
        passes.clear()
    # 40 of the reply, 50 of the user and 1 that opens the reply at every turn of each: 535 tokens and not 1401.
    assert fed == [[100, 71], [91, 91], [91, 91]]


def test_sharing_what_prompts_begin_with_changes_no_bit(model: PreTrainedModel, renderer: Renderer) -> None:
    shared = Sampler(model, renderer, max_new_tokens=12)
    for prompts in [SYSTEM_IN_COMMON, *TURNS, TURNS[2][::-1]]:
        together = shared.sample(prompts, keys(len(prompts), 2))
        for i, prompt in enumerate(prompts):
            alone = Sampler(model, renderer, max_new_tokens=12).sample([prompt], keys(len(prompts), 2)[i : i + 1])
            assert alone == [together[i]]


def test_the_cuts_of_a_prompt_are_those_of_the_next_turn_s() -> None:
    assert cuts(tuple(OPENING), {END}) == [100, 171]
    assert [cuts(tuple(prompt), {END}) for prompt in TURNS[2]] == [[100, 171, 262, 353]] * 2
    # A segment that another follows has 64 tokens or more, the one that opens a reply counted in.
    assert cuts(tuple(talk(63, 63)), {END}) == [127]
    assert cuts(tuple(talk(64, 62)), {END}) == [64, 127]
    assert cuts(tuple(talk(64, 64, 20)), {END}) == [64, 128, 149]
    # What is longer than the opening of a reply is a turn.
    assert cuts((*turn(100), *WORDS), {END}) == [100, 100 + len(WORDS)]
    assert cuts(tuple(WORDS), {END}) == [len(WORDS)]


def test_what_is_remembered_is_bounded() -> None:
    model = network()
    # 2 layers x key and value x 2 heads x 8 numbers x 4 bytes a token, and 320 logits of 4 bytes a segment.
    token, segment = 256, 1280
    with torch.inference_mode():
        ample = Prefixes(model, {END}, room=2**30)
        tight = Prefixes(model, {END}, room=171 * token + 2 * segment)
        for prompts, tokens, segments in [
            (TURNS[0], 171, 2),
            (TURNS[1], 171 + 2 * 91, 4),
            (SYSTEM_IN_COMMON, 171 + 2 * 91 + 91 + 81 + 31, 7),  # the system's turn and talk(100, 70) are known
            (TURNS[0], 171 + 91 + 81 + 31, 5),  # turn 2 was forgotten
        ]:
            ample.renew()
            tight.renew()
            for prompt in prompts:
                assert torch.equal(ample.prefill(tuple(prompt)).logits, tight.prefill(tuple(prompt)).logits)
            assert ample.held == tokens * token + segments * segment
            assert tight.held <= tight.room


def test_finished_rows_leave_the_batch(renderer: Renderer) -> None:
    model = network()
    passes = watched(model)
    replies = Sampler(model, renderer, max_new_tokens=100).sample(prompts(), keys(5, 12))
    rows = [shape[0] for shape in passes if shape[1] == 1]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] == 64
    assert rows[-1] == 8
    tokens = sum(len(reply.ids) for row in replies for reply in row)
    # Up to an eighth of the rows may linger, and up to 7 pad the batch.
    assert sum(rows) < tokens * 8 / 7 + 8 * len(rows)


def test_a_prompt_must_fit_with_the_reply(renderer: Renderer) -> None:
    sampler = Sampler(network(), renderer, max_new_tokens=12)
    [fits] = prompts((500,))  # 500 + 12 = 512, the context
    assert sampler.fits(fits)
    assert len(sampler.sample([fits], keys(1, 1))[0]) == 1
    with pytest.raises(ValueError, match=r"501 tokens with a reply of 12 does not fit .* context of 512"):
        sampler.sample([[*fits, 7]], keys(1, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, not 0"),
        ({"temperature": -0.1}, "temperature must be 0 or more, not -0.1"),
        ({"temperature": math.nan}, "temperature must be 0 or more, not nan"),
        ({"batch_rows": 0}, "batch_rows must be 1 or more, not 0"),
        ({"top_k": -1}, "top_k must be 0 or more, not -1"),
        ({"top_p": 0.0}, "top_p must be above 0 and 1 at most, not 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(renderer: Renderer, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(network(), renderer, **{"max_new_tokens": 5, **settings})


def test_an_empty_prompt_and_unmatched_keys_are_refused(renderer: Renderer) -> None:
    sampler = Sampler(network(), renderer, max_new_tokens=5)
    with pytest.raises(ValueError, match="at least one token"):
        sampler.sample([[]], keys(1, 1))
    with pytest.raises(ValueError, match="2 prompts but keys for 1"):
        sampler.sample([[7], [8]], keys(1, 1))


def test_no_prompts_and_no_keys_give_no_samples(renderer: Renderer) -> None:
    sampler = Sampler(network(), renderer, max_new_tokens=5)
    assert sampler.sample([], []) == []
    assert sampler.sample([[7], [8, 9]], [[], [("a",)]])[0] == []


def test_a_model_in_training_goes_on_training_as_before(renderer: Renderer) -> None:
    model = network().train()
    Sampler(model, renderer, max_new_tokens=5).sample(prompts(), keys(5, 2))
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    input_ids = torch.tensor([prompts()[0]])
    model(input_ids=input_ids, labels=input_ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_damaged_weights_are_reported_and_leave_the_model_usable(renderer: Renderer) -> None:
    model = network()
    model.lm_head.weight.data[5, 5] = math.nan
    with pytest.raises(ValueError, match="not a number"):
        Sampler(model, renderer, max_new_tokens=5).sample(prompts(), keys(5, 2))
    assert model.config._attn_implementation == "sdpa"


def test_the_progress_bar_can_be_had_and_is_off_unasked(renderer: Renderer, capsys: pytest.CaptureFixture[str]) -> None:
    Sampler(network(), renderer, max_new_tokens=5).sample(prompts(), keys(5, 2))
    assert capsys.readouterr().err == ""
    Sampler(network(), renderer, max_new_tokens=5, progress=True).sample(prompts(), keys(5, 2), desc="blackmail")
    assert "blackmail" in capsys.readouterr().err


def test_samples_are_plain_values(renderer: Renderer) -> None:
    [[reply]] = Sampler(network(), renderer, max_new_tokens=3).sample([[7, 8]], [[("a",)]])
    assert isinstance(reply, Sample)
    assert {type(token) for token in reply.ids} == {int}
    assert {type(logprob) for logprob in reply.logprobs} == {float}
