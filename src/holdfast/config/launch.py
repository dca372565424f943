"""How an arm is run and not what it is: nothing in here is part of a checkpoint's key, or written down with the arm.

    launch: {threads: null, processes: 2, accelerate: null}   ->   Launch(processes=2)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from holdfast.config.checks import at_least, check_name
from holdfast.config.rl import GRPO, PPO

TRACKERS = ("tensorboard", "trackio", "wandb")
"""What `report_to` may name: the packages of that name."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The processes of arms: nothing that its results should depend on, but for the rounding of sums."""

    threads: int | None = None
    """Of the CPU, to an arm, over all its processes: 1 or more; None for its share of the cores there are to use."""
    workers: int | None = None
    """Arms of a sweep that run at a time, 1 or more. None for as many as keep the cores busy, 4 at most, where every
    model is the embedded one and an arm is one process; else for 1: arms of any other would share a GPU or memory."""
    processes: int = 1
    """That share the RL, 1 or more: one to a GPU."""
    save_every: int = 10
    """RL steps, 1 or more, between the checkpoints that a run which was cut short goes on from."""
    accelerate: str | None = None
    """A config file of `accelerate launch`, for FSDP2. It then says how many processes there are."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be 1 or more, or null for a share, not {self.threads}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, or null for what suits the model, not {self.workers}")
        at_least("processes", self.processes, 1)
        at_least("save_every", self.save_every, 1)
        if self._told and self.processes > 1:
            raise ValueError(f"processes must be left out with accelerate={self.accelerate}, which says how many")

    @property
    def count(self) -> int:
        """How many processes there are."""
        return self._told["num_processes"] if self._told else self.processes

    @property
    def sharded(self) -> bool:
        """Whether they have the weights in shards."""
        return self._told.get("distributed_type") == "FSDP"

    def check(self, algo: GRPO | PPO) -> None:
        """Raises ValueError for RL that cannot be run this way: better now than when installs and evals are done."""
        algo.share(self.count)
        if self.sharded and algo.whole_only:
            raise ValueError(
                "launch.accelerate asks for FSDP, which is for GRPO without lora_rank: use launch.processes"
            )
        for wanted, package in ((algo.lora_rank, "peft"), (algo.rollout == "vllm", "vllm")):
            if wanted and find_spec(package) is None:
                extra = {"peft": "lora"}.get(package, package)
                raise ValueError(f"algo {algo.name}: {package} is not installed; pip install 'holdfast[{extra}]'")

    @cached_property
    def _told(self) -> dict[str, Any]:
        """What the config of accelerate says, if there is one."""
        return {} if self.accelerate is None else _read(Path(self.accelerate))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one `holdfast run` is told besides its arm: where to run it, how, and whom to keep informed."""

    name: str
    """The study's."""
    runs: str
    """The folder of run folders."""
    launch: Launch
    report_to: tuple[str, ...] = ()
    """Trackers that mirror the arm's metrics: any of `TRACKERS`."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for name in self.report_to:
            if name not in TRACKERS:
                raise ValueError(f"report_to must be some of {', '.join(TRACKERS)}, not {name!r}")
            if find_spec(name) is None:
                raise ValueError(f"report_to: {name} is not installed; pip install {name}")


def _read(path: Path) -> dict[str, Any]:
    """A config of accelerate. Raises ValueError unless it is for one machine and shards, if at all, by FSDP2."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        told = {"num_machines": 1, "distributed_type": "MULTI_GPU", **given}
        told["num_processes"] = int(given["num_processes"])
        version = dict(told.get("fsdp_config") or {}).get("fsdp_version")
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"accelerate must be a config file with num_processes, not {path}: {error}") from None
    if told["num_machines"] != 1:
        raise ValueError(f"accelerate must be for one machine, num_machines: 1, not {told['num_machines']} in {path}")
    at_least("num_processes", told["num_processes"], 1)
    if told["distributed_type"] not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
        raise ValueError(f"accelerate must ask for plain processes or FSDP, not {told['distributed_type']} in {path}")
    if told["distributed_type"] == "FSDP" and version != 2:
        raise ValueError(f"accelerate must ask for FSDP with fsdp_version: 2, not {version} in {path}")
    return told

