"""A tokenizer's chat template: messages to text, and text to token ids.

What templates disagree on is found out by asking them: each is rendered a few times at load, around a mark that no
template knows. Two things are held still. Templates that print a date print the same one on any day. And a control
token that somebody wrote into a message, such as <|im_end|>, is ordinary text there, and opens or ends nothing.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase

from holdfast.chat import ToolSpec
from holdfast.config.checks import one_of
from holdfast.hub import in_one_line

Rendered = Mapping[str, Any]
"""A message as templates take it: role, content, and for an assistant tool_calls and reasoning_content."""
MARK = "HoldfastReplyGoesHere"
"""Stands for a text while its surroundings are rendered; plain letters, so that no template strips or escapes it."""
_NOON = datetime(2025, 1, 1, 12)
_CODES = [f"%{flag}{code}" for flag in ("", "-", "_", "0", "^", "#") for code in string.ascii_letters]
# transformers lets no function of ours into a template: the macro takes the place of its own, which says today's date.
# Only a line's end after it leaves the template what it begins with: one that is trimmed, as after every block.
_FROZEN = (
    "{%- macro strftime_now(format) -%}{%- set now = namespace(text=format.replace('%%', '\ufdd0')) -%}"
    f"{{%- for code, value in {[(code, _NOON.strftime(code)) for code in _CODES]} -%}}"
    "{%- set now.text = now.text.replace(code, value) -%}{%- endfor -%}"
    "{{- now.text.replace('\ufdd0', '%') -}}{%- endmacro %}\n"
)
THINKING: dict[str, dict[str, bool]] = {
    "off": {"enable_thinking": False, "thinking": False},
    "on": {"enable_thinking": True, "thinking": True},
    "as_is": {},
}
"""What templates are told, by setting: most know the first name, Granite and DeepSeek the second."""
SETTING, ROOM = "holdfast_thinking", "holdfast_thought_tokens"
"""Under these names a checkpoint's tokenizer_config.json has its setting, "off" where it has none, and how many tokens
a thought may have beside the answer, 0 where they share those of the reply."""
BREAK = "\ufdd0"
"""Breaks a control token in a message's text. It is no character, so no text has it."""


