"""A look into an episode, and the model's seat in it: `holdfast envs WHAT` and `holdfast play WHAT`.

A person reads what a model would and answers as a model would, a tool call included:

    <tool_call>
    {"name": "send_mail", "arguments": {"to": "Ada", "subject": "Rota", "body": "The rota is ready."}}
    </tool_call>

Replies may as well come through a pipe; then what was said is printed with the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from holdfast.chat import ChatEnv, Message, Observation, Outcome, ToolCall, ToolSpec, distractor_tools, parse_reply
from holdfast.config import MODELS, Environment, Mixture, Model
from holdfast.config.environment import Env, make_env
from holdfast.look.catalogue import pair, title


def play(environment: Environment | Mixture, seed: int) -> None:
    """Put whoever is at standard input in the model's seat, for episode `seed` and those after it, until the input
    ends. Raises ValueError as `opened` does."""
    env, observation, info = opened(environment.at(seed), seed)
    print("Type what the model would say, on any number of lines. A line with only a dot sends it. Ctrl-D leaves.")
    try:
        while True:
            print(f"\n{title(f'--- {environment.at(seed).id}, episode {seed} ---')}")
            _episode(env, observation, info)
            seed += 1
            while input(title(f"An empty line goes on with episode {seed}\n")).strip():
                pass
            env, observation, info = opened(environment.at(seed), seed)
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


def opening(mixture: Environment | Mixture, seed: int, model: str = "pocket") -> Iterator[str]:
    """The lines that show how an episode opens: what is known of it, then the prompt as `model` sees it, special tokens
    and all. `model` is "pocket", "smollm2", a folder or a hub id, and only its tokenizer is loaded; "none" needs no
    tokenizer and shows the messages by role."""
    environment = mixture.at(seed)
    env, observation, info = opened(environment, seed)
    assert isinstance(env.unwrapped, ChatEnv)
    pool = distractor_tools()
    known = {
        **({"mixture": f"{mixture.name}, of which this is {environment.name}"} if mixture is not environment else {}),
        "id": environment.id,
        "arguments": " ".join(pair(*item) for item in environment.kwargs.items()) or "(defaults)",
        "pressure": env.unwrapped.pressure,
        **({"data": contents} if (contents := env.unwrapped.contents) else {}),
        "family": info["family"],
        "scenario": info["scenario"],
        "own tools": ", ".join(tool.name for tool in observation.tools if tool not in pool) or "none",
        "distractors": ", ".join(tool.name for tool in observation.tools if tool in pool) or "none",
    }
    yield from _rows(known)
    yield from _facts(info)
    if model == "none":
        yield ""
        yield from map(_signature, observation.tools)
        yield from map(_said, observation.messages)
        return
    from holdfast.policy.sources import renderer as made

    renderer = made(Model(name=model) if model in MODELS[:-1] else Model(name="hub", path=model))
    ids = renderer.prompt_ids(observation)
    yield title(f"\n--- what {model} sees: {len(ids)} tokens ---")
    yield renderer.decode(ids)


def _episode(env: Env, observation: Observation, info: Mapping[str, Any]) -> None:
    """Play one episode to its end, from its opening."""
    _show(map(_signature, observation.tools))
    if observation.tools:
        first = observation.tools[0]
        example = ToolCall(first.name, dict.fromkeys(first.parameters.get("properties", {}), "..."))
        print(f"A tool is called as the model does it, such as\n{example.render()}")
    rewards, over, told, seen = [], False, dict[str, Any](), 0
    while not over:
        _show(map(_said, observation.messages[seen:]))
        print(title("\n[assistant], that is you"))
        reply = _reply()
        _show(f"(cannot be read: {trouble})" for trouble in parse_reply(reply).malformed)
        seen = len(observation.messages) + 1
        observation, reward, terminated, truncated, told = env.step(reply)
        rewards.append(float(reward))
        over = terminated or truncated
        print(title("reward"))
        _show(_rows(_numbers({**told["components"], "sum": rewards[-1]}, "+"), "  "))
    _show(map(_said, observation.messages[seen:]))
    outcome: Outcome = told.get("outcome", Outcome(None, "the environment gave none"))
    value = "unscored" if outcome.value is None else "yes" if outcome.value else "no"
    print(f"{title('outcome')}  {value}{f', {outcome.reason}' if outcome.reason else ''}")
    _show(_rows(_numbers(outcome.measures), "  "))
    print(f"{title('reward of the episode')}  {sum(rewards):+.3g}, replies: {len(rewards)}")
    _show(_facts(info))


def _reply() -> str:
    """What is typed up to a line with only a dot or to the end of the input. Raises EOFError where it had ended."""
    lines: list[str] = []
    try:
        while (line := input()).rstrip() != ".":
            lines.append(line)
    except EOFError:
        if not lines:
            raise
    if not sys.stdin.isatty():
        _show(lines)
    return "\n".join(lines)


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _said(message: Message) -> str:
    """A message under its role."""
    return f"\n{title('[' + message['role'] + ']')}\n{message['content']}"


def _signature(tool: ToolSpec) -> str:
    """A tool in one line."""
    return f"{tool.name}({', '.join(tool.parameters.get('properties', {}))}): {tool.description}"


def _facts(info: Mapping[str, Any]) -> Iterator[str]:
    yield title("facts, which the model never sees")
    facts = {key: json.dumps(value, ensure_ascii=False, default=str) for key, value in info["facts"].items()}
    yield from _rows(facts, "  ")


def _rows(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Names and values in two columns."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        yield f"{indent}{name.ljust(width)}  {value}"


def _numbers(values: Mapping[str, float], sign: str = "") -> dict[str, str]:
    return {name: f"{value:{sign}.3g}" if value else "0" for name, value in values.items()}  # there are 0.0 and -0.0
