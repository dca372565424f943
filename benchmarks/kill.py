"""Durability: kill -9 a small study at random moments, run it again each time, and compare with one left in peace.

    python benchmarks/kill.py --kills 10

The moments are drawn over the time that the undisturbed run took, each on a fresh store. Prints, for each, when it was
killed and whether records, transcripts and weights came out the same; the exit status says so too.
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
from pathlib import Path

STUDY = [
    "init=advice", "name=small", "threads=1", "steps=[1,2]", "budget.max_new_tokens=32",
    "budget.evals.scenarios=6", "budget.evals.samples=1", "budget.rl.prompts_per_step=2", "budget.rl.group=4",
    "budget.kl.prompts=2", "budget.kl.samples=1", "budget.prior.steps=3", "budget.sft.steps=3",
    "budget.prior.size=50", "budget.sft.size=50", "budget.prior.batch_tokens=1024", "budget.sft.batch_tokens=1024",
]  # fmt: skip


def run(runs: Path, killed_after: float | None = None) -> float:
    """Run the study into `runs`, killing the whole process group after that many seconds if given; seconds it took."""
    command = [sys.executable, "-m", "holdfast", "run", f"runs={runs}", *STUDY]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        process.wait(killed_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return killed_after or 0.0
    if process.returncode:
        assert process.stderr is not None
        raise SystemExit(process.stderr.read().decode())
    return time.monotonic() - start


def outcome(runs: Path) -> tuple[str, str, list[str]]:
    """Records, transcripts and the weights of every evaluated checkpoint."""
    (arm,) = (runs / "small" / "arms").iterdir()
    done = json.loads((arm / "done.json").read_text())
    weights = [stage["weights"] for stage in done["stages"] if "weights" in stage]
    return (arm / "records.jsonl").read_text(), (arm / "transcripts.jsonl").read_text(), weights


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    same = 0
    with tempfile.TemporaryDirectory() as scratch:
        took = run(Path(scratch) / "calm")
        expected = outcome(Path(scratch) / "calm")
        print(f"undisturbed: {took:.1f} s", flush=True)
        for i in range(options.kills):
            runs, moment = Path(scratch) / f"killed{i}", rng.uniform(0.05, 0.95) * took
            run(runs, moment)
            made = len(list((runs / "store" / "objects").glob("*"))) if (runs / "store" / "objects").exists() else 0
            run(runs)
            equal = outcome(runs) == expected
            same += equal
            print(
                f"killed at {moment:5.1f} s with {made:2d} stages stored: {'identical' if equal else 'DIFFERENT'}",
                flush=True,
            )
    print(f"{same} of {options.kills} identical")
    sys.exit(same != options.kills)


if __name__ == "__main__":
    main()
