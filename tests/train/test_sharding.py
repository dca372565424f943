"""Shards for real: FSDP2 over two processes on the CPU. Each takes a row of a batch, the plain model both.

This file is also what the two processes run, once for all tests: they leave what they found in a folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from holdfast.policy import checkpoint as models
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sample, Sampler
from holdfast.train.checkpoint import MOMENTS, load_moments, save_moments, save_tensors, whole_weights
from holdfast.train.sharding import check_sharding, gathered

SECONDS = 120  # after which processes that wait for each other are given up
LR = 1e-2
LIMITS = (12, 3)  # new tokens, of rank 0 and 1: so many forward passes more or less
PROMPT = [7, 8, 9, 10]

pytestmark = pytest.mark.usefixtures("cpu_only")


def batch(step: int) -> Tensor:
    """Token ids (2, 16), a row to each rank."""
    return torch.randint(6, 320, (2, 16), generator=torch.Generator().manual_seed(step))


def take_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, ids: Tensor) -> None:
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def adamw(model: PreTrainedModel) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)


def replies(model: PreTrainedModel, renderer: Renderer, limit: int) -> list[Sample]:
    return Sampler(model, renderer, max_new_tokens=limit).sample([PROMPT], [[("t", i) for i in range(8)]])[0]


def keep(model: PreTrainedModel, optimizer: torch.optim.Optimizer, out: Path, rank: int = 0) -> None:
    """Write weights and moments, from the first process."""
    weights = whole_weights(model, keep=rank == 0)
    assert bool(weights) == (rank == 0)
    if weights:
        save_tensors({name: tensor.clone() for name, tensor in weights.items()}, out / "weights.safetensors")
    save_moments(optimizer, model, out, write=rank == 0)


# --- what the two processes do


def in_shards(checkpoint: Path, weights: Path | None = None) -> PreTrainedModel:
    model, _ = models.load(checkpoint, "float32")
    if weights is not None:
        model.load_state_dict(load_file(weights))
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def here(model: PreTrainedModel) -> list[int]:
    """Of each parameter, how many numbers this process holds; none where a parameter is whole."""
    return [p.to_local().numel() for p in model.parameters() if isinstance(p, DTensor)]


def main(rank: int, checkpoint: Path, out: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{out / 'meeting'}", rank=rank, world_size=2)
    model, renderer = in_shards(checkpoint), Renderer(models.load(checkpoint)[1])
    found: dict[str, Any] = {"before": here(model)}
    with gathered(model), torch.inference_mode():
        found["inside"] = here(model)
        logits = model(torch.tensor([PROMPT])).logits
        found["replies"] = [asdict(reply) for reply in replies(model, renderer, LIMITS[rank])]
    found["after"] = here(model)
    save_tensors({"logits": logits}, out / f"logits{rank}.safetensors")
    (out / f"found{rank}.json").write_text(json.dumps(found))

    optimizer = adamw(model)
    take_step(model, optimizer, batch(0)[rank : rank + 1])
    keep(model, optimizer, out / "first", rank)
    dist.barrier()  # the files are there
    again = in_shards(checkpoint, out / "first" / "weights.safetensors")
    resumed = adamw(again)
    load_moments(resumed, again, out / "first")
    for one, its, name in ((model, optimizer, "whole"), (again, resumed, "cut")):
        with gathered(one):  # as a rollout does
            pass
        take_step(one, its, batch(1)[rank : rank + 1])
        keep(one, its, out / name, rank)
    dist.barrier()
    dist.destroy_process_group()


# --- the tests


@pytest.fixture(scope="module")
def ranks(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes leave what they found."""
    out = tmp_path_factory.mktemp("ranks")
    source = str(Path(models.__file__).parents[2])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(checkpoint), str(out)],
            stderr=(out / f"error{rank}.txt").open("wb"),
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        done = [process.wait(timeout=SECONDS) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert done == [0, 0], [(out / f"error{rank}.txt").read_text()[-3000:] for rank in range(2)]
    return out


@pytest.fixture(scope="module")
def plain(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process without shards leaves of the same two steps."""
    out = tmp_path_factory.mktemp("plain")
    model, _ = models.load(checkpoint, "float32")
    optimizer = adamw(model)
    for step, name in enumerate(("first", "whole")):
        take_step(model, optimizer, batch(step))
        keep(model, optimizer, out / name)
    return out


@pytest.mark.parametrize("rank", [0, 1])
def test_whole_weights_sample_what_the_model_samples_however_long_the_others_take(
    checkpoint: Path, ranks: Path, rank: int
) -> None:
    model, tokenizer = models.load(checkpoint, "float32")
    found = json.loads((ranks / f"found{rank}.json").read_text())
    # Equal but for rounding: whole weights lie in memory otherwise, which libraries choose their kernels by.
    for its, expected in zip(found["replies"], replies(model, Renderer(tokenizer), LIMITS[rank]), strict=True):
        assert tuple(its["ids"]) == expected.ids
        assert its["logprobs"] == pytest.approx(expected.logprobs, abs=1e-5)
    with torch.inference_mode():
        whole = model(torch.tensor([PROMPT])).logits
    assert torch.allclose(load_file(ranks / f"logits{rank}.safetensors")["logits"], whole, atol=1e-5)


def test_afterwards_the_weights_are_shards_again(checkpoint: Path, ranks: Path) -> None:
    model, _ = models.load(checkpoint, "float32")
    found = [json.loads((ranks / f"found{rank}.json").read_text()) for rank in range(2)]
    sizes = [parameter.numel() for parameter in model.parameters()]
    assert [one + other for one, other in zip(found[0]["after"], found[1]["after"], strict=True)] == sizes
    for told in found:
        assert told["after"] == told["before"]
        assert told["inside"] == []


def near(one: Path, other: Path, atol: float) -> bool:
    pairs = load_file(one), load_file(other)
    assert pairs[0].keys() == pairs[1].keys()
    return all(torch.allclose(tensor, pairs[1][name], rtol=1e-4, atol=atol) for name, tensor in pairs[0].items())


@pytest.mark.parametrize("segment", ["first", "whole"])
def test_two_ranks_write_the_weights_and_moments_of_the_plain_model(ranks: Path, plain: Path, segment: str) -> None:
    assert near(ranks / segment / "weights.safetensors", plain / segment / "weights.safetensors", atol=1e-3 * LR)
    assert near(ranks / segment / MOMENTS, plain / segment / MOMENTS, atol=1e-7)


def test_going_on_from_files_equals_going_on(ranks: Path) -> None:
    for name in ("weights.safetensors", MOMENTS):
        assert (ranks / "cut" / name).read_bytes() == (ranks / "whole" / name).read_bytes()
        assert (ranks / "first" / name).read_bytes() != (ranks / "whole" / name).read_bytes()


def test_what_two_ranks_wrote_one_process_goes_on_from(
    checkpoint: Path, ranks: Path, plain: Path, tmp_path: Path
) -> None:
    model, _ = models.load(checkpoint, "float32")
    model.load_state_dict(load_file(ranks / "first" / "weights.safetensors"))
    optimizer = adamw(model)
    load_moments(optimizer, model, ranks / "first")
    take_step(model, optimizer, batch(1))
    keep(model, optimizer, tmp_path)
    assert near(tmp_path / "weights.safetensors", plain / "whole" / "weights.safetensors", atol=1e-3 * LR)
    assert near(tmp_path / MOMENTS, plain / "whole" / MOMENTS, atol=1e-7)


def launched(kind: DistributedType, version_2: bool = False) -> Any:
    return SimpleNamespace(distributed_type=kind, is_fsdp2=version_2)


@pytest.mark.parametrize(
    ("accelerator", "whole_only", "message"),
    [
        (
            launched(DistributedType.DEEPSPEED), None,
            "launch.accelerate must ask for plain processes or FSDP with fsdp_version 2, not DEEPSPEED",
        ),
        (
            launched(DistributedType.FSDP), None,
            "launch.accelerate must ask for plain processes or FSDP with fsdp_version 2, not FSDP version 1",
        ),
        (
            launched(DistributedType.FSDP, True), "lora_rank",
            "launch.accelerate must not ask for FSDP with lora_rank: use launch.processes",
        ),
    ],
)  # fmt: skip
def test_a_launch_that_shards_otherwise_is_named(accelerator: Any, whole_only: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_sharding(accelerator, whole_only=whole_only)


def test_plain_processes_train_whatever_and_shards_what_can_be_in_shards() -> None:
    check_sharding(Accelerator(cpu=True), whole_only="PPO")
    for kind in (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        check_sharding(launched(kind), whole_only="PPO")
    check_sharding(launched(DistributedType.FSDP, True), whole_only=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
