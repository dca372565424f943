"""What the files of a run folder must hold, as tables. A damaged file is named with the key at fault.

    check("arms/x/arm.yaml", {"name": "x", "seed": "zero"}, ARM)
    ->   ValueError: arms/x/arm.yaml: seed must be an integer of 0 or more, not 'zero'

A form is a test of one value, a mapping of forms by key, or a list of one form for every item. A key that ends in "?"
may be missing; keys that a form does not name are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from holdfast.records import MOST, is_count, is_number

MOST_STEPS = 10**9
"""Of RL: more is a damaged number."""


class Kind(NamedTuple):
    """A test of one value, and what to call what passes it."""

    holds: Callable[[Any], bool]
    called: str


Form: TypeAlias = "Kind | Mapping[str, Form] | list[Form]"


def _is_count(value: Any, most: float = MOST) -> bool:
    return is_count(value) and value <= most


def _is_error(value: Any) -> bool:
    return value is None or (is_number(value) and value >= 0)


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_grid(value: Any, least: int) -> bool:
    """Whether these are RL steps, one at least, that rise from `least` or more."""
    steps = isinstance(value, list) and all(_is_step(step) for step in value)
    return steps and all(a < b for a, b in pairwise([least - 1, *value])) and bool(value)


def _are_steps(value: Any) -> bool:
    return _is_grid(value, 1) if isinstance(value, list) else _is_step(value) and value > 0


def _is_env(value: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, str)
    parts = list(value["parts"].values()) if isinstance(value.get("parts"), dict) else [value]
    return all(isinstance(part, dict) and isinstance(part.get("id"), str) for part in parts)


def _is_step(value: Any) -> bool:
    return _is_count(value, MOST_STEPS)


def _is_versions(value: Any) -> bool:
    lists = isinstance(value, dict) and all(isinstance(versions, list) for versions in value.values())
    return lists and all(isinstance(version, str) for versions in value.values() for version in versions)


TEXT = Kind(lambda value: isinstance(value, str), "a string")
TEXT_OR_NULL = Kind(_is_text_or_null, "a string or null")
COUNT = Kind(_is_count, "an integer of 0 or more")
VERSION = Kind(lambda value: _is_count(value) and value > 0, "an integer of 1 or more")
NUMBER = Kind(is_number, "a finite number")
ERROR = Kind(_is_error, "a finite number of 0 or more, or null")
STEP = Kind(_is_step, f"an integer from 0 to {MOST_STEPS}")
STEPS = Kind(_are_steps, f"RL steps that rise, from 1 to {MOST_STEPS}, or a number of updates")
GRID = Kind(lambda value: _is_grid(value, 0) and value[0] == 0, f"RL steps that rise from 0 to {MOST_STEPS}")
ENV = Kind(_is_env, "a string, or an object with an id or with parts that have one")
LIST = Kind(lambda value: isinstance(value, list), "a list")

LAUNCHED: Form = {
    "name": TEXT,
    "model": {"name": TEXT, "alias?": TEXT_OR_NULL},
    "init": {"name": TEXT, "installs?": [{"name": TEXT}]},
    "curriculum": [{"name": TEXT, "steps": STEPS, "env?": ENV}],
    "seed": COUNT,
    "control": TEXT,
    "format_control?": TEXT_OR_NULL,
    "variant?": TEXT,
}
"""arm.yaml of any version."""
ARM: Form = {"group": TEXT, "conditions": TEXT, "recipe": TEXT, "grid": GRID, "paid_by": [TEXT]}
"""What arm.yaml has besides, since there are folders of version 3."""
_SIZE: Form = {"rows": COUNT, "tokens": COUNT, "loss_tokens": COUNT}
DONE: Form = {
    "stages": [{"name": TEXT, "key?": TEXT, "card?": {"trained?": _SIZE}}],
    "versions?": Kind(_is_versions, "lists of strings, by library"),
}
EVAL: Form = {
    "name": TEXT,
    "env?": TEXT,
    "measures?": TEXT,
    "twin?": TEXT_OR_NULL,
    "judge?": TEXT_OR_NULL,
    "of?": TEXT_OR_NULL,
}
"""An eval of study.yaml of any version."""
COLLAPSE: Form = {"step": STEP, "install?": TEXT}
TRANSCRIPT: Form = {
    "id": TEXT,
    "step": STEP,
    "messages": [{"role": TEXT, "thought?": TEXT, "content": TEXT}],
    "tools?": LIST,
}
METRIC: Mapping[str, Form] = {
    "kl": {"step": STEP, "kl": NUMBER, "kl_token_se?": ERROR, "eval?": TEXT_OR_NULL},
    "train": {"step": STEP, "reward": NUMBER},
}
"""Rows of metrics.jsonl that a report reads, by kind."""


def check(where: object, value: Any, form: Form, key: str = "") -> None:
    """Raises ValueError in one line, which opens with `where` and names the key, for what is not of the form."""
    if isinstance(form, Kind):
        if not form.holds(value):
            raise ValueError(f"{where}: {key} must be {form.called}, not {' '.join(repr(value).split())[:60]}")
    elif isinstance(form, list):
        check(where, value, LIST, key)
        for i, item in enumerate(value):
            check(where, item, form[0], f"{key}[{i}]")
    else:
        if not isinstance(value, dict):
            told = f"{key} must be" if key else "must be"
            raise ValueError(f"{where}: {told} an object, not {' '.join(repr(value).split())[:60]}")
        for name, part in form.items():
            known, inner = name.rstrip("?"), f"{key}.{name.rstrip('?')}".lstrip(".")
            if known in value:
                check(where, value[known], part, inner)
            elif known == name:
                raise ValueError(f"{where}: no {inner}")
