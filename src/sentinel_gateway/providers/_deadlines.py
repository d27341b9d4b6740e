"""How long a call may take, and who ends it: the limits, the watchdog over a stream, and the error that names the limit."""

import asyncio
import math
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.routing import Deadlines
from sentinel_gateway.errors import UpstreamTimeout

Limit = Literal["connect", "first_byte", "idle", "total"]

NEVER: Final = math.inf
ENDED: Final = -math.inf
"""No deadline is earlier, so no timer is set again."""
STOOD_STILL: Final = 0.1
"""Seconds that a timer is late where this process did not run: its machine was paused, or had no core for it."""
MOMENT: Final = 0.1
"""Seconds in which what came meanwhile is read. Timers fire before sockets are looked at."""

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
    """Ends the call on a connection when a limit has run out, at the price of a timer now and then, not one for each call.

    Waiting and resting only move the deadline, and so does the next call. The timer isn't moved along: when it fires too early
    it is set again. When it fires late, nobody could be heard: what is here by then has a moment to be read. While the reader
    rests, as it does behind a slow caller, the provider's clock stands still; only `total` goes on.
    """

    __slots__ = ("_due", "_end", "_expire", "_first", "_idle", "_loop", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle = 0.0
        self._expire: Callable[[Limit], None] | None = None
        self._first: float | None = None
        self._due: float | None = None
        self._end = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER

    def watch(self, timeouts: Timeouts, *, started: float, expire: Callable[[Limit], None]) -> None:
        """A call begins, or began when it had no connection yet. `expire` is told if a limit runs out."""
        self._idle = timeouts.idle
        self._expire = expire
        self._first = self._due = started + timeouts.first_byte
        self._end = started + timeouts.total
        self._arm(self._first)

    def wait(self) -> None:
        """The reader waits for the provider from now on."""
        if self._first is None:
            self._due = self._loop.time() + self._idle

    def rest(self) -> None:
        """The provider has answered; the reader is busy elsewhere."""
        self._due = None
        if self._first is not None:
            self._first = None
            self._arm(self._loop.time() + self._idle)

    def heard(self) -> None:
        """The provider has answered, and is waited for again at once."""
        if self._first is not None:
            self.rest()
        self._due = self._loop.time() + self._idle

    def stop(self) -> None:
        """The call has ended. Let go of whom it would have told, who holds it: else both would wait for the garbage collector."""
        self._expire = None

    def close(self) -> None:
        """The connection has ended: nothing more is to be watched, not even a call that is begun on it in vain."""
        self._expire = self._first = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, ENDED

    def _arm(self, when: float) -> None:
        when = min(when, self._end)
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now - self._timer_at > STOOD_STILL:
            self._timer_at = now + MOMENT
            self._timer = self._loop.call_at(self._timer_at, self._judge)
        else:
            self._judge()

    def _judge(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if self._expire is None:
            return
        now = self._loop.time()
        if now >= self._end:
            self._expire("total")
        elif self._due is None or now < self._due:
            self._arm(now + self._idle if self._due is None else self._due)
        elif self._first is None:
            self._expire("idle")
        else:
            self._expire("first_byte")
