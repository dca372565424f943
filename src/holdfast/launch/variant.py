"""What an arm's name says beyond model, init, environment and algorithm: the settings that it was launched with.

    holdfast run -m algo.lr=1e-4,1e-5   ->   pocket-generic-chat-grpo-lr=1e-4-s0   pocket-generic-chat-grpo-lr=1e-5-s0

They are Hydra's overrides of the job, so that arms are told apart by them in one sweep and in several commands alike.
An override is in the name whether it changes anything or not.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, OmegaConf

_ELSEWHERE = (
    "name", "runs", "launch", "report_to",  # no part of the arm
    "study", "suite", "evals", "margins", "kl", "budget.evals", "budget.kl", "sampling",  # shared by the study's arms
    "control", "format_control",  # these as well
    "seed",  # the end of the name
)  # fmt: skip
_IN_PART = ("steps", "budget.steps", "curriculum", "model.path")
"""What a name has a part of, or what an arm may be given more of under its name: in a variant where it is swept."""
_GROUPS = ("model", "init", "env", "algo")
"""Whose choices have a name that is part of the arm's."""
_LONG, _LONG_VALUE = 72, 24
"""Characters of a variant, and of a value in it. What is longer ends in a digest of the whole."""


@dataclass(frozen=True)
class Given:
    """What a job was composed with."""

    overrides: Sequence[str]
    """Of the job: "algo.lr=1e-4"."""
    swept: Collection[str] = ()
    """The keys that have several values in the sweep it is one of."""


def variant(cfg: DictConfig, given: Given) -> str:
    """The settings of `given` that no name in `cfg` holds, by key: "budget=hub-rl.group=4"; "" if there are none.

    `cfg` is one that an arm can be built from.
    """
    found: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(list(given.overrides)):
        key = override.key_or_group + (f"@{override.package}" if override.package else "")
        elsewhere = _under(key, _ELSEWHERE) or (_under(key, _IN_PART) and key not in given.swept)
        if not elsewhere and not _held(cfg, key, override):
            found[key] = _text(override)
    if not cfg.curriculum and not cfg.init.installs:  # a model as it comes: nothing is bought from a budget
        found = {key: text for key, text in found.items() if not _under(key, ("budget",))}
    short = {key: key.partition(".")[2] or key for key in found}  # without its group, where one key alone is called so
    times = Counter(short.values())
    words = [f"{short[key] if times[short[key]] == 1 else key}={found[key]}" for key in sorted(found)]
    parts = [re.sub(r"[^A-Za-z0-9._=+-]", "_", word) for word in words]
    kept = list(parts)
    while len("-".join(kept)) > _LONG:
        kept.pop()
    return "-".join(kept if kept == parts else [*kept, _digest("-".join(words))])


def swept(words: Sequence[str]) -> set[str]:
    """The keys that have several values in a command line; what Hydra cannot read is left to it to complain about."""
    keys = set()
    for word in words:
        with suppress(HydraException):
            (override,) = OverridesParser.create().parse_overrides([word])
            keys |= {override.key_or_group} if override.is_sweep_override() else set()
    return keys


def _under(key: str, roots: Sequence[str]) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)


def _held(cfg: DictConfig, key: str, override: Override) -> bool:
    """Whether the names in `cfg` say what `key` is: with another value they would be others."""
    if override.is_delete():
        return False
    if key == "model" and OmegaConf.select(cfg, "model.alias") is not None:
        return True  # the alias stands for it, whatever it is
    if key in _GROUPS:
        choice, name = str(_plain(override)), str(cfg[key].name)
        if name != choice and not name.startswith(f"{choice}-"):  # a mixture's goes on with its share
            return False
        key = f"{key}.name"
    if isinstance(OmegaConf.select(cfg, key), Container):
        return False
    other = copy.deepcopy(cfg)
    OmegaConf.update(other, key, "\0", force_add=True)
    return _names(other) != _names(cfg)


def _names(cfg: DictConfig) -> list[Any]:
    """What `Arm.name` is put together from."""
    ways = [stage.algo.name if "algo" in stage else stage.method for stage in cfg.curriculum]
    stages = [*(stage.name for stage in cfg.curriculum), *ways]
    return [cfg.model.name, OmegaConf.select(cfg, "model.alias"), cfg.init.name, *stages]


def _plain(override: Override) -> Any:
    value = override.value()
    return value.text if isinstance(value, QuotedString) else value


def _text(override: Override) -> str:
    """The value as part of a name; values of one key that differ have texts that do."""
    if override.is_delete():
        return "deleted"
    value = _plain(override)
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, list) and value and all(_is_number(item) for item in value):
        text = "-".join(map(_number, value))
    else:
        text = _number(value) if _is_number(value) else str(value)
    if len(text) <= _LONG_VALUE and re.fullmatch(r"[A-Za-z0-9._+-]+", text):
        return text
    end = text.rstrip("/").rpartition("/")[2] if isinstance(value, str) else ""  # of a path, what says most
    end = re.sub(r"[^A-Za-z0-9._+]+", "_", end).strip("_")[-_LONG_VALUE:]
    return f"{end}-{_digest(text)}" if end else _digest(text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    """As one would write it: 0.0001 is 1e-4, and 0.5 is 0.5."""
    plain = repr(value)
    return min(plain, format(Decimal(plain).normalize(), "e"), key=len) if isinstance(value, float) else plain


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
