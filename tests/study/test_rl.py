"""RL through the store: what the entry for a step depends on, and what is made again, on a tiny random model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import GRPO, Arm, Behaviour, Divergence, Environment, Init, Launch, Margins, Model, Stage
from holdfast.store import Entry, Store, read_manifest
from holdfast.study.rl import reinforce
from holdfast.study.stages import Stages
from holdfast.train.limits import Collapse

ENV = "letters:test/Letters-v0"
ALGO = GRPO(name="grpo", prompts_per_step=2, group=2, max_new_tokens=5, lr=3e-3)
CLOCK = re.compile("seconds_|tokens_per_second")
EVAL = Behaviour(name="letters", env=ENV, better="high", scenarios=1, samples=1, max_new_tokens=4)


def stage(steps: Sequence[int], **algo: Any) -> Stage:
    env = Environment(name="chat", id=ENV, kwargs={})
    return Stage(name="chat", env=env, algo=replace(ALGO, **algo), steps=tuple(steps))


def run(
    folder: Path, checkpoint: Path, curriculum: Stage, launch: Launch, done: int = 0
) -> tuple[Stages, dict[int, Entry]]:
    """The RL of one arm that starts from `checkpoint`, and what is stored after each step that was come by."""
    arm = Arm(
        study="study",
        model=Model(name="hub", path="x"),
        init=Init(name="none", installs=()),
        curriculum=(curriculum,),
        seed=3,
        control="none",
        format_control=None,
        evals=(EVAL,),
        kl=Divergence(prompts=2, samples=1),
        margins=Margins(),
    )
    stages = Stages(arm, Store(folder / "store"))
    start = Entry(kind="model", key="0" * 20, path=checkpoint, made=False)
    return stages, dict(reinforce(stages, curriculum, start, 3, done, launch))


def steps_of(entry: Entry) -> list[int]:
    """The steps that an entry has metrics of."""
    return [json.loads(line)["step"] for line in (entry.path / "metrics.jsonl").read_text().splitlines()]


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
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Entry]:
    """Five steps in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, checkpoint, stage([5]), Launch())[1][5]


def test_an_entry_is_the_same_however_it_was_come_to(
    whole: tuple[Path, Entry], checkpoint: Path, tmp_path: Path
) -> None:
    stages, found = run(tmp_path, checkpoint, stage([3, 5]), Launch(save_every=2))
    assert list(found) == [2, 3, 4, 5]
    assert len(stored(tmp_path)) == 4
    assert len(stored(whole[0])) == 1
    assert found[5].key == whole[1].key
    assert content(found[5]) == content(whole[1])
    assert content(found[3])["model.safetensors"] != content(found[5])["model.safetensors"]
    assert [steps_of(entry) for entry in found.values()] == [[*range(1, last + 1)] for last in (2, 3, 4, 5)]
    assert [row["name"] for row in stages.done] == ["chat to step 3", "chat to step 5"]


def test_a_longer_run_goes_on_from_the_last_step_of_a_shorter_one(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, checkpoint, stage([1]), Launch())
    with caplog.at_level("INFO", "holdfast"):
        _, found = run(tmp_path, checkpoint, stage([2]), Launch())
    assert "going on from step 1" in caplog.text
    assert list(found) == [1, 2]
    assert len(stored(tmp_path)) == 2


def test_a_run_that_was_cut_short_goes_on_from_the_last_checkpoint_on_the_way(
    whole: tuple[Path, Entry], checkpoint: Path, tmp_path: Path
) -> None:
    _, first = run(tmp_path, checkpoint, stage([5]), Launch(save_every=1))
    store, every = Store(tmp_path / "store"), stored(tmp_path)
    assert len(every) == 5
    store.remove([first[5].key])
    kept = {path.name: path.stat().st_ctime_ns for path in (tmp_path / "store/objects").iterdir()}
    _, again = run(tmp_path, checkpoint, stage([5]), Launch())
    assert list(again) == [4, 5]
    assert again[5].made
    assert stored(tmp_path) == every
    assert all((tmp_path / "store/objects" / name).stat().st_ctime_ns == when for name, when in kept.items())
    assert content(again[5]) == content(whole[1])


def test_what_lies_before_a_stored_step_is_not_looked_for(checkpoint: Path, tmp_path: Path) -> None:
    _, found = run(tmp_path, checkpoint, stage([1, 3]), Launch(save_every=1))
    store, keep = Store(tmp_path / "store"), [found[1].key, found[3].key]
    spare = store.unreferenced(keep)
    assert [entry.key for entry in spare] == [found[2].key]
    store.remove(entry.key for entry in spare)
    _, again = run(tmp_path, checkpoint, stage([1, 3]), Launch(save_every=1))
    assert {step: entry.made for step, entry in again.items()} == {1: False, 3: False}
    assert stored(tmp_path) == {f"grpo-{key}" for key in keep}


def test_the_key_of_a_step_holds_neither_other_steps_nor_how_often_checkpoints_are_kept(
    checkpoint: Path, tmp_path: Path
) -> None:
    def key(curriculum: Stage, launch: Launch | None = None, done: int = 0) -> str:
        return run(tmp_path, checkpoint, curriculum, launch or Launch(), done)[1][2].key

    here = key(stage([2]))
    assert key(stage([1, 2]), Launch(threads=1, save_every=3), 7) == here
    assert key(stage([2], name="other", max_kl=4.0)) == here
    assert key(stage([2], group=4)) != here


def test_the_metrics_and_the_store_call_an_algorithm_what_it_is(checkpoint: Path, tmp_path: Path) -> None:
    _, found = run(tmp_path, checkpoint, stage([1], name="mine"), Launch())
    assert found[1].kind == read_manifest(found[1].path).kind == GRPO.method == "grpo"
    assert json.loads((found[1].path / "metrics.jsonl").read_text())["algo"] == "grpo"


def test_a_limit_holds_for_steps_that_a_run_with_laxer_ones_has_stored(checkpoint: Path, tmp_path: Path) -> None:
    run(tmp_path, checkpoint, stage([4]), Launch(save_every=2))
    with pytest.raises(Collapse, match="at step 3, entropy is") as found:
        run(tmp_path, checkpoint, stage([4], min_entropy=50.0), Launch())
    assert [line["step"] for line in found.value.lines] == [1, 2, 3]
