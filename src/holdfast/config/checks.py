"""Checks that several configs make: each raises ValueError, naming the field, its value and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

SEEDS = 2**32
"""Seeds are below this: NumPy's, torch's and Transformers' generators take no larger ones."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_name(key: str, name: str) -> None:
    """`name` can be part of a file name everywhere."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{key} must be letters, digits, dots, _ and -, starting with a letter or digit, not {name!r}")


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    """`value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}, not {value!r}")


def at_least(key: str, value: float, least: float) -> None:
    """`value` is finite and `least` or more."""
    if not (value >= least and math.isfinite(value)):
        finite = "" if math.isfinite(value) else " and finite"
        raise ValueError(f"{key} must be {least} or more{finite}, not {value}")


def within(key: str, value: float, least: float, most: float) -> None:
    """`value` is from `least` to `most`."""
    if not least <= value <= most:
        raise ValueError(f"{key} must be {least} to {most}, not {value}")


def positive(key: str, value: float) -> None:
    """`value` is finite and above 0."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{key} must be above 0 and finite, not {value}")
