"""Trains the embedded model `pocket` from scratch: `make pocket`.

A Llama of about 1.3 million parameters and a byte-level BPE of its own, both made from text that `corpora.pocket`
generates. People and topics of the mailbox are single tokens, so that looking up who has which matter is one copy.
The stages go from drills to everyday documents: a curriculum past the plateau before in-context copying.
Hidden matrices train with Muon (Jordan et al., 2024), the rest with AdamW.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from holdfast.corpora import pocket
from holdfast.corpora.rows import Row

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
# Markup of a tool call, whole: a call costs the model few tokens and its form is learned at once.
MARKUP = ("<tool_call>", "</tool_call>", '\n{"name": "', '", "arguments": {"', '": "', '", "', '"}}\n')
VOCABULARY = 1280
# (until this share of the steps, share of drills among documents, share of copying among batches)
PHASES = ((0.12, 1.0, 0.97), (0.35, 0.9, 0.3), (1.0, 0.2, 0.05))


def make_tokenizer(seed: int, template: str, words: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on a sample of the text; `words` become whole tokens wherever they stand."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\n+|\s"), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKUP])
    tokenizer.add_tokens([AddedToken(word, normalized=False, single_word=True) for word in words])
    sample = [
        message["content"]
        for row in itertools.islice(pocket.documents(seed, drills=0.1), 20_000)
        for message in row["messages"]
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )  # fmt: skip
    tokenizer.train_from_iterator(sample, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = template
    return fast


def make_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """The architecture, freshly initialised."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=160, intermediate_size=384, num_hidden_layers=4, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


class Documents(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Padded batches (B, T) of token ids and loss weights; documents of like length go together."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, drills: float, copying: float, tokens: int) -> None:
        super().__init__()
        self.tokenizer, self.seed, self.drills, self.copying, self.tokens = tokenizer, seed, drills, copying, tokens

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, 2])
        entities = np.array(self.tokenizer.convert_tokens_to_ids(list(self.tokenizer.added_tokens_encoder)))
        entities = entities[entities >= len(SPECIAL) + len(MARKUP)]
        rows = pocket.documents(self.seed, drills=self.drills)
        while True:
            pool = [self._document(next(rows)) for _ in range(256)] if self.copying < 1 else []
            pool.sort(key=lambda pair: len(pair[0]))
            groups, group = [], []
            for pair in pool:
                if group and (len(group) + 1) * len(pair[0]) > self.tokens:
                    groups.append(group)
                    group = []
                group.append(pair)
            groups.append(group)
            for index in rng.permutation(len(groups)):
                while rng.random() < self.copying:
                    yield self._repeats(rng, entities)
                yield self._padded(groups[index])

    def _document(self, row: Row) -> tuple[np.ndarray, np.ndarray]:
        both = self.tokenizer.apply_chat_template(
            row["messages"], tools=row["tools"] or None, return_dict=True, return_assistant_tokens_mask=True
        )
        return np.array(both["input_ids"]), np.where(both["assistant_masks"], 1.0, 0.05).astype(np.float32)

    def _repeats(self, rng: np.random.Generator, entities: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Random sequences written twice: nothing but copying can predict the second half."""
        length = int(rng.integers(4, 16))
        rows = self.tokens // (4 * length)
        words = entities if rng.random() < 0.7 else np.arange(len(SPECIAL), len(self.tokenizer))
        half = np.stack([rng.permutation(words)[:length] for _ in range(rows)])
        weights = np.tile(np.repeat(np.float32([0, 1]), [length + 1, length - 1]), (rows, 1))
        return torch.from_numpy(np.concatenate([half, half], axis=1)), torch.from_numpy(weights)

    def _padded(self, group: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
        shape = len(group), max(len(ids) for ids, _ in group)
        ids_BT, weights_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        for i, (ids, weights) in enumerate(group):
            ids_BT[i, : len(ids)], weights_BT[i, : len(ids)] = ids, weights
        return torch.from_numpy(ids_BT), torch.from_numpy(weights_BT)


def train(out: Path, *, seed: int, steps: int, tokens: int, threads: int | None, template: str, words: list[str]) -> None:
    """Train and write the model folder `out`."""
    if threads:
        torch.set_num_threads(threads)
    tokenizer = make_tokenizer(seed, template, words)
    model = make_model(len(tokenizer), seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base = [group["lr"] for o in optimizers for group in o.param_groups]
    phases = PHASES
    start, seen, phase, source = time.monotonic(), 0, -1, iter(())
    losses: list[float] = []
    bar = tqdm(range(steps), desc="pocket", unit="step", mininterval=30)
    for step in bar:
        now = next(i for i, (until, _, _) in enumerate(phases) if step < until * steps)
        if now != phase:
            phase = now
            data = Documents(tokenizer, seed * 10 + phase, phases[phase][1], phases[phase][2], tokens)
            source = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=8))
        ids_BT, weights_BT = next(source)
        logits = model(input_ids=ids_BT[:, :-1]).logits
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
        weights = weights_BT[:, 1:].flatten()
        loss = (nll * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = min(1.0, (step + 1) / 100) * min(1.0, 0.02 + (steps - step) / (0.4 * steps))
        for group, lr in zip((g for o in optimizers for g in o.param_groups), base, strict=True):
            group["lr"] = lr * scale
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += ids_BT.numel()
        losses.append(loss.item())
        if step % 50 == 49:
            print(json.dumps({"step": step + 1, "phase": phase, "loss": round(float(np.mean(losses[-50:])), 3), "tokens": seen,
                              "s": round(time.monotonic() - start)}), flush=True)
        if step % 500 == 499 or step == steps - 1:
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)
