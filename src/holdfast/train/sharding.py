"""What FSDP2 asks of code that samples and saves: parameters are shards, and to make one whole is a collective.

Every process must therefore make the same forward passes, which sampling does not: replies end when they end. Inside
`gathered` the weights are whole in every process, and forward passes are each one's own business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def check_sharding(accelerator: Accelerator, *, whole_only: str | None) -> None:
    """Raises ValueError for a launch that shards in a way not supported; `whole_only` names what wants no shards."""
    kind = accelerator.distributed_type
    plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if kind not in plain and not sharded(accelerator):
        found = "FSDP version 1" if kind == DistributedType.FSDP else kind.value
        raise ValueError(f"launch.accelerate must ask for plain processes or FSDP with fsdp_version 2, not {found}")
    if sharded(accelerator) and whole_only:
        raise ValueError(f"launch.accelerate must not ask for FSDP with {whole_only}: use launch.processes")


def sharded(accelerator: Accelerator) -> bool:
    """Whether the trained model is in shards."""
    return bool(accelerator.is_fsdp2)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep the weights of a sharded model whole; a model that is not sharded is left alone.

    Not to be saved inside: that would make shards of it again.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)  # FSDP2's default: the outermost stays


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be a shard, on the CPU if it was one. All processes must call it."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def placed_as(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, placed where `parameter` is and cut as that is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        tensor = distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor
