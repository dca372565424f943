"""THE main path: one arm, from a pretrained model to scored records. Read `run` from top to bottom.

    model -> install -> install -> [evals] -> RL -> [evals, KL] -> RL -> [evals, KL] -> ... -> records

Every arrow and every bracket goes through the store: what was made once is never made again, and an arm that was
killed goes on where it stopped. Nothing that makes or scores a stage knows which arm it is for.

An arm has a process of its own:  python -m holdfast.study.run runs/NAME/arms/ARM
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from holdfast.config import Arm, build, read_arm
from holdfast.config.launch import COLLAPSED, Job, Launch
from holdfast.config.rl import Collapse
from holdfast.corpora import digest
from holdfast.records import write_rows
from holdfast.store import Store
from holdfast.study import stages
from holdfast.study.progress import Logbook, log_to
from holdfast.study.rl import Segments
from holdfast.study.trackers import Trackers

log = logging.getLogger("holdfast.study")


def run(arm: Arm, folder: Path, job: Job) -> None:
    """Bring `arm` to its end; write records, transcripts, metrics and, last of all, done.json to `folder`."""
    study = folder.parents[1]
    (folder / "collapse.jsonl").unlink(missing_ok=True)
    book = Logbook(arm, Store(study.parent / "store"), Trackers(job.report_to, study))
    here = book.stage("model", arm.model.label, stages.source(arm.model), None, partial(stages.prepare, arm.model))
    for cfg in arm.init.installs:
        config = {**asdict(cfg), "seed": arm.seed, "rows": digest(cfg.corpus, arm.seed, cfg.size)}
        here = book.stage("install", cfg.name, config, here, partial(stages.install, here.path, cfg, arm.seed))
        book.measure(here)
    book.evaluate(here, "init", 0, partial(stages.evaluate, here.path, arm.model.dtype, arm.seed))
    book.mark({"kind": "kl", "step": 0, "kl": 0.0})
    rl_start, done = here, 0
    for number, stage in enumerate(arm.curriculum):
        seed = arm.seed + (number << 20)  # a later stage on the same environment meets other scenarios
        segments = Segments(book, stage, here, seed, done, job.launch)
        for step in stage.steps:
            here = segments.reach(step)
            book.evaluate(here, stage.name, done + step, partial(stages.evaluate, here.path, arm.model.dtype, arm.seed))
            reply = {"max_new_tokens": stage.algo.max_new_tokens, "max_turns": stage.algo.max_turns}
            config = {**segments.env, **reply, **asdict(arm.kl), "start": rl_start.key}
            diverge = partial(stages.diverge, here.path, rl_start.path, stage, arm.kl, seed)
            book.measure(book.stage("kl", segments.name(step), config, here, diverge), done + step)
        done += stage.steps[-1]
    book.close(folder)


def main() -> int:
    """Run the arm whose folder is the first argument; the second, if there is one, is a `Job` in JSON.

    A mistake of the user's ends in one line and exit status 2, a policy that collapsed in one line and `COLLAPSED`.
    """
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the store is safe at any moment, so Ctrl-C needs no ceremony
    try:
        log_to(folder / "log.txt")
        arm = read_arm(folder)
        alone = Job(name=arm.study, runs=str(folder.parents[2]), launch=Launch())
        run(arm, folder, build(json.loads(sys.argv[2])) if sys.argv[2:] else alone)
    except (ValueError, OSError, Collapse) as error:
        log.debug("stopped", exc_info=True)  # to the file alone
        print(f"holdfast: error: {folder}: {' '.join(str(error).split())}", file=sys.stderr)
        if not isinstance(error, Collapse):
            return 2
        write_rows(folder / "collapse.jsonl", error.lines)
        return COLLAPSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
