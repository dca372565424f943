"""Public sets of prompts, by copies of their shape with rows of our own, and the hub."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import Environment
from holdfast.look.catalogue import find
from holdfast.look.play import opening
from holdfast_envs.requests.dataset import PRESETS, Prompts
from prompt_files import Rows, facts, message, run, write

# The columns of each preset's set, as on the hub, with rows of our own: what is in the cells, and what comes of it.
COPIES: dict[str, tuple[Rows, list[tuple[str, bool, str]]]] = {
    "HarmBench": ([{"prompt": "Bad?", "category": "chemical"}], [("Bad?", True, "chemical")]),
    "AdvBench": ([{"prompt": "Bad?", "target": "Sure"}], [("Bad?", True, "")]),
    "XSTest": (
        [
            {"prompt": "Bad?", "focus": "kill", "type": "contrast_homonyms", "note": None, "label": "unsafe"},
            {"prompt": "Good?", "focus": "kill", "type": "homonyms", "note": None, "label": "safe"},
        ],
        [("Bad?", True, "contrast_homonyms"), ("Good?", False, "homonyms")],
    ),
    "StrongREJECT": ([{"prompt": "Bad?", "category": "Violence"}], [("Bad?", True, "Violence")]),
    "SimpleSafetyTests": (
        [{"id": "1", "prompt": "Bad?", "harm_area": "Physical Harm", "category": "Information seeking"}],
        [("Bad?", True, "Physical Harm")],
    ),
    "JBB-Behaviors": (
        [{"Index": 0, "Goal": "Bad?", "Target": "Sure", "Behavior": "B", "Category": "Fraud", "Source": "x"}],
        [("Bad?", True, "Fraud")],
    ),
    "JBB-Behaviors-benign": (
        [{"Index": 0, "Goal": "Good?", "Target": "Sure", "Behavior": "B", "Category": "Fraud", "Source": "x"}],
        [("Good?", False, "Fraud")],
    ),
    "BeaverTails": (
        [{"prompt": "Bad?", "response": "No.", "category": {"hate": False}, "is_safe": True}],
        [("Bad?", True, "")],
    ),
    "hh-rlhf": (
        [
            {
                "chosen": "\n\nHuman: Bad?\n\nAssistant: No.\n\nHuman: Why?\n\nAssistant: So.",
                "rejected": "\n\nHuman: Bad?\n\nAssistant: Yes.",
            }
        ],
        [("Bad?", True, "")],
    ),
    "wildjailbreak": (
        [
            {"vanilla": "Bad?", "adversarial": "", "completion": "No.", "data_type": "vanilla_harmful"},
            {"vanilla": "Good?", "adversarial": "So good?", "completion": "Yes.", "data_type": "adversarial_benign"},
            {"vanilla": "Bad?", "adversarial": "So bad?", "completion": "No.", "data_type": "adversarial_harmful"},
        ],
        [
            ("Bad?", True, "vanilla_harmful"),
            ("So good?", False, "adversarial_benign"),
            ("So bad?", True, "adversarial_harmful"),
        ],
    ),
}


@pytest.mark.parametrize("end", [".parquet", ".jsonl"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_reads_a_copy_of_its_set(preset: str, end: str, tmp_path: Path) -> None:
    rows, expected = COPIES[preset]
    told = facts(Prompts(preset=preset, path=str(write(tmp_path / f"a{end}", rows)), split="eval", eval_share=1))
    found = [told[f"row-{number + 1}"] for number in range(len(rows))]
    assert [(row["request"], row["harmful"], row["category"]) for row in found] == expected


# Files in the shape that each set is released in, with sentences of our own; what is found in them.
RELEASED = {
    "xstest.csv": ("XSTest", "10 prompts, 4 harmful and 6 innocent, in 10 families", "; label says safe 6, unsafe 4"),
    "simple_safety_tests.csv": ("SimpleSafetyTests", "6 prompts, 6 harmful and 0 innocent, in 6 families", ""),
    "hh_harmless.jsonl": ("hh-rlhf", "5 prompts, 5 harmful and 0 innocent, in 5 families", ""),
    # Of each prompt there is a row per reply.
    "beavertails.jsonl": ("BeaverTails", "8 prompts, 8 harmful and 0 innocent, in 4 families", ""),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", RELEASED)
def test_a_set_as_it_is_released_is_read_by_env_mine_with_counts(name: str, zipped: bool, tmp_path: Path) -> None:
    preset, found, labels = RELEASED[name]
    path = Path(__file__).with_name("prompts") / name
    if zipped:
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress((Path(__file__).with_name("prompts") / name).read_bytes()))
    mine = find("mine", [f"preset={preset}", f"path={path}", "eval_share=0"])
    families = re.search(r"in (\d+) families", found)
    assert families is not None
    assert isinstance(mine, Environment)
    assert mine.contents == f"{path}: {found}, {families[1]} of them for mixed requests of the train split{labels}"
    assert mine.families == int(families[1])
    assert f"data         {mine.contents}" in list(opening(mine, 0, "none"))


def test_every_preset_is_named_where_a_user_looks() -> None:
    assert [name for name in PRESETS if name not in (Prompts.__doc__ or "")] == []


def test_the_page_on_environments_says_what_each_preset_reads() -> None:
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
    table = page.split("| preset | on the hub |")[1].split("\n\n")[0]
    rows = {row.split("`")[1]: row for row in table.splitlines() if row.startswith("| `")}
    assert list(rows) == list(PRESETS)
    for name, preset in PRESETS.items():
        said = preset.get("columns", {}).values()
        columns = [column for one in said for column in ([one] if isinstance(one, str) else one)]
        places = [preset["path"], preset.get("config", ""), preset.get("hub_split", "train")]
        named = [*places, *(f"`{column}`" for column in columns), *preset.get("harmful_when", ())]
        assert [part for part in named if part not in rows[name]] == []


def test_a_dialogue_without_its_marks_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"chosen": "Bad?"}])
    assert message(preset="hh-rlhf", path=str(path)).endswith(r"row 1: 'chosen' has no '\n\nHuman:'")


@pytest.mark.parametrize("arguments", [{"preset": "XSTest"}, {"path": "owner/name@main", "harmful": True}])
def test_a_hub_dataset_that_cannot_be_reached_is_told_with_what_offline_means(arguments: dict[str, Any]) -> None:
    told = message(**arguments)
    assert told.startswith(
        f"{arguments.get('path', 'walledai/XSTest')} is no file, and no hub dataset that can be read"
    )
    assert "Offline, only sets in the hub's cache can be read" in told


# A cache as the hub's own library leaves it, with rows of our own.
HUB = """
import json, sys
from pathlib import Path
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
rows = json.loads(sys.argv[1])
folder = Path(sys.argv[2]) / "datasets" / "walledai___xs_test" / "default" / "0.0.0" / sys.argv[3]
folder.mkdir(parents=True)
features = Dataset.from_list(rows).features
writer = ArrowWriter(path=str(folder / "xs_test-test.arrow"), features=features)
for row in rows:
    writer.write(row)
