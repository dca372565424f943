"""THE main path: one arm, from a pretrained model to scored records. Read `run` from top to bottom.

    model -> install -> install -> [evals] -> RL -> [evals, KL] -> RL -> [evals, KL] -> ... -> records

Every arrow and every bracket goes through the store: what was made once is never made again, and an arm that was
killed goes on where it stopped. Nothing that makes or scores a stage knows which arm it is for.

An arm has a process of its own:  python -m holdfast.study runs/NAME/arms/ARM
"""

from __future__ import annotations

import hashlib
import logging
import signal
import sys
from dataclasses import asdict
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from holdfast.config import Arm, Divergence, Eval, Model, Stage, read_arm
from holdfast.corpora import digest
from holdfast.logbook import Logbook, log_to
from holdfast.records import write_records, write_rows
from holdfast.store import Store
from holdfast.train import Install

log = logging.getLogger("holdfast.study")


def run(arm: Arm, folder: Path) -> None:
    """Bring `arm` to its end; write records, transcripts, metrics and, last of all, done.json to `folder`."""
    book = Logbook(arm, Store(folder.parents[2] / "store"))
    here = book.stage("model", arm.model.label, _source(arm.model), None, partial(_prepare, arm.model))
    for cfg in arm.init.installs:
        config = {**asdict(cfg), "seed": arm.seed, "rows": digest(cfg.corpus, arm.seed, cfg.size)}
        here = book.stage("install", cfg.name, config, here, partial(_install, here.path, cfg, arm.seed))
        book.measure(here)
    book.evaluate(here, "init", 0, partial(_evaluate, here.path, arm.model.dtype, arm.seed))
    book.mark({"kind": "kl", "step": 0, "kl": 0.0})
    rl_start, done = here, 0
    for number, stage in enumerate(arm.curriculum):
        start, algo = here, type(stage.algo).__name__.lower()
        seed = arm.seed + (number << 20)  # a later stage on the same environment meets other scenarios
        env = {"env": stage.env.id, "env_kwargs": stage.env.kwargs, "seed": seed, "source": stage.env.source}
        for first, last in pairwise((0, *stage.steps)):
            name, before = f"{stage.name} to step {done + last}", here.path if first else None
            config = {**env, **asdict(stage.algo), "first": first, "last": last}
            train = partial(_train, algo, start.path, before, stage, first, last, seed)
            here = book.stage(algo, name, config, here, train)
            book.measure(here, done)
            book.evaluate(here, stage.name, done + last, partial(_evaluate, here.path, arm.model.dtype, arm.seed))
            reply = {"max_new_tokens": stage.algo.max_new_tokens, "max_turns": stage.algo.max_turns}
            config = {**env, **reply, **asdict(arm.kl), "start": rl_start.key}
            diverge = partial(_diverge, here.path, rl_start.path, stage, arm.kl, seed)
            book.measure(book.stage("kl", name, config, here, diverge), done + last)
        done += stage.steps[-1]
    book.close(folder)


# A function per kind of stage. What is heavy is imported in these: an arm that finds all in the store needs none of it.


def _prepare(model: Model, out: Path) -> None:
    from holdfast import models

    models.prepare(model, out)


def _install(parent: Path, cfg: Install, seed: int, out: Path) -> None:
    from holdfast.train.install import install

    install(parent, out, cfg, seed)


def _train(
    algo: str, start: Path, before: Path | None, stage: Stage, first: int, last: int, seed: int, out: Path
) -> None:
    """Steps `first` + 1 to `last` of a stage that began at the checkpoint `start`; `before` is its segment so far."""
    import_module(f"holdfast.train.{algo}").train(
        start,
        out,
        env=stage.env.id,
        env_kwargs=stage.env.kwargs,
        cfg=stage.algo,
        first_step=first,
        steps=last - first,
        seed=seed,
        resume=before,
    )


def _evaluate(checkpoint: Path, dtype: str, seed: int, cfg: Eval, out: Path) -> None:
    from holdfast.evals import behaviour

    records, transcripts = behaviour.run(cfg, checkpoint, seed, dtype=dtype, progress=sys.stderr.isatty())
    write_records(out / "records.jsonl", records)
    write_rows(out / "transcripts.jsonl", transcripts)


def _diverge(checkpoint: Path, start: Path, stage: Stage, cfg: Divergence, seed: int, out: Path) -> None:
    from holdfast import models
    from holdfast.evals.kl import kl_to_start
    from holdfast.render import Renderer

    model, tokenizer = models.load(checkpoint)
    found = kl_to_start(
        model,
        models.load(start)[0],
        Renderer(tokenizer),
        env=stage.env.id,
        env_kwargs=stage.env.kwargs,
        prompts=cfg.prompts,
        samples=cfg.samples,
        max_new_tokens=stage.algo.max_new_tokens,
        seed=seed,
        max_turns=stage.algo.max_turns,
    )
    write_rows(out / "metrics.jsonl", [{"kind": "kl", "step": 0, "kl": found["kl_token"], **found}])


def _source(model: Model) -> dict[str, Any]:
    """What a starting point is made from. What lies in a folder may change under its name, so its files count."""
    folder = Path(model.path).expanduser() if model.path else Path(__file__).with_name(model.name)
    sums = {}
    for path in sorted(path for path in folder.glob("*") if path.is_file()):
        with path.open("rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": model.name, "path": model.path, "files": sums}


def main() -> int:
    """Run the arm whose folder is the one argument. A mistake of the user's ends in one line and exit status 2."""
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the store is safe at any moment, so Ctrl-C needs no ceremony
    try:
        log_to(folder / "log.txt")
        run(read_arm(folder), folder)
    except (ValueError, OSError) as error:
        log.debug("stopped", exc_info=True)  # to the file alone
        print(f"holdfast: error: {folder}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
