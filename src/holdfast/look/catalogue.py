"""What environments there are, and the one that is meant: the list of `holdfast envs`.

    holdfast/Harmless-v2    aligned
        Whether an assistant refuses harmful requests and still helps with innocent ones that look like them.
        requests=mixed harmful_share=0.5 jailbreak_share=0.5 jailbreak_depth=2 judge=rules

Everything is read from where it is said anyway: Gymnasium's registry, signatures and docstrings, the YAML of conf/env.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import gymnasium
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from holdfast.chat import ChatEnv
from holdfast.config import Environment, Mixture, build, conf_dir
from holdfast.config.environment import arguments, chat_class
from holdfast.config.faults import OURS

WIDTH = 110


def catalogue(module: str = OURS, config_dir: Path | None = None) -> Iterator[str]:
    """The lines that say which environments `module` registers, what they take, and which variants YAML makes of
    environments, in conf/env and in `config_dir`/env. Raises ValueError for a module or folder that is not there."""
    found = environments(module)
    if not found:
        raise ValueError(f"module {module} registers no chat environment")
    width = max(map(len, found))
    for env_id, kind in found.items():
        yield f"{title(env_id.ljust(width))}    {kind.pressure}"
        yield f"    {(kind.__doc__ or '').strip().partition(chr(10))[0]}"
        yield from _wrapped(" ".join(pair(*item) for item in own_arguments(env_id, kind).items()))
    yield f"\n{title('Arguments of every environment, with their defaults')}"
    section = re.search(r"^Arguments:\n((?:    .*\n)+)", inspect.cleandoc(ChatEnv.__doc__ or ""), re.MULTILINE)
    assert section is not None
    about = section[1].rstrip()
    for key, value in arguments(ChatEnv).items():
        about = re.sub(rf"^    {key}:", f"    {pair(key, value)}:", about, flags=re.MULTILINE)
    yield about
    yield f"\n{title('Variants, for env=NAME')}"
    files = variants(config_dir)
    width = max(map(len, files))
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        said = re.search(r"^id: *(.+)$", text, re.MULTILINE) or re.search(r"^shares: *(\{.+\})", text, re.MULTILINE)
        yield f"{title(name.ljust(width))}    {said[1] if said else '(as its defaults say)'}"
        head = takewhile(lambda line: re.match("# ?[^ ]", line), text.splitlines())  # up to the command, set further in
        yield from _wrapped(" ".join(line.lstrip("# ") for line in head))


def environments(module: str = OURS) -> dict[str, type[ChatEnv]]:
    """The chat environments whose classes are in the package of `module`, by id. Importing it registers them."""
    try:
        import_module(module)
    except (ImportError, TypeError) as error:  # TypeError for a name that begins with a dot
        raise ValueError(f"module {module!r} cannot be imported: {error}") from None
    found = {}
    for env_id, spec in sorted(gymnasium.registry.items()):
        point: Any = spec.entry_point
        place = point if isinstance(point, str) else point.__module__ if point else ""
        if re.split("[.:]", place)[0] == module.partition(".")[0] and (kind := chat_class(env_id)):
            found[env_id] = kind
    return found


def own_arguments(env_id: str, kind: type[ChatEnv]) -> dict[str, Any]:
    """What an environment takes beyond the arguments of every `ChatEnv`, with defaults. What it was registered with
    counts as its default."""
    common = arguments(ChatEnv).items()
    taken = {**arguments(kind), **gymnasium.registry[env_id].kwargs}
    return dict(item for item in taken.items() if item not in common)


def variants(config_dir: Path | None = None) -> dict[str, Path]:
    """The YAML files that `env=NAME` finds, by name. As for Hydra, ours come before those of `config_dir`."""
    if config_dir is not None and not config_dir.is_dir():
        raise ValueError(f"{config_dir}: no such folder of configs")
    found: dict[str, Path] = {}
    for folder in (conf_dir() / "env", *([] if config_dir is None else [config_dir / "env"])):
        for path in sorted(folder.rglob("*.yaml")):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return found


def find(what: str, settings: Sequence[str] = (), config_dir: Path | None = None) -> Environment | Mixture:
    """The environment that `what` names, with the arguments `settings`, such as "tools=distractor".

    Of a mixture the settings are its own, such as "shares.goal=0.5".

    `what` is the name of a variant or a Gymnasium id, with the module that registers it if that is not ours:
    "holdfast/Harmless-v2", "mine:me/Mine-v0". Raises ValueError for a name that is not there and for settings that
    cannot be read or that the environment refuses.
    """
    try:
        cfg = _composed(what, config_dir) if what in variants(config_dir) else _named(what, config_dir)
        given = OmegaConf.from_dotlist(list(settings))
        cfg.merge_with(given if "parts" in cfg else {"kwargs": given})
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{' '.join([what, *settings])}: {error}") from None
    environment: Environment | Mixture = build({"_target_": "holdfast.config.Environment", **plain})
    environment.check()
    return environment


def title(text: str) -> str:
    """`text` in bold where a person reads it at a terminal."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def pair(key: str, value: Any) -> str:
    """KEY=VALUE as it would be typed."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


def _composed(variant: str, config_dir: Path | None) -> DictConfig:
    """The `env` that `holdfast run env=VARIANT` would have."""
    place = str((config_dir or conf_dir()).resolve()).replace("'", "\\'")
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg: DictConfig = compose("config", [f"env={variant}", f"hydra.searchpath=['file://{place}']"])["env"]
    OmegaConf.set_struct(cfg, False)
    return cfg


def _named(what: str, config_dir: Path | None) -> DictConfig:
    """The environment of an id, without arguments."""
    module, _, env_id = what.rpartition(":")
    found = environments(module or OURS)
    if env_id not in gymnasium.registry:
        ids = [f"{module}:{name}" if module else name for name in found]
        close = get_close_matches(what, [*variants(config_dir), *ids], cutoff=0.5)
        listed = "`holdfast envs` lists what there is, and `holdfast envs MODULE:` what a module registers"
        advice = f"do you mean {' or '.join(close)}?" if close else listed
        raise ValueError(f"there is no variant or environment {what!r}; {advice}")
    return OmegaConf.create({"name": "environment", "id": what, "kwargs": {}})
