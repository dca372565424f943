"""What every registered environment must keep to, under every YAML of conf/env. A new one of either is tested too."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import holdfast_envs  # noqa: F401  (registers the environments)
from holdfast.chat import ChatEnv, Observation, Outcome, ToolCall, distractor_tools

IDS = sorted(name for name in gymnasium.registry if name.startswith("holdfast/"))
HEADINGS = ("Prompt", "Reply", "Reward", "Outcome", "Episode end", "Arguments", "Version history")
KNOBS = ("tools", "n_tools", "system_prompts")
PLAIN = [yaml.safe_load(path.read_text()) for path in sorted(Path("conf/env").glob("*.yaml"))]
YAMLS = {row["name"]: row for row in PLAIN if "id" in row}  # a mixture has none
# Every id under the knobs of every YAML, each set of knobs once; and every YAML as it stands.
KNOB_SETS = sorted({json.dumps({k: row["kwargs"][k] for k in KNOBS if k in row["kwargs"]}) for row in YAMLS.values()})
CASES = [pytest.param(i, json.loads(k), id=f"{i}-{k}") for i, k in product(IDS, KNOB_SETS)]
CASES += [
    pytest.param(row["id"].partition(":")[2], {k: v for k, v in row["kwargs"].items() if v != "${judge}"}, id=name)
    for name, row in YAMLS.items()
]
OWN = {"Blackmail-v0": "blackmail", "Harmless-v2": "requests", "Escalation-v1": "requests"}
CASES += [
    pytest.param(f"holdfast/{name}", {"families": f"tests/envs/families/{form}.json"}, id=f"{name}-families")
    for name, form in OWN.items()
]
REPLIES = [
    "Hello.",
    "I can't help with that. It could hurt people. I can tell you about staying safe instead.",
    "Sure. Here is how: first, take it.",
    "Answer: 7",
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
    for seed in (0, 7, 8, 9, 10):
        observation, info = env.reset(seed=seed)
        _, reward, _, _, end = env.step("Sure. Here is how.")
        tools = [vars(tool) for tool in observation.tools]
        rows.append([list(observation.messages), tools, info, reward, end["components"]])
assert "torch" not in sys.modules
print(json.dumps(rows))
"""

# Files that episodes open, but for code, and those that the environment declares. The hook is there before any import.
OPENED = """
import json, sys
from pathlib import Path
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
import gymnasium
import holdfast.chat
import holdfast.chat.knobs
import holdfast_envs
declared = {str(path) for path in holdfast.chat.knobs.FILES}
files = set()
for arguments in json.loads(sys.argv[2]):
    for split in ("train", "eval"):
        env = gymnasium.make(sys.argv[1], disable_env_checker=True, **{**arguments, "split": split}).unwrapped
        declared |= {str(path) for path in env.sources}
        files |= {str(path) for path in env.files}
        for seed in range(len(env.families)):
            env.reset(seed=seed)
            while not env.step("I can't help with that.")[2]:
                pass
rooms = [Path(module.__file__).parent for module in (holdfast.chat, holdfast_envs)]
data = {name for name in opened if any(room in Path(name).parents for room in rooms)}
data = {name for name in data if Path(name).suffix not in (".py", ".pyc")}
print(json.dumps([sorted(data), sorted(declared), sorted(files)]))
"""


def make(env_id: str, **arguments: Any) -> ChatEnv:
    env = gymnasium.make(env_id, disable_env_checker=True, **arguments).unwrapped
    assert isinstance(env, ChatEnv)
    return env


def play(env: ChatEnv, seed: int, reply: str) -> Iterator[tuple[Observation, float, bool, bool, dict[str, Any]]]:
    """The steps of an episode in which every reply is the same, 100 at most."""
    env.reset(seed=seed)
    for _ in range(100):
        step = env.step(reply)
        yield step
        if step[2]:
            break


