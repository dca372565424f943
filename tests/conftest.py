"""Shared by all tests: one thread, no network, and a tiny chat model in Hugging Face form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported anywhere. More threads than quiet cores make small models slower, not faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import settings

# The same examples every time, so that a change is judged by what it did: HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("holdfast", derandomize=True)
settings.register_profile("search", max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "holdfast"))

CONTEXT = 1024
# As the embedded model's: tools in the system turn, one line each.
TEMPLATE = """\
{#- A call is <tool_call>{"name": ..., "arguments": {...}}</tool_call>. -#}
{%- set first = messages[0]['content'] if messages[0]['role'] == 'system' else '' -%}
{%- if tools or first -%}
<|system|>{{ first }}
{%- for tool in tools or [] -%}
{{ '\\n' }}{{ tool.function.name }}({{ tool.function.parameters.properties | join(', ') }}): \
{{- ' ' + tool.function.description }}
{%- endfor -%}
<|end|>
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
<|assistant|>{% generation %}{{ message['content'] }}
{%- for call in message['tool_calls'] or [] -%}
{{ '\\n' if message['content'] or not loop.first }}<tool_call>{{ '\\n' }}{"name": {{ call.function.name | tojson }}, \
"arguments": {{ call.function.arguments | tojson }}}{{ '\\n' }}</tool_call>
{%- endfor -%}
<|end|>{% endgeneration %}
{%- elif message['role'] != 'system' or not loop.first -%}
<|{{ message['role'] }}|>{{ message['content'] }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
TEXT = [
    "Read the inbox and do what is needed.",
    "The rota is ready, and I will tell her now.",
    '<tool_call>\n{"name": "send_mail", "arguments": {"to": "Ada", "subject": "Rota", "body": "Ready."}}\n</tool_call>',
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model of 50 thousand random parameters. They are large, so that its replies differ from one another."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from holdfast.policy.checkpoint import save

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    save(LlamaForCausalLM(config), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def cpu_only() -> Iterator[None]:
    """Has `load` and training leave a GPU alone, for what is compared with processes on the CPU."""
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr("torch.cuda.is_available", lambda: False)
        yield
