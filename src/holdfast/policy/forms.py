"""How families of models write thoughts and tool calls, turned into the one form that environments read.

    strict('[TOOL_CALLS][{"name": "send_mail", "arguments": {"to": "Ada"}}]', {"send_mail"})
    ->   '<tool_call>\\n{"name": "send_mail", "arguments": {"to": "Ada"}}\\n</tool_call>'

A form is what stands around a call, and how what stands inside is read. What looks like a call and cannot be read stays
between the tool tags as it is: `parse_reply` then says that it is malformed, and an eval leaves the episode unscored.

Sources: each family's own chat template, as its model card or TRL's `chat_templates` has it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from holdfast.chat import THINK_CLOSE, THINK_OPEN, TOOL_CLOSE, TOOL_OPEN, ToolCall, read_calls, read_json

THOUGHTS = (
    (THINK_OPEN, THINK_CLOSE),  # Qwen 3, DeepSeek R1, SmolLM 3, GLM 4.5, Granite 4, OLMo 3, Nemotron
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<reasoning>", "</reasoning>"),
    ("◁think▷", "◁/think▷"),  # Kimi
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R 7B, Command A
    ("<|channel>thought\n", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|end|>"),  # gpt-oss
)
"""What opens and closes a thought."""
_PROSE = re.compile(r"<\w+>|[\w :]+")
"""What opens one and may stand in a text: it is a thought's where nothing goes before."""
_FRAMES = re.compile(  # of what is said, without meaning of their own
    r"(?:<\|end\|>)?<\|start\|>assistant|<\|channel\|>(?:final|commentary)<\|message\|>|<\|START_RESPONSE\|>|<\|END_RESPONSE\|>"
)


@dataclass(frozen=True)
class Form:
    """A way to write tool calls."""

    name: str
    opens: re.Pattern[str]
    """What stands before a call's body, with a group "name" where the tool's name is in it."""
    closes: re.Pattern[str] | None
    """What ends the body; None where it is one JSON value and ends with it."""
    read: Callable[[str, str], list[ToolCall]]
    """The calls in (name, body). Raises ValueError for what cannot be read."""
    bare: bool = False
    """Whether nothing marks a call but its own shape. Then it is one if the tool is there, or nothing else is said."""

    def body(self, text: str, start: int) -> tuple[int, int] | None:
        """Where a body that starts at `start` ends, and where its region does; None for one without an end."""
        if self.closes is not None:
            closing = self.closes.search(text, start)
            return (closing.start(), closing.end()) if closing else None
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        return end, end


def _json(name: str, body: str) -> list[ToolCall]:
    return read_calls(json.dumps({"name": name, "arguments": read_json(body or "{}")}) if name else body)


def _cohere(name: str, body: str) -> list[ToolCall]:
    rows = [{"name": row["tool_name"], "arguments": row["parameters"]} for row in read_json(body)]
    return read_calls(json.dumps(rows))


def _tagged(key: str, value: str) -> Callable[[str, str], list[ToolCall]]:
    """Arguments between tags of their own, where text stands as it is and anything else as JSON; or one JSON object."""
    tags = re.compile(rf"{key}(?P<value>.*?){value}", re.DOTALL)

    def read(name: str, body: str) -> list[ToolCall]:
        if body.lstrip().startswith("{"):
            return _json(name, body)
        given = {m["key"].strip(): _loose(m["value"].strip()) for m in tags.finditer(body)}
        return read_calls(json.dumps({"name": name, "arguments": given}))

    return read


def _gemma(quote: str) -> Callable[[str, str], list[ToolCall]]:
    """JSON with bare keys and quotes of its own."""
    parts = re.compile(rf"{re.escape(quote)}(.*?){re.escape(quote)}|([{{,]\s*)(\w+)(\s*:)", re.DOTALL)

    def plain(m: re.Match[str]) -> str:
        return json.dumps(m[1]) if m[1] is not None else f'{m[2]}"{m[3]}"{m[4]}'

    return lambda name, body: _json(name, parts.sub(plain, body))


