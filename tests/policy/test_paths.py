"""Every architecture is sampled from and scored as it computes: by shared prompts, or by its own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from architectures import BASE, CONTEXT, MIXTURES, PLAIN, SHARED, VOCABULARY, WINDOW, made
from holdfast.evals.divergence import divergences
from holdfast.policy import paths
from holdfast.policy.checkpoint import load
from holdfast.policy.paths import path_of
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sampler
from holdfast.policy.scores import completion_scores
from holdfast.policy.windows import context_length, windows

EVERY = [*SHARED, *PLAIN]
LENGTHS = (3 * WINDOW, 5, 2 * WINDOW + 1)


@pytest.fixture(scope="module")
def renderer(checkpoint: Path) -> Renderer:
    renderer = Renderer(load(checkpoint)[1])
    renderer.end_ids = set(range(1, VOCABULARY, 12))
    return renderer


def prompts() -> list[list[int]]:
    source = torch.Generator().manual_seed(3)
    return [torch.randint(2, VOCABULARY, (length,), generator=source).tolist() for length in LENGTHS]


def exact(model: Any, prompt: list[int], said: list[int]) -> Tensor:
    """Log-probabilities of what is said, by a plain forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + said[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
    return logits.log_softmax(-1)[range(len(said)), said]


@pytest.mark.parametrize("name", EVERY)
def test_the_path_is_found_by_trying(name: str) -> None:
    path = path_of(made(name))
    assert path.sampling == ("shared" if name in SHARED else "plain")
    assert bool(path.why) == (name in PLAIN)
    assert "\n" not in path.why


@pytest.mark.parametrize("name", EVERY)
def test_sampled_log_probabilities_are_those_of_a_forward_pass(name: str, renderer: Renderer) -> None:
    # Measured faults: chunks were ignored (11 nats), windows of Gemma 3, DiffLlama; hybrids ended in an IndexError
    model = made(name)
    sampler = Sampler(model, renderer, max_new_tokens=20)
    drawn = sampler.sample(prompts(), [[(i, j) for j in range(3)] for i in range(3)])
    for prompt, replies in zip(prompts(), drawn, strict=True):
        for reply in replies:
            said = exact(model, prompt, list(reply.ids))
            torch.testing.assert_close(torch.tensor(reply.logprobs), said, rtol=0, atol=1e-4)


# An expert of a mixture sees as many tokens as come to it, and rounds by how many there are.
@pytest.mark.parametrize("name", [name for name in EVERY if name not in MIXTURES])
def test_a_sample_is_bit_for_bit_the_same_in_any_batch(name: str, renderer: Renderer) -> None:
    model = made(name)
    whole = Sampler(model, renderer, max_new_tokens=12)
    many = whole.sample(prompts(), [[(i, j) for j in range(11)] for i in range(3)])
    few = Sampler(model, renderer, max_new_tokens=12, batch_rows=5)
    assert few.sample(prompts()[1:2], [[(1, 4)]])[0][0] == many[1][4]
    assert few.sample(prompts(), [[(i, j) for j in range(8, 11)] for i in range(3)]) == [row[8:11] for row in many]


@pytest.mark.parametrize("name", EVERY)
def test_the_likeliest_reply_is_that_of_generate(name: str, renderer: Renderer) -> None:
    model, prompt = made(name), prompts()[0]
    [[reply]] = Sampler(model, renderer, max_new_tokens=12, temperature=0).sample([prompt], [[("a",)]])
    ends = sorted(renderer.end_ids)
    made_ids = model.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=ends, pad_token_id=0
    )  # type: ignore[operator]
    assert list(reply.ids) == made_ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", EVERY)
def test_kl_and_training_passes_are_those_of_every_row_alone(name: str) -> None:
    model, other = (made(name, torch.float64) for _ in range(2))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.05)
    said = [[7, 9, 30], [8] * 6, [5, 5], [6, 7, 8, 9, 10]]
    asked = [prompts()[0], prompts()[0], prompts()[1], prompts()[2]]
    pairs = list(zip(asked, said, strict=True))
    found = [kl_C.sum() for kl_C in divergences(model, other, pairs)]
    for (prompt, reply), nats in zip(pairs, found, strict=True):
        with torch.no_grad():
            logps, logqs = (one(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                            for one in (model, other))  # fmt: skip
        expected = (logps.exp() * (logps - logqs)).sum().item()
        assert nats == pytest.approx(expected, abs=1e-4)
    before, columns = max(map(len, asked)), max(map(len, said))
    ids, mask = (torch.zeros(len(pairs), before + columns, dtype=torch.long) for _ in range(2))
    for row, (prompt, reply) in enumerate(pairs):
        used = slice(before - len(prompt), before + len(reply))
        ids[row, used], mask[row, used] = torch.tensor(prompt + reply), 1
    share = path_of(model).scoring == "shared"
    parts = [slice(None)] if share else [slice(row, row + 1) for row in range(len(pairs))]
    logps = torch.cat([completion_scores(model, ids[p], mask[p], columns, 1.0, share=share)[0] for p in parts])
    for row, (prompt, reply) in enumerate(pairs):
        torch.testing.assert_close(logps[row, : len(reply)], exact(model, prompt, reply), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "qwen2_moe"])
