"""When a target that keeps failing is left alone, and how it comes back.

After so many failures in a row the circuit opens, and the target is passed over. After a pause it is half open: one request a
second may try it, and so many successes close it. Where no other target is left, one request a second may try it all the while:
an open circuit spares a provider, it never makes an outage last longer than the provider's own.

Each turn begins a new generation. What was asked in an earlier one says nothing of this one: the last failures of a storm don't
open a circuit that has closed since, and an answer from before the storm doesn't close it. A probe holds no slot, so one that
never answers keeps nothing open; one that nobody waits for any more makes room for the next at once. Time is an argument: seconds
of any clock that only goes forward.
"""

from typing import Final, Literal

import msgspec

State = Literal["closed", "open", "half_open"]

PROBE_SECONDS: Final = 1.0
"""From one request that tries a target whose circuit is open to the next."""


class CircuitRules(msgspec.Struct, frozen=True):
    """Seed 001's figures: failures in a row that open it, successes in a row that close it, seconds that it rests."""

    failures: int = 5
    successes: int = 2
    pause: float = 60.0


class Circuit:
    """One target's. A generation is what `enter` returned; `succeeded` and `failed` ignore those that are over."""

    __slots__ = ("_failures", "_opened", "_probe_at", "_successes", "generation", "rules")

    def __init__(self, rules: CircuitRules) -> None:
        self.rules = rules
        self.generation = 0
        self._failures = 0
        self._successes = 0
        self._opened: float | None = None
        self._probe_at = 0.0

    def __repr__(self) -> str:
        return f"<Circuit {'closed' if self._opened is None else 'open'}, {self._failures} failures in a row>"

    @property
    def failures(self) -> int:
        """In a row, up to now, or until it opened."""
        return self._failures

    def state(self, now: float) -> State:
        """As of now."""
        if self._opened is None:
            return "closed"
        return "open" if now < self._opened + self.rules.pause else "half_open"

    def admits(self, now: float, *, last: bool) -> bool:
        """May a request go now? `last`: it has nowhere else to go."""
        if self._opened is None:
            return True
        return now >= self._probe_at and (last or now >= self._opened + self.rules.pause)

    def enter(self, now: float) -> int:
        """A request goes; its generation."""
        if self._opened is not None:
            self._probe_at = now + PROBE_SECONDS
        return self.generation

    def succeeded(self, generation: int) -> bool:
        """True if this closed it."""
        if generation != self.generation:
            return False
        if self._opened is None:
            self._failures = 0
            return False
        self._successes += 1
        return self._successes >= self.rules.successes and self.close()

    def refused(self, generation: int) -> bool:
        """It answered that a request is wrong; True if this closed it.

        What is open learns by it that somebody answers. Failures in a row are not ended by it: whoever sends wrong requests could
        keep it closed through an outage.
        """
        return self._opened is not None and self.succeeded(generation)

    def left(self, generation: int, entered: float) -> None:
        """Nobody waits any more for what was asked then: it found nothing out, so another may try in its stead."""
        if generation == self.generation and self._opened is not None and self._probe_at == entered + PROBE_SECONDS:
            self._probe_at = entered

    def failed(self, generation: int, now: float) -> bool:
        """True if this opened it. A probe that failed begins the pause anew."""
        if generation != self.generation:
            return False
        self._failures += 1
        if self._opened is None:
            return self._failures >= self.rules.failures and self.open(now)
        self._turn(now)
        return False

    def open(self, now: float) -> bool:
        """Open it, whatever was counted; False if it was open."""
        if self._opened is not None:
            return False
        self._turn(now)
        return True

    def close(self) -> bool:
        """Close it, whatever was counted; False if it was closed."""
        if self._opened is None:
            return False
        self._failures = 0
        self._turn(None)
        return True

    def _turn(self, opened: float | None) -> None:
        self.generation += 1
        self._successes = 0
        self._opened = opened
        self._probe_at = 0.0 if opened is None else opened + PROBE_SECONDS
