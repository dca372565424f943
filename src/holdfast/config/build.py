"""Plain data into the objects it describes, and back: the one place where YAML becomes Python.

A mapping that says which class it is becomes that class, and nothing but the classes of this room may be named:

    {"_target_": "holdfast.config.Init", "name": "none", "installs": []}   ->   Init(name="none", installs=())
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from holdfast.config.arm import Arm, Stage
from holdfast.config.environment import Environment, Mixture
from holdfast.config.evals import Behaviour, Divergence
from holdfast.config.install import Init, Install
from holdfast.config.launch import Job, Launch
from holdfast.config.model import Model
from holdfast.config.rl import GRPO, PPO
from holdfast.stats.margins import Margins

_CLASSES = (
    Arm, Behaviour, Divergence, Environment, GRPO, Init, Install, Job, Launch, Margins, Mixture, Model, PPO, Stage,
)  # fmt: skip
SCHEMA: dict[str, type[Any]] = {
    f"holdfast.config.{cls.__name__}": cls for cls in _CLASSES
}
"""What `_target_` may name, and nothing else."""


def build(node: Any, where: str = "") -> Any:
    """Turn plain data into the objects it describes; lists become tuples. `where` is the node's key, for errors.

    Raises ValueError, in one line that names the key, for an unknown or missing key, a value of another type, and
    whatever a class says about its values.
    """
    if isinstance(node, list):
        return tuple(build(item, f"{where}.{_called(item, i)}") for i, item in enumerate(node))
    if not isinstance(node, dict):
        return node
    within = f"{where}." if where else ""
    values = {key: build(value, f"{within}{key}") for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        return values
    cls = SCHEMA.get(node["_target_"])
    if cls is None:
        raise ValueError(f"{within}_target_ must be one of {', '.join(SCHEMA)}, not {node['_target_']!r}")
    known: dict[str, Field[Any]] = {spec.name: spec for spec in fields(cls)}
    for key in values:
        if key not in known:
            raise ValueError(f"{within}{key} is no setting; allowed are {', '.join(known)}")
    types_of = get_type_hints(cls)
    for key, spec in known.items():
        if key not in values and spec.default is MISSING and spec.default_factory is MISSING:
            raise ValueError(f"{within}{key} is missing")
        if key in values and not _fits(values[key], types_of[key]):
            kind = re.sub(r"tuple\[([\w| ]+), \.\.\.\]", r"list of \1", str(spec.type))
            raise ValueError(f"{within}{key} must be of type {kind}, not {values[key]!r}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def unbuild(value: Any) -> Any:
    """What `build` makes `value` from."""
    if is_dataclass(value):
        inner = {spec.name: unbuild(getattr(value, spec.name)) for spec in fields(value)}
        return {"_target_": f"holdfast.config.{type(value).__name__}", **inner}
    if isinstance(value, Mapping):
        return {key: unbuild(item) for key, item in value.items()}
    return [unbuild(item) for item in value] if isinstance(value, tuple) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is what the annotation `hint` says. Whole numbers are numbers; True is not one."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin in (tuple, Sequence):
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def first_difference(old: Any, new: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """The first key, in the order of `old`, at which two configs differ, and both values; None where they agree."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{where}.{key}" if where else key, old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{where}.{_called(both[0], i)}", *both) for i, both in enumerate(zip(old, new, strict=True))]
    else:
        return None if old == new else (where, old, new)
    found = (first_difference(before, after, key) for key, before, after in pairs)
    return next((difference for difference in found if difference is not None), None)


def _called(item: Any, index: int) -> str:
    """How an error names an item of a list: by its name, if it has one."""
    return str(item["name"]) if isinstance(item, dict) and "name" in item else str(index)
