"""What RL learned, at its ends."""

from __future__ import annotations

from typing import Any

from tools.learning import ends


def test_ends_are_before_rl_and_at_the_last_step_of_every_seed() -> None:
    def row(algo: str, step: int, refused: float, over: float) -> dict[str, Any]:
        told = {"reward": 0.25 if step else "", "refused": refused, "over_refusal": over}
        return {"env": "chat", "algo": algo, "seed": 0, "step": step, **told}

    grpo = [row("grpo", 0, 0.1, 0.0), row("grpo", 20, 0.5, 0.4), row("grpo", 40, 0.8, 0.2)]
    ppo = [row("ppo", 0, 0.3, 0.2), row("ppo", 20, 0.6, 0.1)]
    _, _, one, other = ends([*grpo, *(line | {"seed": 1, "refused": 0.9} for line in grpo), *ppo])
    assert one == "| chat | grpo | 0.25 0.25 | 10 90 | 0 0 | 80 90 | 20 20 |"
    assert other == "| chat | ppo | 0.25 | 30 | 20 | 60 | 10 |"
