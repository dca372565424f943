"""Which way a model can be sampled from and scored: found by trying, once for an architecture.

`attention.py` shares a prompt among its samples and knows windows, soft caps and sinks. An architecture may have
something else, and may not say so: chunks, a mask of its own, a state in place of keys. So before a model is first
used, a few tokens beyond every window that its config names are decoded both ways and compared with a plain forward
pass. One that differs takes `plain.py`, and one that differs there too is refused.

    path_of(model)   ->   Path(sampling="plain", why="log-probabilities are off by 1.1 nats", scoring="whole")
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from holdfast.policy.attention import Shared
from holdfast.policy.plain import Plain
from holdfast.policy.prefix import SHORTEST, Prefixes
from holdfast.policy.scores import Columns, language_model, outputs
from holdfast.policy.windows import context_length, windows

log = logging.getLogger(__name__)

BEYOND, CONTINUED = 16, 12
"""Tokens of a prompt beyond the widest window, and tokens decoded after it."""
ROWS = 8
OFF = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Nats by which log-probabilities may be off, on average."""
OFF_ELSE = 0.1
"""In other number types."""
_FOUND: dict[tuple[str, str, str, str], Path] = {}


@dataclass(frozen=True)
class Path:
    """How a model is sampled from and scored."""

    sampling: str
    """"shared" or "plain"."""
    why: str
    """Why prompts are not shared in sampling; empty where they are."""
    scoring: str
    """"shared" where a prompt is run once for the replies to it, in training and KL; else "whole"."""


def path_of(model: PreTrainedModel) -> Path:
    """The path of a model, tried once for each config, number type and device, and logged where it is not shared.

    It is tried without autocast, which rounds more than a difference that matters. Special tokens do not count, as
    trainers set them, and neither does where it was loaded from: an arm has many checkpoints of one architecture.

    Raises ValueError in one line for a model that decodes otherwise than it computes, whichever way.
    """
    apart = ("token_id", "dtype", "_name_or_path")  # that path is the checkpoint's own
    config = {name: value for name, value in model.config.to_dict().items() if not name.endswith(apart)}
    key = (type(model).__name__, json.dumps(config, sort_keys=True, default=str), str(model.dtype), model.device.type)
    if key not in _FOUND:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            _FOUND[key] = found = _try(model)
        if found.why:
            log.info("%s is sampled from prompt by prompt, by its own cache: %s", type(model).__name__, found.why)
    return _FOUND[key]


def _try(model: PreTrainedModel) -> Path:
    was_training = model.training
    model.eval()
    try:
        prompts, said_RT = _example(model)
        exact_RT = _exact(model, prompts, said_RT)
        if exact_RT.isnan().any():
            raise ValueError("the model's output is not a number: its weights are damaged or have diverged")
        scoring = "shared" if _off(lambda: _scored(model, prompts, said_RT), exact_RT, model) == "" else "whole"
        why = _off(lambda: _decoded(model, prompts, said_RT, shared=True), exact_RT, model)
        if not why:
            return Path("shared", "", scoring)
        if trouble := _off(lambda: _decoded(model, prompts, said_RT, shared=False), exact_RT, model):
            raise ValueError(f"{type(model).__name__} cannot be sampled from: {trouble}")
        return Path("plain", why, scoring)
    finally:
        model.train(was_training)


def _example(model: PreTrainedModel) -> tuple[list[list[int]], Tensor]:
    """Two prompts that reach beyond every window and into a second segment, where the context does, and what rows say
    after them."""
    room = context_length(model.config) - CONTINUED
    within = [window for window in windows(model.config) if window < room]
    longest = min(max([SHORTEST, *within]) + 2 * BEYOND, room)
    source = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    lengths = [longest, max(longest - BEYOND + 5, 1)]
    prompts = [torch.randint(vocabulary, (length,), generator=source).tolist() for length in lengths]
    return prompts, torch.randint(vocabulary, (ROWS, CONTINUED), generator=source)


def _prompt_of(row: int, prompts: Sequence[Sequence[int]]) -> int:
    return row * len(prompts) // ROWS


def _exact(model: PreTrainedModel, prompts: Sequence[Sequence[int]], said_RT: Tensor) -> Tensor:
    """Log-probabilities (R, T) of what rows say, by a forward pass over each of them alone."""
    found = []
    for row, said_T in enumerate(said_RT):
        prompt = prompts[_prompt_of(row, prompts)]
        ids_1T = torch.tensor([[*prompt, *said_T.tolist()]], device=model.device)
        logits_TV = model(input_ids=ids_1T[:, :-1], use_cache=False, logits_to_keep=len(said_T)).logits[0]
        found.append(_log_probability(logits_TV[-len(said_T) :], said_T.to(model.device)))
    return torch.stack(found)


def _decoded(model: PreTrainedModel, prompts: Sequence[Sequence[int]], said_RT: Tensor, *, shared: bool) -> Tensor:
    """The same by decoding token for token."""
    groups = [_prompt_of(row, prompts) for row in range(ROWS)]
    said_RT = said_RT.to(model.device)
    found = torch.zeros(said_RT.shape, device=model.device)
    if shared:
        prefixes = Prefixes(model, {prompt[SHORTEST] for prompt in prompts if len(prompt) > SHORTEST}, 0)
        together = Shared(model, [prefixes.prefill(tuple(prompt)) for prompt in prompts], groups)
        parts: list[tuple[Shared | Plain, list[int]]] = [(together, list(range(ROWS)))]
    else:
        rows = [[row for row, group in enumerate(groups) if group == n] for n in range(len(prompts))]
        parts = [(Plain(model, prompt), of) for prompt, of in zip(prompts, rows, strict=True)]
        for decoder, of in parts:
            decoder.keep([0] * len(of))
    for decoder, of in parts:
        logits_RV = decoder.logits_RV
        for step in range(CONTINUED):
            if step:
                logits_RV = decoder.step(said_RT[of, step - 1])
            found[of, step] = _log_probability(logits_RV, said_RT[of, step])
    return found


def _scored(model: PreTrainedModel, prompts: Sequence[Sequence[int]], said_RT: Tensor) -> Tensor:
    """The same by passes in which a prompt is run once for its rows."""
    pairs = [(prompts[_prompt_of(row, prompts)], said_T.tolist()) for row, said_T in enumerate(said_RT)]
    columns = Columns.padded(pairs, model.device)
    (logits_RTV,) = outputs(language_model(model, least=2), columns, share=True)
    return _log_probability(logits_RTV[:, :CONTINUED], said_RT.to(model.device))


def _log_probability(logits_V: Tensor, said: Tensor) -> Tensor:
    return logits_V.float().log_softmax(-1).gather(-1, said[..., None])[..., 0]


def _off(attempt: Callable[[], Tensor], exact_RT: Tensor, model: PreTrainedModel) -> str:
    """What is wrong with a way of computing; nothing where it gives what it should."""
    try:
        off = float((attempt() - exact_RT).abs().mean())
    except torch.OutOfMemoryError:
        raise  # says nothing of the way
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError, NotImplementedError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        return told
    return "" if off <= OFF.get(model.dtype, OFF_ELSE) else f"log-probabilities are off by {off:.2g} nats"
