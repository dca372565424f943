"""KL to the RL start, on tiny random models."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
)

from holdfast.chat import ChatEnv, Outcome, Reply, Scene, Turn
from holdfast.config import Environment
from holdfast.evals.divergence import divergences, kl_to_start
from holdfast.policy import checkpoint as models
from holdfast.policy import scores
from holdfast.policy.checkpoint import Checkpoint
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler


class Chat(ChatEnv):
    """Two turns about nothing, with openings of several lengths."""

    pressure = "neutral"
    reward_bounds: ClassVar[tuple[float, float]] = (0.0, 0.0)

    @property
    def families(self) -> Sequence[str]:
        return ("a", "bb")

    def scene(self, family: str) -> Scene:
        self.taken = 0
        return Scene(({"role": "user", "content": family * int(self.np_random.integers(1, 9))},))

    def turn(self, reply: Reply) -> Turn:
        self.taken += 1
        return Turn({}, ({"role": "user", "content": "?"},), Outcome(None, "done") if self.taken == 2 else None)


gymnasium.register("test/Chat-v0", entry_point=Chat)
CHAT = Environment(name="chat", id="test/Chat-v0", kwargs={})


@pytest.fixture
def renderer(checkpoint: Path) -> Renderer:
    return Renderer(models.load(checkpoint)[1])


def make(renderer: Renderer, seed: int, factor: float = 1.0) -> LlamaForCausalLM:
    """A random model; the larger the factor, the surer it is of its tokens."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(renderer.tokenizer), max_position_embeddings=256, **sizes))
    model.lm_head.weight.data *= factor
    return model.eval()


def measure(model: Any, start: Any, renderer: Renderer, **changes: Any) -> dict[str, float]:
    base = {"prompts": 4, "samples": 3, "max_new_tokens": 6, "seed": 0, "max_turns": 2}
    policy = Checkpoint(model, renderer, "00")
    return kl_to_start(policy, start, env=CHAT, **{**base, **changes})


def test_equal_weights_have_a_divergence_of_exactly_zero(renderer: Renderer, tmp_path: Path) -> None:
    models.save(make(renderer, 0), renderer.tokenizer, tmp_path)
    start, _ = models.load(tmp_path)
    result = measure(make(renderer, 0).to(start.device), start, renderer)
    assert {key: result[key] for key in result if key.startswith("kl")} == {
        "kl_token": 0,
        "kl_token_se": 0,
        "kl_sequence": 0,
        "kl_sequence_se": 0,
    }


def test_a_policy_sure_of_every_token_is_log_v_from_a_uniform_start(renderer: Renderer) -> None:
    # All mass on one of 320 tokens against 1/320 each: 1 * (log 1 - log 1/320) = log 320 = 5.768 nats a token.
    result = measure(make(renderer, 0, 1e6), make(renderer, 0, 0.0), renderer)
    assert result["kl_token"] == pytest.approx(math.log(320), abs=1e-3)
    assert result["kl_sequence"] == pytest.approx(math.log(320) * result["tokens"] / 12, abs=1e-2)  # 4 * 3 episodes


