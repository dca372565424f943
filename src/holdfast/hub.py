"""Loading a Hugging Face model the one way that is safe and whole: safetensors, no remote code, every weight there.

Importing this file is light: whoever loads a model has transformers already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@cache
def commit(repo: str, revision: str | None = None) -> str:
    """The commit that a hub id stands for now, at `revision`, a branch, tag or commit; None for the main branch.

    The hub is asked once in a process. Where it cannot be reached, the commit that was last fetched counts. Raises
    ValueError in one line where there is none.
    """
    from huggingface_hub import constants, resolve_revision
    from huggingface_hub.errors import RevisionResolutionError

    with in_one_line(f"{repo}: no such model folder, and no commit of {revision or 'main'} on the hub"):
        try:
            return resolve_revision(repo, revision=revision, local_files_only=constants.HF_HUB_OFFLINE).resolved
        except RevisionResolutionError:
            raise ValueError("it cannot be reached, and none was fetched before") from None


def pinned(path: str, revision: str | None = None) -> str | None:
    """The commit that a hub id stands for; None for a folder, and for what is no hub id. Raises as `commit` does."""
    return commit(path, revision) if is_id(path) and not Path(path).expanduser().is_dir() else None


def is_id(path: str) -> bool:
    """Whether `path` has the form of a hub id, "name" or "owner/name"; for anything else the hub is not asked."""
    return bool(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", path))


def from_safetensors(
    kind: Any,
    where: Path | str,
    dtype: Any,
    trouble: str,
    misfit: str,
    revision: str | None = None,
    unused: str = "",
) -> PreTrainedModel:
    """A model of the Auto class `kind`, from a folder or a hub id, the latter at `revision`.

    `unused` is a pattern of names of weights that there need be no place for.

    Raises ValueError in one line: one that begins with `trouble` where it cannot be loaded, and with `misfit` where
    its files lack a weight, have one of another shape, or one that config.json has no place for. The last would be
    dropped without a word: a layer, an adapter's matrices, a head. Those that transformers leaves out by design are.
    """
    with in_one_line(trouble):
        model: PreTrainedModel
        model, info = kind.from_pretrained(
            where,
            revision=revision,
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
    if spare := sorted(name for name in info["unexpected_keys"] if not (unused and re.search(unused, name))):
        more = f" and {len(spare) - 1} more" * (len(spare) > 1)
        raise ValueError(f"{misfit}: it has no place for {spare[0]}{more}")
    return model


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """For a call of a library, which may raise anything over what somebody published, and over many lines.

    The first line is kept, as a ValueError, and the second where the first only leads up to it.
    """
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        lines = lines or [type(error).__name__]
        told = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        if isinstance(error, KeyError):  # which says no more than the key
            told = f"{type(error).__name__}: {told}"
        raise ValueError(f"{what}: {told}") from None
