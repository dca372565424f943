"""Checkpoints: loading, saving and fingerprinting one.

A checkpoint is a folder in Hugging Face form: config.json, safetensors weights, tokenizer, chat template. `sources.py`
makes one out of any kind of model, and everything downstream sees only such folders:

    model, tokenizer = load("start")
    Checkpoint.read(Path("start")).weights  # "9f2c41d07a5be833"
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from holdfast.config.source import file_sum
from holdfast.hub import from_safetensors, in_one_line, is_id
from holdfast.policy.render import Renderer

DTYPES: dict[str, Any] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint, as evals ask it: all of them the same one."""

    model: PreTrainedModel
    renderer: Renderer
    weights: str
    """Its `fingerprint`."""

    @classmethod
    def read(cls, folder: Path, dtype: str = "float32", sums: Mapping[str, str] | None = None) -> Checkpoint:
        """Load a folder. Raises what `load` and `fingerprint` raise, of which `sums` is an argument."""
        model, tokenizer = load(folder, dtype)
        return cls(model, renderer(model, tokenizer), fingerprint(folder, sums))


def load(
    path: Path | str, dtype: str = "float32", revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint folder, or a hub id at a commit, ready to be sampled from, on the GPU if there is one.

    `dtype` is "float32", "bfloat16" or "auto" (as stored).

    Raises ValueError, naming the path, if it is not there, has no safetensors weights or not all of them, needs code
    of its own, or if its tokenizer has no chat template or no end-of-turn token.
    """
    tokenizer = load_tokenizer(path, revision)
    misfit = f"{path}: the weights do not fit config.json"
    with quiet(bars=not Path(path).is_dir()):
        model = from_safetensors(AutoModelForCausalLM, path, DTYPES[dtype], _trouble(path), misfit, revision)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def renderer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """The renderer of a model, whose replies end where its generation_config says, too."""
    return Renderer(tokenizer, ends=ends_of(model.generation_config))


def ends_of(config: GenerationConfig | None) -> Sequence[int]:
    """The tokens that end a reply by a generation_config."""
    ends = config.eos_token_id if config else None
    return [ends] if isinstance(ends, int) else ends or ()


def load_tokenizer(path: Path | str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or a hub id, without its weights. Raises what `load` does of it."""
    here = Path(path).is_dir()
    if not here and not is_id(str(path)):
        raise ValueError(f"{path}: no such model folder")
    if here and not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path}: not a model folder: it has no config.json{_instead(Path(path))}")
    with in_one_line(_trouble(path)), quiet(bars=not here):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    Renderer(tokenizer)
    return tokenizer


def _instead(folder: Path) -> str:
    """What a folder without config.json is, where that can be told."""
    if (folder / "adapter_config.json").is_file():
        return ", it holds adapters: merge them into their model first, with peft's merge_and_unload"
    if any(folder.glob("*.gguf")):
        return ", it holds GGUF files: give the safetensors weights they were made from"
    return ""


def _trouble(path: Path | str) -> str:
    if Path(path).is_dir():
        return f"{path}: cannot be loaded as a causal language model"
    return f"{path}: no such model folder, and it cannot be had from the Hugging Face hub"


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint folder that `load` reads. `weights` are written instead of the model's own, if given."""
    with quiet():
        _settle(model.generation_config)
        model.save_pretrained(path, state_dict=weights)
        tokenizer.save_pretrained(path)


def _settle(config: GenerationConfig | None) -> None:
    """Published models name a temperature and forget `do_sample`: transformers reads that and will not write it."""
    if config is None:
        return
    try:
        config.validate(strict=True)
    except ValueError:
        config.do_sample = True


def fingerprint(folder: Path, sums: Mapping[str, str] | None = None) -> str:
    """16 hexadecimal digits that name the weights in a folder: a SHA-256 over its safetensors files.

    `sums` are the SHA-256 of files in the folder by name, where they are known. Raises ValueError if it has no weights.
    """
    if sums is None:
        sums = {path.name: file_sum(path) for path in folder.glob("*.safetensors")}
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums) if name.endswith(".safetensors")]
    if not lines:
        raise ValueError(f"{folder}: no safetensors weights there")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Without transformers' reports and, but for a download, its bars: one for every load would fill the logs."""
    verbosity, had_bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    if not bars:
        hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if had_bars:
            hf_logging.enable_progress_bar()
