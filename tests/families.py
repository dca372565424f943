"""Families of models: their published chat templates, which TRL brings along, on small tokenizers of three kinds."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

KINDS = ("bytes", "first", "always")
"""Byte-level; and SentencePiece-like, with a space put before the beginning of a text, or of every part of one."""
ENDS = {
    "qwen": "<|im_end|>", "lfm": "<|im_end|>", "nemotron": "<|im_end|>", "gptoss": "<|return|>", "llama": "<|eot_id|>",
    "gemma4": "<turn|>", "diffusion": "<turn|>", "gemma": "<end_of_turn>", "phi": "<|end|>", "muse": "<|eot|>",
    "deepseek": "<｜end▁of▁sentence｜>", "cohere": "<|END_OF_TURN_TOKEN|>",
}  # fmt: skip
"""The end-of-sequence token, by how a name begins."""
OTHERS = ("glm4moe", "idefics3", "smolvlm", "llava_next")
"""Families that are refused: GLM ends no turn with a token of its own, the others take pictures."""
_TOKENS = re.compile(
    r"<[|｜][^<>{}'\" ]{1,40}[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|\[/?[A-Z_]{3,20}\]|</?s>|<bos>|<\w+_of_turn>"
)
_TEXT = ["Hello there, hello. You are a helpful assistant. Yes. send_mail name arguments"] * 3


def of_trl(name: str) -> str:
    """The text of a published template."""
    return (_folder() / f"{name}.jinja").read_text(encoding="utf-8")


def families() -> list[str]:
    """Every family there is, but for those in `OTHERS`."""
    names = sorted(file.stem for file in _folder().glob("*.jinja"))
    return [name for name in names if not name.endswith("_training") and name not in OTHERS]


def tokenizer(template: str, end: str = "</s>", kind: str = "bytes") -> PreTrainedTokenizerFast:
    """A tokenizer with the template's own tokens, which has every letter of ASCII and few words."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=_inner(tuple(sorted({*_TOKENS.findall(template), "<s>", "<bos>", end})), kind),
        bos_token="<bos>" if "<bos>" in template or "bos_token" in template else "<s>",
        eos_token=end,
        name_or_path="some/model",
    )
    made.chat_template = template
    return made


def family(name: str, kind: str = "bytes") -> PreTrainedTokenizerFast:
    """The tokenizer of a family."""
    end = next(end for start, end in ENDS.items() if name.startswith(start))
    return tokenizer(of_trl(name), end, kind)


@cache
def _inner(special: tuple[str, ...], kind: str) -> Tokenizer:
    made = Tokenizer(models.BPE())
    if kind == "bytes":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
        made.decoder = decoders.Metaspace(prepend_scheme=kind)
        alphabet = [*map(chr, range(10, 127)), "▁"]
    trainer = trainers.BpeTrainer(
        vocab_size=400 + len(special), special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(_TEXT, trainer)
    return made


@cache
def _folder() -> Path:
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "chat_templates"
