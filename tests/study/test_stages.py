"""What stages cost: a corpus is made once, and a checkpoint is loaded once for all that is asked of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import GRPO, Arm, Behaviour, Divergence, Environment, Init, Install, Margins, Model, Stage
from holdfast.policy import checkpoint as policy
from holdfast.records import read_records, read_rows
from holdfast.store import Entry, Store, read_manifest, versions
from holdfast.study.stages import Stages, Subject
from raising import RAISING

PROMPTS = "holdfast_envs:holdfast/Prompts-v0"
LETTERS = "letters:test/Letters-v0"
CORPUS = """
from pathlib import Path

def rows(seed, size):
    with Path(__file__).with_name("calls").open("a") as file:
        file.write("x")
    return [{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}]}] * size
"""


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A corpus of one's own, that counts how often it is made."""
    (tmp_path / "counting.py").write_text(CORPUS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "calls"
    sys.modules.pop("counting", None)


def stages_of(folder: Path) -> Stages:
    env = Environment(name="chat", id=LETTERS, kwargs={})
    algo = GRPO(name="grpo", prompts_per_step=2, group=2, max_new_tokens=5, lr=3e-3)
    install = Install(
        name="own", method="sft", corpus="counting:rows", size=4, steps=1, batch_loss_tokens=48, max_tokens=48, lr=1e-3
    )
    arm = Arm(
        study="study",
        model=Model(name="hub", path="x"),
        init=Init(name="own", installs=(install,)),
        curriculum=(Stage(name="chat", env=env, algo=algo, steps=(1,)),),
        seed=3,
        control="own",
        format_control=None,
        evals=tuple(
            Behaviour(name=name, env=LETTERS, better="high", scenarios=2, samples=1, max_new_tokens=4)
            for name in ("one", "two", "three")
        ),
        kl=Divergence(prompts=2, samples=1),
        margins=Margins(),
    )
    return Stages(arm, Store(folder / "store"))


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The first argument of every call of a function in `holdfast.policy.checkpoint` from here on."""
    calls: list[Any] = []
    real: Callable[..., Any] = getattr(policy, name)

    def call(first: Any, *rest: Any, **named: Any) -> Any:
        calls.append(first)
        return real(first, *rest, **named)

    monkeypatch.setattr(policy, name, call)
    return calls


def stored(stages: Stages, checkpoint: Path) -> Entry:
    """The test model as an entry of the store."""

    def copy(out: Path) -> None:
        for path in checkpoint.iterdir():
            (out / path.name).write_bytes(path.read_bytes())

    return stages.get("model", "test", {}, None, copy)


def test_a_corpus_is_made_once_and_its_rows_lie_in_the_store_with_a_card(
    checkpoint: Path, tmp_path: Path, corpus: Path
) -> None:
    for again in (False, True):
        stages = stages_of(tmp_path)
        stages.install(stages.arm.init.installs[0], stored(stages, checkpoint), 0)
        assert [(row["kind"], row["made"]) for row in stages.done[1:]] == [
            ("corpus", not again),
            ("install", not again),
        ]
        assert corpus.read_text() == "x"
    (folder,) = (tmp_path / "store/objects").glob("corpus-*")
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 4
    card = json.loads((folder / "card.json").read_text())
    assert (card["rows"], card["characters"]) == (4, 4 * len("Hi.Ho."))
    # <|user|>Hi.<|end|><|assistant|>Ho.<|end|>: 1 + 3 + 1 + 1 + 3 + 1 tokens at most, with loss on the last four.
    card = stages.done[-1]["card"]
    assert card["corpus"]["rows"] == 4
    assert 0 < card["corpus"]["loss_tokens"] < card["corpus"]["tokens"]
    assert card["trained"]["loss_tokens"] == 48


def test_the_same_rows_from_another_source_train_nothing_anew(checkpoint: Path, tmp_path: Path, corpus: Path) -> None:
    stages = stages_of(tmp_path)
    before = stages.install(stages.arm.init.installs[0], stored(stages, checkpoint), 0)
    corpus.with_name("counting.py").write_text(CORPUS + "# edited\n")
    stages = stages_of(tmp_path)
    after = stages.install(stages.arm.init.installs[0], stored(stages, checkpoint), 0)
    assert [(row["kind"], row["made"]) for row in stages.done[1:]] == [("corpus", True), ("install", False)]
    assert after.key == before.key


def test_a_checkpoint_is_loaded_once_for_all_its_evals_and_its_kl(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stages_of(tmp_path)
    start = stored(stages, checkpoint)
    here = stages.get("grpo", "copy", {}, start, lambda out: _copy(start.path, out))
    loads, sums = counted(monkeypatch, "load"), counted(monkeypatch, "file_sum")
    subject = Subject(here, "float32")
    for cfg in stages.arm.evals:
        entry = stages.evaluate(cfg, subject, 1)
    origin = Subject(start, "float32")
    stages.diverge(stages.arm.curriculum[0], subject, origin, 3, 1)
    stages.diverge(stages.arm.evals[0], subject, origin, 3, 1)
    assert loads == [here.path, start.path]
    assert sums == []  # the manifest has them
    record = json.loads((entry.path / "records.jsonl").read_text().splitlines()[0])
    assert record["weights"] == policy.fingerprint(here.path)


def test_before_rl_every_eval_draws_a_second_batch_and_the_first_is_what_it_was(
    checkpoint: Path, tmp_path: Path
) -> None:
    """The lead that a gate passes is biased upward if the same draws are then what is claimed about."""
    stages = stages_of(tmp_path)
    subject = Subject(stored(stages, checkpoint), "float32")
    once, twice = stages.arm.evals_at(1)[0], stages.arm.evals_at(0)[0]
    assert [row.samples for row in stages.arm.evals_at(0)] == [2, 2, 2]
    one, two = (read_records(stages.evaluate(cfg, subject, 0).path / "records.jsonl") for cfg in (once, twice))
    assert [(r.scenario, r.sample) for r in two] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [r for r in two if r.sample < once.samples] == one
    assert replace(stages.arm, curriculum=()).evals_at(0) == stages.arm.evals  # no RL, nothing to pair


def test_kl_on_an_eval_is_of_its_own_prompts_and_no_more_than_it_has(checkpoint: Path, tmp_path: Path) -> None:
    stages = stages_of(tmp_path)
    start = stored(stages, checkpoint)
    here = stages.get("grpo", "copy", {}, start, lambda out: _copy(start.path, out))
    subject, origin = Subject(here, "float32"), Subject(start, "float32")
    cfg = stages.arm.evals[0]
    for scenarios, prompts in ((1, 1), (2, 2), (9, 2)):  # kl.prompts is 2
        entry = stages.diverge(replace(cfg, scenarios=scenarios), subject, origin, 3, 1)
        ((_, row),) = read_rows(entry.path / "metrics.jsonl")
        assert (row["prompts"], row["samples"], row["kl"]) == (prompts, 1, 0.0)
        assert row["kl_token_se"] == (None if prompts == 1 else 0.0)
        assert read_manifest(entry.path).config["env_kwargs"] == {"split": "eval"}
        assert read_manifest(entry.path).config["max_new_tokens"] == cfg.max_new_tokens
    # An eval that asks the same prompts under another name is not measured again.
    assert not stages.diverge(stages.arm.evals[1], subject, origin, 3, 1).made


def test_the_first_eval_s_size_is_checked_before_anything_runs(tmp_path: Path) -> None:
    arm = stages_of(tmp_path).arm
    large = (replace(arm.evals[0], scenarios=600_000),)  # within the bound once, not twice
    with pytest.raises(ValueError, match=r"evals.one: 2 \* scenarios \* samples, .* 1 to 1000000, not 1200000"):
        replace(arm, evals=large)
    assert replace(arm, evals=large, curriculum=()).evals == large


def test_an_arm_that_finds_all_in_the_store_loads_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for again in (False, True):
        stages = stages_of(tmp_path)
        start = stored(stages, checkpoint)
        loads = counted(monkeypatch, "load")
        subject = Subject(start, "float32")
        for cfg in stages.arm.evals:
            stages.evaluate(cfg, subject, 0)
        assert len(loads) == (0 if again else 1)


def test_an_environment_that_raised_in_an_eval_is_not_met_again(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = {"env": RAISING, "kwargs": {"openings": ["yy"]}, "scenarios": 3}
    for again in (False, True):
        stages = stages_of(tmp_path)
        subject = Subject(stored(stages, checkpoint), "float32")
        cfg = replace(stages.arm.evals[0], **places, max_raised=0.5)
        entry = stages.evaluate(cfg, subject, 0)
        assert entry.made != again
        assert [record.reason for record in read_records(entry.path / "records.jsonl")][1] == (
            "raised: RuntimeError: no room for yy"
        )
    assert caplog.text.count("1 of 3 episodes raised") == 1
    # Of an eval that raised too often nothing is kept, as the fault may be a passing one.
    with pytest.raises(ValueError, match="1 of 3 episodes of two raised, and max_raised is 0"):
        stages.evaluate(replace(stages.arm.evals[1], **places, max_raised=0), subject, 0)
    laxer = stages.evaluate(replace(stages.arm.evals[1], **places, max_raised=1), subject, 0)
    assert laxer.made


@pytest.mark.parametrize("key", ["curriculum", "evals"])
def test_a_prompt_that_cannot_fit_is_told_by_its_row_before_a_model_is_loaded(
    key: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"Prompt {i}, {'z' * (3000 if i == 7 else i)}." for i in range(100)]  # a context of 1024 holds all but one
    path.write_text("prompt\n" + "".join(f'"{row}"\n' for row in rows))
    stages = stages_of(tmp_path)
    kwargs = {"path": str(path), "harmful": False, "eval_share": int(key == "evals")}
    if key == "evals":
        own = replace(stages.arm.evals[0], env=PROMPTS, kwargs=kwargs)
        stages.arm = replace(stages.arm, evals=(*stages.arm.evals[1:], own))
    else:
        env = Environment(name="one", id=PROMPTS, kwargs=kwargs)
        stages.arm = replace(stages.arm, curriculum=(replace(stages.arm.curriculum[0], env=env),))
    loads, start = counted(monkeypatch, "load"), stored(stages, checkpoint)
    with pytest.raises(ValueError, match=r"does not fit the model's context of 1024 tokens") as caught:
        stages.check_prompts(start)
    assert str(caught.value).startswith(f"{key}.one: {path}, row 8: a prompt of ")
    path.write_text(path.read_text().replace("z" * 3000, "z" * 90))
    stages.check_prompts(start)
    assert loads == []


def test_library_versions_stand_in_every_manifest(checkpoint: Path, tmp_path: Path) -> None:
    stages = stages_of(tmp_path)
    entry = stored(stages, checkpoint)
    assert read_manifest(entry.path).versions == versions()
    assert {"python", "torch", "transformers", "trl", "numpy"} <= set(versions())
    assert stages.versions == {library: {version} for library, version in versions().items()}


def _copy(source: Path, out: Path) -> None:
    for path in source.iterdir():
        if path.name != "manifest.json":
            (out / path.name).write_bytes(path.read_bytes())
