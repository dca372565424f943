"""Arms that run at a time: each with its share, all with the same results, and none left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from commands import PATH, assert_one_line, holdfast
from composed import arms_of
from holdfast.config import Job, Launch
from holdfast.launch import processes
from holdfast.launch.processes import Planned, at_once, environment, labels

SWEEP = [
    "run", "-m", "model=hub", "budget=pocket", "control=prior", "format_control=null", "launch.threads=1", "steps=[1]",
    "budget.evals.scenarios=6", "budget.evals.samples=1", "budget.max_new_tokens=16", "budget.prior.size=20",
    "budget.prior.steps=2", "budget.prior.batch_loss_tokens=200", "budget.sft.size=20", "budget.sft.steps=2",
    "budget.sft.batch_loss_tokens=200", "budget.rl.prompts_per_step=2", "budget.rl.group=2", "budget.kl.prompts=2",
    "budget.kl.samples=1", "suite=harmless", "name=two", "+model.alias=tiny",
]  # fmt: skip


def planned(tmp_path: Path, *words: str, variables: dict[str, str] | None = None, **launch: int) -> list[Planned]:
    job = Job(name="study", runs=str(tmp_path), launch=Launch(**launch))
    return [Planned(arm, job, {}, variables or {}) for arm in arms_of(tmp_path, *words)]


def final(runs: Path) -> dict[str, bytes]:
    """Records and transcripts of every arm."""
    names = ("arm.yaml", "records.jsonl", "transcripts.jsonl")
    return {f"{arm.name}/{name}": (arm / name).read_bytes() for arm in (runs / "two/arms").iterdir() for name in names}


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 8)


@pytest.mark.usefixtures("eight")
def test_how_many_run_at_a_time(tmp_path: Path, checkpoint: Path) -> None:
    six = ["-m", "init=generic,advice", "seed=0,1,2"]
    hub = [*six, "model=hub", f"model.path={checkpoint}", "budget=pocket"]
    for words, launch, expected in (
        (six, {}, 4),  # as many as memory is surely there for
        (six[:2], {}, 2),  # all there are
        ([], {}, 1),
        (six, {"threads": 3}, 2),  # as many as there are cores for
        (six, {"threads": 16}, 1),
        (six, {"workers": 1}, 1),
        (six, {"workers": 5, "threads": 2}, 5),
        (six, {"processes": 2}, 1),
        (hub, {}, 1),
        (hub, {"workers": 2}, 2),
    ):
        assert at_once(planned(tmp_path, *words, **launch)) == expected, (words, launch)
    assert at_once(planned(tmp_path, *six, variables={"OMP_NUM_THREADS": "4"})) == 2
    assert at_once([]) == 1
    apart = [*planned(tmp_path, *six, workers=2), *planned(tmp_path, *six)]
    with pytest.raises(ValueError, match=r"^launch\.workers must be the same for every arm of a sweep, not 2, None$"):
        at_once(apart)
    assert at_once([*planned(tmp_path, *six), *planned(tmp_path, *six, threads=3)]) == 2  # there are cores for each


@pytest.mark.parametrize(("arms", "expected"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 2), (7, 2), (9, 3)])
def test_one_more_than_there_are_cores_for_runs_where_that_keeps_them_busier(
    arms: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 2)
    some = planned(tmp_path, "-m", f"seed={','.join(map(str, range(arms)))}")
    assert at_once(some) == expected
    assert environment(some[0], expected)["OMP_NUM_THREADS"] == ("2" if expected == 1 else "1")


@pytest.mark.usefixtures("eight")
def test_an_arm_has_its_share_of_the_cores_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    def threads(count: int, variables: dict[str, str], **launch: int) -> tuple[str, str]:
        (one,) = planned(tmp_path, variables=variables, **launch)
        told = environment(one, count)
        return told["OMP_NUM_THREADS"], told["MKL_NUM_THREADS"]

    assert threads(1, {}) == ("8", "8")
    assert threads(3, {}) == ("2", "2")
    assert threads(16, {}) == ("1", "1")
    assert threads(3, {"OMP_NUM_THREADS": "5"}) == ("5", "2")
    assert threads(3, {"OMP_NUM_THREADS": "5"}, threads=4) == ("4", "4")


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    for own, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        (one,) = planned(tmp_path, variables=own)
        for count in (1, 2):
            assert environment(one, count)["OMP_WAIT_POLICY"] == expected


def test_an_arm_is_called_by_what_tells_it_from_the_others(tmp_path: Path) -> None:
    assert labels(arms_of(tmp_path, "-m", "init=generic,advice", "seed=0,1")) == [
        "generic-s0", "generic-s1", "advice-s0 ", "advice-s1 ",
    ]  # fmt: skip
    swept = labels(arms_of(tmp_path, "-m", "algo.lr=1e-4,1e-5", "algo=grpo,ppo"))
    assert swept == ["chat-grpo-lr=1e-4", "chat-ppo-lr=1e-4 ", "chat-grpo-lr=1e-5", "chat-ppo-lr=1e-5 "]


@pytest.mark.timeout(600)
def test_arms_side_by_side_end_as_they_do_one_after_the_other(checkpoint: Path, tmp_path: Path) -> None:
    words = [*SWEEP, f"model.path={checkpoint}", "init=prior,advice"]
    one = holdfast(*words, f"runs={tmp_path / 'one'}", "launch.workers=1")
    both = holdfast(*words, f"runs={tmp_path / 'both'}", "launch.workers=2")
    assert (one.returncode, one.stderr, both.returncode, both.stderr) == (0, "", 0, "")
    assert "[1/10] model tiny\n" in one.stdout
    assert "2 arms, 2 at a time\n" in both.stdout
    assert final(tmp_path / "one") == final(tmp_path / "both")
    said = both.stdout.partition("2 at a time\n")[2].partition("\n\n")[0].splitlines()
    assert {line[:8] for line in said} == {"prior   ", "advice  "}
    for label, stages in (("prior   ", 10), ("advice  ", 12)):
        headings = [line[8:].split("]")[0] for line in said if line.startswith(f"{label}[")]
        assert headings == [f"[{i}/{stages}" for i in range(1, stages + 1)]
    # What both need was made by one of them.
    made = [json.loads((arm / "done.json").read_text()) for arm in (tmp_path / "both/two/arms").iterdir()]
    keys = [stage["key"] for done in made for stage in done["stages"] if stage["made"]]
    assert len(keys) == len(set(keys)) == 10 + 12 - 3
    assert not [line for line in said if "it/s" in line or "reply" in line]
    for arm in (tmp_path / "both/two/arms").iterdir():
        assert f"arm {arm.name}" in (arm / "log.txt").read_text()


@pytest.mark.timeout(300)
def test_a_mistake_that_an_arm_finds_ends_all_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    words = [*SWEEP, f"model.path={model}", "init=prior,advice", f"runs={tmp_path / 'runs'}", "launch.workers=2"]
    assert_one_line(holdfast(*words), model, "chat template")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_arm_outlives_the_command(sent: int, status: int, checkpoint: Path, tmp_path: Path) -> None:
    words = [*SWEEP, f"model.path={checkpoint}", "init=prior,advice,generic", f"runs={tmp_path}", "launch.workers=2"]
    variables = {**os.environ, "PYTHONPATH": PATH}
    command = [sys.executable, "-m", "holdfast", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell has in the background ignores it
    with subprocess.Popen(command, env=variables, preexec_fn=heed, **quiet) as process:
        while len(begun := list(tmp_path.glob("two/arms/*/log.txt"))) < 2 and process.poll() is None:
            time.sleep(0.05)
        pids = [int((log.parent / "lock").read_text()) for log in begun]
        process.send_signal(sent)  # to the command alone, as a terminal would not
        assert process.wait() == status
    assert len(pids) == 2  # the third waits for its turn
    until = time.monotonic() + 20
    while not all(map(gone, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(gone, pids))
    assert not list(tmp_path.glob("two/arms/*generic*"))


LAUNCHER = """
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore


class Own(BasicLauncher):
    pass


ConfigStore.instance().store(group="hydra/launcher", name="own", node={"_target_": "hydra_plugins.own.Own"})
"""


def test_a_launcher_that_says_itself_how_many_run_at_a_time_is_asked_alone(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/own.py").write_text(LAUNCHER)
    path = f"{PATH}{os.pathsep}{tmp_path}"
    words = ["run", "-m", f"runs={tmp_path / 'runs'}", "seed=0,1", "hydra/launcher=own"]
    done = holdfast(*words, "launch.workers=2", PYTHONPATH=path)
    assert_one_line(done, "launch.workers must be null or 1, not 2, with hydra/launcher=own")
    assert not list(tmp_path.rglob("arm.yaml"))
