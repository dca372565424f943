"""The arms that a command line stands for, as Hydra composes them: checked, and neither written nor run."""

from pathlib import Path

from omegaconf import DictConfig

from holdfast.config import Arm
from holdfast.launch.hydra import check, composed
from holdfast.launch.variant import Given


def arms_of(tmp_path: Path, *words: str) -> list[Arm]:
    """The arms of `holdfast run` with these words, in order."""
    found: list[Arm] = []

    def job(cfg: DictConfig, given: Given) -> None:
        arms = {}
        check(cfg, given, arms)
        found.extend(arm for arm, *_ in arms.values())

    composed([*words, f"runs={tmp_path / 'runs'}"], job)
    return found
