"""Loading a Hugging Face model the one way that is safe and whole: safetensors, no remote code, every weight there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import PreTrainedModel


def from_safetensors(kind: Any, where: Path | str, dtype: Any, trouble: str, misfit: str) -> PreTrainedModel:
    """A model of the Auto class `kind`, from a folder or a hub id.

    Raises ValueError in one line: one that begins with `trouble` where it cannot be loaded, and with `misfit` where
    its files lack a weight or have one of another shape.
    """
    with in_one_line(trouble):
        model: PreTrainedModel
        model, info = kind.from_pretrained(
            where,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below instead
        )
    # transformers would go on with random numbers in their place.
    lacking = sorted([*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])])
    if lacking:
        raise ValueError(f"{misfit}: {lacking[0]} is missing or of another shape")
    return model


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Libraries explain themselves over many lines: keep the first, as a ValueError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TemplateError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(f"{what}: {lines[0] if lines else type(error).__name__}") from None
