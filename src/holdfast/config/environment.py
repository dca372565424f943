"""Environments by their Gymnasium id: making one, and a hash of what it is.

The library knows environments by id alone, so one from any package is on equal terms with ours:

    make_env("holdfast_envs:holdfast/Harmless-v1", {"split": "eval", "judge": {"name": "rules"}})
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium

from holdfast import judges
from holdfast.chat import GOAL, ChatEnv, Observation

Env: TypeAlias = gymnasium.Env[Observation, str]


def make_env(env_id: str, kwargs: Mapping[str, Any]) -> Env:
    """Make an environment by its Gymnasium id, such as "holdfast_envs:holdfast/Harmless-v1".

    A judge that is described, such as {"name": "rules"}, is made by `holdfast.judges`.

    Raises ValueError in one line for an id that is not registered and for arguments the environment does not take.
    """
    try:
        judge = kwargs.get("judge")
        made = {"judge": judges.make(judge)} if isinstance(judge, Mapping) else {}
        return gymnasium.make(env_id, disable_env_checker=True, **{**kwargs, **made})
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"unknown environment {env_id!r}, `holdfast envs` lists ours: {_first_line(error)}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"environment {env_id!r} refuses its arguments: {_first_line(error)}") from None


def source_of(env_id: str, kwargs: Mapping[str, Any]) -> str:
    """A hash of what an environment says and how it scores: part of what a stage is, so part of the stage's key.

    That is the modules of the environment's class and of those it inherits from, what these import of their own
    packages, `holdfast.chat`, the data files beside them that any of these names, and the files that the arguments name
    (`ChatEnv.sources`).
    """
    env = make_env(env_id, kwargs).unwrapped
    classes = {cls.__module__ for cls in type(env).__mro__ if issubclass(cls, ChatEnv)} | {type(env).__module__}
    modules = set().union(*map(_with_imports, classes | {"holdfast.chat"}))
    paths = [_file(name) for name in sorted(modules)]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    for room in sorted({_file(name).parent for name in classes} | {Path(str(files("holdfast_envs")))}):
        data = (path for path in sorted(room.rglob("*")) if path.is_file() and path.suffix not in (".py", ".pyc"))
        paths += [path for path in data if path.name in text]
    digest = hashlib.sha256()
    if isinstance(env, ChatEnv):
        paths += env.sources
        if env.conflict:
            digest.update(source_of(GOAL, {}).encode())
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _file(module: str) -> Path:
    return Path(str(sys.modules[module].__file__))


def _with_imports(module: str) -> set[str]:
    """`module` and all that it imports, directly or not, below the top of its own package, of what is loaded."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        found.add(name)
        for node in ast.walk(ast.parse(_file(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                base = node.module if not node.level else f"{name.rpartition('.')[0]}.{node.module}"
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            top = module.partition(".")[0]
            waiting += [n for n in names if n in sys.modules and n.startswith(f"{top}.") and n not in found]
    return found


def _first_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.partition(" was raised from the environment creator")[0]  # Gymnasium's postscript
