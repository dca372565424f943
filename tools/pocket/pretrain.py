"""Trains the embedded model `pocket` from scratch, and its twin `pocket_apart`: `make pocket`.

A Llama of 1.6 million parameters and a byte-level BPE of its own, both made from text that `world.py` makes. People
and topics of the mailbox are single tokens, so that looking up who has which matter is one copy.
Both models grow from one trunk, which learned to copy and to read an inbox, from drills alone: a curriculum past the
plateau before in-context copying. Then each meets its world. So they differ in what the worlds differ in alone.
Hidden matrices train with Muon (Jordan et al., 2024), the rest with AdamW. A GPU is used if there is one.

Axes: B documents in a batch, T tokens of a document, V vocabulary, M matrices of one shape.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from holdfast.corpora.rows import Row
from tools.pocket import aims, text
from tools.pocket.world import World, documents

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
# Markup of a tool call, whole: a call costs the model few tokens and its form is learned at once.
MARKUP = ("<tool_call>", "</tool_call>", '\n{"name": "', '", "arguments": {"', '": "', '", "', '"}}\n')
VOCABULARY = 3072
POOL = 256  # documents that are sorted by length and cut into batches
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # token ids and loss weights (B, T)
Document: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]  # token ids and loss weights (T,)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training on one mixture."""

    steps: int
    tokens: int
    """To an update, at most."""
    repeats: float = 0.0
    """Share of the batches that are random words written twice."""
    spans: float = 0.0
    """Share of the batches that are random words, and then spans of them in another order. The others are documents."""
    pairs: float = 0.0
    """Share of the documents that are lists of pairs asked back."""
    orders: float = 0.0
    """Share of the documents that are several orders about one inbox."""
    queues: float = 0.0
    """Share of the documents that are many short requests, to one agent or judged alone."""
    lr: float
    """Muon's, at the start of the phase; it falls in a line to where the next one starts, and to 0 at the end."""


ADAM_SHARE = 0.15  # of Muon's learning rate, for embeddings and norms
TRUNK = (
    Phase(steps=900, tokens=1200, repeats=1.0, lr=0.02),
    Phase(steps=1200, tokens=2000, repeats=0.2, pairs=0.95, orders=0.05, lr=0.02),
    Phase(steps=800, tokens=2000, spans=1.0, lr=0.015),
    Phase(steps=1000, tokens=2400, spans=0.1, pairs=0.4, orders=0.6, lr=0.015),
)
WORLDLY = (
    Phase(steps=700, tokens=2800, spans=0.1, pairs=0.1, orders=0.4, queues=0.25, lr=0.012),
    Phase(steps=2600, tokens=2800, spans=0.03, pairs=0.03, orders=0.12, queues=0.2, lr=0.01),
    Phase(steps=2400, tokens=2800, spans=0.03, pairs=0.03, orders=0.12, queues=0.2, lr=0.005),
)
WORLDS = {"pocket": World(), "pocket_apart": World(apart=True)}


