"""How long a call may take, and who ends it: the limits, the watchdog over a stream, and the error that names the limit."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.routing import Deadlines
from sentinel_gateway.errors import UpstreamTimeout

Limit = Literal["connect", "first_byte", "idle", "total"]

_HAPPENED: Final[dict[Limit, str]] = {
    "connect": "accepted no connection within",
    "first_byte": "did not answer within",
    "idle": "sent nothing more for",
    "total": "had not finished after",
}


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `first_byte` runs from the start of the call; without streaming the whole answer has to be there by then.

    `idle` is the longest wait between two reads of a stream, `total` the longest that a call may take in all.
    """

    connect: float = 5.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0

    def within(self, deadlines: Deadlines) -> "Timeouts":
        """The same, or shorter."""
        pairs = (self.first_byte, deadlines.first_byte), (self.idle, deadlines.idle), (self.total, deadlines.total)
        return Timeouts(self.connect, *(own if other is None else min(own, other) for own, other in pairs))

    @property
    def answer(self) -> tuple[Limit, float]:
        """The limit that ends the wait for an answer's first byte."""
        return ("first_byte", self.first_byte) if self.first_byte <= self.total else ("total", self.total)

    def exceeded(self, provider: str, limit: Limit) -> UpstreamTimeout:
        """The error for a limit that has run out."""
        seconds: float = getattr(self, limit)
        return UpstreamTimeout(f"{provider} {_HAPPENED[limit]} {seconds:g} s (timeouts.{limit}).")


class Watchdog:
    """Ends one stream when a limit has run out, at the price of one timer for the whole stream, not one for each read.

    Waiting and resting only move the deadline. The timer isn't moved along: when it fires too early it is set again. While
    the reader rests, as it does behind a slow caller, the provider's clock stands still; only `total` goes on.
    """

    __slots__ = ("_due", "_end", "_expire", "_first", "_idle", "_loop", "_timer")

    def __init__(self, timeouts: Timeouts, *, started: float, expire: Callable[[Limit], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = timeouts.idle
        self._expire = expire
        self._first: float | None = started + timeouts.first_byte
        self._due: float | None = self._first
        self._end = started + timeouts.total
        self._timer = self._set(self._first)

    def wait(self) -> None:
        """The reader waits for the provider from now on."""
        if self._first is None:
            self._due = self._loop.time() + self._idle

    def rest(self) -> None:
        """The provider has answered; the reader is busy elsewhere."""
        self._due = None
        if self._first is not None:
            self._first = None
            self._timer.cancel()
            self._timer = self._set(self._loop.time() + self._idle)

    def heard(self) -> None:
        """The provider has answered, and is waited for again at once."""
        if self._first is not None:
            self.rest()
        self._due = self._loop.time() + self._idle

    def stop(self) -> None:
        self._timer.cancel()

    def _set(self, when: float) -> asyncio.TimerHandle:
        return self._loop.call_at(min(when, self._end), self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now >= self._end:
            self._expire("total")
        elif self._due is None or now < self._due:
            self._timer = self._set(now + self._idle if self._due is None else self._due)
        elif self._first is None:
            self._expire("idle")
        else:
            self._expire("first_byte")
