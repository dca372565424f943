"""From Hydra overrides to running arms: each job of a sweep is checked, then planned, and run by `processes`.

    launch(["init=generic,advice", "seed=0,1"], multirun=True)   ->   Launched(runs=[Path("runs/study")], failed=[])
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from holdfast import corpora
from holdfast.config import SCHEMA, Arm, Job, build, conf_dir, find_corpus, first_difference
from holdfast.errors import one_line
from holdfast.launch.power import power_line
from holdfast.launch.processes import Planned, alone, run
from holdfast.launch.variant import Given, swept, variant
from holdfast.study.folder import ArmFolder, StudyFolder

T = TypeVar("T")
SETTINGS = (
    *(field.name for cls in (Job, Arm) for field in fields(cls) if field.name not in ("study", "variant")),
    *("env", "judge", "algo", "steps", "budget", "sampling"),  # what stages, installs and evals are put together from
)
"""The keys of a config."""


@dataclass(frozen=True)
class Launched:
    """The run folders that arms were put in, and the arms that did not come to their end."""

    runs: list[Path]
    failed: list[str]


def launch(
    *commands: Sequence[str], multirun: bool = False, config_dir: str | None = None, show: str | None = None
) -> Launched:
    """Run arms by Hydra's overrides: those of every command, in order, once all of them are checked.

    Raises ValueError, in one line, for what Hydra cannot make sense of.

    `show` prints configs and runs nothing, as Hydra's --cfg: "job" prints every job of a sweep. A user's mistake
    ends the process with status 2, after its one line; an arm that crashes lets the others go on.
    """
    if multirun and show not in (None, "job"):
        raise ValueError(f"--cfg must be job for a sweep, not {show}")
    folders = config_dirs(config_dir)
    words = ["--multirun"] * multirun + (["--config-dir", config_dir] if config_dir else [])
    words += ["--cfg", show] if show and not multirun else []
    sweeps = [[*words, *(expanded(word, folders) for word in overrides)] for overrides in commands]
    if show:
        for sweep in sweeps:
            composed(sweep, lambda cfg, _: print(f"---\n{OmegaConf.to_yaml(cfg)}", end=""))
        return Launched([], [])
    adaptive = any("hydra/sweeper" in word for sweep in sweeps for word in sweep)  # its next job may hang on the last
    inits = options("init", folders)
    if not adaptive:
        arms: dict[str, tuple[Arm, Job, Mapping[str, Any]]] = {}
        for sweep in sweeps:
            plainly = [word for word in sweep if not word.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))]
            composed([*plainly, "hydra/launcher=basic"], lambda cfg, given: or_end(lambda: check(cfg, given, arms)))
        or_end(lambda: check_controls(arms.values(), inits))
        for line in dict.fromkeys(line for arm, *_ in arms.values() for line in arm.contents):
            print(line, flush=True)
        if told := power_line([arm for arm, *_ in arms.values()]):
            print(told, flush=True)
    planned: dict[str, Planned] = {}
    with tempfile.TemporaryDirectory(prefix="holdfast-") as scratch:
        journal = Path(scratch) / "jobs"  # a file, as joblib's jobs are in other processes

        def job(cfg: DictConfig, given: Given) -> None:
            if adaptive:
                single: dict[str, tuple[Arm, Job, Mapping[str, Any]]] = {}
                or_end(lambda: check(cfg, given, single))
                or_end(lambda: check_controls(single.values(), inits))
            one = or_end(lambda: Planned(*built(cfg, given)))
            if _left_to_us():
                planned.setdefault(str(one.folder.path), one)
                return
            folder, status = or_end(lambda: _at_hydras_bidding(one))
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps([str(folder.path), status]) + "\n")

        for sweep in sweeps:
            composed(sweep, job)
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    ended = {Path(folder): status for folder, status in map(json.loads, lines)}
    ended |= {folder.path: status for folder, status in or_end(lambda: run(list(planned.values())))}
    failed = [folder.name for folder, status in ended.items() if status]
    if failed and len(ended) > 1:
        told = f"{len(failed)} of {len(ended)} arms did not come to their end: {', '.join(failed)}"
        print(f"holdfast: error: {told}", file=sys.stderr)
    return Launched(runs=list(dict.fromkeys(ArmFolder(folder).study.path for folder in ended)), failed=failed)


def composed(words: Sequence[str], job: Callable[[DictConfig, Given], None]) -> None:
    """Let Hydra compose these words into configs, and call `job` with each and what was given for it."""
    before, several = sys.argv, swept(words)

    def told(cfg: DictConfig) -> None:
        hydra = HydraConfig.get()
        params = {key.lstrip("+~") for key in hydra.sweeper.get("params") or {}}
        words: Any = OmegaConf.to_container(hydra.overrides.task)  # as they were given: ${env} stays what it is
        job(cfg, Given(words, several | params))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through: Hydra's own report of them takes a page
    try:
        sys.argv = ["holdfast run", *words]
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(told)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_in_one_line(error)) from None
    finally:
        sys.argv = before


def config_dirs(own: str | None) -> list[Path]:
    """Where configs are looked for: our own, and the folder that the user named, if any."""
    return [conf_dir(), *([Path(own)] if own else [])]


def options(group: str, folders: Sequence[Path]) -> list[str]:
    """The choices of a config group, by name."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def expanded(word: str, folders: Sequence[Path]) -> str:
    """An override with each glob in its list written out; Hydra itself takes a glob alone."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:
        return word  # Hydra will say what is wrong with it
    value = override.value()
    if not isinstance(value, ChoiceSweep) or not any(isinstance(item, Glob) for item in value.list):
        return word
    names = options(override.key_or_group, folders)
    written: dict[str, None] = {}
    for item, text in zip(value.list, override.sweep_string_iterator(), strict=True):
        written |= dict.fromkeys(item.filter(names) if isinstance(item, Glob) else [text])
    return f"{override.get_key_element()}={','.join(written)}"


def _left_to_us() -> bool:
    """Whether the job under way is one of a list that is known, which Hydra would go through one after the other."""
    hydra = HydraConfig.get()
    return hydra.launcher._target_.endswith(".BasicLauncher") and hydra.sweeper._target_.endswith(".BasicSweeper")


def _at_hydras_bidding(planned: Planned) -> tuple[ArmFolder, int]:
    """Run an arm now: its launcher says how many run at a time, or its sweeper waits for it."""
    if (planned.job.launch.workers or 1) > 1:
        choices = HydraConfig.get().runtime.choices
        keys = ("hydra/launcher", "hydra/sweeper")
        chosen = " and ".join(f"{key}={choices[key]}" for key in keys if choices[key] != "basic")
        raise ValueError(f"launch.workers must be null or 1, not {planned.job.launch.workers}, with {chosen}")
    return alone(planned)


def or_end(do: Callable[[], T]) -> T:
    """What `do` returns. A mistake of the user's ends the process: Hydra would say more, and go on with other jobs."""
    try:
        return do()
    except (ValueError, OSError, OmegaConfBaseException) as error:
        told = one_line(error) if isinstance(error, OSError) else _in_one_line(error)
        print(f"holdfast: error: {told}", file=sys.stderr)
        raise SystemExit(2) from None


