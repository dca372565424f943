"""`holdfast models` says of a model what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from architectures import made
from families import family, tokenizer
from holdfast.cli import main
from holdfast.config import Model
from holdfast.look.doctor import told
from holdfast.policy.checkpoint import ends_of, load, load_tokenizer


def saved(folder: Path, model: PreTrainedModel | str, family_name: str) -> Path:
    """A folder of a tiny model, by its own name or as it is, with a family's published template."""
    own = family(family_name)
    weights = made(model) if isinstance(model, str) else model
    weights.resize_token_embeddings(len(own), mean_resizing=False)
    weights.generation_config.eos_token_id = [own.eos_token_id, own.convert_tokens_to_ids("<s>")]
    weights.save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def facts(path: Path, **settings: object) -> dict[str, str]:
    """What is said, by its first words; notes under "note"."""
    lines = list(told(Model(name="hub", path=str(path), **settings)))
    rows = [re.split(r"  +", line, maxsplit=1) for line in lines if "  " in line]
    return {**{row[0]: row[1] for row in rows}, "note": " ".join(line for line in lines if "note:" in line)}


def test_a_family_with_a_form_of_its_own_is_shown_it(tmp_path: Path) -> None:
    said = facts(saved(tmp_path, "llama", "qwen3"))
    assert said["architecture"] == "LlamaForCausalLM"
    assert said["calls"].startswith("in its own form, such as <tool_call>")
    assert said["thinking"] == "off"
    assert set(said["replies end at"].split(", ")) == {"<s>", "<|im_end|>"}, "those of generation_config.json as well"
    assert said["sampling"] == "prompts are shared among their samples"
    assert "note" not in said["note"]


def test_what_makes_a_model_no_fair_subject_is_noted(tmp_path: Path) -> None:
    said = facts(saved(tmp_path, "mamba", "gemma"))
    assert said["system prompt"] == "no role: its text opens the first user message"
    assert said["calls"].startswith("in Holdfast's form")
    assert said["sampling"].startswith("by its own cache, prompt by prompt")
    assert "was not trained on the form of calls" in said["note"]


def test_layers_with_a_window_are_counted(tmp_path: Path) -> None:
    said = facts(saved(tmp_path, "gemma3_text", "gemma3"))
    assert re.fullmatch(r"\d+ tokens; layers that see \d+: \d+ of \d+", said["context"])


def test_thinking_is_said_as_it_was_asked(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "qwen3")
    assert facts(folder, thinking="on")["thinking"] == "on"
    assert facts(folder, thinking="as_is")["thinking"] == "as_is"


def opening(folder: Path, tag: str) -> Path:
    """A folder of a tiny model whose prompts end with a tag."""
    own = tokenizer(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
        f"{{% if add_generation_prompt %}}<|assistant|>{tag}\n{{% endif %}}"
    )
    weights = made("llama")
    weights.resize_token_embeddings(len(own), mean_resizing=False)
    weights.save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


def test_a_model_that_always_thinks_is_told_to_need_room(tmp_path: Path) -> None:
    said = facts(opening(tmp_path, "<think>"))
    assert said["thinking"] == "cannot be switched off: every prompt opens <think>"
    assert "it thinks before every reply" in said["note"]


def test_a_prompt_that_opens_something_unknown_is_noted(tmp_path: Path) -> None:
    said = facts(opening(tmp_path, "<ponder>"))
    assert "every prompt ends with <ponder>, which Holdfast does not know" in said["note"]


def test_without_weights_none_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(tmp_path, "llama", "qwen3")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert main(["models", str(folder), "--no-weights"]) == 0
    said = capsys.readouterr().out
    assert "architecture" in said
    assert "What the suite asks of it" in said
    assert "Tried with its weights" not in said


def test_a_reply_ends_where_config_says_if_there_is_no_generation_config(tmp_path: Path) -> None:
    # Measured fault: the doctor then knew of no end but the tokenizer's, and the sampler of more
    folder = saved(tmp_path, "llama", "qwen3")
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    ends = load_tokenizer(folder).convert_tokens_to_ids(["<s>", "<|im_end|>"])
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ends}))
    model, _ = load(folder)
    assert "<s>" in facts(folder)["replies end at"]
    assert set(ends_of(model.generation_config)) == set(ends)


def test_an_end_that_the_tokenizer_does_not_know_is_shown_by_its_id(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "qwen3")
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [999999]}))
    assert facts(folder)["replies end at"].split(", ") == ["999999", "<|im_end|>"]


@pytest.mark.parametrize(
    ("file", "text"),
    [("generation_config.json", "{"), ("generation_config.json", '{"eos_token_id": "2"}'), ("config.json", "[]")],
)
def test_a_file_that_cannot_be_read_is_named_before_weights_are_loaded(tmp_path: Path, file: str, text: str) -> None:
    # Measured fault: ends were shown that the sampler then could not take, or were lost without a word
    folder = saved(tmp_path, "llama", "qwen3")
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=rf"{folder}: .*{file}"):
        list(told(Model(name="hub", path=str(folder)), weights=False))


def test_several_models_stand_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pocket", "pocket", "--no-weights"]) == 0
    assert capsys.readouterr().out.count("What the suite asks of it") == 2


def test_what_cannot_be_examined_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert main(["models", str(tmp_path)]) == 2
    assert main(["models", "budget=pocket"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "adapter" in first
    assert "no model" in second


def test_weights_are_counted_as_they_are_held(tmp_path: Path) -> None:
    weights = made("llama")
    folder = saved(tmp_path, weights, "qwen3")
    count = sum(weight.numel() for weight in weights.parameters())
    assert facts(folder, dtype="bfloat16")["weights"] == f"{count:,} (bfloat16)"
