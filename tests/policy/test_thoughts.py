"""A thought has tokens of its own, and is told apart from the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from architectures import made
from families import tokenizer
from holdfast.chat import apart, whole
from holdfast.config import Model
from holdfast.policy import checkpoint
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sample, Sampler
from holdfast.policy.sources import prepare
from holdfast.policy.template import ROOM, SETTING
from holdfast.policy.thoughts import Allowance

CHAT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
OPENED = CHAT + "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
PLAIN = CHAT + "{% if add_generation_prompt %}<|assistant|>{% endif %}"


def tagged(template: str) -> PreTrainedTokenizerBase:
    own = tokenizer(template)
    own.add_tokens(["</think>"])
    return own


def renderer_of(template: str, thought: int = 0) -> Renderer:
    """A renderer whose thoughts have so many tokens of their own. Of the tags only the closing one is a token."""
    own = tagged(template)
    if thought:
        own.init_kwargs[ROOM] = thought
    return Renderer(own)


def spent(renderer: Renderer, text: str, *, answer: int, thought: int) -> tuple[int, int]:
    """After how many tokens of `text` a reply is spent, or all, and how many of these were thought."""
    ids = renderer.tokenizer.encode(text, add_special_tokens=False)
    room = Allowance(renderer, answer, thought).row()
    size = next((n for n in range(1, len(ids) + 1) if room.spent(ids[:n])), len(ids))
    return size, room.thought


def length(renderer: Renderer, text: str) -> int:
    return len(renderer.tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize(("template", "opens"), [(OPENED, ""), (PLAIN, "<think>"), (PLAIN, "\n <think>")])
def test_a_thought_has_tokens_of_its_own(template: str, opens: str) -> None:
    renderer = renderer_of(template)
    thought = f"{opens}abc def</think>"
    size = length(renderer, thought)
    assert spent(renderer, thought + "x" * 50, answer=5, thought=40) == (size + 5, size)
    assert spent(renderer, thought + "x" * 50, answer=5, thought=size) == (size + 5, size), "it ends as its tokens do"
    assert spent(renderer, thought + "x" * 50, answer=5, thought=size - 1) == (size - 1, size - 1), "it is cut"
    assert spent(renderer, thought + "x" * 50, answer=40, thought=0) == (40, size), "the two share those of the reply"


def test_without_a_thought_only_the_answer_counts() -> None:
    renderer = renderer_of(PLAIN)
    assert spent(renderer, "abc <think>def</think>" + "x" * 50, answer=9, thought=40) == (9, 0)
    assert spent(renderer, "x" * 50, answer=9, thought=40) == (9, 0)


def test_a_tag_of_several_tokens_closes_a_thought() -> None:
    renderer = renderer_of(PLAIN)
    letters = [renderer.tokenizer.convert_tokens_to_ids(letter) for letter in "</think>"]
    room = Allowance(renderer, 3, 30).row()
    opened = renderer.tokenizer.encode("<think>ab", add_special_tokens=False)
    ids = [*opened, *letters, *[letters[2]] * 9]
    assert len(letters) == len("</think>")
    assert next(n for n in range(1, len(ids) + 1) if room.spent(ids[:n])) == len(opened) + len(letters) + 3
    assert room.thought == len(opened) + len(letters)


def closing(model: PreTrainedModel, renderer: Renderer, at: int) -> PreTrainedModel:
    """The model, which at temperature 0 now says the closing tag as its token number `at`."""
    said = greedy(model, renderer, 20).ids
    assert said.index(said[at]) == at, "what it says there it has not said before"
    tag = renderer.tokenizer.convert_tokens_to_ids("</think>")
    assert tag not in said
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        head[torch.tensor([tag, said[at]])] = head[torch.tensor([said[at], tag])].clone()
    return model


def greedy(model: PreTrainedModel, renderer: Renderer, tokens: int) -> Sample:
    sampler = Sampler(model, renderer, max_new_tokens=tokens, temperature=0)
    return sampler.sample([renderer.tokenizer.encode("Hello")], [[("k", 0)]])[0][0]


@pytest.fixture
def thinker() -> PreTrainedModel:
    """A model of random weights; its greedy reply is long."""
    torch.manual_seed(1)
    model = made("llama", tie_word_embeddings=False)
    model.resize_token_embeddings(len(tagged(OPENED)), mean_resizing=False)
    return model


def test_the_sampler_gives_each_its_own(thinker: PreTrainedModel) -> None:
    at = 2
    model = closing(thinker, renderer_of(OPENED), at)
    reply = greedy(model, renderer_of(OPENED, thought=10), 4)
    assert (len(reply.ids), reply.thought, reply.finish) == (at + 1 + 4, at + 1, "length")
    shared = greedy(model, renderer_of(OPENED), 4)
    assert (shared.ids, shared.thought, shared.finish) == (reply.ids[:4], at + 1, "length")
    cut = greedy(model, renderer_of(OPENED, thought=at), 4)
    assert (cut.ids, cut.thought, cut.finish) == (reply.ids[:at], at, "length")


def test_the_context_must_hold_a_thought_and_an_answer(thinker: PreTrainedModel) -> None:
    room = thinker.config.max_position_embeddings
    prompt = [5] * (room - 30)
    assert Sampler(thinker, renderer_of(OPENED, thought=20), max_new_tokens=10).fits(prompt)
    assert not Sampler(thinker, renderer_of(OPENED, thought=21), max_new_tokens=10).fits(prompt)


def test_a_checkpoint_keeps_how_many_tokens_a_thought_has(thinker: PreTrainedModel, tmp_path: Path) -> None:
    checkpoint.save(thinker, tagged(OPENED), tmp_path / "mine")
    prepare(Model(name="hub", path=str(tmp_path / "mine"), thought_tokens=77), tmp_path / "start")
    assert Renderer(checkpoint.load_tokenizer(tmp_path / "start")).template.thought_tokens == 77
    with pytest.raises(ValueError, match="thought_tokens must be 0 or more, not -1"):
        Model(name="pocket", thought_tokens=-1)


def test_what_the_config_says_takes_the_place_of_what_a_checkpoint_was_saved_with(
    thinker: PreTrainedModel, tmp_path: Path
) -> None:
    own = tagged(OPENED)
    own.init_kwargs |= {ROOM: 99, SETTING: "on"}
    checkpoint.save(thinker, own, tmp_path / "mine")
    prepare(Model(name="hub", path=str(tmp_path / "mine")), tmp_path / "start")
    template = Renderer(checkpoint.load_tokenizer(tmp_path / "start")).template
    assert (template.thinking, template.thought_tokens) == ("off", 0)


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        ("<think>\nHm.</think>\n\nNo.", {"thought": "<think>\nHm.</think>", "content": "\n\nNo."}),
        ("<think>Hm, and then", {"thought": "<think>Hm, and then", "content": ""}),
        ("No. <think>Hm.</think>", {"content": "No. <think>Hm.</think>"}),
        ("No.", {"content": "No."}),
    ],
)
def test_a_transcript_holds_a_thought_apart(content: str, stored: dict[str, Any]) -> None:
    row = apart({"role": "assistant", "content": content})
    assert row == {"role": "assistant", **stored}
    assert whole(row) == content
    assert apart({"role": "user", "content": content}) == {"role": "user", "content": content}
