"""What the families of `holdfast/Neutral-v0` draw: the numbers and words of a task, its solution and its rules.

The wording is data (`prompts/neutral.json`), and so are the ranges of a sum and the tools. A family of sums is a
formula here, one of strings or formats a function, and one of tools is drawn from the tools' own JSON Schema:

    "sum", a=34, b=57, c=8   ->   "Add up 34, 57 and 8. Put the result on the last line ...", answer "99"
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np

from holdfast.chat import ToolCall, ToolSpec
from holdfast_envs.data import PROMPTS, read_data

DATA = PROMPTS / "neutral.json"

T = TypeVar("T")
Slots = dict[str, Any]
Rules = list[list[Any]]  # [[name of a rule, what it is about], ...]: lists, as facts are written as JSON


class Dice:
    """Draws from one block of 64 uniform numbers: a NumPy call for each would cost more than the rest of an episode."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._left: list[float] = rng.random(64).tolist()

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self._left.pop() * (high - low + 1))

    def pick(self, pool: Sequence[T]) -> T:
        return pool[int(self._left.pop() * len(pool))]

    def some(self, pool: Sequence[T], n: int) -> list[T]:
        """`n` different places of `pool`, in random order."""
        rest = list(pool)
        return [rest.pop(int(self._left.pop() * len(rest))) for _ in range(n)]

    def words(self, n: int) -> list[str]:
        """`n` different words, in random order."""
        return self.some(_data()["words"], n)


