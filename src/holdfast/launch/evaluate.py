"""What `holdfast eval` runs: models as they come, an arm each without installs and RL, all on the same evals.

    holdfast eval pocket tuned=runs/tuned/final Qwen/Qwen3-0.6B --suite core seed=1

A word without "=" is a model, and so is a folder that has one in its path. KEY=VALUE is an override where KEY begins
with a key of the config, and any other is NAME=MODEL: its arm is called by that name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from omegaconf import DictConfig

from holdfast.config import Arm
from holdfast.config.checks import check_name
from holdfast.launch.hydra import SETTINGS, built, composed, config_dirs, options, or_end
from holdfast.launch.variant import Given

_AS_IT_COMES = ("init=none", "control=none", "format_control=null", "curriculum=[]")


def as_they_come(words: Sequence[str], suite: str, name: str, own: str | None) -> tuple[list[list[str]], str]:
    """The overrides of each model's arm, and a line that says where replies are cut. `own` is a folder of configs.

    The evals are the same on every model. They are as large as the pocket budget says, and no reply is cut shorter than
    the budget of any of the models would cut it, unless an override or the suite says otherwise.

    Raises ValueError, in one line, for a word that is neither model nor override. What makes no config ends the
    process as `launch` does.
    """
    models, overrides = told_apart(words, own)
    asked = [*_AS_IT_COMES, f"suite={suite}", f"name={name}"]
    found: list[int] = []
    limits: dict[str, int] = {}

    def look(cfg: DictConfig, given: Given) -> None:
        limit = cfg.budget.max_new_tokens
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"budget.max_new_tokens must be a whole number of 1 or more, not {limit!r}")
        found.append(limit)
        for row in built(cfg, given)[0].evals:
            limits[row.name] = max(limits.get(row.name, 0), row.max_new_tokens)

    where = ["--config-dir", own] if own else []
    for model in models:
        composed([*where, *model, *asked, *overrides], lambda cfg, given: or_end(lambda: look(cfg, given)))
    same = ["budget=pocket", f"budget.max_new_tokens={max(found)}"]
    return [[*model, *same, *asked, *overrides] for model in models], _told(limits)


def examined(words: Sequence[str], suite: str, own: str | None) -> list[Arm]:
    """The arm of each model, of as many episodes as its own budget says: checked, and not run. Raises as above."""
    models, overrides = told_apart(words, own)
    found: list[Arm] = []
    for model in models:
        where = ["--config-dir", own] if own else []
        words = [*where, *model, *_AS_IT_COMES, f"suite={suite}", *overrides]
        composed(words, lambda cfg, given: or_end(lambda: found.append(built(cfg, given)[0])))
    return found


def told_apart(words: Sequence[str], own: str | None) -> tuple[list[list[str]], list[str]]:
    """The overrides that stand for each model among `words`, and those words that are overrides themselves."""
    choices = [choice for choice in options("model", config_dirs(own)) if choice != "hub"]
    keys = {*SETTINGS, "hydra", *(folder.name for path in config_dirs(own) for folder in path.glob("*/"))}
    models, overrides = [], []
    for word in words:
        key, equals, value = word.partition("=")
        root = re.split(r"[./@]", key.lstrip("+~"))[0]
        deletes = word.startswith("~") and root in keys
        if _is_folder(word) or not (equals or deletes):
            models.append(_model(word, choices))
        elif root in keys:
            overrides.append(word)
        elif value in choices or "/" in value or _is_folder(value):
            check_name("the name of a model", key)
            models.append([*_model(value, choices), f"++model.alias={quoted(key)}"])
        else:
            raise ValueError(
                f"{word}: {value} is no model, such as pocket, smollm2, a folder or a hub id with its owner, "
                f"and {root} is no setting; allowed are {', '.join(SETTINGS)}"
            )
    if not models:
        raise ValueError("no model: give pocket, smollm2, a folder or a hub id")
    return models, overrides


def quoted(text: str) -> str:
    """`text` as a value that Hydra's override grammar leaves as it is."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text) + "'"


def _is_folder(word: str) -> bool:
    return os.path.isdir(os.path.expanduser(word))  # and not as Path does it, which knows no unknown user


def _model(word: str, choices: Collection[str]) -> list[str]:
    return [f"model={word}"] if word in choices else ["model=hub", f"model.path={quoted(word)}"]


def _told(limits: dict[str, int]) -> str:
    """Where replies are cut, by eval where that differs."""
    evals: dict[int, list[str]] = {}
    for name, limit in limits.items():
        evals.setdefault(limit, []).append(name)
    which = (f"at {limit} tokens" + f" ({', '.join(names)})" * (len(evals) > 1) for limit, names in evals.items())
    return f"replies are cut {' and '.join(which)}; budget.max_new_tokens=N sets another limit"
