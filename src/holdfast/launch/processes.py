"""Arms in processes of their own, as many at a time as `launch.workers` says, in the order in which they were composed.

One at a time has the terminal to itself. Of several each line begins with what tells its arm from the others, there are
no bars, and what an arm says on standard error is shown when it has ended:

    9 arms, 2 at a time
    generic-s0  [5/41] install generic
    generic-s1  [3/41] install prior
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.config import Arm, Job, unbuild
from holdfast.config.model import EMBEDDED
from holdfast.launch.arm import COLLAPSED, FOLLOW
from holdfast.launch.cores import cores
from holdfast.study.folder import ArmFolder, StudyFolder

MOST = 4
"""Arms at a time where nobody says how many: more would ask for more memory than a laptop has to spare."""
WAIT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""How threads of OpenMP wait for each other: asleep. Ones that spin hold a core that the one they wait for may need."""
LOOK = 0.2
"""Seconds between two looks whether an arm has ended."""


@dataclass(frozen=True)
class Planned:
    """An arm that is to be run."""

    arm: Arm
    job: Job
    plain: Mapping[str, Any]
    """What `arm` is built from."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """The variables under which it was composed: Hydra can set some for a job."""

    @property
    def folder(self) -> ArmFolder:
        """Where it is run."""
        return StudyFolder(Path(self.job.runs) / self.arm.study).arm(self.arm)

    def write(self) -> ArmFolder:
        """Write study.yaml and arm.yaml; returns the arm's folder. Raises what `write_config` of both does."""
        folder = self.folder
        folder.study.write_config(self.arm)
        folder.write_config(self.arm, self.plain)
        return folder

    def command(self) -> list[str]:
        """What runs it, for as long as its standard input is open."""
        told = str(self.folder.path), json.dumps(unbuild(self.job)), FOLLOW
        return [sys.executable, "-m", "holdfast.launch.arm", *told]


def run(planned: Sequence[Planned]) -> list[tuple[ArmFolder, int]]:
    """Run arms; returns their folders and exit statuses, in the order in which they ended. However this ends, no arm
    outlives it.

    A mistake of the user's, which the arm has told, ends the process with status 2: no other arm goes on then. Raises
    what `at_once` and `Planned.write` do.
    """
    count = at_once(planned)
    return [alone(one) for one in planned] if count == 1 else _side_by_side(planned, count)


