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

from holdfast.train.sharding import placed_as, whole

# In folders of their own: beside the weights they would be taken for some.
MOMENTS = "optimizer/adamw.safetensors"
CRITIC = "critic/critic.safetensors"


def whole_weights(model: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """The model's state, every tensor whole. All processes must call it; one that does not `keep` them gets none."""
    state = ((name, whole(tensor)) for name, tensor in model.state_dict().items())
    return {name: tensor for name, tensor in state if keep}


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, and the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def save_moments(optimizer: torch.optim.Optimizer, model: nn.Module, out: Path, *, write: bool) -> None:
    """Write AdamW's state for the trained parameters to `out`. All processes must call it; one has `write`."""
    state = (
        (f"{name}/{key}", whole(value))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        for key, value in optimizer.state[parameter].items()
    )
    tensors = {name: tensor for name, tensor in state if write}
    if write:
        save_tensors(tensors, out / MOMENTS)


def load_moments(optimizer: torch.optim.Optimizer, model: nn.Module, folder: Path) -> None:
    """Give `optimizer` the state that `save_moments` wrote for a model of the same parameters."""
    tensors = load_file(folder / MOMENTS)
    for name, parameter in model.named_parameters():
        if f"{name}/step" in tensors:  # not so for one that has had no gradient yet
            # AdamW counts its steps on the CPU, and keeps the moments beside their parameter.
            optimizer.state[parameter] = {
                "step": tensors[f"{name}/step"],
                "exp_avg": placed_as(tensors[f"{name}/exp_avg"], parameter),
                "exp_avg_sq": placed_as(tensors[f"{name}/exp_avg_sq"], parameter),
            }