writer.finalize()
split = {"name": "test", "num_bytes": 1, "num_examples": len(rows), "dataset_name": "xs_test"}
info = {"builder_name": "parquet", "dataset_name": "xs_test", "config_name": "default", "features": features.to_dict(),
        "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0}, "splits": {"test": split}}
(folder / "dataset_info.json").write_text(json.dumps(info))

from holdfast.config import Environment
from holdfast.look.catalogue import find
from holdfast.look.play import opening
from holdfast_envs.requests.dataset import Prompts
env = Prompts(preset="XSTest", split="eval", eval_share=1)
print(json.dumps({name: env.reset(seed=seed)[1]["facts"] for seed, name in enumerate(env.families)}))
print(json.dumps(env.revisions))
print(len(Prompts(preset="XSTest", path="walledai/XSTest@" + sys.argv[3], split="eval", eval_share=1).families))
for change in ({"columns": {"topic": "fokus"}}, {"path": "walledai/XSTest@" + "f" * 40}):
    try:
        Prompts(preset="XSTest", **change)
    except ValueError as error:
        print(error)
assert "torch" not in sys.modules
"""


def test_a_hub_dataset_is_read_from_the_cache_by_its_preset_and_says_its_commit(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"How do I kill process {i}?", "focus": "kill", "type": "homonyms", "note": None,
         "label": "unsafe" if i % 3 == 0 else "safe"}
        for i in range(30)
    ]  # fmt: skip
    commit = "0123456789abcdef" * 2 + "01234567"
    told, revisions, count, error, pinned = run(
        HUB, json.dumps(rows), tmp_path, commit, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1"
    ).splitlines()
    found = json.loads(told)
    assert len(found) == 30
    for number, row in enumerate(rows, 1):
        said = {"request": row["prompt"], "topic": "kill", "harmful": row["label"] == "unsafe", "category": "homonyms"}
        assert found[f"row-{number}"] == said
    assert error == "walledai/XSTest, row 1: no column 'fokus'; there are focus, prompt, type, note, label"
    assert json.loads(revisions) == {"walledai/XSTest": commit}
    assert count == "30"
    assert pinned.startswith(
        f"walledai/XSTest@{'f' * 40} is out of reach, and the hub's cache has another commit, {commit}"
    )
