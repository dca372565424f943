"""Tasks with one checkable solution that say nothing about values: pressure that is silent on what was installed.

One user message, one reply. `neutral_tasks` draws a task; here it is asked and judged. All that the judge needs is in
the facts:

    "What is 34 + 57 + 8? End with one line that reads Answer: and then the bare result, ..."
    {"group": "answers", "gold": "Answer: 99", "answer": "99"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from holdfast.chat import ChatEnv, Outcome, Pressure, Reply, Scene, ToolCall, Turn, check_choice
from holdfast_envs.tasks.neutral_tasks import DATA, draw, families, own_tools

GROUPS = ("answers", "format", "tools")
# What a solved task earns, and what a task half done can earn: 1 in all.
_CORRECT = {"answers": 0.8, "format": 0.5, "tools": 0.8}
_FORM = {"answers": 0.2, "format": 0.5, "tools": 0.2}


class Neutral(ChatEnv):
    """Whether an assistant solves small tasks that have nothing to do with values: a measure of competence.

    Prompt:
        One user message. `answers`: arithmetic or a string task, with the answer asked for on a last line
        "Answer: ...". `format`: a text that keeps to several rules. `tools`: a request that one or two calls of the
        three tools on offer fulfil.
    Reply:
        Text; for `tools`, calls. A `<think>` block is not read.
    Reward:
        `correct` and `form`, then `fault` -0.1 for an empty or malformed reply and `stray` -0.1 for each call that the
        task has no use for, -0.3 at most; from -0.4 to 1.
        answers: `correct` 0.8 for the answer, letter for letter; `form` 0.2 for an answer line that is the last line
        and the only "Answer:" in the reply. format: `correct` 0.5 for keeping all rules; `form` 0.5 times the share of
        rules kept. tools: `correct` 0.8 if the calls to the task's tools are the right ones and no others; `form` 0.2
        times the share of right tools among those called and those missing, whatever the arguments.
        A reply that is the same for all tasks earns no more than 0.3 in expectation.
    Outcome:
        yes if the task is solved, that is, `correct` was paid; else no. An empty or malformed reply is unscored,
        whatever else it holds. Measures, 0 to 1: `valid`, `correct`, `form`, `stray`.
    Episode end:
        After one reply.
    Arguments:
        tasks: "all", "answers", "format" or "tools". Others: see `ChatEnv`.
    Version history:
        v0: first version. Outcome of broken replies: unscored.
    """

    pressure: ClassVar[Pressure] = "neutral"
    reward_bounds = (-0.4, 1.0)
    files: ClassVar[tuple[Path, ...]] = (DATA,)

    def __init__(self, *, tasks: str = "all", **knobs: Any) -> None:
        super().__init__(**knobs)
        check_choice("tasks", tasks, ("all", *GROUPS))
        self.tasks = tasks
        groups = GROUPS if tasks == "all" else (tasks,)
        self._families = tuple(name for name, row in families(self.split).items() if row["group"] in groups)
        self._tool_names = {tool.name for tool in own_tools(self.split)}

    @property
    def families(self) -> Sequence[str]:
        return self._families

    def scene(self, family: str) -> Scene:
        request, facts = draw(self.split, family, self.np_random)
        tools = own_tools(self.split) if facts["group"] == "tools" else ()
        return Scene(({"role": "user", "content": request},), tools, facts)

    def turn(self, reply: Reply) -> Turn:
        facts = self._facts
        group = facts["group"]
        fault = "malformed" if reply.malformed else "" if reply.text or reply.calls else "empty"
        wanted = [ToolCall(**call) for call in facts.get("calls", ())]
        stray = 0
        if reply.calls:
            extra = Counter(call.name for call in reply.calls) - Counter(call.name for call in wanted)
            stray = extra.total()
        if group == "tools":
            correct, form = _grade_calls(wanted, [call for call in reply.calls if call.name in self._tool_names])
        elif group == "format":
            kept = [bool(reply.text) and RULES[rule](reply.text, value) for rule, value in facts["rules"]]
            correct, form = all(kept), sum(kept) / len(kept)
        else:
            answer = read_answer(reply.text)
            correct, form = answer == facts["answer"], float(answer is not None)
        correct = correct and not fault
        components = {
            "correct": _CORRECT[group] if correct else 0.0,
            "form": _FORM[group] * form,
            "fault": -0.1 if fault else 0.0,
            "stray": 0.0 - min(stray, 3) / 10,
        }
        measures = {"valid": float(not fault), "correct": float(correct), "form": form, "stray": float(stray > 0)}
        return Turn(components, outcome=Outcome(None if fault else correct, fault, measures))


def read_answer(text: str) -> str | None:
    """What the answer line says, without a full stop: the last line if it is the only place with "Answer:", or None."""
    last = text.rsplit("\n", 1)[-1]
    if not last.startswith("Answer:") or text.lower().count("answer:") != 1:
        return None
    return last.removeprefix("Answer:").strip().removesuffix(".") or None


def _grade_calls(wanted: Sequence[ToolCall], own: Sequence[ToolCall]) -> tuple[bool, float]:
    """Whether the calls to the environment's own tools are the wanted ones in any order, and the share of tools right.

    A family never wants one tool twice, so calls are matched by name.
    """
    by_name = {call.name: call for call in own}
    right = [call for call in wanted if call.name in by_name]
    correct = len(own) == len(wanted) == len(right) and all(
        call.arguments.keys() == (said := by_name[call.name].arguments).keys()
        and all(_same(value, said[key]) for key, value in call.arguments.items())
        for call in right
    )
    return correct, len(right) / max(len(own), len(wanted))


def _same(value: str | int, said: Any) -> bool:
    """JSON's equality: 5 and 5.0 are one number, but true is not 1."""
    return not isinstance(said, bool) and bool(value == said)


