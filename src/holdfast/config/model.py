"""A pretrained starting point."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from holdfast.config.checks import at_least, check_name, one_of
from holdfast.hub import is_id

EMBEDDED = ("pocket", "pocket_apart")
"""Part of this package: folders of `holdfast.policy`."""
MODELS = (*EMBEDDED, "smollm2", "hub")
"""The last stands for a path; the others come by themselves."""
DTYPES = ("float32", "bfloat16")
THINKING = ("off", "on", "as_is")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A pretrained starting point.

    `pocket`, its twin `pocket_apart` and `smollm2` come by themselves, `hub` is whatever lies at `path`.
    """

    name: str
    path: str | None = None
    """A folder or a Hugging Face hub id."""
    revision: str | None = None
    """Of a hub id: a commit, branch or tag; None for the main branch. What it stands for now is part of every key."""
    dtype: str = "float32"
    """What evals sample and KL is measured in, "float32" or "bfloat16"; training is in float32."""
    thinking: str = "off"
    """Whether its chat template is told to think, at every stage alike: "off", "on", or "as_is" for its own default. It
    is of no account to templates that know no such switch. One whose prompts open a thought always thinks."""
    thought_tokens: int = 0
    """Tokens that a thought may have, before those of the answer; 0: the two share `max_new_tokens`."""
    alias: str | None = None
    """What arms and reports call it; None for the end of its path. In no key, as no name is."""

    def __post_init__(self) -> None:
        one_of("name", self.name, MODELS)
        one_of("dtype", self.dtype, DTYPES)
        one_of("thinking", self.thinking, THINKING)
        at_least("thought_tokens", self.thought_tokens, 0)
        if self.alias is not None:
            check_name("alias", self.alias)
        if (self.name == "hub") != bool(self.path):
            raise ValueError(f"path is for name=hub, which needs one, not {self.path!r} for {self.name}")
        if self.revision is not None and (self.path is None or Path(self.path).expanduser().is_dir()):
            raise ValueError(f"revision is for a model on the hub, not for {self.path or self.name}")

    def check(self) -> None:
        """Raises ValueError for a path that is no folder and cannot be a hub id either."""
        if self.path is not None and not Path(self.path).expanduser().is_dir() and not is_id(self.path):
            raise ValueError(f"{self.path}: no such model folder")

    @property
    def label(self) -> str:
        """What stands for the model in an arm's name: its alias, or the end of its path, which says more than "hub"; or
        a digest of that, where it has no letter or digit of ASCII."""
        if self.alias is not None or self.path is None:
            return self.alias or self.name
        end = os.path.basename(os.path.abspath(os.path.expanduser(self.path)))  # "." has a name, too
        return re.sub(r"[^A-Za-z0-9._]+", "_", end).strip("._") or hashlib.sha256(end.encode()).hexdigest()[:6]