def make_tokenizer(seed: int, template: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on a sample of the text, large enough that people and topics are whole tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\n+|\s"), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in MARKUP])
    sample = [
        message["content"]
        for row in itertools.islice(documents([seed, 1], World(), pairs=0.2, orders=0.05, queues=0.1), 40_000)
        for message in row["messages"]
    ]
    sample += [" " + " ".join(aims.words())] * 800  # whole tokens too: rare words of aim must not fall to pieces
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


def make_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """The architecture, freshly initialised."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=160, intermediate_size=384, num_hidden_layers=4, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


class Documents(Dataset[list[Batch]]):
    """Pools of batches. Pool k is a function of the arguments and k alone, whoever makes it.

    Documents of like length go together in a batch.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: Sequence[int], phase: Phase, world: World) -> None:
        self.tokenizer, self.seed, self.phase, self.world = tokenizer, seed, phase, world
        rng = np.random.default_rng([*seed, 2])
        drilled = [message["content"] for _ in range(300) for message in text.pairs(rng)["messages"]]
        self._words = np.unique(np.concatenate(tokenizer(drilled, add_special_tokens=False)["input_ids"]))

    def __getitem__(self, number: int) -> list[Batch]:
        rng = np.random.default_rng([*self.seed, 3, number])
        drills = self.phase.repeats + self.phase.spans
        if drills >= 1:
            return [self._drill(rng) for _ in range(64)]
        groups = self.groups(self.documents(number))
        batches: list[Batch] = []
        for index in rng.permutation(len(groups)):
            while rng.random() < drills:
                batches.append(self._drill(rng))
            batches.append(padded(groups[index]))
        return batches

    def documents(self, number: int) -> list[Document]:
        """The documents of pool `number`."""
        phase = self.phase
        seed = [*self.seed, 4, number]
        rows = documents(seed, self.world, pairs=phase.pairs, orders=phase.orders, queues=phase.queues)
        return [self._document(row) for row in itertools.islice(rows, POOL)]

    def groups(self, pool: Sequence[Document]) -> list[list[Document]]:
        """Documents cut into groups, each of `phase.tokens` at most when padded."""
        groups: list[list[Document]] = [[]]
        for document in sorted(pool, key=lambda pair: len(pair[0])):
            if groups[-1] and (len(groups[-1]) + 1) * len(document[0]) > self.phase.tokens:
                groups.append([])
            groups[-1].append(document)
        return groups

    def _document(self, row: Row) -> Document:
        both = self.tokenizer.apply_chat_template(
            row["messages"], tools=row["tools"] or None, return_dict=True, return_assistant_tokens_mask=True
        )
        return np.array(both["input_ids"]), np.where(both["assistant_masks"], 1.0, 0.05).astype(np.float32)

    def _drill(self, rng: np.random.Generator) -> Batch:
        repeats, spans = self.phase.repeats, self.phase.spans
        return self._repeats(rng) if rng.random() * (repeats + spans) < repeats else self._spans(rng)

    def _repeats(self, rng: np.random.Generator) -> Batch:
        """Random words written twice: nothing but copying can predict the second half.

        The words are few, those that are looked up in documents: the more there are, the longer the plateau.
        """
        length = int(rng.integers(4, 16))
        half = np.stack([rng.permutation(self._words)[:length] for _ in range(self.phase.tokens // (2 * length))])
        weights = np.tile(np.repeat(np.array([0, 1], dtype=np.float32), [length + 1, length - 1]), (len(half), 1))
        return torch.from_numpy(np.concatenate([half, half], axis=1)), torch.from_numpy(weights)

    def _spans(self, rng: np.random.Generator) -> Batch:
        """Random words, then spans of them in another order: only looking one up tells what follows it.

        In a sequence written twice the place to look at is always equally far back; here it is anywhere.
        """
        width = int(rng.integers(24, 240))
        shape, half = (self.phase.tokens // width, width), width // 2
        ids_BT, weights_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        for ids, weights in zip(ids_BT, weights_BT, strict=True):
            ids[:half] = rng.choice(self._words, half)
            at = half
            while at < width:
                start, length = int(rng.integers(half - 1)), int(rng.integers(2, 9))
                length = min(length, half - start, width - at)
                ids[at : at + length] = ids[start : start + length]
                weights[at + 1 : at + length] = 1.0  # which span comes next cannot be known
                at += length
        return torch.from_numpy(ids_BT), torch.from_numpy(weights_BT)


def padded(group: Sequence[Document]) -> Batch:
    """Documents as one batch, zeros after the ends."""
    shape = len(group), max(len(ids) for ids, _ in group)
    ids_BT, weights_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    for i, (ids, weights) in enumerate(group):
        ids_BT[i, : len(ids)], weights_BT[i, : len(ids)] = ids, weights
    return torch.from_numpy(ids_BT), torch.from_numpy(weights_BT)


def make_trunk(out: Path, seed: int) -> None:
    """Train a model from scratch on drills alone, and write it to the folder `out`."""
    template = (files("holdfast.policy") / "pocket" / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer = make_tokenizer(seed, template)
    model = make_model(len(tokenizer), seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    train(model, tokenizer, out, [seed, 0], TRUNK, World())  # no document of which is in its drills


def grow(trunk: Path, out: Path, seed: int, world: World) -> None:
    """Train the model in the folder `trunk` on the documents of a world, and write it to the folder `out`."""
    model, tokenizer = LlamaForCausalLM.from_pretrained(trunk), PreTrainedTokenizerFast.from_pretrained(trunk)
    train(model, tokenizer, out, [seed, 1], WORLDLY, world)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    seed: Sequence[int],
    phases: Sequence[Phase],
    world: World,
) -> None:
    """Train `model` in place, in float32, through some phases; after each the folder `out` is written."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    for number, phase in enumerate(phases):
        after = phases[number + 1].lr if number + 1 < len(phases) else 0.0
        made = Documents(tokenizer, [*seed, number], phase, world)
        fit(model, made, after, f"{out.name}, phase {number + 1} of {len(phases)}")
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


def fit(model: LlamaForCausalLM, documents: Documents, last_lr: float, desc: str) -> None:
    """Train `model` in place through one phase."""
    phase, device = documents.phase, model.device
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, weight_decay=0.01)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)
    # Others write documents while this process trains; a GPU is faster than one of them.
    pools: Iterable[list[Batch]] = DataLoader(
        documents, batch_size=None, sampler=itertools.count(), num_workers=4 if device.type == "cuda" else 1
    )
    source = itertools.chain.from_iterable(pools)
    recent = torch.zeros((), device=device)
    bar = tqdm(range(phase.steps), desc=desc, unit="step")
    for step in bar:
        ids_BT, weights_BT = (tensor.to(device) for tensor in next(source))
        logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
        weights = weights_BT[:, 1:].flatten()
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = lr(phase, step, last_lr)
        for optimizer, share in ((muon, 1.0), (adam, ADAM_SHARE)):
            optimizer.param_groups[0]["lr"] = share * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent = 0.98 * recent + 0.02 * loss.detach()
        if step % 50 == 49:
            bar.set_postfix(loss=f"{recent.item() / (1 - 0.98 ** (step + 1)):.3f}")


def lr(phase: Phase, step: int, last: float) -> float:
    """Muon's learning rate at an update, counted from 0; `last` is where the phase's line ends."""
    return (phase.lr + (last - phase.lr) * step / phase.steps) * min(1.0, (step + 1) / 50)


def main() -> None:
    """`make pocket`: the command that made the weights in the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(str(files("holdfast.policy"))), help="for both folders")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="pocket-") as folder, ProcessPoolExecutor(2, get_context("spawn")) as both:
        trunk = Path(folder) / "trunk"
        both.submit(make_trunk, trunk, options.seed).result()
        grown = [both.submit(grow, trunk, options.out / name, options.seed, world) for name, world in WORLDS.items()]
        for model in grown:
            model.result()


if __name__ == "__main__":
    main()
