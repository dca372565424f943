"""Requests of which a word or two say the aim: harmful ones and their look-alikes.

The environments' `train` families are too few for a small model to learn what their harmful sides have in common. A
third of the requests here are of families like theirs; the others come from a grammar in which any word of aim meets
any person, thing and word order, so that the words of aim are all that tells the two apart:

    harmful    "Help me open the box of my cousin without their consent."      topic "the box"
    innocent   "Help me open the box of my cousin with their consent."

The words and families are in `aims.json`. A request names a harm at most, and nothing here says how it is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from holdfast.corpora import rows
from holdfast.corpora.rows import pick

_DATA = json.loads((Path(__file__).parent / "aims.json").read_text(encoding="utf-8"))


def _sides(name: str) -> Mapping[bool, Sequence[str]]:
    """A list of words of aim. True is harmful."""
    return {True: _DATA[name]["harmful"], False: _DATA[name]["innocent"]}


THINGS = tuple(thing for thing in rows.THINGS if thing not in _DATA["left_out"])
"""Without those that an eval family is about."""
PEOPLE: Sequence[str] = _DATA["people"]
PLACES: Sequence[str] = _DATA["places"]
TEXTS: Sequence[str] = _DATA["texts"]
GROUPS: Sequence[str] = _DATA["groups"]
CRIMES: Sequence[str] = _DATA["crimes"]
EVEN: Sequence[str] = _DATA["even"]
"""What may be done with a thing for any aim."""
TO_PEOPLE, TO_THINGS, TO_CRIMES = _sides("to_people"), _sides("to_things"), _sides("to_crimes")
"""What is done to them. A crime is named on both sides: one plans it or warns of it."""
LIKE, NAMES = _sides("like"), _sides("names")
HOW, HOW_THINGS = _sides("how"), _sides("how_things")
"""The way or the end of a deed, or whose the thing is, which is said of things alone."""
ASKS: Sequence[str] = _DATA["asks"]
WHEN: Sequence[str] = _DATA["when"]
WRITES: Sequence[str] = _DATA["writes"]
GETS: Sequence[str] = _DATA["gets"]
FAMILIES: Sequence[tuple[str, Sequence[str], Sequence[str]]] = [(topic, *sides) for topic, *sides in _DATA["families"]]
"""(topic, harmful phrases, innocent phrases), whose phrases are pairs."""


def request(rng: np.random.Generator, harmful: bool) -> tuple[str, str]:
    """A request and its topic."""
    slots = {"person": PEOPLE, "place": PLACES, "group": GROUPS, "thing": THINGS}
    named = {slot: pick(rng, pool) for slot, pool in slots.items()}
    kind = rng.random()
    if kind < 0.35:
        topic, *phrases = FAMILIES[int(rng.integers(len(FAMILIES)))]
        return _grammatical(pick(rng, phrases[not harmful]).format(**named)), topic
    if kind < 0.5:
        text, verb, like = pick(rng, TEXTS), pick(rng, TO_PEOPLE[harmful]), pick(rng, LIKE[harmful])
        phrase = pick(rng, WRITES).format(text=text, like=like, do=verb, does=_does(verb), **named)
        return _grammatical(phrase), f"the {text}"
    if kind < 0.6:
        return _grammatical(pick(rng, GETS).format(like=pick(rng, LIKE[harmful]), **named)), f"the {named['thing']}"
    do, topic = _deed(rng, harmful, named)
    when = pick(rng, WHEN)
    said = {"do": do, "Do": do[0].upper() + do[1:], "doing": _doing(do)}
    return _grammatical(pick(rng, ASKS).format(**said, when=when, When=when[0].upper() + when[1:])), topic


def named(rng: np.random.Generator, harmful: bool) -> str:
    """A word or two that name a deed, a way to do it, or a thing."""
    pool = (TO_PEOPLE, TO_THINGS, LIKE, HOW, NAMES, NAMES)[int(rng.integers(6))]
    return pick(rng, pool[harmful])


def words() -> list[str]:
    """Every word that a request of the lists and families can be made of, its slots excepted."""
    pools = (TO_PEOPLE, TO_THINGS, TO_CRIMES, LIKE, HOW, HOW_THINGS, NAMES)
    lists = [phrase for pool in pools for side in pool.values() for phrase in side]
    told = [phrase for _, *both in FAMILIES for side in both for phrase in side]
    said = " ".join([*lists, *told, *EVEN, *CRIMES, *PEOPLE, *PLACES, *TEXTS, *GROUPS]).lower()
    return sorted(set(re.findall(r"[a-z]+", re.sub(r"{\w+}", "", said))))


def _deed(rng: np.random.Generator, harmful: bool, named: Mapping[str, str]) -> tuple[str, str]:
    """What is to be done, of which the verb or the way says the aim, or both; and the topic."""
    if rng.random() < 0.12:
        crime = pick(rng, CRIMES)
        return f"{pick(rng, TO_CRIMES[harmful])} {crime}", crime
    person, place, thing = named["person"], named["place"], named["thing"]
    how = pick(rng, HOW[harmful])
    where = pick(rng, ("", f" at the {place}", f" in the {place}", f" near the {place}"))
    kind = rng.random()
    if kind < 0.35:
        whom = person if rng.random() < 0.75 else named["group"]
        return f"{pick(rng, TO_PEOPLE[harmful])} {whom}{pick(rng, (where, ' ' + how))}", whom
    owned = pick(rng, (f"the {thing}", f"the {thing} of {person}", f"the {place}", f"a {thing} from {person}"))
    topic = f"the {place}" if owned == f"the {place}" else f"the {thing}"
    if rng.random() < 0.3:
        how = pick(rng, HOW_THINGS[harmful])
    if kind < 0.65:
        return f"{pick(rng, TO_THINGS[harmful])} {owned}{pick(rng, ('', where, ' ' + how))}", topic
    return f"{pick(rng, EVEN)} {owned} {how}", topic


def _grammatical(text: str) -> str:
    return re.sub(r"\ba (?=[aeio]|u[gp]|un(?!i)|hones)", "an ", text)


def _doing(do: str) -> str:
    """Such as "stabbing with care", of "stab with care"."""
    verb, *rest = do.split(" ")
    verb = re.sub(r"ie$", "y", verb)
    verb = verb[:-1] if re.search(r"[^eoy]e$", verb) else verb + verb[-1] if DOUBLED.search(verb) else verb
    return " ".join([f"{verb}ing", *rest])


def _does(do: str) -> str:
    """Such as "carries a bag", of "carry a bag"."""
    verb, *rest = do.split(" ")
    ending = "es" if SIBILANT.search(verb) else "s"
    return " ".join([re.sub(r"(?<![aeou])y$", "ie", verb) + ending, *rest])


DOUBLED = re.compile(r"^[^aeiou]*[aeiou][bdgmnprt]$|(?:nap|mit)$")
"""Verbs whose last letter is doubled before an ending."""
SIBILANT = re.compile(r"(?:s|sh|ch|x|z|o)$")
