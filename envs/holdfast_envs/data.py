"""What several environments share: reading plain data, drawing from pools, tools whose arguments are all text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.chat import ToolSpec

PROMPTS = Path(__file__).with_name("prompts")


@cache
def read_data(path: Path) -> Any:
    """What is in a JSON file, which is read once, as code is. An environment has it among its `sources`.

    Raises ValueError in one line if it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def picks(rng: np.random.Generator, *pools: Sequence[Any]) -> list[Any]:
    """One entry of each pool. All are drawn at once: a NumPy call for each would take twice the time."""
    drawn = rng.integers([len(pool) for pool in pools]).tolist()
    return [pool[i] for pool, i in zip(pools, drawn, strict=True)]


def text_tool(name: str, description: str, *arguments: str) -> ToolSpec:
    """A tool whose arguments are all strings, and all required."""
    properties = {argument: {"type": "string"} for argument in arguments}
    return ToolSpec(name, description, {"type": "object", "properties": properties, "required": list(arguments)})
