"""LoRA on tiny models of three architectures: Llama, tied; GPT-NeoX, untied; GPT-2, whose weights lie (in, out)."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from holdfast.policy import checkpoint as models
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sampler, StreamKey
from holdfast.train import lora

RANK = 3
IDS = torch.arange(6, 46).reshape(2, 20)
KINDS = ("llama", "gpt_neox", "gpt2")


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> PreTrainedTokenizerBase:
    return models.load(checkpoint)[1]


def plain(kind: str, checkpoint: Path) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "gpt_neox":
        return GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=320,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=128,
                initializer_range=0.3,
                tie_word_embeddings=False,
            )
        ).eval()
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3)
        ).eval()
    return models.load(checkpoint)[0]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, checkpoint: Path) -> PreTrainedModel:
    return plain(request.param, checkpoint)


def ids(model: PreTrainedModel) -> Tensor:
    return IDS.to(model.device)


def logits(model: PreTrainedModel) -> Tensor:
    """On the CPU: a model that was loaded may be on another device than one that was made."""
    with torch.no_grad():
        return model(ids(model)).logits.cpu()


def trainable(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def shaken(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Adapted and as if trained: both matrices of every layer random."""
    lora.attach(model, RANK, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.copy_(torch.empty(parameter.shape).normal_(0, 0.1, generator=generator))
    return model


def test_attaching_changes_nothing_that_the_model_computes(model: PreTrainedModel) -> None:
    before, kind, attributes = logits(model), type(model), set(vars(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lora.attach(model, RANK, seed=0)
    assert type(model) is kind
    assert set(vars(model)) == attributes
    assert torch.equal(logits(model), before)


def test_every_linear_layer_but_the_head_is_adapted_and_the_rest_frozen(model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    # Matrices, but for the tables of tokens and positions: whatever the class of the layer.
    shapes = {
        name.removesuffix(".weight"): parameter.shape
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and parameter is not head.weight and not name.endswith(("wpe.weight", "embed_in.weight"))
    }
    lora.attach(model, RANK, seed=0)
    got = trainable(model)
    assert {name.partition(".lora_")[0] for name in got} == set(shapes)
    # A layer has rank * in and out * rank numbers: rank * (in + out), the same for a weight that lies (in, out).
    assert sum(tensor.numel() for tensor in got.values()) == sum(RANK * sum(shape) for shape in shapes.values())


def test_a_layer_adds_twice_b_a(checkpoint: Path) -> None:
    model = shaken(plain("llama", checkpoint))
    layer = model.model.layers[0].self_attn.q_proj
    a, b = (parameter.detach() for parameter in layer.parameters() if parameter.requires_grad)
    x = torch.linspace(-1, 1, 32, device=model.device)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.base_layer(x) + 2 * (b @ (a @ x)))  # alpha / rank = 2 rank / rank


def test_the_start_depends_on_the_seed_alone(checkpoint: Path) -> None:
    runs = []
    for noise, seed in ((1, 7), (2, 7), (1, 8)):
        model = plain("llama", checkpoint)
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        lora.attach(model, RANK, seed)
        assert torch.equal(torch.get_rng_state(), state)
        runs.append(trainable(model))
    assert all(torch.equal(tensor, runs[1][name]) for name, tensor in runs[0].items())
    assert any(not torch.equal(tensor, runs[2][name]) for name, tensor in runs[0].items())


def test_adamw_trains_the_adapters_and_nothing_else(model: PreTrainedModel) -> None:
    lora.attach(model, RANK, seed=0)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = model(ids(model), labels=ids(model)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(trainable(model))


def test_gradients_are_those_of_the_plain_model_by_the_chain_rule(checkpoint: Path) -> None:
    # d/dB of f(W + 2 B A) is 2 (df/dW) A^T, and d/dA is 2 B^T (df/dW).
    adapted, other = shaken(plain("llama", checkpoint)), plain("llama", checkpoint)
    other.load_state_dict(lora.merged(adapted))
    for each in (adapted, other):
        each.double()
        each(ids(each), labels=ids(each)).loss.backward()
    layer = adapted.model.layers[1].mlp.down_proj
    a, b = (parameter for parameter in layer.parameters() if parameter.requires_grad)
    slope = other.model.layers[1].mlp.down_proj.weight.grad
    torch.testing.assert_close(b.grad, 2 * slope @ a.detach().T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a.grad, 2 * b.detach().T @ slope, rtol=1e-4, atol=1e-5)


def test_the_merged_checkpoint_is_an_ordinary_one_that_computes_the_same(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    tied = model.config.tie_word_embeddings
    models.save(model, tokenizer, tmp_path / "plain")
    start = logits(model)
    after = logits(shaken(model))
    assert (after - start).abs().max() > 1
    model.save_pretrained(tmp_path / "merged", state_dict=lora.merged(model))
    tokenizer.save_pretrained(tmp_path / "merged")

    tensors = [load_file(tmp_path / name / "model.safetensors") for name in ("plain", "merged")]
    shapes = [{name: (tensor.shape, tensor.dtype) for name, tensor in each.items()} for each in tensors]
    assert shapes[0] == shapes[1]
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "merged")]
    assert configs[0] == configs[1]
    loaded, _ = models.load(tmp_path / "merged")
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied
    torch.testing.assert_close(logits(loaded), after, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(model), after), "merging changed the model"


def test_merging_untrained_adapters_gives_the_weights_back(model: PreTrainedModel) -> None:
    before = copy.deepcopy(model.state_dict())
    lora.attach(model, RANK, seed=0)
    after = lora.merged(model)
    assert list(after) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_saved_adapters_come_back_bit_for_bit(model: PreTrainedModel, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    lora.save(shaken(model), tmp_path / "new")
    lora.attach(other, RANK, seed=5)
    lora.load(other, tmp_path / "new")
    assert torch.equal(logits(other), logits(model))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["adapter.safetensors"]
    numbers = sum(tensor.numel() for tensor in load_file(tmp_path / "new" / "adapter.safetensors").values())
    assert numbers == sum(tensor.numel() for tensor in trainable(model).values())


def test_adapters_of_another_rank_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    # Rank 1 in particular: one row would fill three without complaint.
    model, other = plain("llama", checkpoint), plain("llama", checkpoint)
    lora.attach(model, 1, seed=0)
    lora.save(model, tmp_path)
    lora.attach(other, RANK, seed=0)
    with pytest.raises(ValueError, match=r"adapter\.safetensors: not the adapters of this model at this rank"):
        lora.load(other, tmp_path)


def test_the_start_policy_is_there_while_the_adapters_are_disabled(model: PreTrainedModel) -> None:
    start = logits(model)
    after = logits(shaken(model))
    names = set(trainable(model))
    with lora.disabled(model):
        assert torch.equal(logits(model), start)
    assert torch.equal(logits(model), after)
    with pytest.raises(KeyError), lora.disabled(model):
        raise KeyError
    assert torch.equal(logits(model), after)
    assert set(trainable(model)) == names


def test_a_loss_may_hold_both_policies(checkpoint: Path) -> None:
    # As a penalty on KL to the start does: the gradient reaches the adapters through the one and not the other.
    model = shaken(plain("llama", checkpoint))
    logps = model(ids(model)).logits.log_softmax(-1)
    with torch.no_grad(), lora.disabled(model):
        start = model(ids(model)).logits.log_softmax(-1)
    (logps.exp() * (logps - start)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainable(model).values())


def test_bfloat16_weights_keep_their_type_and_get_float32_adapters(checkpoint: Path) -> None:
    model = plain("llama", checkpoint).to(torch.bfloat16)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    before = logits(model)
    lora.attach(model, RANK, seed=0)
    assert torch.equal(logits(model), before)
    assert {tensor.dtype for tensor in trainable(model).values()} == {torch.float32}
    assert {name: tensor.dtype for name, tensor in lora.merged(model).items()} == dtypes


def test_the_sampler_samples_from_the_adapted_model(checkpoint: Path, tmp_path: Path) -> None:
    model, tokenizer = models.load(checkpoint)
    renderer = Renderer(tokenizer)
    prompts = [IDS[0].tolist(), IDS[1, :9].tolist()]

    def draw(model: PreTrainedModel, rows: int = 64) -> list[list[tuple[int, ...]]]:
        keys: list[list[StreamKey]] = [[("eval", n, i) for i in range(6)] for n in range(2)]
        sampler = Sampler(model, renderer, max_new_tokens=12, batch_rows=rows)
        return [[sample.ids for sample in group] for group in sampler.sample(prompts, keys)]

    start = draw(model)
    adapted = draw(shaken(model))
    assert adapted != start
    assert draw(model, rows=3) == adapted, "a sample depends on its batch"
    model.save_pretrained(tmp_path, state_dict=lora.merged(model))
    assert draw(LlamaForCausalLM.from_pretrained(tmp_path).eval().to(model.device)) == adapted
    with lora.disabled(model):
        assert draw(model) == start


def test_without_peft_the_error_says_what_to_install(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'holdfast\[lora\]'"):
        lora.attach(plain("llama", checkpoint), RANK, seed=0)