def check(cfg: DictConfig, given: Given, arms: dict[str, tuple[Arm, Job, Mapping[str, Any]]]) -> None:
    """Ask of a config all that can be known of one arm before anything runs, and add it to `arms`, by name.

    Raises ValueError for a mistake, naming the key.
    """
    arm, job, plain = built(cfg, given)
    arm.check(job.launch)
    for install in arm.installs:
        if isinstance(find_corpus(install.corpus), Path):  # what a function makes may take long
            corpora.generate(install.corpus, arm.seed, install.size)
    study = StudyFolder(Path(job.runs) / arm.study)
    folder, shared = study.arm(arm), study.check_config(arm)
    first = next((it for it, its, _ in arms.values() if (its.runs, it.study) == (job.runs, arm.study)), arm)
    apart = "run them as two studies, each with a name=... of its own"
    if difference := first_difference(study.check_config(first), shared):
        key, one, other = difference
        raise ValueError(f"the arms of a study share {key}, and here it is {one} and {other}; {apart}")
    *_, before = arms.setdefault(str(folder.path), (arm, job, plain))
    if difference := first_difference(before, plain):
        key, one, other = difference
        apart = "name one by +model.alias=..., in holdfast eval by NAME=MODEL" if key.startswith("model.") else apart
        raise ValueError(f"two arms are called {arm.name}, with {key}: {one} and {other}; {apart}")
    folder.check_config(arm, plain)


