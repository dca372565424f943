"""What there is is listed as it is, and a name finds what it should."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path

import gymnasium
import pytest

import holdfast_envs  # noqa: F401  (registers the environments)
from holdfast.chat import ChatEnv
from holdfast.cli import main
from holdfast.config import conf_dir
from holdfast.config.environment import make_env
from holdfast.look.catalogue import WIDTH, environments, find, own_arguments, variants

IDS = sorted(name for name in gymnasium.registry if name.startswith("holdfast/"))
Shown = Callable[..., str]
MINE = '''
"""An environment of somebody else's."""
from gymnasium.envs.registration import register
from holdfast.chat import ChatEnv, Outcome, Scene, Turn

class Polite(ChatEnv):
    """Whether an assistant greets back."""

    pressure = "neutral"
    reward_bounds = (0.0, 1.0)

    def __init__(self, greeting, *, shout: bool = False, **knobs):
        super().__init__(**knobs)
        self.greeting = greeting.upper() if shout else greeting

    families = property(lambda self: ["greet"])

    def scene(self, family):
        return Scene(({"role": "user", "content": f"{self.greeting}, you!"},), facts={"greeting": self.greeting})

    def turn(self, reply):
        said = self.greeting in reply.text
        return Turn({"greets": float(said)}, outcome=Outcome(said, "", {"greets": float(said)}))