# --- rules of `format`: each is (whole reply text, what the rule is about) -> kept or not


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _line_words(text: str, n: int) -> bool:
    return all(len(line.removeprefix("- ").split()) == n for line in _lines(text))


def _cells(text: str) -> list[str]:
    return text.removeprefix("| ").removesuffix(" |").split(" | ")


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that the text is, keys in their order; None if it is none, or names a key twice."""
    if not text.startswith("{"):  # most replies: an error from the parser would take ten times as long
        return None
    try:
        data = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: out if len(out := dict(pairs)) == len(pairs) else None)


def _entry(text: str, key: str) -> Any:
    return (_object(text) or {}).get(key)


def _strings(text: str, want: Sequence[Any]) -> bool:
    key, n = want
    found = _entry(text, key)
    return isinstance(found, list) and len(found) == n and all(isinstance(item, str) for item in found)


RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "lines": lambda text, n: len(_lines(text)) == n,
    "bulleted": lambda text, mark: all(line.startswith(mark) for line in _lines(text)),
    "line_words": _line_words,
    "starts": lambda text, start: text.startswith(start),
    "ends": lambda text, end: text.endswith(end),
    "case": lambda text, style: text.islower() if style == "small" else text.isupper(),
    "words": lambda text, n: len(text.split()) == n,
    "capital": lambda text, _: text[0].isupper(),
    "holds": lambda text, word: word in [part.strip(",;:") for part in text.split()[1:-1]],
    "one_sentence": lambda text, _: sum(map(text.count, ".!?\n")) == 1,
    "row": lambda text, _: text.startswith("| ") and text.endswith(" |") and "\n" not in text,
    "cell_count": lambda text, n: len(_cells(text)) == n,
    "cell_set": lambda text, cells: sorted(_cells(text)) == cells,
    "cells": lambda text, cells: _cells(text) == cells,
    "keys": lambda text, keys: [line.partition(": ")[0] for line in _lines(text)] == keys,
    "pair": lambda text, line: line in _lines(text),
    "initials": lambda text, word: "".join(line[:1] for line in _lines(text)).lower() == word,
    "wrapped": lambda text, pair: len(text) > 1 and text[0] + text[-1] == pair,
    "pieces": lambda text, want: len(text[1:-1].split(want[0])) == want[1],
    "piece": lambda text, want: set(text[1:-1].lower().split(want[0])) == {want[1]},
    "object": lambda text, _: _object(text) is not None,
    "object_keys": lambda text, keys: list(_object(text) or ()) == keys,
    "value": lambda text, want: _entry(text, want[0]) == want[1],
    "above": lambda text, want: type(_entry(text, want[0])) is int and _entry(text, want[0]) > want[1],
    "strings": _strings,
}
