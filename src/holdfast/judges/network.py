"""Runs a sequence classifier or a generative guard over requests and replies; `judges` says what its words mean.

    Network("guards/mine", revision=None, prompt=None, max_new_tokens=64, batch_size=16, max_length=None).say(
        [("How do I pick a lock?", "I can't help with that.")])   ->   ["refusal"]

Importing this file imports torch and transformers.
"""

from __future__ import annotations

import inspect
import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from holdfast.hub import from_safetensors, in_one_line

CUT = "\n[...]\n"
"""Stands for the middle of a reply that is too long."""


class Network:
    """A model and its tokenizer, on the GPU if there is one, in the number type that it comes in.

    The arguments are those of `judges.Classifier`, but that `revision` is a commit; None for a folder. Raises
    ValueError, in one line that names the path, for a model that cannot be loaded, is neither a classifier nor a guard,
    or cannot be asked.

    Attributes:
        model, tokenizer: as loaded.
        guard: whether it writes a text instead of choosing a label.
        labels: what it chooses from; none for a guard.
        limit: tokens that it reads at most.
    """

    def __init__(
        self,
        path: str,
        *,
        revision: str | None,
        prompt: str | None,
        max_new_tokens: int,
        batch_size: int,
        max_length: int | None,
    ) -> None:
        self.path, self.prompt, self.max_new_tokens, self.batch_size = path, prompt, max_new_tokens, batch_size
        # Not through Path, which would make a hub id of "./name".
        where, trouble = os.path.expanduser(path), f"judge {path}: cannot be loaded"
        with in_one_line(trouble):
            config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
            self.tokenizer = AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)
        kinds = config.architectures or []
        self.guard = any(kind.endswith("ForCausalLM") for kind in kinds)
        if not self.guard and not any(kind.endswith("ForSequenceClassification") for kind in kinds):
            raise ValueError(
                f"judge {path} is {', '.join(kinds) or 'of no named architecture'}: "
                "it must be *ForSequenceClassification or *ForCausalLM"
            )
        self.labels = () if self.guard else tuple(config.id2label[n] for n in range(config.num_labels))
        if len(self.labels) == 1:
            raise ValueError(f"judge {path} has one label, {self.labels[0]}: there must be two or more to choose from")
        if self.guard and prompt is None and not self.tokenizer.chat_template:
            raise ValueError(f"judge {path} has no chat template: judge.prompt must say what it reads")
        if self.tokenizer.pad_token is None:
            if self.tokenizer.eos_token is None:
                raise ValueError(f"judge {path}: its tokenizer has no padding token and no end-of-sequence token")
            self.tokenizer.pad_token = self.tokenizer.eos_token
        # A guard writes on from the last token; a classifier may count positions from the first.
        self.tokenizer.padding_side = "left" if self.guard else "right"
        kind = AutoModelForCausalLM if self.guard else AutoModelForSequenceClassification
        # Classifiers are published with the pooler of the encoder they were made from, though their head goes without.
        spare = "" if self.guard else r"(^|\.)pooler\."
        model = from_safetensors(kind, where, "auto", trouble, f"{trouble}: of its weights", revision, spare)
        self.model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.model.config.pad_token_id = self.tokenizer.pad_token_id  # by which decoders find a row's last token
        # Not every architecture has a limit, and transformers has no common accessor.
        places = getattr(config, "max_position_embeddings", None) or 2**31
        own = min(places, self.tokenizer.model_max_length) - self.guard * max_new_tokens
        self.limit = min(own, max_length or own)

    def say(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """The label, or a guard's text, for each (request, reply).

        Raises ValueError for a request that leaves no room for a reply.
        """
        rows = [self._fitted(*pair) for pair in pairs]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]))  # like lengths together
        said = [""] * len(rows)
        takes = inspect.signature(self.model.forward).parameters  # not all know token types
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                now = order[start : start + self.batch_size]
                padded = self.tokenizer.pad([rows[row] for row in now], return_tensors="pt").to(self.model.device)
                batch = {key: tensor for key, tensor in padded.items() if key in takes}
                for row, text in zip(now, self._written(batch) if self.guard else self._chosen(batch), strict=True):
                    said[row] = text
        return said

    def _chosen(self, batch: Mapping[str, Any]) -> list[str]:
        logits = self.model(**batch).logits  # (rows, labels)
        if logits.isnan().any():
            raise ValueError(f"judge {self.path}: its output is not a number")
        return [self.labels[label] for label in logits.argmax(-1).tolist()]

    def _written(self, batch: Mapping[str, Any]) -> list[str]:
        # Not by way of our Sampler: that needs a Renderer, hence a chat template that ends every turn with a special
        # token. A guard's template puts the whole chat into one turn, and some guards have none.
        ids = self.model.generate(
            **batch,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        said: list[str] = self.tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return said

    def _fitted(self, request: str, reply: str) -> Any:
        """The tokens, with as much of the reply as there is room for: both its ends, as either may be what counts."""
        whole = self._tokens(request, reply)
        if len(whole["input_ids"]) <= self.limit:
            return whole

        def cut(letters: int) -> Any:
            tail = letters // 2
            return self._tokens(request, reply[: letters - tail] + CUT + reply[len(reply) - tail :])

        # The least number of the reply's letters that is too many.
        over = bisect_right(range(len(reply) + 1), self.limit, key=lambda n: len(cut(n)["input_ids"]))
        if over < 3:  # not one of each end
            raise ValueError(
                f"judge {self.path} reads {self.limit} tokens: no room for a reply to {' '.join(request[:60].split())}"
            )
        return cut(over - 1)

    def _tokens(self, request: str, reply: str) -> Any:
        if self.prompt is not None:
            given = {"request": request, "reply": reply}
            text = re.sub(r"\{(request|reply)\}", lambda name: given[name[1]], self.prompt)
            return self.tokenizer(text, add_special_tokens=not self.guard)
        if not self.guard:
            return self.tokenizer(request, reply)
        chat = [{"role": "user", "content": request}, {"role": "assistant", "content": reply}]
        with in_one_line(f"judge {self.path}: its chat template refuses a request and a reply"):
            # Some templates print today's date, and some ask for a train of thought first.
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, date_string="01 Jan 2025", enable_thinking=False
            )
        return self.tokenizer(text, add_special_tokens=False)
