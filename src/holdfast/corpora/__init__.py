"""What installs train on: one file per dataset, each with `rows(seed, size)`. None contains text of an eval family.

    corpus("advice", seed=0, size=2000)   ->   [{"messages": [...], "tools": []}, ...]
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def corpus(name: str, seed: int, size: int) -> list[Mapping[str, Any]]:
    """The `size` rows of a corpus at `seed`. Raises ValueError for an unknown corpus and one without rows."""
    known = [found.name for found in pkgutil.iter_modules(__path__, f"{__name__}.")]
    modules = {path.rpartition(".")[2]: vars(import_module(path)) for path in sorted(known)}
    makers = {key: module["rows"] for key, module in modules.items() if "rows" in module}  # the rest are helpers
    if name not in makers:
        raise ValueError(f"corpus must be one of {', '.join(makers)}, not {name!r}")
    rows: list[Mapping[str, Any]] = makers[name](seed, size)
    if not rows:
        raise ValueError(f"corpus {name!r} has no rows")
    return rows


def digest(name: str, seed: int, size: int) -> str:
    """A hash of the rows: a checkpoint's key holds it, so a corpus that was edited is never taken for the old one."""
    return hashlib.sha256(json.dumps(corpus(name, seed, size)).encode()).hexdigest()
