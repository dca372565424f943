"""A user's prompts, checked once and mapped from disk: of any number of rows, only the one that is asked for is read.

    prompt,label                  row 1: {"request": "How do I pick a lock?", "topic": "", "harmful": True, ...}
    How do I pick a lock?,unsafe

Rows of one text are one family: copies are no evidence of their own. The checked rows are written to an Arrow file that
is deleted once it is mapped, so nothing stale is ever found. Errors are one line, and count rows from 1, without the
header and blank lines.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast_envs.requests.cells import BATCH, ENDINGS, Source, cells, ending
from holdfast_envs.requests.checked import checked, hash_of

_TYPES = {"request": "string", "topic": "string", "harmful": "bool", "category": "string", "system": "string",
          "named": "string", "family": "int64", "text": "int64", "whole": "int64"}  # fmt: skip
_FACTS = ("request", "topic", "harmful", "category", "system")


class Table:
    """The prompts of a source: {"request", "topic", "harmful", "category", "system"} of each, by its place from 0.

    Attributes:
        harmful: how many of them are.
        labels: how often the column of labels says what; empty without one.
        revisions: the commit that was read, by the id of a hub dataset; empty for a file.
    """

    def __init__(self, source: Source) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import datasets
        from datasets.arrow_writer import ArrowWriter

        rows, self.revisions = cells(source)
        self.labels: Counter[str] = Counter()
        features = datasets.Features({name: datasets.Value(kind) for name, kind in _TYPES.items()})
        with tempfile.TemporaryDirectory() as folder:
            with ArrowWriter(path=f"{folder}/rows.arrow", features=features, writer_batch_size=BATCH) as writer:
                for row in checked(source, rows, self.labels):
                    writer.write(row)
                writer.finalize()
            table = datasets.Dataset.from_file(f"{folder}/rows.arrow").data
        if not table.num_rows:
            raise ValueError(f"{source.path} has no rows")
        self._columns = {name: table.column(name) for name in _TYPES}
        self._named, self._groups = source.family is not None, dict[str, Families]()
        self.harmful = int(self._array("harmful").sum())
        self._check(source)

    def __len__(self) -> int:
        return len(self._columns["request"])

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {name: self._columns[name][place].as_py() for name in _FACTS}

    def families(self, requests: str) -> Families:
        """The families of the rows that `requests` asks for, of both splits."""
        if requests not in self._groups:
            rows = np.arange(len(self), dtype=np.uint32)
            if requests != "mixed":
                rows = rows[self._array("harmful") == (requests == "harmful")]
            hashes = self._array("family")[rows]
            order = np.argsort(hashes, kind="stable")
            kept, starts = np.unique(hashes[order], return_index=True)
            ends = np.append(starts, len(rows)).astype(np.uint32)
            self._groups[requests] = Families(self, rows[order], ends, (kept >> 31).astype(np.uint32))
        return self._groups[requests]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of the messages of each row."""
        import pyarrow.compute as pc

        request, system = (np.asarray(pc.binary_length(self._columns[name])) for name in ("request", "system"))
        return request.astype(np.int64) + system

    def family(self, place: int) -> str:
        """The name of a family whose first row this is."""
        return str(self._columns["named"][place].as_py()) if self._named else f"row-{place + 1}"

    def family_hash(self, name: str) -> int:
        """The hash of a family."""
        if self._named:
            return hash_of(name)
        return int(self._columns["family"][int(name.removeprefix("row-")) - 1].as_py())

    def _array(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self._columns[name])

    def _check(self, source: Source) -> None:
        """Raises ValueError for a text that has two labels, or is in two families."""
        if 0 < self.harmful < len(self) and (found := _torn(self._array("whole"), self._array("harmful"))):
            one, other, count = found
            raise ValueError(
                f"{source.path}: {count} {'prompt has' if count == 1 else 'prompts have'} two labels, harmful and "
                f"innocent, the first in rows {one + 1} and {other + 1}: give each text one label, or leave it out"
            )
        if self._named and (found := _torn(self._array("text"), self._array("family"))):
            one, other, count = found
            raise ValueError(
                f"{source.path}: {count} {'prompt is' if count == 1 else 'prompts are'} in two families of "
                f"{source.family!r}, the first in rows {one + 1} and {other + 1}: the splits would share its text"
            )


class Families(Sequence[str]):
    """Names of families in the order of a hash, which is a fixed shuffle; with the rows of each.

    The hash alone decides the split: a family is in one whatever else is there, and a larger share only moves families
    from "train" to "eval". Names are made when they are asked for, as ten million strings would fill memory.
    """

    def __init__(self, table: Table, rows: npt.NDArray[np.uint32], ends: npt.NDArray[np.uint32],
                 hashes: npt.NDArray[np.uint32]) -> None:  # fmt: skip
        self._table, self._rows, self._ends, self._hashes = table, rows, ends, hashes  # rows i: ends[i] to ends[i + 1]

    def of(self, split: str, eval_share: float) -> Families:
        """The families of a split."""
        cut = bisect_left(self._hashes, eval_share * 2**32)
        start, end = (0, cut) if split == "eval" else (cut, len(self))
        return Families(self._table, self._rows, self._ends[start : end + 1], self._hashes[start:end])

    def rows(self, name: str) -> npt.NDArray[np.uint32]:
        """Places of the rows of a family, in the order of the file."""
        i = bisect_left(self._hashes, self._table.family_hash(name) >> 31)
        while self[i] != name:  # half of a hash may be of two families
            i += 1
        return self._rows[self._ends[i] : self._ends[i + 1]]

    def longest(self, count: int) -> list[int]:
        """Places of the longest rows, in bytes, the longest first."""
        rows = self._rows[self._ends[0] : self._ends[-1]]
        lengths = self._table.lengths[rows]
        return [int(row) for row in rows[np.argsort(-lengths, kind="stable")[:count]]]

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._table.family(int(self._rows[self._ends[range(len(self))[index]]]))


def open_table(source: Source) -> Table:
    """The prompts of `source`, read once in a process for as long as the file stays as it is.

    Raises ValueError, in one line that names the file and the row, for anything that cannot be used.
    """
    file, stamp = source.file, (0, 0)
    if file:
        if ending(file) is None:
            raise ValueError(
                f"{source.path} must end in one of {', '.join(ENDINGS)}, the first four with or without .gz, or be a "
                "hub dataset's owner/name"
            )
        if not file.is_file():
            raise ValueError(f"{source.path}: no such file")
        stamp = (file.stat().st_mtime_ns, file.stat().st_size)
    return _table(source, stamp)


@lru_cache(maxsize=8)
def _table(source: Source, stamp: tuple[int, int]) -> Table:
    return Table(source)


def _torn(keys: npt.NDArray[Any], values: npt.NDArray[Any]) -> tuple[int, int, int] | None:
    """Of the keys with more than one value, the first row of the first, its first row with another, and how many."""
    order = np.argsort(keys, kind="stable")
    starts = np.unique(keys[order], return_index=True)[1]
    beside = values[order]
    torn = np.flatnonzero(np.minimum.reduceat(beside, starts) != np.maximum.reduceat(beside, starts))
    if not len(torn):
        return None
    first = torn[np.argmin(order[starts[torn]])]
    rows = order[starts[first] : np.append(starts, len(keys))[first + 1]]
    return int(rows[0]), int(rows[values[rows] != values[rows[0]]][0]), len(torn)
