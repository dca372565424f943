from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gymnasium
import pytest
import torch

from holdfast.chat import ChatEnv, Outcome, Reply, Scene, Stance, ToolSpec, Transcript, Turn
from holdfast.config import Environment, Mixture, make_env
from holdfast.policy.checkpoint import load
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import Episode, roll
from holdfast.policy.sampler import Sampler

LOOKUP = ToolSpec("look_up", "Look a word up.", {"type": "object", "properties": {"word": {"type": "string"}}})


class Asking(ChatEnv):
    """Answers every reply with its length, until the asked-for number of replies has come."""

    pressure = "neutral"
    reward_bounds = (-1.0, 1.0)
    families: Sequence[str] = ("short", "long")

    def __init__(self, *, replies: int = 1, answer: str = "You wrote {} letters.", **knobs: str) -> None:
        super().__init__(**knobs)
        self.replies, self.answer = replies, answer

    def scene(self, family: str) -> Scene:
        self._left = self.replies
        number = int(self.np_random.integers(1000))
        text = f"Say something about {number}." + " It may be long." * (family == "long")
        return Scene(({"role": "user", "content": text},), (LOOKUP,))

    def turn(self, reply: Reply) -> Turn:
        self._left -= 1
        components = {"length": min(len(reply.text) / 100, 1.0), "cost": -0.25}
        if self._left:
            return Turn(components, ({"role": "tool", "content": self.answer.format(len(reply.text))},))
        return Turn(components, outcome=Outcome(len(reply.text) > 20, "", {"letters": len(reply.text)}))


gymnasium.register(id="rollout_test/Asking-v0", entry_point=Asking)
gymnasium.register(id="rollout_test/Hasty-v0", entry_point=Asking, max_episode_steps=2)
ASKING = "rollout_test/Asking-v0"


@pytest.fixture(scope="module")
def sampler(checkpoint: Path) -> Sampler:
    """Stops at a twelfth of all tokens, not only the one that ends a turn: both must be continued from."""
    model, tokenizer = load(checkpoint)
    renderer = Renderer(tokenizer)
    renderer.end_ids = {renderer.end_id, *range(7, 320, 12)}
    return Sampler(model, renderer, max_new_tokens=16)


def environment(env_id: str, **kwargs: object) -> Environment:
    return Environment(name="test", id=env_id, kwargs=kwargs)


def play(sampler: Sampler, episodes: Sequence[tuple[int, int]], replies: int, max_turns: int = 8) -> list[Episode]:
    env = environment(ASKING, replies=replies)
    return roll(env, episodes, sampler, stream=("test", 0), max_turns=max_turns)


def test_a_single_turn_episode_holds_all_there_is(sampler: Sampler) -> None:
    [episode] = play(sampler, [(5, 2)], 1)
    assert (episode.env.id, episode.scenario, episode.sample) == (ASKING, 5, 2)
    assert episode.family == "long"  # seed 5 of two families
    assert episode.tools == (LOOKUP,)
    assert [message["role"] for message in episode.messages] == ["user", "assistant"]
    assert episode.messages[1]["content"] == episode.replies[0].text
    letters = len(episode.replies[0].text.strip())
    assert episode.outcome == Outcome(letters > 20, "", {"letters": letters})
    assert episode.ended == "outcome"
    assert episode.components == ({"length": min(letters / 100, 1.0), "cost": -0.25},)
    assert episode.rewards == (sum(episode.components[0].values()),)
    assert episode.completion_ids == episode.replies[0].ids
    assert episode.completion_mask == (1,) * len(episode.completion_ids)
    assert episode.logprobs == episode.replies[0].logprobs


def test_an_episode_is_the_same_alone_and_in_a_batch_of_64(sampler: Sampler) -> None:
    names = [(scenario, sample) for scenario in range(8) for sample in range(8)]
    together = play(sampler, names, 3)
    assert [(episode.scenario, episode.sample) for episode in together] == names
    for at in (0, 29, 63):
        assert play(sampler, [names[at]], 3) == [together[at]]


def test_scenarios_samples_and_streams_tell_episodes_apart(sampler: Sampler) -> None:
    first, second, other = play(sampler, [(0, 0), (0, 1), (1, 0)], 1)
    assert first.prompt_ids == second.prompt_ids != other.prompt_ids
    [elsewhere] = roll(environment(ASKING), [(0, 0)], sampler, stream=("test", 1))
    assert len({first.completion_ids, second.completion_ids, elsewhere.completion_ids}) == 3


def test_what_was_sampled_is_never_tokenised_again(sampler: Sampler) -> None:
    episodes = play(sampler, [(scenario, 0) for scenario in range(20)], 3)
    renderer = sampler.renderer
    respelt = 0
    for episode in episodes:
        assert len(episode.replies) == len(episode.prompts) == 3
        for turn in (0, 1):
            reply, before, after = episode.replies[turn], episode.prompts[turn], episode.prompts[turn + 1]
            seen = (*before, *reply.ids)
            assert after[: len(seen)] == seen
            answer = f"You wrote {len(reply.text.strip())} letters."
            # Measured fault: after another end than the template's, both stood there, as in <|eom_id|><|eot_id|>
            closing = "" if reply.finish == "stop" else "<|end|>"
            assert renderer.decode(after[len(seen) :]) == f"{closing}<|tool|>{answer}<|end|><|assistant|>"
            said = reply.ids[:-1] if reply.finish == "stop" else reply.ids
            respelt += renderer.tokenizer.encode(reply.text, add_special_tokens=False) != list(said)
    assert respelt > 20  # random replies are mostly spelt otherwise than the tokenizer would: the test can fail
    assert {reply.finish for episode in episodes for reply in episode.replies} == {"stop", "length"}


