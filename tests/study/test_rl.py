"""RL through the store: what the entry for a step depends on, and what is made again, on a tiny random model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import Arm, Divergence, Environment, Eval, Init, Model, Stage
from holdfast.config.launch import Launch
from holdfast.config.rl import GRPO, Collapse
from holdfast.stats.verdict import Margins
from holdfast.store import Entry, Store
from holdfast.study.progress import Logbook
from holdfast.study.rl import Segments
from holdfast.study.trackers import Trackers

ENV = "letters:test/Letters-v0"
ALGO = GRPO(name="grpo", prompts_per_step=2, group=2, max_new_tokens=5, lr=3e-3)
PLAIN = Launch()
CLOCK = re.compile("seconds_|tokens_per_second")
EVAL = Eval(name="letters", env=ENV, measures="competence", scenarios=1, samples=1, max_new_tokens=4)


def stage(steps: Sequence[int]) -> Stage:
    env = Environment(name="chat", id=ENV, kwargs={})
    return Stage(name="chat", env=env, algo=ALGO, steps=tuple(steps))


def book_of(folder: Path, curriculum: Stage) -> Logbook:
    arm = Arm(
        study="study",
        model=Model(name="hub", path="x"),
        init=Init(name="none", installs=()),
        curriculum=(curriculum,),
        seed=3,
        control="none",
        evals=(EVAL,),
        kl=Divergence(prompts=2, samples=1),
        margins=Margins(),
    )
    return Logbook(arm, Store(folder / "store"), Trackers((), folder / "study"))


def run(folder: Path, checkpoint: Path, steps: Sequence[int], save_every: int) -> tuple[Logbook, list[Entry]]:
    """The RL of one arm that starts from `checkpoint`, and what is stored after each of `steps`."""
    curriculum = stage(steps)
    book = book_of(folder, curriculum)
    start = Entry(kind="model", key="0" * 20, path=checkpoint, made=False)
    segments = Segments(book, curriculum, start, seed=3, done=0, launch=Launch(save_every=save_every))
    return book, [segments.reach(step) for step in steps]


def content(entry: Entry) -> dict[str, Any]:
    """All that is in an entry but what the clock has a part in."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in entry.path.rglob("*") if path.is_file() and path.name != "manifest.json"):
        found[path.relative_to(entry.path).as_posix()] = path.read_bytes()
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    found["metrics.jsonl"] = [{key: line[key] for key in line if not CLOCK.match(key)} for line in lines]
    return found


def stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "store/objects").iterdir()}


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Logbook, Entry]:
    """Five steps in one go."""
    folder = tmp_path_factory.mktemp("whole")
    book, (entry,) = run(folder, checkpoint, [5], 10)
    return folder, book, entry


def test_an_entry_is_the_same_however_it_was_come_to(
    whole: tuple[Path, Logbook, Entry], checkpoint: Path, tmp_path: Path
) -> None:
    book, entries = run(tmp_path, checkpoint, [3, 5], 2)
    assert len(stored(tmp_path)) == 4  # 2, 3, 4, 5
    assert len(stored(whole[0])) == 1
    assert entries[-1].key == whole[2].key
    assert content(entries[-1]) == content(whole[2])
    assert content(entries[0])["model.safetensors"] != content(entries[-1])["model.safetensors"]
    assert [line["step"] for line in book.metrics] == [1, 2, 3, 4, 5]
    assert [row["name"] for row in book.stages] == ["chat to step 3", "chat to step 5"]


def test_a_longer_run_goes_on_from_the_last_step_of_a_shorter_one(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, (short,) = run(tmp_path, checkpoint, [1], 10)
    with caplog.at_level("INFO", "holdfast"):
        book, (long,) = run(tmp_path, checkpoint, [2], 10)
    assert "going on from step 1" in caplog.text
    assert short.key != long.key
    assert len(stored(tmp_path)) == 2
    assert [line["step"] for line in book.metrics] == [1, 2]


def test_a_run_that_was_cut_short_goes_on_from_the_last_checkpoint_on_the_way(
    whole: tuple[Path, Logbook, Entry], checkpoint: Path, tmp_path: Path
) -> None:
    _, (entry,) = run(tmp_path, checkpoint, [5], 1)
    store, every = Store(tmp_path / "store"), stored(tmp_path)
    assert len(every) == 5
    store.remove([entry.key])
    kept = {path.name: path.stat().st_ctime_ns for path in (tmp_path / "store/objects").iterdir()}
    _, (again,) = run(tmp_path, checkpoint, [5], 10)
    assert again.made
    assert stored(tmp_path) == every
    assert all((tmp_path / "store/objects" / name).stat().st_ctime_ns == when for name, when in kept.items())
    assert content(again) == content(whole[2])


def test_what_lies_before_a_stored_step_is_not_looked_for(checkpoint: Path, tmp_path: Path) -> None:
    _, entries = run(tmp_path, checkpoint, [1, 3], 1)
    store = Store(tmp_path / "store")
    keep = [entry.key for entry in entries]
    spare = store.unreferenced(keep)
    assert len(spare) == 1  # of step 2
    store.remove(entry.key for entry in spare)
    book, again = run(tmp_path, checkpoint, [1, 3], 1)
    assert [entry.made for entry in again] == [False, False]
    assert stored(tmp_path) == {f"grpo-{key}" for key in keep}
    assert [line["step"] for line in book.metrics] == [1, 2, 3]


def test_the_key_of_a_step_holds_neither_other_steps_nor_how_often_checkpoints_are_kept(tmp_path: Path) -> None:
    book = book_of(tmp_path, stage([8]))
    start = Entry(kind="model", key="0" * 20, path=tmp_path, made=False)

    def config(curriculum: Stage, done: int = 0, launch: Launch = PLAIN) -> dict[str, Any]:
        return Segments(book, curriculum, start, seed=3, done=done, launch=launch)._config(8)

    here = config(stage([8]))
    assert config(stage([4, 8, 16]), 7, Launch(processes=2, threads=1, save_every=3)) == here
    assert config(replace(stage([8]), algo=replace(ALGO, name="other", max_kl=1.0))) == here
    assert config(replace(stage([8]), algo=replace(ALGO, group=4))) != here


def test_a_limit_holds_for_steps_that_a_run_with_laxer_ones_has_stored(checkpoint: Path, tmp_path: Path) -> None:
    run(tmp_path, checkpoint, [4], 2)
    strict = replace(stage([4]), algo=replace(ALGO, min_entropy=50.0))
    book = book_of(tmp_path, strict)
    start = Entry(kind="model", key="0" * 20, path=checkpoint, made=False)
    with pytest.raises(Collapse, match="at step 3, entropy is") as found:
        Segments(book, strict, start, seed=3, done=0, launch=Launch()).reach(4)
    assert [line["step"] for line in found.value.lines] == [1, 2, 3]
