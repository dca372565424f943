"""What the stages of an arm are made by: a function per kind, each of which fills the folder `out`.

What is heavy is imported in these: an arm that finds all in the store needs none of it. RL is in `segments.py`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from holdfast.config import Divergence, Eval, Model, Stage
from holdfast.config.rl import Install
from holdfast.records import write_records, write_rows


def source(model: Model) -> dict[str, Any]:
    """What a starting point is made from. What lies in a folder may change under its name, so its files count."""
    folder = Path(model.path).expanduser() if model.path else Path(__file__).parents[1] / "policy" / model.name
    sums = {}
    for path in sorted(path for path in folder.glob("*") if path.is_file()):
        with path.open("rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": model.name, "path": model.path, "files": sums}


def prepare(model: Model, out: Path) -> None:
    """The pretrained checkpoint."""
    from holdfast.policy import checkpoint as models

    models.prepare(model, out)


def install(parent: Path, cfg: Install, seed: int, out: Path) -> None:
    """A checkpoint after one supervised step, and its metrics."""
    from holdfast.train.install import install

    install(parent, out, cfg, seed)


def evaluate(checkpoint: Path, dtype: str, seed: int, cfg: Eval, out: Path) -> None:
    """The records and transcripts of one eval of a checkpoint."""
    from holdfast.evals import behaviour

    records, transcripts = behaviour.run(cfg, checkpoint, seed, dtype=dtype, progress=sys.stderr.isatty())
    write_records(out / "records.jsonl", records)
    write_rows(out / "transcripts.jsonl", transcripts)


def diverge(checkpoint: Path, start: Path, stage: Stage, cfg: Divergence, seed: int, out: Path) -> None:
    """How far a checkpoint has moved from `start`, on the stage's environment: one line of metrics."""
    from holdfast.evals.divergence import kl_to_start
    from holdfast.policy import checkpoint as models
    from holdfast.policy.render import Renderer

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
