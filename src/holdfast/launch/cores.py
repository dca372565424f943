"""How many cores this process may keep busy: those that it may run on, and no more than its cgroups give it time for.

A container on a machine of 64 cores sees all of them, and is stopped for the rest of every period once its quota is
used up: threads beyond that wait for each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """1 or more. A quota counts by its whole cores.

    `groups` says which cgroups this process is in, `mounted` has them: version 2, with cpu.max, or 1, with
    cpu.cfs_quota_us. Where there are none, as on macOS, nothing is taken off.
    """
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    listed = groups.read_text(encoding="utf-8").splitlines() if groups.is_file() else []
    quotas = [_quota(folder) for line in listed for folder in _folders(line, mounted)]
    return max(1, math.floor(min(free, *quotas, math.inf)))


def _folders(line: str, mounted: Path) -> Iterator[Path]:
    """The cgroup of a line, "ID:CONTROLLERS:PATH", and those it lies in, if it is one that limits time on the CPU.

    A container may have its own at the top, under a path that is the machine's: what is not there has no quota.
    """
    _, controllers, path = line.split(":", 2)
    if not controllers:
        top = mounted
    elif "cpu" in controllers.split(",") and mounted.is_dir():  # in whatever order the folder's own name has them
        top = min((folder for folder in mounted.iterdir() if "cpu" in folder.name.split(",")), default=mounted)
    else:
        return
    folder = top / path.strip("/")
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder


def _quota(folder: Path) -> float:
    """The cores' worth of time that a cgroup gives, infinite without a limit."""
    if (file := folder / "cpu.max").is_file():
        quota, period = file.read_text(encoding="utf-8").split()
    elif (file := folder / "cpu.cfs_quota_us").is_file():
        quota = file.read_text(encoding="utf-8").strip()
        period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
    else:
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