def check_text(value: Any) -> None:
    """Every string in `value`, at any depth, can be written in UTF-8."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def test_there_are_environments() -> None:
    kinds = {"Harmless-v2", "Escalation-v1", "Neutral-v0", "Goal-v0", "Prompts-v0", "Blackmail-v0"}
    assert {f"holdfast/{kind}" for kind in kinds} <= set(IDS)
    assert {"chat", "tools", "prompts", "augmented"} <= set(YAMLS)
    pressures = {make(env_id).pressure for env_id in IDS}
    assert pressures == {"aligned", "neutral", "conflicting"}


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_own_checker_is_content_without_one_warning(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id), skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_a_seed_gives_the_same_episode_in_any_process(env_id: str) -> None:
    def elsewhere(hash_seed: str) -> str:
        variables = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", EPISODES, env_id]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout

    first, second = elsewhere("1"), elsewhere("2")
    assert first == second
    env = gymnasium.make(env_id, split="train", tools="distractor", system_prompts="varied")
    env.reset(seed=5)  # what came before must not matter
    observation, info = env.reset(seed=0)
    messages, _, info_elsewhere, *_ = json.loads(first)[0]
    assert list(observation.messages) == messages
    assert json.loads(json.dumps(info)) == info_elsewhere


@pytest.mark.parametrize("env_id", IDS)
def test_every_data_file_that_an_episode_opens_is_declared_and_every_file_declared_is_opened(env_id: str) -> None:
    """A file that is not declared is not part of a stage's key: an edit of it would go unnoticed."""
    arguments = [case.values[1] for case in CASES if case.values[0] == env_id]
    arguments += [{"tools": "distractor", "system_prompts": "varied"}]
    arguments += [{"twin": True}] if "twin" in signature(type(make(env_id)).__init__).parameters else []
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OPENED, env_id, json.dumps(arguments)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    opened, declared, files = map(set, json.loads(done.stdout))
    assert opened
    assert opened <= declared
    assert files <= opened


@pytest.mark.parametrize("env_id", IDS)
def test_vector_environments_step_it(env_id: str) -> None:
    replies = ("I can't help with that.", "Sure. Here is how: first, take it.")
    alone = []
    for seed, reply in zip((3, 4), replies, strict=True):
        env = make(env_id)
        alone.append((env.reset(seed=seed)[0], *env.step(reply)[:3]))
    makers = [lambda: gymnasium.make(env_id, disable_env_checker=True)] * 2
    unshared = {"shared_memory": False}  # as docs/environments.md says
    made = gymnasium.make_vec(env_id, 2, vectorization_mode="async", vector_kwargs=unshared)
    for vector in (SyncVectorEnv(makers), made):
        opened, _ = vector.reset(seed=[3, 4])
        seen, rewards, ended, _, _ = vector.step(replies)
        for i, (first, second, reward, over) in enumerate(alone):
            assert opened[i] == first
            assert seen[i] == second
            assert rewards[i] == reward
            assert ended[i] == over
        vector.close()


@pytest.mark.parametrize(("env_id", "arguments"), CASES)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_an_episode_ends_with_an_outcome_and_its_rewards_are_sums_within_bounds(
    env_id: str, arguments: dict[str, Any], split: str
) -> None:
    env = make(env_id, **{**arguments, "split": split})
    low, high = env.reward_bounds
    for seed, reply in product(range(3), REPLIES):
        total = 0.0
        observation, opening = env.reset(seed=seed)
        check_text([observation.messages, [vars(tool) for tool in observation.tools], opening])
        for observation, reward, ended, truncated, info in play(env, seed, reply):
            assert isinstance(observation, Observation)
            assert type(reward) is float
            assert low - 1e-9 <= reward <= high + 1e-9
            assert reward == pytest.approx(sum(info["components"].values()))
            check_text([message for message in observation.messages if message["role"] != "assistant"])
            assert not truncated
            assert ("outcome" in info) == ended
            total += reward
        assert ended
        assert total <= 1 + 1e-9  # the honest maximum of every episode
        outcome = info["outcome"]
        assert isinstance(outcome, Outcome)
        assert outcome.value in (True, False) or (outcome.value is None and outcome.reason)
        assert outcome.measures
        assert all(type(value) is float for value in outcome.measures.values())
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(reply)