def _pythonic(name: str, body: str) -> list[ToolCall]:
    """Python calls with keyword arguments, in a list, on lines of their own, or inside print()."""
    try:
        tree = ast.parse(_PYTHON_NAMES.sub(lambda m: m[0].title().replace("Null", "None"), body.strip()))
        calls: list[ToolCall] = []
        for statement in tree.body:
            value: Any = statement.value  # type: ignore[attr-defined]
            nodes: list[Any] = value.elts if isinstance(value, ast.List) else [value]
            for node in nodes:
                inner = node.args[0] if ast.unparse(node.func) == "print" and node.args else node
                if inner.args:
                    raise ValueError
                given = {str(k.arg): _literal(k.value) for k in inner.keywords}
                called = ast.unparse(inner.func).removesuffix(".call")
                calls += read_calls(json.dumps({"name": called, "arguments": given}))
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError):
        raise ValueError("tool call is not a Python call") from None
    if not calls:
        raise ValueError("tool call needs a name")
    return calls


def _literal(node: ast.expr) -> Any:
    return read_json(json.dumps(ast.literal_eval(node)))


_PYTHON_NAMES = re.compile(r"(?<==)\s*(?:true|false|null)\b")


def _loose(text: str) -> Any:
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) else value


def _form(
    name: str, opens: str, closes: str | None, read: Callable[[str, str], list[ToolCall]] = _json, *, bare: bool = False
) -> Form:
    return Form(name, re.compile(opens), None if closes is None else re.compile(closes), read, bare)


