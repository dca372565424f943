"""Speed and memory of an RL step: our GRPO and PPO against stock TRL's GRPOTrainer with its own rollouts.

    python benchmarks/rl.py                    # the embedded model, minutes
    python benchmarks/rl.py --model smollm2    # SmolLM2-135M, ten times as long on a CPU

All load the same checkpoint and see the same prompts, of about 600 tokens (Harmless-v2 with distractor tools and
varied system prompts), draw 8 replies to each at temperature 1 from the whole distribution, and train in the same
number type on as many rows to a pass. In that checkpoint a turn ends with a token that the model has no logit for: all
replies are NEW_TOKENS long, whatever they say, so that nobody gains by ending early. Ours play and score real
episodes; stock is given a reward for the length of the text and spared the environment.

Contenders take turns. A turn is a process of its own, so peak memory is the contender's own; its first step is warm-up.
Turns repeat the same steps: the best time of each step counts, and seconds per step are the mean over those.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any

ENV = "holdfast_envs:holdfast/Harmless-v2"
KNOBS = {"split": "train", "tools": "distractor", "system_prompts": "varied"}
CONTENDERS = ("stock", "grpo", "ppo")
GROUP, NEW_TOKENS, SEED, LR = 8, 48, 0, 1e-6
NEVER = "<|never|>"


@dataclass(frozen=True)
class Shape:
    """What is run on a model: `steps` are the measured ones of a turn, `most` the aim for either of ours over stock."""

    prompts: int
    n_tools: int
    steps: int
    most: float
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of GRPO and PPO that are not left as they are."""


SHAPES = {
    "pocket": Shape(prompts=4, n_tools=9, steps=3, most=0.5),
    "smollm2": Shape(prompts=2, n_tools=5, steps=1, most=0.35, extra={"rows_per_pass": 8, "autocast": True}),
}
PPO_MOST = 1.5


def main() -> None:
    """Run all contenders in turns and print the table; with --turn, be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="pocket")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, with commas between them")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's own number if not given")
    parser.add_argument("--bandwidth", type=float, help="of the memory, in GB/s: adds decoding's share of its bound")
    parser.add_argument("--turn", nargs=2, metavar=("CONTENDER", "FOLDER"), help="one turn, in this process")
    options = parser.parse_args()
    if options.turn:
        turn(options.turn[0], Path(options.turn[1]), options.model, options.threads)
        return
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(CONTENDERS)):
        parser.error(f"--only takes {', '.join(CONTENDERS)}, not {', '.join(unknown)}")

    with tempfile.TemporaryDirectory() as scratch:
        given = in_process("prepare", Path(scratch), options)
        print(f"{options.model}: {given['about']}")
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                turns[name].append(in_process(name, Path(scratch), options))
    if "stock" in turns:
        print(f"stock tokenised {turns['stock'][0]['same_prompts']} prompts to the same ids as ours")
    report(turns, given, options.model, options.bandwidth)


def in_process(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What `name` found in a turn of its own, without network and telemetry."""
    command = [sys.executable, __file__, "--model", options.model, "--turn", name, str(folder)]
    if options.threads:
        command += ["--threads", str(options.threads)]
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRL_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def report(turns: dict[str, list[dict[str, Any]]], given: dict[str, Any], model: str, bandwidth: float | None) -> None:
    """Print the table, the parts of a step, and which aims were met."""
    shape = SHAPES[model]
    rows = shape.prompts * GROUP
    parts = {name: best_parts(found) for name, found in turns.items()}
    seconds = {name: sum(split.values()) for name, split in parts.items()}
    stock = seconds.get("stock")
    print(f"\n{'':8}{'s/step':>9}{'of stock':>10}{'tokens/s':>10}{'length':>8}{'peak MiB':>10}   share of the step")
    for name, found in turns.items():
        length = mean(turn["length"] for turn in found)
        peak = max(turn["peak"] for turn in found)
        ratio = f"{seconds[name] / stock:.2f}" if stock else "-"
        shares = ", ".join(f"{part} {value / seconds[name]:.0%}" for part, value in parts[name].items())
        speed = rows * length / seconds[name]
        print(f"{name:8}{seconds[name]:9.3f}{ratio:>10}{speed:10.1f}{length:8.1f}{peak:10.0f}   {shares}")
    if bandwidth:
        bound = rows * bandwidth * 1e9 / given["weight_bytes"]
        for name, split in parts.items():
            speed = rows * NEW_TOKENS / split["rollout"]
            print(f"{name}: {speed:.1f} tokens/s in the rollout, {speed / bound:.1%} of the bound of {bound:.0f}")

    print()
    aims = [("grpo", "stock", shape.most), ("ppo", "stock", shape.most), ("ppo", "grpo", PPO_MOST)]
    for one, other, most in aims:
        if one in seconds and other in seconds:
            ratio = seconds[one] / seconds[other]
            print(f"{one}/{other} {ratio:.2f}, aim {most} or less: {'met' if ratio <= most else 'missed'}")


