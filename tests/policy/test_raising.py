"""Environments that raise, in rollouts."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import Environment
from holdfast.policy.checkpoint import load
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import Episode, roll
from holdfast.policy.sampler import Sampler
from holdfast_envs.requests.harmless import Harmless
from raising import RAISING, Raising

NAMES = [(scenario, sample) for scenario in range(6) for sample in range(4)]


@pytest.fixture(scope="module")
def sampler(checkpoint: Path) -> Sampler:
    model, tokenizer = load(checkpoint)
    return Sampler(model, Renderer(tokenizer), max_new_tokens=8)


def play(sampler: Sampler, env_id: str = RAISING, **kwargs: Any) -> list[Episode]:
    return roll(Environment(name="t", id=env_id, kwargs=kwargs), NAMES, sampler, stream=("t",), max_turns=2)


def test_an_environment_that_raises_ends_its_own_episode_alone(
    sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    before = Raising.closed
    episodes = play(sampler, openings=["zzz"], every=5, turns=2)
    assert Raising.closed == before + len(NAMES)
    whole = play(sampler, turns=2)
    ended = {"opening": 0, "first": 0, "second": 0, "not": 0}
    for one, other in zip(episodes, whole, strict=True):
        if one.family == "zzz":
            ended["opening"] += 1
            assert (one.ended, one.error, one.outcome) == ("raised", "RuntimeError: no room for zzz", None)
            assert (one.messages, one.prompts, one.replies, one.rewards) == ((), (), (), ())
        elif bad := [turn for turn, reply in enumerate(other.replies) if len(reply.text) % 5 == 0]:
            ended["second" if bad[0] else "first"] += 1
            count = bad[0] + 1
            assert (one.ended, one.outcome) == ("raised", None)
            assert one.error == f"RuntimeError: {len(other.replies[bad[0]].text)} letters"
            assert (one.prompts, one.replies) == (other.prompts[:count], other.replies[:count])
            assert one.messages == other.messages[: 2 * count]  # the reply that it raised at is the last word
            assert one.rewards == (*other.rewards[: count - 1], 0.0)
        else:
            ended["not"] += 1
            assert replace(one, env=other.env) == other
    assert all(ended.values())
    (told,) = [record for record in caplog.records if record.levelname == "WARNING"]
    raised = len(NAMES) - ended["not"]
    assert told.getMessage().startswith(f"{raised} of 24 episodes raised, the first of {RAISING}, family ")
    assert told.getMessage().count("Traceback") == 1
    assert "in scene" in told.getMessage() or "in turn" in told.getMessage()


def test_where_every_opening_raises_nothing_is_sampled(sampler: Sampler) -> None:
    episodes = play(sampler, openings=["x", "yy", "zzz"])
    assert {episode.ended for episode in episodes} == {"raised"}
    assert [episode.family for episode in episodes[::4]] == ["x", "yy", "zzz"] * 2


def test_a_class_that_breaks_its_promise_has_raised(sampler: Sampler) -> None:
    for episode in play(sampler, "raising:test/Spendthrift-v0"):
        assert episode.error == "ValueError: Spendthrift pays 2.0, and says that it pays 0.0 to 1.0"
        assert (episode.rewards, episode.outcome) == ((0.0,), None)


def test_an_environment_that_does_not_close_has_raised(sampler: Sampler) -> None:
    assert {episode.error for episode in play(sampler, closing=True)} == {"RuntimeError: the door is stuck"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_stop_is_not_held_up(sampler: Sampler, kind: type[BaseException]) -> None:
    with pytest.raises(kind, match="no room for x"):
        play(sampler, openings=["x"], kind=kind.__name__)


@pytest.mark.parametrize("method", ["scene", "turn"])
def test_a_bug_in_an_environment_of_ours_shows(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def bug(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Harmless, method, bug)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        play(sampler, "holdfast_envs:holdfast/Harmless-v2")


def test_an_exception_keeps_no_sampler_alive(sampler: Sampler) -> None:
    own = Sampler(sampler.model, sampler.renderer, max_new_tokens=4)
    seen = weakref.ref(own)
    gc.disable()  # whose turn may be long in coming
    try:
        episodes = play(own, openings=["zzz"], every=3)
        del own
        assert any(episode.error for episode in episodes)
        assert seen() is None
    finally:
        gc.enable()


def test_an_environment_that_cannot_even_say_its_families_ends_its_episodes(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: Raising) -> list[str]:
        raise RuntimeError("no families today")

    monkeypatch.setattr(Raising, "families", property(none))
    for episode in play(sampler):
        told = (episode.family, episode.ended, episode.error)
        assert told == ("unknown", "raised", "RuntimeError: no families today")
