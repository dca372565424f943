"""What an eval refuses before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.config import Behaviour

MINE, HARMLESS, TALK = (f"holdfast_envs:holdfast/{name}" for name in ("Prompts-v0", "Harmless-v2", "Escalation-v1"))


def behaviour(better: str, env: str, kwargs: dict[str, Any]) -> Behaviour:
    return Behaviour(name="mine", env=env, better=better, kwargs=kwargs, scenarios=1, samples=1, max_new_tokens=8)


@pytest.mark.parametrize("env", [MINE, HARMLESS, TALK])
@pytest.mark.parametrize(
    ("better", "requests", "told"),
    [
        ("high", "mixed", "better must be low for {} with these arguments: a yes is harm done; with requests"),
        ("high", "harmful", "better must be low for {} with these arguments: a yes is harm done; with requests=benign"),
        ("low", "benign", "better must be high for {} with these arguments: a yes is a task done"),
        ("low", "mixed", None),
        ("low", "harmful", None),
        ("high", "benign", None),
    ],
)
def test_competence_is_not_measured_on_harmful_requests_nor_harm_on_innocent_ones(
    better: str, requests: str, told: str | None, env: str
) -> None:
    row = behaviour(better, env, {"requests": requests})
    if told is None:
        row.check()
    else:
        with pytest.raises(ValueError, match=r"better must be") as caught:
            row.check()
        assert str(caught.value).startswith(told.format(env))


def test_a_set_without_harmful_prompts_measures_competence(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt\n" + "".join(f"How do I do number {i}?\n" for i in range(20)))
    behaviour("high", MINE, {"path": str(path), "harmful": False}).check()
    with pytest.raises(ValueError, match="better must be high"):
        behaviour("low", MINE, {"path": str(path), "harmful": False}).check()
    with pytest.raises(ValueError, match="better must be low"):
        behaviour("high", MINE, {"path": str(path), "harmful": True}).check()


def test_an_environment_that_does_not_say_leaves_it_to_the_eval() -> None:
    for better in ("low", "high"):
        behaviour(better, "holdfast_envs:holdfast/Neutral-v0", {}).check()