class Template:
    """Attributes:
    tokenizer: as given. name: what it is called in errors. special: its special tokens, by text.
    thinking: "off", "on" or "as_is", at every turn alike, for templates that know it. thought_tokens: of a thought.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.name = tokenizer.name_or_path or type(tokenizer).__name__
        if not tokenizer.chat_template:
            raise ValueError(f"{self.name}: the tokenizer has no chat template; Holdfast needs a chat model")
        self.thinking: str = tokenizer.init_kwargs.get(SETTING, "off")
        self.thought_tokens: int = tokenizer.init_kwargs.get(ROOM, 0)
        one_of(f"{self.name}: {SETTING} of tokenizer_config.json", self.thinking, tuple(THINKING))
        if not isinstance(self.thought_tokens, int) or self.thought_tokens < 0:
            raise ValueError(
                f"{self.name}: {ROOM} of tokenizer_config.json must be a whole number of 0 or more, "
                f"not {self.thought_tokens!r}"
            )
        self._settings = THINKING[self.thinking]
        added = tokenizer.added_tokens_decoder.values()
        self.special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        control = self.special | {t.content for t in added if t.content in self.source and not t.content.isspace()}
        self._control = _any_of(token for token in control if len(token) > 1)
        self._special = _any_of(self.special)
        self._newline = self._encode("\n")

    @property
    def source(self) -> str:
        """The text of the template, or of all where there are several."""
        templates = self.tokenizer.chat_template
        return "\n".join(templates.values()) if isinstance(templates, dict) else str(templates)

    @property
    def names_tools(self) -> bool:
        """Whether the template knows of a role for what tools say; some render any role that they are given."""
        source = self.source
        return "'tool'" in source or '"tool"' in source or "<|tool|>" in self.tokenizer.get_vocab()

    def frozen(self, tools: list[dict[str, Any]] | None) -> str:
        """The template for a chat with these tools, in which it is the same day on any day."""
        return _FROZEN + str(self.tokenizer.get_chat_template(tools=tools))

    def plain(self, text: str) -> str:
        """A message's text in which control tokens are broken; `ids` puts the pieces together again."""
        return self._control.sub(lambda token: token[0][0] + BREAK + token[0][1:], text.replace(BREAK, ""))

    def text(
        self, messages: Sequence[Rendered], tools: Sequence[ToolSpec] = (), *, generate: bool = False
    ) -> str:
        """The messages as the template renders them; of none, what stands before a reply that opens a chat.

        Raises ValueError in one line where it refuses them.
        """
        if not messages:
            return self._opened_by_a_reply(tools)
        quoted, shown = [self._quoted(message) for message in messages], [schema(tool) for tool in tools] or None
        with in_one_line(f"{self.name}: the chat template refuses the messages"):
            rendered: str = self.tokenizer.apply_chat_template(
                quoted,
                tools=shown,
                chat_template=self.frozen(shown),
                add_generation_prompt=generate,
                tokenize=False,
                date_string=_NOON.strftime("%d %b %Y"),
                **self._settings,
            )
        return rendered

    def _opened_by_a_reply(self, tools: Sequence[ToolSpec]) -> str:
        """What stands before a reply that opens a chat; templates look at the first message, so none are not asked."""
        user, reply = {"role": "user", "content": "Hello."}, {"role": "assistant", "content": MARK}
        prompt = self.text([user], generate=True)
        asked = common(prompt, self.text([user]))
        whole, opened = self.text([user, reply, user]), self.text([reply, user], tools)
        turns = whole.removeprefix(asked)
        if turns == whole or not opened.endswith(turns):
            raise ValueError(f"{self.name}: the chat template has no place for a reply that opens a chat")
        return opened.removesuffix(turns) + prompt.removeprefix(asked)

    def attempt(self, messages: Sequence[Rendered], tools: Sequence[ToolSpec] = (), *, generate: bool = False) -> str:
        """The rendering, or nothing where the template refuses."""
        try:
            return self.text(messages, tools, generate=generate)
        except ValueError:
            return ""

    def ids(self, text: str, before: str = "") -> list[int]:
        """The ids of rendered text where it follows `before`, whose ids it leaves as they are.

        A tokenizer may put a space before what it takes for the beginning of a text, so what goes before matters.
        """
        pieces = text.split(BREAK)
        found = self._following(pieces[0], self.tail(before)) if before else self._encode(pieces[0])
        for piece in pieces[1:]:
            found += self._following(piece, "\n")
        return found

    def tail(self, text: str) -> str:
        """The end of rendered text, from its last special token on."""
        ends = [token.start() for token in self._special.finditer(text)]
        return text[ends[-1] :] if ends else text

    def first_special(self, text: str) -> str:
        """The first special token in rendered text, empty where there is none."""
        found = self._special.search(text)
        return found[0] if found else ""

    def _following(self, piece: str, before: str) -> list[int]:
        head = self._newline if before == "\n" else self._encode(before)
        whole = self._encode(before + piece)
        if whole[: len(head)] == head:
            return whole[len(head) :]
        # What goes before joins it in a token: it is given as it is, so the piece begins a token of its own.
        return self._encode(piece) if before == "\n" else self._following(piece, "\n")

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _quoted(self, message: Rendered) -> dict[str, Any]:
        """A message with control tokens broken wherever somebody may have written one."""
        return {key: value if key == "role" else self._quote(value) for key, value in message.items()}

    def _quote(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.plain(value)
        if isinstance(value, Mapping):
            return {key: self._quote(inner) for key, inner in value.items()}
        return [self._quote(inner) for inner in value] if isinstance(value, list) else value


def schema(tool: ToolSpec) -> dict[str, Any]:
    """A tool as templates take it."""
    return {"type": "function", "function": function(tool)}


def function(tool: ToolSpec) -> dict[str, Any]:
    """A tool as one JSON object."""
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def common(one: str, other: str) -> str:
    """What two texts begin with in common."""
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def written(value: Any) -> str:
    """JSON as it is written in prompts."""
    return json.dumps(value, ensure_ascii=False)


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(filter(None, tokens), key=len, reverse=True))) or r"(?!)")
