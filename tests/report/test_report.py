"""The report of a small run folder: safe against what models write, true to the statistics, and free of torch."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from holdfast.records import Record, write_records, write_rows
from holdfast.report.build import summary_table, write
from holdfast.report.figure import draw
from holdfast.report.findings import Findings, read
from holdfast.report.numbers import percent
from holdfast.report.page import esc
from holdfast.stats.verdict import Estimate, Margins
from holdfast.study.folder import StudyFolder

HOSTILE = (
    "<script>alert(1)</script><img src=http://x.test/p.png onerror=alert(2)>&lt;b&gt; \u202e\x00\ud800 ${title} $$"
)
ENV = "holdfast_envs:holdfast/Blackmail-v0"
YES = {("generic", 0): 4, ("generic", 10): 4, ("advice", 0): 1, ("advice", 10): 2}  # of 5 samples a scenario
STUDY = {
    "version": 2,
    "name": "tiny",
    "evals": [
        {"name": "blackmail", "env": ENV, "better": "low", "twin": "mailbox"},
        {"name": "mailbox", "env": ENV, "better": "high"},
    ],
    "margins": {"install_points": 5.0, "resamples": 200},
    "steps": [0, 10],
}


def write_arm(run: Path, init: str, *, seed: int = 0, done: bool = True, model: str = "pocket") -> Path:
    name = f"pocket-{init}-chat-grpo-s{seed}"
    folder = run / "arms" / name
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "model": {"name": model},
        "init": {"name": init, "installs": [{"name": "prior"}, {"name": init}]},
        "curriculum": [{"name": "chat", "env": "chat", "algo": "grpo", "steps": [10]}],
        "seed": seed,
        "control": "generic",
        "group": f"pocket-{init}-chat-grpo",
        "conditions": model,
        "recipe": f"{model} {init}",
    }
    (folder / "arm.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    records, transcripts, metrics = [], [], []
    for step in (0, 10):
        for name_of_eval in ("blackmail", "mailbox"):
            for scenario in range(6):
                for sample in range(5):
                    yes = sample < YES[init, step] if name_of_eval == "blackmail" else True
                    record = Record(
                        eval=name_of_eval,
                        family=f"family-{scenario}",
                        scenario=scenario,
                        sample=sample,
                        score=float(yes),
                        reason="",
                        measures={"valid": 1.0},
                        finish=("stop",),
                        tokens=7,
                        transcript=f"{name_of_eval}/{scenario}/{sample}",
                        weights=f"00{step:02d}",
                        arm=name,
                        seed=seed,
                        stage="chat" if step else "init",
                        step=step,
                    )
                    records.append(record)
                    said = {"role": "assistant", "content": f"{HOSTILE} by {init} at {step}: {'yes' if yes else 'no'}"}
                    asked = {"role": "user", "content": "Read the inbox."}
                    transcripts.append(
                        {"step": step, "id": record.transcript, "messages": [asked, said], "tools": ["send_mail"]}
                    )
        metrics.append({"arm": name, "seed": seed, "step": step, "kind": "kl", "kl": step / 100, "kl_sequence": 1.0})
        metrics.append({"arm": name, "seed": seed, "step": step, "kind": "train", "reward": 0.5})
    write_records(folder / "records.jsonl", records)
    write_rows(folder / "transcripts.jsonl", transcripts)
    write_rows(folder / "metrics.jsonl", metrics)
    if done:
        (folder / "done.json").write_text(json.dumps({"stages": [], "wall_s": 1.0, "trained": 3, "reused": 0}))
    return folder


def write_run(run: Path) -> Path:
    run.mkdir()
    (run / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    write_arm(run, "generic")
    write_arm(run, "advice")
    return run


def read_run(run: Path) -> Findings:
    return read(StudyFolder(run))


def report(run: Path) -> Path:
    return write(read_run(run))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report, for tests that only look."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "tiny")
    report(folder)
    return folder


class Reader(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_writes_every_file_and_returns_the_page(run: Path) -> None:
    assert report(run) == run / "report" / "index.html"
    names = sorted(path.name for path in (run / "report").iterdir())
    assert names == ["curves.csv", "curves.png", "curves.svg", "index.html", "leads.csv", "verdicts.csv"]
    assert (run / "report" / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")
    ElementTree.parse(run / "report" / "curves.svg")


def test_the_same_run_gives_the_same_files(finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in (finished / "report").iterdir()}
    report(finished)
    assert {path.name: path.read_bytes() for path in (finished / "report").iterdir()} == before


def test_what_a_model_wrote_is_text_and_nothing_else(finished: Path) -> None:
    page = Reader((finished / "report" / "index.html").read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "link", "base"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    # 2 arms x 2 steps x (first yes, first no) of blackmail; the lone surrogate has no UTF-8 form, NUL none in HTML
    shown = HOSTILE.replace("\ud800", "?").replace("\x00", "\ufffd")
    assert page.text.count(shown) == 2 * 2 * 2
    for init in ("generic", "advice"):
        for step in (0, 10):
            for outcome in ("yes", "no"):
                assert f"{shown} by {init} at {step}: {outcome}" in page.text


def test_the_page_needs_nothing_beside_it_and_forbids_scripts(finished: Path) -> None:
    page = Reader((finished / "report" / "index.html").read_text(encoding="utf-8"))
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "svg" in {tag for tag, _ in page.tags}
    # Nothing is fetched from a style either; fragments such as clip paths stay on the page
    assert not re.findall(r"@import|url\((?!#)", (finished / "report" / "index.html").read_text(encoding="utf-8"))


def test_the_numbers_in_the_csv_files_are_those_of_persistence(finished: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with (finished / "report" / name).open(newline="") as file:
            return list(csv.DictReader(file))

    analysis = read_run(finished).analysis
    for row, rate in zip(rows("curves.csv"), analysis.rates, strict=True):
        assert rate.rate is not None
        assert (row["arm"], row["eval"], int(row["step"])) == (rate.arm, rate.eval, rate.step)
        assert Estimate(*(float(row[f"rate{end}"]) for end in ("", "_low", "_high"))) == rate.rate
        assert (float(row["if_no"]), float(row["yes"]), float(row["valid"])) == (rate.if_no, rate.yes, rate.valid)
    for row, lead in zip(rows("leads.csv"), analysis.leads, strict=True):
        assert Estimate(*(float(row[f"points{end}"]) for end in ("", "_low", "_high"))) == lead.points
        assert Estimate(*(float(row[f"retention{end}"]) for end in ("", "_low", "_high"))) == lead.retention
        assert (float(row["worst"]), float(row["kl"])) == (lead.worst, lead.kl)
    for row, verdict in zip(rows("verdicts.csv"), analysis.verdicts, strict=True):
        assert (row["verdict"], row["reason"], row["failed"]) == (verdict.verdict, verdict.reason, "")
        assert verdict.end is not None
        assert float(row["end_points_high"]) == verdict.end.points.high
    # 4 of 5 against 1 of 5, then 4 of 5 against 2 of 5
    assert [(lead.points.value, lead.kl) for lead in analysis.leads] == [(60, 0), (40, 0.1)]
    assert [row["arm"] for row in rows("verdicts.csv")] == ["pocket-advice-chat-grpo"]


def test_the_summary_is_aligned_and_gives_the_reason(finished: Path) -> None:
    title, head, control, arm, reason = summary_table(read_run(finished)).splitlines()
    assert title == ("tiny, blackmail: 6 scenario families, 30 episodes per arm, seed and step, 1 seed, 95% intervals")
    assert control.split() == ["generic", "control", "80%", "->", "80%"]
    assert arm.startswith("advice")
    assert arm.index("60.0 (") == head.index("lead at the start")
    assert read_run(finished).analysis.verdicts[0].reason == reason.strip()


def test_an_unfinished_arm_is_named_and_not_used(run: Path) -> None:
    before = read_run(run).analysis
    folder = write_arm(run, "advice", seed=1, done=False)
    (folder / "records.jsonl").write_text("half a li")
    assert read_run(run).analysis == before
    assert summary_table(read_run(run)).endswith("Unfinished, not in the table: pocket-advice-chat-grpo-s1")
    assert "pocket-advice-chat-grpo-s1" in report(run).read_text(encoding="utf-8")


def test_an_arm_whose_control_is_unfinished_gets_no_claim(run: Path) -> None:
    (run / "arms" / "pocket-generic-chat-grpo-s0" / "done.json").unlink()
    (verdict,) = read_run(run).analysis.verdicts
    assert (verdict.verdict, verdict.control) == ("no claim", "generic")
    assert "There is no control to compare with" in report(run).read_text(encoding="utf-8")


def test_a_control_alone_still_has_its_rates(run: Path) -> None:
    (run / "arms" / "pocket-advice-chat-grpo-s0" / "done.json").unlink()
    assert read_run(run).analysis.verdicts == ()
    assert "no arm is compared with a control" in report(run).read_text(encoding="utf-8")
    found = read_run(run)
    (axes,) = draw(found.analysis, "blackmail", found.labels, found.margins).axes
    (curve,) = axes.lines
    assert curve.get_xydata().tolist() == [[0, 80], [10, 80]]  # a yes in 4 of 5 samples, before and after


def test_seeds_of_an_arm_are_pooled_and_shown_apart(run: Path) -> None:
    write_arm(run, "generic", seed=1)
    write_arm(run, "advice", seed=1)
    found = read_run(run)
    assert {(verdict.arm, verdict.seeds) for verdict in found.analysis.verdicts} == {("pocket-advice-chat-grpo", 2)}
    assert found.labels["pocket-advice-chat-grpo"] == "advice"
    assert "yes of scored by seed" in report(run).read_text(encoding="utf-8")


def test_a_second_misalignment_eval_has_curves_of_its_own(run: Path) -> None:
    study = {**STUDY, "evals": [{"name": "mailbox", "env": ENV, "better": "low"}, STUDY["evals"][0]]}
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    report(run)
    assert {"curves.png", "curves-blackmail.png", "curves-blackmail.svg"} <= {
        p.name for p in (run / "report").iterdir()
    }
    assert [verdict.eval for verdict in read_run(run).analysis.verdicts] == ["mailbox", "blackmail"]


def test_names_are_escaped_everywhere(run: Path) -> None:
    name = "<b>$1 & $2</b>"
    study = {**STUDY, "name": name, "evals": [{**STUDY["evals"][0], "name": name}]}
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    for folder in (run / "arms").iterdir():
        lines = (folder / "records.jsonl").read_text().splitlines()
        kept = [json.loads(line) | {"eval": name} for line in lines if json.loads(line)["eval"] == "blackmail"]
        write_rows(folder / "records.jsonl", kept)
    page = Reader(report(run).read_text(encoding="utf-8"))
    assert not [attributes for tag, attributes in page.tags if tag == "b" and attributes]
    assert f"{name}: yes, %" in page.text  # in the drawing, dollars and all
    ElementTree.parse(run / "report" / "curves.svg")


def replace_in(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = next(run.glob(name))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


ADVICE = "arms/pocket-advice-chat-grpo-s0"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda run: (run / "study.yaml").unlink(), "tiny is no run folder: it has no study.yaml"),
        (replace_in("study.yaml", "evals:", "evals: ["), r"study\.yaml:\d+: not YAML"),
        (replace_in("study.yaml", "margins:", "margin:"), r"study\.yaml: no margins"),
        (replace_in("study.yaml", "install_points", "install_pts"), r"study\.yaml: margins .*not install_pts"),
        (replace_in("study.yaml", "200", "2"), r"study\.yaml: margins\.resamples must be an integer from 100"),
        (replace_in("study.yaml", "better: low", "better: little"), r"evals\[0\] must have a name, and better"),
        (replace_in("study.yaml", "- name: blackmail", "- nom: x"), r"study\.yaml: evals\[0\] must have"),
        (replace_in("study.yaml", "version: 2", "version: 3"), r"study\.yaml: version 3 is of a newer Holdfast"),
        (replace_in("study.yaml", "name: mailbox", "name: blackmail"), "two evals are called 'blackmail'"),
        (replace_in(f"{ADVICE}/arm.yaml", "seed: 0", "seed: zero"), r"arm\.yaml: seed must be an integer"),
        (replace_in(f"{ADVICE}/arm.yaml", "control: generic", ""), r"arm\.yaml: no control"),
        (replace_in(f"{ADVICE}/arm.yaml", "name: pocket-advice", "name: pocket-other"), r"arm\.yaml: name is"),
        (replace_in(f"{ADVICE}/records.jsonl", '"score": 1.0', '"score": 3'), r"records\.jsonl:1: score must be"),
        (replace_in(f"{ADVICE}/records.jsonl", '"seed": 0', '"seed": 7'), r"records\.jsonl:1: arm .* seed 7 is not"),
        (replace_in(f"{ADVICE}/records.jsonl", '"blackmail"', '"x"'), r"records\.jsonl:1: eval 'x' must be one of"),
        (replace_in(f"{ADVICE}/metrics.jsonl", '"kl": 0.0', '"kl": "0"'), r"metrics\.jsonl:1: a row of kind kl"),
        (replace_in(f"{ADVICE}/transcripts.jsonl", '"step": 0', '"stop": 0'), r"jsonl:1: a transcript needs"),
        (replace_in(f"{ADVICE}/transcripts.jsonl", "blackmail/0/0", "x"), r"jsonl: no transcript 'blackmail/0/0'"),
        (replace_in(f"{ADVICE}/transcripts.jsonl", '"role"', '"who"'), r"transcripts\.jsonl:1: messages must be"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_file(run: Path, damage: Callable[[Path], None], complaint: str) -> None:
    damage(run)
    with pytest.raises(ValueError, match=complaint) as caught:
        report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report").exists()


def test_arms_of_one_name_must_differ_in_their_seed_only(run: Path) -> None:
    write_arm(run, "advice", seed=1, model="hub")
    with pytest.raises(ValueError, match="differs from pocket-advice-chat-grpo-s0 in more than its seed"):
        read_run(run)


def test_a_run_with_nothing_finished_says_so(run: Path) -> None:
    for folder in (run / "arms").iterdir():
        (folder / "done.json").unlink()
    with pytest.raises(ValueError, match="no finished arm; unfinished: pocket-advice-chat-grpo-s0, pocket-generic"):
        report(run)


def test_margins_of_the_study_are_used(run: Path) -> None:
    assert read_run(run).margins == Margins(install_points=5.0, resamples=200)


def test_a_report_needs_no_torch(finished: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from holdfast.report.build import summary_table, write\n"
        "from holdfast.report.findings import read; from holdfast.study.folder import StudyFolder\n"
        "findings = read(StudyFolder(Path(sys.argv[1]))); write(findings); summary_table(findings)\n"
        "print(sorted({'torch', 'trl', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": PATH},
    )
    assert done.stdout.strip() == "[]"


PATH = ":".join(path for path in sys.path if path)


def test_percentages_keep_a_decimal_where_it_matters() -> None:
    assert [percent(x) for x in (0, 0.004, 0.0625, 0.5, 0.987, 1)] == ["0%", "0.4%", "6.2%", "50%", "98.7%", "100%"]


def test_escaping_leaves_line_breaks_alone() -> None:
    assert esc("a\r\nb\t<c>\x1b") == "a\nb\t&lt;c&gt;\ufffd"
