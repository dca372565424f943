"""From Hydra overrides to running arms: each job of a sweep checks its config and gives the arm a process of its own.

    launch(["-m", "init=generic,advice", "seed=0,1"])   ->   Launched(runs=[Path("runs/study")], failed=[])

The job itself stays light, whatever launcher runs it: torch, and whatever training leaves behind in a process, live and
die with the arm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from holdfast.config import SCHEMA, Arm, build, conf_dir, first_difference, unbuild
from holdfast.config.launch import COLLAPSED, Job, Launch
from holdfast.config.rl import GRPO, PPO

_MATERIAL = ("env", "judge", "algo", "steps", "budget")  # what stages and installs are put together from


@dataclass(frozen=True)
class Launched:
    """The run folders that arms were put in, and the arms that did not come to their end."""

    runs: list[Path]
    failed: list[str]


def launch(arguments: Sequence[str]) -> Launched:
    """Run Hydra with these command-line arguments. Raises ValueError, in one line, for what Hydra cannot make sense of.

    A user's mistake ends the process with status 2, after its one line; an arm that crashes lets the others go on.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through: Hydra's own report of them takes a page
    with tempfile.TemporaryDirectory(prefix="holdfast-") as scratch:
        journal = Path(scratch) / "jobs"  # a file, as joblib's jobs are in other processes

        def job(cfg: DictConfig) -> None:
            folder, status = _run_arm(cfg)
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps([str(folder), status]) + "\n")

        before, sys.argv = sys.argv, ["holdfast run", *arguments]
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_in_one_line(error)) from None
        finally:
            sys.argv = before
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    folders = {Path(folder): status for folder, status in map(json.loads, lines)}
    return Launched(
        runs=list(dict.fromkeys(folder.parents[1] for folder in folders)),
        failed=[folder.name for folder, status in folders.items() if status],
    )


def _run_arm(cfg: DictConfig) -> tuple[Path, int]:
    """Check the config of one arm, write it to its folder, and run it. Returns the folder and the exit status."""
    try:
        folder, job = write_arm(cfg)
    except (ValueError, OSError, OmegaConfBaseException) as error:
        # Hydra would print the overrides too, and go on with the next job.
        print(f"holdfast: error: {_in_one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    command = [sys.executable, "-m", "holdfast.study.run", str(folder), json.dumps(unbuild(job))]
    done = subprocess.run(command, env=_environment(job.launch), check=False)
    if done.returncode == 2:  # the process said why
        raise SystemExit(2)
    if done.returncode not in (0, COLLAPSED):
        how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else "crashed"
        print(f"holdfast: error: {folder.name} {how}; see {folder / 'log.txt'}", file=sys.stderr)
    return folder, done.returncode


def write_arm(cfg: DictConfig) -> tuple[Path, Job]:
    """Check one arm's config and write study.yaml and arm.yaml; returns the arm's folder and what else was asked for.

    Raises ValueError for a mistake in the config, and if study.yaml, or arm.yaml of a finished arm, says otherwise.
    """
    given: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    known = [field.name for cls in (Job, Arm) for field in fields(cls) if field.name != "study"]
    for key in given:
        if key not in (*known, *_MATERIAL):
            raise ValueError(f"{key} is no setting; allowed are {', '.join([*known, *_MATERIAL])}")
    if not given.get("evals"):
        raise ValueError("evals must hold at least one eval")
    given["evals"] = [{"name": name, **row} for name, row in given["evals"].items()]
    job: Job = build(_part(given, Job))
    asked = _part({**given, "study": job.name}, Arm)
    arm: Arm = build(asked)
    for stage in arm.curriculum:
        _check_launch(job.launch, stage.algo)

    run = Path(job.runs) / arm.study
    run.mkdir(parents=True, exist_ok=True)
    shared = {"evals": [asdict(row) for row in arm.evals], "kl": asdict(arm.kl), "margins": asdict(arm.margins)}
    _write(run / "study.yaml", {"name": arm.study, "control": arm.control, **shared}, keep=True)
    folder = run / "arms" / arm.name
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "arm.yaml", {"name": arm.name, "grid": arm.grid, **asked}, keep=(folder / "done.json").exists())
    return folder, job


def _check_launch(launch: Launch, algo: GRPO | PPO) -> None:
    """Raises ValueError for RL that cannot be run this way: better now than when installs and evals are done."""
    algo.share(launch.count)
    if launch.sharded and algo.whole_only:
        raise ValueError("launch.accelerate asks for FSDP, which is for GRPO without lora_rank: use launch.processes")
    for wanted, package in ((algo.lora_rank, "peft"), (algo.rollout == "vllm", "vllm")):
        if wanted and find_spec(package) is None:
            extra = {"peft": "lora"}.get(package, package)
            raise ValueError(f"algo {algo.name}: {package} is not installed; pip install 'holdfast[{extra}]'")


def _part(given: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """What of a config makes a `cls`."""
    part = {field.name: given[field.name] for field in fields(cls) if field.name in given}
    return {"_target_": f"holdfast.config.{cls.__name__}", **part}


def _write(path: Path, data: Mapping[str, Any], *, keep: bool) -> None:
    """Write YAML, atomically. With `keep`, a file that says otherwise is an error."""
    if keep and path.exists():
        difference = first_difference(yaml.safe_load(path.read_text(encoding="utf-8")), data)
        if difference is not None:
            key, old, new = difference
            advice = "give the new study a name of its own, name=..."
            raise ValueError(f"{path} has {key}: {old}, and now it is {new}; {advice}")
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:  # of a full disk it does not say where
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _environment(launch: Launch) -> dict[str, str]:
    """The environment of an arm's process: as many threads as were asked for, and libraries that keep to themselves."""
    threads = launch.threads
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    count = str(threads or cores or 1)
    asked = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    return {**quiet, **asked, **os.environ} if threads is None else {**quiet, **os.environ, **asked}


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
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=..."
    text = str(error).partition("Config search path")[0].partition("See https")[0]
    return " ".join(text.replace("LexerNoViableAltException:", "cannot read the override").split())
