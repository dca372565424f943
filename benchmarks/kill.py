"""Durability: kill -9 a small study at random moments, run it again each time, and compare with one left in peace.

    python benchmarks/kill.py --kills 10
    python benchmarks/kill.py --rl --seconds 600

Without --rl each kill is on a fresh store, at a moment drawn over the time that the undisturbed run took. With it one
arm that is nearly all RL is killed again and again, on what it has left, for so many seconds in all; each time it gets
to its end it starts over. Prints what was killed and whether weights, optimizer, records, transcripts and metrics (but
for the clock's) came out the same; the exit status says so too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STUDY = [
    "init=advice", "name=small", "launch.threads=1", "steps=[1,2]", "budget.max_new_tokens=32",
    "budget.evals.scenarios=6", "budget.evals.samples=1", "budget.rl.prompts_per_step=2", "budget.rl.group=4",
    "budget.kl.prompts=2", "budget.kl.samples=1", "budget.prior.steps=3", "budget.sft.steps=3",
    "budget.prior.size=50", "budget.prior.batch_loss_tokens=200",
    "budget.sft.size=50", "budget.sft.batch_loss_tokens=200",
]  # fmt: skip
RL = [
    "init=none", "control=none", "name=small", "launch.threads=1", "steps=[20]", "launch.save_every=2",
    "budget.max_new_tokens=24", "budget.evals.scenarios=2", "budget.evals.samples=1", "budget.rl.prompts_per_step=2",
    "budget.rl.group=4", "budget.kl.prompts=2", "budget.kl.samples=1",
]  # fmt: skip
CLOCK = ("seconds", "seconds_", "tokens_per_second")


def run(study: Sequence[str], runs: Path, killed_after: float | None = None) -> tuple[bool, float]:
    """Run the study into `runs`, killing the whole process group after that many seconds if given.

    Returns whether it came to its end, and the seconds it took.
    """
    command = [sys.executable, "-m", "holdfast", "run", f"runs={runs}", *study]
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would fill and hold the run up
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True)
        try:
            process.wait(killed_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False, time.monotonic() - start
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().decode())
    return True, time.monotonic() - start


def outcome(runs: Path) -> dict[str, Any]:
    """All that an arm comes to: its files, and the sums of those of every checkpoint it evaluated."""
    (arm,) = (runs / "small" / "arms").iterdir()
    found: dict[str, Any] = {name: (arm / name).read_text() for name in ("records.jsonl", "transcripts.jsonl")}
    rows = map(json.loads, (arm / "metrics.jsonl").read_text().splitlines())
    found["metrics.jsonl"] = [{key: row[key] for key in row if not key.startswith(CLOCK)} for row in rows]
    for stage in json.loads((arm / "done.json").read_text())["stages"]:
        manifest = runs / "store" / "objects" / f"{stage['kind']}-{stage['key']}" / "manifest.json"
        sums = json.loads(manifest.read_text())["files"]
        found[stage["key"]] = {name: sums[name] for name in sums if name != "metrics.jsonl"}
    return found


def steps_of(runs: Path, since: float) -> tuple[int, int | None]:
    """RL steps in the store, and how many were done beyond those; None if no RL was under way after `since`."""
    stored, done = 0, None
    for path in (runs / "store" / "objects").glob("grpo-*/manifest.json"):
        stored = max(stored, json.loads(path.read_text())["config"]["steps"])
    for path in (runs / "store" / "tmp").glob("grpo-*/metrics.jsonl"):
        if path.stat().st_mtime >= since:  # and not left by an earlier kill
            done = path.read_text().count("\n")
    return stored, None if done is None else max(0, done - stored)


def one_at_a_time(scratch: Path, kills: int, rng: random.Random) -> bool:
    """A fresh store for every kill."""
    _, took = run(STUDY, scratch / "calm")
    expected = outcome(scratch / "calm")
    print(f"undisturbed: {took:.1f} s", flush=True)
    same = 0
    for i in range(kills):
        runs, moment = scratch / f"killed{i}", rng.uniform(0.05, 0.95) * took
        run(STUDY, runs, moment)
        made = len(list((runs / "store" / "objects").glob("*")))
        run(STUDY, runs)
        equal = outcome(runs) == expected
        same += equal
        print(
            f"killed at {moment:5.1f} s with {made:2d} stages stored: {'identical' if equal else 'DIFFERENT'}",
            flush=True,
        )
    print(f"{same} of {kills} identical")
    return same == kills


def again_and_again(scratch: Path, seconds: float, rng: random.Random) -> bool:
    """One arm's RL, killed until the time is over, then left to come to its end."""
    _, took = run(RL, scratch / "calm")
    expected = outcome(scratch / "calm")
    print(f"undisturbed: {took:.1f} s", flush=True)
    kills, lost, midway, rounds, same = 0, 0, 0, 0, 0
    began, longest = time.monotonic(), took / 2
    while not rounds or time.monotonic() - began < seconds:
        runs, ended, here, before = scratch / f"killed{rounds}", False, 0, 0
        while not ended:
            left, since = began + seconds - time.monotonic(), time.time()
            ended, _ = run(RL, runs, rng.uniform(0.0, longest) if left > 0 else None)
            if not ended:
                stored, gone = steps_of(runs, since)
                here, lost, midway = here + 1, lost + (gone or 0), midway + (gone is not None)
                what = "not in RL" if gone is None else f"{gone} lost"
                print(f"kill {kills + here}: {stored} steps stored, {what}", flush=True)
            # So that most runs get somewhere, and few to the end, whatever else the machine is busy with.
            longest *= 1.3 if not ended and stored == before else 0.8
            before = stored if not ended else before
        equal = outcome(runs) == expected
        kills, rounds, same = kills + here, rounds + 1, same + equal
        print(f"run {rounds} ended after {here} kills: {'identical' if equal else 'DIFFERENT'}", flush=True)
    took = time.monotonic() - began
    print(f"{kills} kills in {took:.0f} s, {midway} of them amid RL; {lost} steps lost")
    print(f"{same} of {rounds} runs identical")
    return same == rounds


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rl", action="store_true")
    parser.add_argument("--seconds", type=float, default=60, help="with --rl")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        if options.rl:
            identical = again_and_again(Path(scratch), options.seconds, rng)
        else:
            identical = one_at_a_time(Path(scratch), options.kills, rng)
    sys.exit(not identical)


if __name__ == "__main__":
    main()
