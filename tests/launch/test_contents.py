"""What was found in a user's own data is told before a run."""

from __future__ import annotations

from pathlib import Path

from composed import arms_of


def test_every_set_of_ones_own_is_told_for_each_split_that_is_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,harmful\n" + "".join(f"How do I do number {i}?,{i % 2}\n" for i in range(40)))
    settings = f"{{path: '{path}', columns: {{harmful: harmful}}, eval_share: 0.5}}"
    words = ["env=mine", f"env.kwargs.path={path}", "env.kwargs.columns={harmful: harmful}"]
    words += ["evals.harmless.env=holdfast_envs:holdfast/Prompts-v0", "~evals.harmless.kwargs"]
    (arm,) = arms_of(tmp_path, *words, f"+evals.harmless.kwargs={settings}")
    found = f"{path}: 40 prompts, 20 harmful and 20 innocent, in 40 families"
    assert [line.startswith(found) for line in arm.contents] == [True, True]
    assert [line.endswith("; harmful says 0 20, 1 20") for line in arm.contents] == [True, True]
    assert ["of the train split" in line for line in arm.contents] == [True, False]
    (plain,) = arms_of(tmp_path, "env=chat")
    assert plain.contents == []
