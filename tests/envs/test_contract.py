"""What every registered environment must keep to: a new one is tested by existing."""

import json
import os
import re
import subprocess
import sys
import warnings
from itertools import product
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import holdfast_envs  # noqa: F401  (registers the environments)
from holdfast.chat import ChatEnv, Observation, Outcome, distractor_tools

IDS = sorted(name for name in gymnasium.registry if name.startswith("holdfast/"))
HEADINGS = ("Prompt", "Reply", "Reward", "Outcome", "Episode end", "Arguments", "Version history")
REPLIES = [
    "Hello.",
    "I can't help with that. It could hurt people. I can tell you about staying safe instead.",
    "Sure. Here is how: first, take it.",
    "",
    "<think>Let me think.</think>",
    "<think>never closed",
    '<tool_call>\n{"name": "archive_mail", "arguments": {"number": "1"}}\n</tool_call>',
    '<tool_call>\n{"name": "send_mail", "arguments": {"to": ["x"], "subject": {}, "body": 1}}\n</tool_call>',
    '<tool_call>{"name": "no_such_tool", "arguments": {}}</tool_call>',
    "<tool_call>{</tool_call>",
    "\x00\ud800\U0001f642 " * 50,
]

# Printed by another process, so that nothing this one has done can be part of the episode.
EPISODES = """
import json, sys
import gymnasium
import holdfast_envs
rows = []
for split in ("train", "eval"):
    env = gymnasium.make(sys.argv[1], split=split, tools="distractor", system_prompts="varied")
    for seed in (0, 7):
        observation, info = env.reset(seed=seed)
        _, reward, _, _, end = env.step("Sure. Here is how.")
        tools = [vars(tool) for tool in observation.tools]
        rows.append([list(observation.messages), tools, info, reward, end["components"]])
assert "torch" not in sys.modules
print(json.dumps(rows))
"""


def make(env_id: str, **arguments: Any) -> ChatEnv:
    env = gymnasium.make(env_id, **arguments).unwrapped
    assert isinstance(env, ChatEnv)
    return env


def episodes_elsewhere(env_id: str, hash_seed: str) -> str:
    variables = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", EPISODES, env_id]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout


def test_there_are_environments() -> None:
    assert {"holdfast/Harmless-v1", "holdfast/Blackmail-v0"} <= set(IDS)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_own_checker_is_content_without_one_warning(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id), skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_a_seed_gives_the_same_episode_in_any_process(env_id: str) -> None:
    first, second = (episodes_elsewhere(env_id, hash_seed) for hash_seed in ("1", "2"))
    assert first == second
    env = gymnasium.make(env_id, split="train", tools="distractor", system_prompts="varied")
    env.reset(seed=5)  # what came before must not matter
    observation, info = env.reset(seed=0)
    messages, _, info_elsewhere, *_ = json.loads(first)[0]
    assert list(observation.messages) == messages
    assert json.loads(json.dumps(info)) == info_elsewhere


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("reply", REPLIES, ids=range(len(REPLIES)))
def test_an_episode_ends_with_an_outcome_and_rewards_are_sums_within_bounds(
    env_id: str, split: str, reply: str
) -> None:
    env = make(env_id, split=split)
    low, high = env.reward_bounds
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(100):
            observation, reward, ended, truncated, info = env.step(reply)
            assert isinstance(observation, Observation)
            assert type(reward) is float
            assert low - 1e-9 <= reward <= high + 1e-9
            assert reward == pytest.approx(sum(info["components"].values()))
            assert not truncated
            assert ("outcome" in info) == ended
            if ended:
                break
        assert ended
        outcome = info["outcome"]
        assert isinstance(outcome, Outcome)
        assert outcome.value in (True, False) or (outcome.value is None and outcome.reason)
        assert outcome.measures
        assert all(type(value) is float for value in outcome.measures.values())
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(reply)


@pytest.mark.parametrize("env_id", IDS)
def test_what_follows_the_system_message_is_the_same_whatever_the_knobs_say(env_id: str) -> None:
    for seed in range(5):
        bare = make(env_id).reset(seed=seed)[0]
        for tools, prompts in product(("none", "distractor"), ("none", "brief", "varied", "permissive")):
            seen = make(env_id, tools=tools, system_prompts=prompts).reset(seed=seed)[0]
            chats = [[m for m in shown.messages if m["role"] != "system"] for shown in (bare, seen)]
            assert chats[0] == chats[1]
            assert seen.tools[: len(bare.tools)] == bare.tools
            assert len(seen.tools) - len(bare.tools) == (8 if tools == "distractor" else 0)
            assert all(tool in distractor_tools() for tool in seen.tools[len(bare.tools) :])
            if prompts != "none":
                assert seen.messages[0]["role"] == "system"


@pytest.mark.parametrize("env_id", IDS)
def test_no_family_is_in_both_splits_and_seeds_visit_each_in_turn(env_id: str) -> None:
    envs = {split: make(env_id, split=split) for split in ("train", "eval")}
    assert not set(envs["train"].families) & set(envs["eval"].families)
    for env in envs.values():
        names = [env.reset(seed=seed)[1]["family"] for seed in range(len(env.families))]
        assert names == list(env.families)
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("env_id", IDS)
def test_the_class_is_documented_under_the_fixed_headings(env_id: str) -> None:
    env = make(env_id)
    found = re.findall(rf"^ *({'|'.join(HEADINGS)}):", type(env).__doc__ or "", re.MULTILINE)
    assert tuple(found) == HEADINGS
    assert env.pressure in ("aligned", "neutral", "conflicting")
    assert re.search(r"-v\d+$", env_id)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split must be one of train, eval, not 'test'"),
        ({"tools": "all"}, "tools must be one of none, distractor, not 'all'"),
        ({"n_tools": -1}, "n_tools must be from 0 to 160, not -1"),
        ({"system_prompts": "long"}, "system_prompts must be one of none, brief, varied, permissive, not 'long'"),
    ],
)
def test_a_bad_knob_is_named_with_what_is_allowed(env_id: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        gymnasium.make(env_id, **arguments)


@pytest.mark.parametrize("env_id", IDS)
def test_a_misspelt_argument_is_refused(env_id: str) -> None:
    with pytest.raises(TypeError, match="sytem_prompts"):
        gymnasium.make(env_id, sytem_prompts="brief")
