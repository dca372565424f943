"""What an RL run says about itself: a line of metrics a step, where the time went, and when to stop.

metrics.jsonl has a line for every step since the stage's start, those of earlier segments included:

    {"kind": "train", "algo": "grpo", "step": 12, "reward": 0.31, "component/refuses": 0.4, "kl_estimate": 0.02, ...}

- step: how many are done.
- reward, reward_std; component/NAME for each reward component: means over episodes.
- zero_variance: share of groups whose rewards are all alike; resampled: how many were replaced.
- raised: share of episodes in which the environment raised, of all that were played, those of replaced groups too. Such
  episodes take no part in the loss, nor in a mean over episodes or tokens; zero_variance is of the others in a group.
- length: sampled tokens per episode, of which thought are of thoughts; turns: replies per episode; truncated: share of
  replies cut short.
- entropy: nats a token; kl_estimate: KL to the stage's start before the update, nats a token, of an episode of each
  group; it may be below 0.
- loss; grad_norm: before clipping at 1; clip: share of tokens whose ratio was clipped; lr.
- policy_loss, value_loss, explained_variance: PPO's.
- tokens_per_second: sampled, over the whole step, those of episodes that raised too.
- seconds_PART: rollout (sampling), reward (environments and judges), score (passes without gradient, such as that of
  the critic or of the start), forward, backward, update (all else: mostly AdamW).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from holdfast.config import PATIENCE, RL
from holdfast.train.limits import Collapse, check_limits

METRICS = {
    "token_entropy": "entropy", "kl_to_start": "kl_estimate", "loss": "loss", "grad_norm": "grad_norm",
    "clip_ratio/region_mean": "clip", "cispo_clip_ratio": "clip",
    "policy_loss": "policy_loss", "value_loss": "value_loss", "explained_variance": "explained_variance",
}  # fmt: skip
"""The trainer's names: ours."""


class Clock:
    """Sums the seconds of named parts. A part within a part stops the outer one, so that no second counts twice."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._parts: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._lap()
        self._parts.append(part)
        try:
            yield
        finally:
            self._lap()
            self._parts.pop()

    def take(self) -> dict[str, float]:
        """The seconds of each part since this was last called."""
        self._lap()
        taken, self._seconds = dict(self._seconds), defaultdict(float)
        return taken

    def _lap(self) -> None:
        if torch.cuda.is_available():  # whose work goes on while Python does
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._parts:
            self._seconds[self._parts[-1]] += now - self._since
        self._since = now


class Meter(TrainerCallback):
    """Writes a step's metrics line and moves the progress bar, after the last of the step's updates.

    Raises Collapse where the policy has become degenerate; every process finds that at the same step.
    """

    def __init__(
        self, cfg: RL, first_step: int, out: Path, resume: Path | None, bar: tqdm[Any], *, write: bool
    ) -> None:
        self.cfg, self.bar, self.clock = cfg, bar, Clock()
        before = (resume / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if resume else []
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in before]
        if len(self.lines) != first_step:
            raise ValueError(f"first_step {first_step} cannot go on from {resume}, which is after {len(self.lines)}")
        self.summary: dict[str, float] = {}
        self.tokens = 0  # sampled in the step
        self.updates: list[Mapping[str, float]] = []
        self.began = time.perf_counter()
        self._file = (out / "metrics.jsonl").open("w", encoding="utf-8") if write else None
        for line in self.lines:
            self._write(line)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.updates:
            self.began = time.perf_counter()
            self.clock.take()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs:  # the trainer's closing summary
            return
        cfg = self.cfg
        step = len(self.lines) + 1
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            raise Collapse(f"no finite loss or gradient at step {step}: lr {cfg.lr} is too high", self.lines)
        self.updates.append(logs)
        if len(self.updates) < cfg.updates * cfg.minibatches:
            return
        seconds = time.perf_counter() - self.began
        parts = self.clock.take()
        line = {
            "kind": "train",
            "algo": cfg.method,
            "step": step,
            **self.summary,
            **{name: self._mean(key) for key, name in METRICS.items() if key in self.updates[0]},
            "lr": logs["learning_rate"],
            "tokens_per_second": self.tokens / seconds,
            **{
                f"seconds_{part}": parts.get(part, 0.0)
                for part in ("rollout", "reward", "score", "forward", "backward")
            },
            "seconds_update": seconds - sum(parts.values()),
        }
        if broken := [name for name, value in line.items() if isinstance(value, float) and not math.isfinite(value)]:
            raise Collapse(f"no finite {broken[0]} at step {step}", self.lines)
        self.lines.append(line)
        self._write(line)
        self.updates = []
        self.bar.set_postfix(reward=f"{line['reward']:.3f}", kl=f"{line['kl_estimate']:.3f}", refresh=False)
        self.bar.update()
        check_limits(cfg, self.lines[-PATIENCE:])

    def _mean(self, key: str) -> float:
        """Over the updates that report it: what belongs to a rollout is reported once."""
        values = [update[key] for update in self.updates if key in update]
        return sum(values) / len(values)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
