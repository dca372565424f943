"""Readers of tables: each gives the cells of the wanted columns, row by row, and holds a part of the file at most.

    wanted ["text", "label"] of     id,text,label              gives ["Who is it?", "safe"]
                                    7,Who is it?,safe

Raises ValueError, in one line that names the file and where there is one the line, for what cannot be read.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
"""A dataset on the Hugging Face hub: "owner/name" or "owner/name@revision"."""

_BATCH = 1024  # rows of a Parquet file or a hub dataset that are in memory at once


def _csv(path: Path, wanted: Sequence[str]) -> Iterator[Sequence[Any]]:
    with path.open("rb") as file:
        reader = csv.reader(_lines(path, file), strict=True)
        try:
            header = next((row for row in reader if row), [])
            if not header:
                return
            _check_columns(path, header, wanted)
            places = [header.index(name) for name in wanted]
            for row in reader:
                if row and len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(row)} cells, and the header has {len(header)}"
                    )
                if row:  # not a blank line
                    yield [row[place] for place in places]
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _jsonl(path: Path, wanted: Sequence[str]) -> Iterator[Sequence[Any]]:
    with path.open("rb") as file:
        checked = False
        for number, line in enumerate(_lines(path, file), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: must be an object such as {{...}}, not {line.strip():.40}")
            if not checked:
                _check_columns(path, list(row), wanted)
                checked = True
            yield [row.get(name) for name in wanted]


def _parquet(path: Path, wanted: Sequence[str]) -> Iterator[Sequence[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pre_buffer a row group is not read as a whole.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            _check_columns(path, file.schema_arrow.names, wanted)
            for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(wanted)), use_threads=False):
                yield from zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: holds text that is not UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {_one_line(error)}") from None


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Sequence[Any]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}
"""What reads a local file, by the ending of its name."""


def read_hub(
    path: str, config: str | None, split: str, options: Mapping[str, Any], wanted: Sequence[str]
) -> Iterator[Sequence[Any]]:
    """Rows of a dataset on the Hugging Face hub; `options` are more arguments of `datasets.load_dataset`."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    found = HUB_ID.fullmatch(path)
    assert found
    try:
        rows = datasets.load_dataset(found[1], config, split=split, revision=found[2], **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"{path} is no file, and no hub dataset that can be read from here: {_one_line(error).rstrip('.')}. "
            "Offline, only sets in the hub's cache can be read; gated ones need HF_TOKEN and their terms accepted"
        ) from None
    _check_columns(path, rows.column_names, wanted)
    columns = rows.select_columns(list(dict.fromkeys(wanted))).with_format("arrow")
    for batch in columns.iter(batch_size=_BATCH):
        yield from zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)


def _lines(path: Path, file: Any) -> Iterator[str]:
    """Lines of a file in UTF-8, with or without a byte order mark; a line ends in a newline and nothing else."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not UTF-8, byte 0x{line[error.start]:02x} cannot be read: save it as UTF-8"
            ) from None


def _check_columns(path: Path | str, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if there.count(name) > 1:
            raise ValueError(f"{path} has {there.count(name)} columns {name!r}")
        if name not in there:
            close = difflib.get_close_matches(name, there, n=len(there))
            names = dict.fromkeys([*close, *there])
            raise ValueError(f"{path} has no column {name!r}; there are {', '.join(names)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
