"""An RL config in TRL's words, and TRL told to be quiet.

    arguments(GRPO(name="grpo", group=8, ...), 8, {"loss_type": "dapo"}, steps=10, seed=0, out=folder)
"""

from __future__ import annotations

import logging as standard
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging
from trl import GRPOConfig

from holdfast.config import RL


def arguments(
    cfg: RL,
    copies: int,
    settings: Mapping[str, Any],
    steps: int,
    seed: int,
    out: Path,
    ranks: int = 1,
    thought: int = 0,
) -> GRPOConfig:
    """`cfg` in TRL's words, with what an algorithm adds. Every step samples afresh; the trainer saves, reports and
    prints nothing. `copies` is what TRL takes for a group, `thought` how many tokens a thought has beside a reply.

    Raises ValueError where the episodes cannot be shared out among the ranks.
    """
    share = cfg.share(ranks)
    # TRL wants passes of one size; every loss type we allow then has the same gradient however a step is cut. Whole
    # groups are best, as they share a prompt; failing that, equal parts of one.
    sizes = [n for n in range(1, min(cfg.rows_per_pass, share) + 1) if share % n == 0]
    rows = max((n for n in sizes if n % cfg.group == 0), default=max(n for n in sizes if cfg.group % n == 0))
    args = GRPOConfig(
        output_dir=str(out),
        max_steps=steps * cfg.updates * cfg.minibatches,
        num_generations=copies,
        num_iterations=cfg.updates,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=share // rows,
        steps_per_generation=share // rows * cfg.minibatches,
        max_completion_length=cfg.max_new_tokens + thought,
        temperature=cfg.temperature,
        epsilon=cfg.epsilon,
        beta=0.0,  # the reference is set by `Learner`
        use_bias_correction_kl=False,  # the k3 estimator as it is, as in the GRPO paper
        router_aux_loss_coef=0.0,
        max_grad_norm=1.0,
        seed=seed,
        shuffle_dataset=False,
        disable_dropout=True,
        gradient_checkpointing=cfg.gradient_checkpointing,
        bf16=cfg.autocast,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    # Whatever the shell or an accelerate config says of it: precision is the config's to say, and part of its key.
    args.mixed_precision = "bf16" if cfg.autocast else "no"
    args._n_gpu = min(args.n_gpu, 1)  # of several, `launch.processes` makes use; one process takes one
    return args


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the libraries say about each other, which a user can do nothing about; errors still show."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    trl = standard.getLogger("trl")  # warns at each step with an episode that has no reward
    before = trl.level
    trl.setLevel(standard.ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
            warnings.filterwarnings("ignore", r".*gradient_checkpointing(_\w+)?` is deprecated", FutureWarning)
            yield
    finally:
        trl.setLevel(before)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
