from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from families import families, family, of_trl
from holdfast.chat import Message, Observation, ToolSpec
from holdfast.policy.checkpoint import load
from holdfast.policy.family import tools_text
from holdfast.policy.render import Renderer

# SmolLM2-135M-Instruct's own (Apache-2.0): no place for tools, any role goes, and a system prompt slips in.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<bos>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|return|>"),
]

MAIL = ToolSpec("send_mail", "Send a mail.", {"type": "object", "properties": {"to": {"type": "string"}}})
MAIL_JSON = (
    '{"name": "send_mail", "description": "Send a mail.", '
    '"parameters": {"type": "object", "properties": {"to": {"type": "string"}}}}'
)
SYSTEM: Message = {"role": "system", "content": "You work for Ada."}
HELLO: Message = {"role": "user", "content": "Hello."}
CALL: Message = {
    "role": "assistant",
    "content": 'Yes.\n<tool_call>\n{"name": "send_mail", "arguments": {"to": "Bo"}}\n</tool_call>',
}
SENT: Message = {"role": "tool", "content": "Sent."}
NOTED: Message = {"role": "tool", "content": "Noted."}
THANKS: Message = {"role": "user", "content": "Thanks."}
DONE: Message = {"role": "assistant", "content": "Done."}

TOOLS_TEXT = f"""\
You can use tools. To use one, write
<tool_call>
{{"name": <name of the tool>, "arguments": {{<argument>: <value>}}}}
</tool_call>
The tools, one JSON object per line:
{MAIL_JSON}"""


@cache
def inner() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["Hello there, hello."], trainer)
    return tokenizer


def renderer(template: str, eos: str = "<|endoftext|>") -> Renderer:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner(), eos_token=eos, bos_token="<bos>")
    tokenizer.chat_template = template
    return Renderer(tokenizer)


def prompt(renderer: Renderer, *messages: Message, tools: tuple[ToolSpec, ...] = ()) -> str:
    return renderer.decode(renderer.prompt_ids(Observation(messages, tools)))


# Golden: the whole text a model sees, one family of models at a time.


def test_golden_pocket(checkpoint: Path) -> None:
    pocket = Renderer(load(checkpoint)[1])
    assert prompt(pocket, HELLO) == "<|user|>Hello.<|end|><|assistant|>"
    assert prompt(pocket, SYSTEM, HELLO, tools=(MAIL,)) == (
        "<|system|>You work for Ada.\nsend_mail(to): Send a mail.<|end|><|user|>Hello.<|end|><|assistant|>"
    )
    assert prompt(pocket, HELLO, CALL, SENT, NOTED, tools=(MAIL,)) == (
        "<|system|>\nsend_mail(to): Send a mail.<|end|><|user|>Hello.<|end|>"
        f"<|assistant|>{CALL['content']}<|end|><|tool|>Sent.<|end|><|tool|>Noted.<|end|><|assistant|>"
    )
    assert pocket.end_ids == {pocket.end_id} == {pocket.tokenizer.eos_token_id}


