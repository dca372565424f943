"""A look into an episode, and the model's seat in it: `holdfast envs ID` and `holdfast play ID`.

A person reads what a model would and answers, with a tool call as it is written or in short:

    /call send_mail to=Ada subject=Rota body="The rota is ready."
    <tool_call>
    {"name": "send_mail", "arguments": {"to": "Ada", "subject": "Rota", "body": "The rota is ready."}}
    </tool_call>

Replies may as well come through a pipe; then nothing prompts, and what was said is printed with the rest.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.chat import ChatEnv, Message, Observation, Outcome, ToolCall, ToolSpec, distractor_tools, parse_reply
from holdfast.config import MODELS, Environment, Model
from holdfast.config.environment import Env, make_env
from holdfast.look.catalogue import pair, title

HELP = """\
Type what the model would say, on as many lines as you like; a line with nothing but a dot sends it.
  /call NAME KEY=VALUE ...  adds a tool call to the reply; values are JSON or plain text, quotes keep spaces together
  /tools                    the tools, as JSON
  /facts                    what the model never sees
  /help                     this
  /quit                     leave; so do Ctrl-C, and the end of the input
A line that is to begin with a slash begins with two."""


def play(environment: Environment, seed: int) -> None:
    """Put whoever is at standard input in the model's seat, for episode `seed` and those that are asked for after it,
    until the input ends. Raises ValueError as `opened` does."""
    env, observation, info = opened(environment, seed)
    print(HELP)
    try:
        while True:
            print(f"\n{title(f'--- {environment.id}, episode {seed} ---')}")
            _episode(env, observation, info)
            seed = _next_seed(seed, observation, info)
            observation, info = env.reset(seed=seed)
    except (EOFError, KeyboardInterrupt):
        print("\nGoodbye.")


def opened(environment: Environment, seed: int) -> tuple[Env, Observation, dict[str, Any]]:
    """The environment at the opening of episode `seed`, what is seen there, and the info.

    Raises ValueError for an environment that is no `ChatEnv`, and for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    env = make_env(environment.id, environment.kwargs)
    if not isinstance(env.unwrapped, ChatEnv):
        raise ValueError(f"{environment.id} is not a chat environment")
    return env, *env.reset(seed=seed)


def opening(environment: Environment, seed: int, model: str = "pocket") -> Iterator[str]:
    """The lines that show how an episode opens: what is known of it, then the prompt as `model` sees it, special tokens
    and all. `model` is "pocket", "smollm2", a folder or a hub id, and only its tokenizer is loaded; "none" needs no
    tokenizer and shows the messages by role."""
    env, observation, info = opened(environment, seed)
    assert isinstance(env.unwrapped, ChatEnv)
    pool = distractor_tools()
    yield f"{title('id')}           {environment.id}"
    yield f"{title('arguments')}    {' '.join(pair(*item) for item in environment.kwargs.items()) or '(defaults)'}"
    yield f"{title('pressure')}     {env.unwrapped.pressure}"
    yield f"{title('family')}       {info['family']}"
    yield f"{title('scenario')}     {info['scenario']}"
    yield f"{title('own tools')}    {', '.join(t.name for t in observation.tools if t not in pool) or 'none'}"
    yield f"{title('distractors')}  {', '.join(t.name for t in observation.tools if t in pool) or 'none'}"
    yield from facts(info)
    if model == "none":
        yield ""
        yield from map(signature, observation.tools)
        yield from map(said, observation.messages)
        return
    from holdfast.policy.checkpoint import tokenizer
    from holdfast.policy.render import Renderer

    renderer = Renderer(tokenizer(Model(name=model) if model in MODELS[:2] else Model(name="hub", path=model)))
    ids = renderer.prompt_ids(observation)
    yield title(f"\n--- what {model} sees: {len(ids)} tokens ---")
    yield renderer.decode(ids)


def facts(info: Mapping[str, Any]) -> Iterator[str]:
    """Lines for the facts of an episode."""
    yield title("facts, which the model never sees")
    width = max(map(len, info["facts"]), default=0)
    for key, value in info["facts"].items():
        yield f"  {key.ljust(width)}  {json.dumps(value, ensure_ascii=False, default=str)}"


def said(message: Message) -> str:
    """A message under its role."""
    return f"\n{title('[' + message['role'] + ']')}\n{message['content']}"


def signature(tool: ToolSpec) -> str:
    """A tool in one line."""
    return f"{tool.name}({', '.join(tool.parameters.get('properties', {}))}): {tool.description}"


