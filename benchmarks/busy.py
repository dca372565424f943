"""Training passes on a machine that is busy with something else: what OpenMP's threads lose by how they wait.

    python benchmarks/busy.py               # two threads, a minute
    python benchmarks/busy.py --threads 8

The embedded model is trained on as many threads as are asked for, quietly and beside as many loops that do nothing but
count. Threads wait for each other several times a layer. Ones that spin hold a core on which the one that they wait for
could run: `launch.processes.environment` tells them to sleep. Policies take turns, each turn a process of its own, and
the median pass over all turns counts. Ratios hold where the machine has nothing else to do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from importlib.resources import as_file, files

from holdfast.launch.processes import WAIT

POLICIES: dict[str, dict[str, str]] = {"as OpenMP has it": {}, "as arms have it": WAIT}
ROWS, TOKENS, PASSES = 8, 128, 10


def main() -> None:
    """Take turns and print the table; with --turn, be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each policy, quiet and busy")
    parser.add_argument("--turn", action="store_true", help="one turn, in this process")
    options = parser.parse_args()
    if options.turn:
        turn(options.threads)
        return
    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(options.rounds):
        for busy in (False, True):
            loops = [multiprocessing.Process(target=loop, daemon=True) for _ in range(options.threads * busy)]
            for one in loops:
                one.start()
            for name, policy in POLICIES.items():
                found.setdefault((name, busy), []).extend(in_process(policy, options.threads))
            for one in loops:
                one.kill()
    print(f"{options.threads} threads, {os.cpu_count()} cores; median seconds a pass")
    print(f"{'':20}{'quiet':>10}{'busy':>10}{'busy / quiet':>14}")
    for name in POLICIES:
        quiet, busy_ = (statistics.median(found[name, busy]) for busy in (False, True))
        print(f"{name:20}{quiet:10.3f}{busy_:10.3f}{busy_ / quiet:14.1f}")


def in_process(policy: dict[str, str], threads: int) -> list[float]:
    """Seconds of each pass of a turn."""
    own = {key: value for key, value in os.environ.items() if key not in WAIT}
    environment = {**own, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **policy}
    command = [sys.executable, __file__, "--turn", "--threads", str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [float(line) for line in done.stdout.splitlines()]


def loop() -> None:
    """Keep a core busy."""
    while True:
        pass


def turn(threads: int) -> None:
    """Train, and print the seconds of each pass but the first."""
    import torch

    from holdfast.policy.checkpoint import load

    assert torch.get_num_threads() == threads
    with as_file(files("holdfast.policy") / "pocket") as folder:
        model, _ = load(folder, "float32")
    ids = torch.randint(model.config.vocab_size, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    for number in range(PASSES + 1):
        began = time.perf_counter()
        model(input_ids=ids.to(model.device), labels=ids.to(model.device)).loss.backward()
        if number:
            print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
