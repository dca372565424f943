"""How far a model sees, as its config says. No torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LENGTHS = ("max_position_embeddings", "max_seq_len", "n_positions")
"""Where configs say how many tokens fit; there is no common name."""
WINDOWS = (
    "sliding_window", "window_size", "attention_window_size", "local_attention_window_len", "attention_chunk_size",
    "keep_window_size", "index_topk",
)  # fmt: skip
"""Where they say how far a layer sees; or, the last two, how many tokens before it chooses among them."""


def context_length(config: Any) -> int:
    """How many tokens fit: what the model was trained on, whatever window its layers have.

    Where rotary embeddings change with the length of a text (LongRoPE, Phi 3), as many as come before they do: beyond,
    what stands in the cache was computed otherwise than what comes.
    """
    text = config.get_text_config()
    lengths = [length for name in LENGTHS if (length := getattr(text, name, None))]
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        lengths.append(rope["original_max_position_embeddings"])
    return min(lengths, default=2**31)


def check_fits(prompt: Sequence[int], reply: int, context: int) -> None:
    """Raises ValueError for a prompt that, with as many tokens of a reply, is longer than the context."""
    if len(prompt) + reply > context:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens with a reply of {reply} does not fit the model's context of {context} "
            "tokens"
        )


def windows(config: Any) -> list[int]:
    """How far layers see that do not see everything, rising; empty where all do."""
    text = config.get_text_config()
    if getattr(text, "use_sliding_window", True) is False:
        return []
    return sorted({window for name in WINDOWS if (window := getattr(text, name, None))})
