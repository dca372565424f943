"""THE main path: one arm, from a pretrained model to scored records. Read `run` from top to bottom.

    model -> corpus, install -> corpus, install -> [evals] -> RL -> [evals, KL] -> RL -> [evals, KL] -> ... -> records

Every arrow and every bracket is a stage of the store (`stages.py`): what was made once is never made again, and an arm
that was killed goes on where it stopped. Nothing that makes or scores a stage knows which arm it is for.
"""

from __future__ import annotations

from holdfast.config import Arm, Job
from holdfast.config.checks import SEEDS
from holdfast.store import Entry, Store
from holdfast.study.folder import ArmFolder
from holdfast.study.progress import Progress
from holdfast.study.rl import reinforce
from holdfast.study.stages import Stages, Subject
from holdfast.study.trackers import Trackers


def run(arm: Arm, folder: ArmFolder, job: Job) -> None:
    """Bring `arm` to its end; write records, transcripts, metrics and, last of all, done.json to `folder`."""
    folder.collapsed(None)
    stages = Stages(arm, Store(folder.study.store))
    progress = Progress(arm, folder, Trackers(job.report_to, folder.study))
    here = stages.model()
    for cfg in arm.init.installs:
        here = stages.install(cfg, here)
        progress.install(here)
    _evaluate(stages, progress, here, "init", 0)
    progress.kl(None, 0)
    rl_start, done = here, 0
    for number, stage in enumerate(arm.curriculum):
        seed = (arm.seed + (number << 20)) % SEEDS  # a later stage on the same environment meets other scenarios
        for step, reached in reinforce(stages, stage, here, seed, done, job.launch):
            here = reached
            progress.train(here, done)
            if step in stage.steps:
                subject = _evaluate(stages, progress, here, stage.name, done + step)
                progress.kl(stages.diverge(stage, subject, rl_start, seed, done + step), done + step)
                del subject  # what follows wants its memory
        done += stage.steps[-1]
    progress.close(stages)


def _evaluate(stages: Stages, progress: Progress, here: Entry, stage: str, step: int) -> Subject:
    """Run every eval on the checkpoint `here`; it is loaded once for all of them, if any is new."""
    subject = Subject(here, stages.arm.model.dtype)
    for cfg in stages.arm.evals:
        progress.eval(cfg.name, stages.evaluate(cfg, subject, step), stage, step)
    return subject
