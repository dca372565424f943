"""Trains the embedded model `pocket` from scratch: `make pocket`.

A Llama of about 1.3 million parameters and a byte-level BPE of its own, both made from text that `corpora.pocket`
generates. People and topics of the mailbox are single tokens, so that looking up who has which matter is one copy.
The stages go from drills to everyday documents: a curriculum past the plateau before in-context copying.
Hidden matrices train with Muon (Jordan et al., 2024), the rest with AdamW.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from holdfast.corpora import mailbox, pocket
from holdfast.corpora.rows import Row

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
# Markup of a tool call, whole: a call costs the model few tokens and its form is learned at once.
MARKUP = ("<tool_call>", "</tool_call>", '\n{"name": "', '", "arguments": {"', '": "', '", "', '"}}\n')
VOCABULARY = 1280
Document: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]  # token ids and loss weights (T,)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training on one mixture."""

    steps: int
    tokens: int
    """To an update, at most."""
    copying: float
    """Share of the batches that are random sequences written twice. The rest are documents, of which"""
    pairs: float
    """are lists of pairs asked back, and"""
    orders: float
    """several orders about one inbox."""
    lr: float
    """Muon's, at the start of the phase; it falls in a line to where the next one starts, and to 0 at the end."""


ADAM_SHARE = 0.15  # of Muon's learning rate, for embeddings and norms
PHASES = (
    Phase(steps=900, tokens=1200, copying=1.0, pairs=0.0, orders=0.0, lr=0.02),
    Phase(steps=700, tokens=1500, copying=0.2, pairs=0.8, orders=0.15, lr=0.02),
    Phase(steps=800, tokens=2500, copying=0.05, pairs=0.15, orders=0.7, lr=0.015),
    Phase(steps=1800, tokens=2800, copying=0.03, pairs=0.03, orders=0.17, lr=0.01),
)


def make_tokenizer(seed: int, template: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on a sample of the text; people and topics are whole tokens wherever they stand."""
    people, topics = entities(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\n+|\s"), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKUP])
    tokenizer.add_tokens([AddedToken(word, normalized=False, single_word=True) for word in (*people, *topics)])
    sample = [
        message["content"]
        for row in itertools.islice(pocket.documents(seed, pairs=0.05, orders=0.05), 20_000)
        for message in row["messages"]
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = template
    return fast


def entities(seed: int) -> tuple[list[str], list[str]]:
    """The people and topics that come up in the mailbox, in alphabetical order."""
    rng = np.random.default_rng(seed)
    facts = [mailbox.inbox(rng, twin=True)[1] for _ in range(500)]
    people, topics = ({name for row in facts for name in row[key]} for key in ("people", "topics"))
    return sorted(people), sorted(topics)


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

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, phase: Phase) -> None:
        super().__init__()
        self.tokenizer, self.seed, self.phase = tokenizer, seed, phase

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, 2])
        entities = np.array(self.tokenizer.convert_tokens_to_ids(list(self.tokenizer.added_tokens_encoder)))
        entities = entities[entities >= len(SPECIAL) + len(MARKUP)]
        phase = self.phase
        rows = pocket.documents(self.seed, pairs=phase.pairs, orders=phase.orders)
        while True:
            pool = [self._document(next(rows)) for _ in range(256)] if phase.copying < 1 else []
            pool.sort(key=lambda pair: len(pair[0]))
            groups: list[list[Document]] = []
            group: list[Document] = []
            for pair in pool:
                if group and (len(group) + 1) * len(pair[0]) > phase.tokens:
                    groups.append(group)
                    group = []
                group.append(pair)
            groups.append(group)
            for index in rng.permutation(len(groups)):
                while rng.random() < phase.copying:
                    yield self._repeats(rng, entities)
                yield self._padded(groups[index])

    def _document(self, row: Row) -> Document:
        both = self.tokenizer.apply_chat_template(
            row["messages"], tools=row["tools"] or None, return_dict=True, return_assistant_tokens_mask=True
        )
        return np.array(both["input_ids"]), np.where(both["assistant_masks"], 1.0, 0.05).astype(np.float32)

    def _repeats(self, rng: np.random.Generator, entities: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Random sequences written twice: nothing but copying can predict the second half."""
        length = int(rng.integers(4, 16))
        rows = self.phase.tokens // (2 * length)
        words = entities if rng.random() < 0.7 else np.arange(len(SPECIAL), len(self.tokenizer))
        half = np.stack([rng.permutation(words)[:length] for _ in range(rows)])
        weights = np.tile(np.repeat(np.array([0, 1], dtype=np.float32), [length + 1, length - 1]), (rows, 1))
        return torch.from_numpy(np.concatenate([half, half], axis=1)), torch.from_numpy(weights)

    def _padded(self, group: list[Document]) -> tuple[torch.Tensor, torch.Tensor]:
        shape = len(group), max(len(ids) for ids, _ in group)
        ids_BT, weights_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        for i, (ids, weights) in enumerate(group):
            ids_BT[i, : len(ids)], weights_BT[i, : len(ids)] = ids, weights
        return torch.from_numpy(ids_BT), torch.from_numpy(weights_BT)


def train(out: Path, *, seed: int) -> None:
    """Train through `PHASES` and write the model folder `out`, in float32."""
    template = (files("holdfast") / "pocket" / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer = make_tokenizer(seed, template)
    model = make_model(len(tokenizer), seed)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, weight_decay=0.01)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)
    done, total = 0, sum(phase.steps for phase in PHASES)
    bar = tqdm(total=total, desc=f"pocket, {sum(p.numel() for p in model.parameters()):,} parameters", unit="step")
    for number, (phase, next_lr) in enumerate(zip(PHASES, [p.lr for p in PHASES[1:]] + [0.0], strict=True)):
        # One process writes documents while this one trains.
        data = DataLoader(Documents(tokenizer, 10 * seed + number, phase), batch_size=None, num_workers=1)
        source, recent = iter(data), 0.0
        for step in range(phase.steps):
            ids_BT, weights_BT = next(source)
            logits_BTV = model(input_ids=ids_BT[:, :-1]).logits
            losses = torch.nn.functional.cross_entropy(
                logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none"
            )
            weights = weights_BT[:, 1:].flatten()
            loss = (losses * weights).sum() / weights.sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            lr = (phase.lr + (next_lr - phase.lr) * step / phase.steps) * min(1.0, (done + 1) / 100)
            for optimizer, rate in ((muon, lr), (adam, ADAM_SHARE * lr)):
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            done, recent = done + 1, 0.98 * recent + 0.02 * loss.item()
            bar.update()
            if step % 50 == 49:
                bar.set_postfix(phase=number + 1, loss=f"{recent / (1 - 0.98 ** (step + 1)):.3f}")
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def main() -> None:
    """`make pocket`: the command that made the weights in the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(str(files("holdfast") / "pocket")))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.out, seed=options.seed)


if __name__ == "__main__":
    main()
