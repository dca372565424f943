"""How a checkpoint is initialised before RL: supervised installs, each on a corpus. A curriculum may hold them too.

    Install(
        name="advice", method="sft", corpus="advice", size=2000, steps=60, batch_loss_tokens=650, max_tokens=768,
        lr=1e-4,
    )
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from holdfast.config.checks import at_least, check_name, one_of, positive, within

METHODS = ("sft", "sdf")
MOST_ROWS = 10**8
"""Of a corpus: they are held in memory."""
Maker: TypeAlias = Callable[[int, int], Sequence[Mapping[str, Any]]]
"""`rows(seed, size)` of a corpus."""


def find_corpus(corpus: str) -> Path | Maker:
    """What a corpus's name stands for: a file of rows, or a function that makes them.

    "advice" is `rows` of `holdfast.corpora.advice`, "mine:rows" a function of a module that Python can import, and what
    ends in .jsonl a file. Raises ValueError, in one line, where there is no such thing.
    """
    if corpus.endswith(".jsonl"):
        path = Path(corpus).expanduser()
        if not path.is_file():
            raise ValueError(f"corpus: {corpus}: no such file")
        return path
    module, name = function_of(corpus)
    found = None
    if all(part.isidentifier() for part in module.split(".")) and _exists(module):
        try:
            found = getattr(import_module(module), name, None)
        except ImportError as error:
            raise ValueError(f"corpus: {corpus}: {error}") from None
    if not callable(found):
        raise ValueError(
            f"corpus must be one of {', '.join(_ours())}, a file of rows.jsonl or a module:function that makes rows, "
            f"not {corpus!r}"
        )
    maker: Maker = found
    return maker


def function_of(corpus: str) -> tuple[str, str]:
    """The module and the function that a corpus is named by, if it is no file."""
    if ":" not in corpus:
        return f"holdfast.corpora.{corpus}", "rows"
    module, _, name = corpus.partition(":")
    return module, name


def _exists(module: str) -> bool:
    parent, _, _ = module.rpartition(".")
    return (not parent or _exists(parent)) and (module in sys.modules or find_spec(module) is not None)


def _ours() -> list[str]:
    """The corpora of `holdfast.corpora`: the modules with a function `rows`."""
    folder = Path(str(import_module("holdfast.corpora").__file__)).parent
    return [path.stem for path in sorted(folder.glob("*.py")) if "\ndef rows(" in path.read_text(encoding="utf-8")]


@dataclass(frozen=True, kw_only=True)
class Install:
    """One supervised step: `steps` AdamW updates, each on `batch_loss_tokens` loss tokens of `corpus`.

    A loss token is one that the model is trained to predict: of a chat what the assistant says, of a document all but
    the first. Arms are matched on `loss_tokens`: every arm with the same steps and batch_loss_tokens trains on exactly
    that many of its own tokenizer, in as many updates. How many sequence tokens that takes depends on the corpus.

    Raises ValueError, naming the field, for a value outside the range given here.
    """

    name: str
    """What the study calls it."""
    method: str
    """Either "sft", chats with loss on assistant turns alone, or "sdf", documents with loss on every token."""
    corpus: str
    """What it trains on: a name of `holdfast.corpora`, a file of rows (.jsonl), or "module:function"."""
    size: int
    """Rows asked of the corpus, 1 or more; they are gone through again when they run out."""
    steps: int
    """Updates, 0 or more. With none, `holdfast run` leaves it out of its init."""
    batch_loss_tokens: int
    """Loss tokens to an update, 1 or more. A document with more is split; a chat with more is an error."""
    max_tokens: int
    """The longest row, 2 or more. A longer document is split; a longer chat is an error."""
    lr: float
    """Peak learning rate, above 0."""
    warmup: float = 0.1
    """Share of the updates spent on linear warm-up, 0 to 1; then a cosine down to a tenth of `lr`."""
    weight_decay: float = 0.0
    """AdamW's, 0 or more, on matrices only."""
    autocast: bool = False
    """Run the forward pass in bfloat16; weights and moments stay float32."""

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        within("size", self.size, 1, MOST_ROWS)
        at_least("steps", self.steps, 0)
        at_least("max_tokens", self.max_tokens, 2)
        at_least("batch_loss_tokens", self.batch_loss_tokens, 1)
        within("warmup", self.warmup, 0, 1)
        positive("lr", self.lr)
        at_least("weight_decay", self.weight_decay, 0)

    @property
    def loss_tokens(self) -> int:
        """Loss tokens trained on: the budget that arms are matched on."""
        return self.steps * self.batch_loss_tokens

    def check(self) -> None:
        """Raises ValueError where there is no such corpus."""
        find_corpus(self.corpus)


@dataclass(frozen=True, kw_only=True)
class Init:
    """How a checkpoint was initialised: installs in order, none at all for a model as it comes."""

    name: str
    installs: tuple[Install, ...]
    corpus: str | None = None
    """What makes this init different from another, for YAML to refer to: `corpus: ${init.corpus}` in an install."""

    def __post_init__(self) -> None:
        check_name("name", self.name)
