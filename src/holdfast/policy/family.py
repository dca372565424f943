"""How a family of models talks: what its chat template does, found out by asking it, and chats in that way as text.

    Family(Template(tokenizer)).calls   ->   "own" where a call in the family's own form can be read back, else "ours"

Templates disagree on nearly everything. What they disagree on is settled one way for all of them:

- Tools are handed to a template whose form of calls can be read back: what it writes for a call, with quotes and line
  ends in its arguments, is that call again in `forms.strict`. Else the system message ends with `tools_text`.
- A tool's message keeps its role where the template has a place for it; else it is a user message of `result_text`.
- Where the template would put in a system prompt of its own, an empty system message takes the place.
- Where the template refuses a system message, its text opens the first user message.
- Where it moves system message and tools to the last user message, they stay in the first.
- User and system messages that follow one of their own kind join it, with an empty line between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Literal

from holdfast.chat import (
    TAGS,
    THINK_CLOSE,
    TOOL_CLOSE,
    TOOL_OPEN,
    Message,
    Observation,
    Reply,
    ToolCall,
    ToolSpec,
    parse_reply,
)
from holdfast.policy.forms import THOUGHTS, strict
from holdfast.policy.template import BREAK, MARK, Rendered, Template, common, function, written

RESULT_OPEN, RESULT_CLOSE = "<tool_response>", "</tool_response>"
Results = Literal["alone", "to calls", "as text"]
_USER: Rendered = {"role": "user", "content": "Hello."}
_REPLY: Rendered = {"role": "assistant", "content": MARK}
_SAID = "HoldfastToolSaidThis"
_TAKES = {"to": {"type": "string"}, "n": {"type": "integer"}}
_TOOL = ToolSpec(MARK, "A tool.", {"type": "object", "properties": _TAKES})
_CALL = ToolCall(MARK, {"to": "It's \"so\" - 1, 2: [a] {b}\n<c>", "n": 3})
"""What a form of calls must carry to be of use: a mail has quotes and line ends."""
_ARGUMENTS: tuple[Callable[[dict[str, Any]], Any], ...] = (dict, written)
"""As an object or, where a template takes no other, as its JSON."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Where templates look for the thought of a reply."""


def tools_text(tools: Sequence[ToolSpec]) -> str:
    """How tools are described where a chat template has no form of calls that can be read back.

    The text goes to the end of the system message, after an empty line if that says something already.
    """
    lines = [
        "You can use tools. To use one, write",
        TOOL_OPEN,
        '{"name": <name of the tool>, "arguments": {<argument>: <value>}}',
        TOOL_CLOSE,
        "The tools, one JSON object per line:",
    ]
    return "\n".join([*lines, *(written(function(tool)) for tool in tools)])


def result_text(content: str) -> str:
    """How a tool's result is written in a user message, where a chat template has no tool role."""
    return f"{RESULT_OPEN}\n{content}\n{RESULT_CLOSE}"


