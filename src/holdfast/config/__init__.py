"""What a run is made of: the schema that the YAML of `conf/` is checked against, and the one helper that builds it.

The dataclasses are the schema; YAML holds values alone. A mapping that says which class it is becomes that class:

    {"_target_": "holdfast.config.Init", "name": "none", "installs": []}   ->   Init(name="none", installs=())

Nothing here imports torch, so that a config is checked, and a mistake in it told, before anything heavy starts.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from holdfast.config.environment import make_env, source_of
from holdfast.config.launch import Job, Launch, check_name
from holdfast.config.rl import GRPO, PPO, Install
from holdfast.stats.verdict import MEASURES, Margins

MODELS = ("pocket", "smollm2", "hub")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A pretrained starting point: `pocket` and `smollm2` come by themselves, `hub` is whatever lies at `path`."""

    name: str
    path: str | None = None
    """A folder or a Hugging Face hub id."""
    dtype: str = "float32"
    """What evals sample in, "float32" or "bfloat16"; training is in float32."""

    def __post_init__(self) -> None:
        for key, value, allowed in (("name", self.name, MODELS), ("dtype", self.dtype, DTYPES)):
            if value not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, not {value!r}")
        if (self.name == "hub") != bool(self.path):
            raise ValueError(f"path is for name=hub, which needs one, not {self.path!r} for {self.name}")

    @property
    def label(self) -> str:
        """What stands for the model in an arm's name: the end of its path says more than "hub"."""
        return re.sub(r"[^A-Za-z0-9._]+", "_", Path(self.path).name).strip("._") if self.path else self.name


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A registered Gymnasium environment and its arguments. Raises ValueError if there is no such thing."""

    name: str
    """What the study calls it."""
    id: str
    """Gymnasium's, with the module that registers it: "holdfast_envs:holdfast/Harmless-v1"."""
    kwargs: Mapping[str, Any]
    """Arguments of the environment."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        make_env(self.id, self.kwargs).close()

    @cached_property
    def source(self) -> str:
        """See `source_of`. Read once: the code that runs is the code that was loaded."""
        return source_of(self.id, self.kwargs)


@dataclass(frozen=True, kw_only=True)
class Init:
    """How a checkpoint was initialised: installs in order, none at all for a model as it comes."""

    name: str
    installs: tuple[Install, ...]

    def __post_init__(self) -> None:
        check_name("name", self.name)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One RL run."""

    name: str
    env: Environment
    algo: GRPO | PPO
    steps: tuple[int, ...]
    """Evaluate after these RL steps, counted from the start of the stage; the last is its length. 1 or more, rising."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("algo.name", self.algo.name)
        if self.env.kwargs.get("split", "train") != "train":
            raise ValueError(f"env.kwargs.split must be train, not {self.env.kwargs['split']!r}: the rest is held out")
        if not self.steps or any(after <= before for before, after in pairwise((0, *self.steps))):
            raise ValueError(f"steps must be rising numbers of 1 or more, not {list(self.steps)}")


@dataclass(frozen=True, kw_only=True)
class Eval:
    """A fixed set of episodes: `samples` draws at each of `scenarios` seeds of the environment's eval split."""

    name: str
    env: str
    """Gymnasium's id, as of `Environment`."""
    measures: str
    """What a yes is: "misalignment", the less the better, or "competence", the more the better."""
    scenarios: int
    samples: int
    max_new_tokens: int
    """Tokens to a reply."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the environment, but for its split."""
    temperature: float = 1.0
    max_turns: int = 8
    """Replies to an episode."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.measures not in MEASURES:
            raise ValueError(f"measures must be one of {', '.join(MEASURES)}, not {self.measures!r}")
        for key in ("scenarios", "samples", "max_new_tokens", "max_turns"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be 1 or more, not {getattr(self, key)}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")
        if "split" in self.kwargs:
            raise ValueError("kwargs must not hold split: evals always use the eval split")
        Environment(name=self.name, id=self.env, kwargs=self.env_kwargs)

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """What the environment is made with."""
        return {**self.kwargs, "split": "eval"}

    @cached_property
    def source(self) -> str:
        """See `source_of`. Read once: the code that runs is the code that was loaded."""
        return source_of(self.env, self.env_kwargs)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How the KL divergence from the RL start is measured: `samples` episodes of each of `prompts` scenarios."""

    prompts: int
    samples: int

    def __post_init__(self) -> None:
        # The standard error needs two scenarios.
        for key, least in (("prompts", 2), ("samples", 1)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be {least} or more, not {getattr(self, key)}")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Model x init x curriculum at one seed, with the evals and margins that its study shares."""

    study: str
    model: Model
    init: Init
    curriculum: tuple[Stage, ...]
    seed: int
    """0 or more: of corpora, sampling and training. Two arms of one seed differ in nothing else."""
    control: str
    """Name of the init whose arm, else the same, is the control."""
    evals: tuple[Eval, ...]
    kl: Divergence
    margins: Margins

    def __post_init__(self) -> None:
        check_name("study", self.study)
        check_name("control", self.control)
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, not {self.seed}")

    @property
    def name(self) -> str:
        """Such as "pocket-advice-chat-grpo-s0": says everything that arms of one study may differ in."""
        stages = [f"{stage.name}-{stage.algo.name}" for stage in self.curriculum]
        return "-".join([self.model.label, self.init.name, *stages, f"s{self.seed}"])

    @property
    def grid(self) -> list[int]:
        """RL steps at which the arm is evaluated, counted over the whole curriculum; the first is 0."""
        grid = [0]
        for stage in self.curriculum:
            start = grid[-1]
            grid += [start + step for step in stage.steps]
        return grid


SCHEMA: dict[str, type[Any]] = {
    f"holdfast.config.{cls.__name__}": cls
    for cls in (Arm, Divergence, Environment, Eval, GRPO, Init, Install, Job, Launch, Margins, Model, PPO, Stage)
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
            kind = re.sub(r"tuple\[(\w+), \.\.\.\]", r"list of \1", str(spec.type))
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


def read_arm(folder: Path) -> Arm:
    """The arm that `arm.yaml` in a run folder describes. Its name and grid stand there for readers alone."""
    given = yaml.safe_load((folder / "arm.yaml").read_text(encoding="utf-8"))
    arm: Arm = build({key: value for key, value in given.items() if key not in ("name", "grid")})
    return arm


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


def conf_dir() -> Path:
    """The folder of configs: in the package where Holdfast was installed, else the checkout's."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"