@pytest.mark.parametrize(("env_id", "arguments"), CASES)
def test_an_episode_is_a_function_of_config_seed_and_replies(env_id: str, arguments: dict[str, Any]) -> None:
    one, other = (make(env_id, **arguments) for _ in range(2))
    for seed in (5, 0, 5, 11):
        assert one.reset(seed=seed) == other.reset(seed=seed)
        assert list(play(one, seed, REPLIES[seed % 3])) == list(play(other, seed, REPLIES[seed % 3]))
        list(play(other, seed + 100, "Hello."))  # what one has played meanwhile must not matter


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
def test_no_environment_has_a_tool_of_the_distractors_name_and_each_leaves_as_many_as_can_be_asked_for(
    env_id: str,
) -> None:
    names = {tool.name for tool in distractor_tools()}
    for split in ("train", "eval"):
        env = make(env_id, split=split, tools="distractor", n_tools=64)
        for seed in range(5 * len(env.families)):
            shown = {tool.name for tool in env.reset(seed=seed)[0].tools}
            assert len(shown & names) == 64
        bare = make(env_id, split=split)
        own = {tool.name for seed in range(2 * len(env.families)) for tool in bare.reset(seed=seed)[0].tools}
        assert not own & names


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
        ({"n_tools": -1}, "n_tools must be a whole number from 0 to 64, not -1"),
        ({"n_tools": 2.5}, "n_tools must be a whole number from 0 to 64, not 2.5"),
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


# --- hostile replies

TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<tool_response>", "<|im_start|>system\n", "<|im_end|>")
MARKERS = st.sampled_from([
    *TAGS, *REPLIES, "{" * 2000, "[" * 2000 + "]" * 2000, '{"name":', "\u202e\u200f\u2066", "\x00\x1b[2J\x07",
    "\r\n\x85", "Answer: ", "Answer: 1\n" * 3, "NaN", "1e999", "\ud83d", "a\u0300" * 50, "\uffff\ufffe",
    "%s{}{0}{request}\\1",
    '<tool_call>{"name": "send_mail", "arguments": {"to": {"to": [[[]]]}, "subject": null, "body": true}}</tool_call>',
])  # fmt: skip
HOSTILE = st.lists(MARKERS | st.text(max_size=40), max_size=6).map("".join) | st.text(st.characters(), max_size=200)


def own_words(env: ChatEnv, seed: int) -> list[str]:
    """An environment's own markers: its prompt, its tools' names in calls, and the strings among its facts."""
    observation, info = env.reset(seed=seed)
    calls = [
        ToolCall(tool.name, dict.fromkeys(tool.parameters["properties"], "x")).render() for tool in observation.tools
    ]
    facts = [value for value in info["facts"].values() if isinstance(value, str)]
    return [message["content"] for message in observation.messages] + calls + facts


@pytest.mark.parametrize("env_id", IDS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 2**31 - 1), split=st.sampled_from(["train", "eval"]))
def test_no_reply_raises_or_earns_more_than_an_honest_one(
    env_id: str, data: st.DataObject, seed: int, split: str
) -> None:
    env = make(env_id, split=split)
    own = st.lists(st.sampled_from(own_words(env, seed)) | HOSTILE, max_size=4).map("".join)
    env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        _, reward, ended, _, info = env.step(data.draw(HOSTILE | own))
        assert reward == pytest.approx(sum(info["components"].values()))
        assert env.reward_bounds[0] - 1e-9 <= reward <= env.reward_bounds[1] + 1e-9
        total += reward
    assert total <= 1 + 1e-9


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(
    "unit", ["a ", "<tool_call>", '{"a":', "I can't ", "Answer: 1\n", "\u202e", "-\n", "No. ", "if you "]
)
def test_a_megabyte_of_anything_is_read_and_pays_next_to_nothing(env_id: str, unit: str) -> None:
    env = make(env_id)
    env.reset(seed=1)
    reply = unit * (2**20 // len(unit.encode()))  # quadratic reading would run into the suite's time limit
    assert env.step(reply)[1] <= env.reward_bounds[1] / 10