def test_golden_smollm2() -> None:
    smollm2 = renderer(SMOLLM2, eos="<|im_end|>")
    assert prompt(smollm2, HELLO) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt(smollm2, SYSTEM, HELLO) == (
        "<|im_start|>system\nYou work for Ada.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt(smollm2, SYSTEM, HELLO, CALL, SENT, NOTED, THANKS, tools=(MAIL,)) == (
        f"<|im_start|>system\nYou work for Ada.\n\n{TOOLS_TEXT}<|im_end|>\n"
        f"<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n{CALL['content']}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nSent.\n</tool_response>\n\n<tool_response>\nNoted.\n</tool_response>\n\n"
        "Thanks.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_golden_qwen2_5() -> None:
    qwen = renderer(of_trl("qwen2_5"))
    assert prompt(qwen, HELLO) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n"
    )
    taught = (
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        f'{{"type": "function", "function": {MAIL_JSON}}}\n</tools>\n\n'
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    )
    assert prompt(qwen, HELLO, CALL, SENT, NOTED, THANKS, tools=(MAIL,)) == (
        f"<|im_start|>system\n{taught}<|im_start|>user\nHello.<|im_end|>\n"
        f"<|im_start|>assistant\n{CALL['content']}<|im_end|>\n<|im_start|>user\n<tool_response>\nSent.\n</tool_response>\n"
        "<tool_response>\nNoted.\n</tool_response><|im_end|>\n<|im_start|>user\nThanks.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert {qwen.decode([token]) for token in qwen.end_ids} == {"<|im_end|>", "<|endoftext|>"}


def test_golden_qwen3_thinks_at_no_turn() -> None:
    qwen = renderer(of_trl("qwen3"))
    empty = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert prompt(qwen, HELLO, DONE, THANKS) == (
        f"<|im_start|>user\nHello.<|im_end|>\n{empty}Done.<|im_end|>\n<|im_start|>user\nThanks.<|im_end|>\n{empty}"
    )


def test_golden_gemma_which_has_no_system_role() -> None:
    gemma = renderer(of_trl("gemma"))
    assert prompt(gemma, SYSTEM, HELLO, DONE, SENT) == (
        "<bos><start_of_turn>user\nYou work for Ada.\n\nHello.<end_of_turn>\n<start_of_turn>model\nDone.<end_of_turn>\n"
        "<start_of_turn>user\n<tool_response>\nSent.\n</tool_response><end_of_turn>\n<start_of_turn>model\n"
    )


def test_golden_llama3_2_on_any_day() -> None:
    assert prompt(renderer(of_trl("llama3_2")), HELLO) == (
        "<bos><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 01 Jan 2025\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("name", families())
def test_a_later_prompt_is_the_earlier_one_the_sampled_ids_and_the_turn(name: str) -> None:
    rendering = Renderer(family(name))
    # "Done." in two tokens more than the tokenizer would use: sampled ids need not be what it would make of the text.
    letters = [token for letter in "Done." for token in rendering.tokenizer.encode(letter, add_special_tokens=False)]
    first, second = Observation((HELLO,), (MAIL,)), Observation((HELLO, DONE, SENT, THANKS), (MAIL,))
    ids = [*rendering.prompt_ids(first), *letters, rendering.end_id, *rendering.turn_ids(second)]
    shown = rendering.decode(ids)
    assert shown.count("Done.") == shown.count("Sent.") == shown.count("Thanks.") == shown.count("Send a mail.") == 1
    assert shown.index("Done.") < shown.index("Sent.") < shown.index("Thanks.")


@pytest.mark.parametrize("name", families())
def test_nothing_slips_in(name: str) -> None:
    bare = prompt(Renderer(family(name)), HELLO)
    for slipped_in in ("You are Qwen", "named SmolLM"):
        assert slipped_in not in bare


def test_tools_are_described_in_one_form_where_the_template_has_none() -> None:
    assert tools_text([MAIL]) == TOOLS_TEXT


def test_a_familys_own_form_of_calls_is_taught_where_it_can_be_read_back() -> None:
    qwen = Renderer(family("qwen3_5_nothink"))
    shown = prompt(qwen, HELLO, tools=(MAIL,))
    assert "<function=" in shown
    assert TOOLS_TEXT not in shown
    # LFM 2.5 writes text between single quotes and leaves those in it as they are: "It's" cannot be read back.
    assert TOOLS_TEXT in prompt(Renderer(family("lfm2_2_5")), HELLO, tools=(MAIL,))


def test_a_document_stands_between_what_its_tokenizer_puts_there_and_an_end_of_sequence(checkpoint: Path) -> None:
    pocket = Renderer(load(checkpoint)[1])
    assert pocket.decode(pocket.document_ids("The rota is ready.")) == "The rota is ready.<|end|>"


def test_decoding_keeps_spaces_special_tokens_and_all_of_unicode() -> None:
    smollm2 = renderer(SMOLLM2)
    for text in ("  a , b .\n\n", "<|im_start|>user", "naïve 日本 🙂"):
        assert smollm2.decode(smollm2.tokenizer.encode(text, add_special_tokens=False)) == text


def test_rendering_leaves_the_observation_as_it_was() -> None:
    observation = Observation(({**SYSTEM}, {**HELLO}, {**DONE}, {**SENT}), (MAIL,))
    renderer(of_trl("gemma")).prompt_ids(observation)
    assert observation == Observation((SYSTEM, HELLO, DONE, SENT), (MAIL,))


def test_a_chat_to_train_on_ends_with_the_assistant() -> None:
    with pytest.raises(ValueError, match="must end with a message of the assistant"):
        renderer(SMOLLM2).training_ids([HELLO, DONE, HELLO])


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner(), name_or_path="some/model")
    with pytest.raises(ValueError, match=r"^some/model: the tokenizer has no chat template.*$"):
        Renderer(tokenizer)


def test_a_template_that_ends_no_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="has no end-of-turn token"):
        renderer("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}")


def test_a_template_that_ends_only_the_last_turn_is_refused() -> None:
    # Measured fault: it was accepted, as the user's turn after it ends with the same token, and later turns vanished
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% if m.role != 'assistant' or loop.last %}<|im_end|>{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(ValueError, match=r"ends an assistant's turn with <\|im_end\|> only if it is the last"):
        renderer(template)


def test_a_template_that_refuses_the_messages_is_quoted_in_one_line() -> None:
    gemma = renderer(of_trl("gemma"))
    with pytest.raises(ValueError, match="the chat template refuses the messages: Conversation roles must alternate"):
        gemma.prompt_ids(Observation((HELLO, DONE, DONE)))
