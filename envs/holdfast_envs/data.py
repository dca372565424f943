"""What several environments share: reading plain data, drawing from pools, tools whose arguments are all text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from holdfast.chat import ToolSpec


@cache
def read_data(name: str) -> Any:
    """What is in `prompts/NAME`, a JSON file. Name it in full where it is read: the keys of stages look for that."""
    return json.loads((files("holdfast_envs") / "prompts" / name).read_text(encoding="utf-8"))


def picks(rng: np.random.Generator, *pools: Sequence[Any]) -> list[Any]:
    """One entry of each pool. All are drawn at once: a NumPy call for each would take twice the time."""
    drawn = rng.integers([len(pool) for pool in pools]).tolist()
    return [pool[i] for pool, i in zip(pools, drawn, strict=True)]


def text_tool(name: str, description: str, *arguments: str) -> ToolSpec:
    """A tool whose arguments are all strings, and all required."""
    properties = {argument: {"type": "string"} for argument in arguments}
    return ToolSpec(name, description, {"type": "object", "properties": properties, "required": list(arguments)})
