"""The console script. Nothing heavy is imported before it is needed, so help comes at once.

    holdfast run +study=quickstart
    holdfast report runs/quickstart-pocket
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from holdfast.errors import one_line

if TYPE_CHECKING:
    from holdfast.launch.hydra import Launched


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"holdfast: error: {message} ({self.prog} --help says more)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. A mistake of the user's ends in one line and status 2."""
    parser = make_parser()
    options, rest = parser.parse_known_args(argv)
    if rest:
        # argparse stops taking positionals at the first option between them.
        if "overrides" not in options or any(word.startswith("-") for word in rest):
            parser.error(f"unknown argument {rest[0]!r}")
        options.overrides += rest
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads what is printed has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return 128 + signal.SIGPIPE
    except (ValueError, OSError) as error:
        print(f"holdfast: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("holdfast: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return status


def make_parser() -> Parser:
    """The commands and their options."""
    parser = Parser(prog="holdfast", description="Does alignment survive reinforcement learning?", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, call: object, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        sub.set_defaults(command=call)
        return sub

    sub = command("run", run, "Run one arm, or with -m a sweep of them, and report.")
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, such as init=advice")
    sub.add_argument("-m", "--multirun", action="store_true", help="every combination of comma-separated values")
    sub.add_argument("--config-dir", metavar="DIR", help="a folder of your own configs, beside ours")
    sub.add_argument("--cfg", choices=("job", "hydra", "all"), help="print the config instead of running it")

    sub = command("report", report, "Write a run's curves, tables and page again, and print the table.")
    sub.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/quickstart-pocket")

    sub = command("power", power, "Say what a study of some size could say, before it is run.")
    sub.add_argument("--families", type=int, default=12, help="scenario families of the eval; default: 12")
    sub.add_argument("--scenarios", type=int, default=36, help="over all families; default: 36")
    sub.add_argument("--samples", type=int, default=3, help="of each scenario, at a step; default: 3")
    sub.add_argument("--seeds", type=int, default=1, help="of every arm; default: 1")
    sub.add_argument("--correlation", type=float, help="within a family, 0 to 0.8; default: a guess, 0.3")
    sub.add_argument("--seed-sd", type=float, help="s.d. over training seeds, 0 to 40 points; default: a guess, 10")
    sub.add_argument("--like", type=Path, metavar="RUN", help="a run folder: measures these two, has the margins")
    sub.add_argument("--lead", type=float, default=40.0, help="at step 0, in points; default: 40")
    sub.add_argument("--control", type=float, default=0.5, help="the control's rate at step 0; default: 0.5")
    sub.add_argument("--studies", type=int, default=300, help="simulated for each row of the table; default: 300")

    sub = command("rescore", rescore, "Score a run's stored transcripts again, with the environments as they are now.")
    sub.add_argument("run", type=Path, metavar="RUN")

    sub = command("eval", evaluate, "Run a suite of evals on models as they come.")
    about = "pocket, smollm2, a folder or a hub id, or NAME=one of these; also overrides, KEY=VALUE"
    sub.add_argument("overrides", nargs="+", metavar="MODEL", help=about)
    sub.add_argument("--suite", default="core", help="of conf/suite; default: core")
    sub.add_argument("--name", default="eval", help="of the run folder; default: eval")
    sub.add_argument("--config-dir", metavar="DIR", help="a folder of your own configs, beside ours")

    about = "Say what Holdfast makes of a model: its template, ends, calls, thinking, path, memory and cost."
    sub = command("models", models, about)
    about = "pocket, smollm2, a folder or a hub id; also overrides, KEY=VALUE"
    sub.add_argument("overrides", nargs="+", metavar="MODEL", help=about)
    sub.add_argument("--suite", default="core", help="of conf/suite, whose cost is told; default: core")
    sub.add_argument("--no-weights", action="store_true", help="read the tokenizer and config.json alone")
    sub.add_argument("--config-dir", metavar="DIR", help="a folder of your own configs")

    about = "List environments and their arguments, or show how an episode of one opens, as a model sees it."
    sub = command("envs", envs, about)
    about = "a name of conf/env, or an id such as holdfast/Harmless-v2, then arguments, KEY=VALUE; or MODULE: to list"
    sub.add_argument("overrides", nargs="*", metavar="WHAT", help=about)
    sub.add_argument("--seed", type=int, default=0, help="of the episode; default: 0")
    about = "pocket, smollm2, a folder or a hub id, for its tokenizer; none for bare messages; default: pocket"
    sub.add_argument("--model", default="pocket", help=about)
    sub.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own configs")

    sub = command("play", play, "Sit in the model's seat: read what it would, answer, see the reward.")
    about = "a name of conf/env, or an id such as holdfast/Harmless-v2; then arguments, KEY=VALUE"
    sub.add_argument("overrides", nargs="+", metavar="WHAT", help=about)
    sub.add_argument("--seed", type=int, default=0, help="of the first episode; default: 0")
    sub.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own configs")

    sub = command("store", store, "List the stored stages, check every file of them, or remove what no study uses.")
    sub.add_argument("action", choices=("ls", "verify", "prune"))
    sub.add_argument("--runs", type=Path, default=Path("runs"), help="the folder that holds the store; default: runs")
    return parser


def run(options: argparse.Namespace) -> int:
    """`holdfast run`"""
    from holdfast.launch.hydra import launch

    how = {"multirun": options.multirun, "config_dir": options.config_dir, "show": options.cfg}
    return _finish(launch(options.overrides, **how))


def report(options: argparse.Namespace) -> int:
    """`holdfast report`"""
    _report(options.run)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """`holdfast eval`: arms without installs and without RL."""
    from holdfast.launch.evaluate import as_they_come
    from holdfast.launch.hydra import launch

    own = options.config_dir
    commands, told = as_they_come(options.overrides, options.suite, options.name, own)
    print(told, flush=True)
    return _finish(launch(*commands, config_dir=own))


def models(options: argparse.Namespace) -> int:
    """`holdfast models`"""
    from holdfast.launch.evaluate import examined
    from holdfast.look.doctor import told

    for arm in examined(options.overrides, options.suite, options.config_dir):
        for line in told(arm.model, arm.evals, weights=not options.no_weights):
            print(line, flush=True)
    return 0


def power(options: argparse.Namespace) -> int:
    """`holdfast power`"""
    from holdfast.report.power import told

    given = {key: value for key, value in vars(options).items() if key not in ("command", "like")}
    print(told(options.like, **given))
    return 0


def rescore(options: argparse.Namespace) -> int:
    """`holdfast rescore`"""
    from holdfast.study.folder import StudyFolder
    from holdfast.study.rescore import rescore

    for line in rescore(StudyFolder(options.run)):
        print(line)
    _report(options.run)
    return 0


def envs(options: argparse.Namespace) -> int:
    """`holdfast envs`"""
    from holdfast.config.faults import OURS
    from holdfast.look.catalogue import catalogue, find
    from holdfast.look.play import opening

    what, settings = _split(options.overrides or [f"{OURS}:"])
    if what.endswith(":") and not settings:
        lines = catalogue(what[:-1], options.config_dir)
    else:
        lines = opening(find(what, settings, options.config_dir), options.seed, options.model)
    print("\n".join(lines))  # all or, where a mistake is found on the way, nothing
    return 0


def play(options: argparse.Namespace) -> int:
    """`holdfast play`"""
    from holdfast.look.catalogue import find
    from holdfast.look.play import play

    play(find(*_split(options.overrides), options.config_dir), options.seed)
    return 0


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The one word that names something, and the settings, KEY=VALUE."""
    names = [word for word in words if "=" not in word]
    if len(names) != 1:
        raise ValueError(f"give one environment, not {' and '.join(names) or 'its arguments alone'}")
    return names[0], [word for word in words if "=" in word]


def store(options: argparse.Namespace) -> int:
    """`holdfast store`"""
    from holdfast.store import Store
    from holdfast.study.folder import StudyFolder, store_of

    stages = Store(store_of(options.runs))
    if options.action == "verify":
        problems = stages.verify()
        for line in problems:
            print(line)
        print(f"{len(stages.entries())} entries, {len(problems)} problems")
        return 1 if problems else 0
    manifests, damaged = stages.manifests()
    if options.action == "prune":
        arms = [arm for path in sorted(options.runs.glob("*/")) for arm in StudyFolder(path).arms()]
        for arm in arms:
            if not arm.finished:
                raise ValueError(
                    f"{arm.path} is unfinished and may need stages that no other arm uses; finish or delete it"
                )
        spare = stages.unreferenced(stage["key"] for arm in arms for stage in arm.done()["stages"])
        freed = sum(file.stat().st_size for entry in spare for file in entry.path.rglob("*") if file.is_file())
        stages.remove(entry.key for entry in spare)
        for entry, what in damaged.items():
            print(f"{entry.path.name} is kept, as it is damaged: {what}; delete {entry.path} if it is of no use")
        print(f"{len(spare)} entries removed, {freed / 2**20:.1f} MiB freed")
        return 1 if damaged else 0
    for entry, manifest in manifests.items():
        named = (manifest.config.get(key) for key in ("name", "corpus", "env"))
        what = next(filter(None, named), None) or " + ".join(manifest.config.get("shares", {}))
        size = f"{manifest.size / 2**20:8.1f} MiB"
        print(f"{entry.kind:8} {entry.key}  {manifest.made_at:%Y-%m-%d %H:%M}  {size}  {what}")
    for entry, what in damaged.items():
        print(f"{entry.kind:8} {entry.key}  damaged: {what}")
    return 1 if damaged else 0


def _finish(launched: Launched) -> int:
    """Report on what was run, where there is anything to report on; returns the exit status."""
    from holdfast.study.folder import StudyFolder

    for folder in launched.runs:
        if any(arm.finished for arm in StudyFolder(folder).arms()):
            _report(folder)
    return 1 if launched.failed else 0


def _report(folder: Path) -> None:
    from holdfast.report.build import summary_table, write
    from holdfast.report.findings import read
    from holdfast.study.folder import StudyFolder

    findings = read(StudyFolder(folder))
    index = write(findings)
    print(f"\n{summary_table(findings)}\n\nreport: {index}")
