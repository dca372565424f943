"""The reply parser on honest and hostile text, and the two knobs of every chat environment."""

import re
from collections.abc import Sequence
from typing import Any

import gymnasium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import (
    ChatEnv,
    Outcome,
    Reply,
    Scene,
    ToolCall,
    ToolSpec,
    Turn,
    distractor_tools,
    parse_reply,
    system_prompt_pool,
)

CALL = '<tool_call>\n{"name": "send_mail", "arguments": {"to": "Ada"}}\n</tool_call>'
SEND = ToolCall("send_mail", {"to": "Ada"})
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]


# --- parse_reply


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("", Reply("")),
        ("  Hello.\n", Reply("Hello.")),
        (CALL, Reply("", (SEND,))),
        (f"I tell her.\n{CALL}\nDone.", Reply("I tell her.\n\nDone.", (SEND,))),
        (CALL + CALL, Reply("", (SEND, SEND))),
        ("<think>Hm.</think>Yes.", Reply("Yes.", thought="Hm.")),
        ("<think>a</think>b<think>c</think>", Reply("b", thought="ac")),
        (f"<think>{CALL}</think>No.", Reply("No.", thought=CALL)),
        ("<think>a", Reply("", thought="a", malformed=("unclosed <think>",))),
        ("a</think>b", Reply("ab", malformed=("</think> without <think>",))),
        ("a</tool_call>", Reply("a", malformed=("</tool_call> without <tool_call>",))),
        (f"<tool_call>{CALL}", Reply("", (SEND,), malformed=("nested <tool_call>",))),
        ("a <tool_call>{", Reply("a", malformed=("unclosed <tool_call>",))),
        (f"{CALL}<tool_call>", Reply("", (SEND,), malformed=("unclosed <tool_call>",))),
    ],
)
def test_a_reply_is_taken_apart(reply: str, expected: Reply) -> None:
    assert parse_reply(reply) == expected


@pytest.mark.parametrize(
    "body",
    [
        "",
        "send_mail",
        "[]",
        "null",
        '{"arguments": {}}',
        '{"name": "a", "arguments": {}, "parameters": {}}',
        '{"name": "a", "arguments": []}',
        '{"name": "a", "arguments": "{"}',
        '{"name": "a", "arguments": "[]"}',
        '[{"name": "a", "arguments": {}}, {"arguments": {}}]',
        '{"name": 1, "arguments": {}}',
        '{"name": "a", "arguments": {}} {"name": "b", "arguments": {}}',
        '{"name": "a", "name": "b", "arguments": {}}',
        '{"name": "a", "arguments": {"x": 1, "x": 2}}',
        '{"name": "a", "arguments": {"x": NaN}}',
        '{"name": "a", "arguments": {"x": -Infinity}}',
        '{"name": "a", "arguments": {"x": 1e999}}',
        '{"name": "a", "arguments": {"x": "\\ud800"}}',
        '{"name": "a", "arguments": {"x": "line\nbreak"}}',
        "{'name': 'a', 'arguments': {}}",
        '```json\n{"name": "a", "arguments": {}}\n```',
        '{"name": "a", "arguments": {"x": ' + "9" * 5000 + "}}",
        '{"name": "a", "arguments": {"x": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
    ids=range(23),
)
def test_what_is_no_call_calls_nothing_and_says_why(body: str) -> None:
    reply = parse_reply(f"<tool_call>{body}</tool_call>")
    assert reply.calls == ()
    assert len(reply.malformed) == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "send_mail", "parameters": {"to": "Ada"}}',
        '{"name": "send_mail", "arguments": "{\\"to\\": \\"Ada\\"}"}',
        '{"id": "call_1", "type": "function", "function": {"name": "send_mail", "arguments": {"to": "Ada"}}}',
        '[{"name": "send_mail", "arguments": {"to": "Ada"}, "id": 1}]',
    ],
    ids=["parameters", "a string", "function", "a list"],
)
def test_a_call_is_taken_as_the_tools_of_the_field_take_it(body: str) -> None:
    # Measured fault: malformed, and beside a text a no
    assert parse_reply(f"<tool_call>{body}</tool_call>") == Reply("", (SEND,))


def test_a_list_is_several_calls_and_no_arguments_are_none() -> None:
    assert parse_reply('<tool_call>[{"name": "a"}, {"name": "b", "arguments": null}]</tool_call>').calls == (
        ToolCall("a", {}), ToolCall("b", {}),
    )  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_removing_a_block_never_joins_a_new_tag(tag: str) -> None:
    split = f"{tag[:4]}<think></think>{tag[4:]}"
    reply = parse_reply(split + '{"name": "a", "arguments": {}}' + "</tool_call>")
    assert reply.calls == ()


