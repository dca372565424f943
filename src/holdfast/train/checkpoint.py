"""What a segment of RL leaves for the next one beside the weights: AdamW's moments and, for PPO, the critic.

Safetensors throughout, no pickle. Sharded tensors (FSDP2) are put together for writing and dealt out again on reading,
so that a run may go on with another number of processes:

    optimizer/adamw.safetensors     {"PARAMETER/exp_avg": tensor, "PARAMETER/exp_avg_sq": ..., "PARAMETER/step": ...}
    critic/critic.safetensors       {"PARAMETER": tensor}
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

# In folders of their own: beside the weights they would be taken for some.
MOMENTS = "optimizer/adamw.safetensors"
CRITIC = "critic/critic.safetensors"


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's state, every tensor whole. All ranks must call it."""
    return {name: _whole(tensor) for name, tensor in model.state_dict().items()}


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, and the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def save_moments(optimizer: torch.optim.Optimizer, model: nn.Module, out: Path, *, write: bool) -> None:
    """Write AdamW's state for the trained parameters to `out`. All ranks must call it; one has `write`."""
    tensors = {
        f"{name}/{key}": _whole(value)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        for key, value in optimizer.state[parameter].items()
    }
    if write:
        save_tensors(tensors, out / MOMENTS)


def load_moments(optimizer: torch.optim.Optimizer, model: nn.Module, folder: Path) -> None:
    """Give `optimizer` the state that `save_moments` wrote for a model of the same parameters."""
    tensors = load_file(folder / MOMENTS)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # AdamW counts its steps on the CPU, and keeps the moments beside their parameter.
            optimizer.state[parameter] = {
                "step": tensors[f"{name}/step"],
                "exp_avg": _like(tensors[f"{name}/exp_avg"], parameter),
                "exp_avg_sq": _like(tensors[f"{name}/exp_avg_sq"], parameter),
            }


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """`tensor` placed as `parameter` is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        tensor = distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor
