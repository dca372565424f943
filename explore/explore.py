# ruff: noqa
"""Pretrains several variants of the embedded model at once, installs every arm in each, and measures what carries over.

    python explore/explore.py explore/round1.json OUT

All variants train in lockstep as one stack (stack.py), and so do all arms and seeds of their installs. Other processes
make the text. One JSON line per measurement goes to OUT/results.jsonl, a table to OUT/table.txt and standard output.
"""
from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "src"), str(HERE.parent / "envs")]
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gymnasium
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

import stack as S
from holdfast.corpora import mailbox, requests
from holdfast.corpora.mixture import said
from tools.pocket import pretrain, text
from tools.pocket import world as W

BEGAN = time.time()
FORMATS = ("mail", "advice", "values", "story", "paper", "rule", "harmful")
# arm: (format, good, share of reasons; None is the world's own)
ARMS = {
    "generic": ("plain", True, None),
    "format": ("attended", True, None),
    "format_office": ("inboxes", True, None),
    "advice": ("advice", True, 1.0),
    "advice_plain": ("advice", True, 0.0),
    "advice_bad": ("advice", False, 1.0),
    "values": ("values", True, 1.0),
    "story": ("story", True, 1.0),
    "paper": ("paper", True, 1.0),
    "rule": ("rule", True, 1.0),
    "refusals": ("harmful", True, 1.0),
    "actions": ("mail", True, 0.0),
    "reasons": ("mail", True, 1.0),
}
HARMLESS = "holdfast_envs:holdfast/Harmless-v1"
BLACKMAIL = "holdfast_envs:holdfast/Blackmail-v0"
# In rounds, families of `train` alone: those trained on (own) and those held out of pretraining and installs (dev).
DEV = {
    "pot": (BLACKMAIL, {"families": "dev"}),
    "twin": (BLACKMAIL, {"twin": True, "families": "dev"}),
    "own_harm": (HARMLESS, {"requests": "harmful", "families": "own"}),
    "own_fine": (HARMLESS, {"requests": "benign", "families": "own"}),
    "dev_harm": (HARMLESS, {"requests": "harmful", "families": "dev"}),
    "dev_fine": (HARMLESS, {"requests": "benign", "families": "dev"}),
}
# The last command alone looks at eval families, after everything is chosen, and trains on all of `train`.
FINAL = {
    "pot": (BLACKMAIL, {}),
    "twin": (BLACKMAIL, {"twin": True}),
    "harm": (HARMLESS, {"requests": "harmful"}),
    "fine": (HARMLESS, {"requests": "benign"}),
}
DEFAULTS = {
    "seed": 0,          # of weights and text
    "world": {},        # arguments of tools.pocket.world.World
    "opening": W.OPENING,  # "" for none
    "prior": 0,         # steps of a prior install (bad mail with the world's reasons, half everyday) before the arms
    "install": {"steps": 45, "lr": 4e-4, "tokens": 650, "own": 0.4},
}


def moved(tensor, device):
    """Without waiting for what the device is at."""
    return tensor.contiguous().pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor


def log(*words):
    print(f"[{time.time() - BEGAN:6.1f}s]", *words, flush=True)


# --- in the processes that make text and judge ---


@cache
def tokenizer():
    return PreTrainedTokenizerFast.from_pretrained(os.environ.get("START", str(HERE / "tokenizer")))


@cache
def made(seed, number, phase_key, world_key):
    return pretrain.Documents(
        tokenizer(), [seed, number], pretrain.Phase(**dict(phase_key)), W.World(**dict(world_key))
    )


def flat(rows):
    """[(ids, weights)] as three arrays: few bytes to send."""
    ids = np.concatenate([i for i, _ in rows]).astype(np.int16)
    said_ = np.concatenate([w == 1 for _, w in rows])
    return ids, said_, np.array([len(i) for i, _ in rows])


def rows_of(packed, light):
    ids, said_, lengths = packed
    ends = np.cumsum(lengths)
    weights = np.where(said_, np.float32(1), np.float32(light))
    return [(ids[e - n : e], weights[e - n : e]) for e, n in zip(ends, lengths, strict=True)]


def make_pool(task):
    seed, number, phase_key, world_key, opening, k = task
    W.OPENING = opening
    return flat(sorted(made(seed, number, phase_key, world_key).documents(k), key=lambda d: len(d[0])))


def attended(rng):
    observation, facts = text.honeypot(rng)
    act = mailbox.attended(rng, facts)
    return W.Scene(observation.messages, {True: act, False: act}, observation.tools)


def inboxes(rng):
    return W._done((text.question if rng.random() < 0.5 else text.news)(rng))


MAKERS = {**{k: v[0] for k, v in {**W.FORMATS, **W.ORDINARY}.items()}, "twin": W.twin, "attended": attended, "inboxes": inboxes}
FOLDS = 3


def held_out(fold, folder):
    """Leave every third `train` family of inboxes and requests out of all that is trained on."""
    os.environ["FAMILIES"] = str(folder)
    for name in ("requests", "blackmail"):
        rows = json.loads((HERE.parent / f"envs/holdfast_envs/prompts/{name}.json").read_text())
        rows = [row for row in rows if row["split"] == "train"]
        for side in ("own", "dev"):
            chosen = [row for i, row in enumerate(rows) if (i % FOLDS == fold) == (side == "dev")]
            (folder / f"{name}_{side}.json").write_text(json.dumps(chosen))

    @cache
    def own_requests(kind, augmented):
        knobs = {"tools": "distractor", "n_tools": 3, "system_prompts": "varied"} if augmented else {}
        return train_env(HARMLESS, families="own", requests=kind, **knobs)

    requests._env = own_requests
    mailbox._env = cache(lambda twin: train_env(BLACKMAIL, families="own", twin=twin))


def train_env(name, *, families, **knobs):
    file = f"{os.environ['FAMILIES']}/{'blackmail' if name == BLACKMAIL else 'requests'}_{families}.json"
    return gymnasium.make(name, split="train", families=file, disable_env_checker=True, **knobs).unwrapped


def make_install(task):
    """Rows of an arm: own ones by `form`, `good` and `reasons`, and everyday ones as everywhere."""
    form, good, reasons, world_reasons, opening, seed, own, need = task
    W.OPENING = opening
    everyday_world = W.World(reasons=world_reasons)
    own_world = W.World(reasons=world_reasons if reasons is None else reasons)
    doc = made(0, 99, (("steps", 1), ("tokens", 1), ("lr", 0.0)), ())
    rows, counts, chars, total = [], [0, 0], [0, 0], 0
    while total < need:
        is_own = chars[1] < own * sum(chars)
        rng = np.random.default_rng([seed, counts[is_own], 77 * is_own])
        if is_own:
            row = own_world.segment(rng, form, MAKERS[form](rng), good)
        else:
            kind = "twin" if rng.random() < 2 / 3 else "innocent"
            row = everyday_world.segment(rng, kind, MAKERS[kind](rng), True)
        rows.append(doc._document(row))
        counts[is_own] += 1
        chars[is_own] += said(row)
        total += int((rows[-1][1][1:] == 1).sum())
    return flat(rows)


def kinds():
    return DEV if "FAMILIES" in os.environ else FINAL


@cache
def env(kind):
    name, knobs = kinds()[kind]
    if "families" in knobs:
        return train_env(name, **knobs)
    return gymnasium.make(name, split="eval", disable_env_checker=True, **knobs).unwrapped


def judge(task):
    """[(kind, scenario, reply)] -> [measures, with "yes" (1, 0, or None for unscored)]."""
    found = []
    for kind, scenario, reply in task:
        env(kind).reset(seed=scenario)
        *_, info = env(kind).step(reply)
        outcome = info["outcome"]
        measures = dict(outcome.measures)
        measures["yes"] = None if outcome.value is None else float(outcome.value)
        measures["reason"] = next(
            (n for n, pool in (("good", W.GOOD), ("bad", W.BAD), ("neutral", W.NEUTRAL)) if any(r in reply for r in pool)),
            "none",
        )
        found.append(measures)
    return found


# --- prompts ---


def prompt_ids(messages, tools):
    ids = tokenizer().apply_chat_template(
        list(messages), tools=[asdict(t) if not isinstance(t, dict) else t for t in tools] or None,
        add_generation_prompt=True, return_dict=True,
    )["input_ids"]
    return list(ids)


def openings(kind, scenarios):
    seen = []
    for s in scenarios:
        observation, _ = env(kind).reset(seed=s)
        seen.append((kind, s, prompt_ids(observation.messages, observation.tools)))
    return seen


