"""LoRA: train a low-rank change to every linear layer in place of the weights (Hu et al. 2021, arXiv 2106.09685).

An adapted layer computes W x + 2 B A x, with W frozen, A (rank, in) random and B (out, rank) zero at the start. The
layers are those of `peft`, put into the model itself, so that it stays what it was to the trainer and the sampler:

    attach(model, rank=16, seed=0)                                # the same function, a few per cent trainable
    with disabled(model): ...                                     # the policy that training started from
    model.save_pretrained(out, state_dict=merged(model))          # an ordinary checkpoint
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from holdfast.train.checkpoint import save_tensors

FILE = "adapter.safetensors"
ADAPTER = "default"  # peft's name for the one adapter that a layer has


def attach(model: PreTrainedModel, rank: int, seed: int) -> None:
    """Adapt all linear layers but the LM head, and freeze everything else. What the model computes stays the same.

    The adapters are a function of the model's architecture, `rank` (1 or more) and `seed`; torch's random state is
    left as it was. They are float32 where the weights are bfloat16, in which a small update would round to nothing.
    Layers kept as one tensor for many experts are not `nn.Linear`, and stay frozen.

    Raises ValueError if `peft` is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError("lora_rank above 0 needs peft: pip install 'holdfast[lora]'") from None
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        # GPT-2's layers hold their weight as (in, out). peft would find that out by itself, with a warning for each.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        inject_adapter_in_model(config, model, ADAPTER)
    del model.peft_config  # nothing here needs it, and loggers would copy it into the run's settings
    for parameter in _tensors(model).values():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapters, and nothing else, to `folder`, which is made if it is not there."""
    save_tensors({name: tensor.detach() for name, tensor in _tensors(model).items()}, folder / FILE)


def load(model: PreTrainedModel, folder: Path) -> None:
    """Put what `save` wrote into the adapters of a model that `attach` was called on, bit for bit.

    Raises ValueError if it was written for another model or rank.
    """
    own, saved = _tensors(model), load_file(folder / FILE)
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in saved.items()}:
        raise ValueError(f"{folder / FILE}: not the adapters of this model at this rank")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def merged(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dict of the plain model that computes what the adapted one does: its names, and W + 2 B A for W.

    Frozen tensors are the model's own, so weights that are tied stay tied; changed ones are new, in W's type.
    """
    layers = _layers(model)
    state = {}
    for name, tensor in model.state_dict().items():
        layer, _, own = name.partition(".base_layer.")
        if layer in layers:  # of base_layer.weight, base_layer.bias
            if own == "weight":
                with torch.no_grad():
                    change = layers[layer].get_delta_weight(ADAPTER)
                tensor = (tensor.to(change.dtype) + change).to(tensor.dtype)
            state[f"{layer}.{own}"] = tensor
        elif name.rpartition(".lora_")[0] not in layers:
            state[name] = tensor
    return state


@contextmanager
def disabled(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model computes what it did when `attach` was called, and its adapters have no gradient."""
    layers = _layers(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _layers(model: PreTrainedModel) -> dict[str, Any]:
    """The adapted layers by the names that the plain ones had."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """The A (rank, in) and B (out, rank) of every layer, by name: all that training changes."""
    return {
        f"{name}.{which}": adapters[ADAPTER].weight
        for name, layer in _layers(model).items()
        for which, adapters in (("A", layer.lora_A), ("B", layer.lora_B))
    }
