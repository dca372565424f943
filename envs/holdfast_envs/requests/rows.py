"""A user's prompts, checked once and mapped from disk: of any number of rows, only the one that is asked for is read.

    prompt,label                  row 1: {"request": "How do I pick a lock?", "topic": "", "harmful": True, ...}
    How do I pick a lock?,unsafe

The checked rows are written to an Arrow file that is deleted once it is mapped, so nothing stale is ever found. Errors
are one line, and count rows from 1, without the header and blank lines.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ENDINGS = (".csv", ".jsonl", ".ndjson", ".parquet")
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")  # "owner/name" or "owner/name@revision"
_BATCH = 1024  # rows in memory at once
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where prompts are and what their columns mean."""

    path: str
    prompt: tuple[str, ...]  # columns, of which the first that is not empty counts
    harmful: str | None  # a column, as are the next two
    topic: str | None
    category: str | None
    default: bool | None  # whether a prompt is harmful where no column says
    harmful_when: tuple[str, ...]  # in lower case; empty for true and false
    between: tuple[str, str] | None  # marks before and after the prompt in a longer text
    config: str | None
    hub_split: str
    options: tuple[tuple[str, Any], ...]  # more arguments of `datasets.load_dataset_builder`

    @property
    def file(self) -> Path | None:
        """The local file; None for a dataset on the hub."""
        path = Path(self.path).expanduser()
        hub = path.suffix.lower() not in ENDINGS and not path.exists() and _HUB_ID.fullmatch(self.path)
        return None if hub else path

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        names = (*self.prompt, self.harmful, self.topic, self.category)
        return list(dict.fromkeys(name for name in names if name))


class Table:
    """The prompts of a source: {"request", "topic", "harmful", "category"} of each, by its place from 0.

    Attributes:
        any_harmful: whether one of them is.
        revisions: the commit that was read, by the id of a hub dataset; empty for a file.
    """

    def __init__(self, source: Source) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import datasets
        from datasets.arrow_writer import ArrowWriter

        cells, self.revisions = (_cells(source.file, source.columns), {}) if source.file else _hub(source)
        types = {"request": "string", "topic": "string", "harmful": "bool", "category": "string", "hash": "uint32"}
        features = datasets.Features({name: datasets.Value(kind) for name, kind in types.items()})
        with tempfile.TemporaryDirectory() as folder:
            with ArrowWriter(path=f"{folder}/rows.arrow", features=features, writer_batch_size=_BATCH) as writer:
                for row in _checked(source, cells):
                    writer.write(row)
                writer.finalize()
            table = datasets.Dataset.from_file(f"{folder}/rows.arrow").data
        if not table.num_rows:
            raise ValueError(f"{source.path} has no rows")
        self._columns = {name: table.column(name) for name in types if name != "hash"}
        self.any_harmful = bool(np.asarray(table.column("harmful")).any())
        hashes = np.asarray(table.column("hash"))
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32)
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {name: column[place].as_py() for name, column in self._columns.items()}

    def places(self, split: str, eval_share: float) -> npt.NDArray[np.uint32]:
        """Places of the rows of a split, in the order of a hash of their text, which is a fixed shuffle.

        The hash alone decides the split: a row is in one whatever else is there, equal texts are in the same, and a
        larger share only moves rows from "train" to "eval".
        """
        end = bisect_left(self._hashes, eval_share * 2**32)
        return self._order[:end] if split == "eval" else self._order[end:]


def open_table(source: Source) -> Table:
    """The prompts of `source`, read once in a process for as long as the file stays as it is.

    Raises ValueError, in one line that names the file and the row, for anything that cannot be used.
    """
    file, stamp = source.file, (0, 0)
    if file:
        if file.suffix.lower() not in ENDINGS:
            raise ValueError(f"{source.path} must end in one of {', '.join(ENDINGS)}, or be a hub dataset's owner/name")
        if not file.is_file():
            raise ValueError(f"{source.path}: no such file")
        stamp = (file.stat().st_mtime_ns, file.stat().st_size)
    return _table(source, stamp)


@lru_cache(maxsize=8)
def _table(source: Source, stamp: tuple[int, int]) -> Table:
    return Table(source)


def _cells(file: Path, columns: list[str]) -> Iterator[Any]:
    """Rows of a file as they stand there, each a mapping from columns to cells."""
    if file.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        # Without these two, a row group would be read as a whole.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as table:
            names = table.schema_arrow.names
            known = columns if set(columns) <= set(names) else names  # the first row shows what there is instead
            for batch in table.iter_batches(_BATCH, columns=known, use_threads=False):
                yield from _dicts(batch)
        return
    with file.open("rb") as raw:
        # Decoded line by line, so that a bad byte is told with its row.
        lines = (line.decode("utf-8" if number else "utf-8-sig") for number, line in enumerate(raw))
        if file.suffix.lower() != ".csv":
            yield from (json.loads(line) for line in lines if line.strip())
            return
        rows = filter(None, csv.reader(lines, strict=True))
        header = next(rows, [])
        if twice := [name for name in columns if header.count(name) > 1]:
            raise ValueError(f"the header has {twice[0]!r} twice")
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} cells, and the header has {len(header)}")
            yield dict(zip(header, row, strict=True))