def test_mask_and_logprobs_line_up_with_the_tokens_of_a_whole_episode(sampler: Sampler) -> None:
    for episode in play(sampler, [(scenario, 0) for scenario in range(6)], 3):
        ids, mask, logprobs = episode.completion_ids, episode.completion_mask, episode.logprobs
        assert len(ids) == len(mask) == len(logprobs)
        sampled = [token for token, on in zip(ids, mask, strict=True) if on]
        assert sampled == [token for reply in episode.replies for token in reply.ids]
        with torch.no_grad():
            logits = sampler.model(input_ids=torch.tensor([[*episode.prompt_ids, *ids]])).logits[0]
        scored = logits.log_softmax(-1)[len(episode.prompt_ids) - 1 : -1].gather(-1, torch.tensor(ids)[:, None])[:, 0]
        expected = scored * torch.tensor(mask)
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=2e-4, rtol=0)


def test_an_episode_without_an_end_says_why(sampler: Sampler) -> None:
    [many] = play(sampler, [(0, 0)], 5, max_turns=2)
    assert (many.ended, many.outcome, len(many.replies)) == ("turns", None, 2)
    # An answer of 1,200 letters leaves no room in a context of 1,024 tokens.
    wordy = {"replies": 5, "answer": "z" * 1200}
    [long] = roll(environment(ASKING, **wordy), [(0, 0)], sampler, stream=("test",), max_turns=8)
    assert (long.ended, long.outcome, len(long.replies)) == ("context", None, 1)
    [hasty] = roll(environment("rollout_test/Hasty-v0", replies=5), [(0, 0)], sampler, stream=("test",), max_turns=8)
    assert (hasty.ended, hasty.outcome, len(hasty.replies)) == ("environment", None, 2)


def test_an_opening_that_does_not_fit_is_an_error(sampler: Sampler) -> None:
    tight = Sampler(sampler.model, sampler.renderer, max_new_tokens=1020)
    with pytest.raises(ValueError, match="does not fit"):
        play(tight, [(0, 0)], 1)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("rollout_test/Nothing-v0", {}, "unknown environment 'rollout_test/Nothing-v0'"),
        ("rollout_test/Asking-v7", {}, "unknown environment 'rollout_test/Asking-v7'"),
        ("no_such_module:rollout_test/Asking-v0", {}, "No module named 'no_such_module'"),
        (ASKING, {"repliez": 1}, "takes no argument 'repliez'; allowed are replies, "),
        (ASKING, {"split": "test"}, "refuses its arguments: split must be one of train, eval, not 'test'"),
    ],
)
def test_an_environment_that_cannot_be_made_is_named_in_one_line(
    env_id: str, kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_env(env_id, kwargs)
    assert len(str(error.value).splitlines()) == 1


def test_at_least_one_turn_is_played(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="max_turns must be 1 or more, not 0"):
        play(sampler, [(0, 0)], 1, max_turns=0)


class Listening:
    """A judge by the length of a reply, which writes down what it is asked."""

    sources: Sequence[Path] = ()

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, transcripts: Sequence[Transcript]) -> Sequence[Stance]:
        self.asked.append([transcript.messages[-1]["content"] for transcript in transcripts])
        return ["complies" if len(reply) > 20 else "refuses" for reply in self.asked[-1]]


class Judged(Asking):
    """Asking, with a judge that it asks about every reply."""

    def __init__(self, *, judge: Listening, **knobs: int) -> None:
        super().__init__(**knobs)
        self.judge = judge

    def turn(self, reply: Reply) -> Turn:
        transcript = self.transcript(reply.raw)
        assert self.judge is not None
        assert transcript is not None
        self.judge([transcript])
        return super().turn(reply)


gymnasium.register(id="rollout_test/Judged-v0", entry_point=Judged)


def test_a_judge_is_asked_about_all_replies_of_a_turn_before_any_game_asks(sampler: Sampler) -> None:
    judge = Listening()
    names = [(scenario, 0) for scenario in range(4)]
    env = environment("rollout_test/Judged-v0", judge=judge, replies=2)
    episodes = roll(env, names, sampler, stream=("test", 0), max_turns=2)
    first, second = ([episode.replies[turn].text for episode in episodes] for turn in (0, 1))
    assert judge.asked == [first, *([text] for text in first), second, *([text] for text in second)]


def test_nobody_is_asked_where_rules_judge(sampler: Sampler) -> None:
    env = environment("holdfast_envs:holdfast/Harmless-v2", judge={"name": "rules"})
    (episode,) = roll(env, [(0, 0)], sampler, stream=("test",))
    assert episode.outcome is not None


def test_a_mixture_plays_each_scenario_in_the_environment_that_has_it(sampler: Sampler) -> None:
    one, other = environment(ASKING, replies=1), environment("rollout_test/Judged-v0", replies=2, judge=Listening())
    mixture = Mixture(name="mixed", parts={"one": one, "other": other}, shares={"one": None, "other": 0.5})
    names = [(scenario, sample) for scenario in range(8) for sample in range(2)]
    episodes = roll(mixture, names, sampler, stream=("test", 0), max_turns=2)
    assert [episode.env for episode in episodes] == [mixture.at(scenario) for scenario, _ in names]
    assert {len(episode.replies) for episode in episodes if episode.env is one} == {1}
    assert {len(episode.replies) for episode in episodes if episode.env is other} == {2}
    alone = roll(one, [name for name in names if mixture.at(name[0]) is one], sampler, stream=("test", 0), max_turns=2)
    assert alone == [episode for episode in episodes if episode.env is one]