def test_a_window_bounds_no_prompt(name: str) -> None:
    # Measured fault: prompts beyond one layer's window were refused, and all of them where it is 0
    assert context_length(made(name).config) == CONTEXT


@pytest.mark.parametrize(
    ("name", "field"),
    [("doge", "keep_window_size"), ("gpt_neo", "window_size"), ("deepseek_v32", "index_topk")],
)
def test_the_trial_goes_beyond_what_layers_see_whatever_the_config_calls_it(name: str, field: str) -> None:
    # Measured fault: Doge was tried within its window, and sampled otherwise than it computes beyond
    assert 48 in windows(AutoConfig.for_model(name, **{field: 48}))


def test_a_model_whose_cache_gives_other_numbers_beyond_its_window_is_refused() -> None:
    config = {**BASE, "keep_window_size": WINDOW, "initializer_range": 0.3}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("doge", **config)).eval()
    with pytest.raises(ValueError, match=r"^DogeForCausalLM cannot be sampled from: log-probabilities are off by"):
        path_of(model)


def test_a_model_that_keeps_a_state_in_its_layers_is_refused() -> None:
    config = {**BASE, "num_key_value_heads": 1, "num_hidden_layers": 3, "lru_width": 32}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("recurrent_gemma", **config)).eval()
    with pytest.raises(ValueError, match=r"^RecurrentGemmaForCausalLM cannot be sampled from: "):
        path_of(model)


def test_rotary_embeddings_that_change_with_length_bound_the_context() -> None:
    # Measured fault: a Phi 3 of 128k takes other factors beyond 4096 tokens, and what was cached had the first
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    model = made("phi3", original_max_position_embeddings=64, rope_parameters=rope)
    assert context_length(model.config) == 64


def test_what_breaks_only_where_a_prompt_has_segments_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # Measured fault: the trial's prompt was one segment
    class Restarting(LlamaForCausalLM):
        def forward(self, input_ids: Tensor, cache: Any = None, **more: Any) -> Any:  # type: ignore[override]
            if cache is not None and input_ids.shape[1] > 1:
                more["position_ids"] = torch.arange(input_ids.shape[1])[None]
            return super().forward(input_ids, cache=cache, **more)

    monkeypatch.setattr(paths, "_FOUND", {})
    model = Restarting(made("llama").config)
    model.load_state_dict(made("llama").state_dict())
    assert path_of(model).sampling == "plain"


@pytest.mark.parametrize("name", ["lfm2", "falcon_h1", "mamba"])
def test_copies_of_a_prompt_take_no_more_room_than_there_is(name: str, renderer: Renderer) -> None:
    model, keys = made(name), [[("a", n) for n in range(20)]]
    ample, tight = (Sampler(model, renderer, max_new_tokens=6) for _ in range(2))
    tight._room = 1
    sizes = [len(part) for _, part, _ in tight._plain({tuple(prompts()[0]): [(0, n) for n in range(20)]})]
    assert sizes == [8, 8, 4]
    assert tight.sample(prompts()[:1], keys) == ample.sample(prompts()[:1], keys)


def test_damaged_weights_are_told() -> None:
    model = made("qwen3")
    model.config.rms_norm_eps = 2e-6  # a config of its own: nothing was found of it before
    model.lm_head.weight.data[5, 5] = torch.nan
    with pytest.raises(ValueError, match="the model's output is not a number"):
        path_of(model)


def test_the_trial_is_without_autocast_and_special_tokens_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_FOUND", {})
    model = made("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = path_of(model)
    assert found.sampling == "shared"
    model.config.eos_token_id = 7  # as trainers do
    assert path_of(model) is found


def test_checkpoints_of_one_architecture_are_tried_once_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_FOUND", {})
    model = made("llama")
    for place in ("runs/store/objects/install-1", "runs/store/objects/grpo-2"):
        model.config._name_or_path = place
        path_of(model)
    assert len(paths._FOUND) == 1


def test_a_trial_for_which_there_is_no_memory_says_so_and_chooses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(paths, "_FOUND", {})
    monkeypatch.setattr(paths, "_decoded", none_left)
    with pytest.raises(torch.OutOfMemoryError):
        path_of(made("llama"))
    assert paths._FOUND == {}


def test_a_path_by_itself_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(paths, "_FOUND", {})
    with caplog.at_level("INFO"):
        path_of(made("mamba"))
        path_of(made("mamba"))
    assert caplog.text.count("MambaForCausalLM is sampled from prompt by prompt, by its own cache: ") == 1
