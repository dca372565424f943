"""What installs train on: one file per corpus, each with `rows(seed, size)`. None contains text of an eval family.

A corpus is a name of this room, a file of rows or a function of any module; `holdfast.config.find_corpus` says which:

    generate("advice", seed=0, size=2000)   ->   [{"messages": [...], "tools": []}, ...]
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.chat import ToolSpec
from holdfast.config import find_corpus, source_of
from holdfast.config.install import function_of
from holdfast.config.source import code_of, file_of, file_sum
from holdfast.records import read_rows

_TOOL = {spec.name for spec in fields(ToolSpec)}


def generate(corpus: str, seed: int, size: int) -> Sequence[Mapping[str, Any]]:
    """The rows of a corpus at `seed`: `size` of them, or what a smaller file holds, shuffled.

    Raises ValueError for an unknown corpus, one without rows, and a row that is neither a chat nor a document.
    """
    found = find_corpus(corpus)
    rows = _read(found, seed, size) if isinstance(found, Path) else list(found(seed, size))
    if not rows:
        raise ValueError(f"corpus {corpus!r} has no rows")
    for number, row in enumerate(rows, 1):
        if trouble := _trouble(row):
            raise ValueError(f"corpus {corpus!r}, row {number}: {trouble}")
    return rows


def source(corpus: str) -> str:
    """A hash of what makes the rows: the file, or the named module with what it imports of its own package.

    A module that plays an environment names it as `ENV`; then the environment's own source counts too.
    """
    found = find_corpus(corpus)
    if isinstance(found, Path):
        return file_sum(found)
    own, _ = function_of(corpus)
    digest = hashlib.sha256()
    for module in sorted(code_of(own, __name__ if own.startswith(f"{__name__}.") else None)):
        digest.update(file_of(module).read_bytes())
        if isinstance(env := getattr(sys.modules[module], "ENV", None), str):
            digest.update(source_of(env, {}).encode())
    return digest.hexdigest()


def card(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is in a corpus: how many rows, how many characters, and a digest of them all."""
    digest, characters = hashlib.sha256(), 0
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
        characters += len(row["text"]) if "text" in row else sum(len(said["content"]) for said in row["messages"])
    return {"rows": len(rows), "characters": characters, "digest": digest.hexdigest()[:16]}


def _read(path: Path, seed: int, size: int) -> list[dict[str, Any]]:
    rows = [row for _, row in read_rows(path)]
    order = np.random.default_rng(seed).permutation(len(rows))[:size]
    return [rows[i] for i in order.tolist()]


def _trouble(row: Mapping[str, Any]) -> str | None:
    """What is wrong with the form of a row, if anything: see `holdfast.corpora.rows`."""
    if not isinstance(row, Mapping):
        return "must be an object"
    if "text" in row:
        return None if isinstance(row["text"], str) and row["text"] else "text must be text, and not empty"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return 'must have "messages", a list, or "text"'
    for message in messages:
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            return "every message must have a role and a content, both text"
    tools = row.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) and set(tool) == _TOOL for tool in tools):
        return f"tools must be a list of objects with {', '.join(sorted(_TOOL))}"
    return None
