"""GRPO and PPO through the real trainer, sampler and rollout, on a tiny random model."""

import copy
import gc
import json
import math
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from trl import GRPOTrainer

from holdfast.chat import ChatEnv, Outcome, Reply, Scene, Turn
from holdfast.config import GRPO, LOSS_TYPES, PPO, RL, Environment
from holdfast.policy import checkpoint as models
from holdfast.policy.render import Renderer
from holdfast.policy.rollout import roll
from holdfast.policy.sampler import Sampler
from holdfast.policy.scores import completion_scores
from holdfast.train import grpo, ppo
from holdfast.train.arguments import arguments, quiet
from holdfast.train.checkpoint import CRITIC, MOMENTS
from holdfast.train.episodes import Rollout, cast_once, dealt, places, scenarios, substitute
from holdfast.train.limits import Collapse
from holdfast.train.loop import Learner, Start, log_ratios
from letters import Letters

CLOCK = {
    "seconds_rollout", "seconds_reward", "seconds_score", "seconds_forward", "seconds_backward", "seconds_update",
    "tokens_per_second",
}  # fmt: skip


class Vowels(Letters):
    """Pays the share of small letters in a reply, times `sign`, and `wage` for whatever is said."""

    reward_bounds: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    def __init__(self, *, sign: int = 1, turns: int = 1, wage: float = 0.0, **knobs: Any) -> None:
        super().__init__(**knobs)
        self.sign, self.turns, self.wage = sign, turns, wage

    def turn(self, reply: Reply) -> Turn:
        share = self.share(reply)
        components = {"letters": 2 * self.sign * share, "fee": -self.sign * share}
        if self.wage:
            components["wage"] = self.wage
        if self.taken < self.turns:
            return Turn(components, ({"role": "user", "content": "More."},))
        return Turn(components, outcome=Outcome(share > 0.5))


class Bandit(ChatEnv):
    """Pays 1 for the one right word."""

    pressure = "neutral"
    reward_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def families(self) -> Sequence[str]:
        return ("word",)

    def scene(self, family: str) -> Scene:
        return Scene(({"role": "user", "content": "Say the word."},))

    def turn(self, reply: Reply) -> Turn:
        right = reply.text.strip() == WORD
        return Turn({"right": float(right)}, outcome=Outcome(right))


WORD = "is"
ENV, BANDIT = "test/Vowels-v0", "test/Bandit-v0"
gymnasium.register(ENV, entry_point=Vowels)
gymnasium.register(BANDIT, entry_point=Bandit)

both = pytest.mark.parametrize("algo", [GRPO, PPO])


def settings(algo: type[RL] = GRPO, **changes: Any) -> Any:
    usual = {"name": "test", "prompts_per_step": 3, "group": 8, "max_new_tokens": 5, "lr": 3e-3, "max_kl": 99}
    return algo(**{**usual, **changes})


