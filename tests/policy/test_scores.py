"""Sharing a prompt among its completions changes neither scores nor gradients, whatever the architecture."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from holdfast.policy import scores
from holdfast.policy.paths import path_of
from holdfast.policy.scores import completion_scores, reply_logits
from holdfast.train.ppo import Critic, actor_critic, state_values

SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ARCHITECTURES = {
    "llama": LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SMALL, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=4),
    "mistral, window 6": MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=6),
    "gemma2, soft caps, window 6": Gemma2Config(
        **SMALL, num_key_value_heads=2, head_dim=4, sliding_window=6, attn_implementation="eager"
    ),
    "gemma3, window 6": Gemma3TextConfig(**SMALL, num_key_value_heads=2, head_dim=4, sliding_window=6),
    "gpt2": GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=64),
    "gpt-neox": GPTNeoXConfig(**SMALL),
    "olmo2": Olmo2Config(**SMALL, num_key_value_heads=2),
    "phi3": Phi3Config(**SMALL, num_key_value_heads=2),
}
RECURRENT = FalconH1Config(
    **SMALL, num_key_value_heads=2, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4
)
PROMPTS = [[7, 8, 9], [7, 8, 9], [5] * 9, [5] * 9, [7, 8, 9]]
SAID = [[3, 4, 5], [6] * 5, [9, 3], [2], [4, 4, 4, 4]]


def made(config: Any) -> Any:
    torch.manual_seed(0)
    config.initializer_range = 0.5  # so that gradients are not all alike
    return AutoModelForCausalLM.from_config(config).double().eval()


def padded() -> tuple[Tensor, Tensor]:
    """Prompts in 11 columns, padded on the left, and completions in 6, padded on the right."""
    ids, mask = torch.zeros(5, 17, dtype=torch.long), torch.zeros(5, 17, dtype=torch.long)
    for i in range(5):
        ids[i, 11 - len(PROMPTS[i]) : 11 + len(SAID[i])] = torch.tensor(PROMPTS[i] + SAID[i])
        mask[i, 11 - len(PROMPTS[i]) : 11 + len(SAID[i])] = 1
    return ids, mask


def alone(model: PreTrainedModel, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of each row by itself, without padding, cache or sharing."""
    logps, entropies = [], []
    for prompt, said in zip(PROMPTS, SAID, strict=True):
        logits = model(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1] / temperature
        every = logits.log_softmax(-1)
        room = (0, 6 - len(said))
        logps.append(F.pad(every[range(len(said)), said], room))
        entropies.append(F.pad(-(every.exp() * every).sum(-1), room))
    return torch.stack(logps), torch.stack(entropies)


def gradients(model: torch.nn.Module, logps: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, logps.numel(), dtype=logps.dtype).view_as(logps)
    return list(torch.autograd.grad((logps * weights).sum(), list(model.parameters()), materialize_grads=True))


# Padding is nan in Gemma 2 at float64 whoever runs it: only sharing does without.
CASES = [(name, share) for name in ARCHITECTURES for share in (True, False) if share or "gemma2" not in name]


@pytest.mark.parametrize(("name", "share"), CASES)
def test_scores_and_gradients_are_those_of_every_row_alone(name: str, share: bool) -> None:
    model = made(ARCHITECTURES[name])
    assert path_of(model).scoring == "shared"
    logps, entropies = completion_scores(model, *padded(), 6, 0.7, share=share)
    expected, expected_entropies = alone(model, 0.7)
    torch.testing.assert_close(logps, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(entropies, expected_entropies, rtol=0, atol=1e-9)
    for ours, theirs in zip(gradients(model, logps), gradients(model, expected), strict=True):
        # Norms and rotations are computed in float32 inside: elements near zero have no more digits than that.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize(("name", "share"), [case for case in CASES if case[0][:5] in ("llama", "gemma", "gpt2")])
@pytest.mark.parametrize("own", [True, False])
def test_values_are_those_of_every_row_alone_and_scores_do_not_mind_the_critic(
    name: str, share: bool, own: bool
) -> None:
    model = made(ARCHITECTURES[name])
    trunk = made(ARCHITECTURES[name]).base_model if own else None
    model.critic = Critic(16, trunk).double()
    torch.nn.init.normal_(model.critic.head.weight)
    logps, _, values = actor_critic(model, *padded(), 6, 0.7, share=share)
    torch.testing.assert_close(logps, alone(model, 0.7)[0], rtol=0, atol=1e-9)
    for i, (prompt, said) in enumerate(zip(PROMPTS, SAID, strict=True)):
        hidden = (trunk or model.base_model)(torch.tensor([prompt + said])).last_hidden_state
        expected = model.critic.head(hidden)[0, len(prompt) - 1 : -1, 0]
        torch.testing.assert_close(values[i], F.pad(expected, (0, 6 - len(said))), rtol=0, atol=1e-9)
    (again,) = state_values(model, *padded(), 6, 0.7, share=share)
    torch.testing.assert_close(again, values, rtol=0, atol=1e-9)


def test_a_recurrent_model_is_not_shared() -> None:
    assert path_of(made(RECURRENT)).scoring == "whole"


@pytest.mark.parametrize("config", [*ARCHITECTURES.values(), RECURRENT], ids=[*ARCHITECTURES, "recurrent"])
@pytest.mark.parametrize("limit", [2**25, 500])
def test_logits_of_replies_are_those_of_every_row_alone(
    config: Any, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "PASS_LOGITS", limit)
    model = made(config)
    share = config is not RECURRENT
    found = dict(reply_logits(model, list(zip(PROMPTS, SAID, strict=True)), share=share))
    assert sorted(found) == list(range(5))
    for i, (prompt, said) in enumerate(zip(PROMPTS, SAID, strict=True)):
        expected = model(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-4 if config is RECURRENT else 1e-9)


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        # Nothing is drawn after a reply's last token, so it is not run: 5 replies of at most 5 tokens take (5, 4).
        (2**25, [(1, 9), (1, 3), (5, 4)]),
        # 500 logits are 10 tokens of a vocabulary of 50. The replies of the second prompt are in two passes.
        (500, [(1, 9), (2, 1), (1, 3), (2, 4), (1, 2)]),
        # A reply to a pass. That of 2 tokens is padded by one, that of 1 token takes no more than the prompt.
        (1, [(1, 9), (1, 2), (1, 3), (1, 4), (1, 3), (1, 2)]),
    ],
)
def test_a_prompt_is_run_once_for_all_of_its_replies(
    limit: int, passes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "PASS_LOGITS", limit)
    model = made(ARCHITECTURES["llama"])
    shapes = []
    model.register_forward_pre_hook(lambda _, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True)
    list(reply_logits(model, list(zip(PROMPTS, SAID, strict=True)), share=True))
    assert shapes == passes