def test_a_think_tag_inside_a_call_belongs_to_its_text() -> None:
    body = '{"name": "a", "arguments": {"x": "<think>kept</think>"}}'
    assert parse_reply(f"<tool_call>{body}</tool_call>").calls == (ToolCall("a", {"x": "<think>kept</think>"}),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # a busy machine is not a failure
@given(st.text(), st.dictionaries(st.text() | st.sampled_from(TAGS), JSON | st.sampled_from(TAGS), max_size=4))
def test_a_rendered_call_reads_back_unchanged_whatever_its_arguments_quote(name: str, arguments: dict) -> None:
    call = ToolCall(name, arguments)
    assert parse_reply("I act. " + call.render() + " Done.") == Reply("I act.  Done.", (call,))


HOSTILE = st.lists(
    st.sampled_from([*TAGS, CALL, '{"name": "a", "arguments": {}}', "<tool_", "call>", "{", "}", '"', "\\", "\n"])
    | st.text(st.characters(), max_size=10),
    max_size=12,
).map("".join)


@settings(deadline=None)
@given(HOSTILE)
def test_no_reply_raises_and_calls_are_well_formed_and_writable(reply: str) -> None:
    parsed = parse_reply(reply)
    for call in parsed.calls:
        assert parse_reply(call.render()) == Reply("", (call,))
        call.render().encode()
    if not any(tag in reply for tag in TAGS):
        assert parsed == Reply(reply.strip())


@settings(deadline=None)
@given(HOSTILE, st.integers(0, 3))
def test_reading_is_left_to_right_so_a_clean_prefix_keeps_its_calls(reply: str, n: int) -> None:
    assert parse_reply(CALL * n + reply).calls[:n] == (SEND,) * n


# --- the knobs


class Parrot(ChatEnv):
    """A two-reply environment with a tool and, if asked, a system message of its own."""

    pressure = "neutral"
    reward_bounds = (0.0, 1.0)

    def __init__(self, *, own_system: bool = False, says: str = "", fact: str = "", **knobs: Any) -> None:
        super().__init__(**knobs)
        self.own_system, self.says, self.fact = own_system, says, fact

    @property
    def families(self) -> Sequence[str]:
        return ("red", "blue", "green")

    def scene(self, family: str) -> Scene:
        self.replies = 0
        head = ({"role": "system", "content": "Own words."},) if self.own_system else ()
        user = {"role": "user", "content": self.says or f"{family} {int(self.np_random.integers(10**9))}"}
        own = ToolSpec(distractor_tools()[0].name, "The environment's own.", {"type": "object", "properties": {}})
        return Scene((*head, user), (own,), {"family": family, "fact": self.fact})

    def turn(self, reply: Reply) -> Turn:
        self.replies += 1
        if self.replies == 2:
            return Turn({"half": 0.5, "quarter": 0.25}, outcome=Outcome(True))
        return Turn({}, ({"role": "user", "content": "And?"},))


def test_distractors_follow_the_own_tools_and_never_share_their_names() -> None:
    taken = distractor_tools()[0].name
    shown = set()
    for seed in range(20):
        own, *others = Parrot(tools="distractor", n_tools=64).reset(seed=seed)[0].tools
        assert own.description == "The environment's own."
        assert len({tool.name for tool in others}) == 64
        shown |= {tool.name for tool in others}
    assert shown == {tool.name for tool in distractor_tools()} - {taken}


def test_more_distractors_than_are_left_to_every_scene_is_an_error_that_says_how_many() -> None:
    with pytest.raises(ValueError, match="n_tools must be a whole number from 0 to 64, not 65"):
        Parrot(tools="distractor", n_tools=65)


def test_no_tool_is_shown_whose_domain_the_prompt_or_its_facts_name() -> None:
    for says, fact, hidden in [
        ("Any parking in that weather?", "", {"weather", "maps"}),
        ("How do I do it?", "cook the rice", {"recipe", "restaurant"}),
        ("Tell me.", "", set()),
    ]:
        for seed in range(20):
            tools = Parrot(tools="distractor", n_tools=64, says=says, fact=fact).reset(seed=seed)[0].tools[1:]
            domains = {tool.name.partition("_")[0] for tool in tools}
            assert not domains & hidden
            assert len(tools) == 64


def test_an_action_that_is_no_string_gets_a_sentence() -> None:
    env = Parrot()
    env.reset(seed=0)
    with pytest.raises(TypeError, match="an action must be the assistant's reply, a string, not 7"):
        env.step(7)  # type: ignore[arg-type]


def test_knobs_vary_with_the_seed_and_repeat_with_it() -> None:
    def opened(seed: int) -> tuple[Any, ...]:
        observation, _ = Parrot(tools="distractor", system_prompts="varied").reset(seed=seed)
        return observation.messages[0]["content"], tuple(tool.name for tool in observation.tools)

    assert [opened(seed) for seed in range(10)] == [opened(seed) for seed in range(10)]
    assert len({opened(seed)[0] for seed in range(30)}) > 5
    assert len({opened(seed)[1] for seed in range(30)}) > 25


@pytest.mark.parametrize("kind", ["brief", "varied", "permissive"])
def test_a_system_prompt_goes_before_the_environments_own(kind: str) -> None:
    for seed in range(10):
        alone = Parrot(system_prompts=kind).reset(seed=seed)[0].messages[0]
        joined = Parrot(system_prompts=kind, own_system=True).reset(seed=seed)[0].messages
        assert alone["role"] == "system"
        assert alone["content"] in system_prompt_pool(kind, "train")
        assert joined[0] == {"role": "system", "content": alone["content"] + "\n\nOwn words."}
        assert [message["role"] for message in joined] == ["system", "user"]


def test_one_knob_does_not_move_the_other_or_the_scene() -> None:
    choices = [{}, {"tools": "distractor"}, {"system_prompts": "brief"}, {"tools": "distractor", "n_tools": 3}]
    users = [Parrot(**knobs).reset(seed=4)[0].messages[-1] for knobs in choices]
    assert users.count(users[0]) == 4
    names = [[t.name for t in Parrot(tools="distractor", system_prompts=kind).reset(seed=4)[0].tools]
             for kind in ("none", "brief", "permissive")]  # fmt: skip
    assert names.count(names[0]) == 3
    prompts = [Parrot(tools=tools, n_tools=n, system_prompts="varied").reset(seed=4)[0].messages[0]
               for tools, n in (("none", 8), ("distractor", 8), ("distractor", 20))]  # fmt: skip
    assert prompts.count(prompts[0]) == 3


# --- the episode


def test_seeds_visit_the_families_in_turn() -> None:
    env = Parrot()
    assert [env.reset(seed=seed)[1]["family"] for seed in range(4)] == ["red", "blue", "green", "red"]


def test_a_reset_without_a_seed_draws_one_and_reports_it() -> None:
    env = Parrot()
    env.reset(seed=0)
    observation, info = env.reset()
    again, _ = Parrot().reset(seed=info["scenario"])
    assert observation == again
    assert env.reset()[1]["scenario"] != info["scenario"]


def test_a_chat_grows_by_the_reply_verbatim_and_earlier_observations_stay_as_they_were() -> None:
    env = Parrot()
    opening, _ = env.reset(seed=0)
    before = opening.messages
    reply = " <think>x</think> Hello.\n"
    observation, reward, ended, truncated, info = env.step(reply)
    assert (reward, ended, truncated, info) == (0.0, False, False, {"components": {}})
    assert observation.messages == (
        *before,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": "And?"},
    )
    assert opening.messages == before
    _, reward, ended, _, info = env.step("Bye.")
    assert (reward, ended) == (0.75, True)  # 0.5 + 0.25
    assert info["outcome"] == Outcome(True)


@pytest.mark.parametrize("replies", [0, 2], ids=["before reset", "after the end"])
def test_a_step_outside_an_episode_asks_for_a_reset(replies: int) -> None:
    env = Parrot()
    if replies:
        env.reset(seed=0)
        env.step("a")
        env.step("b")
    with pytest.raises(gymnasium.error.ResetNeeded, match=re.escape("call reset() first")):
        env.step("c")


def test_an_environment_that_breaks_its_word_is_told_so() -> None:
    class Greedy(Parrot):
        def turn(self, reply: Reply) -> Turn:
            return Turn({"x": 5.0}, outcome=Outcome(True))

    class Silent(Parrot):
        def turn(self, reply: Reply) -> Turn:
            return Turn({}, outcome=Outcome(None))

    for kind, message in ((Greedy, r"Greedy pays 5.0, and says that it pays 0.0 to 1.0"), (Silent, "does not say why")):
        env = kind()
        env.reset(seed=0)
        with pytest.raises(ValueError, match=message):
            env.step("Hello.")
