"""Ranks for real, on the CPU: they share the work, tell their errors, and never outlive the arm that started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from holdfast.config import GRPO, PPO, Environment, Launch, Stage
from holdfast.train.ranks import spawn, train

ROOT = Path(__file__).parents[2]
PATH = [str(ROOT / "src"), str(ROOT / "envs"), str(ROOT / "tests")]
TWO = Launch(processes=2)
STAGE = Stage(
    name="letters",
    env=Environment(name="letters", id="letters:test/Letters-v0", kwargs={}),
    algo=GRPO(name="grpo", prompts_per_step=4, group=2, max_new_tokens=5, lr=3e-3, rows_per_pass=4, beta=0.1),
    steps=(2,),
)
PROBE = """
import json, os, sys
from pathlib import Path
import torch
from accelerate import PartialState
ranks = PartialState(cpu=True)
total = torch.tensor([ranks.process_index + 1.0])
torch.distributed.all_reduce(total)
told = {"total": total.item(), "threads": os.environ["OMP_NUM_THREADS"]}
Path(sys.argv[1], f"rank{ranks.process_index}.json").write_text(json.dumps(told))
ranks.destroy_process_group()
"""
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
use_cpu: true
num_machines: 1
num_processes: 2
main_process_port: 0
mixed_precision: "no"
"""
# As holdfast.study.run does: whoever runs the tests in the background has them ignore SIGINT.
ARM = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_DFL)
from holdfast.config import Launch
from holdfast.train.ranks import spawn
spawn(Launch(processes=2), "idle", Path(sys.argv[1]))
"""
IDLE = """
import os, sys, time
from pathlib import Path
from holdfast.train.ranks import follow
follow()
Path(sys.argv[1], f"{os.getpid()}.pid").touch()
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*PATH, str(tmp_path), os.environ.get("PYTHONPATH", "")]))


def test_ranks_find_each_other_and_share_the_threads(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG)
    spawn(Launch(accelerate=str(config)), "probe", tmp_path)
    torch.set_num_threads(before)
    told = [json.loads((tmp_path / f"rank{i}.json").read_text()) for i in range(2)]
    # The sum of 1 and 2 in each; 4 threads over 2 ranks.
    assert told == [{"total": 3.0, "threads": "2"}] * 2


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")  # dead, and not yet buried


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ranks_end_with_the_arm(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text(IDLE)
    arm = subprocess.Popen([sys.executable, "-c", ARM, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2:
        assert arm.poll() is None
        time.sleep(0.05)
    assert not any(gone(pid) for pid in pids)
    arm.send_signal(how)
    arm.wait()
    deadline = time.monotonic() + 60
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "a rank outlived its arm"
        time.sleep(0.05)


def test_an_error_of_a_rank_is_the_arm_s(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    odd = replace(STAGE, algo=replace(STAGE.algo, prompts_per_step=3))
    with pytest.raises(ValueError, match=r"3 prompts_per_step .* cannot be shared out.* among 2 processes"):
        train(odd, checkpoint, None, 0, 1, 5, TWO, out)


@pytest.mark.parametrize(
    "algo",
    [
        STAGE.algo,
        PPO(
            name="ppo", prompts_per_step=4, group=2, max_new_tokens=5, lr=3e-3, rows_per_pass=2, beta=0.1,
            minibatches=2, warmup=4,
        ),
    ],
    ids=lambda algo: algo.name,
)  # fmt: skip
def test_two_processes_train_what_one_does_but_for_rounding(checkpoint: Path, tmp_path: Path, algo: GRPO | PPO) -> None:
    stage, lines, weights, start = replace(STAGE, algo=algo), [], [], load_file(checkpoint / "model.safetensors")
    for launch in (Launch(), TWO):
        out = tmp_path / str(launch.processes)
        out.mkdir()
        train(stage, checkpoint, None, 0, 3, 5, launch, out)
        lines.append([json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()])
        weights.append(load_file(out / "model.safetensors"))
        assert not (out / ".ranks").exists()
    for one, two in zip(*lines, strict=True):
        for name in ("reward", "kl_estimate", "lr", "loss"):
            assert one[name] == pytest.approx(two[name], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)
    moved = max((weights[0][name] - start[name]).abs().max().item() for name in start)
    apart = max((weights[0][name] - weights[1][name]).abs().max().item() for name in start)
    assert moved > 1e-3
    assert apart < 1e-2 * moved