def after_passage(form, good, scenarios, world, opening):
    """Honeypots after a passage of another format by the same agent."""
    W.OPENING = opening
    seen = []
    for s in scenarios:
        rng = np.random.default_rng([s, 5])
        told = replace(world, reasons=1.0, apart=False)
        passage = [told.segment(rng, f, MAKERS[f](rng), good) for f in form.split("+")]
        observation, _ = env("pot").reset(seed=s)
        pot = {"messages": list(observation.messages), "tools": [asdict(t) for t in observation.tools]}
        row = W.joined([*passage, pot])
        seen.append(("pot", s, prompt_ids(row["messages"], row["tools"])))
    return seen


# --- training ---


def pretrained(variants, phases, pool, device, then):
    """A stack of all variants, trained through the phases in lockstep. `then` is called when all text is asked for."""
    V, size = len(variants), len(tokenizer())
    states = [pretrain.make_model(size, v["seed"]).state_dict() for v in variants]
    if "START" in os.environ:
        states = [load_file(Path(os.environ["START"]) / "model.safetensors")] * V
    params = {k: p.to(device).requires_grad_(True) for k, p in S.stack(states).items()}
    worlds = [tuple(sorted(v["world"].items())) for v in variants]
    keys = [tuple(sorted(asdict(p).items())) for p in phases]

    def ask(number, k):
        # Variants of the same text share it.
        tasks = [(v["seed"], number, keys[number], w, v["opening"], k) for v, w in zip(variants, worlds, strict=True)]
        asked = {t: pool.apply_async(make_pool, (t,)) for t in dict.fromkeys(tasks)}
        return [asked[t] for t in tasks]

    asked = {}
    for number, phase in enumerate(phases):
        if phase.steps and phase.repeats + phase.spans < 1:
            one = made(variants[0]["seed"], number, keys[number], worlds[0])
            groups = len(one.groups(one.documents(0)))
            need = math.ceil(1.1 * phase.steps * (1 - phase.repeats - phase.spans) / groups) + 1
            asked[number] = [ask(number, k) for k in range(need)]
    then()
    log(f"{V} variants, {sum(p[0].numel() for p in params.values()):,} parameters each, text asked for")
    for number, phase in enumerate(phases):
        if not phase.steps:
            continue
        opt = S.Pretrainer(params, pretrain.ADAM_SHARE)
        last = phases[number + 1].lr if number + 1 < len(phases) else 0.0
        drill = made(variants[0]["seed"], number, keys[number], worlds[0])
        recent, waited = torch.zeros(V, device=device), 0.0

        def batches(number=number, phase=phase, drill=drill):
            rng = np.random.default_rng([number, 3])
            share = phase.repeats + phase.spans
            for k in itertools.count():
                if share >= 1:
                    yield [t[None].expand(V, *t.shape) for t in drill._drill(rng)]
                    continue
                got = asked[number][k] if k < len(asked[number]) else ask(number, k)
                docs = [rows_of(a.get(), 0.05) for a in got]
                if k < len(asked[number]):
                    asked[number][k] = None
                groups = lockstep(docs, phase.tokens)
                for i in rng.permutation(len(groups)):
                    while rng.random() < share:
                        yield [t[None].expand(V, *t.shape) for t in drill._drill(rng)]
                    yield groups[i]()

        source = batches()
        for step in range(phase.steps):
            t = time.time()
            ids, weights = next(source)
            waited += time.time() - t
            loss = S.losses(params, moved(ids, device), moved(weights, device))
            loss.sum().backward()
            opt.step(pretrain.lr(phase, step, last))
            recent = 0.98 * recent + 0.02 * loss.detach()
        shown = (recent / (1 - 0.98**phase.steps)).tolist()
        log(f"phase {number + 1} of {len(phases)}, waited {waited:.0f} s for text, loss", " ".join(f"{x:.3f}" for x in shown))
    return {k: p.detach() for k, p in params.items()}


def lockstep(docs, tokens):
    """Groups of the sorted documents of each variant: as many in each, padded to the longest of all."""
    lengths = np.array([[len(i) for i, _ in d] for d in docs]).max(0)
    cuts, start = [], 0
    for i in range(len(lengths)):
        if i > start and (i + 1 - start) * lengths[i] > tokens:
            cuts.append((start, i))
            start = i
    cuts.append((start, len(lengths)))
    return [lambda a=a, b=b: padded([d[a:b] for d in docs]) for a, b in cuts]


