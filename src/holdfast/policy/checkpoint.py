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
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
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

    Raises ValueError, naming the path, if it is not there, has no safetensors weights or not all of them, holds
    adapters, needs code of its own, or has a file that cannot be read; and if its tokenizer has no chat template, no
    end-of-turn token, or tokens for which the model has no place.
    """
    tokenizer = load_tokenizer(path, revision)
    load_generation_config(path, revision)
    trouble, misfit = _trouble(path, "weights"), f"{path}: the weights do not fit config.json"
    with quiet(bars=not Path(path).is_dir()):
        model = from_safetensors(AutoModelForCausalLM, path, DTYPES[dtype], trouble, misfit, revision)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def renderer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """The renderer of a model, whose replies end where its generation_config says, too."""
    return Renderer(tokenizer, ends=ends_of(model.generation_config))


def ends_of(config: GenerationConfig | None) -> Sequence[int]:
    """The tokens that end a reply by a generation_config."""
    ends = config.eos_token_id if config else None
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def load_tokenizer(path: Path | str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or a hub id, without its weights. Raises what `load` does of it."""
    config = load_config(path, revision)
    with in_one_line(_trouble(path, "config.json")):
        places = config.get_text_config().vocab_size
    with in_one_line(_trouble(path, "tokenizer")), quiet(bars=not Path(path).is_dir()):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    template = Renderer(tokenizer).template
    # Published text models keep tokens for pictures without a place: no text and no template of theirs writes one.
    never = {token for token in template.special if token not in template.source} - {tokenizer.eos_token}
    beyond = {token: id_ for token, id_ in tokenizer.get_vocab().items() if id_ >= places and token not in never}
    if beyond:
        raise ValueError(
            f"{path}: its tokenizer has {len(beyond)} tokens for which the model has no place, such as "
            f"{next(iter(beyond))!r}: vocab_size of config.json is {places}"
        )
    return tokenizer


def load_config(path: Path | str, revision: str | None = None) -> PretrainedConfig:
    """The config of a checkpoint folder or a hub id. Raises what `load` does of it."""
    here = Path(path).is_dir()
    if not here and not is_id(str(path)):
        raise ValueError(f"{path}: no such model folder")
    if _holds(path, "adapter_config.json", revision):  # transformers would load their model and put them onto it
        raise ValueError(
            f"{path}: it holds adapters: merge them into their model first, with peft's merge_and_unload, without "
            "adapter_config.json"
        )
    if here and any(Path(path).glob("*.gguf")) and not any(Path(path).glob("*.safetensors")):
        raise ValueError(f"{path}: it holds GGUF files: give the safetensors weights they were made from")
    if here and not _holds(path, "config.json"):
        raise ValueError(f"{path}: not a model folder: it has no config.json")
    with in_one_line(_trouble(path, "config.json")), quiet():
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)


def load_generation_config(path: Path | str, revision: str | None = None) -> GenerationConfig:
    """The generation_config of a checkpoint folder or a hub id; without one, what its config.json says in its place.

    Raises ValueError in one line for a file that cannot be read, and for ends that are no ids of tokens.
    """
    file = "generation_config.json"
    if _holds(path, file, revision):
        with in_one_line(_trouble(path, file)), quiet():
            config = GenerationConfig.from_pretrained(path, revision=revision)
    else:
        file = "config.json"
        config = GenerationConfig.from_model_config(load_config(path, revision))
    for end in ends_of(config):
        if type(end) is not int or end < 0:
            raise ValueError(f"{path}: eos_token_id of {file} must be whole numbers of 0 or more, not {end!r}")
    return config


def _holds(path: Path | str, file: str, revision: str | None = None) -> bool:
    """Whether a folder or a hub id has the file; not, where the hub cannot be reached and it was not fetched before."""
    with in_one_line(_trouble(path, file)), quiet():
        found = cached_file(
            path,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return found is not None


def _trouble(path: Path | str, what: str) -> str:
    if Path(path).is_dir():
        return f"{path}: its {what} cannot be loaded"
    return f"{path}: no such model folder, and its {what} cannot be had from the Hugging Face hub"


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
