"""What the day has cost so far, and how much of it was extra, for evidence or for hedges: that may be a small share of all.

Counted are tokens by target; money comes in where a price is known. Days are those of UTC. What was spent before the start is not
known here, so the share is of what this process has spent.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

DAY: Final = 86_400
TARGETS: Final = 256
"""Targets that are told apart; what others cost is not counted."""


class Rate(msgspec.Struct, frozen=True):
    """What a target takes, in nano-USD a token."""

    prompt: float
    completion: float

    def of(self, tokens: "Tokens") -> float:
        """In nano-USD."""
        return self.prompt * tokens.prompt + self.completion * tokens.completion


class Tokens(msgspec.Struct):
    """So many were used."""

    prompt: int = 0
    completion: int = 0

    def add(self, other: "Tokens") -> None:
        self.prompt += other.prompt
        self.completion += other.completion


class DayBook:
    """Tokens of one day, by target. `share` of the day's cost may be extra, 0 to 1."""

    def __init__(self) -> None:
        self.share = 0.0
        self._day = 0
        self._all: dict[str, Tokens] = {}
        self._extra: dict[str, Tokens] = {}

    def __repr__(self) -> str:
        return f"<DayBook of day {self._day}: {len(self._all)} targets>"

    def note(self, target: str, tokens: Tokens, now: float, *, extra: bool) -> None:
        """This was used just now; it is `extra` if the caller would have been answered without it."""
        self._turn(now)
        for book in (self._all, self._extra) if extra else (self._all,):
            if target in book or len(book) < TARGETS:
                book.setdefault(target, Tokens()).add(tokens)

    def targets(self, now: float) -> frozenset[str]:
        """Of which something was used today."""
        self._turn(now)
        return frozenset(self._all)

    def costs(self, rates: Mapping[str, Rate], now: float) -> tuple[float, float]:
        """The day so far in nano-USD: all, and the part that was extra."""
        self._turn(now)
        whole, extra = (
            sum(rates[target].of(tokens) for target, tokens in book.items() if target in rates)
            for book in (self._all, self._extra)
        )
        return whole, extra

    def allows(self, cost: float, rates: Mapping[str, Rate], now: float) -> bool:
        """May something extra cost so much (nano-USD) now? What costs nothing is always allowed."""
        whole, extra = self.costs(rates, now)
        return extra + cost <= self.share * whole or cost == 0.0

    def _turn(self, now: float) -> None:
        day = int(now // DAY)
        if day != self._day:
            self._day, self._all, self._extra = day, {}, {}