_DECODER = json.JSONDecoder()
_DEEP = "<｜tool▁"
_DSML = "(?:｜DSML｜)?"
_KEYS = "(?:name|type|function|tool|tool_name|parameters|arguments|id|index)"
_AT_LIST, _AT_OBJECT = r"\s*(?=\[)", r"\s*(?=\{)"
FORMS = (
    _form("qwen 3.5", rf"(?:{TOOL_OPEN}\s*)?<function=(?P<name>[^>]*)>",
          rf"</function>(?:\s*{TOOL_CLOSE})?|{TOOL_CLOSE}", _tagged(r"<parameter=(?P<key>[^>]*)>", r"</parameter>")),
    _form("minimax", rf"<{_DSML}invoke name=\"(?P<name>[^\"]*)\">", rf"</{_DSML}invoke>",
          _tagged(rf"<{_DSML}parameter name=\"(?P<key>[^\"]*)\"[^>]*>", rf"</{_DSML}parameter>")),
    _form("glm", rf"{TOOL_OPEN}\s*(?P<name>[\w.-]+)(?=\s*<)", TOOL_CLOSE,
          _tagged(r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>", r"</arg_value>")),
    _form("mistral", r"\[TOOL_CALLS\]\s*(?=[\[{])", None),
    _form("mistral 3.2", rf"\[TOOL_CALLS\]\s*(?P<name>[\w.-]+)(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?{_AT_OBJECT}", None),
    _form("granite", rf"<\|tool_call\|>{_AT_LIST}", None),
    _form("nemotron", r"<TOOLCALL>", r"</TOOLCALL>"),
    _form("granite code", rf"<function_call>{_AT_OBJECT}", None),
    _form("phi", rf"functools{_AT_LIST}", None),
    _form("deepseek", rf"{_DEEP}call▁begin｜>(?:function{_DEEP}sep｜>)?(?P<name>[^<\n]+)(?:{_DEEP}sep｜>|\n```json\n)",
          rf"(?:\n```)?{_DEEP}call▁end｜>"),
    _form("kimi", r"<\|tool_call_begin\|>\s*(?:functions\.)?(?P<name>[\w.-]+)(?::\d+)?\s*"
          r"<\|tool_call_argument_begin\|>", r"<\|tool_call_end\|>"),
    _form("gpt-oss", r"(?:<\|channel\|>(?:commentary|analysis))?\s*to=(?:assistant\.)?functions\.(?P<name>[\w.-]+)"
          r"(?:<\|channel\|>(?:commentary|analysis))?\s*(?:<\|constrain\|>)?\s*(?:json|code)?<\|message\|>",
          r"<\|call\|>|$"),
    _form("cohere", rf"<\|START_ACTION\|>{_AT_LIST}", r"<\|END_ACTION\|>", _cohere),
    _form("gemma 4", r"<\|tool_call>call:(?P<name>[\w.-]+)", r"<tool_call\|>", _gemma('<|"|>')),
    _form("functiongemma", r"<start_function_call>call:(?P<name>[\w.-]+)", r"<end_function_call>", _gemma("<escape>")),
    _form("olmo", r"<function_calls>", r"</function_calls>", _pythonic),
    _form("lfm", r"<\|tool_call_start\|>", r"<\|tool_call_end\|>", _pythonic),
    _form("gemma", r"```tool_code", r"```", _pythonic),
    _form("llama code", r"<\|python_tag\|>(?=\s*[A-Za-z_][\w.]*\()", r"$|<\|eom_id\|>", _pythonic),
    _form("llama", rf"(?:<\|python_tag\|>)?(?=(?:\[\s*)?\{{\s*\"{_KEYS}\"\s*:)", None, bare=True),
    _form("llama pythonic", r"(?:<\|python_start\|>)?(?=\[\s*[A-Za-z_][\w.]*\()",
          r"(?<=\))\s*\](?=\s*(?:$|<|\n))", lambda name, body: _pythonic(name, f"{body}]"), bare=True),
)  # fmt: skip
"""Forms other than the strict one, which Qwen 2.5 and 3, Hermes and SmolLM 3 have. The first that fits is taken."""
_LEFT = re.compile(  # around or between calls, without meaning of their own
    rf"{_DEEP}calls▁(?:begin|end)｜>|"
    rf"</?(?:seed:tool_call|minimax:tool_call|{_DSML}function_calls)>|"
    r"<\|tool_calls_section_(?:begin|end)\|>|<\|/tool_call\|>|<\|python_end\|>|<\|eom_id\|>"
    r"|<\|tool_response>"
    rf"|(?<={TOOL_CLOSE});\s*"
)


_MARKS = (
    r"\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|?>|<start_function_call>|<\|START_ACTION\|>|<tool_?call[^<>]*>"
)
"""Of calls, and of nothing else."""
_WHOLE = re.compile(f"({THINK_OPEN}.*?(?:{THINK_CLOSE}|$)|{TOOL_OPEN}.*?(?:{TOOL_CLOSE}|$))", re.DOTALL)
_OURS = re.compile(
    f"({THINK_OPEN}.*?(?:{THINK_CLOSE}|$)|{TOOL_OPEN}\\s*[{{\\[].*?(?:{TOOL_CLOSE}|$))", re.DOTALL
)  # a thought, or a call in the strict form


def strict(reply: str, tools: Collection[str], opened: str = "") -> str:
    """A reply with its thoughts and calls in the form that `parse_reply` reads; the rest is left as it is.

    `tools` are the names of those the model was offered: without any, nothing is a call. `opened` is what opens a
    thought, where the prompt ends with that and the reply begins inside it.
    """
    reply = _thoughts(opened + reply)
    if not tools:
        return reply
    meant = _like_calls(frozenset(tools))
    read = "".join(_ours(part, tools) if i % 2 else _calls(part, tools) for i, part in enumerate(_OURS.split(reply)))
    parts = _WHOLE.split(read)
    return "".join(part if i % 2 else meant.sub(_unread, part) for i, part in enumerate(parts))


def _ours(part: str, tools: Collection[str]) -> str:
    """A thought as it is, and calls in the strict form by the names of tools."""
    try:
        calls = read_calls(part.removeprefix(TOOL_OPEN).removesuffix(TOOL_CLOSE))
    except ValueError:
        return part
    named = _named(calls, tools)
    return part if named == calls else "\n".join(call.render() for call in named)


def _named(calls: Sequence[ToolCall], tools: Collection[str]) -> list[ToolCall]:
    """Calls under the names that tools have, without spaces around them and a namespace (functions.) before."""
    found = []
    for call in calls:
        name = call.name.strip().rpartition(".")[2]
        found.append(replace(call, name=name) if name in tools and call.name not in tools else call)
    return found


@cache
def _like_calls(tools: frozenset[str]) -> re.Pattern[str]:
    """What is meant as a call in whatever form: a tool's name as calls have it, or a mark that only calls have."""
    one = f"(?:\\w+\\.)*(?:{'|'.join(map(re.escape, sorted(tools)))})"
    key = r"[\"\'](?:name|function|tool|tool_name|recipient_name)[\"\']\s*:\s*[\"\']\s*"
    named = rf"\b(?:to|function|name)=\"?{one}\b"
    return re.compile(rf"{key}{one}\s*[\"\']|{named}|(?<!\w){one}(?:\.call)?\(|{_MARKS}", re.IGNORECASE)


def _unread(found: re.Match[str]) -> str:
    return f"{TOOL_OPEN}\nno call that can be read: {found[0]}\n{TOOL_CLOSE}"


def _thoughts(reply: str) -> str:
    for opened, closed in THOUGHTS[1:]:
        before, found, rest = reply.partition(opened)
        if found and (not _PROSE.fullmatch(opened) or not before.strip()):
            thought, ended, after = rest.partition(closed)
            reply = f"{before}{THINK_OPEN}{thought}{THINK_CLOSE if ended else ''}{_thoughts(after)}"
    return _FRAMES.sub("", reply)


def _calls(text: str, tools: Collection[str]) -> str:
    """Every region of calls in the strict form, from left to right."""
    done, start, ended = [], 0, 0
    while found := min(
        ((opening.start(), n, opening) for n, form in enumerate(FORMS) if (opening := form.opens.search(text, start))),
        default=None,
    ):
        at, n, opening = found
        form, ends = FORMS[n], FORMS[n].body(text, opening.end())
        end, after = ends or (len(text), len(text))
        alone = not (text[:at] + text[after:]).strip()
        body = text[opening.end() : end]
        marked = bool(opening[0]) or not form.bare
        name = opening.groupdict().get("name") or ""
        written = None
        if marked or _by_itself(text[ended:at], text[after:]):
            written = _strict(form, name, body if ends else None, tools, alone=alone, marked=marked)
        if written is None:  # no call after all
            after = at + 1
            written = text[at:after]
        else:
            ended = after
            written = written or f"{TOOL_OPEN}\n{form.name}: {body.strip()}\n{TOOL_CLOSE}"
        done += [text[start:at], written]
        start = after
    return _LEFT.sub("", "".join([*done, text[start:]]))


def _by_itself(before: str, after: str) -> bool:
    """Whether nothing else stands on the lines of a call, and no text after it. Prose may quote one."""
    lone = not before.rpartition("\n")[2].strip(" \t;,")
    return lone and (not after.strip() or after.lstrip()[0] in "[{;,`<")


def _strict(
    form: Form, name: str, body: str | None, tools: Collection[str], *, alone: bool, marked: bool
) -> str | None:
    """A region in the strict form, empty where it cannot be read; None if it is no call after all.

    `body` is None where it has no end. What is `marked` is a call whatever it says, and what stands `alone` one of any
    tool.
    """
    try:
        calls = _named(form.read(name, body), tools) if body is not None else []
    except (ValueError, RecursionError, KeyError, TypeError):
        calls = []
    if not marked and not (calls and (alone or all(call.name in tools for call in calls))):
        return None
    return "\n".join(call.render() for call in calls)
