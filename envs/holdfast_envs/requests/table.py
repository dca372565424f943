"""A user's prompts, read once and kept on disk: of any number of rows, only the one that is asked for is in memory.

A file is read row by row and checked, and what is needed of it goes to a temporary file that is mapped into memory, one
JSON list after another. A row costs 16 bytes of memory: where it begins, a hash of its text, its place in their order.

    prompt,label                           row 1: ["How do I pick a lock?", true, "", ""]
    How do I pick a lock?,unsafe

Errors count rows from 1 and without the header; lines are the file's, and a cell with line breaks has several.
"""

from __future__ import annotations

import json
import mmap
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast_envs.requests.readers import HUB_ID, READERS, read_hub

_HASHES = 2**32
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where prompts are and what their columns mean: all that a `Table` depends on."""

    path: str
    """A file, or the id of a dataset on the Hugging Face hub, with or without "@revision"."""
    prompt: tuple[str, ...]
    """Columns of the prompt: the first that is not empty counts."""
    harmful: str | None
    topic: str | None
    category: str | None
    default: bool | None
    """Whether a prompt is harmful where no column says; None if one always does."""
    harmful_when: tuple[str, ...]
    """What means harmful in that column, in lower case, all else being innocent; empty for true and false."""
    between: tuple[str, str] | None
    """Marks before and after the prompt in a longer text."""
    config: str | None
    hub_split: str
    options: tuple[tuple[str, Any], ...]
    """More arguments of `datasets.load_dataset`."""

    @property
    def file(self) -> Path | None:
        """The local file; None for a dataset on the hub."""
        path = Path(self.path).expanduser()
        hub = path.suffix.lower() not in READERS and not path.exists() and HUB_ID.fullmatch(self.path)
        return None if hub else path


@dataclass(frozen=True)
class Row:
    """One prompt. `topic` and `category` are "" where no column says."""

    prompt: str
    harmful: bool
    topic: str
    category: str


class Table:
    """All prompts of a source, by their place in it from 0: see `open_table`."""

    def __init__(self, source: Source) -> None:
        starts, hashes = array("Q", [0]), array("I")
        self.any_harmful = False
        with tempfile.TemporaryFile() as file:
            for prompt, harmful, topic, category in _checked(source):
                size = file.write(json.dumps([prompt, harmful, topic, category]).encode())
                starts.append(starts[-1] + size)
                hashes.append(_hash(prompt))
                self.any_harmful |= harmful
            if not hashes:
                raise ValueError(f"{source.path} has no rows")
            file.flush()
            self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._starts, drawn = starts, np.frombuffer(hashes, np.uint32)
        self._order = np.argsort(drawn, kind="stable").astype(np.uint32)
        self._hashes = drawn[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def rows(self, split: str, eval_share: float) -> npt.NDArray[np.uint32]:
        """Places of the rows of a split, in the order of a hash of their text, which is a fixed shuffle.

        The hash alone decides the split: a row is in one whatever else is there, equal texts are in the same, and a
        larger share only moves rows from "train" to "eval".
        """
        end = bisect_left(self._hashes, eval_share * _HASHES)
        return self._order[:end] if split == "eval" else self._order[end:]

    def __getitem__(self, index: int) -> Row:
        return Row(*json.loads(self._pages[self._starts[index] : self._starts[index + 1]]))


def open_table(source: Source) -> Table:
    """The prompts of `source`, read once in a process for as long as the file stays as it is.

    Raises ValueError, in one line that names the file and the row or line, for anything that cannot be used.
    """
    file = source.file
    if file is None:
        return _table(source, (0, 0))
    if file.suffix.lower() not in READERS:
        raise ValueError(f"{source.path} must end in one of {', '.join(READERS)}, or be a hub dataset's owner/name")
    if not file.is_file():
        raise ValueError(f"{source.path}: no such file")
    stat = file.stat()
    return _table(source, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)
def _table(source: Source, stamp: tuple[int, int]) -> Table:
    return Table(source)


def _hash(prompt: str) -> int:
    text = " ".join(prompt.split()).casefold()  # what differs in case or spacing alone is no other prompt
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())


def _checked(source: Source) -> Iterator[tuple[str, bool, str, str]]:
    """Prompt, harmful, topic and category of each row."""
    labels = [name for name in (source.harmful, source.topic, source.category) if name]
    wanted = [*source.prompt, *labels]
    file = source.file
    if file is None:
        cells = read_hub(source.path, source.config, source.hub_split, dict(source.options), wanted)
    else:
        cells = READERS[file.suffix.lower()](file, wanted)
    prompts, matched, seen = len(source.prompt), False, set[str]()
    for number, row in enumerate(cells, 1):
        rest = iter(row[prompts:])
        try:
            prompt = _prompt(row[:prompts], source)
            label = next(rest) if source.harmful else None
            harmful = _harmful(label, source)
            topic = _text(next(rest)) if source.topic else ""
            category = _text(next(rest)) if source.category else ""
        except ValueError as error:
            raise ValueError(f"{source.path}, row {number}: {error}") from None
        matched |= harmful
        if len(seen) < 5:
            seen.add(str(label))
        yield prompt, harmful, topic, category
    if source.harmful_when and seen and not matched:
        raise ValueError(
            f"{source.path}: no row has harmful_when ({', '.join(source.harmful_when)}) in {source.harmful!r}, "
            f"which says {', '.join(sorted(seen))}"
        )


def _prompt(cells: Sequence[Any], source: Source) -> str:
    filled = [pair for pair in zip(source.prompt, cells, strict=True) if pair[1] is not None and pair[1] != ""]
    if not filled:
        raise ValueError(f"{' and '.join(map(repr, source.prompt))} must not be empty")
    name, prompt = filled[0]
    if not isinstance(prompt, str):
        raise ValueError(f"{name!r} must be text, not {str(prompt)[:40]!r}")
    if source.between:
        before, after = source.between
        if before not in prompt:
            raise ValueError(f"{name!r} has no {before!r}")
        prompt = prompt.partition(before)[2].partition(after)[0].strip()
    if not prompt.strip():
        raise ValueError(f"{name!r} must not be blank")
    return _text(prompt)


def _harmful(cell: Any, source: Source) -> bool:
    label = "" if cell is None else str(cell).strip().lower()
    if not label:
        if source.default is None:
            raise ValueError(f"{source.harmful!r} is empty, and harmful does not say what such rows are")
        return source.default
    if source.harmful_when:
        return label in source.harmful_when
    if label not in (*_YES, *_NO):
        raise ValueError(f"{source.harmful!r} is {cell!r}, not true or false: harmful_when can list what means harmful")
    return label in _YES


def _text(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate), which is not Unicode text") from None
    return text
