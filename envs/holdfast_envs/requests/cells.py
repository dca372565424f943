"""Rows as they stand in a file or in a dataset on the hub, one at a time: mappings from columns to cells.

    prompt,label                      {"prompt": "How do I pick a lock?", "label": "unsafe"}
    How do I pick a lock?,unsafe

Of a file of any length, a part is in memory at once.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Of files that are read; all but Parquet may have .gz after it."""
FAULTS = (ValueError, OSError, EOFError, RecursionError, csv.Error, zlib.error)
"""What reading may raise; `told` says it in a line."""
BATCH = 1024  # rows in memory at once
_LONGEST = 2**24  # characters of a CSV's cell: a quote that is never closed must not read all of a file into memory
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")  # "owner/name" or "owner/name@revision"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where prompts are and what their columns mean."""

    path: str
    prompt: tuple[str, ...]  # columns, of which the first that is not empty counts
    harmful: str | None  # a column, as are the next three
    topic: str | None
    category: str | None
    family: str | None
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
        hub = ending(path) is None and not path.exists() and _HUB_ID.fullmatch(self.path)
        return None if hub else path

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        names = (*self.prompt, self.harmful, self.topic, self.category, self.family)
        return list(dict.fromkeys(name for name in names if name))


def ending(path: Path) -> str | None:
    """Which of `ENDINGS` a path has, .gz aside; None for another."""
    name = path.name.lower()
    found = Path(name.removesuffix(".gz")).suffix
    return found if found in ENDINGS and (found != ".parquet" or name.endswith(found)) else None


def cells(source: Source) -> tuple[Iterator[Any], dict[str, str]]:
    """The rows of `source`, and the commit that was read by the id of a hub dataset; nothing by that of a file.

    Of a table, the rows hold `source.columns` alone. Raises `FAULTS` where one is asked for that cannot be read.
    """
    return (_lines(source.file, source.columns), {}) if source.file else _hub(source)


def check_columns(columns: Iterable[str], names: Iterable[str]) -> None:
    """Raises ValueError for the first of `columns` that is not among `names`, with what there is instead."""
    known = list(names)
    for name in columns:
        if name not in known:
            listed = dict.fromkeys([*difflib.get_close_matches(name, known), *known])
            raise ValueError(f"no column {name!r}; there are {', '.join(listed) or 'none'}")


def told(error: Exception) -> str:
    """What is wrong, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8, byte 0x{error.object[error.start]:02x} cannot be read: save it as UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "holds half a character (a lone surrogate), which is not Unicode text"
    if isinstance(error, json.JSONDecodeError | RecursionError):
        return f"not JSON: {error}"
    if isinstance(error, csv.Error):
        return f"not CSV: {error}"
    if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
        return f"not gzip, or not whole: {error}"
    return " ".join(str(error).split()) or type(error).__name__


def _lines(file: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Rows of a file."""
    kind = ending(file)
    if kind == ".parquet":
        import pyarrow.parquet as pq

        # Without these two, a row group would be read as a whole.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as table:
            check_columns(columns, table.schema_arrow.names)
            for batch in table.iter_batches(BATCH, columns=list(columns), use_threads=False):
                yield from _dicts(batch)
        return
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as raw:
        # Decoded line by line, so that a bad byte is told with its row.
        lines = (line.decode("utf-8" if number else "utf-8-sig") for number, line in enumerate(raw))
        if kind in (".jsonl", ".ndjson"):
            yield from (json.loads(line) for line in lines if line.strip())
            return
        csv.field_size_limit(_LONGEST)  # holds for the process; of itself it is 131,072, less than a long dialogue
        delimiter = "\t" if kind == ".tsv" else ","
        rows: Iterator[list[str]] = filter(None, csv.reader(lines, delimiter=delimiter, strict=True))
        if kind == ".tsv":
            rows = map(_unswallowed, rows)
        header = next(rows, None)
        if header is None:
            return
        if twice := [name for name in columns if header.count(name) > 1]:
            raise ValueError(f"the header has {twice[0]!r} twice")
        check_columns(columns, header)
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} cells, and the header has {len(header)}")
            yield dict(zip(header, row, strict=True))


def _unswallowed(row: list[str]) -> list[str]:
    """A row of a TSV as it is. Raises ValueError for a cell that may hold the rows after it.

    Many tools write quotes of a TSV as they are, and one that begins a cell then takes all up to the next for its own:
    line breaks, and with two columns or more, tabs.
    """
    for cell in row:
        if "\n" in cell and ("\t" in cell or len(row) == 1):
            raise ValueError(
                f"the quoted cell {cell[:40]!r} runs over {cell.count(chr(10)) + 1} lines and may be several rows: "
                "save it as CSV or JSON Lines"
            )
    return row


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
            f"{source.path} is no file, and no hub dataset that can be read from here: {told(error).rstrip('.')}. "
            "Offline, only sets in the hub's cache can be read; gated ones need HF_TOKEN and their terms accepted"
        ) from None
    if re.fullmatch("[0-9a-f]{40}", revision) and builder.hash != revision:  # offline, the cache's newest is taken
        raise ValueError(f"{source.path} is out of reach, and the hub's cache has another commit, {builder.hash}")

    def batches() -> Iterator[Any]:
        check_columns(source.columns, rows.column_names)
        for batch in rows.select_columns(source.columns).with_format("arrow").iter(BATCH):
            yield from _dicts(batch)

    return batches(), {name: builder.hash}


def _dicts(batch: Any) -> Iterator[dict[str, Any]]:
    """Rows of an Arrow table."""
    for row in zip(*batch.columns, strict=True):
        yield {name: cell.as_py() for name, cell in zip(batch.column_names, row, strict=True)}