def run(
    start: Path,
    out: Path,
    cfg: RL,
    steps: int,
    *,
    env: str = ENV,
    env_kwargs: Mapping[str, Any] | None = None,
    **changes: Any,
) -> list[dict[str, Any]]:
    base: dict[str, Any] = {"first_step": 0, "seed": 1}
    train = grpo.train if isinstance(cfg, GRPO) else ppo.train
    place = Environment(name="test", id=env, kwargs=env_kwargs or {})
    train(start, out, env=place, cfg=cfg, steps=steps, **{**base, **changes})
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def timeless(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


@both
@pytest.mark.parametrize("seed", range(5))
def test_the_one_right_word_is_learnt_from_any_seed(
    checkpoint: Path, tmp_path: Path, algo: type[RL], seed: int
) -> None:
    # Said by chance once in 66 tries; 50 steps of 64 tries are the budget.
    cfg = settings(algo, prompts_per_step=8, max_new_tokens=1, lr=1e-2, min_entropy=0)
    lines = run(checkpoint, tmp_path / "out", cfg, 50, env=BANDIT, seed=seed)
    assert lines[0]["reward"] < 0.1
    assert sum(line["reward"] for line in lines[-5:]) / 5 > 0.9


@both
def test_reward_rises_and_with_its_sign_flipped_the_same_behaviour_falls(
    checkpoint: Path, tmp_path: Path, algo: type[RL]
) -> None:
    cfg = settings(algo, prompts_per_step=6, lr=1e-2)
    up = [line["reward"] for line in run(checkpoint, tmp_path / "up", cfg, 12)]
    down = [-line["reward"] for line in run(checkpoint, tmp_path / "down", cfg, 12, env_kwargs={"sign": -1})]
    assert up[0] == pytest.approx(down[0])  # before any update both see the same weights and streams
    assert sum(up[-3:]) / 3 > up[0] + 0.25
    assert sum(down[-3:]) / 3 < down[0] - 0.1


MUCH = {"updates": 2, "beta": 0.1, "warmup": 3, "rows_per_pass": 5}


@pytest.mark.parametrize(
    ("algo", "changes", "turns"),
    [
        (GRPO, {}, 1),
        (GRPO, {**MUCH, "loss_type": "grpo", "resample": 2}, 2),
        (PPO, {}, 1),
        (PPO, {**MUCH, "minibatches": 3, "critic": "model", "critic_lr": 1e-3, "critic_warmup": 3}, 2),
        (PPO, {"group": 1, "prompts_per_step": 6, "gradient_checkpointing": True}, 2),
        (GRPO, {"lora_rank": 2, "beta": 0.1}, 1),
        (PPO, {"lora_rank": 2, "critic": "model"}, 1),
    ],
)
def test_two_segments_equal_one_run_bit_for_bit(
    checkpoint: Path, tmp_path: Path, algo: type[RL], changes: dict[str, Any], turns: int
) -> None:
    cfg, kwargs = settings(algo, **changes), {"turns": turns}
    whole = run(checkpoint, tmp_path / "whole", cfg, 4, env_kwargs=kwargs)
    first = run(checkpoint, tmp_path / "first", cfg, 2, env_kwargs=kwargs)
    resume = tmp_path / "first"
    second = run(checkpoint, tmp_path / "second", cfg, 2, env_kwargs=kwargs, first_step=2, resume=resume)
    assert timeless(second) == timeless(whole)
    assert second[:2] == first  # what a segment says of the steps before it is what was said then
    assert [line["step"] for line in whole] == [1, 2, 3, 4]
    prints = {name: models.fingerprint(tmp_path / name) for name in ("whole", "first", "second")}
    assert prints["second"] == prints["whole"] != prints["first"]
    for name in (MOMENTS, *([CRITIC] if algo is PPO else [])):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_penalty_is_on_the_stage_start_in_every_segment(checkpoint: Path, tmp_path: Path) -> None:
    cfg = settings(beta=0.1)
    (first,) = run(checkpoint, tmp_path / "first", cfg, 1)
    _, second = run(checkpoint, tmp_path / "second", cfg, 1, first_step=1, resume=tmp_path / "first")
    assert first["kl_estimate"] == pytest.approx(0, abs=1e-6)  # the first step is taken at the start itself
    assert abs(second["kl_estimate"]) > 1e-5


@pytest.mark.parametrize("wage", [0.0, 0.1])  # the mean of eight times 0.1 is not 0.1 in float32
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_groups_of_equal_rewards_teach_nothing(checkpoint: Path, tmp_path: Path, wage: float, loss_type: str) -> None:
    cfg = settings(loss_type=loss_type, epsilon_high=5.0)
    (line,) = run(checkpoint, tmp_path / "out", cfg, 1, env_kwargs={"sign": 0, "wage": wage})
    assert (line["zero_variance"], line["grad_norm"], line["reward_std"]) == (1, 0, pytest.approx(0, abs=1e-9))
    assert models.fingerprint(tmp_path / "out") == models.fingerprint(checkpoint)


@both
def test_at_a_rate_of_0_nothing_moves(checkpoint: Path, tmp_path: Path, algo: type[RL]) -> None:
    lines = run(checkpoint, tmp_path / "out", settings(algo, lr=0.0), 2)
    assert [line["step"] for line in lines] == [1, 2]
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "out"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_equal_returns_teach_the_policy_of_ppo_next_to_nothing(checkpoint: Path, tmp_path: Path) -> None:
    cfg = settings(PPO, lam=1.0, value_coef=0.0)
    run(checkpoint, tmp_path / "out", cfg, 1, env_kwargs={"sign": 0, "wage": 0.1})
    before, after = (models.load(folder)[0].state_dict() for folder in (checkpoint, tmp_path / "out"))
    moved = max((after[name] - before[name]).abs().max().item() for name in before)
    assert moved < 1e-3 * cfg.lr  # a full step of AdamW is lr


@pytest.mark.parametrize("critic", ["head", "model"])
def test_while_the_critic_warms_up_it_alone_moves(checkpoint: Path, tmp_path: Path, critic: str) -> None:
    cfg = settings(PPO, critic=critic, critic_warmup=2, critic_lr=1e-2)
    run(checkpoint, tmp_path / "two", cfg, 2)
    assert models.fingerprint(tmp_path / "two") == models.fingerprint(checkpoint)
    assert load_file(tmp_path / "two" / CRITIC)["head.weight"].abs().max() > 0
    run(checkpoint, tmp_path / "three", cfg, 1, first_step=2, resume=tmp_path / "two")
    assert models.fingerprint(tmp_path / "three") != models.fingerprint(checkpoint)


@pytest.mark.parametrize(
    ("algo", "changes"), [(GRPO, {"beta": 0.1}), (PPO, {}), (PPO, {"critic": "model", "minibatches": 3, "beta": 0.1})]
)
def test_half_precision_trains_float32_weights_to_about_the_same(
    checkpoint: Path, tmp_path: Path, algo: type[RL], changes: dict[str, Any]
) -> None:
    half = run(checkpoint, tmp_path / "half", settings(algo, autocast=True, **changes), 2)
    full = run(checkpoint, tmp_path / "full", settings(algo, **changes), 2)
    assert half[0]["entropy"] == pytest.approx(full[0]["entropy"], rel=0.05)
    assert half[0]["reward"] == pytest.approx(full[0]["reward"], abs=0.1)
    weights = models.load(tmp_path / "half", "auto")[0].state_dict().values()
    assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize(("minibatches", "ranks"), [(1, 1), (1, 2), (2, 2), (2, 4), (4, 2)])
def test_processes_share_out_every_minibatch_in_whole_groups(minibatches: int, ranks: int) -> None:
    cfg = settings(prompts_per_step=8, group=2, minibatches=minibatches)
    shares = [places(cfg, rank, ranks) for rank in range(ranks)]
    assert sorted(chain(*shares)) == list(range(16))
    size = 16 // minibatches
    for n in range(minibatches):
        of_minibatch = [share[n * size // ranks : (n + 1) * size // ranks] for share in shares]
        assert sorted(chain(*of_minibatch)) == list(range(n * size, (n + 1) * size))
        assert all(part[::2] == [place - 1 for place in part[1::2]] for part in of_minibatch)


def test_scenarios_are_dealt_anew_among_the_minibatches_at_every_pass_alike_for_any_number_of_processes() -> None:
    cfg = settings(prompts_per_step=8, group=2, minibatches=4)

    def minibatches(ranks: int, stream: list[int]) -> list[set[int]]:
        """The episodes of each, over all processes."""
        mine = [(places(cfg, rank, ranks), dealt(cfg, rank, ranks, stream)) for rank in range(ranks)]
        taken = [[played[row] for row in order] for played, order in mine]
        size = 4 // ranks
        return [{at for own in taken for at in own[n * size : (n + 1) * size]} for n in range(4)]

    streams = [[0, step, update] for step in range(3) for update in range(2)]
    passes = [minibatches(1, stream) for stream in streams]
    assert passes == [minibatches(2, stream) for stream in streams]
    for one in passes:
        assert set().union(*one) == set(range(16))
        assert all({at ^ 1 for at in each} == each for each in one)  # whole groups
    assert len({tuple(map(frozenset, one)) for one in passes}) == 6


def test_a_minibatch_of_less_than_a_group_comes_in_another_order() -> None:
    cfg = settings(prompts_per_step=1, group=4, minibatches=4)
    orders = {tuple(dealt(cfg, 0, 1, [0, step, 0])) for step in range(20)}
    assert len(orders) > 5
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


def test_one_minibatch_keeps_the_order_of_its_episodes() -> None:
    assert dealt(settings(prompts_per_step=4, group=2, minibatches=1), 0, 1, [0, 0, 0]) == list(range(8))


def test_a_group_without_variance_is_replaced_as_often_as_the_limit_says(checkpoint: Path, tmp_path: Path) -> None:
    (never,) = run(checkpoint, tmp_path / "never", settings(resample=4), 1, env_kwargs={"sign": 0})
    assert (never["resampled"], never["zero_variance"]) == (12, 1)  # 3 groups, 4 times, in vain
    (plain,) = run(checkpoint, tmp_path / "plain", settings(prompts_per_step=6, max_new_tokens=1), 1, env=BANDIT)
    (fresh,) = run(
        checkpoint, tmp_path / "fresh", settings(prompts_per_step=6, max_new_tokens=1, resample=9), 1, env=BANDIT
    )
    assert 0 < plain["zero_variance"] < 1
    assert fresh["zero_variance"] < plain["zero_variance"]
    assert fresh["resampled"] >= 6 * plain["zero_variance"]  # each at least once


def test_a_steps_sampler_and_what_it_prefilled_are_gone_with_the_step(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Sampler]] = []
    make = Rollout._sampler

    def spy(self: Rollout, trainer: Any) -> Sampler:
        assert all(sampler() is None for sampler in made)
        sampler = make(self, trainer)
        made.append(weakref.ref(sampler))
        return sampler

    monkeypatch.setattr(Rollout, "_sampler", spy)
    gc.disable()  # whose turn may be long in coming
    try:
        run(checkpoint, tmp_path / "out", settings(), 2)
    finally:
        gc.enable()
    assert len(made) == 2


def test_resampling_leaves_the_other_groups_as_they_were_and_meets_new_scenarios(checkpoint: Path) -> None:
    model, tokenizer = models.load(checkpoint)
    sampler = Sampler(model, Renderer(tokenizer), max_new_tokens=1)
    cfg = settings(prompts_per_step=6, max_new_tokens=1, resample=1)
    bandit = Environment(name="test", id=BANDIT, kwargs={})
    rollout = Rollout(cfg, bandit, sampler.renderer, 0, 1, meter=None)  # type: ignore[arg-type]  # not asked here
    wanted = scenarios(cfg, 1, 0)
    before = rollout.play([(seed, i) for seed in wanted for i in range(8)], sampler, 0)
    rollout.episodes = list(before)
    replaced = rollout.resample(sampler, 0)
    alike = [n for n in range(6) if len({sum(e.rewards) for e in before[8 * n : 8 * n + 8]}) == 1]
    assert 0 < replaced == len(alike) < 6
    for n in range(6):
        own = rollout.episodes[8 * n : 8 * n + 8]
        assert {episode.scenario for episode in own} == {substitute(wanted[n], 1) if n in alike else wanted[n]}
        assert (own == before[8 * n : 8 * n + 8]) == (n not in alike)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_advantages_are_those_of_the_paper(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss_type: str
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    own = grpo.GroupLearner._generate_and_score_completions

    def spy(self: Any, inputs: Any) -> Any:
        batch = own(self, inputs)
        rewards = torch.tensor([sum(episode.rewards) for episode in self.rollout.episodes]).view(-1, 8)
        seen.append((rewards, batch["advantages"].view(-1, 8).cpu()))
        return batch

    monkeypatch.setattr(grpo.GroupLearner, "_generate_and_score_completions", spy)
    run(checkpoint, tmp_path / "out", settings(loss_type=loss_type, epsilon_high=5.0), 1)
    ((rewards, advantages),) = seen
    if loss_type == "rloo":
        expected = rewards - (rewards.sum(1, keepdim=True) - rewards) / 7  # the mean of the other seven
    else:
        expected = rewards - rewards.mean(1, keepdim=True)
        if loss_type != "dr_grpo":
            expected /= rewards.std(1, keepdim=True) + 1e-4
    assert torch.allclose(advantages, expected, atol=1e-5)


def test_metrics_describe_the_step(checkpoint: Path, tmp_path: Path) -> None:
    lines = run(checkpoint, tmp_path / "out", settings(warmup=4, updates=2), 2, env_kwargs={"turns": 2})
    for line in lines:
        # Components sum to the reward: 2 x - x = x.
        assert line["component/letters"] == pytest.approx(2 * line["reward"])
        assert line["component/fee"] == pytest.approx(-line["reward"])
        assert 2 <= line["length"] <= 10  # two replies of 1 to 5 tokens
        assert 0.5 < line["truncated"] <= 1  # one token in 320 ends a turn
        assert 0 < line["entropy"] < math.log(320)
        assert all(line[key] > 0 for key in CLOCK)
    # Warm-up of 4 steps is 8 updates; the rate logged is that of a step's last update, 2/8 and 4/8 of 3e-3.
    assert [line["lr"] for line in lines] == pytest.approx([0.75e-3, 1.5e-3])


def test_a_segment_leaves_a_checkpoint_moments_and_metrics_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "out", settings(), 1)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made - {path.name for path in checkpoint.iterdir()} == {"metrics.jsonl", "optimizer"}
    models.load(tmp_path / "out")


@both
@pytest.mark.parametrize(("env", "turns"), [("Escalation-v1", 3), ("Blackmail-v0", 1)])  # the mailbox leaves it open
def test_environments_of_several_turns_train_on_what_was_sampled_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algo: type[RL], env: str, turns: int
) -> None:
    learner = grpo.GroupLearner if algo is GRPO else ppo.ActorCritic
    score, seen = learner._generate_and_score_completions, []

    def spy(self: Any, inputs: Any) -> Any:
        seen.append((score(self, inputs), self.rollout.episodes))
        return seen[-1][0]

    monkeypatch.setattr(learner, "_generate_and_score_completions", spy)
    cfg = settings(algo, prompts_per_step=2, group=4, max_new_tokens=32, max_turns=3, rows_per_pass=4)
    with as_file(files("holdfast.policy") / "pocket") as pocket:
        (line,) = run(pocket, tmp_path / "out", cfg, 1, env=f"holdfast_envs:holdfast/{env}")
    assert line["turns"] >= turns
    ((batch, episodes),) = seen
    for row, episode in enumerate(episodes):
        given = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        assert tuple(given.tolist()) == episode.completion_ids
        ours = given[batch["model_mask"][row][batch["completion_mask"][row].bool()].bool()]
        assert tuple(ours.tolist()) == tuple(id_ for reply in episode.replies for id_ in reply.ids)
    if algo is PPO:  # with gamma 1, lambda 0.95 and values of 0
        assert batch["values"].abs().max() == 0
        for row, episode in enumerate(episodes):
            later = 0.0
            for end, reply, reward in zip(
                episode.turn_ends[::-1], episode.replies[::-1], episode.rewards[::-1], strict=True
            ):
                assert batch["returns"][row, end].item() == pytest.approx(reward + later, abs=1e-5)
                later = (reward + later) * 0.95 ** len(reply.ids)  # as the token before the reply gets it


def test_scenarios_follow_from_seed_and_step_alone_and_never_repeat() -> None:
    cfg = settings(prompts_per_step=4)
    seeds = [scenario for step in range(50) for scenario in scenarios(cfg, 7, step)]
    assert seeds == list(range(seeds[0], seeds[0] + 200))
    assert scenarios(cfg, 7, 30) == seeds[120:124]
    assert set(scenarios(cfg, 8, 0)).isdisjoint(seeds)


def test_sharing_a_prompt_gives_the_scores_and_the_gradient_of_every_row_alone(checkpoint: Path) -> None:
    model, _ = models.load(checkpoint)
    prompts, said = [[7, 8, 9], [7, 8, 9], [5] * 9, [7, 8, 9]], [[3, 4, 5], [6] * 5, [9, 3], [2]]
    ids, mask = torch.zeros(4, 16, dtype=torch.long), torch.zeros(4, 16, dtype=torch.long)  # 10 and 6 columns
    for i in range(4):
        ids[i, 10 - len(prompts[i]) : 10 + len(said[i])] = torch.tensor(prompts[i] + said[i])
        mask[i, 10 - len(prompts[i]) : 10 + len(said[i])] = 1
    ids, mask, weights = (x.to(model.device) for x in (ids, mask, torch.arange(1.0, 25.0).view(4, 6)))
    logps, entropies = completion_scores(model, ids, mask, 6, temperature=0.7, share=True)
    shared = torch.autograd.grad((logps * weights).sum(), list(model.parameters()))

    expected, total = torch.zeros_like(weights), torch.zeros_like(weights[0, 0])
    for i in range(4):
        alone_ids = torch.tensor([prompts[i] + said[i]], device=model.device)
        logits = model(alone_ids).logits[0, len(prompts[i]) - 1 : -1] / 0.7
        alone = logits.log_softmax(-1)
        expected[i, : len(said[i])] = -(alone.exp() * alone).sum(-1).detach()
        chosen = alone[range(len(said[i])), said[i]]
        assert torch.allclose(logps[i], F.pad(chosen, (0, 6 - len(said[i]))), atol=1e-5)
        total = total + (chosen * weights[i, : len(said[i])]).sum()
    assert torch.allclose(entropies, expected, atol=1e-5)
    for ours, theirs in zip(shared, torch.autograd.grad(total, list(model.parameters())), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * theirs.abs().max())


def test_a_run_equals_one_with_the_scores_and_the_shuffle_of_trl(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = settings(temperature=0.7, beta=0.1, updates=2)
    ours = run(checkpoint, tmp_path / "ours", cfg, 3, env_kwargs={"turns": 2})
    ours_alone = Learner._get_per_token_logps_and_entropies

    def scored(self: Learner, model: Any, *rest: Any, **kwargs: Any) -> Any:
        if isinstance(model, Start):
            return ours_alone(self, model, *rest, **kwargs)
        logps, entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(self, model, *rest, **kwargs)
        if kwargs.get("compute_entropy"):
            self.report("token_entropy", entropies)
        return logps, entropies, None

    monkeypatch.setattr(Learner, "_get_per_token_logps_and_entropies", scored)
    monkeypatch.delattr(Learner, "_prepare_inputs")
    theirs = run(checkpoint, tmp_path / "theirs", cfg, 3, env_kwargs={"turns": 2})
    for one, other in zip(timeless(ours), timeless(theirs), strict=True):
        assert {key: one[key] for key in one if key not in ("kind", "algo")} == pytest.approx(
            {key: other[key] for key in other if key not in ("kind", "algo")}, rel=1e-2, abs=1e-4
        )


def test_casting_weights_once_draws_what_autocast_draws_and_leaves_the_weights_alone(checkpoint: Path) -> None:
    model, tokenizer = models.load(checkpoint)
    before, parameters = copy.deepcopy(model.state_dict()), list(model.parameters())

    def draw() -> Any:
        sampler = Sampler(model, Renderer(tokenizer), max_new_tokens=12)
        with torch.autocast(model.device.type, torch.bfloat16):
            return sampler.sample([[7, 8, 9, 10]], [[("t", i) for i in range(8)]])

    cast_again = draw()
    with cast_once(model, True):
        assert draw() == cast_again
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))


