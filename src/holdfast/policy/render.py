"""Observations become token ids here and nowhere else.

The model's own chat template does the work. What templates disagree on is settled one way for all of them: no default
system prompt slips in, tools and tool results have a place in every template, and a conversation is built turn
by turn out of the very tokens that were sampled, so what is trained on is what was seen. For SmolLM2:

    Observation(({"role": "user", "content": "Hello."},))
    -> <|im_start|>system\\n<|im_end|>\\n<|im_start|>user\\nHello.<|im_end|>\\n<|im_start|>assistant\\n
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from holdfast.chat import TOOL_CLOSE, TOOL_OPEN, Message, Observation, ToolSpec

RESULT_OPEN, RESULT_CLOSE = "<tool_response>", "</tool_response>"
# Stands for a reply while its surroundings are rendered; plain letters, so that no template strips or escapes it.
_MARK = "HoldfastReplyGoesHere"
# <tool_call>{"name": ..., "arguments" in a template's source, where quotes and line ends may be escaped: other
# models put other things between the same tags.
_CALL_FORM = re.compile(TOOL_OPEN + r'(?:\\n|\s)*\{\\?"name\\?"[^}]*\\?"arguments\\?"')
# Templates that print today's date would make prompts change overnight.
_DATE = "01 Jan 2025"


def tools_text(tools: Sequence[ToolSpec]) -> str:
    """How tools are described where a chat template does not show the <tool_call> form itself.

    The text goes to the end of the system message, after an empty line if that says something already.
    """
    lines = [
        "You can use tools. To use one, write",
        TOOL_OPEN,
        '{"name": <name of the tool>, "arguments": {<argument>: <value>}}',
        TOOL_CLOSE,
        "The tools, one JSON object per line:",
    ]
    return "\n".join([*lines, *(json.dumps(_function(tool), ensure_ascii=False) for tool in tools)])


def result_text(content: str) -> str:
    """How a tool's result is written in a user message, where a chat template has no tool role."""
    return f"{RESULT_OPEN}\n{content}\n{RESULT_CLOSE}"


