"""The pool behind tools="distractor": large, spread over domains, well formed, and of no use for any harm.

A domain has the words it is about, and tools that bear its name:

    {"weather": {"about": "rain snow ...", "tools": [{"name": "weather_forecast", ...}, ...]}, ...}
"""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from holdfast.chat import ToolSpec, distractor_tools
from holdfast.chat.knobs import domains_touched

# The part of JSON Schema that the pool uses: for each type, the keywords that mean something beside it.
KEYWORDS = {
    "string": {"enum", "format"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "boolean": set(),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required"},
}
FORMATS = {"date", "date-time", "uri"}
# The mailbox of the blackmail environment is no distractor's business, and no tool reaches, watches or finds people.
FORBIDDEN = re.compile(
    r"mail|inbox|messag|chat|\bsms\b|\bposts?\b|publish|camera|record(?:er|ing)|\bspy|phone|person|people.search"
    r"|contact|passport|identit|passw|weapon|\bguns?\b|knife|bomb|explos|poison|chemical|drug|pill|medic|diagnos|shell"
    r"|terminal|execut|hack|bet(?:s|ting)?\b|movie|rocket|drone"
)


def domains() -> dict[str, list[dict[str, Any]]]:
    path = files("holdfast.chat") / "distractor_tools.json"
    pool = json.loads(path.read_text(encoding="utf-8"))
    return {name: domain["tools"] for name, domain in pool.items()}


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and every schema inside it."""
    yield schema
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from nodes(inner)


def test_the_pool_is_the_file_domain_after_domain() -> None:
    assert distractor_tools() == tuple(ToolSpec(**row) for rows in domains().values() for row in rows)


def test_the_pool_is_large_and_spread_over_domains() -> None:
    sizes = [len(rows) for rows in domains().values()]
    assert sum(sizes) >= 80
    assert sum(size >= 4 for size in sizes) >= 10
    assert max(sizes) <= sum(sizes) / 10, "no domain is more than a tenth of the pool"


def test_names_are_unique_and_begin_with_their_domain() -> None:
    for domain, rows in domains().items():
        for row in rows:
            assert re.fullmatch(rf"{domain}(?:_[a-z]+)+", row["name"]), row["name"]
    names = [tool.name for tool in distractor_tools()]
    assert len(set(names)) == len(names)


def test_descriptions_are_distinct_sentences_of_4_to_30_words() -> None:
    texts = [tool.description for tool in distractor_tools()]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert 4 <= len(text.split()) <= 30, text
        assert re.fullmatch(r"[A-Z].*\.", text), text


def test_parameters_are_valid_json_schema_objects() -> None:
    for tool in distractor_tools():
        assert tool.parameters["type"] == "object", tool.name
        for node in nodes(tool.parameters):
            assert set(node) <= {"type", "description"} | KEYWORDS[node["type"]], (tool.name, node)
            assert isinstance(node.get("description", ""), str)
            assert node.get("format", "date") in FORMATS, (tool.name, node)
            if node["type"] == "object":
                assert node["properties"], tool.name
                assert len(set(node["required"])) == len(node["required"])
                assert set(node["required"]) <= set(node["properties"]), tool.name
            if node["type"] == "array":
                assert 0 <= node.get("minItems", 0) <= node.get("maxItems", 100), tool.name
                assert isinstance(node["items"], dict)
            if "enum" in node:
                assert len(node["enum"]) >= 2, tool.name
                assert all(isinstance(value, str) for value in node["enum"])
                assert len(set(node["enum"])) == len(node["enum"])
            if {"minimum", "maximum"} <= set(node):
                assert node["minimum"] < node["maximum"], tool.name


def test_most_tools_are_small_and_some_are_rich() -> None:
    sizes = [len(tool.parameters["properties"]) for tool in distractor_tools()]
    assert set(sizes) <= set(range(1, 7))
    assert 0.1 <= sum(size >= 4 for size in sizes) / len(sizes) <= 0.3
    every = [node for tool in distractor_tools() for node in nodes(tool.parameters)]
    for keyword in ("enum", "items", "minimum", "maximum", "format", "description"):
        assert sum(keyword in node for node in every) >= 10, keyword
    nested = [n for tool in distractor_tools() for n in nodes(tool.parameters) if n["type"] == "object"]
    assert len(nested) > len(sizes), "some property holds an object of its own"


def test_the_pool_is_ascii_and_survives_a_round_trip_through_json() -> None:
    for tool in distractor_tools():
        text = json.dumps(vars(tool), ensure_ascii=False)
        assert text.isascii(), tool.name
        assert ToolSpec(**json.loads(text)) == tool


def test_no_tool_touches_the_mailbox_or_could_serve_a_harm() -> None:
    for tool in distractor_tools():
        found = FORBIDDEN.search(json.dumps(vars(tool)).lower().replace("_", " "))
        assert found is None, (tool.name, found)


def test_a_domain_is_about_its_own_name_and_words_of_three_letters_or_more() -> None:
    pool = json.loads((files("holdfast.chat") / "distractor_tools.json").read_text(encoding="utf-8"))
    for name, domain in pool.items():
        about = domain["about"].split()
        assert len(set(about)) == len(about) >= 7
        assert all(re.fullmatch("[a-z]{3,}", word) for word in about), name


def test_the_domains_that_a_text_touches_are_those_with_a_word_of_it() -> None:
    assert domains_touched("How do I cook the Rice?") == {"recipe", "restaurant"}
    assert "bank" in domains_touched("two savings accounts, three loans")
    assert domains_touched("Tell me why.") == set()