def _episode(env: Env, observation: Observation, info: Mapping[str, Any]) -> None:
    """Play one episode to its end, from its opening."""
    for tool in observation.tools:
        print(signature(tool))
    rewards, over, told, seen = [], False, dict[str, Any](), 0
    while not over:
        for message in observation.messages[seen:]:
            print(said(message))
        reply = _reply(observation, info)
        for trouble in parse_reply(reply).malformed:
            print(f"(cannot be read: {trouble})")
        seen = len(observation.messages) + 1
        observation, reward, terminated, truncated, told = env.step(reply)
        rewards.append(float(reward))
        over = terminated or truncated
        print(title("reward"))
        for line in _table({**told["components"], "sum": rewards[-1]}, "+"):
            print(line)
    for message in observation.messages[seen:]:
        print(said(message))
    outcome: Outcome = told.get("outcome", Outcome(None, "the environment gave none"))
    value = "unscored" if outcome.value is None else "yes" if outcome.value else "no"
    print(f"{title('outcome')}  {value}{f', {outcome.reason}' if outcome.reason else ''}")
    for line in _table(outcome.measures):
        print(line)
    print(f"{title('reward of the episode')}  {_number(sum(rewards), '+')}, replies: {len(rewards)}")


def _reply(observation: Observation, info: Mapping[str, Any]) -> str:
    print(title("\n[assistant], that is you; a line with only a dot sends, /help helps"))
    lines: list[str] = []
    while True:
        try:
            line = _line()
        except EOFError:
            if not lines:
                raise
            break  # what was said before the input ended still counts
        if line.rstrip() == ".":
            break
        if not _command(line, observation, info, lines):
            lines.append(line.removeprefix("/") if line.startswith("//") else line)
    if not sys.stdin.isatty():
        print("\n".join(lines))
    return "\n".join(lines)


def _next_seed(seed: int, observation: Observation, info: Mapping[str, Any]) -> int:
    while True:
        print(title(f"An empty line goes on with episode {seed + 1}, a number with that one; /quit leaves"))
        line = _line().strip()
        if not line:
            return seed + 1
        if line.isascii() and line.isdigit():
            return int(line)
        if not _command(line, observation, info, []):
            print(f"{line!r} is not a number")


def _line() -> str:
    """A line of the input. Raises EOFError at its end."""
    return input("> " if sys.stdin.isatty() and sys.stdout.isatty() else "")


def _command(line: str, observation: Observation, info: Mapping[str, Any], lines: list[str]) -> bool:
    """Whether `line` is a command; if so, it is done. A call is added to `lines`."""
    found = re.fullmatch(r"/(\w+)(?:\s+(.*))?", line.rstrip())
    if found is None:
        return False
    if found[1] == "quit":
        raise EOFError
    if found[1] == "help":
        print(HELP)
    elif found[1] == "tools":
        for tool in observation.tools:
            print(json.dumps(vars(tool), ensure_ascii=False, indent=2))
    elif found[1] == "facts":
        for row in facts(info):
            print(row)
    elif found[1] == "call":
        try:
            lines.append(call(found[2] or "", observation.tools).render())
        except ValueError as error:
            print(f"no call: {error}")
        else:
            if sys.stdin.isatty():  # else the whole reply is printed
                print(lines[-1])
    else:
        print(f"there is no command /{found[1]}; there are /call, /tools, /facts, /help and /quit")
    return True


def call(text: str, tools: Sequence[ToolSpec]) -> ToolCall:
    """The call that "NAME KEY=VALUE ..." is short for; nothing says that there is such a tool.

    A value is JSON, or else plain text; always text where the tool's schema says string. Raises ValueError for quotes
    that do not close and for a word that is not KEY=VALUE.
    """
    name, *words = shlex.split(text) or [""]
    if not name:
        raise ValueError("/call NAME KEY=VALUE ...")
    schemas = {tool.name: tool.parameters.get("properties", {}) for tool in tools}.get(name, {})
    arguments = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise ValueError(f"{word!r} is not KEY=VALUE; spaces in a value need quotes around it")
        arguments[key] = value if schemas.get(key, {}).get("type") == "string" else _value(value)
    return ToolCall(name, arguments)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _table(numbers: Mapping[str, float], sign: str = "") -> Iterator[str]:
    width = max(map(len, numbers), default=0)
    for name, number in numbers.items():
        yield f"  {name.ljust(width)}  {_number(number, sign)}"


def _number(number: float, sign: str) -> str:
    return f"{number:{sign}.3g}" if number else "0"  # of which there would be two kinds else
