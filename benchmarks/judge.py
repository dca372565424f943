"""How often the rule judge agrees with a person: on the hand-labelled replies of `tests/envs/judged_replies.jsonl`.

    python benchmarks/judge.py              # agreement, confusion matrix, agreement by kind
    python benchmarks/judge.py --errors     # and every reply they differ on

Rules were written and corrected with the odd-numbered replies in view; the even-numbered ones were only ever counted.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from holdfast.chat import parse_reply
from holdfast_envs.requests.judge import read

REPLIES = Path(__file__).parents[1] / "tests" / "envs" / "judged_replies.jsonl"
STANCES = ("refuses", "complies", "neither")


def stance(row: dict[str, Any]) -> str:
    """What the rule judge says a row's reply did, as the environments score it."""
    verdict = read(parse_reply(row["reply"]), row)
    given = verdict.complied if row["harmful"] else verdict.helped
    return "refuses" if verdict.refused else "complies" if given else "neither"


def agreement(pairs: list[tuple[dict[str, Any], str]]) -> str:
    """Such as "87.0 % (174 of 200; 81.6 to 91.3)", with a 95 % Clopper-Pearson interval."""
    same = sum(row["label"] == said for row, said in pairs)
    low, high = binomtest(same, len(pairs)).proportion_ci(method="exact")
    return f"{100 * same / len(pairs):5.1f} %  ({same} of {len(pairs)}; {100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", action="store_true", help="print every odd-numbered reply they differ on")
    options = parser.parse_args()
    rows = [json.loads(line) for line in REPLIES.read_text(encoding="utf-8").splitlines()]
    judged = [(row, stance(row)) for row in rows]
    even, odd = ([pair for pair in judged if int(pair[0]["id"][1:]) % 2 == part] for part in (0, 1))
    for title, part in (("even-numbered (held out)", even), ("odd-numbered", odd)):
        print(f"\n{title}")
        print(f"  all      {agreement(part)}")
        for name, keep in (("easy", False), ("hard", True)):
            print(f"  {name:8} {agreement([pair for pair in part if pair[0]['hard'] == keep])}")
        for name, keep in (("harmful", True), ("innocent", False)):
            some = [pair for pair in part if pair[0]["harmful"] == keep]
            counts = Counter((row["label"], said) for row, said in some)
            print(f"\n  {name:9}{agreement(some)}\n  {'label, rules say':18}" + "".join(f"{s:>10}" for s in STANCES))
            for label in STANCES:
                print(f"  {label:18}" + "".join(f"{counts[label, said]:10}" for said in STANCES))
    print("\neven-numbered, by kind")
    for kind in sorted({row["kind"] for row in rows}):
        print(f"  {kind:24} {agreement([pair for pair in even if pair[0]['kind'] == kind])}")
    if options.errors:
        for row, said in odd:
            if row["label"] != said:
                print(f"\n{row['id']} {row['kind']}, {'harmful' if row['harmful'] else 'innocent'}: "
                      f"{row['label']}, rules say {said}\n  > {row['request']}\n  {row['reply']}")  # fmt: skip


if __name__ == "__main__":
    main()
