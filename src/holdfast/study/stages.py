"""The stages of an arm: what each is made from, which is its key in the store, and what makes it.

[5/41] install advice
[6/41] eval blackmail at step 0  (reused)
        grpo chat to step 10
[18/41] grpo chat to step 16

What is heavy is imported where a stage is made: an arm that finds all in the store needs none of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import corpora
from holdfast.config import Arm, Eval, Install, Model, Stage
from holdfast.config.source import file_sum
from holdfast.evals.scoring import rescored
from holdfast.hub import pinned
from holdfast.records import read_records, read_rows, write_records, write_rows
from holdfast.store import Entry, Store, disk_errors, read_manifest

if TYPE_CHECKING:
    from holdfast.policy.checkpoint import Checkpoint

log = logging.getLogger(__name__)

VERSIONS = {"model": 1, "corpus": 1, "install": 5, "grpo": 5, "ppo": 4, "eval": 5, "kl": 4}
"""Raised when what a kind of stage computes changes, so that nothing older code made is taken for it."""
Make = Callable[[Path], None]


class Subject:
    """A checkpoint under evaluation: loaded when it is first needed, and once for all that is asked of it."""

    def __init__(self, entry: Entry, dtype: str) -> None:
        self.entry, self.dtype = entry, dtype

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The loaded checkpoint. The store has summed its files already."""
        from holdfast.policy.checkpoint import Checkpoint

        files = read_manifest(self.entry.path).files
        return Checkpoint.read(self.entry.path, self.dtype, {name: file["sha256"] for name, file in files.items()})


class Stages:
    """Takes the stages of `arm` through the store, numbers them and says which one is under way.

    Attributes:
        done: a row for each stage of the arm so far, for done.json.
        versions: of each library that they were made with, all there were.
    """

    def __init__(self, arm: Arm, store: Store) -> None:
        self.arm, self.store = arm, store
        rounds = len(arm.grid)
        after = 2 + len(arm.harms)  # RL and the KL on its environment, or a corpus and an install; the KL on evals
        self.total = 1 + 2 * len(arm.init.installs) + rounds * len(arm.measured) + (rounds - 1) * after
        self.done: list[dict[str, Any]] = []
        self.versions: dict[str, set[str]] = {}
        log.info("arm %s", arm.name)

    def model(self) -> Entry:
        """The pretrained checkpoint."""
        model = self.arm.model
        return self.get("model", model.label, _source(model), None, partial(_prepare, model))

    def check_prompts(self, here: Entry) -> None:
        """Raises ValueError for a prompt of the user's own that does not fit the context of the model `here`: better
        now than in the middle of RL."""
        asked = [("curriculum", row.env, row.algo.max_new_tokens) for row in self.arm.rl]
        asked += [("evals", row.environment, row.max_new_tokens) for row in self.arm.evals]
        for key, env, max_new_tokens in asked:
            if any(part.contents for part in env.environments):
                from holdfast.policy.rollout import check_longest

                try:
                    check_longest(env, here.path, max_new_tokens)
                except ValueError as error:
                    raise ValueError(f"{key}.{env.name}: {error}") from None

    def install(self, cfg: Install, here: Entry, seed: int) -> Entry:
        """The checkpoint after one supervised step from `here`; its corpus, made by `seed`, is a stage before it."""
        made = {"corpus": cfg.corpus, "size": cfg.size, "seed": seed, "source": corpora.source(cfg.corpus)}
        corpus = self.get("corpus", cfg.corpus, made, None, partial(_write_corpus, cfg, seed))
        ((_, card),) = read_rows(corpus.path / "card.json")
        # Rows that are the same train the same checkpoint, whoever made them.
        settings = {key: value for key, value in asdict(cfg).items() if key not in ("corpus", "size")}
        config = {**settings, "seed": seed, "rows": card["digest"]}
        entry = self.get("install", cfg.name, config, here, partial(_install, here, corpus, cfg, seed))
        ((_, self.done[-1]["card"]),) = read_rows(entry.path / "card.json")
        return entry

    def evaluate(self, cfg: Eval, subject: Subject, step: int) -> Entry:
        """The records and transcripts of one eval."""
        config = {**cfg.identity, "dtype": subject.dtype, "seed": self.arm.seed}
        make = partial(_evaluate, cfg, subject, self.arm.seed)
        return self.get("eval", f"{cfg.name} at step {step}", config, subject.entry, make)

    def judge_again(self, cfg: Eval, first: Entry, subject: Subject, step: int) -> Entry:
        """The records that a second judge makes of the transcripts in `first`; nothing is sampled."""
        config = {**cfg.identity, "of": first.key}
        make = partial(_judge_again, cfg, first)
        return self.get("eval", f"{cfg.name} at step {step}", config, subject.entry, make)

    def diverge(self, on: Stage | Eval, subject: Subject, start: Subject, seed: int, step: int) -> Entry:
        """How far the checkpoint has moved from `start`, on the prompts of a stage or of an eval: a line of metrics."""
        cfg = self.arm.kl
        env, replies = (on.env, on.algo) if isinstance(on, Stage) else (on.environment, on)
        limits = {"max_new_tokens": replies.max_new_tokens, "max_turns": replies.max_turns}
        prompts = cfg.prompts if isinstance(on, Stage) else min(cfg.prompts, on.scenarios)
        settings = {"prompts": prompts, "samples": cfg.samples, "seed": seed, **limits}
        config = {**settings, **env.identity, "dtype": subject.dtype, "start": start.entry.key}
        make = partial(_diverge, subject, start, {"env": env, **settings})
        return self.get("kl", f"{on.name} to step {step}", config, subject.entry, make)

    def get(self, kind: str, name: str, config: Mapping[str, Any], parent: Entry | None, make: Make) -> Entry:
        """The stage from the store; `make(folder)` makes it if it is not there. `name` is for the reader alone."""
        entry = self._get(f"[{len(self.done) + 1}/{self.total}] {kind} {name}", kind, config, parent, make)
        self.done.append({"kind": kind, "name": name, "key": entry.key, "made": entry.made})
        for library, version in read_manifest(entry.path).versions.items():
            self.versions.setdefault(library, set()).add(version)
        return entry

    def waypoint(self, kind: str, name: str, config: Mapping[str, Any], parent: Entry, make: Make) -> Entry:
        """As `get`, for one on the way to the next: none of the arm's own, and nothing keeps it from pruning."""
        indent = " " * len(f"[{len(self.done) + 1}/{self.total}]")
        return self._get(f"{indent} {kind} {name}", kind, config, parent, make)

    def find(self, kind: str, config: Mapping[str, Any], parent: Entry) -> Entry | None:
        """The stage if it is in the store."""
        return self.store.find(kind, config, parent.key, VERSIONS[kind])

    def _get(self, heading: str, kind: str, config: Mapping[str, Any], parent: Entry | None, make: Make) -> Entry:
        def told(out: Path) -> None:
            log.info(heading)
            with disk_errors(out):
                make(out)

        entry = self.store.get(kind, config, parent.key if parent else None, VERSIONS[kind], told)
        if not entry.made:
            log.info("%s  (reused)", heading)
        return entry


