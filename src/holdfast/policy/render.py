"""Observations become token ids here and nowhere else, and what a model wrote becomes a reply.

The model's own chat template does the work (`family.py`, `template.py`). No default system prompt slips in, tools and
tool results have a place in every template, and a conversation is built turn by turn out of the very tokens that were
sampled, so what is trained on is what was seen. For SmolLM2:

    Observation(({"role": "user", "content": "Hello."},))
    -> <|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import PreTrainedTokenizerBase

from holdfast.chat import Message, Observation, ToolSpec
from holdfast.policy.family import Family, last_reply
from holdfast.policy.template import Template


class Renderer:
    """Renders for one tokenizer.

    A prompt is what the tokenizer's own rendering is, with these differences: see `family.py`; control tokens in a
    message are text; a date is the same on any day; and what was said before stays as it was seen, where templates
    leave out thoughts or end a reply in another way once it is no more the last.

    Attributes:
        tokenizer: as given.
        family: how its template talks.
        end_id: the token that ends an assistant's turn in this template.
        end_ids: every token at which a reply stops: `end_id`, the tokenizer's end of sequence, and `ends`, which a
            checkpoint's generation_config names.

    Raises ValueError for a tokenizer without a chat template, and what `Family` does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, ends: Collection[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.template = Template(tokenizer)
        self.family = Family(self.template)
        self.end_id: int = tokenizer.convert_tokens_to_ids(self.family.end)
        self.end_ids: set[int] = {self.end_id, *ends} | ({tokenizer.eos_token_id} - {None})

    def prompt_ids(self, observation: Observation) -> list[int]:
        """The ids a model sees before its next reply.

        Raises ValueError where the chat template refuses the messages.
        """
        messages, last = observation.messages, last_reply(observation.messages)
        if last is None:
            return self.template.ids(self.family.opening(messages, observation.tools))
        return [
            *self.prompt_ids(Observation(messages[:last], observation.tools)),
            *self._reply_ids(messages[last]["content"], called=bool(observation.tools)),
            *self.turn_ids(observation),
        ]

    def turn_ids(self, observation: Observation) -> list[int]:
        """The ids between the end of the last reply in `observation` and the reply to come.

        The prompt of the second turn is the prompt of the first, the ids that were sampled, `end_id` if the sample was
        cut, and these. Whatever a sample ended with stands for the end: Llama's <|eom_id|> after a call.
        """
        return self.template.ids(self.family.turn(observation), before=self.family.close)

    def training_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> tuple[list[int], list[int]]:
        """(ids, mask) of a whole chat; mask is 1 on what the assistant says, its end-of-turn tokens included.

        The prompt of any turn, as `prompt_ids` has it, is a prefix of the ids. Replies are in the family's own form:
        what is taught is what is sampled and read. Raises ValueError for a chat that does not end with the assistant.
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
        return self.family.read(wrote, tools)

    def _reply_ids(self, content: str, *, called: bool) -> list[int]:
        """The ids of a reply in this family's form, the token that ends it included."""
        ids = self.template.ids(self.family.reply(content, called=called), before=self.family.prompt)
        return ids if ids and ids[-1] in self.end_ids else [*ids, self.end_id]
