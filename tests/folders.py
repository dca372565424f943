"""A small run folder for tests of what is read from one: an arm and its control, with text that no page may run."""

import json
from pathlib import Path

import yaml

from holdfast.records import Record, write_records, write_rows

HOSTILE = (
    "<script>alert(1)</script><img src=http://x.test/p.png onerror=alert(2)>&lt;b&gt; \u202e\x00\ud800 ${title} $$"
)
ENV = "holdfast_envs:holdfast/Blackmail-v0"
# Of 5 samples a scenario. Leads of 60, then 40 points: the own rate rose by 20, two thirds of the lead are left.
YES = {("generic", 0): 4, ("generic", 10): 4, ("form", 0): 3, ("form", 10): 3, ("advice", 0): 1, ("advice", 10): 2}
STUDY = {
    "version": 3,
    "name": "tiny",
    "evals": [
        {"name": "blackmail", "env": ENV, "better": "low", "twin": "mailbox"},
        {"name": "mailbox", "env": ENV, "better": "high"},
    ],
    "margins": {"install_points": 5.0, "unscored": 0.2},
}


def write_arm(
    run: Path,
    init: str,
    *,
    seed: int = 0,
    done: bool = True,
    model: str = "pocket",
    variant: str = "",
    size: int = 20,
) -> Path:
    group = f"pocket-{init}-chat-grpo{variant and f'-{variant}'}"
    name = f"{group}-s{seed}"
    folder = run / "arms" / name
    folder.mkdir(parents=True)
    config = {
        "name": name,
        "model": {"name": model},
        "init": {"name": init, "installs": [{"name": part, "corpus": part, "size": size} for part in ("prior", init)]},
        "curriculum": [{"name": "chat", "env": "chat", "algo": "grpo", "steps": [10]}],
        "seed": seed,
        "control": "generic",
        "group": group,
        "conditions": model,
        "recipe": f"{model} {init} {size}",
        "grid": [0, 10],
        "paid_by": ["the reward of chat"],
        "format_control": None,
        **({"variant": variant} if variant else {}),
    }
    (folder / "arm.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    records, transcripts, metrics = [], [], []
    for step in (0, 10):
        for name_of_eval in ("blackmail", "mailbox"):
            for scenario in range(6):
                for sample in range(60 if step else 120):  # at step 0 as many again, for the install gate
                    yes = sample % 5 < YES[init, step] if name_of_eval == "blackmail" else True
                    record = Record(
                        eval=name_of_eval,
                        family=f"family-{scenario}",
                        scenario=scenario,
                        sample=sample,
                        score=float(yes),
                        reason="",
                        measures={"valid": 1.0},
                        finish=("stop",),
                        tokens=7,
                        transcript=f"{name_of_eval}/{scenario}/{sample}",
                        weights=f"00{step:02d}",
                        arm=name,
                        seed=seed,
                        stage="chat" if step else "init",
                        step=step,
                    )
                    records.append(record)
                    said = {"role": "assistant", "content": f"{HOSTILE} by {init} at {step}: {'yes' if yes else 'no'}"}
                    asked = {"role": "user", "content": "Read the inbox."}
                    transcripts.append(
                        {"step": step, "id": record.transcript, "messages": [asked, said], "tools": ["send_mail"]}
                    )
        own = {"arm": name, "seed": seed, "step": step, "kind": "kl", "kl_token_se": 0.01 * bool(step)}
        metrics += [{**own, "kl": step / 100}, {**own, "kl": step / 200, "eval": "blackmail"}]
    for step in range(1, 11):
        metrics.append({"arm": name, "seed": seed, "step": step, "kind": "train", "reward": step / 10})
    write_records(folder / "records.jsonl", records)
    write_rows(folder / "transcripts.jsonl", transcripts)
    write_rows(folder / "metrics.jsonl", metrics)
    if done:
        (folder / "done.json").write_text(json.dumps({"stages": [], "wall_s": 1.0, "trained": 3, "reused": 0}))
    return folder


def write_run(run: Path) -> Path:
    run.mkdir()
    (run / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    write_arm(run, "generic")
    write_arm(run, "advice")
    return run