def at_once(planned: Sequence[Planned]) -> int:
    """How many arms run at a time, 1 or more: see `Launch.workers`. Raises ValueError where they disagree about it.

    One more than there are cores, if that keeps these busier: of nine arms on two cores, three at a time take the time
    of 4.5 arms, and two at a time that of 5, as the last has nothing beside it.
    """
    if not planned:
        return 1
    asked = {one.job.launch.workers: None for one in planned}
    if len(asked) > 1:
        raise ValueError(f"launch.workers must be the same for every arm of a sweep, not {', '.join(map(str, asked))}")
    if (workers := planned[0].job.launch.workers) is not None:
        return min(workers, len(planned))
    if any(one.job.launch.count > 1 or one.arm.model.name not in EMBEDDED for one in planned):
        return 1
    most, free = min(MOST, len(planned)), cores()
    if (threads := max(map(_threads, planned))) > 1 or most <= free:
        return max(1, min(free // threads, most))
    return min((free, free + 1), key=lambda count: _rounds(len(planned), count, free))


def _rounds(arms: int, count: int, free: int) -> float:
    """How long `arms` take, `count` at a time on `free` cores, in arms that have one to themselves."""
    full, rest = divmod(arms, count)
    return full * count / free + (max(rest / free, 1.0) if rest else 0.0)


def _threads(planned: Planned) -> int:
    own = planned.environment.get("OMP_NUM_THREADS", "")
    return max(1, planned.job.launch.threads or (int(own) if own.isdigit() else 1))


def alone(planned: Planned) -> tuple[ArmFolder, int]:
    """Run an arm that has the terminal to itself; returns its folder and exit status. Ends and raises as `run` does."""
    folder = planned.write()
    with subprocess.Popen(planned.command(), env=environment(planned, 1), stdin=subprocess.PIPE) as process:
        status = process.wait()
    return folder, _ended(folder, status)


def environment(planned: Planned, count: int) -> dict[str, str]:
    """The variables of an arm's process where `count` run at a time: as many threads as were asked for, or its share of
    the cores; threads that sleep while they wait; and libraries that keep to themselves.

    What the user's own environment says wins, but for threads that `launch.threads` asks for.
    """
    threads = planned.job.launch.threads
    each = str(threads or max(1, cores() // count))
    asked = {"OMP_NUM_THREADS": each, "MKL_NUM_THREADS": each}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    quiet |= WAIT
    own = planned.environment
    return {**quiet, **asked, **own} if threads is None else {**quiet, **own, **asked}


def _ended(folder: ArmFolder, status: int) -> int:
    """Say of an arm that crashed that it did; returns its exit status."""
    if status == 2:  # the process said why
        raise SystemExit(2)
    if status not in (0, COLLAPSED):
        how = f"was killed by signal {-status}" if status < 0 else "crashed"
        print(f"holdfast: error: {folder.path.name} {how}; see {folder.log}", file=sys.stderr, flush=True)
    return status


def _side_by_side(planned: Sequence[Planned], count: int) -> list[tuple[ArmFolder, int]]:
    print(f"{len(planned)} arms, {count} at a time", flush=True)
    waiting = deque(zip(planned, labels([one.arm for one in planned]), strict=True))
    running: list[_Beside] = []
    ended = []
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < count:
                    running.append(one := _Beside(*waiting.popleft(), count))
                    selector.register(one.output, selectors.EVENT_READ, one)
                for key, _ in selector.select(LOOK):
                    if key.data.show() is False:
                        selector.unregister(key.fd)
                # Not once its output ends: something that an arm started may still hold that.
                for one in [one for one in running if one.process.poll() is not None]:
                    if one.output in selector.get_map():
                        selector.unregister(one.output)
                    running.remove(one)
                    ended.append((one.folder, one.close()))
        finally:
            for one in running:  # the store is safe at any moment
                one.process.kill()
                one.process.wait()
    return ended


class _Beside:
    """An arm that runs beside others."""

    def __init__(self, planned: Planned, label: str, count: int) -> None:
        self.folder, self.label = planned.write(), label
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # `close` closes it
        self.process = subprocess.Popen(
            planned.command(),
            env=environment(planned, count),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        os.set_blocking(self.output, False)
        self._begun = b""

    def show(self) -> bool | None:
        """Show the lines that it has printed since; False at the end of its output, None where there are none yet."""
        try:
            read = os.read(self.output, 2**16)
        except BlockingIOError:
            return None
        *lines, self._begun = (self._begun + read).split(b"\n")
        for line in lines:
            print(f"{self.label}  {line.decode(errors='replace')}", flush=True)
        return bool(read)

    def close(self) -> int:
        """Show what is left of an arm that has ended; returns its exit status. Ends the process as `run` does."""
        while self.show():
            pass
        if self._begun:
            print(f"{self.label}  {self._begun.decode(errors='replace')}", flush=True)
        self.errors.seek(0)
        sys.stderr.write(self.errors.read().decode(errors="replace"))
        sys.stderr.flush()
        self.errors.close()
        return _ended(self.folder, self.process.returncode)


def labels(arms: Sequence[Arm]) -> list[str]:
    """What tells each arm from the others, all of one width: of its name, the parts in which they differ."""
    parts = [(arm.study, *arm.parts) for arm in arms]
    differ = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    names = ["-".join(filter(None, (of[i] for i in differ))) for of in parts]
    return [name.ljust(max(map(len, names))) for name in names]
