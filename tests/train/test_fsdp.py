"""RL under FSDP2, as `accelerate launch` starts it with the config of docs/rl.md: two processes on the CPU.

This file is also what the two processes run, once for all tests.
"""

from __future__ import annotations

import json
import os
import re
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from holdfast.config import GRPO, Environment, Launch
from holdfast.train import grpo
from holdfast.train.checkpoint import MOMENTS
from holdfast.train.ranks import follow, spawn

ROOT = Path(__file__).parents[2]
LETTERS = Environment(name="letters", id="letters:test/Letters-v0", kwargs={})
CFG = GRPO(name="grpo", prompts_per_step=4, group=2, max_new_tokens=5, lr=3e-3, rows_per_pass=4, beta=0.1)


def segments(out: Path) -> None:
    """Two steps in one segment, and the same two in a segment each."""
    train = partial(grpo.train, out / "start", env=LETTERS, cfg=CFG, seed=5)
    train(out / "whole", first_step=0, steps=2)
    train(out / "first", first_step=0, steps=1)
    train(out / "second", first_step=1, steps=1, resume=out / "first")


# --- what the two processes do


@cache
def mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (2,))


def main(out: Path) -> None:
    follow()
    # accelerate shards on GPUs alone, and a PyTorch built for them does by default. All else is as it is there.
    made = AcceleratorState.__init__

    def init(self: AcceleratorState, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.distributed_type = DistributedType.FSDP
        if "fsdp_plugin" in kwargs:
            self.fsdp_plugin = kwargs["fsdp_plugin"]

    def shard_here(module: Any, **kwargs: Any) -> Any:
        return fully_shard(module, **{**kwargs, "mesh": mesh()})

    with patch.object(AcceleratorState, "__init__", init), patch("torch.distributed.fsdp.fully_shard", shard_here):
        segments(out)
    dist.destroy_process_group()


# --- the tests


@pytest.fixture(scope="module")
def sharded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes with shards leave their segments."""
    out = tmp_path_factory.mktemp("sharded")
    (out / "start").symlink_to(checkpoint)
    told = re.search(r"`fsdp2.yaml`:\n\n```yaml\n(.+?)```", (ROOT / "docs/rl.md").read_text(), re.DOTALL)
    assert told is not None
    (out / "fsdp2.yaml").write_text(told[1].replace("num_processes: 8", "num_processes: 2"))
    places = [ROOT / "src", ROOT / "envs", ROOT / "tests", Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as shell:
        shell.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
        shell.setenv("CUDA_VISIBLE_DEVICES", "")
        spawn(Launch(accelerate=str(out / "fsdp2.yaml")), Path(__file__).stem, out)
    return out


@pytest.fixture(scope="module")
def plain(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, cpu_only: None) -> Path:
    """What one process without shards leaves."""
    out = tmp_path_factory.mktemp("plain")
    (out / "start").symlink_to(checkpoint)
    segments(out)
    return out


def test_two_segments_equal_one_run_bit_for_bit(sharded: Path) -> None:
    steps = {tensor.item() for name, tensor in load_file(sharded / "second" / MOMENTS).items() if "/step" in name}
    assert steps == {2.0}  # AdamW's
    for name in ("model.safetensors", MOMENTS):
        assert (sharded / "second" / name).read_bytes() == (sharded / "whole" / name).read_bytes()
        assert (sharded / "second" / name).read_bytes() != (sharded / "first" / name).read_bytes()


def test_shards_train_what_the_plain_model_does_but_for_rounding(sharded: Path, plain: Path) -> None:
    lines = [
        [json.loads(line) for line in (out / "second" / "metrics.jsonl").read_text().splitlines()]
        for out in (sharded, plain)
    ]
    for one, two in zip(*lines, strict=True):
        for name in ("reward", "kl_estimate", "lr", "loss"):
            assert one[name] == pytest.approx(two[name], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)
    its, expected = (load_file(out / "second" / "model.safetensors") for out in (sharded, plain))
    start = load_file(plain / "start" / "model.safetensors")
    moved = max((expected[name] - start[name]).abs().max().item() for name in start)
    apart = max((expected[name] - its[name]).abs().max().item() for name in start)
    assert moved > 1e-3
    assert apart < 1e-2 * moved


if __name__ == "__main__":
    main(Path(sys.argv[1]))