def test_it_is_the_sum_over_the_vocabulary_at_every_token_the_model_wrote(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, start = make(renderer, 0, 4.0), make(renderer, 1, 4.0)
    sampler = Sampler(model, renderer, max_new_tokens=6)
    pairs = [(scenario, sample) for scenario in range(4) for sample in range(3)]
    episodes = roll(CHAT, pairs, sampler, stream=("kl", 0), max_turns=2)
    nats, tokens = [0.0] * 4, [0] * 4
    for episode in episodes:
        for prompt, reply in zip(episode.prompts, episode.replies, strict=True):
            ids = torch.tensor([[*prompt, *reply.ids]])
            logp, logq = (m(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1) for m in (model, start))
            nats[episode.scenario] += (logp.exp() * (logp - logq)).sum().item()
            tokens[episode.scenario] += len(reply.ids)
    rate = sum(nats) / sum(tokens)
    mean = sum(nats) / 4
    # Per scenario, 3 episodes: the standard error of the mean of nats / 3, and of the ratio of means.
    spread = math.sqrt(sum((n - mean) ** 2 for n in nats) / 3 / 4) / 3
    ratio = math.sqrt(sum((n - rate * t) ** 2 for n, t in zip(nats, tokens, strict=True)) / 3 / 4) / (sum(tokens) / 4)
    for limit in (scores.PASS_LOGITS, 1):  # in one pass, and one reply to a pass
        monkeypatch.setattr(scores, "PASS_LOGITS", limit)
        result = measure(model, start, renderer)
        assert result["kl_token"] == pytest.approx(rate, rel=1e-4) != 0
        assert result["kl_token_se"] == pytest.approx(ratio, rel=1e-3)
        assert result["kl_sequence"] == pytest.approx(mean / 3, rel=1e-4)
        assert result["kl_sequence_se"] == pytest.approx(spread, rel=1e-3)
        assert result["tokens"] == sum(tokens)


SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.5,
}  # fmt: skip
ARCHITECTURES = {
    "llama": LlamaConfig(**SMALL),
    "gemma3, window 6": Gemma3TextConfig(**SMALL, head_dim=4, sliding_window=6),
    "gpt2": GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=64, initializer_range=0.5),
    "recurrent": FalconH1Config(**SMALL, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_that_of_whole_rows_whatever_the_architecture(name: str) -> None:
    torch.manual_seed(0)
    model, start = (AutoModelForCausalLM.from_config(ARCHITECTURES[name]).double().eval() for _ in range(2))
    # Two samples of a prompt, each with a second turn, and another prompt between them.
    first, other = [7, 8, 9, 10, 11, 12, 13], [5, 6]
    pairs = [(first, [3, 4, 5]), ([*first, 3, 4, 5, 20, 21], [6]), (other, [9] * 6), (first, [14])]
    pairs.append(([*first, 14, 22], [2, 2]))
    expected = []
    for prompt, reply in pairs:
        ids = torch.tensor([prompt + reply])
        logp, logq = (m(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (model, start))
        expected.append((logp.exp() * (logp - logq)).sum().item())
    assert min(expected) > 0.01
    found = [kl_C.sum() for kl_C in divergences(model, start, pairs)]
    assert found == pytest.approx(expected, rel=1e-4 if name == "recurrent" else 1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("limit", [scores.PASS_LOGITS, 1])
def test_equal_weights_have_none_wherever_in_memory_they_lie(
    name: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "PASS_LOGITS", limit)
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[name]).eval()
    moved = copy.deepcopy(model)
    for parameter in moved.parameters():  # 8 bytes off a multiple of 64, as in a file that is mapped into memory
        room = torch.empty(parameter.numel() + 2)
        parameter.data = room[2:].view_as(parameter).copy_(parameter.data)
    pairs = [([7, 8, 9], [3] * length) for length in (1, 2, 3, 4)]
    assert all((kl_C == 0).all() for kl_C in divergences(model, moved, pairs))


def test_sampled_log_ratios_agree_on_average(renderer: Renderer) -> None:
    model, start = make(renderer, 0, 4.0), make(renderer, 1, 4.0)
    sampler = Sampler(model, renderer, max_new_tokens=6)
    (episode,) = roll(CHAT, [(0, 0)], sampler, stream=("p",), max_turns=1)
    prompt = episode.prompt_ids
    drawn = sampler.sample([prompt], [[("r", i) for i in range(400)]])[0]
    logq = [
        start(torch.tensor([[*prompt, *reply.ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for reply in drawn
    ]
    ratios = torch.tensor(
        [
            sum(reply.logprobs) - sum(row[i].item() for row, i in zip(logs, reply.ids, strict=True))
            for reply, logs in zip(drawn, logq, strict=True)
        ]
    )
    pairs = [(prompt, reply.ids) for reply in drawn]
    exact = torch.tensor([kl_C.sum() for kl_C in divergences(model, start, pairs)])
    error = (ratios.var() / 400 + exact.var() / 400).sqrt()
    assert abs(ratios.mean() - exact.mean()) < 4 * error


def test_the_seed_decides_the_episodes(renderer: Renderer) -> None:
    model, start = make(renderer, 0, 4.0), make(renderer, 1, 4.0)
    assert measure(model, start, renderer) == measure(model, start, renderer) != measure(model, start, renderer, seed=1)


def test_one_scenario_has_no_standard_error_and_none_is_refused(renderer: Renderer) -> None:
    model = make(renderer, 0)
    assert math.isnan(measure(model, model, renderer, prompts=1)["kl_token_se"])
    with pytest.raises(ValueError, match="prompts and samples must be 1 or more, not 0 and 3"):
        measure(model, model, renderer, prompts=0)