register(id="me/Polite-v0", entry_point="NAME:Polite")
register(id="me/Polite-v1", entry_point=Polite, kwargs={"greeting": "Hi"})
'''
VARIANT = """\
# Loud greetings.
#   holdfast run env=loud
_target_: holdfast.config.Environment
name: loud
id: mine_to_browse:me/Polite-v1
kwargs: {shout: true, tools: none, n_tools: "${seed}"}
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a module that registers environments, on sys.path, and with a variant of one in conf/env."""
    folder, name = tmp_path_factory.mktemp("mine"), "mine_to_browse"
    (folder / f"{name}.py").write_text(MINE.replace("NAME", name))
    (folder / "conf/env").mkdir(parents=True)
    (folder / "conf/env/loud.yaml").write_text(VARIANT)
    (folder / "conf/env/chat.yaml").write_text(VARIANT)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop(name, None)
    for env_id in ("me/Polite-v0", "me/Polite-v1"):
        gymnasium.registry.pop(env_id, None)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """What a command prints."""

    def call(*arguments: str | Path) -> str:
        assert main(["envs", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return call


def test_the_list_has_every_id_with_its_pressure_its_purpose_and_its_own_arguments(shown: Shown) -> None:
    out = shown()
    for env_id in IDS:
        kind = environments()[env_id]
        purpose = (kind.__doc__ or "").partition("\n")[0]
        assert re.search(rf"^{re.escape(env_id)} +{kind.pressure}\n    {re.escape(purpose)}\n", out, re.MULTILINE)
    assert "requests=mixed harmful_share=0.5 jailbreak_share=0.5 jailbreak_depth=2" in out
    assert "    twin=false max_turns=1 families=null\n" in out


def test_the_list_says_each_common_argument_once_with_its_default_and_what_is_allowed(shown: Shown) -> None:
    out = shown()
    for name, parameter in list(inspect.signature(ChatEnv.__init__).parameters.items())[1:]:
        assert out.count(f"    {name}={parameter.default}: ") == 1
    assert '    system_prompts=none: "none", "brief", "varied" or "permissive"' in out


def test_the_list_has_every_variant_with_its_id_and_what_it_opens_with(shown: Shown) -> None:
    out = shown()
    for path in (conf_dir() / "env").glob("*.yaml"):
        assert re.search(rf"^{path.stem} +(\S+:holdfast/\S+|\{{.*\}})\n    \S", out, re.MULTILINE)
    assert re.search(r"^tools +holdfast_envs:holdfast/Harmless-v2\n    The requests of chat, with tools", out, re.M)
    assert "holdfast run" not in out


def test_the_list_is_plain_text_of_moderate_width(shown: Shown) -> None:
    out = shown()
    assert "\033" not in out
    assert max(map(len, out.splitlines())) <= max(WIDTH, 120)


def test_another_module_and_another_folder_of_configs_are_listed(shown: Shown, mine: Path) -> None:
    out = shown("mine_to_browse:", "--config-dir", mine / "conf")
    assert re.search(
        r"^me/Polite-v0 +neutral\n    Whether an assistant greets back.\n    greeting=\?\?\? shout=false", out, re.M
    )
    assert re.search(r"^me/Polite-v1 +neutral\n    .*\n    greeting=Hi shout=false", out, re.M)
    assert re.search(r"^loud +mine_to_browse:me/Polite-v1\n    Loud greetings.$", out, re.M)
    # As when it is run, the name chat is ours already.
    assert re.search(r"^chat +holdfast_envs:", out, re.M)
    assert "holdfast/Harmless-v2   " not in out
    assert "me/Polite" not in shown()


@pytest.mark.parametrize("env_id", IDS)
def test_an_opening_shows_by_role_what_is_seen_and_beside_it_what_is_not(env_id: str, shown: Shown) -> None:
    out = shown(env_id, "split=eval", "tools=distractor", "n_tools=3", "--seed", "5", "--model", "none")
    env = make_env(env_id, {"split": "eval", "tools": "distractor", "n_tools": 3})
    observation, info = env.reset(seed=5)
    assert f"\nfamily       {info['family']}\n" in out
    assert "\nscenario     5\n" in out
    for key, value in info["facts"].items():
        assert re.search(rf"^  {key} +{re.escape(json.dumps(value, ensure_ascii=False))}$", out, re.MULTILINE)
    names = [tool.name for tool in observation.tools]
    assert f"\nown tools    {', '.join(names[:-3]) or 'none'}\ndistractors  {', '.join(names[-3:])}\n" in out
    assert out.endswith("".join(f"\n[{m['role']}]\n{m['content']}\n" for m in observation.messages))


@pytest.mark.parametrize("env_id", IDS)
def test_an_opening_ends_with_the_very_prompt_of_the_model(env_id: str, shown: Shown) -> None:
    from transformers import AutoTokenizer

    from holdfast.policy.render import Renderer

    out = shown(env_id, "system_prompts=varied", "--seed", "3")
    with as_file(files("holdfast.policy") / "pocket") as folder:
        renderer = Renderer(AutoTokenizer.from_pretrained(folder))
    ids = renderer.prompt_ids(make_env(env_id, {"system_prompts": "varied"}).reset(seed=3)[0])
    assert out.endswith(f"\n--- what pocket sees: {len(ids)} tokens ---\n{renderer.decode(ids)}\n")


def test_only_the_tokenizer_of_a_model_is_needed(shown: Shown, checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    out = shown("holdfast/Harmless-v2", "--model", tmp_path)
    (request,) = make_env("holdfast/Harmless-v2", {}).reset(seed=0)[0].messages
    assert out.endswith(f" tokens ---\n<|user|>{request['content']}<|end|><|assistant|>\n")


def test_without_a_tokenizer_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from holdfast.cli import main; import holdfast.look.play\n"
        "assert main(['envs', 'augmented', '--model', 'none']) == 0\n"
        "assert main(['envs']) == 0\n"
        "print([name for name in ('torch', 'transformers', 'trl') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("variant", sorted(variants()))
def test_a_variant_is_what_running_it_would_make(variant: str, shown: Shown) -> None:
    found = find(variant)
    assert found.name.partition("-")[0] == variant  # some put a share of theirs behind it
    for seed in range(4):  # of a mixture, the seed says which environment it is
        assert f"\nid           {found.at(seed).id}\n" in "\n" + shown(variant, "--seed", str(seed), "--model", "none")


def test_settings_go_to_an_environment_or_to_a_mixture() -> None:
    assert find("chat", ["split=eval"]).at(0).kwargs["split"] == "eval"
    assert {find("conflict", ["shares.goal=1"]).at(seed).name for seed in range(9)} == {"goal"}
    with pytest.raises(ValueError, match="splid is no setting; allowed are name, parts, shares"):
        find("conflict", ["splid=eval"])


def test_interpolations_in_a_variant_of_ones_own_are_resolved(mine: Path) -> None:
    found = find("loud", ["tools=distractor", "greeting=Good day"], mine / "conf")
    # seed is 0 in conf/config.yaml
    assert dict(found.kwargs) == {"shout": True, "tools": "distractor", "n_tools": 0, "greeting": "Good day"}
    assert make_env(found.id, found.kwargs).reset(seed=0)[0].messages[0]["content"] == "GOOD DAY, you!"


@pytest.mark.parametrize(
    "what", ["holdfast/Harmless-v2", "holdfast_envs:holdfast/Harmless-v2", "mine_to_browse:me/Polite-v1"]
)
@pytest.mark.usefixtures("mine")
def test_an_id_may_name_the_module_that_registers_it(what: str) -> None:
    assert find(what).id == what


def test_settings_are_yaml() -> None:
    settings = ["harmful_share=2e-1", "requests=mixed", "n_tools=3", "jailbreak_share=1.0"]
    assert dict(find("holdfast/Harmless-v2", settings).kwargs) == {
        "harmful_share": 0.2, "requests": "mixed", "n_tools": 3, "jailbreak_share": 1.0,
    }  # fmt: skip


def test_own_arguments_are_those_of_the_class_and_its_parents_but_for_the_common_ones() -> None:
    for env_id, kind in environments().items():
        own = own_arguments(env_id, kind)
        assert not own.keys() & {"split", "tools", "n_tools", "system_prompts", "self", "knobs"}
        make_env(env_id, own).close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Harmless"], ["'Harmless'", "holdfast/Harmless-v2"]),
        (["holdfast/Harmless-v9"], ["'holdfast/Harmless-v9'", "holdfast/Harmless-v2"]),
        (["holdfast_envs:Goal-v0"], ["'holdfast_envs:Goal-v0'", "holdfast_envs:holdfast/Goal-v0"]),
        (["augmentd"], ["'augmentd'", "augmented"]),
        (["zzzzzz"], ["'zzzzzz'", "`holdfast envs`", "`holdfast envs MODULE:`"]),
        (["no_such_module:me/Mine-v0"], ["no_such_module"]),
        (["no.such.module:"], ["'no.such.module'"]),
        (["./mine.py:"], ["'./mine.py'"]),
        (["json:"], ["json", "no chat environment"]),
        (["json:", "split=eval"], ["'json:'"]),
        (["chat", "neutral"], ["one environment", "chat", "neutral"]),
        (["split=eval"], ["one environment"]),
        (["CartPole-v1"], ["CartPole-v1", "not a chat environment"]),
        (["chat", "=eval"], ["''", "split"]),
        (["chat", "requests={a"], ["chat requests={a"]),
        (["chat", "requests=${nothing}"], ["chat", "nothing"]),
        (["holdfast/Harmless-v2", "request=benign"], ["holdfast/Harmless-v2", "'request'", "requests", "split"]),
        (["chat", "request=benign"], ["holdfast/Harmless-v2", "'request'", "requests", "split"]),
        (["chat", "requests=some"], ["requests", "mixed", "harmful", "'some'"]),
        (["chat", "tools=distractor", "n_tools=1000"], ["n_tools", "from 0 to", "1000"]),
        (["chat", "--seed", "-1"], ["seed", "0 or more", "-1"]),
        (["chat", "--seed", "x"], ["--seed", "'x'"]),
        (["chat", "--model", "no/such/model"], ["no/such/model", "model folder"]),
        (["chat", "--config-dir", "no/such/folder"], ["no/such/folder"]),
        (["--config-dir", "no/such/folder"], ["no/such/folder"]),
        (["chat", "--splitt"], ["--splitt"]),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["envs", *arguments])
    except SystemExit as stop:
        status = int(str(stop.code))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("holdfast: error: ")
    for word in words:
        assert word in err


def test_a_variant_that_cannot_be_read_or_composed_is_told_by_name(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/odd.yaml").write_text(VARIANT.replace("${seed}", "${no_such_key}"))
    for arguments, word in ((["odd"], "odd: "), (["odd", "n_tools=2", "--model", "none"], None)):
        status = main(["envs", *arguments, "--config-dir", str(tmp_path)])
        err = capsys.readouterr().err
        assert (status, len(err.splitlines())) == ((2, 1) if word else (0, 0)), err
        assert not word or (word in err and "no_such_key" in err)
    (tmp_path / "env/odd.yaml").write_text("a: [")
    assert main(["envs", "odd", "--config-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "odd" in err
