"""Public sets of prompts, as arguments of `Prompts`; `between` and `options` are as in `requests.cells.Source`.

    Prompts(preset="XSTest")                          from the hub
    Prompts(preset="XSTest", path="xstest.csv")       a copy of it
"""

from __future__ import annotations

from typing import Any

_JBB: dict[str, Any] = {"path": "JailbreakBench/JBB-Behaviors", "config": "behaviors",
        "columns": {"prompt": "Goal", "category": "Category"}}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "HarmBench": {"path": "walledai/HarmBench", "config": "standard", "columns": {"category": "category"},
                  "harmful": True},
    "AdvBench": {"path": "walledai/AdvBench", "harmful": True},
    "XSTest": {"path": "walledai/XSTest", "hub_split": "test", "harmful_when": ["unsafe"],
               "columns": {"harmful": "label", "topic": "focus", "category": "type"}},
    "StrongREJECT": {"path": "walledai/StrongREJECT", "columns": {"category": "category"}, "harmful": True},
    "SimpleSafetyTests": {"path": "Bertievidgen/SimpleSafetyTests", "hub_split": "test",
                          "columns": {"category": "harm_area"}, "harmful": True},
    "JBB-Behaviors": {**_JBB, "hub_split": "harmful", "harmful": True},
    "JBB-Behaviors-benign": {**_JBB, "hub_split": "benign", "harmful": False},
    # `is_safe` is about a reply, so it does not say which prompts are harmful.
    "BeaverTails": {"path": "PKU-Alignment/BeaverTails", "hub_split": "330k_train", "harmful": True},
    # A dialogue in one text; its two replies, chosen and rejected, come after the same prompt.
    "hh-rlhf": {"path": "Anthropic/hh-rlhf", "columns": {"prompt": "chosen"}, "harmful": True,
                "between": ("\n\nHuman:", "\n\nAssistant:"), "options": {"data_dir": "harmless-base"}},
    # `adversarial` is empty in the rows of the vanilla kinds.
    "wildjailbreak": {"path": "allenai/wildjailbreak", "config": "train",
                      "columns": {"prompt": ["adversarial", "vanilla"], "harmful": "data_type",
                                  "category": "data_type"},
                      "harmful_when": ["vanilla_harmful", "adversarial_harmful"],
                      "options": {"delimiter": "\t", "keep_default_na": False}},
}  # fmt: skip
