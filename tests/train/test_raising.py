"""RL on an environment that raises: what raised teaches nothing, and too much of it stops the run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from holdfast.config import GRPO, LOSS_TYPES, PPO, RL, Environment, Launch, Stage
from holdfast.policy import checkpoint as models
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler
from holdfast.train import grpo, ppo
from holdfast.train.checkpoint import MOMENTS
from holdfast.train.episodes import scenarios
from holdfast.train.limits import Collapse
from holdfast.train.ranks import train
from raising import RAISING

FAMILIES = ("x", "yy", "zzz")
SEED = 1


def settings(algo: type[RL] = GRPO, **changes: Any) -> Any:
    usual = {"name": "test", "prompts_per_step": 3, "group": 8, "max_new_tokens": 5, "lr": 3e-3, "max_kl": 99}
    return algo(**{**usual, "max_raised": 1, **changes})


def family(cfg: RL, place: int) -> str:
    """Of a scenario of the first step."""
    return FAMILIES[scenarios(cfg, SEED, 0)[place] % 3]


def run(start: Path, out: Path, cfg: RL, steps: int, job: dict[str, Any] | None = None, **env: Any) -> list[Any]:
    place = Environment(name="test", id=RAISING, kwargs=env)
    module = grpo if isinstance(cfg, GRPO) else ppo
    module.train(start, out, env=place, cfg=cfg, steps=steps, **{"first_step": 0, "seed": SEED, **(job or {})})
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if "second" not in key} for line in lines]


@pytest.mark.parametrize(
    "cfg",
    [
        *(settings(loss_type=name, epsilon_high=5.0, beta=0.1, rows_per_pass=8) for name in LOSS_TYPES),
        settings(PPO, beta=0.1, rows_per_pass=8),
        settings(PPO, beta=0.1, kl_in="loss", critic="model"),
    ],
    ids=[*LOSS_TYPES, "ppo", "critic"],
)
def test_a_step_is_the_one_without_the_group_that_raised(checkpoint: Path, tmp_path: Path, cfg: Any) -> None:
    (raised,) = run(checkpoint, tmp_path / "raised", cfg, 1, openings=[family(cfg, 2)])
    (without,) = run(checkpoint, tmp_path / "without", replace(cfg, prompts_per_step=2), 1)
    assert raised.pop("raised") == pytest.approx(1 / 3)
    assert without.pop("raised") == 0
    assert raised.pop("zero_variance") == pytest.approx((1 + 2 * without.pop("zero_variance")) / 3)
    one, other = ({key: x for key, x in line.items() if type(x) is float} for line in timeless([raised, without]))
    assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    start, ours, theirs = (load_file(path / "model.safetensors") for path in (
        checkpoint, tmp_path / "raised", tmp_path / "without"
    ))  # fmt: skip
    moved = max((theirs[name] - start[name]).abs().max().item() for name in start)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in start) < 1e-2 * moved


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_the_baseline_is_of_those_of_a_group_that_did_not_raise(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss_type: str
) -> None:
    seen: list[tuple[Any, Any]] = []
    own = grpo.GroupLearner._generate_and_score_completions

    def spy(self: Any, inputs: Any) -> Any:
        seen.append((own(self, inputs), self.rollout.episodes))
        return seen[-1][0]

    monkeypatch.setattr(grpo.GroupLearner, "_generate_and_score_completions", spy)
    run(checkpoint, tmp_path / "out", settings(loss_type=loss_type, epsilon_high=5.0), 1, every=4)
    ((batch, episodes),) = seen
    advantages_UG, masks_UGC = batch["advantages"].view(-1, 8).cpu(), batch["model_mask"].view(3, 8, -1).cpu()
    sizes = []
    for u in range(3):
        group = episodes[8 * u : 8 * u + 8]
        kept = torch.tensor([not episode.error for episode in group])
        sizes.append(int(kept.sum()))
        assert not advantages_UG[u][~kept].any()
        assert not masks_UGC[u][~kept].any()
        rewards = torch.tensor([episode.reward for episode in group])[kept]
        expected = rewards - rewards.mean()
        if loss_type == "rloo":
            expected = rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
        elif loss_type != "dr_grpo":
            expected /= rewards.std() + 1e-4
        assert torch.allclose(advantages_UG[u][kept], expected, atol=1e-5)
    assert any(2 < size < 8 for size in sizes)


@pytest.mark.parametrize("algo", [GRPO, PPO])
def test_metrics_are_of_what_did_not_raise(checkpoint: Path, tmp_path: Path, algo: type[RL]) -> None:
    cfg = settings(algo)
    (line,) = run(checkpoint, tmp_path / "out", cfg, 1, every=3, turns=2)
    model, tokenizer = models.load(checkpoint)
    sampler = Sampler(model, Renderer(tokenizer), max_new_tokens=5)
    env = Environment(name="test", id=RAISING, kwargs={"every": 3, "turns": 2})
    names = [(scenario, sample) for scenario in scenarios(cfg, SEED, 0) for sample in range(8)]
    episodes = roll(env, names, sampler, stream=("train", SEED, 0), max_turns=8)
    kept = [episode for episode in episodes if not episode.error]
    assert 0 < len(kept) < 24
    assert line["raised"] == pytest.approx(1 - len(kept) / 24)
    assert line["reward"] == pytest.approx(sum(episode.reward for episode in kept) / len(kept))
    assert line["component/letters"] == pytest.approx(line["reward"])
    assert line["length"] == pytest.approx(sum(len(r.ids) for e in kept for r in e.replies) / len(kept))
    assert line["turns"] == 2


@pytest.mark.parametrize(
    "cfg",
    [
        settings(loss_type="grpo", resample=1, updates=2, beta=0.1, rows_per_pass=5),
        settings(PPO, minibatches=3, critic="model", beta=0.1),
    ],
    ids=["grpo", "ppo"],
)
def test_two_segments_equal_one_run_bit_for_bit(checkpoint: Path, tmp_path: Path, cfg: Any) -> None:
    env = {"openings": ["yy"], "every": 5, "turns": 2}
    whole = run(checkpoint, tmp_path / "whole", cfg, 4, **env)
    run(checkpoint, tmp_path / "first", cfg, 2, **env)
    second = run(checkpoint, tmp_path / "second", cfg, 2, {"first_step": 2, "resume": tmp_path / "first"}, **env)
    assert timeless(second) == timeless(whole)
    assert all(line["raised"] > 0 for line in whole)
    assert models.fingerprint(tmp_path / "second") == models.fingerprint(tmp_path / "whole")
    assert (tmp_path / "second" / MOMENTS).read_bytes() == (tmp_path / "whole" / MOMENTS).read_bytes()


def test_a_group_that_raised_is_replaced_by_one_that_does_not(checkpoint: Path, tmp_path: Path) -> None:
    cfg = settings(resample=3)
    (line,) = run(checkpoint, tmp_path / "out", cfg, 1, openings=[family(cfg, 0)])
    # 2 ** 31 is 2 modulo 3, so that the first substitute is of another family. It is played all the same.
    assert line["zero_variance"] == 0
    assert line["resampled"] == 1
    assert line["raised"] == 8 / (24 + 8)


@pytest.mark.parametrize("algo", [GRPO, PPO])
def test_two_processes_agree_on_what_raised(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algo: type[RL], cpu_only: None
) -> None:
    root = Path(__file__).parents[2]
    paths = [str(root / folder) for folder in ("src", "envs", "tests")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
    cfg = settings(algo, prompts_per_step=4, group=4, rows_per_pass=4)
    env = Environment(name="test", id=RAISING, kwargs={"openings": ["x"], "every": 7})
    stage, lines, weights = Stage(name="raising", env=env, algo=cfg, steps=(2,)), [], []
    for launch in (Launch(), Launch(processes=2)):
        out = tmp_path / str(launch.processes)
        out.mkdir()
        train(stage, checkpoint, None, 0, 2, SEED, launch, out)
        lines.append([json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()])
        weights.append(load_file(out / "model.safetensors"))
    for one, two in zip(*lines, strict=True):
        assert one["raised"] == two["raised"] > 0
        for name in ("reward", "kl_estimate", "loss", "zero_variance", "length"):
            assert one[name] == pytest.approx(two[name], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]) < 1e-4


def test_too_much_of_it_stops_the_run_at_the_same_step_however_it_is_cut(checkpoint: Path, tmp_path: Path) -> None:
    what = (
        r"^the environment keeps raising: at step 3, raised is 0\.3333 of the episodes and has been beyond "
        r"max_raised = 0\.3 for 3 steps; the last checkpoint before it is kept$"
    )
    cfg, env = settings(max_raised=0.3), {"openings": ["yy"]}
    with pytest.raises(Collapse, match=what):
        run(checkpoint, tmp_path / "whole", cfg, 9, **env)
    run(checkpoint, tmp_path / "first", cfg, 2, **env)
    with pytest.raises(Collapse, match=what):
        run(checkpoint, tmp_path / "second", cfg, 7, {"first_step": 2, "resume": tmp_path / "first"}, **env)
    run(checkpoint, tmp_path / "laxer", replace(cfg, max_raised=0.34), 4, **env)


def test_a_step_in_which_every_episode_raises_stops_the_run_at_once(checkpoint: Path, tmp_path: Path) -> None:
    what = "^the environment keeps raising: in every episode of step 1, RuntimeError: no room for "
    with pytest.raises(Collapse, match=what):
        run(checkpoint, tmp_path / "out", settings(), 2, openings=FAMILIES)


def test_the_trainer_does_not_warn_of_every_step(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(checkpoint, tmp_path / "out", settings(), 2, openings=["x"])
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.name for record in told] == ["holdfast.policy.rollout"] * 2


def test_the_share_is_from_0_to_1() -> None:
    with pytest.raises(ValueError, match=r"^max_raised must be 0 to 1, not 1\.5$"):
        settings(max_raised=1.5)