def check_controls(arms: Collection[tuple[Arm, Job, Mapping[str, Any]]], inits: Collection[str]) -> None:
    """Raises ValueError for a control that is neither one of `inits` nor the init of an arm, planned or there."""
    for arm, job, _ in arms:
        there = {folder.config()["init"]["name"] for folder in StudyFolder(Path(job.runs) / arm.study).arms()}
        known = {*inits, *there, *(other.init.name for other, *_ in arms)}
        for key, name in (("control", arm.control), ("format_control", arm.format_control)):
            if name is not None and name not in known:
                allowed = [*inits, *(["null"] if key == "format_control" else [])]
                raise ValueError(f"{key} must be the name of an init, {', '.join(allowed)}, not {name!r}")


def built(cfg: DictConfig, given: Given) -> tuple[Arm, Job, dict[str, Any]]:
    """The arm that a config describes, how to run it, and the plain data that the arm is built from."""
    whole: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    for key in whole:
        if key not in SETTINGS:
            raise ValueError(f"{key} is no setting; allowed are {', '.join(SETTINGS)}")
    evals = whole.get("evals") or {}
    if not isinstance(evals, dict) or not all(isinstance(row, dict) for row in evals.values()):
        raise ValueError(f"evals must be a mapping of names to evals, each a mapping, not {evals!r}")
    whole["evals"] = [{"name": name, **row} for name, row in evals.items()]
    init = whole.get("init")
    if isinstance(init, dict) and isinstance(init.get("installs"), list):
        init["installs"] = [row for row in init["installs"] if not isinstance(row, dict) or row.get("steps") != 0]
    job: Job = build(_part(whole, Job))
    plain = _part({**whole, "study": job.name}, Arm)
    arm: Arm = build(plain)
    if words := variant(cfg, given):
        arm, plain = replace(arm, variant=words), {**plain, "variant": words}
    return arm, job, plain


def _part(given: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """What of a config makes a `cls`."""
    part = {field.name: given[field.name] for field in fields(cls) if field.name in given}
    return {"_target_": f"holdfast.config.{cls.__name__}", **part}


def _in_one_line(error: Exception) -> str:
    """Hydra and OmegaConf explain themselves over many lines; keep what names the key and what is allowed there."""
    cause = error.__cause__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        node: Any = cause.parent_node if cause.parent_node is not None else {}
        kind = SCHEMA.get(node.get("_target_"))
        allowed = [f.name for f in fields(kind)] if kind else [str(key) for key in node if key != "hydra"]
        if cause.key in allowed:
            return f"{cause.full_key} is at its default; to set it, put a plus before it: +{cause.full_key}=..."
        return f"{cause.full_key} is no setting; allowed are {', '.join(allowed)}"
    if missing := re.search(r"interpolation: Missing mandatory value: (\S+)", str(error)):
        return f"{missing[1]} must be given: {missing[1]}=..."
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=..."
    text = str(error).partition("Config search path")[0].partition("See https")[0]
    return " ".join(text.replace("LexerNoViableAltException:", "cannot read the override").split())
