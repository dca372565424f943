"""THE main path: one arm, from a pretrained model to scored records. Read `run` from top to bottom.

    model -> corpus, install -> corpus, install -> [evals] -> RL -> [evals, KL] -> RL -> [evals, KL] -> ... -> records

A supervised stage of the curriculum stands in the place of an RL: corpus, install -> [evals, KL].

Every arrow and every bracket is a stage of the store (`stages.py`): what was made once is never made again, and an arm
that was killed goes on where it stopped. Nothing that makes or scores a stage knows which arm it is for.
"""

from __future__ import annotations

from holdfast.config import Arm, Install, Job, Stage
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
    stages.check_prompts(here)
    for cfg in arm.init.installs:
        here = stages.install(cfg, here, arm.seed)
        progress.install(here)
    _evaluate(stages, progress, here, "init", 0)
    for name in (None, *(cfg.name for cfg in arm.harms)):
        progress.kl(name, None, 0)
    rl_start, done = here, 0
    for number, stage in enumerate(arm.curriculum):
        if isinstance(stage, Install):
            rows_seed = (arm.seed + ((number + 1) << 20)) % SEEDS  # other rows than an install of the init had
            here = stages.install(stage, here, rows_seed)
            progress.install(here, done)
            done += stage.steps
            subject = _evaluate(stages, progress, here, stage.name, done)
            _diverge(stages, progress, stage, subject, rl_start, arm.seed, done)
            del subject
            continue
        seed = (arm.seed + (number << 20)) % SEEDS  # a later stage on the same environment meets other scenarios
        for step, reached in reinforce(stages, stage, here, seed, done, job.launch):
            here = reached
            progress.train(here, done)
            if step in stage.steps:
                subject = _evaluate(stages, progress, here, stage.name, done + step)
                _diverge(stages, progress, stage, subject, rl_start, seed, done + step)
                del subject  # what follows wants its memory
        done += stage.steps[-1]
    progress.close(stages)


def _evaluate(stages: Stages, progress: Progress, here: Entry, stage: str, step: int) -> Subject:
    """Run every eval on the checkpoint `here`; it is loaded once for all of them, if any is new."""
    subject = Subject(here, stages.arm.model.dtype)
    for cfg in stages.arm.evals_at(step):
        entry = stages.evaluate(cfg, subject, step)
        progress.eval(cfg.name, entry, stage, step)
        if again := cfg.second_opinion:
            progress.eval(again.name, stages.judge_again(again, entry, subject, step), stage, step)
    return subject


def _diverge(
    stages: Stages,
    progress: Progress,
    stage: Stage | Install,
    subject: Subject,
    rl_start: Entry,
    seed: int,
    step: int,
) -> None:
    """Measure the KL to the RL start: on the environment of RL, and where the evals with verdicts are asked."""
    start = Subject(rl_start, subject.dtype)
    if isinstance(stage, Stage):
        progress.kl(None, stages.diverge(stage, subject, start, seed, step), step)
    for cfg in stages.arm.harms:
        progress.kl(cfg.name, stages.diverge(cfg, subject, start, stages.arm.seed, step), step)