@pytest.mark.parametrize(
    ("prompts", "group", "limit", "rows"),
    [(8, 8, 16, 16), (3, 8, 16, 8), (3, 8, 24, 24), (4, 8, 6, 4), (2, 5, 4, 1), (2, 2, 999, 4)],
)
def test_a_pass_is_whole_groups_or_an_equal_part_of_one(
    tmp_path: Path, prompts: int, group: int, limit: int, rows: int
) -> None:
    with quiet():
        cfg = settings(prompts_per_step=prompts, group=group, rows_per_pass=limit)
        args = arguments(cfg, group, {}, 1, 0, tmp_path)
    assert args.per_device_train_batch_size == rows
    assert args.gradient_accumulation_steps * rows == prompts * group


@pytest.mark.parametrize("autocast", [False, True])
def test_precision_is_the_configs_to_say_whatever_the_shell_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autocast: bool
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no" if autocast else "bf16")
    with quiet():
        args = arguments(settings(autocast=autocast), 8, {}, 1, 0, tmp_path)
    assert args.mixed_precision == ("bf16" if autocast else "no")


def test_a_reply_is_scored_with_the_log_probability_it_was_sampled_with(checkpoint: Path) -> None:
    model, tokenizer = models.load(checkpoint)
    sampler = Sampler(model, Renderer(tokenizer), max_new_tokens=5, temperature=0.7)
    env = Environment(name="test", id=ENV, kwargs={"turns": 2})
    (episode,) = roll(env, [(3, 0)], sampler, stream=("t",), max_turns=2)
    ids = torch.tensor([[*episode.prompt_ids, *episode.completion_ids]], device=model.device)
    logps = (model(ids).logits[0] / 0.7).log_softmax(-1)
    at = [len(episode.prompt_ids) + i for i, written in enumerate(episode.completion_mask) if written]
    sampled = [logprob for reply in episode.replies for logprob in reply.logprobs]
    assert [logps[i - 1, ids[0, i]].item() for i in at] == pytest.approx(sampled, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more and first_step 0 or more, not 0 and 0"),
        ({"steps": -3}, "steps must be 1 or more and first_step 0 or more, not -3 and 0"),
        ({"first_step": 2}, "first_step 2 needs a segment to resume"),
        ({"resume": Path("x")}, "first_step 0 needs no segment to resume"),
        ({"env": "test/Missing-v0"}, "unknown environment 'test/Missing-v0'"),
    ],
)
def test_what_cannot_be_run_ends_in_one_line(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    base: dict[str, Any] = {"cfg": settings(), "steps": 1}
    with pytest.raises(ValueError, match=message):
        run(checkpoint, tmp_path / "out", **{**base, **changes})


@pytest.mark.parametrize("missing", ["metrics.jsonl", MOMENTS])
def test_resuming_from_a_folder_without_all_it_takes_names_the_file(
    checkpoint: Path, tmp_path: Path, missing: str
) -> None:
    run(checkpoint, tmp_path / "first", settings(), 1)
    (tmp_path / "first" / missing).unlink()
    with pytest.raises(ValueError, match=f"cannot resume: .*{missing} is missing"):
        run(checkpoint, tmp_path / "out", settings(), 1, first_step=1, resume=tmp_path / "first")


def test_resuming_at_another_step_than_the_segment_ends_with_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "first", settings(), 1)
    with pytest.raises(ValueError, match=r"first_step 5 cannot go on from \S+, which is after 1"):
        run(checkpoint, tmp_path / "out", settings(), 1, first_step=5, resume=tmp_path / "first")


