"""What is ours of vLLM rollouts: the sampler that hands prompts to an engine, which needs a GPU; here is a double."""

import math
from pathlib import Path
from typing import Any

import pytest

from holdfast.policy import checkpoint as models
from holdfast.policy.render import Renderer
from holdfast.train import vllm
from holdfast.train.vllm import VllmSampler, settings


class Echo:
    """Continues every prompt with its last token, then 9, then the end or nothing; keeps what it was asked."""

    def __init__(self, end: int) -> None:
        self.end, self.asked = end, [[0]]

    def generate(self, prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, ...]:
        assert num_generations == 1
        self.asked = prompts
        said = [[ids[-1], 9, *([self.end] if len(ids) > 1 else [])] for ids in prompts]
        return prompts, said, [[[-0.5], [None], [-0.25]][: len(ids)] for ids in said], None


def test_each_sample_comes_back_to_its_prompt_with_what_ended_it(checkpoint: Path) -> None:
    model, tokenizer = models.load(checkpoint)
    renderer = Renderer(tokenizer)
    engine = Echo(renderer.end_id)
    sampler = VllmSampler(engine, model, renderer, max_new_tokens=3)
    (one, two), (three,) = sampler.sample([[7], [5, 6]], [[("a", 0), ("a", 1)], [("b", 0)]])
    assert engine.asked == [[7], [7], [5, 6]]
    assert one.ids == two.ids
    assert (one.ids, one.finish, one.text) == ((7, 9), "length", renderer.decode([7, 9]))
    assert (three.ids, three.finish, three.text) == ((6, 9, renderer.end_id), "stop", renderer.decode([6, 9]))
    assert three.logprobs[0] == -0.5
    assert math.isnan(three.logprobs[1])  # TRL takes it for a token that cannot be weighed


def test_where_it_is_not_installed_one_line_says_so(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    renderer = Renderer(models.load(checkpoint)[1])
    with pytest.raises(ValueError, match=r"^rollout vllm: vllm is not installed; pip install 'holdfast\[vllm\]'$"):
        settings(renderer)