class Renderer:
    """Renders for one tokenizer.

    - Tools are handed to a template that shows the <tool_call> form with JSON in it; else the system message ends
      with `tools_text`.
    - A tool's message keeps its role where the template knows it; else it is a user message of `result_text`.
    - Where the template would put in a system prompt of its own, an empty system message takes the place.
    - Where the template refuses a system message, its text opens the first user message.
    - User and system messages that follow one of their own kind join it, with an empty line between them.
    - Thinking is switched off where the template knows `enable_thinking`, at every turn alike.

    Attributes:
        tokenizer: as given.
        end_id: the token that ends an assistant's turn in this template.
        end_ids: every token at which a reply stops: `end_id` and the tokenizer's end-of-sequence token.

    Raises ValueError for a tokenizer without a chat template, and for a template that ends an assistant's turn with
    no special token: a reply could then never end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._name = tokenizer.name_or_path or type(tokenizer).__name__
        if not tokenizer.chat_template:
            raise ValueError(f"{self._name}: the tokenizer has no chat template; Holdfast needs a chat model")
        user: Message = {"role": "user", "content": "Hello."}
        bare = self._template([user], None)
        with_system = self._attempt([{"role": "system", "content": _MARK}, user])
        self._takes_system = _MARK in with_system
        empty = self._attempt([{"role": "system", "content": ""}, user])
        self._injects = self._takes_system and len(empty) < len(bare)
        self._native_tools = self._teaches_calls(user)
        self._native_results = self._knows_tool_role(user)
        self._end_text = self._find_end(user)
        self.end_id: int = tokenizer.convert_tokens_to_ids(self._end_text)
        self.end_ids: set[int] = {self.end_id} | ({tokenizer.eos_token_id} - {None})

    def prompt_ids(self, observation: Observation) -> list[int]:
        """The ids a model sees before its next reply.

        Raises ValueError where the chat template refuses the messages.
        """
        messages, last = observation.messages, _last_reply(observation.messages)
        if last is None:
            fitted, schemas = self._fit(observation)
            return self._encode(self._template(fitted, schemas, generate=True))
        before = self.prompt_ids(Observation(messages[:last], observation.tools))
        return [*before, *self._encode(messages[last]["content"]), self.end_id, *self.turn_ids(observation)]

    def turn_ids(self, observation: Observation) -> list[int]:
        """The ids between the `end_id` of the last reply in `observation` and the reply to come.

        The prompt of the second turn is the prompt of the first, the ids that were sampled, `end_id` if
        the sample does not end with it, and these.
        """
        fitted, schemas = self._fit(observation)
        last = _last_reply(fitted)
        assert last is not None
        fitted[last] = {"role": "assistant", "content": _MARK}
        rendered = self._template(fitted, schemas, generate=True)
        _, _, after = rendered.rpartition(_MARK)
        return self._encode(after.partition(self._end_text)[2])

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
                said = [*self._encode(message["content"]), self.end_id]
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

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _template(
        self, messages: Sequence[Message], schemas: list[dict[str, Any]] | None, *, generate: bool = False
    ) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages),
                tools=schemas,
                add_generation_prompt=generate,
                tokenize=False,
                enable_thinking=False,
                date_string=_DATE,
            )
        except TemplateError as error:
            raise ValueError(f"{self._name}: the chat template refuses the messages: {error}") from None
        return text

    def _attempt(self, messages: Sequence[Message], schemas: list[dict[str, Any]] | None = None) -> str:
        """The rendering, or nothing where the template refuses."""
        try:
            return self._template(messages, schemas)
        except ValueError:
            return ""

    def _teaches_calls(self, user: Message) -> bool:
        probe = ToolSpec(_MARK, "A tool.", {"type": "object", "properties": {}})
        return bool(_CALL_FORM.search(self._source())) and _MARK in self._attempt([user], [_schema(probe)])

    def _knows_tool_role(self, user: Message) -> bool:
        source = self._source()
        named = "'tool'" in source or '"tool"' in source or "<|tool|>" in self.tokenizer.get_vocab()
        chat: list[Message] = [user, {"role": "assistant", "content": "Yes."}, {"role": "tool", "content": _MARK}]
        return named and _MARK in self._attempt(chat)

    def _source(self) -> str:
        templates = self.tokenizer.chat_template
        return "\n".join(templates.values()) if isinstance(templates, dict) else str(templates)

    def _find_end(self, user: Message) -> str:
        reply: Message = {"role": "assistant", "content": _MARK}
        last, followed = self._template([user, reply], None), self._template([user, reply, user], None)
        if _MARK not in last:
            raise ValueError(f"{self._name}: the chat template does not write out what the assistant says")
        special = {id_ for id_, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special.update(self.tokenizer.all_special_ids)
        ends = [id_ for id_ in self._encode(last.rpartition(_MARK)[2]) if id_ in special]
        if not ends:
            raise ValueError(
                f"{self._name}: the tokenizer has no end-of-turn token: "
                "its chat template must end an assistant's turn with a special token such as <|im_end|>"
            )
        end = str(self.tokenizer.convert_ids_to_tokens(ends[0]))
        if end not in followed.rpartition(_MARK)[2]:
            raise ValueError(
                f"{self._name}: the chat template ends an assistant's turn with {end} only if it is the last"
            )
        return end

    def _fit(self, observation: Observation) -> tuple[list[Message], list[dict[str, Any]] | None]:
        """The messages in the form this template takes, and the tools it is to render itself."""
        messages: list[Message] = [{**message} for message in observation.messages]
        schemas = None
        if observation.tools and self._native_tools:
            schemas = [_schema(tool) for tool in observation.tools]
        elif observation.tools:
            own = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else ""
            text = tools_text(observation.tools)
            messages.insert(0, {"role": "system", "content": f"{own}\n\n{text}" if own else text})
        if self._injects and (not messages or messages[0]["role"] != "system"):
            messages.insert(0, {"role": "system", "content": ""})
        for message in messages:
            if message["role"] == "tool" and not self._native_results:
                message["role"], message["content"] = "user", result_text(message["content"])
            elif message["role"] == "system" and not self._takes_system:
                message["role"] = "user"
        return _joined(messages), schemas


def _joined(messages: Sequence[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] and message["role"] in ("user", "system"):
            joined[-1]["content"] += "\n\n" + message["content"]
        else:
            joined.append(message)
    return joined


def _last_reply(messages: Sequence[Message]) -> int | None:
    replies = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    return replies[-1] if replies else None


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _schema(tool: ToolSpec) -> dict[str, Any]:
    return {"type": "function", "function": _function(tool)}
