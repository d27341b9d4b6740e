"""Near misses and rewordings, generated: pairs of questions one small word apart, and pairs that want the same answer.

All templates are our own. A frame holds `{x}`; a near miss puts two different values of the same slot into it, so nearly all
words agree and the answer doesn't. The same seed yields the same pairs.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

from tests.guards import fresh_slots, sign_slots, slots

FRAMES = slots.FRAMES | fresh_slots.FRESH_FRAMES
VALUES = slots.VALUES | fresh_slots.FRESH_VALUES
CONTRASTS = slots.CONTRASTS | fresh_slots.FRESH_CONTRASTS | sign_slots.SMALL_CONTRASTS
SWAPPED = slots.SWAPPED | fresh_slots.FRESH_SWAPPED
PER_KIND = 220
REWORDINGS = 700
OPENINGS = ("", "", "", "Hi, ", "Hello! ", "Please help: ", "Quick question: ")
CLOSINGS = ("", "", "", " Thanks!", " Thank you.", " Please answer briefly.")


class NearMiss(NamedTuple):
    """Two questions that must not share an answer, and what sets them apart."""

    question: str
    near_miss: str
    kind: str


class Rewording(NamedTuple):
    """Two questions that may share an answer."""

    question: str
    rewording: str


def near_misses(seed: int = 0) -> list[NearMiss]:
    """At least 5,000 distinct pairs, the same for the same seed."""
    chance = random.Random(seed)
    found: dict[tuple[str, str], NearMiss] = {}
    for kind, pairs in _sources().items():
        drawn = sorted(set(pairs))
        chance.shuffle(drawn)
        for question, near_miss in drawn[:PER_KIND]:
            opening, closing = chance.choice(OPENINGS), chance.choice(CLOSINGS)
            case = NearMiss(opening + question + closing, opening + near_miss + closing, kind)
            found[case.question, case.near_miss] = case
    return list(found.values())


def one_thing_apart(kinds: Sequence[str], count: int, seed: int = 0) -> list[NearMiss]:
    """So many distinct pairs of these kinds, each within a politeness that both have."""
    chance = random.Random(seed)
    sources = _sources()
    pool = sorted({(kind, *pair) for kind in kinds for pair in sources[kind]})
    around = list(product(sorted(set(OPENINGS)), pool, sorted(set(CLOSINGS))))
    return [
        NearMiss(opening + a + closing, opening + b + closing, kind)
        for opening, (kind, a, b), closing in chance.sample(around, count)
    ]


def other_numbers(count: int, seed: int = 0) -> list[NearMiss]:
    """So many pairs with two numbers that were drawn by chance, up to 99,999."""
    chance, frames = random.Random(seed), FRAMES["number"]
    drawn = [(chance.choice(frames), chance.sample(range(2, 100_000), 2)) for _ in range(count)]
    return [NearMiss(frame.format(x=one), frame.format(x=other), "number") for frame, (one, other) in drawn]


def _sources() -> dict[str, list[tuple[str, str]]]:
    return (
        {kind: list(_exchanged(kind)) for kind in FRAMES}
        | {kind: list(_contrasted(kind)) for kind in CONTRASTS}
        | {kind: list(_swapped(kind)) for kind in SWAPPED}
    )


def _exchanged(kind: str) -> Iterator[tuple[str, str]]:
    """Each frame with each two values of its slot."""
    for frame, (one, other) in product(FRAMES[kind], combinations(VALUES[kind], 2)):
        yield frame.format(x=one), frame.format(x=other)


def _contrasted(kind: str) -> Iterator[tuple[str, str]]:
    """Each contrast in each frame that suits it; a frame without a slot is itself a contrast's side."""
    frames, couples = CONTRASTS[kind]
    for frame, (one, other) in product(frames, couples):
        yield frame.format(x=one), frame.format(x=other)


def _swapped(kind: str) -> Iterator[tuple[str, str]]:
    """The two parts of a frame exchanged."""
    frames, values = SWAPPED[kind]
    for frame, (one, other) in product(frames, combinations(values, 2)):
        yield frame.format(a=one, b=other), frame.format(a=other, b=one)


def rewordings(seed: int = 0) -> list[Rewording]:
    """At least 500 distinct pairs, the same for the same seed."""
    chance = random.Random(seed)
    found = {
        Rewording(one.format(x=value), other.format(x=value))
        for slot, groups in slots.REWORDED.items()
        for group in groups
        for one, other in combinations(group, 2)
        for value in slots.REWORDED_SLOTS[slot]
    }
    drawn = sorted(found | {Rewording(*pair) for pair in fresh_slots.FRESH_REWORDED + sign_slots.SMALL_REWORDED})
    chance.shuffle(drawn)
    return drawn[:REWORDINGS]
