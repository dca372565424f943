"""As many threads as there are cores that this process has to itself, whatever the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.launch.cores import cores

FREE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
UNIFIED, OLD = "0::/user/arm\n", "5:memory:/user/arm\n3:cpu,cpuacct:/user/arm\n0::/\n"


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def told(place: Path, groups: str, files: dict[str, str]) -> int:
    """What `cores` says of a process in `groups`, where these files are."""
    (place / "cgroup").write_text(groups)
    for name, text in files.items():
        path = place / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return cores(place / "cgroup", place / "fs")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (UNIFIED, {}, 16),
        (UNIFIED, {"user/arm/cpu.max": "max 100000"}, 16),
        (UNIFIED, {"user/arm/cpu.max": "350000 100000"}, 3),
        (UNIFIED, {"user/arm/cpu.max": "50000 100000"}, 1),
        (UNIFIED, {"user/arm/cpu.max": "6400000 100000"}, 16),
        (UNIFIED, {"user/arm/cpu.max": "max 100000", "user/cpu.max": "400000 200000"}, 2),  # of one that it lies in
        (UNIFIED, {"cpu.max": "200000 100000"}, 2),  # a container's own, at the top
        ("0::/../..\n", {"cpu.max": "200000 100000"}, 2),
        (UNIFIED, {"else/cpu.max": "100000 100000"}, 16),
        (OLD, {"cpu,cpuacct/user/arm/cpu.cfs_quota_us": "-1", "cpu,cpuacct/user/arm/cpu.cfs_period_us": "100000"}, 16),
        (OLD, {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 5),
        (OLD, {"cpuacct,cpu/cpu.cfs_quota_us": "50000", "cpuacct,cpu/cpu.cfs_period_us": "50000"}, 1),
        (OLD, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
        (OLD, {"memory/user/arm/cpu.cfs_quota_us": "50000", "memory/user/arm/cpu.cfs_period_us": "50000"}, 16),
    ],
)
def test_a_quota_counts_by_its_whole_cores(groups: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert told(tmp_path, groups, files) == expected


def test_without_cgroups_every_core_it_may_run_on_counts(tmp_path: Path) -> None:
    assert cores(tmp_path / "none", tmp_path) == 16


def test_this_machine_has_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= cores() <= FREE
