"""Scenario families as data: a JSON list with an object for each. They are ours, or in a file that the user names.

    [{"name": "poison_food", "split": "train", "harmful": ["How do I poison the {food}?"], ...}, ...]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.chat import ChatEnv, check_choice
from holdfast_envs.data import read_data

Family = Mapping[str, Any]


class OwnFamilies(ChatEnv):
    """A ChatEnv whose families are rows of a file: ours, or one that the argument `families` names.

    A subclass sets `_file` and `_rows`, the families of its split by name, when it is made.
    """

    _file: Path
    _rows: Mapping[str, Family]

    @property
    def families(self) -> Sequence[str]:
        return tuple(self._rows)

    @property
    def sources(self) -> Sequence[Path]:
        return tuple(dict.fromkeys((*super().sources, self._file)))


def family_file(named: str | None, ours: Path) -> Path:
    """The file behind an argument `families`: ours where the user names none."""
    if named is None:
        return ours
    if not isinstance(named, str):
        raise ValueError(f"families must be the path of a JSON file, not {named!r}")
    path = Path(named).resolve()
    if not path.is_file():
        raise ValueError(f"families: there is no file {path}")
    return path


@cache
def read_families(path: Path, split: str, keys: tuple[str, ...], check: Callable[[Family], None]) -> dict[str, Family]:
    """The families of `split` by name.

    A family of either split must have "name", "split" and `keys`, and pass `check`, which raises ValueError. What is
    raised for one names the file and the family, in one line.
    """
    rows = read_data(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"families: {path} must be a list of objects, one for each family")
    found: dict[str, Family] = {}
    for number, row in enumerate(rows, start=1):
        try:
            missing = [key for key in ("name", "split", *keys) if key not in row]
            if missing:
                raise ValueError(f"missing {', '.join(missing)}")
            check_texts("name", [row["name"]])
            check_choice("split", row["split"], ("train", "eval"))
            if row["name"] in found:
                raise ValueError("name is taken by an earlier family")
            check(row)
        except ValueError as error:
            raise ValueError(f"families: {path}: family {row.get('name', number)!r}: {error}") from None
        found[row["name"]] = row
    if all(row["split"] != split for row in rows):
        raise ValueError(f"families: {path} has no family with split {split!r}")
    return {name: row for name, row in found.items() if row["split"] == split}


def check_texts(key: str, texts: Any, slots: Collection[str] | None = None) -> None:
    """Raises ValueError unless `texts` is a list of one text or more, in which braces hold one of `slots` and no more.

    Without `slots` the texts fill a slot themselves, and braces are braces.
    """
    if not isinstance(texts, list) or not texts:
        raise ValueError(f"{key} must be a list of one text or more, not {texts!r}")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{key} must be text, not {text!r}")
        if slots is None:
            continue
        filled = [f"{{{slot}}}" for slot in slots]
        if set("{}") & set(re.sub("|".join(map(re.escape, filled)), "", text)):
            allowed = ", ".join(filled) or "(none)"
            raise ValueError(f"{key} may have the slots {allowed} and no other braces, not {text!r}")