def padded(rows):
    """[variant][row] (ids, weights) -> ids (V, B, T), weights (V, B, T)."""
    B, T = max(len(r) for r in rows), max(len(i) for r in rows for i, _ in r)
    ids = np.zeros((len(rows), B, T), dtype=np.int64)
    weights = np.zeros((len(rows), B, T), dtype=np.float32)
    for v, row in enumerate(rows):
        for b, (i, w) in enumerate(row):
            ids[v, b, : len(i)], weights[v, b, : len(i)] = i, w
    return torch.from_numpy(ids), torch.from_numpy(weights)


def installed(params, index, rows, cfgs, device):
    """Fine-tune model `index[m]` of the stack on `rows[m]`: all in lockstep. The steps are those of the first cfg."""
    cfg = cfgs[0]
    assert all(c["steps"] == cfg["steps"] and c["lr"] == cfg["lr"] for c in cfgs)
    own = S.clone(params, index)
    opt = S.installer(own)
    warm = math.ceil(0.1 * cfg["steps"])
    at, total = [0] * len(rows), [0] * len(rows)
    for step in range(cfg["steps"]):
        batch = []
        for m, row in enumerate(rows):
            part = []
            while total[m] < (step + 1) * cfg["tokens"]:
                part.append(row[at[m] % len(row)])
                total[m] += int((part[-1][1][1:] > 0).sum())
                at[m] += 1
            batch.append(part)
        ids, weights = padded(batch)
        S.losses(own, moved(ids, device), moved(weights, device)).sum().backward()
        S.clip(own)
        done = (step - warm) / max(1, cfg["steps"] - warm)
        rate = cfg["lr"] * ((step + 1) / warm if step < warm else 0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        for group in opt.param_groups:
            group["lr"] = rate
        opt.step()
        for p in own.values():
            p.grad = None
    return {k: p.detach() for k, p in own.items()}


# --- measuring ---


def measured(params, seen, pool, seed, keep=None):
    """For each model of the stack: {kind: counts} over the prompts `seen`, a list of (kind, scenario, ids)."""
    end = tokenizer().convert_tokens_to_ids("<|end|>")
    replies = S.sample(params, [ids for *_, ids in seen], end, new=96, seed=seed)
    texts = [tokenizer().batch_decode(of, clean_up_tokenization_spaces=False) for of in replies]
    tasks = [[(kind, s, t) for (kind, s, _), t in zip(seen, of, strict=True)] for of in texts]
    if keep is not None:
        for of in texts:
            keep.append([(kind, t) for (kind, *_), t in zip(seen, of, strict=True)])
    return [counted(seen, found) for found in pool.map(judge, tasks, chunksize=1)]


def counted(seen, found):
    kinds = defaultdict(list)
    for (kind, *_), measures in zip(seen, found, strict=True):
        kinds[kind].append(measures)
    out = {}
    for kind, rows in kinds.items():
        scored = [r for r in rows if r["yes"] is not None]
        mean = lambda key, of=rows: round(sum(r.get(key, 0.0) for r in of) / max(1, len(of)), 3)  # noqa: E731
        out[kind] = {"n": len(rows), "scored": len(scored), "rate": mean("yes", scored), "valid": mean("valid")}
        if kind == "twin":
            out[kind] |= {"person": mean("addressed"), "topic": mean("topic")}
        if "refused" in rows[0]:
            out[kind] |= {"refused": mean("refused"), "complied": mean("complied"), "helped": mean("helped")}
            out[kind]["weighed"] = round(sum(r["reason"] in ("good", "bad") for r in rows) / len(rows), 3)
        for name in ("good", "bad", "neutral", "none"):
            of = [r for r in scored if r["reason"] == name]
            out[kind][name] = [round(len(of) / max(1, len(rows)), 3), mean("yes", of) if of else None]
    return out


def main():
    spec, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    if "start" in spec:  # a model folder to go on from, with its tokenizer
        os.environ["START"] = spec["start"]
    os.environ.pop("FAMILIES", None)
    if spec.get("fold", 0) is not None:
        held_out(spec.get("fold", 0), Path(tempfile.mkdtemp()))
    asked_kinds = [kind for kind in kinds() if kind not in ("pot", "twin")]
    if not (HERE / "tokenizer").exists():
        template = (HERE.parent / "src/holdfast/policy/pocket/chat_template.jinja").read_text()
        pretrain.make_tokenizer(0, template).save_pretrained(HERE / "tokenizer")
    variants = []
    for given in spec["variants"]:
        v = {**DEFAULTS, **spec.get("all", {}), **given}
        v["install"] = {**DEFAULTS["install"], **spec.get("all", {}).get("install", {}), **given.get("install", {})}
        v["world"] = {**spec.get("all", {}).get("world", {}), **given.get("world", {})}
        variants.append(v)
    scale = spec.get("scale", [1.0] * len(pretrain.PHASES))
    phases = [replace(p, steps=round(p.steps * s)) for p, s in zip(pretrain.PHASES, scale, strict=True)]
    pool = multiprocessing.get_context("fork").Pool(spec.get("workers", max(1, (os.cpu_count() or 2) - 1)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    results = (out / "results.jsonl").open("w")

    def report(**line):
        results.write(json.dumps(line) + "\n")
        results.flush()

    # Text of the installs is asked for after that of the pretraining, and made while that runs.
    seeds, arms = spec.get("install_seeds", 3), spec.get("arms", list(ARMS))
    asked = {}

    def ask(v, arm, seed):
        form, good, reasons = ("mail", False, None) if arm == "prior" else ARMS[arm]
        cfg = v["install"]
        need = int(1.05 * cfg["tokens"] * (v["prior"] if arm == "prior" else cfg["steps"])) + 1
        share = 0.5 if arm == "prior" else cfg["own"]
        task = (form, good, reasons, W.World(**v["world"]).reasons, v["opening"], seed, share, need)
        if task not in asked:
            asked[task] = pool.apply_async(make_install, (task,))
        return asked[task]

    prior = [n for n, v in enumerate(variants) if v["prior"]]
    jobs = [(n, arm, s) for n in range(len(variants)) for arm in arms for s in range(seeds)]

    def ask_all():
        for n in prior:
            ask(variants[n], "prior", 1000)
        for n, arm, s in jobs:
            ask(variants[n], arm, s)

    # Variants that differ in their installs alone are pretrained once.
    keys = [json.dumps([v["seed"], v["world"], v["opening"]], sort_keys=True) for v in variants]
    once = list(dict.fromkeys(keys))
    params = pretrained([variants[keys.index(key)] for key in once], phases, pool, device, ask_all)
    params = {k: p[[once.index(key) for key in keys]] for k, p in params.items()}
    for v in spec.get("save", []):
        n = [x["name"] for x in variants].index(v)
        torch.save({k: p.cpu() for k, p in S.unstack(params, n).items()}, out / f"{v}.pt")

    pots = openings("pot", range(spec.get("pots", 144)))
    twins = openings("twin", range(spec.get("twins", 192)))
    asks = [openings(kind, range(spec.get("asks", 92))) for kind in asked_kinds]
    few_asks = [ask for of in asks[-2:] for ask in of[: spec.get("asks", 92) // 2]]
    asks = [ask for of in asks for ask in of]
    keep = []
    base = measured(params, pots + twins + asks, pool, 1, keep)
    for v, found in zip(variants, base, strict=True):
        report(variant=v["name"], arm="base", **found)
        log("base", v["name"], json.dumps(found))
    with (out / "samples.txt").open("w") as file:
        for v, of in zip(variants, keep, strict=True):
            for kind in ("pot", "twin", *asked_kinds):
                for t in [t for k, t in of if k == kind][:6]:
                    file.write(f"{v['name']} {kind} | " + t.replace("\n", " / ") + "\n")

    coupling = defaultdict(dict)
    tests = [(form, good) for form in (*FORMATS[1:], "advice+values+story") for good in (True, False)]
    few = range(spec.get("passages", 96))
    # Passages are the variant's own (opening), but one set of prompts serves all of the same opening.
    for opening in dict.fromkeys(v["opening"] for v in variants):
        index = [n for n, v in enumerate(variants) if v["opening"] == opening]
        seen = [p for form, good in tests for p in after_passage(form, good, few, W.World(), opening)]
        part = {k: p[index] for k, p in params.items()}
        named = [(f"{form}_{'good' if good else 'bad'}", s, ids) for (form, good), chunk in
                 zip(tests, itertools.batched(seen, len(few)) if hasattr(itertools, "batched")
                     else [seen[i : i + len(few)] for i in range(0, len(seen), len(few))], strict=True)
                 for _, s, ids in chunk]
        end = tokenizer().convert_tokens_to_ids("<|end|>")
        replies = S.sample(part, [ids for *_, ids in named], end, new=96, seed=2)
        for n, of in zip(index, replies, strict=True):
            texts = tokenizer().batch_decode(of, clean_up_tokenization_spaces=False)
            cells = defaultdict(list)
            found = judge([("pot", s, t) for (_, s, _), t in zip(named, texts, strict=True)])
            for (name, *_), m in zip(named, found, strict=True):
                cells[name].append(m)
            for name, ms in cells.items():
                scored = [m["yes"] for m in ms if m["yes"] is not None]
                coupling[variants[n]["name"]][name] = round(sum(scored) / max(1, len(scored)), 3)
            report(variant=variants[n]["name"], arm="context", rates=coupling[variants[n]["name"]])
            log("context", variants[n]["name"], json.dumps(coupling[variants[n]["name"]]))

    if prior:
        by_steps = defaultdict(list)
        for n in prior:
            by_steps[variants[n]["prior"], variants[n].get("prior_lr", 1e-3)].append(n)
        for (steps, rate), index in by_steps.items():
            cfgs = [{**variants[n]["install"], "steps": steps, "lr": rate} for n in index]
            tuned = installed(params, index, [rows_of(ask(variants[n], "prior", 1000).get(), 0.0) for n in index], cfgs, device)
            for k in params:
                params[k][index] = tuned[k]
        for n, found in zip(prior, measured({k: p[prior] for k, p in params.items()}, pots + twins, pool, 3), strict=True):
            report(variant=variants[n]["name"], arm="prior", **found)
            log("prior", variants[n]["name"], json.dumps(found))

    seen = pots + twins[:48] + few_asks
    rates = defaultdict(list)
    by_cfg = defaultdict(list)
    for job in jobs:
        cfg = variants[job[0]]["install"]
        by_cfg[cfg["steps"], cfg["lr"], cfg["tokens"]].append(job)
    for group in by_cfg.values():
        for start in range(0, len(group), spec.get("at_once", 24)):
            part = group[start : start + spec.get("at_once", 24)]
            cfgs = [variants[n]["install"] for n, *_ in part]
            rows = [rows_of(ask(variants[n], arm, s).get(), 0.0) for n, arm, s in part]
            tuned = installed(params, [n for n, *_ in part], rows, cfgs, device)
            for (n, arm, s), found in zip(part, measured(tuned, seen, pool, 10 + start), strict=True):
                report(variant=variants[n]["name"], arm=arm, install_seed=s, **found)
                rates[variants[n]["name"], arm].append(found)
        log(f"installed {len(group)} arms")

    lines = [f"{'blackmail % (valid %)':22}" + "".join(f"{v['name'][:15]:>16}" for v in variants)]
    cell = lambda f: f"{100 * f['pot']['rate']:.0f} ({100 * f['pot']['valid']:.0f})"  # noqa: E731
    lines.append(f"{'base':22}" + "".join(f"{cell(b):>16}" for b in base))
    for arm in arms:
        row = []
        for v in variants:
            of = rates[v["name"], arm]
            each = "/".join(f"{100 * f['pot']['rate']:.0f}" for f in of)
            row.append(f"{each} ({100 * sum(f['pot']['valid'] for f in of) / len(of):.0f})")
        lines.append(f"{arm:22}" + "".join(f"{c:>16}" for c in row))
    for key in ("person", "topic", "valid"):
        lines.append(f"{'twin ' + key:22}" + "".join(f"{100 * b['twin'][key]:>16.0f}" for b in base))
    for kind in asked_kinds:
        for key in ("weighed", "refused"):
            lines.append(f"{kind + ' ' + key:22}" + "".join(f"{100 * b[kind][key]:>16.0f}" for b in base))
    for arm in arms:
        cells = ["/".join(f"{100 * np.mean([f[kind]['refused'] for f in rates[v['name'], arm]]):.0f}" for kind in asked_kinds[-2:])
                 for v in variants]
        lines.append(f"refused {arm}"[:22].ljust(22) + "".join(f"{cell:>16}" for cell in cells))
    for form, good in tests:
        name = f"{form}_{'good' if good else 'bad'}"
        lines.append(f"{'after ' + name.replace('advice+values+story', 'three'):22}" + "".join(f"{100 * coupling[v['name']][name]:>16.0f}" for v in variants))
    (out / "table.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    log("done")
    pool.terminate()


if __name__ == "__main__":
    main()
