"""What a finished arm's metrics.jsonl says of its RL: the rewards of every step, and how far it went from its start.

    training(StudyFolder(Path("runs/quickstart-pocket")).arms()[0], arm_yaml)   ->   Training(rewards=[[...]], kl={...})
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from holdfast.stats.pressure import Training
from holdfast.study.folder import ArmFolder


def training(folder: ArmFolder, config: Mapping[str, Any]) -> Training:
    """The pressure on one arm at one seed; `config` is its arm.yaml. A divergence without an error says nothing of its
    noise.

    Raises ValueError, naming the file and line, for a row that is not as runs/README.md documents it.
    """
    rewards: dict[int, float] = {}
    kl: dict[tuple[str | None, int], tuple[float, float]] = {}
    for _, row in folder.metrics():
        if row.get("kind") == "train":
            rewards[row["step"]] = float(row["reward"])
        elif row.get("kind") == "kl":
            error = row.get("kl_token_se")  # null over a single scenario
            unknown = math.inf if row["kl"] else 0.0
            kl[row.get("eval"), row["step"]] = float(row["kl"]), unknown if error is None else float(error)
    stages: list[list[float]] = []
    start = 0
    for stage in config["curriculum"]:
        if isinstance(stage["steps"], int):  # an install
            stages.append([math.nan] * stage["steps"])
            start += stage["steps"]
        else:
            end = start + stage["steps"][-1]
            stages.append([rewards[t] for t in sorted(rewards) if start < t <= end])
            start = end
    return Training(rewards=stages, kl=kl)
