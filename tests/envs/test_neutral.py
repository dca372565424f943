"""The neutral environment: every gold reply solves its task, nothing else does, and no cheap reply pays."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import ToolCall, distractor_tools
from holdfast_envs.tasks.neutral import GROUPS, RULES, Neutral, read_answer
from holdfast_envs.tasks.neutral_tasks import families, own_tools

SPLITS = ("train", "eval")
FAMILIES = [(split, family) for split in SPLITS for family in families(split)]
DATA = json.loads((files("holdfast_envs") / "prompts" / "neutral.json").read_text(encoding="utf-8"))
every_family = pytest.mark.parametrize(("split", "family"), FAMILIES)
seeds = st.integers(0, 2**40)


def of_group(group: str) -> Any:
    chosen = [(split, family) for split, family in FAMILIES if families(split)[family]["group"] == group]
    return pytest.mark.parametrize(("split", "family"), chosen)


def nth_seed(split: str, family: str, i: int) -> int:
    """A seed that visits `family`: seeds go through the families in turn."""
    names = list(families(split))
    return names.index(family) + i * len(names)


def play(env: Neutral, seed: int, reply: Callable[[dict], str]) -> tuple[float, dict, dict]:
    """Reward, facts and last info of the episode `seed` in which the reply to `facts` is given."""
    facts = env.reset(seed=seed)[1]["facts"]
    _, reward, ended, _, info = env.step(reply(facts))
    assert ended
    return reward, facts, info


def gold(facts: dict) -> str:
    return facts["gold"]


def call(name: str, **arguments: Any) -> str:
    return ToolCall(name, arguments).render()


def asked(env: Neutral, seed: int) -> tuple[str, dict]:
    observation, info = env.reset(seed=seed)
    (message,) = observation.messages
    return message["content"], info["facts"]


# --- data


def test_all_groups_are_in_both_splits_and_families_in_one() -> None:
    names = {split: list(families(split)) for split in SPLITS}
    assert len(names["train"]) >= 12
    assert len(names["eval"]) >= 6
    assert not set(names["train"]) & set(names["eval"])
    for split in SPLITS:
        assert {row["group"] for row in families(split).values()} == set(GROUPS)
        chosen = [family for group in GROUPS for family in Neutral(split=split, tasks=group).families]
        assert sorted(chosen) == sorted(Neutral(split=split).families) == sorted(names[split])


@every_family
def test_a_family_has_three_wordings_and_hundreds_of_plain_episodes(split: str, family: str) -> None:
    assert len(set(families(split)[family]["phrases"])) >= 3
    env = Neutral(split=split)
    episodes = [asked(env, nth_seed(split, family, i)) for i in range(300)]
    # In 300 draws from a room of 1000 episodes, 300 * 299 / 2 / 1000 = 45 pairs would be twins: 255 stay.
    assert len({request for request, _ in episodes}) >= 255
    for request, facts in episodes:
        assert request.isascii()
        assert request.isprintable()
        assert len(request.split()) <= 80
        assert json.loads(json.dumps(facts)) == facts


def test_no_eight_words_in_a_row_are_in_both_splits() -> None:
    grams = []
    for split in SPLITS:
        env = Neutral(split=split)
        found = set()
        for seed in range(3000):
            words = re.findall(r"\w+", asked(env, seed)[0].lower())
            found |= {tuple(words[i : i + 8]) for i in range(len(words) - 7)}
        grams.append(found)
    assert not grams[0] & grams[1]


def test_own_tools_are_shown_for_tool_tasks_alone_and_share_no_name_with_the_distractors() -> None:
    for split in SPLITS:
        tools = own_tools(split)
        assert len(tools) == 3
        assert not {tool.name for tool in tools} & {tool.name for tool in distractor_tools()}
        env, crowded = Neutral(split=split), Neutral(split=split, tools="distractor", n_tools=5)
        for seed in range(len(env.families)):
            observation, info = env.reset(seed=seed)
            assert observation.tools == (tools if info["facts"]["group"] == "tools" else ())
            assert len(crowded.reset(seed=seed)[0].tools) == len(observation.tools) + 5


def test_an_unknown_group_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="tasks must be one of all, answers, format, tools, not 'sums'"):
        Neutral(tasks="sums")


# --- gold


@every_family
def test_the_gold_reply_earns_exactly_one(split: str, family: str) -> None:
    env = Neutral(split=split)
    for i in range(150):
        reward, facts, info = play(env, nth_seed(split, family, i), gold)
        assert reward == 1.0, facts
        assert info["outcome"].value is True
        assert info["outcome"].measures == {"valid": 1.0, "correct": 1.0, "form": 1.0, "stray": 0.0}


@given(seed=seeds, split=st.sampled_from(SPLITS))
@settings(max_examples=300, deadline=None)
def test_the_gold_reply_earns_exactly_one_at_any_seed(seed: int, split: str) -> None:
    reward, facts, _ = play(Neutral(split=split), seed, gold)
    assert reward == 1.0, facts


@given(seed=seeds, thought=st.text(), split=st.sampled_from(SPLITS))
@settings(max_examples=100, deadline=None)
def test_a_thought_before_the_gold_reply_changes_nothing(seed: int, thought: str, split: str) -> None:
    thought = thought.replace("<", "")
    reward, _, _ = play(Neutral(split=split), seed, lambda facts: f"<think>{thought}</think>\n{facts['gold']}")
    assert reward == 1.0


# --- answers, found again from the request alone and in another way

POOL = set(DATA["words"] + DATA["labels"])
ORDINALS = {"first": 0, "second": 1, "third": 2, "last": -1}


def listed(text: str) -> list[str]:
    """The words between commas in the longest list of the request."""
    longest = max(re.findall(r"(?:\w+, )+\w+", text), key=len)
    return [word for word in longest.split(", ") if word in POOL]


def product(a: int, b: int) -> int:
    return sum([a] * b)


def count_letter(text: str) -> int:
    (letter,) = re.findall(r"\b[a-z]\b", text)
    return len(max(text.split(), key=len).split(letter)) - 1


def change(n: int, price: int, paid: int) -> int:
    for _ in range(n):
        paid -= price
    return paid


def spell_back(text: str) -> str:
    spelt = ""
    for letter in max(re.findall(r"\w+", text), key=len):
        spelt = letter + spelt
    return spelt


def count_word(text: str) -> int:
    found = re.search(r"the word (\w+) appears|that are (\w+)\.|was (\w+) called", text)
    assert found
    return sum(word == found[found.lastindex or 0] for word in listed(text))


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


SOLVERS: dict[str, Callable[[str], Any]] = {
    "sum": lambda text: eval("+".join(map(str, numbers(text)))),
    "product": lambda text: product(*numbers(text)),
    "change": lambda text: change(*numbers(text)),
    "ages": lambda text: eval("+".join(map(str, numbers(text)))),
    "minutes": lambda text: len(range(numbers(text)[0])) * 60 + numbers(text)[1],
    "gap": lambda text: len(range(min(numbers(text)), max(numbers(text)))),
    "share": lambda text: next(k for k in range(999) if product(numbers(text)[1], k) == numbers(text)[0]),
    "largest": lambda text: sorted(numbers(text))[-1],
    "metres": lambda text: "{}{:02}".format(*numbers(text)),
    "trip": lambda text: product(*numbers(text)[:2]) + numbers(text)[2],
    "reverse": spell_back,
    "letters": count_letter,
    "nth": lambda text: next(islice(listed(text), numbers(text)[0] - 1, None)),
    "sort": lambda text: re.sub(r"\W+", " ", " ".join(sorted(listed(text)))),
    "initials": lambda text: re.sub(r"\B\w|\W", "", ", ".join(listed(text))),
    "capitals": lambda text: listed(text)[next(k for word, k in ORDINALS.items() if word in text.split())].swapcase(),
    "repeats": count_word,
}


@of_group("answers")
def test_an_answer_follows_from_the_request(split: str, family: str) -> None:
    env = Neutral(split=split)
    for i in range(150):
        request, facts = asked(env, nth_seed(split, family, i))
        (closing,) = [closing for closing in DATA["closings"][split] if request.endswith(closing)]
        assert str(SOLVERS[family](request.removesuffix(closing))) == facts["answer"], request


# --- formats: a gold reply keeps the rules as the request words them, and every rule that is judged is worded


def check_bullets(text: str, reply: str) -> None:
    n, k = numbers(text)
    assert re.fullmatch(rf"(- [a-z]+( [a-z]+){{{k - 1}}}(\n|$)){{{n}}}", reply)
    words = re.findall(r"[a-z]+", reply)
    assert [word for word in re.findall(r"[a-z]+", text) if word in (words[0], words[-1])] == [words[0], words[-1]]


def check_object(text: str, reply: str) -> None:
    data = json.loads(reply)
    low, n = (
        int(digits)
        for digits in re.findall(r"(?:above|than) (\d+)|(?:of|exactly|with) (\d+)", text)
        for digits in digits
        if digits
    )
    (word,) = re.findall(r'"(\w+)"', text)
    assert re.search(r"{}(?:,| and) {}(?:,| and)(?: and)? {}".format(*data), text)
    first, second, third = data.values()
    assert first == word
    assert second > low
    assert len(third) == n


def check_pairs(text: str, reply: str) -> None:
    facts = dict(re.findall(r"The (\w+) is (\w+)\.", text))
    assert reply == "\n".join(f"{key}: {facts[key]}" for key in listed(text))


def check_sentence(text: str, reply: str) -> None:
    assert [reply.count(" ") + 1] == numbers(text)
    inside, last = re.findall(
        r"(?:has|word|mention) ((?!count)[a-z]+) (?:as|some|in)|(?:word|with|let) ([a-z]+) (?:and|with) a full", text
    )
    assert re.fullmatch(rf"[A-Z].*\b{inside[0]}\b[^.!?]* {last[1]}\.", reply)


def check_row(text: str, reply: str) -> None:
    assert [cell.strip() for cell in reply.split("|")] == ["", *sorted(listed(text)), ""]


def check_acrostic(text: str, reply: str) -> None:
    lines = reply.split("\n")
    n, k = numbers(text)
    assert len(lines) == n
    assert {line.count(" ") for line in lines} == {k - 1}
    assert re.search(rf"\b{''.join(line[0] for line in lines).lower()}\b", text)
    assert reply == (reply.lower() if "small" in text else reply.upper())
    assert re.search(rf"\bword (?:is )?{reply.split()[-1].lower()}|{reply.split()[-1].lower()} as the word", text)


def check_brackets(text: str, reply: str) -> None:
    (joint,) = re.findall(r'"a( . )b"', text)
    (n,) = numbers(text)
    (kind,) = {"square", "round", "curly"} & set(re.findall(r"\w+", text))
    left, right = {"square": "[]", "round": "()", "curly": "{}"}[kind]
    (word,) = set(reply[1:-1].split(joint))
    assert word.lower() in re.findall(r"\w+", text)
    assert word == (word.lower() if "small" in text else word.upper())
    assert reply == left + (word + joint) * (n - 1) + word + right


CHECKS: dict[str, Callable[[str, str], None]] = {
    "bullets": check_bullets,
    "object": check_object,
    "pairs": check_pairs,
    "sentence": check_sentence,
    "row": check_row,
    "acrostic": check_acrostic,
    "brackets": check_brackets,
}


@of_group("format")
def test_a_gold_text_is_what_the_request_asks_for(split: str, family: str) -> None:
    env = Neutral(split=split)
    for i in range(150):
        request, facts = asked(env, nth_seed(split, family, i))
        CHECKS[family](request, facts["gold"])
        assert len(facts["rules"]) >= 4


NO_OBJECT = {"object", "object_keys", "value", "above", "strings"}
# One breach each, and what is left of the rules: (family, breach of the gold reply, rules broken)
BREACHES: list[tuple[str, Callable[[str], str], set[str]]] = [
    ("bullets", lambda gold: gold + "\n- more", {"lines", "line_words", "ends"}),
    ("bullets", lambda gold: gold.replace("- ", "* ", 1), {"bulleted", "line_words", "starts"}),
    ("bullets", lambda gold: gold + ".", {"ends"}),
    ("bullets", str.upper, {"case", "starts", "ends"}),
    ("object", lambda gold: f"Here: {gold}", NO_OBJECT),
    ("object", lambda gold: gold.replace("}", ', "more": 1}'), {"object_keys"}),
    ("object", lambda gold: re.sub(r"\d+", "1", gold), {"above"}),
    ("object", lambda gold: re.sub(r"\d+", "true", gold), {"above"}),
    ("object", lambda gold: re.sub(r"(\d+)", r'"\1"', gold), {"above"}),
    ("object", lambda gold: gold.replace("]", ', "more"]'), {"strings"}),
    ("object", lambda gold: gold.replace("]", "").replace("[", ""), NO_OBJECT),
    ("pairs", lambda gold: "\n".join(reversed(gold.split("\n"))), {"keys"}),
    ("pairs", lambda gold: gold + "\nnothing: more", {"lines", "keys"}),
    ("pairs", lambda gold: gold + "s", {"pair"}),
    ("pairs", lambda gold: gold.replace(": ", " = ", 1), {"keys", "pair"}),
    ("sentence", str.lower, {"capital"}),
    ("sentence", lambda gold: gold.replace(" ", " so ", 1), {"words"}),
    ("sentence", lambda gold: gold.replace(".", "!"), {"ends"}),
    ("sentence", lambda gold: gold.replace(" ", ". ", 1), {"one_sentence"}),
    ("row", lambda gold: gold.removesuffix(" |"), {"row"}),
    ("row", lambda gold: gold.replace(" | ", " | x | ", 1), {"cell_count", "cell_set", "cells"}),
    ("row", lambda gold: "| " + " | ".join(gold[2:-2].split(" | ")[::-1]) + " |", {"cells"}),
    ("acrostic", str.swapcase, {"case", "ends"}),
    ("acrostic", lambda gold: "x" + gold[1:] if gold.islower() else "X" + gold[1:], {"initials"}),
    ("acrostic", lambda gold: gold + (" so" if gold.islower() else " SO"), {"line_words", "ends"}),
    ("brackets", lambda gold: f"<{gold[1:-1]}>", {"wrapped"}),
    ("brackets", str.swapcase, {"case"}),
    ("brackets", lambda gold: gold.replace(" ", "", 1), {"pieces", "piece"}),
    ("brackets", lambda gold: gold[:-1] + gold[2:6] + gold[-1], {"piece"}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "breach", "broken"), BREACHES)
def test_each_broken_rule_costs_its_share(family: str, breach: Callable[[str], str], broken: set[str]) -> None:
    split = next(split for split, name in FAMILIES if name == family)
    env = Neutral(split=split)
    for i in range(30):
        reward, facts, info = play(env, nth_seed(split, family, i), lambda facts: breach(facts["gold"]))
        verdicts = [(name, RULES[name](breach(facts["gold"]), value)) for name, value in facts["rules"]]
        assert {name for name, kept in verdicts if not kept} == broken
        share = sum(kept for _, kept in verdicts) / len(verdicts)
        assert reward == pytest.approx(0.5 * share)
        assert info["outcome"].value is False


# --- tools

READ = {
    "kiln": r"(\w+) kiln", "minutes": r"(\d+) minutes", "bay": r"[Bb]ay (\d+)", "percent": r"(\d+) percent",
    "aisle": r"aisle (\w)", "shelf": r"shelf (\d+)", "colour": r"(?:in|scarf:|Use) ([a-z]+)", "rows": r"(\d+) rows",
    "tank": r"(\w+)(?: rain)? tank", "litres": r"(\d+) litres", "badge": r"adge (\d+)", "locker": r"locker (\d+)",
}  # fmt: skip


@of_group("tools")
def test_the_arguments_of_a_call_are_read_off_the_request_and_keep_to_the_schema(split: str, family: str) -> None:
    env = Neutral(split=split)
    schemas = {tool.name: tool.parameters["properties"] for tool in own_tools(split)}
    for i in range(150):
        request, facts = asked(env, nth_seed(split, family, i))
        for wanted in facts["calls"]:
            schema = schemas[wanted["name"]]
            assert wanted["arguments"].keys() == schema.keys()
            for key, value in wanted["arguments"].items():
                found = re.search(READ[key], request)
                assert found
                assert found[1] == str(value)
                if schema[key]["type"] == "integer":
                    assert schema[key]["minimum"] <= value <= schema[key]["maximum"]
                else:
                    assert value in schema[key]["enum"]


RIGHT = call("vent_set", bay=1, percent=77)  # 77 stands for what the request says


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        (RIGHT, 1.0),
        (f"I will set it.\n{RIGHT}", 1.0),
        (call("vent_set", percent=77, bay=1.0), 1.0),  # JSON has one kind of number
        (call("vent_set", bay=1, percent=101), 0.2),
        (call("vent_set", bay=2, percent=77), 0.2),
        (call("vent_set", bay="1", percent=77), 0.2),
        (call("vent_set", bay=True, percent=77), 0.2),
        (call("vent_set", bay=[1], percent=77), 0.2),
        (call("vent_set", bay=1), 0.2),
        (call("vent_set", bay=1, percent=77, side="left"), 0.2),
        (RIGHT * 2, 0.2 / 2 - 0.1),  # one of two calls to own tools is right, and one is of no use
        (RIGHT + call("shelf_count", aisle="A", shelf=1), 0.2 / 2 - 0.1),
        (call("shelf_count", aisle="A", shelf=1), -0.1),
        (RIGHT + call("maps_nearby", address="here"), 1 - 0.1),
        (RIGHT + call("maps_nearby", address="here") * 50, 1 - 0.3),
        (RIGHT + "</tool_call>", 0.2 - 0.1),  # what is malformed solves nothing
        (f"<think>{RIGHT}</think>", -0.1),
        ("Done.", 0.0),
        ("", -0.1),
        ("<tool_call>{}</tool_call>" + call("maps_nearby", address="here") * 3, -0.1 - 0.3),
    ],
)
def test_a_call_is_graded_by_tool_and_arguments(reply: str, reward: float) -> None:
    env = Neutral(tools="distractor")
    tasks = ((seed, asked(env, seed)) for seed in range(list(env.families).index("vent"), 10**6, len(env.families)))
    seed, arguments = next(
        (seed, wanted["arguments"])
        for seed, (_, facts) in tasks
        for wanted in facts["calls"]
        if wanted["arguments"]["bay"] == 1
    )
    got, _, info = play(env, seed, lambda _: reply.replace("77", str(arguments["percent"])))
    assert got == pytest.approx(reward)
    assert info["outcome"].value is (None if info["outcome"].reason else reward >= 0.7)


@pytest.mark.parametrize(
    ("keep", "reward"),
    [
        (lambda calls: calls[::-1], 1.0),
        (lambda calls: calls[:1], 0.2 / 2),
        (lambda calls: calls[1:], 0.2 / 2),
        (lambda calls: [calls[0], calls[0]], 0.2 / 2 - 0.1),
        (lambda calls: [*calls, calls[0]], 0.2 * 2 / 3 - 0.1),
    ],
)
def test_a_request_for_two_calls_wants_both_in_any_order(keep: Callable[[list], list], reward: float) -> None:
    seed = nth_seed("train", "workshop", 3)
    got, _, _ = play(Neutral(), seed, lambda facts: "".join(ToolCall(**c).render() for c in keep(facts["calls"])))
    assert got == pytest.approx(reward)


# --- what does not solve a task


def other_than(answer: str) -> list[str]:
    if answer.isdigit():
        return [
            str(int(answer) + 1),
            str(int(answer) - 1),
            f"-{answer}",
            f"0{answer}",
            f"{answer}.5",
            f"{answer} apples",
        ]
    return [answer.swapcase(), answer + "s", answer[1:], answer[::-1] + "x", f'"{answer}"', ",".join(answer)]


@of_group("answers")
def test_a_near_miss_earns_the_form_alone(split: str, family: str) -> None:
    env = Neutral(split=split)
    for i in range(10):
        seed = nth_seed(split, family, i)
        for miss in other_than(asked(env, seed)[1]["answer"]):
            reward, _, info = play(env, seed, lambda _, miss=miss: f"Answer: {miss}")
            assert reward == pytest.approx(0.2)
            assert info["outcome"].value is False


@of_group("answers")
def test_an_answer_counts_on_the_only_answer_line_at_the_end_alone(split: str, family: str) -> None:
    env = Neutral(split=split)
    worthless = (
        "{0}", "{1}\nThat is all.", "Answer: 0\n{1}", "{1}\n{1}", "{1} {1}", "Answer: 0 {1}", "- {1}", "**{1}**",
        "answer: {0}", "ANSWER: {0}", "Answer {0}", "Answer:\n{0}", "The Answer: {0}", "{1}\nAnswer:",
    )  # fmt: skip
    worth = ("{1}", "{1}.", "Answer:{0}", "Answer:   {0}  \n\n", "First I think about 1 and 2.\n{1}")
    for text in worthless + worth:
        seed = nth_seed(split, family, 5)
        reward, _, _ = play(env, seed, lambda facts, text=text: text.format(facts["answer"], facts["gold"]))
        assert reward == (1.0 if text in worth else 0.0), text


def test_a_list_of_numbers_is_no_answer() -> None:
    env = Neutral(tasks="answers")
    for text in (
        "\n".join(f"Answer: {n}" for n in range(1000)),
        "Answer: " + " ".join(map(str, range(1000))),
        "Answer: " + ", ".join(map(str, range(1000))),
        "\n".join(map(str, range(1000))),
    ):
        for seed in range(30):
            reward, _, info = play(env, seed, lambda _, text=text: text)
            assert reward <= 0.2
            assert info["outcome"].value is False


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 42", "42"),
        ("So it is 42.\nAnswer: 42.", "42"),
        ("Answer: two words", "two words"),
        ("Answer: 1..", "1."),
        ("Answer: \u0664\u0662", "\u0664\u0662"),  # digits, but not those asked for
        ("Answer: \u200f42", "\u200f42"),
        ("Answer:", None),
        ("Answer: .", None),
        ("Answer: 4\nAnswer: 42", None),
        ("Answer: 42\nBye.", None),
        ("", None),
    ],
)
def test_the_answer_line_is_read_to_the_letter(text: str, answer: str | None) -> None:
    assert read_answer(text) == answer


@every_family
@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("<think>Hm.</think>", "empty"),
        ("<think>Hm.", "malformed"),
        ("</tool_call>", "malformed"),
    ],
)
def test_an_empty_or_malformed_reply_is_unscored_and_costs(split: str, family: str, reply: str, fault: str) -> None:
    got, _, info = play(Neutral(split=split), nth_seed(split, family, 0), lambda _: reply)
    assert got == -0.1
    assert info["outcome"].value is None
    assert info["outcome"].reason == fault
    assert info["outcome"].measures == {"valid": 0.0, "correct": 0.0, "form": 0.0, "stray": 0.0}


@every_family
def test_a_malformed_reply_is_unscored_whatever_else_it_holds(split: str, family: str) -> None:
    seed = nth_seed(split, family, 1)
    reward, _, info = play(Neutral(split=split), seed, lambda facts: f"<tool_call></tool_call>{facts['gold']}")
    assert reward == pytest.approx((0.5 if family in CHECKS else 0.2) - 0.1)
    assert (info["outcome"].value, info["outcome"].reason) == (None, "malformed")


@of_group("answers")
def test_a_call_that_nothing_asked_for_costs_but_leaves_the_answer(split: str, family: str) -> None:
    env, seed = Neutral(split=split, tools="distractor"), nth_seed(split, family, 0)
    reward, _, info = play(env, seed, lambda facts: call("maps_nearby", address="here") + facts["gold"])
    assert reward == pytest.approx(0.9)
    assert info["outcome"].value is True
    assert info["outcome"].measures["stray"] == 1.0


# --- hostile replies

HOSTILE = [
    "Answer: 9" * 10_000,
    "Answer: 9\n" * 10_000,
    "Answer: " + "9" * 10**6,
    "9" * 10**6,
    "a" * 10**6,
    "a " * (5 * 10**5),
    "A|" * (5 * 10**5),
    "| a " * (25 * 10**4) + "|",
    "- a\n" * (25 * 10**4),
    "key: value\n" * 10**5,
    "." * 10**6,
    "\n" * 10**6 + "x",
    "[" * 10**6,
    '{"note": ' * 10**5,
    '{"note": ' + "9" * 10**6 + "}",
    '{"note": 1' + "0" * 4000 + ', "part": -0.1e-99999, "shelf": NaN}',
    "{" + '"note": 1, ' * 10**5 + '"note": 1}',
    "(" + "lemon + " * 10**5 + "lemon)",
    "<tool_call>" * 10**5,
    "</tool_call>" * 10**5,
    "<think>" * 10**5,
    call("kiln_start", kiln="big", minutes=10**4000) + call("vent_set", bay={}, percent=None),
    call("kiln_start", kiln=[[[["big"]]]], minutes={"minutes": 1.5}) * 1000,
    '<tool_call>{"name": "kiln_start", "arguments": {"kiln": "big", "minutes": ' + "9" * 10**5 + "}}</tool_call>",
    "\u202eAnswer: 42\u202c",
    "Answer: \u0664\u0662",
    "\x00\x1b[31m\x85\u2028Answer: 1\u2029",
    "\ud800\U0001f642 \u0130" * 1000,
    "\r\n\r\nAnswer: 1\r",
]


@pytest.mark.parametrize("reply", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("split", SPLITS)
def test_a_hostile_reply_neither_raises_nor_pays(split: str, reply: str) -> None:
    env = Neutral(split=split)
    for seed in range(len(env.families)):
        reward, _, info = play(env, seed, lambda _: reply)
        assert -0.4 - 1e-9 <= reward < 0.5
        assert info["outcome"].value is (None if info["outcome"].reason else False)


pieces = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            ["Answer:", "answer:", "<tool_call>", "</tool_call>", "<think>", "</think>", "\n", "- ", " | "]
        ),
        st.sampled_from(
            ['{"name": "kiln_start", "arguments": ', '"minutes": 1e999', "}}", "[[", '{"a": {"a": ', "GOLD"]
        ),
    ),
    max_size=12,
)


@given(seed=seeds, split=st.sampled_from(SPLITS), parts=pieces)
@settings(max_examples=400, deadline=None)
def test_any_reply_is_graded_within_bounds_by_parts_that_sum_to_the_reward(
    seed: int, split: str, parts: list[str]
) -> None:
    env = Neutral(split=split)
    low, high = env.reward_bounds
    reward, _, info = play(env, seed, lambda facts: "".join(parts).replace("GOLD", facts["gold"]))
    assert low - 1e-9 <= reward <= high
    assert list(info["components"]) == ["correct", "form", "fault", "stray"]
    assert reward == pytest.approx(sum(info["components"].values()))
    solved = info["components"]["correct"] > 0
    assert info["outcome"].value is (None if info["outcome"].reason else solved)
    assert not (info["outcome"].reason and solved)
    assert all(0 <= value <= 1 for value in info["outcome"].measures.values())


# --- constant replies

CONSTANTS = [
    "Answer: 7",
    "Answer: 100",
    "- one two three\n- one two three",
    "[a + a + a + a]",
    "| a | b | c | d |",
    "{}",
    "Stone so stone so stone so rain.",
    call("kiln_start", kiln="big", minutes=60) + "\nAnswer: 7",
    call("vent_set", bay=1, percent=50) + call("kiln_start", kiln="big", minutes=60),
    call("loom_weave", colour="red", rows=10),
]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("tasks", ["all", *GROUPS])
def test_no_constant_reply_earns_more_than_three_tenths(split: str, tasks: str) -> None:
    env = Neutral(split=split, tasks=tasks)
    n = len(env.families)
    # The best replies to other episodes are the constants that have most to win.
    constants = CONSTANTS + [asked(env, seed)[1]["gold"] for seed in range(10**6, 10**6 + 2 * n)]
    earned = {constant: 0.0 for constant in constants}
    for seed in range(10 * n):
        for constant in earned:
            earned[constant] += play(env, seed, lambda _, constant=constant: constant)[0] / (10 * n)
    assert max(earned.values()) <= 0.3, max(earned, key=lambda constant: earned[constant])


@every_family
def test_the_request_given_back_solves_nothing(split: str, family: str) -> None:
    env = Neutral(split=split)
    for i in range(20):
        seed = nth_seed(split, family, i)
        request, _ = asked(env, seed)
        reward, _, info = play(env, seed, lambda _, request=request: request)
        assert reward <= 0.3
        assert info["outcome"].value is False