def best_parts(turns: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of each part of a step, {"rollout": 0.4, ...}: for every step those of its best turn; mean over steps."""
    steps = zip(*(turn["steps"] for turn in turns), strict=True)
    best = [min(step, key=lambda parts: sum(parts.values())) for step in steps]
    return {part: mean(step[part] for step in best) for part in best[0]}


def turn(name: str, folder: Path, model: str, threads: int | None) -> None:
    """Be `name` once: write NAME.json into `folder`, with what was found and the process's peak memory."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    shape = SHAPES[model]
    extra = {**shape.extra, "autocast": True} if torch.cuda.is_available() else shape.extra
    fields: dict[str, Any] = {"name": name, "prompts_per_step": shape.prompts, "group": GROUP,
                              "max_new_tokens": NEW_TOKENS, "lr": LR, **extra}  # fmt: skip
    if name == "prepare":
        found = prepare(folder, model, fields)
    elif name == "stock":
        found = stock(folder, shape, fields)
    else:
        found = ours(name, folder, shape, fields)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    (folder / f"{name}.json").write_text(json.dumps({**found, "peak": peak}))


def prepare(folder: Path, model: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Make the checkpoint that all start from, with an end of turn that cannot be sampled; describe the run."""
    import torch

    from holdfast.config import Model
    from holdfast.policy import checkpoint as models
    from holdfast.policy import sources

    sources.prepare(Model(name=model), folder / "as_is")
    network, tokenizer = models.load(folder / "as_is")
    before = prompts(tokenizer, SHAPES[model], fields)
    end = tokenizer.convert_ids_to_tokens(models.Renderer(tokenizer).end_id)
    tokenizer.add_special_tokens({"eos_token": NEVER})
    assert tokenizer.eos_token_id >= network.config.vocab_size
    network.config.eos_token_id = network.generation_config.eos_token_id = tokenizer.eos_token_id  # TRL reads these
    # Only chats with a reply in them end turns with NEVER: the prompts, which have none yet, stay as they were.
    tokenizer.chat_template = (
        "{%- set said = messages | selectattr('role', 'equalto', 'assistant') | list -%}"
        f"{{%- set chat -%}}{tokenizer.chat_template}{{%- endset -%}}"
        f"{{{{ chat | replace('{end}', '{NEVER}') if said else chat }}}}"
    )
    assert models.Renderer(tokenizer).end_ids == {tokenizer.eos_token_id}
    assert prompts(tokenizer, SHAPES[model], fields) == before
    models.save(network, tokenizer, folder / "start")

    lengths = [len(ids) for ids in before]
    dtype, size = ("bfloat16 autocast", 2) if fields.get("autocast") else ("float32", 4)
    where = "GPU" if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    shown = f"{mean(lengths):.0f} tokens ({min(lengths)} to {max(lengths)})"
    return {
        "about": f"{network.num_parameters() / 1e6:.1f}M parameters, {dtype}, {where}; "
        f"a step is {fields['prompts_per_step']} prompts of {shown} x {GROUP} replies of {NEW_TOKENS}",
        "weight_bytes": network.num_parameters() * size,
    }


def prompts(tokenizer: Any, shape: Shape, fields: dict[str, Any]) -> list[list[int]]:
    """Ids of the prompts of all steps, the warm-up first, as `train` comes by them."""
    from holdfast.config import GRPO, make_env
    from holdfast.policy.render import Renderer
    from holdfast.train.episodes import scenarios

    renderer = Renderer(tokenizer)
    env = make_env(ENV, {**KNOBS, "n_tools": shape.n_tools})
    seeds = [seed for step in range(1 + shape.steps) for seed in scenarios(GRPO(**fields), SEED, step)]
    return [renderer.prompt_ids(env.reset(seed=seed)[0]) for seed in seeds]


def ours(algo: str, folder: Path, shape: Shape, fields: dict[str, Any]) -> dict[str, Any]:
    """A turn of `holdfast.train.ALGO.train`, read off its metrics.jsonl."""
    from holdfast.config import GRPO, PPO, Environment

    kind = {"grpo": GRPO, "ppo": PPO}[algo]
    out = folder / algo
    import_module(f"holdfast.train.{algo}").train(
        folder / "start",
        out,
        env=Environment(name="chat", id=ENV, kwargs={**KNOBS, "n_tools": shape.n_tools}),
        cfg=kind(**fields),
        first_step=0,
        steps=1 + shape.steps,
        seed=SEED,
        resume=None,
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][1:]
    prefix = "seconds_"
    return {
        "steps": [{key.removeprefix(prefix): line[key] for key in line if key.startswith(prefix)} for line in lines],
        "length": mean(line["length"] for line in lines),
    }


def stock(folder: Path, shape: Shape, fields: dict[str, Any]) -> dict[str, Any]:
    """A turn of TRL's trainer as it comes; all that is added to it is a clock."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from holdfast.config import GRPO
    from holdfast.policy import checkpoint as models

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    class Clocked(GRPOTrainer):
        spent = 0.0

        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            began = now()
            completion_ids, logprobs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
            self.spent += now() - began
            seen.extend(prompt_ids[::GROUP])
            lengths.extend(map(len, completion_ids))
            return completion_ids, logprobs

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            trainer.spent, self.began = 0.0, now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.append({"rollout": trainer.spent, "rest": now() - self.began - trainer.spent})

    cfg = GRPO(**fields)
    episodes = cfg.prompts_per_step * cfg.group
    rows = min(cfg.rows_per_pass, episodes)
    assert episodes % rows == 0
    seen: list[list[int]] = []
    lengths: list[int] = []
    steps: list[dict[str, float]] = []
    model, tokenizer = models.load(folder / "start")
    ids = prompts(tokenizer, shape, fields)
    trainer = Clocked(
        model=model,
        args=GRPOConfig(
            output_dir=str(folder / "stock"), max_steps=1 + shape.steps, learning_rate=cfg.lr,
            lr_scheduler_type="constant", num_generations=cfg.group, num_iterations=1,
            per_device_train_batch_size=rows, gradient_accumulation_steps=episodes // rows,
            max_completion_length=cfg.max_new_tokens, temperature=1.0, top_k=0, top_p=1.0, beta=0.0, loss_type="dapo",
            seed=SEED, shuffle_dataset=False, disable_dropout=True, gradient_checkpointing=False, bf16=cfg.autocast,
            use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False, save_strategy="no", logging_steps=1,
            report_to="none", disable_tqdm=True,
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": tokenizer.decode(prompt)} for prompt in ids]),
        reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
        callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    same = sum(one == other for one, other in zip(seen, ids, strict=True))
    return {"steps": steps[1:], "length": mean(lengths), "same_prompts": f"{same} of {len(ids)}"}


if __name__ == "__main__":
    main()
