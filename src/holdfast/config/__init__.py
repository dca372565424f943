"""What a run is made of: the schema that the YAML of `conf/` is checked against, a dataclass per thing.

YAML holds values alone, and `build` makes objects of it. Nothing here imports torch, so that a config is checked, and a
mistake in it told, before anything heavy starts.
"""

from __future__ import annotations

from pathlib import Path

from holdfast.config.arm import Arm, Stage
from holdfast.config.build import SCHEMA, build, first_difference, unbuild
from holdfast.config.environment import Env, Environment, Mixture, make_env, source_of
from holdfast.config.evals import Behaviour, Divergence, Eval
from holdfast.config.install import Init, Install, find_corpus
from holdfast.config.launch import Job, Launch
from holdfast.config.model import MODELS, Model
from holdfast.config.rl import GRPO, LIMITS, LOSS_TYPES, PATIENCE, PPO, RL
from holdfast.stats.margins import Margins

__all__ = [
    "GRPO",
    "LIMITS",
    "LOSS_TYPES",
    "MODELS",
    "PATIENCE",
    "PPO",
    "RL",
    "SCHEMA",
    "Arm",
    "Behaviour",
    "Divergence",
    "Env",
    "Environment",
    "Eval",
    "Init",
    "Install",
    "Job",
    "Launch",
    "Margins",
    "Mixture",
    "Model",
    "Stage",
    "build",
    "conf_dir",
    "find_corpus",
    "first_difference",
    "make_env",
    "source_of",
    "unbuild",
]


def conf_dir() -> Path:
    """The folder of configs: in the package where Holdfast was installed, else the checkout's."""
    installed = Path(__file__).parents[1] / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "conf"
