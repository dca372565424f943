"""Batched sampling: the only place that generates.

A prompt is prefilled once however many samples are drawn from it, and its keys and values are stored and read once for
all of them; what it begins with is prefilled once for all prompts that begin so, those of an episode's next turn among
them (`prefix.py`); finished rows leave the batch. Every row draws from a random stream of its own, named by a key, so a
sample does not depend on what else was in the batch:

    sampler.sample([prompt_ids], [[("blackmail", 0, 7, i, 0) for i in range(8)]])[0][3].text

Axes: R rows (one sample each), T tokens of a reply, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from holdfast.policy.attention import Shared
from holdfast.policy.paths import path_of
from holdfast.policy.plain import Plain
from holdfast.policy.prefix import Prefixes, Prompt
from holdfast.policy.render import Renderer
from holdfast.policy.thoughts import Allowance, Room
from holdfast.policy.windows import check_fits, context_length

StreamKey: TypeAlias = tuple[str | int, ...]
Draw: TypeAlias = tuple[int, int]  # (prompt index, key index) as the caller numbers them
Work: TypeAlias = tuple[Shared | Plain, list[Draw], int]  # rows of a batch, whose they are, and how many are nobody's

# Rows come in multiples of 8: for fewer, CPU libraries switch to other kernels, which round differently, and a sample
# would depend on the size of its batch.
ROWS = 8
# Bytes to remember prefilled prompts in; as many as the weights take, where these are more. The prompts of a wave take
# no more either, or are one; and so do the copies of a prompt that is not shared, or are ROWS.
ROOM = 2**30


@dataclass(frozen=True)
class Sample:
    """One reply.

    `ids` are the sampled tokens, with the end-of-turn token if one was produced; `text` is what they say without it.
    `finish` is "stop" where the reply ended itself, "length" where it was cut. `logprobs` has a natural logarithm per
    id, under the distribution sampled from (temperature, top_k and top_p applied; at temperature 0 the model's own).
    `thought` is how many ids, from the first on, are a thought and its tags.
    """

    ids: tuple[int, ...]
    text: str
    finish: Literal["stop", "length"]
    logprobs: tuple[float, ...]
    thought: int = 0


def uniforms(key: StreamKey, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The first n numbers in [0, 1) of the stream named `key`: Philox (Salmon et al. 2011), keyed with a SHA-256."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big"))).random(n)


class Sampler:
    """Samples replies from a causal language model.

    On a CPU a sample is the same bit for bit in any batch, in float32 and bfloat16, for one number of threads. Where
    kernels round differently by batch size, as those of GPU libraries and of mixtures of experts do, it may differ
    where a draw falls within rounding of the boundary between two tokens.

    What was prefilled is remembered from one call to the next, so the weights must stay as they are while a sampler
    lives: after an update of the weights, make another.

    Prompts are shared as `attention.py` does, if a trial shows that the model's attention allows it (`paths.py`). Else
    a prompt is still run once for its samples, but by itself (`plain.py`). Streams, samples and records are the same.

    Arguments:
        model: any causal LM.
        renderer: says which tokens end a turn, and decodes.
        max_new_tokens: 1 or more; a reply that has not ended by then is cut.
        temperature: 0 or more; 0 takes the likeliest token and draws nothing.
        top_k: draw from as many of the likeliest tokens only; 0 for all.
        top_p: draw from the fewest of the likeliest tokens that have this much of the probability; above 0, 1 for all.
        batch_rows: how many samples decode together at most.
        progress: draw a progress bar with the time left on standard error.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: Renderer,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        batch_rows: int = 128,
        progress: bool = False,
    ) -> None:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be 1 or more, not {max_new_tokens}")
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or more, not {temperature}")
        if top_k < 0:
            raise ValueError(f"top_k must be 0 or more, not {top_k}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and 1 at most, not {top_p}")
        if batch_rows < 1:
            raise ValueError(f"batch_rows must be 1 or more, not {batch_rows}")
        self.model, self.renderer = model, renderer
        self.max_new_tokens, self.temperature, self.batch_rows = max_new_tokens, temperature, batch_rows
        self.top_k, self.top_p, self.progress = top_k, top_p, progress
        self.context = context_length(model.config)
        self.allowance = Allowance(renderer, max_new_tokens, renderer.template.thought_tokens)
        self._room = max(ROOM, sum(p.nbytes for p in model.parameters()))
        self._prefixes = Prefixes(model, renderer.end_ids, self._room)
        self._ends = torch.tensor(sorted(renderer.end_ids), device=model.device)

    def sample(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[Sequence[StreamKey]], *, desc: str = "sampling"
    ) -> list[list[Sample]]:
        """Draw one sample per key: `result[i][j]` continues `prompts[i]` with the stream `keys[i][j]`.

        What prompts of this call and the last begin with in common is prefilled once. Raises ValueError for an empty
        prompt and for one that, with a reply, does not fit the model's context.
        """
        if len(prompts) != len(keys):
            raise ValueError(f"{len(prompts)} prompts but keys for {len(keys)}")
        rows: dict[tuple[int, ...], list[Draw]] = {}
        for i, prompt in enumerate(prompts):
            self.check(prompt)
            rows.setdefault(tuple(prompt), []).extend((i, j) for j in range(len(keys[i])))
        self._prefixes.renew()
        result: list[list[Any]] = [[None] * len(row_keys) for row_keys in keys]
        total = sum(len(row_keys) for row_keys in keys)
        bar = tqdm(total=total, desc=desc, unit="reply", leave=False, disable=not self.progress)
        with bar, torch.inference_mode(), _evaluating(self.model):
            shared = bool(rows) and path_of(self.model).sampling == "shared"
            for decoder, index, spare in self._shared(rows) if shared else self._plain(rows):
                noise = np.stack([uniforms(keys[i][j], self.allowance.most) for i, j in index])
                for n, sample in self._decode(decoder, noise, spare):
                    i, j = index[n]
                    result[i][j] = sample
                    bar.update()
        return result

    def fits(self, prompt: Sequence[int]) -> bool:
        """Whether the model's context holds the prompt and a reply, with its thought."""
        return len(prompt) + self.allowance.most <= self.context

    def check(self, prompt: Sequence[int]) -> None:
        """Raises ValueError for a prompt without tokens, or one that does not fit."""
        if not prompt:
            raise ValueError("a prompt needs at least one token")
        check_fits(prompt, self.allowance.most, self.context)

    def _shared(self, rows: dict[tuple[int, ...], list[Draw]]) -> Iterator[Work]:
        """The work in waves of rows after several prompts."""
        for wave in self._waves(rows):
            groups = [p for p, (_, group) in enumerate(wave) for _ in group]
            spare = -len(groups) % ROWS
            groups += [i % len(wave) for i in range(spare)]  # rows that nobody reads
            decoder = Shared(self.model, [prompt for prompt, _ in wave], groups)
            yield decoder, [row for _, group in wave for row in group], spare

    def _plain(self, rows: dict[tuple[int, ...], list[Draw]]) -> Iterator[Work]:
        """The work prompt by prompt."""
        for ids in sorted(rows, key=lambda ids: (-len(ids), ids)):
            left = rows[ids]
            while left:
                decoder = Plain(self.model, ids)
                size = min(self.batch_rows, max(self._room // max(decoder.nbytes, 1) // ROWS * ROWS, ROWS))
                part, left = left[:size], left[size:]
                spare = -len(part) % ROWS
                decoder.keep([0] * (len(part) + spare))
                yield decoder, part, spare

    def _waves(self, rows: dict[tuple[int, ...], list[Draw]]) -> Iterator[list[tuple[Prompt, list[Draw]]]]:
        """Cut the work into waves of at most `batch_rows` rows, prompts of like length together, longest first."""
        wave: list[tuple[Prompt, list[Draw]]] = []
        room = self.batch_rows
        for ids in sorted(rows, key=lambda ids: (-len(ids), ids)):
            left = rows[ids]
            if not left:
                continue
            if len(left) > room and room < self.batch_rows:
                yield wave
                wave, room = [], self.batch_rows
            prompt = self._prefixes.prefill(ids)
            held = sum(one.nbytes for one, _ in wave)
            if wave and held + prompt.nbytes > self._room:
                yield wave
                wave, room = [], self.batch_rows
            while len(left) > room:
                yield [*wave, (prompt, left[:room])]
                wave, left, room = [], left[room:], self.batch_rows
            wave.append((prompt, left))
            room -= len(left)
        if wave:
            yield wave

    def _decode(self, decoder: Shared | Plain, noise: Any, spare: int) -> Iterator[tuple[int, Sample]]:
        """Decode rows, of which the last `spare` are nobody's; yields (row, sample) as they finish.

        noise: (rows, tokens) without the spare ones.
        """
        count, device = len(noise), self.model.device
        at = torch.arange(count + spare, device=device).clamp_max(count - 1)
        draws_RT, logits_RV = torch.from_numpy(noise).to(device)[at], decoder.logits_RV
        names = list(range(count + spare))  # row of the batch -> row asked for
        live = [name < count for name in names]
        ids: list[list[int]] = [[] for _ in names]
        logprobs: list[list[float]] = [[] for _ in names]
        rooms = [self.allowance.row() for _ in names]

        for step in range(self.allowance.most):
            tokens_R, chosen_R = self._choose(logits_RV, draws_RT[:, step])
            ended = torch.isin(tokens_R, self._ends).tolist()
            for row, (token, logprob) in enumerate(zip(tokens_R.tolist(), chosen_R.tolist(), strict=True)):
                name = names[row]
                if not live[row]:
                    continue
                if math.isnan(logprob):
                    raise ValueError("the model's output is not a number: its weights are damaged or have diverged")
                ids[name].append(token)
                logprobs[name].append(logprob)
                if rooms[name].spent(ids[name]) or ended[row]:
                    live[row] = False
                    yield name, self._finished(ids[name], logprobs[name], ended[row], rooms[name])
            if not any(live):
                return
            alive = [row for row, is_live in enumerate(live) if is_live]
            size = len(alive) + -len(alive) % ROWS
            if size <= len(live) - max(ROWS, len(live) // 8):  # worth moving the others
                keep = [alive[i % len(alive)] for i in range(size)]
                decoder.keep(keep)
                at = torch.tensor(keep, device=device)
                tokens_R, draws_RT = tokens_R[at], draws_RT[at]
                names, live = [names[row] for row in keep], [i < len(alive) for i in range(size)]
            logits_RV = decoder.step(tokens_R)

    def _choose(self, logits_RV: Tensor, draws_R: Tensor) -> tuple[Tensor, Tensor]:
        """A token per row, where the cumulative distribution passes the row's own number, and its log-probability."""
        logps_RV = logits_RV.float()
        if self.temperature > 0:
            logps_RV = self._likeliest(logps_RV / self.temperature).log_softmax(-1)
            cumulative_RV = logps_RV.exp().cumsum(-1, dtype=torch.float64)
            # Scaled to the actual sum, so that no draw falls past the last token that has any probability.
            targets_R1 = draws_R[:, None] * cumulative_RV[:, -1:]
            tokens_R = torch.searchsorted(cumulative_RV, targets_R1, right=True)[:, 0]
            tokens_R = tokens_R.clamp_max(logits_RV.shape[-1] - 1)  # for nan, which is past the end
        else:
            tokens_R = logps_RV.argmax(-1)
            logps_RV = logps_RV.log_softmax(-1)
        return tokens_R, logps_RV.gather(-1, tokens_R[:, None])[:, 0]

    def _likeliest(self, logits_RV: Tensor) -> Tensor:
        """The logits without those of tokens that are not to be drawn."""
        if 0 < self.top_k < logits_RV.shape[-1]:
            least_R1 = logits_RV.topk(self.top_k).values[:, -1:]
            logits_RV = logits_RV.masked_fill(logits_RV < least_R1, -torch.inf)
        if self.top_p < 1:
            sorted_RV, order_RV = torch.sort(logits_RV, dim=-1, descending=True, stable=True)
            shares_RV = sorted_RV.softmax(-1)
            before_RV = shares_RV.cumsum(-1) - shares_RV
            gone_RV = torch.zeros_like(order_RV, dtype=torch.bool).scatter(-1, order_RV, before_RV >= self.top_p)
            logits_RV = logits_RV.masked_fill(gone_RV, -torch.inf)
        return logits_RV

    def _finished(self, ids: list[int], logprobs: list[float], ended: bool, room: Room) -> Sample:
        text = self.renderer.decode(ids[:-1] if ended else ids)
        return Sample(tuple(ids), text, "stop" if ended else "length", tuple(logprobs), room.thought)


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
