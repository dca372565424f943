"""What a study compares: model x init x curriculum at one seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from holdfast.config.checks import SEEDS, at_least, check_name, within
from holdfast.config.environment import Environment, Mixture
from holdfast.config.evals import MOST_EPISODES, Divergence, Eval
from holdfast.config.install import Init, Install
from holdfast.config.launch import Launch
from holdfast.config.model import Model
from holdfast.config.rl import GRPO, PPO
from holdfast.stats.margins import Margins


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One RL run."""

    name: str
    env: Environment | Mixture
    algo: GRPO | PPO
    steps: tuple[int, ...]
    """Evaluate after these RL steps, counted from the start of the stage; the last is its length. 1 or more, rising."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("algo.name", self.algo.name)
        for env in self.env.environments:
            if env.kwargs.get("split", "train") != "train":
                raise ValueError(f"env.kwargs.split must be train, not {env.kwargs['split']!r}: the rest is held out")
        if not self.steps or any(after <= before for before, after in pairwise((0, *self.steps))):
            raise ValueError(f"steps must be rising numbers of 1 or more, not {list(self.steps)}")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Model x init x curriculum at one seed, with the evals and margins that its study shares."""

    study: str
    model: Model
    init: Init
    curriculum: tuple[Stage | Install, ...]
    """The pressure, in order: RL, and supervised stages, which are installs after the evals at step 0."""
    seed: int
    """0 to 2**32 - 1: of corpora, sampling and training. Two arms of one seed differ in nothing else."""
    control: str
    """Name of an init. The arm with that init, and all else the same, is the control."""
    format_control: str | None
    """Name of an init. The arm with that init, and all else the same, is the format control; None for no such arm."""
    evals: tuple[Eval, ...]
    kl: Divergence
    margins: Margins
    variant: str = ""
    """What else its name has to say, such as "lr=1e-4": the settings that it was launched with and no name holds."""

    def __post_init__(self) -> None:
        check_name("study", self.study)
        check_name("control", self.control)
        if self.format_control is not None:
            check_name("format_control", self.format_control)
        within("seed", self.seed, 0, SEEDS - 1)
        for stage in self.curriculum:
            check_name("curriculum.name", stage.name)
            if isinstance(stage, Install):
                at_least(f"curriculum.{stage.name}.steps", stage.steps, 1)
        if not self.evals:
            raise ValueError("evals must hold at least one eval")
        for row in self.evals if self.curriculum else ():
            first = 2 * row.scenarios * row.samples
            within(f"evals.{row.name}: 2 * scenarios * samples, the episodes at step 0,", first, 1, MOST_EPISODES)
        names = [row.name for row in self.measured]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"evals.{name}: two evals have that name, one of them as a second judge's")
        vouch = [row.name for row in self.evals if row.better == "high"]
        for row in self.evals:
            if row.twin is not None and row.twin not in vouch:
                allowed = f"must be one of {', '.join(vouch)}" if vouch else "needs an eval with better=high"
                raise ValueError(f"evals.{row.name}.twin {allowed}, not {row.twin!r}")

    @property
    def name(self) -> str:
        """Such as "pocket-advice-chat-grpo-s0": says everything that arms of one study may differ in."""
        return "-".join(filter(None, self.parts))

    @property
    def group(self) -> str:
        """The name without its seed: arms of one group are one arm of the report."""
        return "-".join(filter(None, self.parts[:-1]))

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        """What the name is put together from: model, init, stages, variant and seed. The third and fourth may be ""."""
        ways = [stage.method if isinstance(stage, Install) else stage.algo.name for stage in self.curriculum]
        stages = "-".join(f"{stage.name}-{way}" for stage, way in zip(self.curriculum, ways, strict=True))
        return self.model.label, self.init.name, stages, self.variant, f"s{self.seed}"

    @property
    def conditions(self) -> str:
        """A digest of model and curriculum: an arm is compared with a control of equal conditions alone.

        Of RL that comes last the steps do not count, as what is reached at a step does not depend on those after it. In
        a supervised stage it does, by the learning rate.
        """
        return _digest(self._model(), *self._stages())

    @property
    def recipe(self) -> str:
        """A digest of all that arms of one group have in common."""
        return _digest(self._model(), asdict(self.init), self.control, self.format_control, *self._stages())

    def _model(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self.model).items() if key != "alias"}  # which changes nothing

    def _stages(self) -> list[dict[str, Any]]:
        rows = []
        for number, stage in enumerate(self.curriculum, start=1):
            row = asdict(stage)
            if isinstance(stage, Stage):
                last = number == len(self.curriculum)
                row |= {"method": stage.algo.method, "steps": None if last else stage.steps[-1]}
            rows.append(row)
        return rows or [{"steps": None}]

    @property
    def grid(self) -> list[int]:
        """Steps at which the arm is evaluated, counted over the whole curriculum; the first is 0.

        A supervised stage counts its updates as steps, and is evaluated at its end.
        """
        grid = [0]
        for stage in self.curriculum:
            start = grid[-1]
            grid += [start + step for step in ([stage.steps] if isinstance(stage, Install) else stage.steps)]
        return grid

    @property
    def rl(self) -> tuple[Stage, ...]:
        """The stages of its curriculum that are RL."""
        return tuple(stage for stage in self.curriculum if isinstance(stage, Stage))

    @property
    def installs(self) -> tuple[Install, ...]:
        """All of its supervised steps: those of the init, and those of the curriculum."""
        return (*self.init.installs, *(stage for stage in self.curriculum if isinstance(stage, Install)))

    @property
    def measured(self) -> tuple[Eval, ...]:
        """The evals, each with what a second judge makes of it after it: all that has records."""
        return tuple(one for row in self.evals for one in (row, row.second_opinion) if one is not None)

    @property
    def paid_by(self) -> list[str]:
        """The judges whose word the rewards of its curriculum hang on."""
        found = (env.judged_by for stage in self.rl for env in stage.env.environments)
        return sorted({judge for judge in found if judge is not None})

    @property
    def contents(self) -> list[str]:
        """What was found in data that the user brings, a line for each environment that has any, for RL and evals."""
        found = [env.contents for stage in self.rl for env in stage.env.environments]
        found += [row.environment.contents for row in self.evals]
        return [line for line in found if line]

    @property
    def harms(self) -> tuple[Eval, ...]:
        """The evals on which low scores are better: a yes is a temptation fallen for."""
        return tuple(row for row in self.evals if row.better == "low")

    def evals_at(self, step: int) -> tuple[Eval, ...]:
        """The evals as they are run at an RL step.

        Before RL they draw twice as many samples of each scenario: the first half is what later steps are paired with,
        and the second, which is independent of it, says whether there is anything to keep.
        """
        twice = step == 0 and self.curriculum
        return tuple(replace(row, samples=2 * row.samples) for row in self.evals) if twice else self.evals

    def check(self, launch: Launch) -> None:
        """Ask all that can be known before anything runs: what is named is there, and RL can be launched this way.

        Raises ValueError, naming the key.
        """
        named: list[tuple[str, Model | Install | Environment | Mixture | Eval]] = [
            ("model", self.model),
            *(("init.installs", row) for row in self.init.installs),
            *(("curriculum", stage if isinstance(stage, Install) else stage.env) for stage in self.curriculum),
            *(("evals", row) for row in self.evals),
        ]
        for key, row in named:
            try:
                row.check()
            except ValueError as error:
                raise ValueError(f"{key}.{row.name}: {error}") from None
        for stage in self.rl:
            launch.check(stage.algo)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
