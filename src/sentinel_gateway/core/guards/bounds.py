"""A number, or what lies on one side of it: "under 18" and "at 18", "younger than 18", "before 1952" and "in 1952"."""

from collections import Counter
from typing import Final

from sentinel_gateway.core.guards.lexicon import words
from sentinel_gateway.core.guards.numbers import FIRST, MARK
from sentinel_gateway.core.guards.words import Pair, Reading, canonical

LESS: Final = words("under below before until till")
SIDES: Final = LESS | words("over above after since beyond")
THAN: Final = "than"
SMALLER: Final = frozenset(map(canonical, words("younger shorter smaller lower earlier cheaper lighter closer nearer")))
LARGER: Final = frozenset(map(canonical, words("older longer taller larger bigger higher later heavier farther further")))
"""Before "than", these say the side: who is older than 65 is over it."""


def differ(pair: Pair) -> bool:
    """Does a number bound what is asked for in one text, and not, or from the other side, in the other?"""
    return _bounds(pair.a) != _bounds(pair.b)


def _bounds(reading: Reading) -> Counter[bool]:
    """How many numbers bound from above (True), and how many from below."""
    placed = zip(("", *reading.tokens), reading.tokens, reading.leads, strict=False)
    leads = (_side(lead, before) for before, token, lead in placed if token[:1] == MARK and _counts(token))
    return Counter(lead in LESS for lead in leads if lead in SIDES)


def _side(lead: str, before: str) -> str:
    """The lead of a number, by the word before it where it is "than"."""
    if lead != THAN:
        return lead
    return "under" if before in SMALLER else "over" if before in LARGER else lead


def _counts(token: str) -> bool:
    """Is it a number, and not a weekday; and not one, which is often no number: "more than one"?"""
    return token[1].isdigit() and token != FIRST
