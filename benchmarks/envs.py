"""Speed of the environments: reset and steps of every Holdfast id, against text environments of other packages.

    pip install gem-llm textarena     (optional: a peer that is not installed is left out, and named)
    python benchmarks/envs.py

Every environment is made once and plays whole episodes: a reset with a fresh seed, then one fixed reply, of the same
length for all text, until the episode ends or 10 steps are done. Rounds go over all environments in turn, so that noise
hits them alike. Prints medians over the rounds, and then what the knobs cost:

    id                                us/episode  us/step  steps  episodes/s  of peer
    gem game:GuessTheNumber-v0-easy         12.7      3.4    3.8       79013     1.00
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium

import holdfast_envs  # noqa: F401  (registers the ids)
from holdfast.chat import Observation, ToolCall

EPISODES, ROUNDS, WARM_UP, MAX_STEPS = 100, 21, 50, 10
KNOBS: dict[str, Any] = {"system_prompts": "varied", "tools": "distractor", "n_tools": 16}

LENGTH = 138  # characters of every text reply
NAME = "Ada"
FILLER = " I have looked at all of it with care, and I would be glad to go through it with you at a time that suits you"
REFUSAL = "I cannot help with that, because somebody could be hurt by it." + FILLER
GUESS = "The number lies between the two bounds, and I have no hint yet." + FILLER

Play = Callable[[int], int]
"""One episode from its seed; returns the number of its steps."""


def main() -> None:
    """Measure everything in one run and print both tables."""
    ids = sorted(env_id for env_id in gymnasium.registry if env_id.startswith("holdfast/"))
    peers, missing = text_peers()
    plain = {env_id: holdfast_episode(env_id) for env_id in ids}
    knobbed = {env_id: holdfast_episode(env_id, **KNOBS) for env_id in ids}
    floor = {"gymnasium Blackjack-v1": episode(gymnasium.make("Blackjack-v1"), lambda _: 0)}  # stick
    costs = measure([*floor.values(), *peers.values(), *plain.values(), *knobbed.values()])

    best = min((costs[play][0] for play in peers.values()), default=None)
    print(f"{'id':34}{'us/episode':>11}{'us/step':>9}{'steps':>7}{'episodes/s':>12}{'of peer':>9}")
    for name, play in {**floor, **peers, **plain}.items():
        cost, steps = costs[play]
        share = "-" if best is None else f"{best / cost:.2f}"
        print(f"{name:34}{cost:11.1f}{cost / steps:9.1f}{steps:7.1f}{1e6 / cost:12.0f}{share:>9}")
    print("of peer: episodes/s over the fastest text peer's" if peers else "of peer: there is none to compare with")
    for package in missing:
        print(f"not installed, left out: {package}")

    print("\nwith", ", ".join(f"{knob}={value}" for knob, value in KNOBS.items()))
    print(f"{'id':34}{'none us':>11}{'knobs us':>9}{'ratio':>7}")
    for env_id in ids:
        none, knobs = costs[plain[env_id]][0], costs[knobbed[env_id]][0]
        print(f"{env_id:34}{none:11.1f}{knobs:9.1f}{knobs / none:7.2f}")


def measure(plays: list[Play]) -> dict[Play, tuple[float, float]]:
    """Microseconds and steps of an episode, medians over rounds. No seed comes twice, and all get the same ones."""
    for play in plays:
        for seed in range(WARM_UP):
            play(seed)
    seen: dict[Play, list[tuple[float, float]]] = {play: [] for play in plays}
    for first in range(WARM_UP, WARM_UP + ROUNDS * EPISODES, EPISODES):
        for play in plays:
            start = time.perf_counter()
            steps = sum(play(seed) for seed in range(first, first + EPISODES))
            seen[play].append(((time.perf_counter() - start) / EPISODES * 1e6, steps / EPISODES))
    return {
        play: (statistics.median(cost for cost, _ in rounds), statistics.median(steps for _, steps in rounds))
        for play, rounds in seen.items()
    }


def episode(env: Any, reply: Callable[[dict[str, Any]], Any]) -> Play:
    """Plays an environment with Gymnasium's interface, which GEM shares. `reply` is given the info of the reset."""

    def play(seed: int) -> int:
        _, info = env.reset(seed=seed)
        action = reply(info)
        steps, over = 0, False
        while not over and steps < MAX_STEPS:
            _, _, terminated, truncated, _ = env.step(action)
            steps, over = steps + 1, terminated or truncated
        return steps

    return play


def holdfast_episode(env_id: str, **knobs: Any) -> Play:
    """Plays a Holdfast id as users make it. A call goes to whoever decides, so that the judge has to read it."""
    reply = holdfast_reply(env_id)
    return episode(
        gymnasium.make(env_id, **knobs), lambda info: reply.replace(NAME, info["facts"].get("decider", NAME))
    )


def holdfast_reply(env_id: str) -> str:
    """A refusal; where the environment has tools of its own, a call of one instead: a mail, if it can send any."""
    env: gymnasium.Env[Observation, str] = gymnasium.make(env_id)
    observation, _ = env.reset(seed=0)
    if not observation.tools:
        return sized(REFUSAL, ".")
    tool = next((tool for tool in observation.tools if tool.name == "send_mail"), observation.tools[0])
    arguments = dict.fromkeys(tool.parameters["required"], NAME)
    room = LENGTH - len(ToolCall(tool.name, arguments).render())
    for last in tool.parameters["required"][-1:]:
        arguments[last] = FILLER.strip()[: max(room, 0)]
    return ToolCall(tool.name, arguments).render()


def text_peers() -> tuple[dict[str, Play], list[str]]:
    """One episode of each peer that can be imported, by name, and the packages that cannot.

    Guessing a number is the cheapest game of either package in which a reply of any length is a legal move: one random
    number, one regular expression a step, no data. (GEM's one-step `rg:` tasks cost no less, and its `qa:` and `math:`
    download their data.) Both seed Python's global generator.
    """
    peers: dict[str, Play] = {}
    missing: list[str] = []
    try:
        import gem
        import gem.envs
    except ImportError as error:
        missing.append(f"gem-llm ({error})")
    else:
        logging.getLogger().setLevel(logging.WARNING)  # GEM lets the root logger print everything
        name = "game:GuessTheNumber-v0-easy"
        guess = sized(GUESS, " \\boxed{5}")
        peers[f"gem {name}"] = episode(gem.make(name), lambda _: guess)
    try:
        import textarena
    except ImportError as error:
        missing.append(f"textarena ({error})")
    else:
        # "-raw" is without the wrapper that joins all messages into one text. That one keeps the messages of earlier
        # episodes, so an environment that is made once would get slower with every reset.
        name = "GuessTheNumber-v0-raw"
        peers[f"textarena {name}"] = textarena_episode(textarena.make(name), sized(GUESS, " [5]"))
    return peers, missing


def textarena_episode(env: Any, reply: str) -> Play:
    """Plays a TextArena game for one; what the player sees is fetched before every reply."""

    def play(seed: int) -> int:
        env.reset(num_players=1, seed=seed)
        steps, over = 0, False
        while not over and steps < MAX_STEPS:
            env.get_observation()
            over, _ = env.step(action=reply)
            steps += 1
        return steps

    return play


def sized(text: str, end: str) -> str:
    """`text`, cut so that with `end` it has LENGTH characters."""
    assert len(text + end) >= LENGTH
    return text[: LENGTH - len(end)] + end


if __name__ == "__main__":
    main()
