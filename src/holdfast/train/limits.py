"""When to stop training: a degenerate policy and a broken environment teach nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.config import PATIENCE, RL

RAISING = "the environment keeps raising"


class Collapse(RuntimeError):
    """Training that there is no sense in going on with: its policy is degenerate, its loss is not finite, or its
    environment keeps raising. Says what, when, and which limit.

    `lines` are the metrics of the stage so far, which would else be gone with what was not stored.
    """

    def __init__(self, message: str, lines: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(message)
        self.lines = lines


def check_limits(cfg: RL, lines: Sequence[Mapping[str, Any]]) -> None:
    """Raises Collapse if a limit of `cfg` is passed on `PATIENCE` of these steps in a row.

    `lines` are the metrics of steps that follow each other, as in metrics.jsonl.
    """
    for end in range(PATIENCE, len(lines) + 1):
        last = lines[end - PATIENCE : end]
        for name, limit, broken, unit in (
            ("raised", "max_raised", all(line["raised"] > cfg.max_raised for line in last), "of the episodes"),
            ("entropy", "min_entropy", all(line["entropy"] < cfg.min_entropy for line in last), "nats a token"),
            ("length", "min_length", all(line["length"] < cfg.min_length for line in last), "tokens an episode"),
            ("kl_estimate", "max_kl", all(line["kl_estimate"] > cfg.max_kl for line in last), "nats a token"),
        ):
            if broken:
                what = RAISING if name == "raised" else "the policy collapsed"
                raise Collapse(
                    f"{what}: at step {last[-1]['step']}, {name} is {last[-1][name]:.4g} {unit} and has "
                    f"been beyond {limit} = {getattr(cfg, limit)} for {PATIENCE} steps; the last checkpoint before it "
                    "is kept",
                    lines[:end],
                )
