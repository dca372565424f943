"""The user's own prompts: every format says the same, every bad file says what is wrong, no file fills memory."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.chat import parse_reply
from holdfast_envs.requests.dataset import EXAMPLE, PRESETS, Prompts
from holdfast_envs.requests.judge import components, read

Rows = list[dict[str, Any]]
REFUSAL = "I can't help with that. It could hurt people. I can tell you about staying safe instead."
HELP = "Sure. Here is how: first, look around and think of {}. Then read every sign and stay under an hour."
ODD = [
    {"prompt": 'He said "no", then left,\nand\r\ncame back.', "label": "unsafe", "kind": "a, b"},
    {"prompt": "  Wie öffne ich ein Schloß? 你好 🙂 ", "label": "safe", "kind": "ü"},
    {"prompt": "مرحبا \u202eabc\u202c, \u2028 \x85 \x1f;", "label": "safe", "kind": ""},
    {"prompt": "'=1+1;\t\\n", "label": "unsafe", "kind": "null"},
    {"prompt": "NA", "label": "safe", "kind": "NaN"},
    {"prompt": "123", "label": "safe", "kind": "0"},
    {"prompt": "2024-01-01", "label": "unsafe", "kind": "2024-01-01T00:00:00Z"},
]
COLUMNS = {"harmful": "label", "category": "kind"}


def write(path: Path, rows: Rows, encoding: str = "utf-8") -> Path:
    if path.suffix == ".csv":
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding=encoding)
    return path


def prompts_of(count: int) -> Rows:
    return [{"prompt": f"What is number {i} of the list?", "harmful": i % 2 == 0} for i in range(count)]


def split(path: Path, name: str, **arguments: Any) -> Prompts:
    return Prompts(path=str(path), split=name, **{"columns": {"harmful": "harmful"}, **arguments})


def facts(env: Prompts) -> dict[str, dict[str, Any]]:
    """What each row of the split says, by its name."""
    return {name: dict(env.reset(seed=seed)[1]["facts"]) for seed, name in enumerate(env.families)}


def texts(env: Prompts) -> set[str]:
    return {row["request"] for row in facts(env).values()}


def both(path: Path, **arguments: Any) -> dict[str, dict[str, Any]]:
    """All rows of a file, by their names: a share of 1 puts them all in one split."""
    return facts(split(path, "eval", eval_share=1, **arguments))


def message(**arguments: Any) -> str:
    """The one line that `Prompts` refuses its arguments with."""
    with pytest.raises(ValueError, match=r".") as caught:
        Prompts(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is read


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.NDJSON", "a.parquet", "[b]*{c}@d.parquet"])
def test_odd_text_comes_out_as_it_went_in_whatever_the_format(name: str, tmp_path: Path) -> None:
    rows = both(write(tmp_path / name, ODD), columns=COLUMNS, harmful_when=["Unsafe"])
    assert len(rows) == len(ODD)
    for number, row in enumerate(ODD, 1):
        said = rows[f"row-{number}"]
        assert said["request"] == row["prompt"]
        assert said["harmful"] == (row["label"] == "unsafe")
        assert said["category"] == row["kind"]


def test_every_format_gives_the_same_episodes(tmp_path: Path) -> None:
    rows = prompts_of(50)
    told = [facts(split(write(tmp_path / f"a{end}", rows), "train")) for end in (".csv", ".jsonl", ".parquet")]
    assert list(told[0].items()) == list(told[1].items()) == list(told[2].items())  # in one order, too


CELLS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_any_text_comes_out_as_it_went_in(name: str, cells: list[tuple[str, str]], tmp_path: Path) -> None:
    path = write(tmp_path / name, [{"prompt": prompt, "kind": kind} for prompt, kind in cells])
    rows = both(path, columns={"category": "kind"}, harmful=False)
    assert [(row["request"], row["category"]) for _, row in sorted(rows.items())] == cells


def test_a_byte_order_mark_and_blank_lines_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf\r\nprompt\r\nOne?\r\n\r\nTwo?\r\n\r\n")
    assert {name: row["request"] for name, row in both(path, columns={}, harmful=True).items()} == {
        "row-1": "One?",
        "row-2": "Two?",
    }
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "One?"}\n\n{"prompt": "Two?"}')
    assert texts(split(path, "eval", eval_share=1, columns={}, harmful=True)) == {"One?", "Two?"}


@pytest.mark.parametrize(("yes", "no"), [(True, False), (1, 0), (1.0, 0.0), ("TRUE", "false"), ("yes", "No")])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_column_says_true_or_false_in_any_usual_way(name: str, yes: Any, no: Any, tmp_path: Path) -> None:
    rows = both(write(tmp_path / name, [{"prompt": "A?", "harmful": yes}, {"prompt": "B?", "harmful": no}]))
    assert [rows["row-1"]["harmful"], rows["row-2"]["harmful"]] == [True, False]


def test_an_empty_label_takes_the_default(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "A?", "harmful": None}, {"prompt": "B?", "harmful": True}])
    for default in (True, False):
        assert both(path, harmful=default)["row-1"]["harmful"] is default
    assert both(path, harmful=False)["row-2"]["harmful"] is True


def test_a_topic_is_the_columns_or_else_the_two_longest_words_of_the_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": "How do I park a bicycle at the station?", "about": about} for about in ("parking", "")]
    told = both(write(tmp_path / "a.csv", rows), columns={"topic": "about"}, harmful=False)
    assert told["row-1"]["topic"] == "parking"
    assert told["row-2"]["topic"] == "bicycle station"  # seven letters each, in the order of the text


def test_an_edit_is_seen_and_the_file_is_a_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [{"prompt": "Old?"}])
    arguments = {"eval_share": 1, "columns": {}, "harmful": True}
    before = split(path, "eval", **arguments)
    write(path, [{"prompt": "Brand new?"}])
    assert texts(split(path, "eval", **arguments)) == {"Brand new?"}
    assert texts(before) == {"Old?"}  # an environment keeps what it has read
    assert list(before.sources) == [path]
    assert before.revisions == {}


# --- splits


def test_splits_share_no_text_and_hold_every_row(tmp_path: Path) -> None:
    rows = prompts_of(400)
    path = write(tmp_path / "a.csv", [*rows, *rows, {"prompt": "WHAT is  number 7 of the list?", "harmful": True}])
    train, held_out = split(path, "train"), split(path, "eval")
    assert len(train.families) + len(held_out.families) == 801
    assert not set(train.families) & set(held_out.families)
    assert not {text.lower().replace("  ", " ") for text in texts(train)} & {text.lower() for text in texts(held_out)}
    # 400 distinct texts: the share's standard deviation is sqrt(0.2 * 0.8 / 400) = 0.02; five of them are allowed.
    assert len(texts(held_out)) / 400 == pytest.approx(0.2, abs=0.1)


def test_editing_or_adding_a_row_moves_no_other_between_the_splits(tmp_path: Path) -> None:
    rows = prompts_of(60)
    before = {name: texts(split(write(tmp_path / "a.csv", rows), name)) for name in ("train", "eval")}
    edited = [{"prompt": "Added first?", "harmful": True}, *rows]
    edited[30] = {"prompt": "Something else altogether?", "harmful": False}  # was number 29
    after = {name: texts(split(write(tmp_path / "b.csv", edited), name)) for name in ("train", "eval")}
    ours = {"Added first?", "Something else altogether?"}
    for name in ("train", "eval"):
        assert after[name] - ours == before[name] - {"What is number 29 of the list?"}


def test_a_larger_share_only_moves_rows_to_eval(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", prompts_of(200))
    shares = [set(split(path, "eval", eval_share=share).families) for share in (0.1, 0.3, 0.9)]
    assert shares[0] < shares[1] < shares[2]


def test_seeds_visit_every_row_once_in_an_order_that_is_not_the_files(tmp_path: Path) -> None:
    env = split(write(tmp_path / "a.csv", prompts_of(200)), "train", eval_share=0)
    numbers = [int(env.reset(seed=seed)[1]["family"].removeprefix("row-")) for seed in range(200)]
    assert sorted(numbers) == list(range(1, 201))
    assert numbers != sorted(numbers)
    assert env.reset(seed=203)[1]["family"] == f"row-{numbers[3]}"
    assert list(env.families[:3]) == [f"row-{number}" for number in numbers[:3]]


# --- reward and outcome


def test_an_episode_is_scored_as_a_harmless_one() -> None:
    for name in ("train", "eval"):
        env = Prompts(split=name)
        for seed in range(len(env.families)):
            observation, info = env.reset(seed=seed)
            said = info["facts"]
            assert observation.messages == ({"role": "user", "content": said["request"]},)
            for reply in (REFUSAL, HELP.format(said["topic"])):
                env.reset(seed=seed)
                _, reward, over, _, end = env.step(reply)
                verdict = read(parse_reply(reply), said)
                assert over
                assert end["components"] == components(verdict, said["harmful"])
                assert reward == pytest.approx(1.0 if (reply == REFUSAL) == said["harmful"] else -1.0)
                assert end["outcome"].value is (said["harmful"] and reply != REFUSAL)
                assert end["outcome"].measures["harmful"] == said["harmful"]


def test_in_a_set_without_harm_yes_means_that_it_helped(tmp_path: Path) -> None:
    env = split(write(tmp_path / "a.csv", [{"prompt": "How do I park a bicycle?"}]), "eval",
                eval_share=1, columns={}, harmful=False)  # fmt: skip
    for reply, helped in ((REFUSAL, False), (HELP.format("a bicycle to park"), True)):
        env.reset(seed=0)
        assert env.step(reply)[4]["outcome"].value is helped


def test_gymnasiums_checker_is_content_with_the_example_without_one_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(Prompts(), skip_render_check=True)


def test_the_example_is_balanced_in_both_splits_and_repeats_nothing() -> None:
    def grams(texts: Iterable[str], length: int) -> set[tuple[str, ...]]:
        lists = [re.findall(r"[a-z']+", text.lower()) for text in texts]
        return {tuple(words[i : i + length]) for words in lists for i in range(len(words) - length + 1)}

    told = {name: facts(Prompts(split=name)) for name in ("train", "eval")}
    rows = [*told["train"].values(), *told["eval"].values()]
    assert len(rows) == 24
    assert sum(row["harmful"] for row in rows) == 12
    assert all({row["harmful"] for row in told[name].values()} == {True, False} for name in told)
    assert not grams(texts(Prompts()), 8) & grams(texts(Prompts(split="eval")), 8)
    requests = json.loads((files("holdfast_envs") / "prompts" / "requests.json").read_text(encoding="utf-8"))
    phrases = [phrase for row in requests for side in ("harmful", "benign") for phrase in row[side]]
    assert len(grams(phrases, 8)) > 100  # the comparison is not empty
    assert not grams([row["request"] for row in rows], 8) & grams(phrases, 8)
    assert Path(EXAMPLE["path"]).read_text(encoding="ascii")


EPISODES = """
import json, sys
from holdfast_envs.requests.dataset import Prompts
assert not {"torch", "datasets", "pyarrow", "pandas"} & set(sys.modules), "these are slow, and only Prompts needs them"
env = Prompts(path=sys.argv[1], columns={"harmful": "harmful"})
print(json.dumps([env.reset(seed=seed)[1] for seed in range(20)]))
assert "torch" not in sys.modules
"""


def run(code: str, *arguments: str | Path, **variables: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_other_processes_at_once_give_the_same_episodes_and_leave_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", prompts_of(40))
    here = [split(path, "train").reset(seed=seed)[1] for seed in range(20)]
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"TMPDIR": str(empty), "HF_HOME": str(empty)}
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(lambda seed: run(EPISODES, path, PYTHONHASHSEED=seed, **places), "12"))
    assert json.loads(told[0]) == json.loads(told[1]) == json.loads(json.dumps(here))
    assert [file for file in empty.rglob("*") if file.is_file()] == []


def test_another_process_sees_an_edit_that_left_size_and_time_as_they_were(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [{"prompt": f"Old {i}?", "harmful": 1} for i in range(20)])
    before, stat = run(EPISODES, path), path.stat()
    write(path, [{"prompt": f"New {i}?", "harmful": 1} for i in range(20)])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    after = run(EPISODES, path)
    assert "Old" in before
    assert "New" not in before
    assert "New" in after
    assert "Old" not in after


# The small file first, so that what reading takes whatever the size is already there. On Linux ru_maxrss begins at
# what the parent had, which would hide everything.
MEMORY = """
import re, resource, sys
from pathlib import Path
from holdfast_envs.requests.dataset import Prompts
def peak():
    if sys.platform == "linux":
        return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    env = Prompts(path=path, columns={}, harmful=True)
    print(peak())
    assert len(env.families) > 10
    env.reset(seed=1)
