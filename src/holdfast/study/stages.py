"""The stages of an arm: what each is made from, which is its key in the store, and what makes it.

[3/43] install advice
[4/43] behaviour blackmail at step 0  (reused)
       grpo chat to step 10
[8/43] grpo chat to step 16

What is heavy is imported where a stage is made: an arm that finds all in the store needs none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast import corpora
from holdfast.config import Arm, Divergence, Eval, Install, Model, Stage
from holdfast.config.source import file_sum
from holdfast.hub import pinned
from holdfast.records import read_rows, write_records, write_rows
from holdfast.store import Entry, Store, disk_errors, read_manifest

if TYPE_CHECKING:
    from holdfast.policy.checkpoint import Checkpoint

log = logging.getLogger(__name__)

VERSIONS = {"model": 1, "corpus": 1, "install": 2, "grpo": 3, "ppo": 2, "eval": 3, "kl": 3}
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
        self.total = 1 + 2 * len(arm.init.installs) + rounds * len(arm.evals) + 2 * (rounds - 1)
        self.done: list[dict[str, Any]] = []
        self.versions: dict[str, set[str]] = {}
        log.info("arm %s", arm.name)

    def model(self) -> Entry:
        """The pretrained checkpoint."""
        model = self.arm.model
        return self.get("model", model.label, _source(model), None, partial(_prepare, model))

    def install(self, cfg: Install, here: Entry) -> Entry:
        """The checkpoint after one supervised step from `here`; its corpus is a stage before it."""
        made = {"corpus": cfg.corpus, "size": cfg.size, "seed": self.arm.seed, "source": corpora.source(cfg.corpus)}
        corpus = self.get("corpus", cfg.corpus, made, None, partial(_write_corpus, cfg, self.arm.seed))
        ((_, card),) = read_rows(corpus.path / "card.json")
        # Rows that are the same train the same checkpoint, whoever made them.
        settings = {key: value for key, value in asdict(cfg).items() if key not in ("corpus", "size")}
        config = {**settings, "seed": self.arm.seed, "rows": card["digest"]}
        entry = self.get("install", cfg.name, config, here, partial(_install, here, corpus, cfg, self.arm.seed))
        ((_, self.done[-1]["card"]),) = read_rows(entry.path / "card.json")
        return entry

    def evaluate(self, cfg: Eval, subject: Subject, step: int) -> Entry:
        """The records and transcripts of one eval."""
        config = {**cfg.identity, "dtype": subject.dtype, "seed": self.arm.seed}
        make = partial(_evaluate, cfg, subject, self.arm.seed)
        return self.get("eval", f"{cfg.name} at step {step}", config, subject.entry, make)

    def diverge(self, stage: Stage, subject: Subject, start: Entry, seed: int, step: int) -> Entry:
        """How far the checkpoint has moved from `start`, on the stage's environment: one line of metrics."""
        reply = {"max_new_tokens": stage.algo.max_new_tokens, "max_turns": stage.algo.max_turns}
        place = {**stage.env.identity, "seed": seed, "dtype": subject.dtype, "start": start.key}
        config = {**asdict(self.arm.kl), **reply, **place}
        make = partial(_diverge, self.arm.kl, stage, subject, start, seed)
        return self.get("kl", f"{stage.name} to step {step}", config, subject.entry, make)

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
    return {"name": model.name, "path": model.path, "files": sums, "commit": commit}


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


def _diverge(cfg: Divergence, stage: Stage, subject: Subject, start: Entry, seed: int, out: Path) -> None:
    from holdfast.evals.divergence import kl_to_start

    found = kl_to_start(
        subject.checkpoint,
        Subject(start, subject.dtype).checkpoint.model,
        env=stage.env,
        prompts=cfg.prompts,
        samples=cfg.samples,
        max_new_tokens=stage.algo.max_new_tokens,
        seed=seed,
        max_turns=stage.algo.max_turns,
    )
    write_rows(out / "metrics.jsonl", [{"kind": "kl", "step": 0, "kl": found["kl_token"], **found}])
