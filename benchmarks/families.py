"""What each family of models sees, writes and is sampled as: published chat templates on tiny models of its kind.

    python benchmarks/families.py                      # a minute; the table of docs/results/families.md
    python benchmarks/families.py --templates FOLDER   # beside TRL's templates, those in a folder, NAME.jinja

Columns: prompts of six kinds against the tokenizer's own rendering, id by id ("=" where they are the same, else which
documented difference); whose form calls are in, and whether one that is trained on reads back; greedy replies against
`generate`; the farthest that a sampled log-probability is from a plain forward pass, in nats.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from architectures import made
from families import families, family, tokenizer
from holdfast.chat import Message, Observation, ToolCall, ToolSpec, parse_reply
from holdfast.policy.render import Renderer
from holdfast.policy.sampler import Sampler
from holdfast.policy.template import SETTING, schema

MAIL = ToolSpec("send_mail", "Send a mail.", {"type": "object", "properties": {"to": {"type": "string"}}})
SEND = ToolCall("send_mail", {"to": 'Bo, "or" it\'s Ada.\nYours'})
SYSTEM: Message = {"role": "system", "content": "You work for Ada."}
HELLO: Message = {"role": "user", "content": "Hello there."}
CALL: Message = {"role": "assistant", "content": SEND.render()}
SENT: Message = {"role": "tool", "content": "Sent."}
DONE: Message = {"role": "assistant", "content": "Done it."}
AND: Message = {"role": "user", "content": "And now?"}
CASES: dict[str, tuple[tuple[Message, ...], tuple[ToolSpec, ...]]] = {
    "plain": ((HELLO,), ()),
    "system": ((SYSTEM, HELLO), ()),
    "tools": ((SYSTEM, HELLO), (MAIL,)),
    "tool result": ((SYSTEM, HELLO, CALL, SENT), (MAIL,)),
    "turns": ((SYSTEM, HELLO, DONE, AND), ()),
    "thinking": ((SYSTEM, HELLO), ()),
}
ARCHITECTURES = {
    "cohere2": "cohere2", "cohere": "cohere", "deepseek_r1": "qwen2", "deepseekv3": "deepseek_v3",
    "gemma3": "gemma3_text", "gemma4": "gemma3_text", "gemma": "gemma2", "diffusion": "gemma3_text",
    "gptoss": "gpt_oss", "lfm2": "lfm2", "llama": "llama", "muse": "llama", "nemotron": "nemotron", "phi3": "phi3",
    "qwen2": "qwen2", "qwen3_5": "qwen3_5_text", "qwen3_6": "qwen3_5_text", "qwen3_8": "qwen3_5_text", "qwen3": "qwen3",
}  # fmt: skip
"""By how a family's name begins."""
TOKENS = 24


def own(renderer: Renderer, case: str) -> list[int]:
    """What the tokenizer itself makes of a case, with the date held still."""
    messages, tools = CASES[case]
    talk = renderer.family
    given: list[dict[str, Any]] = talk.opening_messages(messages, tools)
    if talk.calls == "own" and not talk.strict:
        given = [talk.calling("", [SEND]) if message["content"] == CALL["content"] else message for message in given]
    thinks = renderer.template.thinking == "on"
    shown = [schema(tool) for tool in talk.shown(tools)] or None
    text = renderer.tokenizer.apply_chat_template(
        given, tools=shown, chat_template=renderer.template.frozen(shown), add_generation_prompt=True, tokenize=False,
        enable_thinking=thinks, thinking=thinks, date_string="01 Jan 2025",
    )  # fmt: skip
    ids: list[int] = renderer.tokenizer.encode(text, add_special_tokens=False)
    return ids


def difference(renderer: Renderer, case: str) -> str:
    """What is different from the tokenizer's own rendering: "=" for nothing."""
    messages, tools = CASES[case]
    ours, theirs = renderer.prompt_ids(Observation(messages, tools)), own(renderer, case)
    if ours == theirs:
        return "="
    shown, talk = renderer.decode(ours), renderer.family
    for said, what in ((talk.thought[1], "thought kept"), (talk.end, "end kept")):
        if shown.count(said) > renderer.decode(theirs).count(said):
            return what
    return "differs"


def row(name: str, spoken: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[str]:
    """The cells of a family."""
    renderer = Renderer(spoken)
    cells = [difference(renderer, case) for case in CASES if case != "thinking"]
    spoken.init_kwargs[SETTING] = "on"
    cells.append(difference(Renderer(spoken), "thinking"))
    del spoken.init_kwargs[SETTING]
    ids, mask = renderer.training_ids((SYSTEM, HELLO, CALL), (MAIL,))
    said = renderer.decode([i for i, on in zip(ids, mask, strict=True) if on][:-1])
    back = parse_reply(renderer.read(said, (MAIL,))).calls == (SEND,)
    prompt = renderer.prompt_ids(Observation((SYSTEM, HELLO), (MAIL,)))
    [[greedy]] = Sampler(model, renderer, max_new_tokens=TOKENS, temperature=0).sample([prompt], [[("a",)]])
    limits: dict[str, Any] = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": sorted(renderer.end_ids)}
    asked = torch.tensor([prompt])
    whole = torch.ones_like(asked)  # else `generate` takes the pad token for padding wherever it stands
    theirs = model.generate(asked, attention_mask=whole, pad_token_id=0, **limits)[0, len(prompt) :].tolist()
    (drawn,) = Sampler(model, renderer, max_new_tokens=TOKENS).sample([prompt], [[("b", n) for n in range(4)]])
    return [name, *cells, renderer.family.calls, "yes" if back else "no", "yes" if list(greedy.ids) == theirs else "no",
            f"{max(off(model, prompt, reply) for reply in drawn):.0e}"]  # fmt: skip


@torch.no_grad()
def off(model: PreTrainedModel, prompt: list[int], reply: Any) -> float:
    """How far a reply's log-probabilities are from those of a forward pass, at worst, in nats."""
    ids = torch.tensor([[*prompt, *reply.ids[:-1]]])
    logps = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].log_softmax(-1)
    exact = logps[range(len(reply.ids)), list(reply.ids)]
    return float((exact - torch.tensor(reply.logprobs)).abs().max())


def tiny(name: str, size: int) -> PreTrainedModel:
    """A model of the family's architecture, of random weights."""
    kind = next((kind for start, kind in ARCHITECTURES.items() if name.startswith(start)), "llama")
    return made(kind, vocab_size=size, max_position_embeddings=4096)


def table(extra: Path | None) -> Iterator[str]:
    """The lines of the table."""
    head = ["family", *CASES, "calls", "read back", "greedy as generate", "log-probability off by"]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    known = {name: family(name) for name in families()}
    for file in sorted(extra.glob("*.jinja")) if extra else ():
        known[file.stem] = tokenizer(file.read_text(encoding="utf-8"))
    for name, one in known.items():
        try:
            cells = row(name, one, tiny(name, len(one)))
        except ValueError as error:
            cells = [name, *[""] * len(CASES), "", "", "", str(error)]
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, metavar="FOLDER", help="more templates, NAME.jinja")
    for line in table(parser.parse_args().templates):
        print(line, flush=True)