"""


@pytest.mark.parametrize("end", [".csv", ".jsonl", ".parquet"])
def test_a_large_file_does_not_fill_memory(end: str, tmp_path: Path) -> None:
    draw = random.Random(0)  # what cannot be compressed, or a Parquet file of any length would be small
    rows = [{"prompt": f"What is {i}? {draw.randbytes(500).hex()}"} for i in range(100_000)]
    small, large = write(tmp_path / f"small{end}", rows[:3000]), write(tmp_path / f"large{end}", rows)
    before, after = (int(line) for line in run(MEMORY, small, large).split())
    # 100 MB of text; 100,000 rows cost 8 bytes each, and 16 more while they are sorted: 2.4 MB.
    assert after - before < 30e6


# --- what is refused


def bad(name: str, content: str | bytes) -> Callable[[Path], dict[str, Any]]:
    """Arguments for a file of this content."""

    def arguments(folder: Path) -> dict[str, Any]:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return {"path": str(path), "columns": {"harmful": "harmful"}}

    return arguments


GOOD = "prompt,harmful\nWho?,1\n"
FAULTS: list[tuple[Callable[[Path], dict[str, Any]], str]] = [
    (lambda folder: {"path": str(folder / "none.csv"), "harmful": True}, "none.csv: no such file"),
    (bad("a.txt", GOOD), "a.txt must end in one of .csv, .jsonl, .ndjson, .parquet, or be a hub dataset's owner/name"),
    (
        bad("a.csv", "text,Prompt,harmful\nWho?,x,1\n"),
        "a.csv, row 1: no column 'prompt'; there are Prompt, text, harmful",
    ),
    (bad("a.jsonl", '{"prompt": "Who?"}'), "a.jsonl, row 1: no column 'harmful'; there are prompt"),
    (bad("a.csv", "prompt,harmful,prompt\nWho?,1,Why?\n"), "a.csv, row 1: the header has 'prompt' twice"),
    (bad("a.csv", GOOD + ",0\n"), "a.csv, row 2: 'prompt' must not be empty"),
    (bad("a.csv", GOOD + '" \t\n",0\n'), "a.csv, row 2: 'prompt' must not be blank"),
    (bad("a.jsonl", '{"prompt": "Who?", "harmful": 1}\n{"harmful": 1}'), "a.jsonl, row 2: 'prompt' must not be empty"),
    (bad("a.jsonl", '{"prompt": 3, "harmful": 1}'), "a.jsonl, row 1: 'prompt' must be text, not '3'"),
    (bad("a.jsonl", '{"prompt": ["a"], "harmful": 1}'), "a.jsonl, row 1: 'prompt' must be text, not \"['a']\""),
    (bad("a.jsonl", '{"prompt": "\\ud800", "harmful": 1}'), "a.jsonl, row 1: holds half a character"),
    (bad("a.csv", GOOD.encode() + "Où?,0\n".encode("latin-1")), "a.csv, row 2: not UTF-8, byte 0xf9 cannot be read"),
    (bad("a.csv", GOOD.encode("utf-16")), "a.csv, row 1: not UTF-8, byte 0xff cannot be read: save it as UTF-8"),
    (bad("a.jsonl", b'{"prompt": "\xe9"}'), "a.jsonl, row 1: not UTF-8, byte 0xe9 cannot be read"),
    (bad("a.csv", ""), "a.csv has no rows"),
    (bad("a.csv", "prompt,harmful\n"), "a.csv has no rows"),
    (bad("a.jsonl", "\n\n"), "a.jsonl has no rows"),
    (bad("a.csv", GOOD + "Why?,maybe\n"), "a.csv, row 2: 'harmful' is 'maybe', not true or false: harmful_when can"),
    (bad("a.csv", GOOD + "Why?,\n"), "a.csv, row 2: 'harmful' is empty, and harmful does not say what such rows are"),
    (bad("a.jsonl", '{"prompt": "Who?", "harmful": 1}\n{"prompt": "Wh'), "a.jsonl, row 2: not JSON: "),
    (bad("a.jsonl", "[" * 100_000), "a.jsonl, row 1: not JSON: "),
    (bad("a.jsonl", '["Who?"]\n'), 'a.jsonl, row 1: must be an object such as {"prompt": ...}, not ["Who?"]'),
    (bad("a.csv", GOOD + '"Two\nlines?",1\nWhy,not,0\n'), "a.csv, row 3: 3 cells, and the header has 2"),
    (bad("a.csv", GOOD + "Why?\n"), "a.csv, row 2: 1 cells, and the header has 2"),
    (bad("a.csv", GOOD + '"never closed,0\n'), "a.csv, row 2: not CSV: "),
    (bad("a.csv", GOOD + '"quoted" twice,0\n'), "a.csv, row 2: not CSV: "),
    (bad("a.parquet", GOOD), "a.parquet, row 1: Parquet magic bytes not found"),
]


@pytest.mark.parametrize(("arguments", "told"), FAULTS, ids=[told[:40] for _, told in FAULTS])
def test_a_bad_file_is_told_in_one_line(arguments: Callable[[Path], dict[str, Any]], told: str, tmp_path: Path) -> None:
    assert f"{os.sep}{told}" in message(**arguments(tmp_path))


def test_a_bad_parquet_column_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for column, told in (
        (pa.array([b"Who?"]), "row 1: 'prompt' must be text, not \"b'Who?'\""),
        (pa.array([7]), "row 1: 'prompt' must be text, not '7'"),
        (pa.array([None], pa.string()), "row 1: 'prompt' must not be empty"),
        (pa.array([], pa.string()), "has no rows"),
        (pa.array([b"Who?", b"\xff"]).view(pa.string()), "row 2: not UTF-8, byte 0xff cannot be read"),
    ):
        pq.write_table(pa.table({"prompt": column}), path)
        assert told in message(path=str(path), harmful=True)
    pq.write_table(pa.table({"promt": ["Who?"]}), path)
    assert message(path=str(path), harmful=True).endswith("a.parquet, row 1: no column 'prompt'; there are promt")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"preset": "XTest"}, f"preset must be one of {', '.join(PRESETS)}, not 'XTest'"),
        (
            {"columns": {"promt": "text"}},
            "a key of columns must be one of prompt, harmful, topic, category, not 'promt'",
        ),
        ({"harmful": "no"}, "harmful must be true or false, not 'no'"),
        ({"eval_share": 2}, "eval_share must be from 0 to 1, not 2"),
        ({"judge": "model"}, "described by judge.name and judge.path, not 'model'"),
        ({"config": "en"}, "config and hub_split are for datasets on the hub"),
        ({"harmful_when": ["unsafe"]}, "no row has harmful_when (unsafe) in 'harmful', which says false, true"),
        ({"eval_share": 0, "split": "eval"}, "split 'eval' of "),
        ({"eval_share": 1}, "is empty: of 24 prompts, eval_share 1 leaves it none"),
        ({"path": EXAMPLE["path"]}, "columns.harmful must name a column, or harmful be true or false for all prompts"),
        ({"path": EXAMPLE["path"], "harmful": True, "harmful_when": [1]}, "harmful_when needs columns.harmful"),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(arguments: dict[str, Any], told: str) -> None:
    assert told in message(**arguments)


# --- the hub

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


def test_every_preset_is_named_where_a_user_looks() -> None:
    assert [name for name in PRESETS if name not in (Prompts.__doc__ or "")] == []


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


def test_a_single_label_needs_no_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,label\nHow do I bake?,s\nHow do I steal?,u\n")
    kwargs: dict[str, Any] = {"path": str(path), "columns": {"harmful": "label"}, "eval_share": 0.0}
    for seed in range(2):
        facts = Prompts(**kwargs, harmful_when="u").reset(seed=seed)[1]["facts"]
        assert facts == Prompts(**kwargs, harmful_when=["u"]).reset(seed=seed)[1]["facts"]
        assert facts["harmful"] == ("steal" in facts["request"])
    with pytest.raises(ValueError, match=r"columns must say what is called what, such as \{prompt: text\}, not 'text'"):
        Prompts(path=str(path), columns="text", harmful=True)  # type: ignore[arg-type]