def test_one_unlikely_token_does_not_stop_a_run() -> None:
    # Measured fault: by k3 a token that the start finds likelier by 20 nats made 1.2e6 of 400 tokens, and then Infinity
    logps_BC, mask_BC = torch.full((4, 100), -1.0), torch.ones(4, 100)
    start_BC = logps_BC - 0.1
    start_BC[0, 0], logps_BC[0, 0] = -1.0, -21.0
    log_r = start_BC - logps_BC
    assert (log_r.exp() - 1 - log_r).mean().item() > 1e6
    total, count = log_ratios(logps_BC, start_BC, mask_BC)
    assert (total / count).item() == pytest.approx((399 * 0.1 - 20) / 400)
    start_BC[0, 1] = -math.inf
    total, _ = log_ratios(logps_BC, start_BC, mask_BC)
    assert total.item() == pytest.approx(398 * 0.1 - 20 + 20)


def test_a_loss_that_is_not_finite_is_a_collapse(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Collapse, match=r"no finite loss or gradient at step 1: lr 1e\+30 is too high"):
        run(checkpoint, tmp_path / "out", settings(lr=1e30, updates=3), 1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"min_entropy": 9.0}, r"at step 3, entropy is \S+ nats a token .* beyond min_entropy = 9.0 for 3 steps"),
        ({"min_length": 99}, r"at step 3, length is \S+ tokens an episode .* beyond min_length = 99 for 3 steps"),
        ({"max_kl": 0.01, "lr": 5e-2}, r"at step 4, kl_estimate is \S+ nats a token .* beyond max_kl = 0.01"),
    ],
)
def test_a_run_past_its_limits_stops_at_the_same_step_however_it_is_cut(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    cfg = settings(**changes)
    with pytest.raises(Collapse, match=what):
        run(checkpoint, tmp_path / "whole", cfg, 9)
    run(checkpoint, tmp_path / "first", cfg, 2)  # the third step in a row is in the next segment
    with pytest.raises(Collapse, match=what):
        run(checkpoint, tmp_path / "second", cfg, 7, first_step=2, resume=tmp_path / "first")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 1}, "group must be 2 or more, not 1"),
        ({"prompts_per_step": 0}, "prompts_per_step must be 1 or more, not 0"),
        ({"lr": -1.0}, "lr must be 0 or more, not -1.0"),
        ({"lr": math.inf}, "lr must be 0 or more and finite, not inf"),
        ({"temperature": 0.0}, "temperature must be above 0 and finite, not 0.0"),
        ({"beta": math.nan}, "beta must be 0 or more and finite, not nan"),
        ({"minibatches": 5}, "minibatches must divide the 24 episodes of a step, not 5"),
        ({"loss_type": "cispo"}, "epsilon_high must be given for loss_type cispo: it is the largest weight, such as 5"),
        ({"loss_type": "ppo"}, "loss_type must be one of dapo, grpo, dr_grpo, cispo, gspo, rloo, not 'ppo'"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        settings(**changes)


def test_reading_a_config_does_not_import_torch() -> None:
    code = "import sys, holdfast.config; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    assert done.returncode == 0
