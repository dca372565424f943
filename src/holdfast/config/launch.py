"""How an arm is run and not what it is: nothing in here is part of a checkpoint's key, or written down with the arm.

    launch: {threads: null, processes: 2, accelerate: null}   ->   Launch(processes=2)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from holdfast.study.trackers import check_trackers

COLLAPSED = 3
"""Exit status of an arm whose policy collapsed: it said so, and other arms are none the worse for it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The processes of an arm: nothing that its results should depend on, but for the rounding of sums."""

    threads: int | None = None
    """Of the CPU, over all processes: 1 or more; None for every core this process may use."""
    processes: int = 1
    """That share the RL, 1 or more: one to a GPU."""
    save_every: int = 10
    """RL steps, 1 or more, between the checkpoints that a run which was cut short goes on from."""
    accelerate: str | None = None
    """A config file of `accelerate launch`, for FSDP2. It then says how many processes there are."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be 1 or more, or null for all, not {self.threads}")
        for key, value in (("processes", self.processes), ("save_every", self.save_every)):
            if value < 1:
                raise ValueError(f"{key} must be 1 or more, not {value}")
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
    """Trackers that mirror the arm's metrics: any of `holdfast.study.trackers.TRACKERS`."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_trackers(self.report_to)


def _read(path: Path) -> dict[str, Any]:
    """A config of accelerate. Raises ValueError unless it is for one machine and shards, if at all, by FSDP2."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        told = {"num_machines": 1, "distributed_type": "MULTI_GPU", **given}
        told["num_processes"] = int(given["num_processes"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"accelerate must be a config file with num_processes, not {path}: {error}") from None
    if told["num_machines"] != 1:
        raise ValueError(f"accelerate must be for one machine, num_machines: 1, not {told['num_machines']} in {path}")
    version = (told.get("fsdp_config") or {}).get("fsdp_version")
    if told["distributed_type"] not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
        raise ValueError(f"accelerate must ask for plain processes or FSDP, not {told['distributed_type']} in {path}")
    if told["distributed_type"] == "FSDP" and version != 2:
        raise ValueError(f"accelerate must ask for FSDP with fsdp_version: 2, not {version} in {path}")
    return told


def check_name(key: str, name: str) -> None:
    """Raises ValueError unless `name` can be part of a file name everywhere."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{key} must be letters, digits, dots, _ and -, starting with a letter or digit, not {name!r}")
