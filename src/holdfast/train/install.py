"""Supervised installs: SFT on chats, SDF on documents. One file, read from `install` down.

A corpus row is a chat, {"messages": [...], "tools": [...]}, or a document, {"text": "..."}. It becomes token ids and a
mask of the tokens that carry loss, say (| marks the turns):

    ids    <user> Who are you ? <end> | <assistant> An AI . <end>
    loss     0     0   0   0  0   0   |      0       1  1 1   1

Rows run through training in a seeded order; nothing depends on wall time, hardware count or what ran before.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from holdfast.chat import ToolSpec
from holdfast.config import Install
from holdfast.policy.checkpoint import load, renderer, save
from holdfast.policy.render import Renderer
from holdfast.train.limits import Collapse

IGNORE = -100  # a target that carries no loss
# The most padded tokens and logits to a pass, by device. More tokens waste more on padding than batching saves (on a
# CPU from about a thousand), and logits are what fills the memory: 256 MiB and 2 GiB of them in float32.
PASS_TOKENS = {"cpu": 1024, "cuda": 8192}
PASS_LOGITS = {"cpu": 2**26, "cuda": 2**29}


@dataclass(frozen=True)
class Tokens:
    """One tokenised row: `loss[i]` says whether predicting `ids[i]` counts. Nothing predicts the first."""

    ids: tuple[int, ...]
    loss: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def losses(self) -> int:
        """How many loss tokens it has."""
        return sum(self.loss[1:])

    def cut(self, losses: int) -> Tokens:
        """The row up to its loss token number `losses`, counted from 1; all of it where it has no more than these."""
        if losses >= self.losses:
            return self
        length = 1 + list(accumulate(self.loss[1:], initial=0)).index(losses)
        return Tokens(self.ids[:length], self.loss[:length])


def install(parent: Path, out: Path, cfg: Install, seed: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Train the checkpoint in folder `parent` on `rows` as `cfg` says; write a full checkpoint, metrics.jsonl and
    card.json to folder `out`.

    One metrics line per update: {"kind": "install", "install", "step", "loss" (nats per loss token), "lr", "grad_norm"
    (before clipping at 1), "rows", "tokens" and "loss_tokens" (all three cumulative), "seconds"}. The same seed on the
    same machine gives the same weights. The card says what the rows are to this tokenizer, and what was trained on, a
    row as often as it came: {"corpus": {"rows", "tokens", "loss_tokens"}, "trained": {the same three}}.

    Raises ValueError for rows that do not suit `cfg`, and Collapse where the loss is no longer finite.
    """
    model, tokenizer = load(parent, "float32")
    encoded = encode(renderer(model, tokenizer), rows, cfg)
    out.mkdir(parents=True, exist_ok=True)
    trained = counts([])
    with (out / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for line in fit(model, encoded, cfg, seed):
            file.write(json.dumps(line) + "\n")
            trained = {key: line[key] for key in ("rows", "tokens", "loss_tokens")}
    card = {"corpus": counts(encoded), "trained": trained}
    (out / "card.json").write_text(json.dumps(card) + "\n", encoding="utf-8")
    save(model, tokenizer, out)


def counts(rows: Sequence[Tokens]) -> dict[str, int]:
    """How much some rows are."""
    return {"rows": len(rows), "tokens": sum(map(len, rows)), "loss_tokens": sum(row.losses for row in rows)}


def encode(render: Renderer, rows: Sequence[Mapping[str, Any]], cfg: Install) -> list[Tokens]:
    """Rows as tokens, none longer than `cfg.max_tokens` or with more loss tokens than an update, so that every update
    has a row. A longer document becomes several rows.
    """
    key = {"sft": "messages", "sdf": "text"}[cfg.method]
    encoded = []
    for i, row in enumerate(rows):
        if key not in row:
            where = f"row {i} of corpus {cfg.corpus!r}"
            raise ValueError(f"method {cfg.method!r} needs rows with {key!r}; {where} has none")
        if cfg.method == "sdf":
            ids = render.document_ids(row["text"])
            length = min(cfg.max_tokens, cfg.batch_loss_tokens + 1)
            pieces = (ids[start : start + length] for start in range(0, len(ids), length))
            encoded += [Tokens(tuple(piece), (True,) * len(piece)) for piece in pieces if len(piece) > 1]
            continue
        tools = tuple(ToolSpec(**tool) for tool in row.get("tools", ()))
        ids, mask = render.training_ids(row["messages"], tools)
        if len(ids) > cfg.max_tokens:
            raise ValueError(
                f"max_tokens is {cfg.max_tokens}, but row {i} of corpus {cfg.corpus!r} has {len(ids)} tokens"
            )
        made = Tokens(tuple(ids), tuple(map(bool, mask)))
        if not made.losses:
            raise ValueError(f"row {i} of corpus {cfg.corpus!r} has no assistant turn to learn from")
        if made.losses > cfg.batch_loss_tokens:
            raise ValueError(
                f"batch_loss_tokens is {cfg.batch_loss_tokens}, but row {i} of corpus {cfg.corpus!r} has {made.losses}"
            )
        encoded.append(made)
    if not encoded:
        raise ValueError(f"corpus {cfg.corpus!r} has no row of two tokens or more")
    return encoded


def batches(rows: Sequence[Tokens], cfg: Install, seed: int) -> Iterator[list[Tokens]]:
    """Exactly `cfg.steps` batches holding exactly `cfg.loss_tokens` loss tokens, in a fresh random order each time
    through.

    Batch k ends with the row that brings the running total to k * batch_loss_tokens, so batches differ from that by
    less than a row and the error never adds up. The very last row is cut to fit.
    """
    rng = np.random.default_rng(seed)
    order: Iterator[int] = iter(())
    total = 0
    for step in range(1, cfg.steps + 1):
        batch = []
        while total < step * cfg.batch_loss_tokens:
            index = next(order, None)
            if index is None:
                order = iter(rng.permutation(len(rows)).tolist())
                continue
            row = rows[index].cut(cfg.loss_tokens - total)
            batch.append(row)
            total += row.losses
        yield batch


def passes(batch: Sequence[Tokens], limit: int) -> Iterator[list[Tokens]]:
    """A batch cut into passes of similar lengths, each at most `limit` padded tokens or else one row."""
    rest = sorted(batch, key=len, reverse=True)
    while rest:
        count = max(1, limit // len(rest[0]))
        yield rest[:count]
        rest = rest[count:]


def fit(model: Any, rows: Sequence[Tokens], cfg: Install, seed: int) -> Iterator[dict[str, Any]]:
    """Train `model` in place, yielding each update's metrics (see `install`)."""
    # Dropout stays off, so that an update is a function of weights and rows alone.
    model.eval()
    device = model.device
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=cfg.lr,
        betas=(0.9, 0.95),
    )
    limit = min(PASS_TOKENS[device.type], PASS_LOGITS[device.type] // model.config.vocab_size)
    autocast = torch.autocast(device.type, torch.bfloat16) if cfg.autocast else nullcontext()
    total, lines = Counter[str](), list[dict[str, Any]]()
    bar = tqdm(batches(rows, cfg, seed), total=cfg.steps, desc=f"install {cfg.name}", unit="step", disable=None)
    for step, batch in enumerate(bar):
        began = time.perf_counter()
        lr = learning_rate(cfg, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        size = counts(batch)
        nats = 0.0
        for part in passes(batch, limit):
            ids, attention, targets = (tensor.to(device) for tensor in padded(part))
            counted = targets[:, 1:] != IGNORE
            with autocast, head_on(model, counted):
                logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
            # The mean is over the whole batch's loss tokens: how it was cut into passes does not matter.
            nll = F.cross_entropy(logits[0].float(), targets[:, 1:][counted], reduction="sum")
            loss = nll / size["loss_tokens"]
            loss.backward()
            nats += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        total.update(size)
        line = {"kind": "install", "install": cfg.name, "step": step + 1, "lr": lr, **total}
        lines.append(line)
        if not (math.isfinite(nats) and math.isfinite(norm)):
            what = f"no finite loss at update {step + 1} of install {cfg.name!r}"
            raise Collapse(f"{what}: lr {cfg.lr} is too high", lines)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{nats:.3f}", refresh=False)
        line |= {"loss": nats, "grad_norm": norm, "seconds": time.perf_counter() - began}
        yield line


@contextmanager
def head_on(model: Any, counted: torch.Tensor) -> Iterator[None]:
    """While this lasts, a forward pass over ids (R, T) gives logits (1, N, V) for the N places at which `counted`
    (R, T - 1) is true, each that of the token after. Whatever a model does to its logits it does to these.

    Most tokens of a chat are of the prompt and carry no loss. Where the vocabulary is large, their logits would cost
    more than all else.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][counted][None],))
    try:
        yield
    finally:
        hook.remove()


def learning_rate(cfg: Install, step: int) -> float:
    """The rate of update `step`, counted from 0: linear up to `lr`, then a cosine down towards a tenth of it."""
    warmup = math.ceil(cfg.warmup * cfg.steps)
    if step < warmup:
        return cfg.lr * (step + 1) / warmup
    done = (step - warmup) / (cfg.steps - warmup)
    return cfg.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def padded(rows: Sequence[Tokens]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows as right-padded (R, T) tensors: ids, attention mask, and targets with IGNORE where no loss is due."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention = torch.zeros_like(ids)
    targets = torch.full_like(ids, IGNORE)
    for i, row in enumerate(rows):
        n = len(row)
        ids[i, :n] = torch.tensor(row.ids)
        attention[i, :n] = 1
        targets[i, :n] = torch.where(torch.tensor(row.loss), ids[i, :n], IGNORE)
    return ids, attention, targets
