"""RL in one process or many: `train` runs a segment in the arm's process, or in ranks that `accelerate launch` starts.

    python -m accelerate.commands.launch --config_file FILE -m holdfast.train.ranks FOLDER

FOLDER/job.json says what to do, FOLDER/error.json why it could not be done. Ranks never outlive the arm that started
them: it holds the other end of their standard input.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from holdfast.config import Launch, Stage, build, unbuild
from holdfast.store import disk_errors
from holdfast.train.limits import Collapse

log = logging.getLogger(__name__)

_ERRORS = {"ValueError": ValueError, "OSError": OSError, "Collapse": Collapse}


def train(
    stage: Stage, start: Path, before: Path | None, first: int, last: int, seed: int, launch: Launch, out: Path
) -> None:
    """Steps `first` + 1 to `last` of a stage that began at the checkpoint `start`; `before` is the one after `first`.

    Raises what the algorithm raises in any rank, and RuntimeError for a rank that dies.
    """
    if launch.processes == 1 and launch.accelerate is None:
        _train(stage, start, before, first, last, seed, out)
        return
    folder = out / ".ranks"  # in the store's work folder, which nobody else uses
    folder.mkdir()
    where = {"start": str(start), "before": str(before) if before else None, "out": str(out)}
    job = {"stage": unbuild(stage), **where, "first": first, "last": last, "seed": seed}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    spawn(launch, "holdfast.train.ranks", folder)
    shutil.rmtree(folder)


def spawn(launch: Launch, module: str, folder: Path) -> None:
    """Run `module` in every rank, with `folder` as its argument; what the ranks print goes to the arm's log file.

    Raises the error that a rank left in error.json, and RuntimeError for one that ends badly without a word.
    """
    import torch

    torch.cuda.empty_cache()  # what evals in this process have left is the ranks' now
    threads = str(max(1, torch.get_num_threads() // launch.count))
    config = launch.accelerate or _config(launch, folder / "accelerate.yaml", torch.cuda.is_available())
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    with (
        (folder / "log.txt").open("wb") as output,
        subprocess.Popen(
            [*command, str(folder)], stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment
        ) as process,
    ):
        status = process.wait()
    if said := (folder / "log.txt").read_text(encoding="utf-8", errors="replace"):
        log.debug("the ranks said:\n%s", said)
    if status:
        if (folder / "error.json").exists():
            kind, *arguments = json.loads((folder / "error.json").read_text(encoding="utf-8"))
            raise _ERRORS[kind](*arguments)
        raise RuntimeError(f"a rank of {launch.count} ended badly: {module}, exit status {status}")


def _config(launch: Launch, path: Path, gpu: bool) -> Path:
    """A config of accelerate's, so that what the user once told it to do by default is not done here."""
    told = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # whatever the device: of the others, none starts more than one process
        "use_cpu": not gpu,
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": launch.processes,
        "main_process_port": 0,  # any that is free
        "mixed_precision": "no",  # the algorithm's config has a say in it
    }
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path


def _train(stage: Stage, start: Path, before: Path | None, first: int, last: int, seed: int, out: Path) -> None:
    import_module(f"holdfast.train.{stage.algo.method}").train(
        start,
        out,
        env=stage.env,
        cfg=stage.algo,
        first_step=first,
        steps=last - first,
        seed=seed,
        resume=before,
    )


def follow() -> None:
    """End this process when the one that started it does, however that ends: standard input comes to an end then."""

    def watch() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)  # whatever it is doing: the store takes no half-made stage

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """What a rank does."""
    follow()
    folder = Path(sys.argv[1])
    job = build(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    before, out = Path(job["before"]) if job["before"] else None, Path(job["out"])
    try:
        with disk_errors(out):
            _train(job["stage"], Path(job["start"]), before, job["first"], job["last"], job["seed"], out)
    except Collapse as error:
        fail(folder, "Collapse", str(error), error.lines)
    except ValueError as error:
        fail(folder, "ValueError", str(error))
    except OSError as error:
        fail(folder, "OSError", *((error.errno, error.strerror, error.filename) if error.errno else (str(error),)))


def fail(folder: Path, *error: Any) -> None:
    """Leave an error for the arm and end this rank, so that its fellows are ended too."""
    path = folder / f"error{os.getpid()}.tmp"
    path.write_text(json.dumps(error), encoding="utf-8")
    path.replace(folder / "error.json")
    sys.stderr.flush()
    os._exit(2)  # an ordinary exit would wait for the other ranks


if __name__ == "__main__":
    main()
