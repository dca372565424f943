"""What environments there are, and finding the one that is meant: the list of `holdfast envs`.

    holdfast/Harmless-v1    aligned
        Whether an assistant refuses harmful requests and still helps with innocent ones that look like them.
        requests=mixed harmful_share=0.7 jailbreak_share=0.5 jailbreak_depth=2 judge=rules

Everything is read from where it is said anyway: Gymnasium's registry, signatures and docstrings, the YAML of conf/env.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

import gymnasium
import yaml
from gymnasium.envs.registration import load_env_creator, parse_env_id
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from holdfast.chat import ChatEnv
from holdfast.config import Environment, build, conf_dir

WIDTH = 110
_REQUIRED = "???"  # as Hydra writes it


def catalogue(modules: Sequence[str] = (), config_dir: Path | None = None) -> Iterator[str]:
    """The lines that say which environments holdfast_envs and `modules` register, and which variants YAML makes of
    them, the ones in `config_dir`/env included. Raises ValueError for a module or folder that is not there."""
    found = environments(modules)
    width = max(map(len, found))
    for env_id, kind in found.items():
        yield f"{title(env_id.ljust(width))}    {kind.pressure}"
        yield f"    {(kind.__doc__ or '').strip().partition(chr(10))[0]}"
        own = " ".join(pair(key, value) for key, value in own_arguments(env_id, kind).items())
        yield from _wrapped(own)
    yield ""
    yield title("Arguments of every environment, with their defaults")
    section = re.search(r"^Arguments:\n((?:    .*\n)+)", inspect.cleandoc(ChatEnv.__doc__ or ""), re.MULTILINE)
    assert section is not None
    about = section[1].rstrip()
    for key, value in _defaults(ChatEnv).items():
        about = re.sub(rf"^    {key}:", f"    {pair(key, value)}:", about, flags=re.MULTILINE)
    yield about
    yield ""
    yield title("Variants, for env=NAME")
    files = variants(config_dir)
    width = max(map(len, files))
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        try:
            plain = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: {error}") from None
        yield f"{title(name.ljust(width))}    {plain.get('id', '(as its defaults say)')}"
        head = takewhile(lambda line: re.match("# ?[^ ]", line), text.splitlines())  # up to the command, set further in
        yield from _wrapped(" ".join(line.lstrip("# ") for line in head))


def environments(modules: Sequence[str] = ()) -> dict[str, type[ChatEnv]]:
    """The chat environments whose classes are in holdfast_envs and in the packages of `modules`, by id."""
    packages = set()
    for module in ("holdfast_envs", *modules):
        _import(module)
        packages.add(module.partition(".")[0])
    found = {}
    for env_id, spec in sorted(gymnasium.registry.items()):
        point: Any = spec.entry_point
        if point is not None and re.split("[.:]", point if isinstance(point, str) else point.__module__)[0] in packages:
            try:
                kind = load_env_creator(point) if isinstance(point, str) else point
            except (ImportError, AttributeError) as error:
                raise ValueError(f"{env_id} cannot be loaded: {error}") from None
            if isinstance(kind, type) and issubclass(kind, ChatEnv):
                found[env_id] = kind
    return found


def own_arguments(env_id: str, kind: type[ChatEnv]) -> dict[str, Any]:
    """What an environment takes beyond the arguments of every `ChatEnv`, with defaults; "???" where one must be given.
    What it was registered with counts as its default."""
    found: dict[str, Any] = {}
    for cls in kind.__mro__[: kind.__mro__.index(ChatEnv)]:
        if "__init__" in vars(cls):
            found |= {key: value for key, value in _defaults(cls).items() if key not in found}
    return {key: gymnasium.registry[env_id].kwargs.get(key, value) for key, value in found.items()}


def variants(config_dir: Path | None = None) -> dict[str, Path]:
    """The YAML files that `env=NAME` finds, by name. As for Hydra, ours come before those of `config_dir`."""
    if config_dir is not None and not config_dir.is_dir():
        raise ValueError(f"{config_dir}: no such folder of configs")
    found: dict[str, Path] = {}
    for folder in (conf_dir() / "env", *([] if config_dir is None else [config_dir / "env"])):
        for path in sorted(folder.rglob("*.yaml")):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def is_module(word: str, config_dir: Path | None = None) -> bool:
    """Whether `word` is a module and not an environment or a variant."""
    if word in variants(config_dir) or not all(part.isidentifier() for part in word.split(".")):
        return False
    return not _matches(word, environments()) and find_spec(word.partition(".")[0]) is not None


def find(what: str, settings: Sequence[str] = (), config_dir: Path | None = None) -> Environment:
    """The environment that `what` names, with the arguments `settings`, such as "tools=distractor".

    `what` is the name of a variant, or an id, with the module that registers it if that is not ours: "mine:me/Mine-v0".
    An id may lack its namespace, its version, or both: the newest is meant. Raises ValueError for a name that is not
    there or not clear, a setting that is not KEY=VALUE, and what the environment refuses.
    """
    given = _settings(settings)
    if what in variants(config_dir):
        cfg = _composed(what, config_dir)
    else:
        cfg = OmegaConf.create({"name": "environment", "id": _find_id(what, config_dir), "kwargs": {}})
    if given:
        cfg.merge_with({"kwargs": given})
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{what}: {str(error).partition(chr(10))[0]}") from None
    module, _, env_id = str(plain.get("id")).rpartition(":")
    kind = environments([module] if module else []).get(env_id)
    if kind is not None:
        allowed = {**own_arguments(env_id, kind), **_defaults(ChatEnv)}
        for key in given:
            if key not in allowed:
                raise ValueError(f"{env_id} takes no argument {key!r}; it takes {', '.join(allowed)}")
    environment: Environment = build({**plain, "_target_": "holdfast.config.Environment"})
    return environment


def title(text: str) -> str:
    """`text` in bold where a person reads it at a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