class Family:
    """Chats as a template has them.

    Attributes:
        template: as given.
        takes_system: whether there is a system role. injects: whether a chat without one gets the template's own.
        end: the token that ends a reply. close: the one that ends it once a turn follows, as a rule the same.
        prompt: a short prompt. lead: what stands between a prompt and the text of a reply without a thought.
        thought: the tags of a thought. opened: the first of them, where a prompt ends inside a thought; else empty.
        calls: "own" where the template's own form of calls can be read back, else "ours". strict: whether the own form
            is ours.
        results: where a tool's message stands: "alone" in its role, in its role "to calls" of the reply before, or "as
            text" of the user.
        moves: whether the template moves what opens a chat to its last user message.

    Raises ValueError for a template that ends an assistant's turn with no special token, as a reply could then never
    end, for one that ends only the last, and for one that does not write out what the user and the assistant say.
    """

    def __init__(self, template: Template) -> None:
        self.template = template
        text, attempt = template.text, template.attempt
        bare, empty = text([_USER]), attempt([{"role": "system", "content": ""}, _USER])
        self.takes_system = MARK in attempt([{"role": "system", "content": MARK}, _USER])
        self.injects = self.takes_system and len(empty) < len(bare)
        self.end, self.close = self._find_end()
        self.prompt = text([_USER], generate=True)
        self._header = self.prompt[len(common(self.prompt, bare)) :]
        self.thought, self.opened = self._find_thought()
        self.lead = self._find_lead()
        self._arguments: Callable[[dict[str, Any]], Any] | None = None
        self._arguments = next((form for form in _ARGUMENTS if self._carries_calls(form)), None)
        self.calls: Literal["own", "ours"] = "own" if self._arguments else "ours"
        self.strict = self._arguments is not None and (
            self._ending([_USER, self.calling("", [_CALL])]).strip() == _CALL.render()
        )
        self.results: Results = "as text"
        self.moves = not self._keeps_opening()
        self.results = self._find_results()

    def opening(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """A chat without a reply of the assistant, up to where the first begins."""
        return self.template.text(self.opening_messages(messages, tools), self.shown(tools), generate=True)

    def turn(self, observation: Observation) -> str:
        """What stands between the end of the last reply in a chat and the next."""
        messages, last = observation.messages, last_reply(observation.messages)
        assert last is not None
        opening = [_USER] if self.moves else self.opening_messages(messages[:last], observation.tools)
        reply, *later = self._fitted(messages[last:])
        reply = {**reply, "content": MARK}
        if "tool_calls" in reply:  # with calls, some templates leave out what else is said
            reply = self.calling(MARK, [ToolCall(MARK, {})] * len(reply["tool_calls"]))
        shown = () if self.moves else self.shown(observation.tools)
        rendered = self.template.text(_joined([*opening, reply, *later]), shown, generate=True)
        _, _, after = rendered.rpartition(MARK)
        return after.partition(self.close)[2]

    def reply(self, content: str, *, called: bool) -> str:
        """A reply as this family writes it, from where a prompt ends to before the reply's end.

        `called` says whether there were tools to call.
        """
        reply, plain = parse_reply(content), self.template.plain
        calls = reply.calls if called and self.calls == "own" and not self.strict else ()
        if reply.malformed or not (calls or reply.thought):
            return self.lead + self._quoted(content)
        if (own := self._asked(reply, calls)) is not None:
            return own
        own = self._ending([_USER, self.calling("", calls)]) if calls else ""
        opens, closes = self.thought
        if self.lead and not self.opened and (closes == self.close or not reply.thought):
            # Every part is a message of its own.
            parts = [opens + plain(reply.thought)] * bool(reply.thought)
            parts += [self.lead + plain(reply.text)] * bool(reply.text or not own)
            return f"{self.close}{self._header}".join([*parts, *[own] * bool(own)])
        lead = self.lead
        if reply.thought:
            lead = f"{'' if self.opened else opens.rstrip()}\n{plain(reply.thought)}\n{closes}\n\n"
        if not calls:
            _, _, rest = content.rpartition(THINK_CLOSE)
            return lead + self._quoted(rest).lstrip()
        apart = "\n" if reply.text and own else ""
        return f"{lead}{plain(reply.text)}{apart}{own.removeprefix(self.lead)}"

    def _asked(self, reply: Reply, calls: Sequence[ToolCall]) -> str | None:
        """The reply as the template writes it; None where it leaves something out, or takes a text for a thought."""
        said = self.calling(reply.text, calls) if calls else {"role": "assistant", "content": reply.text}
        said |= dict.fromkeys(_THOUGHTS, reply.thought) if reply.thought else {}
        rendered = self.template.attempt([_USER, said])
        own = rendered[len(self.prompt) :].rstrip().removesuffix(self.end).removesuffix(self.close)
        back = parse_reply(self.read(own.replace(BREAK, ""), [ToolSpec(call.name, "", {}) for call in reply.calls]))
        kept = (back.thought, back.text, back.calls) == (reply.thought, reply.text, reply.calls)
        return own if rendered.startswith(self.prompt) and kept else None

    def read(self, wrote: str, tools: Sequence[ToolSpec]) -> str:
        """What a model wrote, with thoughts and calls in the form that `parse_reply` reads. `tools` were on offer."""
        lead = "" if self.opened else self.lead.strip()
        said = wrote.lstrip().removeprefix(lead) if lead and wrote.lstrip().startswith(lead) else wrote
        return strict(said, {tool.name for tool in tools}, self.opened)

    def shown(self, tools: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
        """The tools that the template is to render itself."""
        return tools if self._arguments else ()

    def opening_messages(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
        """The beginning of a chat in the form this template takes, with tools that it does not render itself."""
        fitted = self._fitted(messages)
        if tools and not self._arguments:
            own = fitted.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
            text = tools_text(tools)
            role = "system" if self.takes_system else "user"
            fitted.insert(0, {"role": role, "content": f"{own}\n\n{text}" if own else text})
        if self.injects and (not fitted or fitted[0]["role"] != "system"):
            fitted.insert(0, {"role": "system", "content": ""})
        return _joined(fitted)

    def calling(self, text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """A reply with calls as templates take it."""
        assert self._arguments is not None
        rows = [{"name": call.name, "arguments": self._arguments(call.arguments)} for call in calls]
        named = [{"type": "function", "id": _id(n), "function": row} for n, row in enumerate(rows)]
        return {"role": "assistant", "content": text, "tool_calls": named}

    def _fitted(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages in the roles that this template has, with the calls that its tool results answer to."""
        fitted: list[dict[str, Any]] = []
        calls: Iterator[tuple[int, ToolCall]] = iter(())
        for n, message in enumerate(messages):
            role, content = message["role"], message["content"]
            if role == "assistant":
                reply = parse_reply(content)
                answers = sum(1 for _ in takewhile(lambda later: later["role"] == "tool", messages[n + 1 :]))
                own = reply.calls if self.results == "to calls" and answers == len(reply.calls) else ()
                calls = iter(enumerate(own))
                fitted.append(self.calling(reply.text, own) if own else {"role": role, "content": content})
            elif role == "tool":
                answered = next(calls, None)
                if answered:
                    called = {"name": answered[1].name, "tool_call_id": _id(answered[0])}
                    fitted.append({"role": "tool", "content": content, **called})
                elif self.results == "alone":
                    fitted.append({"role": "tool", "content": content})
                else:
                    fitted.append({"role": "user", "content": result_text(content)})
            else:
                fitted.append({"role": role if self.takes_system else "user", "content": content})
        return fitted

    def _quoted(self, content: str) -> str:
        """A reply's text as it stands, control tokens broken but for the tags that are this family's own."""
        parts = TAGS.split(content) if self.strict else [content]
        return "".join(part if n % 2 else self.template.plain(part) for n, part in enumerate(parts))

    def _ending(self, messages: Sequence[Rendered]) -> str:
        """The last reply of a chat as the template writes it, without what ends it."""
        rendered = self.template.text(messages)
        own = rendered[len(common(rendered, self.prompt)) :].rstrip()
        return own.removesuffix(self.end).removesuffix(self.close)

    def _find_end(self) -> tuple[str, str]:
        special, name = self.template.first_special, self.template.name
        last, followed = self.template.text([_USER, _REPLY]), self.template.text([_USER, _REPLY, _USER])
        if MARK not in last:
            raise ValueError(f"{name}: the chat template does not write out what the assistant says")
        end, close = special(last.rpartition(MARK)[2]), special(followed.rpartition(MARK)[2])
        if not end:
            raise ValueError(
                f"{name}: the tokenizer has no end-of-turn token: "
                "its chat template must end an assistant's turn with a special token such as <|im_end|>"
            )
        asked = self.template.text([{"role": "user", "content": MARK + end}, {"role": "assistant", "content": "Yes."}])
        if MARK + self.template.plain(end) not in asked:  # as parts of a list alone, or with escapes
            raise ValueError(f"{name}: the chat template does not write out what the user says as it stands")
        if close not in (end, special(asked.partition(MARK)[2])):
            raise ValueError(f"{name}: the chat template ends an assistant's turn with {end} only if it is the last")
        return end, close

    def _find_thought(self) -> tuple[tuple[str, str], str]:
        for opens, closes in THOUGHTS:
            _, found, after = self._header.rpartition(opens.rstrip())
            if found and closes not in after:
                return (opens, closes), opens
        known = (tags for tags in THOUGHTS if tags[0].rstrip() in self.template.source)
        return next(known, THOUGHTS[0]), ""

    def _find_lead(self) -> str:
        if self.opened:
            return f"{'' if self.prompt.endswith(chr(10)) else chr(10)}{self.thought[1]}\n\n"
        rendered = self.template.text([_USER, _REPLY])
        start = len(common(rendered, self.prompt))
        return "" if self.prompt[start:] else rendered[start : rendered.index(MARK)]

    def _carries_calls(self, form: Callable[[dict[str, Any]], Any]) -> bool:
        """Whether tools are shown, and calls that the template writes from arguments in `form` can be read back."""
        self._arguments = form
        try:
            own = self._ending([_USER, self.calling("", [_CALL])])
        except ValueError:
            return False
        shown = MARK in self.template.attempt([_USER], [_TOOL])
        return shown and parse_reply(strict(own.removeprefix(self.lead), {MARK})).calls == (_CALL,)

    def _keeps_opening(self) -> bool:
        """Whether a chat begins with the same text whatever follows it."""
        chat: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
        opening, shown = self.opening_messages(chat, [_TOOL]), self.shown([_TOOL])
        longer = self.template.text([*opening, _REPLY, _USER], shown)
        return any(longer.startswith(self.template.text(opening, shown, generate=asked)) for asked in (False, True))

    def _find_results(self) -> Results:
        if not self.template.names_tools:
            return "as text"
        call: Message = {"role": "assistant", "content": ToolCall(_TOOL.name, {}).render()}
        chat = Observation(({"role": "user", "content": "Hello."}, call, {"role": "tool", "content": _SAID}), (_TOOL,))
        tried: tuple[Results, ...] = ("alone", "to calls") if self._arguments else ("alone",)
        for results in tried:
            self.results = results
            try:
                if _SAID in self.turn(chat):
                    return results
            except ValueError:
                continue
        return "as text"


def last_reply(messages: Sequence[Message]) -> int | None:
    """The index of the assistant's last message; None where it has said nothing yet."""
    replies = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    return replies[-1] if replies else None


def _id(n: int) -> str:
    """Names a call. Mistral's templates ask for nine letters or digits."""
    return f"call{n:05d}"


def _joined(messages: Sequence[Rendered]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] and message["role"] in ("user", "system"):
            joined[-1]["content"] += "\n\n" + message["content"]
        else:
            joined.append({**message})
    return joined
