"""Observations become token ids here and nowhere else, and what a model wrote becomes a reply.

The model's own chat template does the work. What templates disagree on is settled one way for all of them: no default
system prompt slips in, tools and tool results have a place in every template, and a conversation is built turn
by turn out of the very tokens that were sampled, so what is trained on is what was seen. For SmolLM2:

    Observation(({"role": "user", "content": "Hello."},))
    -> <|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import takewhile
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from holdfast.chat import (
    TAGS,
    THINK_CLOSE,
    TOOL_CLOSE,
    TOOL_OPEN,
    Message,
    Observation,
    ToolCall,
    ToolSpec,
    parse_reply,
)
from holdfast.policy.forms import THOUGHTS, strict
from holdfast.policy.template import MARK, Rendered, Template, common, function, written

RESULT_OPEN, RESULT_CLOSE = "<tool_response>", "</tool_response>"
_USER: Rendered = {"role": "user", "content": "Hello."}
_REPLY: Rendered = {"role": "assistant", "content": MARK}
_TOOL = ToolSpec(MARK, "A tool.", {"type": "object", "properties": {"to": {"type": "string"}, "n": {"type": "integer"}}})
_CALL = ToolCall(MARK, {"to": "It's \"so\" - 1, 2: [a] {b}\n<c>", "n": 3})
"""What a form of calls must carry to be of use: a mail has quotes and line ends."""


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


class Renderer:
    """Renders for one tokenizer.

    - Tools are handed to a template whose form of calls can be read back: what it writes for a call, with quotes and
      line ends in its arguments, is that call again in `forms.strict`. Else the system message ends with `tools_text`.
    - A tool's message keeps its role where the template has it for the calls before; else it is a user message of
      `result_text`.
    - Where the template would put in a system prompt of its own, an empty system message takes the place.
    - Where the template refuses a system message, its text opens the first user message.
    - Where it moves system message and tools to the last user message, they stay in the first.
    - User and system messages that follow one of their own kind join it, with an empty line between them.
    - `thinking` is "off", "on" or "as_is", at every turn alike, for templates that know it.

    Attributes:
        tokenizer: as given.
        end_id: the token that ends an assistant's turn in this template.
        end_ids: every token at which a reply stops: `end_id`, the tokenizer's end of sequence, and `ends`, which a
            checkpoint's generation_config names.
        opened: what opens a thought, where a prompt ends with that; empty where none is open.

    Raises ValueError for a tokenizer without a chat template, for a template that ends an assistant's turn with
    no special token, as a reply could then never end, and for one that ends only the last.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, ends: Collection[int] = (), thinking: str = "off") -> None:
        self.tokenizer = tokenizer
        self._template = Template(tokenizer, thinking)
        text, attempt = self._template.text, self._template.attempt
        bare, empty = text([_USER]), attempt([{"role": "system", "content": ""}, _USER])
        self._takes_system = MARK in attempt([{"role": "system", "content": MARK}, _USER])
        self._injects = self._takes_system and len(empty) < len(bare)
        self._end, self._close = self._find_end()
        self.end_id: int = tokenizer.convert_tokens_to_ids(self._end)
        self.end_ids: set[int] = {self.end_id, *ends} | ({tokenizer.eos_token_id} - {None})
        self._prompt = text([_USER], generate=True)
        self._thought, self.opened = self._find_thought(bare)
        self._lead = self._find_lead()
        self._arguments = next((form for form in (dict, written) if self._carries_calls(form)), None)
        self._strict = self._arguments is not None and self._ending([_USER, self._calling("", [_CALL])]).strip() == (
            _CALL.render()
        )
        self._results: Literal["alone", "to calls", "as text"] = "as text"
        self._moves = not self._keeps_opening()
        self._results = self._find_results()

    def prompt_ids(self, observation: Observation) -> list[int]:
        """The ids a model sees before its next reply.

        Raises ValueError where the chat template refuses the messages.
        """
        messages, last = observation.messages, _last_reply(observation.messages)
        if last is None:
            opening = self._opening(messages, observation.tools)
            return self._template.ids(self._template.text(opening, self._shown(observation.tools), generate=True))
        before = Observation(messages[:last], observation.tools)
        return [
            *self.prompt_ids(before),
            *self._reply_ids(messages[last]["content"], called=bool(observation.tools)),
            *self.turn_ids(observation),
        ]

    def turn_ids(self, observation: Observation) -> list[int]:
        """The ids between the `end_id` of the last reply in `observation` and the reply to come.

        The prompt of the second turn is the prompt of the first, the ids that were sampled, `end_id` if
        the sample does not end with it, and these.
        """
        return self._template.ids(self._turn_text(observation), before=self._close)

    def _turn_text(self, observation: Observation) -> str:
        messages, last = observation.messages, _last_reply(observation.messages)
        assert last is not None
        opening = [_USER] if self._moves else self._opening(messages[:last], observation.tools)
        reply, *later = self._fitted(messages[last:])
        reply = {**reply, "content": MARK}
        if "tool_calls" in reply:  # with calls, some templates leave out what else is said
            reply = self._calling(MARK, [ToolCall(MARK, {})] * len(reply["tool_calls"]))
        shown = () if self._moves else self._shown(observation.tools)
        rendered = self._template.text(_joined([*opening, reply, *later]), shown, generate=True)
        _, _, after = rendered.rpartition(MARK)
        return after.partition(self._close)[2]

    def training_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> tuple[list[int], list[int]]:
        """(ids, mask) of a whole chat; mask is 1 on what the assistant says, its end-of-turn tokens included.

        The prompt of any turn, as `prompt_ids` has it, is a prefix of the ids. Raises ValueError for a chat that does
        not end with the assistant.
        """
        if not messages or messages[-1]["role"] != "assistant":
            raise ValueError("a chat to train on must end with a message of the assistant")
        ids: list[int] = []
        mask: list[int] = []
        for n, message in enumerate(messages):
            if message["role"] == "assistant":
                seen = Observation(tuple(messages[:n]), tuple(tools))
                given = self.turn_ids(seen) if ids else self.prompt_ids(seen)
                said = self._reply_ids(message["content"], called=bool(tools))
                ids += given + said
                mask += [0] * len(given) + [1] * len(said)
        return ids, mask

    def document_ids(self, text: str) -> list[int]:
        """The ids of a plain document: what the tokenizer puts around a text by itself, then an end of sequence."""
        ids: list[int] = self.tokenizer.encode(text)
        eos = self.tokenizer.eos_token_id
        return ids if eos is None or ids[-1:] == [eos] else [*ids, eos]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, nothing tidied or left out; special tokens appear by name."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def read(self, wrote: str, tools: Sequence[ToolSpec]) -> str:
        """What a model wrote as a reply: thoughts and calls in the form that `parse_reply` reads.

        `tools` are those it was offered. A reply to a prompt that opened a thought begins inside it.
        """
        lead = "" if self.opened else self._lead.strip()
        said = wrote.lstrip().removeprefix(lead) if lead and wrote.lstrip().startswith(lead) else wrote
        return strict(said, {tool.name for tool in tools}, self.opened)

    def _reply_ids(self, content: str, *, called: bool) -> list[int]:
        """The ids of a reply in this family's form, the token that ends it included."""
        ids = self._template.ids(self._written(content, called), before=self._prompt)
        return ids if ids and ids[-1] in self.end_ids else [*ids, self.end_id]

    def _written(self, content: str, called: bool) -> str:
        """A reply as this family writes it, from where a prompt ends to before the reply's end."""
        reply, plain = parse_reply(content), self._template.plain
        calls = reply.calls if called and self._arguments and not self._strict else ()
        if reply.malformed or not (calls or reply.thought):
            return self._lead + self._quoted(content)
        lead, text = self._lead, reply.text
        if reply.thought:
            opens, closes = self._thought
            lead = f"{'' if self.opened else opens}\n{plain(reply.thought)}\n{closes}\n\n"
        if not calls:
            _, _, rest = content.rpartition(THINK_CLOSE)
            return lead + self._quoted(rest).lstrip()
        own = self._ending([_USER, self._calling(text, calls)])
        if plain(text) not in own:  # in some templates a reply has a text or calls
            own = plain(text) + self._ending([_USER, self._calling("", calls)])
        return lead + own.removeprefix(self._lead) if reply.thought or self.opened else own

    def _quoted(self, content: str) -> str:
        """A reply's text as it stands, control tokens broken but for the tags that are this family's own."""
        parts = TAGS.split(content) if self._strict else [content]
        return "".join(part if n % 2 else self._template.plain(part) for n, part in enumerate(parts))

    def _ending(self, messages: Sequence[Rendered]) -> str:
        """The last reply of a chat as the template writes it, without what ends it."""
        rendered = self._template.text(messages)
        own = rendered[len(common(rendered, self._prompt)) :].rstrip()
        return own.removesuffix(self._end).removesuffix(self._close)

    def _find_end(self) -> tuple[str, str]:
        """The tokens that end the last reply of a chat, and one in the middle: as a rule the same."""
        special, name = self._template.first_special, self._template.name
        last, followed = self._template.text([_USER, _REPLY]), self._template.text([_USER, _REPLY, _USER])
        if MARK not in last:
            raise ValueError(f"{name}: the chat template does not write out what the assistant says")
        end, close = special(last.rpartition(MARK)[2]), special(followed.rpartition(MARK)[2])
        if not end:
            raise ValueError(
                f"{name}: the tokenizer has no end-of-turn token: "
                "its chat template must end an assistant's turn with a special token such as <|im_end|>"
            )
        asked = self._template.text([{"role": "user", "content": MARK}, {"role": "assistant", "content": "Yes."}])
        if close not in (end, special(asked.partition(MARK)[2])):
            raise ValueError(f"{name}: the chat template ends an assistant's turn with {end} only if it is the last")
        return end, close

    def _find_thought(self, bare: str) -> tuple[tuple[str, str], str]:
        """The tags of a thought, and the one that a prompt leaves open, if it does."""
        header = self._prompt[len(common(self._prompt, bare)) :]
        for opens, closes in THOUGHTS:
            _, found, after = header.rpartition(opens.rstrip())
            if found and closes not in after:
                return (opens, closes), opens
        known = (tags for tags in THOUGHTS if tags[0].rstrip() in self._template.source)
        return next(known, THOUGHTS[0]), ""

    def _find_lead(self) -> str:
        """What stands between a prompt and the text of a reply without a thought."""
        if self.opened:
            return f"{'' if self._prompt.endswith(chr(10)) else chr(10)}{self._thought[1]}\n\n"
        rendered = self._template.text([_USER, _REPLY])
        start = len(common(rendered, self._prompt))
        return "" if self._prompt[start:] else rendered[start : rendered.index(MARK)]

    def _carries_calls(self, form: Callable[[Any], Any]) -> bool:
        """Whether tools are shown, and calls that the template writes from arguments in `form` can be read back."""
        self._arguments = form
        try:
            own = self._ending([_USER, self._calling("", [_CALL])])
        except ValueError:
            return False
        shown = MARK in self._template.attempt([_USER], [_TOOL])
        return shown and parse_reply(strict(own.removeprefix(self._lead), {MARK})).calls == (_CALL,)

    def _find_results(self) -> Literal["alone", "to calls", "as text"]:
        """What a tool's message takes in this template: its role alone, a reply with calls before it, or another role."""
        source = self._template.source
        if not ("'tool'" in source or '"tool"' in source or "<|tool|>" in self.tokenizer.get_vocab()):
            return "as text"
        said = "HoldfastToolSaidThis"
        call: Message = {"role": "assistant", "content": ToolCall(_TOOL.name, {}).render()}
        chat = Observation(({"role": "user", "content": "Hello."}, call, {"role": "tool", "content": said}), (_TOOL,))
        for self._results in ("alone", "to calls") if self._arguments else ("alone",):
            try:
                if said in self._turn_text(chat):
                    return self._results
            except ValueError:
                continue
        return "as text"

    def _keeps_opening(self) -> bool:
        """Whether a chat begins with the same text whatever follows it."""
        opening = self._opening([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}], [_TOOL])
        shown = self._shown([_TOOL])
        longer = self._template.text([*opening, _REPLY, _USER], shown)
        return any(longer.startswith(self._template.text(opening, shown, generate=asked)) for asked in (False, True))

    def _shown(self, tools: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
        """The tools that the template is to render itself."""
        return tools if self._arguments else ()

    def _opening(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
        """The beginning of a chat in the form this template takes, with tools that it does not render itself."""
        fitted = self._fitted(messages)
        if tools and not self._arguments:
            own = fitted.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
            text = tools_text(tools)
            role = "system" if self._takes_system else "user"
            fitted.insert(0, {"role": role, "content": f"{own}\n\n{text}" if own else text})
        if self._injects and (not fitted or fitted[0]["role"] != "system"):
            fitted.insert(0, {"role": "system", "content": ""})
        return _joined(fitted)

    def _fitted(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages in the roles that this template has, with the calls that its tool results answer to."""
        fitted: list[dict[str, Any]] = []
        calls: Iterator[tuple[int, ToolCall]] = iter(())
        for n, message in enumerate(messages):
            role, content = message["role"], message["content"]
            if role == "assistant":
                reply = parse_reply(content)
                answers = sum(1 for _ in takewhile(lambda later: later["role"] == "tool", messages[n + 1 :]))
                own = reply.calls if self._results == "to calls" and answers == len(reply.calls) else ()
                calls = iter(enumerate(own))
                fitted.append(self._calling(reply.text, own) if own else {"role": role, "content": content})
            elif role == "tool":
                answered = next(calls, None)
                if answered:
                    fitted.append(_result(content, answered[1].name, answered[0]))
                elif self._results == "alone":
                    fitted.append({"role": "tool", "content": content})
                else:
                    fitted.append({"role": "user", "content": result_text(content)})
            else:
                fitted.append({"role": role if self._takes_system else "user", "content": content})
        return fitted

    def _calling(self, text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """A reply with calls as templates take it."""
        assert self._arguments is not None
        rows = [{"name": call.name, "arguments": self._arguments(call.arguments)} for call in calls]
        named = [{"type": "function", "id": _id(n), "function": row} for n, row in enumerate(rows)]
        return {"role": "assistant", "content": text, "tool_calls": named}


def _result(content: str, name: str, n: int) -> dict[str, Any]:
    """The result of the n-th call of a reply as templates take it."""
    return {"role": "tool", "content": content, "name": name, "tool_call_id": _id(n)}


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


def _last_reply(messages: Sequence[Message]) -> int | None:
    replies = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    return replies[-1] if replies else None