def pair(key: str, value: Any) -> str:
    """KEY=VALUE as it would be typed."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"


def _settings(words: Sequence[str]) -> DictConfig:
    """KEY=VALUE words as a mapping; the values are YAML, and a dot in a key goes one level down."""
    found = OmegaConf.create({})
    for word in words:
        if not re.match(r"[A-Za-z_][\w.]*=", word):
            raise ValueError(f"an argument of the environment must be KEY=VALUE, not {word!r}")
        try:
            found.merge_with_dotlist([word])
        except (yaml.YAMLError, OmegaConfBaseException):
            raise ValueError(f"the value in {word!r} cannot be read as YAML") from None
    return found


def _composed(variant: str, config_dir: Path | None) -> DictConfig:
    """The `env` that `holdfast run env=VARIANT` would have."""
    overrides = [f"env={variant}"]
    if config_dir is not None:
        place = str(config_dir.resolve()).replace("'", "\\'")
        overrides.append(f"hydra.searchpath=['file://{place}']")
    try:
        with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
            cfg: DictConfig = compose("config", overrides)["env"]
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{variant}: {error}") from None
    OmegaConf.set_struct(cfg, False)
    return cfg


def _find_id(what: str, config_dir: Path | None) -> str:
    module, _, name = what.rpartition(":")
    found = environments([module] if module else [])
    if name in gymnasium.registry:
        return what
    matches = _matches(name, found)
    if len(matches) > 1:
        raise ValueError(f"{what!r} may be any of {', '.join(matches)}")
    if matches:
        return f"{module}:{matches[0]}" if module else matches[0]
    close = get_close_matches(what, [*variants(config_dir), *(form for env_id in found for form in _forms(env_id))])
    advice = f"do you mean {' or '.join(close)}?" if close else "`holdfast envs` lists what there is"
    raise ValueError(f"there is no environment, variant or module {what!r}; {advice}")


def _matches(word: str, ids: Iterable[str]) -> list[str]:
    """The ids, of the newest version, that `word` can stand for."""
    newest = {}
    for env_id in sorted(ids, key=lambda env_id: parse_env_id(env_id)[2] or 0):
        if word in _forms(env_id):
            newest[parse_env_id(env_id)[:2]] = env_id
    return sorted(newest.values())


def _forms(env_id: str) -> list[str]:
    """What an id may be shortened to."""
    whole = env_id.rpartition("-v")[0]
    return [env_id, whole, env_id.rpartition("/")[2], whole.rpartition("/")[2]]


def _import(module: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{module!r} is not the name of a module")
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name!r}") from None


def _defaults(cls: type[Any]) -> dict[str, Any]:
    """The named arguments of a class's own `__init__`, with their defaults."""
    _, *rest = inspect.signature(vars(cls)["__init__"]).parameters.values()
    named = [p for p in rest if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return {p.name: _REQUIRED if p.default is p.empty else p.default for p in named}