def _source(model: Model) -> dict[str, Any]:
    """What a starting point is made from: the files of a folder and the commit of a hub id, as names stay."""
    folder = Path(model.path).expanduser() if model.path else Path(__file__).parents[1] / "policy" / model.name
    sums = {path.name: file_sum(path) for path in sorted(folder.glob("*")) if path.is_file()}
    commit = pinned(model.path, model.revision) if model.path else None
    thinking: dict[str, Any] = {} if model.thinking == "off" else {"thinking": model.thinking}
    if model.thought_tokens:
        thinking["thought_tokens"] = model.thought_tokens
    return {"name": model.name, "path": model.path, "files": sums, "commit": commit, **thinking}


def _prepare(model: Model, out: Path) -> None:
    from holdfast.policy.sources import prepare

    prepare(model, out)


def _write_corpus(cfg: Install, seed: int, out: Path) -> None:
    rows = corpora.generate(cfg.corpus, seed, cfg.size)
    write_rows(out / "rows.jsonl", rows)
    write_rows(out / "card.json", [corpora.card(rows)])


def _install(here: Entry, corpus: Entry, cfg: Install, seed: int, out: Path) -> None:
    from holdfast.train.install import install

    install(here.path, out, cfg, seed, [row for _, row in read_rows(corpus.path / "rows.jsonl")])


def _evaluate(cfg: Eval, subject: Subject, seed: int, out: Path) -> None:
    records, transcripts = import_module(f"holdfast.evals.{cfg.method}").run(cfg, subject.checkpoint, seed)
    write_records(out / "records.jsonl", records)
    write_rows(out / "transcripts.jsonl", transcripts)


def _judge_again(cfg: Eval, first: Entry, out: Path) -> None:
    records = [replace(record, eval=cfg.name) for record in read_records(first.path / "records.jsonl")]
    transcripts = {row["id"]: row for _, row in read_rows(first.path / "transcripts.jsonl")}
    write_records(out / "records.jsonl", rescored(cfg, records, transcripts))
    write_rows(out / "transcripts.jsonl", [])  # they are those of the first


def _diverge(subject: Subject, start: Subject, settings: Mapping[str, Any], out: Path) -> None:
    from holdfast.evals.divergence import kl_to_start

    found = kl_to_start(subject.checkpoint, start.checkpoint.model, **settings)
    plain = {key: None if math.isnan(value) else value for key, value in found.items()}  # of a single scenario
    write_rows(out / "metrics.jsonl", [{"kind": "kl", "step": 0, "kl": found["kl_token"], **plain}])