def draw(split: str, family: str, rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """A task of `family`: the request, and the facts {"group", "gold"} with "answer", "rules" or "calls" by group.

    "gold" is a reply that solves the task. Facts hold nothing that JSON would change.
    """
    row, dice, pools = families(split)[family], Dice(rng), _data()
    name, other = dice.some(pools["names"], 2)
    slots: Slots = {"name": name, "other": other, "things": dice.pick(pools["things"]), "spare": dice.number(2, 99)}
    facts: dict[str, Any] = {"group": row["group"]}
    if row["group"] == "tools":
        facts["calls"] = [{"name": tool, "arguments": _arguments(split, tool, dice)} for tool in row["calls"]]
        facts["gold"] = "\n".join(ToolCall(**call).render() for call in facts["calls"])
        for call in facts["calls"]:
            slots |= call["arguments"]
    elif row["group"] == "format":
        drawn, facts["gold"], facts["rules"] = _FORMATS[family](dice)
        slots |= drawn
    else:
        drawn, answer = _sum(row, dice) if "ranges" in row else _STRINGS[family](dice)
        facts |= {"gold": f"Answer: {answer}", "answer": answer}
        slots |= drawn
    request = dice.pick(row["phrases"]).format_map(slots)
    if row["group"] == "answers":
        request += " " + dice.pick(pools["closings"][split])
    return request, facts


# From the drawn numbers: the answer, and what else the wording shows.
_SUMS: Mapping[str, Callable[..., dict[str, int]]] = {
    "sum": lambda a, b, c: {"answer": a + b + c},
    "product": lambda a, b: {"answer": a * b},
    "change": lambda n, price, left: {"answer": left, "paid": n * price + left},
    "ages": lambda age, gap, years: {"answer": age + gap + years},
    "minutes": lambda hours, minutes: {"answer": 60 * hours + minutes},
    "gap": lambda a, b: {"answer": a - b},
    "share": lambda n, each: {"answer": each, "total": n * each},
    "largest": lambda a, b, c: {"answer": max(a, b, c)},
    "metres": lambda m, c: {"answer": 100 * m + c},
    "trip": lambda hours, speed, extra: {"answer": hours * speed + extra},
}


def _sum(row: Mapping[str, Any], dice: Dice) -> tuple[Slots, str]:
    numbers = {slot: dice.number(low, high) for slot, (low, high) in row["ranges"].items()}
    numbers |= _SUMS[row["name"]](**numbers)
    return numbers, str(numbers["answer"])


def _arguments(split: str, tool: str, dice: Dice) -> dict[str, Any]:
    """Arguments drawn from the tool's schema, in which a property is an enum or a whole number with both bounds."""
    spec = next(spec for spec in own_tools(split) if spec.name == tool)
    return {
        key: dice.pick(schema["enum"]) if "enum" in schema else dice.number(schema["minimum"], schema["maximum"])
        for key, schema in spec.parameters["properties"].items()
    }


# --- strings: (slots, answer)


def _reverse(dice: Dice) -> tuple[Slots, str]:
    word = "".join(dice.words(2))
    return {"word": word}, word[::-1]


def _letters(dice: Dice) -> tuple[Slots, str]:
    letter, n = dice.pick("abcdefghijklmnopqrstuvwxyz"), dice.number(2, 13)
    others = [dice.pick("abcdefghijklmnopqrstuvwxyz".replace(letter, "")) for _ in range(dice.number(6, 12))]
    mixed = dice.some([letter] * n + others, n + len(others))
    return {"letter": letter, "word": "".join(mixed)}, str(n)


def _nth(dice: Dice) -> tuple[Slots, str]:
    words = dice.words(dice.number(5, 8))
    k = dice.number(2, len(words))
    return {"k": k, "words": ", ".join(words)}, words[k - 1]


def _sort(dice: Dice) -> tuple[Slots, str]:
    words = dice.words(dice.number(3, 5))
    return {"words": ", ".join(words)}, " ".join(sorted(words))


def _initials(dice: Dice) -> tuple[Slots, str]:
    words = dice.words(dice.number(4, 6))
    return {"words": ", ".join(words)}, "".join(word[0] for word in words)


def _capitals(dice: Dice) -> tuple[Slots, str]:
    words = dice.words(dice.number(4, 6))
    k, place = dice.pick(((0, "first"), (1, "second"), (2, "third"), (-1, "last")))
    return {"place": place, "words": ", ".join(words)}, words[k].upper()


def _repeats(dice: Dice) -> tuple[Slots, str]:
    word, *others = dice.words(3)
    n, m = dice.number(2, 12), dice.number(4, 8)
    mixed = dice.some([word] * n + [dice.pick(others) for _ in range(m)], n + m)
    return {"word": word, "words": ", ".join(mixed)}, str(n)


_STRINGS: Mapping[str, Callable[[Dice], tuple[Slots, str]]] = {
    "reverse": _reverse,
    "letters": _letters,
    "nth": _nth,
    "sort": _sort,
    "initials": _initials,
    "capitals": _capitals,
    "repeats": _repeats,
}


# --- formats: (slots, gold, rules)


def _bullets(dice: Dice) -> tuple[Slots, str, Rules]:
    n, k = dice.number(2, 5), dice.number(2, 5)
    words = dice.words(n * k)
    first, last = words[0], words[-1]
    gold = "\n".join("- " + " ".join(words[i : i + k]) for i in range(0, n * k, k))
    rules: Rules = [["lines", n], ["bulleted", "- "], ["line_words", k], ["case", "small"]]
    rules += [["starts", f"- {first} "], ["ends", f" {last}"]]
    return {"n": n, "k": k, "first": first, "last": last}, gold, rules


def _object(dice: Dice) -> tuple[Slots, str, Rules]:
    keys, word, low, n = (
        dice.some(_data()["labels"], 3),
        *dice.words(1),
        dice.number(10, 90),
        dice.number(2, 5),
    )
    key, whole, items = keys
    gold = json.dumps({key: word, whole: low + dice.number(1, 9), items: dice.words(n)})
    rules: Rules = [["object", ""], ["object_keys", keys], ["value", [key, word]], ["above", [whole, low]]]
    rules += [["strings", [items, n]]]
    return {"key": key, "whole": whole, "items": items, "word": word, "low": low, "n": n}, gold, rules


def _pairs(dice: Dice) -> tuple[Slots, str, Rules]:
    n = dice.number(3, 5)
    keys, lines = dice.some(_data()["labels"], n), []
    for key, word in zip(keys, dice.words(n), strict=True):
        lines.append(f"{key}: {word}")
    facts = " ".join(f"The {line.replace(':', ' is')}." for line in dice.some(lines, n))
    rules: Rules = [["lines", n], ["keys", keys], *(["pair", line] for line in lines)]
    return {"facts": facts, "order": ", ".join(keys)}, "\n".join(lines), rules


def _sentence(dice: Dice) -> tuple[Slots, str, Rules]:
    n = dice.number(5, 12)
    opening, inside, *rest = dice.words(n)
    gold = " ".join([opening.capitalize(), inside, *rest]) + "."
    rules: Rules = [["words", n], ["capital", ""], ["holds", inside], ["ends", f" {rest[-1]}."], ["one_sentence", ""]]
    return {"n": n, "inside": inside, "last": rest[-1]}, gold, rules


def _row(dice: Dice) -> tuple[Slots, str, Rules]:
    words = dice.words(dice.number(3, 6))
    cells = sorted(words)
    rules: Rules = [["row", ""], ["cell_count", len(cells)], ["cell_set", cells], ["cells", cells]]
    return {"words": ", ".join(words)}, f"| {' | '.join(cells)} |", rules


def _acrostic(dice: Dice) -> tuple[Slots, str, Rules]:
    word, k, style = dice.pick(_data()["short"]), dice.number(2, 4), dice.pick(("small", "capital"))
    fill = dice.words(len(word) * (k - 1))
    rows = [[_starting_with(letter), *fill[i * (k - 1) : (i + 1) * (k - 1)]] for i, letter in enumerate(word)]
    gold, end = "\n".join(map(" ".join, rows)), f" {fill[-1]}"
    if style == "capital":
        gold, end = gold.upper(), end.upper()
    rules: Rules = [["lines", len(word)], ["initials", word], ["line_words", k], ["case", style], ["ends", end]]
    return {"word": word, "n": len(word), "k": k, "style": style, "last": fill[-1]}, gold, rules


def _brackets(dice: Dice) -> tuple[Slots, str, Rules]:
    word, n, style = *dice.words(1), dice.number(3, 9), dice.pick(("small", "capital"))
    joint, mark = dice.pick((("plus sign", " + "), ("slash", " / "), ("star", " * "), ("equals sign", " = ")))
    shape, pair = dice.pick((("square", "[]"), ("round", "()"), ("curly", "{}")))
    text = mark.join([word if style == "small" else word.upper()] * n)
    rules: Rules = [["wrapped", pair], ["pieces", [mark, n]], ["piece", [mark, word]], ["case", style]]
    slots: Slots = {"word": word, "n": n, "style": style, "joint": joint, "sample": f"a{mark}b", "shape": shape}
    return slots, pair[0] + text + pair[1], rules


_FORMATS: Mapping[str, Callable[[Dice], tuple[Slots, str, Rules]]] = {
    "bullets": _bullets,
    "object": _object,
    "pairs": _pairs,
    "sentence": _sentence,
    "row": _row,
    "acrostic": _acrostic,
    "brackets": _brackets,
}


# --- data


@cache
def families(split: str) -> Mapping[str, Mapping[str, Any]]:
    """The families of a split by name: "group", "phrases", and for sums "ranges", for tools the "calls" they want."""
    return {row["name"]: row for row in _data()["families"] if row["split"] == split}


@cache
def own_tools(split: str) -> tuple[ToolSpec, ...]:
    """The three tools on offer in the tool tasks of a split."""
    return tuple(ToolSpec(**row) for row in _data()["tools"][split])


@cache
def _starting_with(letter: str) -> str:
    return next(word for word in _data()["words"] if word.startswith(letter))


def _data() -> dict[str, Any]:
    data: dict[str, Any] = read_data(DATA)
    return data
