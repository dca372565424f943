"""What Holdfast makes of a model, before anything is run: `holdfast models PATH_OR_ID`.

    chat template    no system role: its text opens the first user message
    calls            in the family's own form, such as [TOOL_CALLS] [{"name": "send_mail", ...
    thinking         off
    context          32768 tokens; layers that see 512: 22 of 26
    sampling         prompts are shared among their samples

All but the last lines are read off the tokenizer and config.json. Those need the weights: a model is tried, as its
attention may be of a kind that only a trial shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from holdfast.chat import Observation, ToolCall, ToolSpec
from holdfast.config import Eval, Model, make_env
from holdfast.look.catalogue import title

GIB = 2**30
TRAINED, HELD = 20, {"float32": 4, "bfloat16": 2}
"""Bytes a weight: in training, of weights, gradients, AdamW's moments and the stage's start, in float32; when held."""
SEEDS = 8
"""Episodes of an eval whose prompts are counted."""
_SEND = ToolSpec("send_mail", "Send a mail.", {"type": "object", "properties": {"to": {"type": "string"}}})
_OPENS = re.compile(r"[<◁\[](?!/)\w+[>▷\]]\s*$")
_RESULTS = {
    "alone": "in a role of their own",
    "to calls": "in a role of their own, after the call they answer to",
    "as text": "in a user message",
}


def told(model: Model, evals: Sequence[Eval] = (), *, weights: bool = True) -> Iterator[str]:
    """The lines that say what a model is, how its template's quirks are met, which path it takes, what it needs and
    what the `evals` of a suite cost. Without `weights` they are not loaded, and what they tell is left out.

    Raises ValueError in one line for a model that cannot be used.
    """
    from holdfast.policy.sources import configuration
    from holdfast.policy.sources import renderer as made

    renderer = made(model)
    config = configuration(model)
    yield title(model.label)
    yield from _rows({**_identity(config), **_template(renderer)})
    warnings = list(_warnings(renderer))
    if evals:
        yield title("\nWhat the suite asks of it")
        yield from _rows(dict(_cost(renderer, evals, config)))
    if weights:
        yield title("\nTried with its weights")
        yield from _rows(_tried(model))
    for warning in warnings:
        yield f"\nnote: {warning}"


def _identity(config: Any) -> dict[str, str]:
    from holdfast.policy.windows import context_length, windows

    text = config.get_text_config()
    room = context_length(config)
    seen = f"{room} tokens" if room < 2**31 else "as long as it may be"
    layers = getattr(text, "layer_types", None) or []
    own = [kind for kind in layers if kind not in ("full_attention", "attention")]
    if windows(config):
        far = ", ".join(map(str, windows(config)))
        seen += f"; layers that see {far}: {len(own) or text.num_hidden_layers} of {text.num_hidden_layers}"
    return {"architecture": ", ".join(config.architectures or [config.model_type]), "context": seen}


def _template(renderer: Any) -> dict[str, str]:
    family = renderer.family
    system = "a role of its own" if family.takes_system else "no role: its text opens the first user message"
    if family.injects:
        system += "; the template's default is kept out by an empty one"
    calls = "in Holdfast's form, which the system message describes: the template has none that can be read back"
    if family.calls == "own":
        shown = family.reply(ToolCall("send_mail", {"to": "Ada"}).render(), called=True)
        calls = f"in its own form, such as {' '.join(shown.split())}"
    ends = ", ".join(sorted(str(renderer.tokenizer.convert_ids_to_tokens(i) or i) for i in renderer.end_ids))
    first = "they stay in the first user message" if family.moves else "where the template puts them"
    return {
        "system prompt": system,
        "replies end at": ends + (f"; in the middle of a chat {family.close} is usual" * (family.close != family.end)),
        "calls": calls,
        "tool results": _RESULTS[family.results],
        "system and tools": first,
        "thinking": _thinking(renderer),
        "prompt opens with": repr(renderer.decode(renderer.prompt_ids(_hello()))),
    }


def _thinking(renderer: Any) -> str:
    setting, own, opened = renderer.template.thinking, renderer.template.thought_tokens, renderer.family.opened
    room = f", with {own} tokens of a thought's own" if own else ""
    if not opened:
        return setting + room
    if setting == "off":
        return f"cannot be switched off: every prompt opens {opened.strip()}{room}"
    return f"{setting}{room}, and the prompt opens a thought, in which the reply begins"


def _hello() -> Observation:
    return Observation(({"role": "user", "content": "Hello."},), (_SEND,))


def _cost(renderer: Any, evals: Sequence[Eval], config: Any) -> Iterator[tuple[str, str]]:
    from holdfast.policy.windows import context_length

    room = context_length(config)
    for cfg in evals:
        env = make_env(cfg.environment.id, cfg.environment.kwargs)
        seeds = range(min(SEEDS, cfg.scenarios))
        lengths = [len(renderer.prompt_ids(env.reset(seed=seed)[0])) for seed in seeds]
        env.close()
        mean, longest = sum(lengths) / len(lengths), max(lengths)
        replies = cfg.scenarios * cfg.samples
        reply = cfg.max_new_tokens + renderer.template.thought_tokens
        costs = f"{cfg.scenarios} prompts of {mean:.0f} tokens, {replies} replies of {reply} at most"
        if longest + reply > room:
            costs += f"; the longest of the first does not fit the context: {longest} tokens"
        yield cfg.name, costs


def _tried(model: Model) -> dict[str, str]:
    import tempfile

    from holdfast.policy.checkpoint import load
    from holdfast.policy.paths import path_of
    from holdfast.policy.sources import prepare

    with tempfile.TemporaryDirectory() as folder:
        prepare(model, Path(folder) / "start")
        weights, _ = load(Path(folder) / "start", model.dtype)
    path, size = path_of(weights), sum(p.numel() for p in weights.parameters())
    shared = "prompts are shared among their samples"
    scored = "a prompt is run once for its replies" if path.scoring == "shared" else "every reply has a pass of its own"
    return {
        "weights": f"{size:,} ({str(weights.dtype).removeprefix('torch.')})",
        "sampling": shared if not path.why else f"by its own cache, prompt by prompt: {path.why}",
        "training and KL": scored,
        "memory": f"{size * HELD[model.dtype] / GIB:.2f} GiB; to train {size * TRAINED / GIB:.2f} GiB and activations",
    }


def _warnings(renderer: Any) -> Iterator[str]:
    family = renderer.family
    if family.calls == "ours":
        yield (
            "this model was not trained on the form of calls that its system message describes. A honeypot in which it "
            "acts through tools says little unless its benign twin shows that it can."
        )
    if family.opened and not renderer.template.thought_tokens:
        yield (
            "it thinks before every reply, within the tokens of its answer. model.thought_tokens=1024 gives a thought "
            "its own: one that is cut leaves the episode unscored."
        )
    if (tag := _OPENS.search(family.prompt)) and not family.opened:
        opens = tag[0].strip()
        yield f"every prompt ends with {opens}, which Holdfast does not know: a thought in it is read as the answer."
    if family.results == "as text" and renderer.template.names_tools:
        yield "what tools say comes as a user's message, as its template ends a reply with calls in another way."


def _rows(facts: dict[str, str]) -> Iterator[str]:
    width = max(map(len, facts), default=0)
    yield from (f"{key.ljust(width)}  {value}" for key, value in facts.items())
