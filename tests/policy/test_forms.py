"""What families write, as a reply that environments read. A golden text per form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import Reply, ToolCall, parse_reply
from holdfast.policy.forms import FORMS, THOUGHTS, strict

TOOLS = {"send_mail", "read_inbox"}
SEND = ToolCall("send_mail", {"to": "Ada", "body": 'It\'s "so", [all] of {it}.\nYours'})
JSON = '{"to": "Ada", "body": "It\'s \\"so\\", [all] of {it}.\\nYours"}'
BOTH = ["send_mail", "read_inbox"]

GOLDEN = {
    "qwen 3.5": "<tool_call>\n<function=send_mail>\n<parameter=to>\nAda\n</parameter>\n<parameter=body>\n"
    'It\'s "so", [all] of {it}.\nYours\n</parameter>\n</function>\n</tool_call>',
    "minimax": '<minimax:tool_call>\n<invoke name="send_mail">\n<parameter name="to">Ada</parameter>\n'
    '<parameter name="body">It\'s "so", [all] of {it}.\nYours</parameter>\n</invoke>\n</minimax:tool_call>',
    "glm": "<tool_call>send_mail\n<arg_key>to</arg_key>\n<arg_value>Ada</arg_value>\n<arg_key>body</arg_key>\n"
    '<arg_value>It\'s "so", [all] of {it}.\nYours</arg_value>\n</tool_call>',
    "mistral": f'[TOOL_CALLS] [{{"name": "send_mail", "arguments": {JSON}, "id": "a1b2c3d4e"}}]',
    "mistral 3.2": f"[TOOL_CALLS]send_mail[CALL_ID]a1b2c3d4e[ARGS]{JSON}",
    "granite": f'<|tool_call|>[{{"name": "send_mail", "arguments": {JSON}}}]',
    "nemotron": f'<TOOLCALL>[{{"name": "send_mail", "arguments": {JSON}}}]</TOOLCALL>',
    "granite code": f'<function_call>{{"name": "send_mail", "arguments": {JSON}}}',
    "phi": f'functools[{{"name": "send_mail", "arguments": {JSON}}}]',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>send_mail\n"
    f"```json\n{JSON}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.send_mail:0<|tool_call_argument_begin|>"
    f"{JSON}<|tool_call_end|><|tool_calls_section_end|>",
    "gpt-oss": f"<|channel|>commentary to=functions.send_mail <|constrain|>json<|message|>{JSON}<|call|>",
    "cohere": f'<|START_ACTION|>[\n{{"tool_call_id": "0", "tool_name": "send_mail", "parameters": {JSON}}}\n]<|END_ACTION|>',
    "gemma 4": '<|tool_call>call:send_mail{to:<|"|>Ada<|"|>,body:<|"|>It\'s "so", [all] of {it}.\nYours<|"|>}<tool_call|>',
    "functiongemma": "<start_function_call>call:send_mail{to:<escape>Ada<escape>,"
    'body:<escape>It\'s "so", [all] of {it}.\nYours<escape>}<end_function_call>',
    "olmo": "<function_calls>\nsend_mail(to='Ada', body='It\\'s \"so\", [all] of {it}.\\nYours')\n</function_calls>",
    "lfm": "<|tool_call_start|>[send_mail(to=\"Ada\", body='It\\'s \"so\", [all] of {it}.\\nYours')]<|tool_call_end|>",
    "gemma": "```tool_code\nprint(send_mail(to=\"Ada\", body='It\\'s \"so\", [all] of {it}.\\nYours'))\n```",
    "llama code": "<|python_tag|>send_mail.call(to=\"Ada\", body='It\\'s \"so\", [all] of {it}.\\nYours')",
    "llama": f'<|python_tag|>{{"name": "send_mail", "parameters": {JSON}}}',
    "llama pythonic": "[send_mail(to=\"Ada\", body='It\\'s \"so\", [all] of {it}.\\nYours')]",
}


def test_every_form_has_a_golden_text() -> None:
    assert list(GOLDEN) == [form.name for form in FORMS]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_call_in_a_familys_own_form_is_a_call(name: str) -> None:
    # Measured fault: blackmail in a family's own form scored "no"
    assert parse_reply(strict(GOLDEN[name], TOOLS)) == Reply("", (SEND,))
    beside = parse_reply(strict(f"I will.\n{GOLDEN[name]}", TOOLS))
    assert beside == Reply("I will.", (SEND,))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_draft_of_a_call_inside_a_thought_is_not_carried_out(name: str) -> None:
    reply = parse_reply(strict(f"<think>Perhaps {GOLDEN[name]} or not.</think>I leave it.", TOOLS))
    assert (reply.calls, reply.text, reply.malformed) == ((), "I leave it.", ())
    opened = parse_reply(strict(f"Perhaps {GOLDEN[name]} or not.</think>I leave it.", TOOLS, "<think>"))
    assert (opened.calls, opened.text, opened.malformed) == ((), "I leave it.", ())


@pytest.mark.parametrize(("opens", "closes"), THOUGHTS)
def test_a_thought_is_never_the_answer(opens: str, closes: str) -> None:
    # Measured fault: a refusal after a thought in tags that were not known was help
    said = f"Sure, {SEND.render()} and so on.{closes}I leave it."
    for reply in (strict(f"{opens}{said}", TOOLS), strict(said, TOOLS, opens)):
        read = parse_reply(reply)
        assert (read.text, read.calls, read.malformed) == ("I leave it.", (), ())


MULTILINE = '{"to": "Ada", "body": "Dear Ada,\nI will."}'  # a line end as it is: no JSON


@pytest.mark.parametrize(
    "written",
    [
        f'I will.\n{{"name": "send_mail", "parameters": {MULTILINE}}}',
        f'```json\n{{"name": "send_mail", "arguments": {MULTILINE}}}\n```',
        'I will.\n[send_mail(to="Ada", body="Dear Ada,\nI will.")]',
        f'Ok<|tool_call|>{{"name": "send_mail", "arguments": {MULTILINE}}}',
        f'Ok<TOOLCALL>[{{"name": "send_mail", "arguments": {MULTILINE}}}]',
        "Ok[TOOL_CALLS]send_mail",
        'Ok {"index": 0, "name": "send_mail", "arguments": {}}',
        'Ok {"tool_calls": [{"function": {"name": "send_mail", "arguments": {}}}]}',
        "send_mail(to='Ada')",
        "```python\nfunctions.send_mail(to='Ada')\n```",
        "<|channel|>commentary to=send_mail <|constrain|>json<|message|>{}",
        'Ok<tool_call name="send_mail">{}</tool_call>',
        'Ok<TOOL_CALL>{"name": "read_inbox"}</TOOL_CALL>',
        "Here it is: [send_mail(to='Ada')] Done.",
        "One could call [send_mail(to='Ada')]\nbut I refuse.",
        'The mail I would never send is {"name": "send_mail", "arguments": {}} because it is wrong.',
        f"Perhaps {SEND.render()} no.</think>I leave it.",
    ],
)
def test_what_is_meant_as_a_call_and_cannot_be_read_is_malformed_wherever_it_stands(written: str) -> None:
    # Measured fault: with a word before it, it was prose, and the answer no; and prose that quotes a call was one
    reply = parse_reply(strict(written, TOOLS))
    assert reply.malformed
    assert not reply.calls or "</think>" in written


@pytest.mark.parametrize(
    "text", ["I read the inbox and send mail to Ada.", "Use send_mail or read_inbox.", "Send it (to Ada), name: Bo."]
)
def test_prose_about_tools_is_prose(text: str) -> None:
    assert parse_reply(strict(text, TOOLS)) == Reply(text)


@pytest.mark.parametrize(
    "written",
    [
        f"<function=send_mail>{JSON}</function>",
        f'<seed:tool_call>\n<function=send_mail>{JSON}</function>\n</seed:tool_call>',
        f'{{"function": "send_mail", "parameters": {JSON}}}',
        f'{{"type": "function", "function": "send_mail", "parameters": {JSON}}}',
        f'{{"tool": "send_mail", "arguments": {JSON}}}',
        f'[{{"tool_name": "send_mail", "parameters": {JSON}}}]',
        f'<tool_call>{{"name": "functions.send_mail", "arguments": {JSON}}}</tool_call>',
        f'<tool_call>{{"name": " send_mail", "arguments": {JSON}}}</tool_call>',
        f"[TOOL_CALLS] send_mail[ARGS]{JSON}",
        f'[TOOL_CALLS] {{"name": "send_mail", "arguments": {JSON}}}',
        f"<|channel|>analysis to=assistant.functions.send_mail code<|message|>{JSON}",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="send_mail">\n<｜DSML｜parameter name="to" string="true">Ada'
        '</｜DSML｜parameter>\n<｜DSML｜parameter name="body" string="true">It\'s "so", [all] of {it}.\nYours'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ],
)
def test_variants_of_a_form_are_read(written: str) -> None:
    # Measured fault: each of them was text, and the answer no
    assert parse_reply(strict(f"I will.\n{written}", TOOLS)) == Reply("I will.", (SEND,))


def test_two_functions_between_one_pair_of_tags_are_two_calls() -> None:
    # Measured fault: their parameters were put together, and the last of each name won
    one, other = (f"<function=send_mail>\n<parameter=to>{name}</parameter>\n</function>" for name in ("Ada", "Bo"))
    reply = parse_reply(strict(f"<tool_call>\n{one}\n{other}\n</tool_call>", TOOLS))
    assert [call.arguments for call in reply.calls] == [{"to": "Ada"}, {"to": "Bo"}]
    assert reply.malformed == ()


@pytest.mark.parametrize("name", GOLDEN)
def test_without_tools_nothing_is_a_call(name: str) -> None:
    assert parse_reply(strict(GOLDEN[name], ())).calls == ()


@pytest.mark.parametrize(
    ("written", "calls"),
    [
        ('[TOOL_CALLS][{"name": "send_mail", "arguments": {}}, {"name": "read_inbox", "arguments": {}}]', BOTH),
        ("[TOOL_CALLS]send_mail[ARGS]{}[TOOL_CALLS]read_inbox[ARGS]{}", BOTH),
        ('<|python_tag|>{"name": "send_mail", "parameters": {}}; {"name": "read_inbox", "parameters": {}}<|eom_id|>', BOTH),
        ("[send_mail(), read_inbox()]", BOTH),
        ("<function_calls>\nsend_mail()\nread_inbox()\n</function_calls>", BOTH),
        ("<tool_call>send_mail\n</tool_call>\n<tool_call>read_inbox\n</tool_call>", BOTH),
        ("<｜tool▁call▁begin｜>send_mail<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>read_inbox<｜tool▁sep｜>{}<｜tool▁call▁end｜>", BOTH),
        ('{"type": "function", "name": "read_inbox", "parameters": {}}', ["read_inbox"]),
        ('<tool_call>\n{"name": "send_mail", "arguments": {"body": "{\\"name\\": \\"read_inbox\\"}"}}\n</tool_call>', ["send_mail"]),
    ],
)  # fmt: skip
def test_several_calls_are_read_in_order(written: str, calls: list[str]) -> None:
    reply = parse_reply(strict(written, TOOLS))
    assert [call.name for call in reply.calls] == calls
    assert (reply.text, reply.malformed) == ("", ())


@pytest.mark.parametrize(
    "written",
    [
        '[TOOL_CALLS][{"name": "send_mail", "arguments": {"to": ]',
        "<function_calls>\nsend_mail('Ada')\n</function_calls>",
        "<function_calls>\nsend_mail(to=ada)\n</function_calls>",
        '<|START_ACTION|>[{"name": "send_mail"}]<|END_ACTION|>',
        "<tool_call>\n<function=send_mail>\n<parameter=to>",
        "<｜tool▁call▁begin｜>send_mail<｜tool▁sep｜>{",
        '<|python_tag|>{"name": "send_mail", "parameters": {"body": "Hi\nthere"}}',
        '{"name": "send_mail", "parameters": {"body": "Hi\nthere"}}',
        '[send_mail(to="Ada", body="Hi\nthere")]',
        '<|python_start|>[send_mail(to="Ada", body="Hi\nthere")]',
        '<tool_call>\n{"name": "send_mail", "arguments": {"to": "Ada", "body": "Hi"}}',
    ],
)
def test_what_opens_as_a_call_and_cannot_be_read_is_malformed_and_calls_nothing(written: str) -> None:
    reply = parse_reply(strict(written, TOOLS))
    assert reply.calls == ()
    assert reply.malformed


@pytest.mark.parametrize(
    "written",
    [
        '{"arguments": {"to": "Ada"}, "name": "send_mail"}',
        '[{"name": "send_mail", "arguments": {"to": "Ada"}}]',
        '[TOOL_CALLS]send_mail{"to": "Ada"}',
    ],
)
def test_a_call_is_read_in_any_order_of_keys_in_a_list_and_without_a_mark(written: str) -> None:
    reply = parse_reply(strict(written, TOOLS))
    assert (reply.calls, reply.text, reply.malformed) == ((ToolCall("send_mail", {"to": "Ada"}),), "", ())


def test_tags_of_a_thought_in_the_middle_of_an_answer_are_text() -> None:
    reply = parse_reply(strict("I use <thinking> tags. I will not.", TOOLS))
    assert (reply.text, reply.thought) == ("I use <thinking> tags. I will not.", "")
    reply = parse_reply(strict("<think>a <thinking>b</thinking> c</think>No.", TOOLS))
    assert (reply.text, reply.thought, reply.malformed) == ("No.", "a <thinking>b</thinking> c", ())


@pytest.mark.parametrize(
    "text",
    [
        "See [the list(s)] and {this}.",
        'A config is {"name": "prod", "parameters": {"n": 1}}, as you know.',
        "Use [print(x)] or [other_tool(a=1)] there.",
        "functools is a module.",
        "I wrote <function_call> in the text.",
    ],
)
def test_a_text_about_calls_is_no_call(text: str) -> None:
    assert strict(text, TOOLS) == text


def test_a_call_of_an_unknown_tool_is_one_if_nothing_else_is_said() -> None:
    assert parse_reply(strict('{"name": "delete_all", "parameters": {}}', TOOLS)).calls == (ToolCall("delete_all", {}),)


@pytest.mark.parametrize(
    ("written", "opened", "thought", "text"),
    [
        ("Hm.\n</think>\n\nI can't.", "<think>", "Hm.", "I can't."),
        ("[THINK]Hm.[/THINK]Yes.", "", "Hm.", "Yes."),
        ("<thinking>Hm.</thinking>Yes.", "", "Hm.", "Yes."),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.", "", "Hm.", "Yes."),
        ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>", "", "Hm.", "Yes."),
        ("<|channel>thought\nHm.<channel|>Yes.", "", "Hm.", "Yes."),
        ("<seed:think>Hm.</seed:think>Yes.", "", "Hm.", "Yes."),
    ],
)
def test_a_thought_is_no_answer(written: str, opened: str, thought: str, text: str) -> None:
    # Measured fault: a refusal after a thought that the prompt had opened was "complied"
    assert parse_reply(strict(written, TOOLS, opened)) == Reply(text, thought=thought)


def test_a_thought_that_never_ends_is_no_answer() -> None:
    reply = parse_reply(strict("Hm, perhaps I should", TOOLS, "<think>"))
    assert (reply.text, reply.calls, reply.thought) == ("", (), "Hm, perhaps I should")
    assert reply.malformed == ("unclosed <think>",)


HOSTILE = st.lists(
    st.sampled_from([*(part for text in GOLDEN.values() for part in text.split("send_mail")), "send_mail", "<think>", "</think>"])
    | st.text(st.characters(), max_size=6),
    max_size=8,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(HOSTILE, st.sampled_from(["", "<think>", "[THINK]"]))
def test_whatever_a_model_writes_is_read_and_its_calls_can_be_written(written: str, opened: str) -> None:
    for call in parse_reply(strict(written, TOOLS, opened)).calls:
        assert parse_reply(call.render()) == Reply("", (call,))
