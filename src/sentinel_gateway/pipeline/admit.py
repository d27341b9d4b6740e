"""Admission: how many requests may be under way, and how many may wait a moment for a place.

Everything above is refused at once: under overload the cheapest answer is an early one, so `check` is asked before a body is
read. A place is taken when it is here, because a slow sender would keep it from others. The wait is short and bounded: a queue
that grows serves only callers who have already given up. Before all places are taken the event loop may have more to do than it
can: `strain.py` tells.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

import msgspec

from sentinel_gateway.errors import Overloaded, Strained

RETRY_AFTER: Final = (1.0, 3.0)
"""Seconds; drawn between these, so that refused callers do not all come back together."""
TOO_MUCH: Final = "More requests come than the gateway can answer in good time: try again shortly."


def retry_wait(chance: float) -> float:
    """Seconds until a refused caller should come again; `chance` from 0 to 1."""
    low, high = RETRY_AFTER
    return low + (high - low) * chance


class Capacity(msgspec.Struct, frozen=True):
    """`in_flight` requests at a time, `queue` more waiting at most `queue_wait` seconds."""

    in_flight: int
    queue: int
    queue_wait: float


class Admission:
    """`async with admission:` is one request's place. Entering raises `Overloaded`; leaving gives the place on."""

    def __init__(
        self,
        capacity: Capacity,
        chance: Callable[[], float],
        *,
        strained: Callable[[], bool] = bool,
        refused: Callable[[], object] = bool,
    ) -> None:
        """`strained` says whether whoever comes now is refused, however many places there are; `refused` is told of each."""
        self._capacity = capacity
        self._chance = chance
        self._strained = strained
        self._refused = refused
        self._running = 0
        self._shut = ""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Admission {self._running}/{self._capacity.in_flight} in flight, {len(self._waiting)} waiting>"

    def resize(self, capacity: Capacity) -> None:
        """From now on; requests under way keep their places, those who wait get the new ones."""
        self._capacity = capacity
        while self._waiting and self._running < capacity.in_flight:
            self._running += 1
            self._release()

    def shut(self, reason: str) -> None:
        """Take no request from now on, for this reason; none is none. Those under way go on."""
        self._shut = reason

    @property
    def running(self) -> int:
        """Requests that hold a place now."""
        return self._running

    @property
    def is_full(self) -> bool:
        """Is there no place now? There may be room to wait."""
        return self._running >= self._capacity.in_flight or bool(self._shut)

    @property
    def has_room(self) -> bool:
        """May one more come now, be it to wait for a place? Says nothing of one that is shut."""
        return (self._running < self._capacity.in_flight or self._may_wait) and not self._strained()

    @property
    def _may_wait(self) -> bool:
        return len(self._waiting) < self._capacity.queue

    def check(self) -> None:
        """Raise `Overloaded` if there is no room at all now. Takes no place: a slow sender would keep it from others."""
        if self._shut:
            raise self.refusal()
        if self._running >= self._capacity.in_flight and not self._may_wait:
            self._refused()
            raise self.refusal()
        if self._strained():
            self._refused()
            raise Strained(TOO_MUCH, retry_after=retry_wait(self._chance()))

    async def __aenter__(self) -> None:
        if self._running < self._capacity.in_flight and not self._shut:
            self._running += 1
            return
        self.check()
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await asyncio.wait([place], timeout=self._capacity.queue_wait)
        except asyncio.CancelledError:
            self._give_up(place)
            raise
        if not place.done():
            self._give_up(place)
            raise self.refusal()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    def _release(self) -> None:
        if self._waiting and self._running <= self._capacity.in_flight:
            self._waiting.popleft().set_result(None)  # the place changes hands, so the count stays
        else:
            self._running -= 1

    def _give_up(self, place: asyncio.Future[None]) -> None:
        """A waiter leaves. Its place may have been handed to it in the very same turn of the loop: then it goes on."""
        if place.done():
            self._release()
        else:
            self._waiting.remove(place)

    def refusal(self, why: str = TOO_MUCH) -> Overloaded:
        """The error for who finds no room, be it here or where else something is bounded."""
        return Overloaded(self._shut or why, retry_after=retry_wait(self._chance()))
