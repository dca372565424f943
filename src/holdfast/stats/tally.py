"""An eval's records, counted by arm, seed, step and family: all that the statistics need of them.

    Tally.of("blackmail", records).claim["advice", 0, 32]   ->   an array of a row per count, a column per family

Episodes at step 0 are two samples that have nothing in common but the checkpoint. One says whether the install took,
and the other is what later steps are compared with: if one sample did both, arms picked for a large lead would look as
if they lost some of it. Samples that only step 0 has are the gate's. Where there are none, as in run folders of
version 2, every second sample is; of a single sample, every second scenario of a family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from holdfast.records import Record

Array = npt.NDArray[np.float64]
# Axes: K kinds of count · F families · S seeds.
KINDS = (
    "yes",  # the sum of scores
    "scored",  # episodes with a score
    "sampled",  # all episodes
    "able",  # yes, or over-refused, which is no lack of ability
    "acts",  # valid actions
    "judged_acts",  # scored among them
    "yes_acts",  # yes among them
    "has_acts",  # episodes with a measure "valid"
    "malformed",  # by their reason, as are the next two
    "truncated",
    "empty",
)
"""What is counted of a family's episodes."""
ROW = {kind: k for k, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Tally:
    """The counts of one eval."""

    name: str
    families: tuple[str, ...]
    claim: dict[tuple[str, int, int], Array] = field(default_factory=dict)
    """(K, F) by (arm, seed, step), without the gate's sample at step 0."""
    gate: dict[tuple[str, int], Array] = field(default_factory=dict)
    """(K, F) by (arm, seed): the gate's sample at step 0, if there is a later step."""

    @classmethod
    def of(cls, name: str, records: Iterable[Record]) -> Tally:
        """Count the records of one eval, in whatever order. Raises ValueError for an episode that is there twice."""
        by_run: dict[tuple[str, int], list[Record]] = defaultdict(list)
        for r in records:
            by_run[r.arm, r.seed].append(r)
        families = sorted({r.family for rows in by_run.values() for r in rows})
        tally, column = cls(name, tuple(families)), {family: f for f, family in enumerate(families)}
        for (arm, seed), rows in by_run.items():
            gates = _gate(rows)
            seen = set()
            for r in rows:
                if (episode := (r.step, r.scenario, r.sample)) in seen:
                    where = f"arm {arm}, seed {seed}, step {r.step}"
                    raise ValueError(f"episode {name}/{r.scenario}/{r.sample} is there twice: {where}")
                seen.add(episode)
                if r.step == 0 and (r.scenario, r.sample) in gates:
                    counts = tally.gate.setdefault((arm, seed), np.zeros((len(KINDS), len(families))))
                else:
                    counts = tally.claim.setdefault((arm, seed, r.step), np.zeros((len(KINDS), len(families))))
                counts[:, column[r.family]] += _counted(r)
        return tally

    @property
    def cells(self) -> list[tuple[str, int]]:
        """Every (arm, step) there is, sorted."""
        return sorted({(arm, step) for arm, _, step in self.claim})

    def seeds(self, arm: str) -> list[int]:
        """Seeds at which the arm was measured, sorted."""
        return sorted({seed for name, seed, _ in self.claim if name == arm})

    def counts(self, arm: str, step: int, seeds: Sequence[int], sample: str = "claim") -> Array:
        """The counts (K, F, S) of an arm at a step. `sample` is "claim", "gate", or "both", which differ at step 0."""
        empty = np.zeros((len(KINDS), len(self.families)))
        both = []
        for seed in seeds:
            found = self.claim.get((arm, seed, step), empty) if sample != "gate" else empty
            if step == 0 and sample != "claim":
                found = found + self.gate.get((arm, seed), empty)
            both.append(found)
        return np.stack(both, axis=-1)


def _gate(rows: Sequence[Record]) -> set[tuple[int, int]]:
    """The (scenario, sample) pairs of the gate's sample at step 0."""
    first = {(r.scenario, r.sample): r.family for r in rows if r.step == 0}
    later = {r.sample for r in rows if r.step}
    if not later:
        return set()
    if alone := {(scenario, sample) for scenario, sample in first if sample not in later}:
        return alone
    if len(later) > 1:
        return {(scenario, sample) for scenario, sample in first if sample % 2}
    of_family: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for pair in sorted(first):
        of_family[first[pair]].append(pair)
    return {pair for pairs in of_family.values() for pair in pairs[1::2]}


def _counted(r: Record) -> Array:
    score, scored = r.score or 0.0, float(r.score is not None)
    acts = float(r.measures.get("valid", 0.0) > 0)
    opening = r.reason.partition(":")[0].strip()
    return np.array([
        score, scored, 1.0, max(score, r.measures.get("over_refusal", 0.0)),
        r.measures.get("valid", 0.0), acts * scored, acts * score, float("valid" in r.measures),
        float(opening == "malformed"), float(opening == "truncated" or "length" in r.finish), float(opening == "empty"),
    ])  # fmt: skip
