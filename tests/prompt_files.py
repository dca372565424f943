"""Files of prompts and what `Prompts` makes of them, for its tests."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from holdfast_envs.requests.dataset import Prompts

Rows = list[dict[str, Any]]


def write(path: Path, rows: Rows, encoding: str = "utf-8") -> Path:
    """A file of rows, in the format that its name says."""
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if kind in (".csv", ".tsv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        content = text.getvalue().encode(encoding)
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def prompts_of(count: int) -> Rows:
    return [{"prompt": f"What is number {i} of the list?", "harmful": i % 2 == 0} for i in range(count)]


def split(path: Path, name: str, **arguments: Any) -> Prompts:
    return Prompts(path=str(path), split=name, **{"columns": {"harmful": "harmful"}, **arguments})


def facts(env: Prompts) -> dict[str, dict[str, Any]]:
    """What each row of the split says, by its name."""
    return {name: dict(env.reset(seed=seed)[1]["facts"]) for seed, name in enumerate(env.families)}


def texts(env: Prompts) -> set[str]:
    return {row["request"] for row in facts(env).values()}


def both(path: Path, **arguments: Any) -> dict[str, dict[str, Any]]:
    """All rows of a file, by their names: a share of 1 puts them all in one split."""
    return facts(split(path, "eval", eval_share=1, **arguments))


def message(**arguments: Any) -> str:
    """The one line that `Prompts` refuses its arguments with."""
    with pytest.raises(ValueError, match=r".") as caught:
        Prompts(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(code: str, *arguments: str | Path, **variables: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
