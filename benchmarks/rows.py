"""Memory and time of `holdfast/Prompts-v0` on a long file, against pandas, which reads all of it into memory.

    python benchmarks/rows.py                      # a million rows, as CSV and as Parquet
    python benchmarks/rows.py --rows 10000000      # needs 2 GB of temporary disk

Each file is read in a process of its own. Prints seconds and the growth of peak memory in MiB, and ratios to pandas.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

KINDS = ("a bicycle lock", "an old family recipe for plum jam", "the loud fan of a ten-year-old laptop, at night")


def row(number: int) -> tuple[str, str]:
    """Text and label of a row."""
    return f"Request {number:08d}: how do I take care of {KINDS[number % 3]}?", ("safe", "unsafe")[number % 2]


def write(folder: Path, count: int) -> None:
    """rows.csv and rows.parquet, of `count` rows each."""
    import pyarrow
    import pyarrow.parquet

    with (folder / "rows.csv").open("w") as file:
        file.write("text,label\n")
        file.writelines(f'"{text}",{label}\n' for text, label in map(row, range(count)))
    schema = pyarrow.schema([("text", pyarrow.string()), ("label", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(folder / "rows.parquet", schema) as table:
        for start in range(0, count, 100_000):
            texts, labels = zip(*map(row, range(start, min(start + 100_000, count))), strict=True)
            table.write_table(pyarrow.table([texts, labels], schema=schema))


def holdfast(path: Path) -> None:
    """Open the file as an environment, and a thousand episodes."""
    import gymnasium

    import holdfast_envs  # noqa: F401  (registers the id)

    columns = {"prompt": "text", "harmful": "label"}
    env = gymnasium.make("holdfast/Prompts-v0", path=str(path), columns=columns, harmful_when=["unsafe"])
    for seed in range(1000):
        env.reset(seed=seed)


def pandas(path: Path) -> None:
    """Read the file into a table."""
    import pandas as pd

    assert len(pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path))


READERS: dict[str, Callable[[Path], None]] = {"holdfast": holdfast, "pandas": pandas}


def peak() -> float:
    """The most memory that this process has had, in MiB (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--read", nargs=2, metavar=("READER", "FILE"), help="read one file here and print the two figures"
    )
    options = parser.parse_args()
    if options.read:
        before, start = peak(), time.perf_counter()
        READERS[options.read[0]](Path(options.read[1]))
        print(time.perf_counter() - start, peak() - before)
        return
    print(f"{options.rows} rows{'':14}seconds  MiB")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows)
        for name in ("rows.csv", "rows.parquet"):
            figures = {}
            for reader in READERS:
                command = [sys.executable, __file__, "--read", reader, f"{folder}/{name}"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                figures[reader] = [float(figure) for figure in done.stdout.split()]
                print(f"{name:14}{reader:12}{figures[reader][0]:9.1f}{figures[reader][1]:6.0f}")
            time_, memory = (ours / theirs for ours, theirs in zip(*figures.values(), strict=True))
            print(f"{name:14}{'ratio':12}{time_:9.1f}{memory:6.2f}")


if __name__ == "__main__":
    main()