def _hub(source: Source) -> tuple[Iterator[Any], dict[str, str]]:
    """Rows of a dataset on the hub, and the commit that they are of."""
    import datasets

    name, _, revision = source.path.partition("@")
    datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(name, source.config, revision=revision or None, **dict(source.options))
        builder.download_and_prepare()
        rows = builder.as_dataset(source.hub_split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"{source.path} is no file, and no hub dataset that can be read from here: {_told(error).rstrip('.')}. "
            "Offline, only sets in the hub's cache can be read; gated ones need HF_TOKEN and their terms accepted"
        ) from None
    if re.fullmatch("[0-9a-f]{40}", revision) and builder.hash != revision:  # offline, the cache's newest is taken
        raise ValueError(f"{source.path} is out of reach, and the hub's cache has another commit, {builder.hash}")
    if set(source.columns) <= set(rows.column_names):
        rows = rows.select_columns(source.columns)
    batches = rows.with_format("arrow").iter(_BATCH)
    return (row for batch in batches for row in _dicts(batch)), {name: builder.hash}


def _dicts(batch: Any) -> Iterator[dict[str, Any]]:
    """Rows of an Arrow table."""
    for cells in zip(*batch.columns, strict=True):
        yield {name: cell.as_py() for name, cell in zip(batch.column_names, cells, strict=True)}


def _checked(source: Source, cells: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """Rows of a `Table`, with the hash of each."""
    count, matched, seen = 0, False, set[str]()
    try:
        for row in cells:
            if not isinstance(row, Mapping):
                raise ValueError(f'must be an object such as {{"prompt": ...}}, not {json.dumps(row)[:40]}')
            if not count and (lacking := [name for name in source.columns if name not in row]):
                there = dict.fromkeys([*difflib.get_close_matches(lacking[0], row), *row])
                raise ValueError(f"no column {lacking[0]!r}; there are {', '.join(there) or 'none'}")
            prompt, label = _prompt(row, source), row.get(source.harmful)
            harmful = _harmful(label, source)
            topic, category = _text(row.get(source.topic)), _text(row.get(source.category))
            (topic + category).encode()  # refuses half a character, as the hash does
            yield {"request": prompt, "topic": topic, "harmful": harmful, "category": category, "hash": _hash(prompt)}
            count, matched = count + 1, matched or harmful
            if len(seen) < 5:
                seen.add(str(label))
    except (ValueError, OSError, RecursionError, csv.Error) as error:
        raise ValueError(f"{source.path}, row {count + 1}: {_told(error)}") from None
    if source.harmful_when and seen and not matched:
        raise ValueError(
            f"{source.path}: no row has harmful_when ({', '.join(source.harmful_when)}) in {source.harmful!r}, "
            f"which says {', '.join(sorted(seen))}"
        )


def _hash(prompt: str) -> int:
    text = " ".join(prompt.split()).casefold()  # what differs in case or spacing alone is no other prompt
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())


def _prompt(row: Mapping[Any, Any], source: Source) -> str:
    name = next((name for name in source.prompt if row.get(name) not in (None, "")), None)
    if name is None:
        raise ValueError(f"{' and '.join(map(repr, source.prompt))} must not be empty")
    prompt = row[name]
    if not isinstance(prompt, str):
        raise ValueError(f"{name!r} must be text, not {str(prompt)[:40]!r}")
    if source.between:
        before, after = source.between
        if before not in prompt:
            raise ValueError(f"{name!r} has no {before!r}")
        prompt = prompt.partition(before)[2].partition(after)[0].strip()
    if not prompt.strip():
        raise ValueError(f"{name!r} must not be blank")
    return prompt


def _harmful(cell: Any, source: Source) -> bool:
    label = _text(cell).strip().lower()
    if not label:
        if source.default is None:
            raise ValueError(f"{source.harmful!r} is empty, and harmful does not say what such rows are")
        return source.default
    if not source.harmful_when and label not in (*_YES, *_NO):
        raise ValueError(f"{source.harmful!r} is {cell!r}, not true or false: harmful_when can list what means harmful")
    return label in (source.harmful_when or _YES)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _told(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8, byte 0x{error.object[error.start]:02x} cannot be read: save it as UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "holds half a character (a lone surrogate), which is not Unicode text"
    if isinstance(error, json.JSONDecodeError | RecursionError):
        return f"not JSON: {error}"
    if isinstance(error, csv.Error):
        return f"not CSV: {error}"
    return " ".join(str(error).split()) or type(error).__name__
