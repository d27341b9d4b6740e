"""What moves on a page: frames, made once for all who look, sent as server-sent events or given to whoever polls.

A frame is JSON that says what stands where: `text`, `attributes`, `shown` and `rows`, by the names that a page's template gives
its elements (`static/dashboard.js` puts it there, as text and never as HTML). How much work it is does not depend on how many
look: a frame is made at most once a second for each page and tenant, and one that is as the last is not sent. Nor does sending
them: beyond some dozens who look, each is sent one less often.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec

from sentinel_gateway.api.dashboard.door import Door, Visit
from sentinel_gateway.errors import KeysUnavailable
from sentinel_gateway.ports import Clock

EVERY: Final = 1.0
"""Seconds between two frames."""
MOST_A_SECOND: Final = 60.0
"""Frames that are sent to all who look together: about a hundredth of a core. In whole seconds, it may be half as many more."""
LONGEST: Final = 600.0
"""Seconds after which a stream ends, for its browser to come again: to what is in force by then."""
QUIET: Final = 15.0
"""Seconds without a frame after which a comment is sent, for what lies between not to cut the stream."""
FORGOTTEN: Final = 60.0
RETRY: Final = b"retry: 2000\n\n"
STILL_HERE: Final = b": still here\n\n"
SIGNED_OUT: Final = b"event: signed-out\ndata: {}\n\n"

Place = tuple[str, str | None]
"""What a frame is of: the name of a page, or of a part of one, and the tenant that looks (None: the operator)."""


class Frame(msgspec.Struct, frozen=True):
    """`body` is `value` as JSON; as long as it says the same, it is the same object."""

    value: Any
    body: bytes
    at: float


class Frames:
    """Those that were made last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[Place, Frame] = {}
        self._making: dict[Place, asyncio.Lock] = {}
        self._tasks: dict[Place, asyncio.Task[Frame]] = {}

    def __repr__(self) -> str:
        return f"<Frames of {len(self._kept)} places>"

    async def of(self, place: Place, make: Callable[[], Awaitable[Any]], every: float = EVERY) -> Frame:
        """The frame of now: one that is at most `every` seconds old."""
        if (kept := self._fresh(place, every)) is not None:
            return kept
        async with self._making.setdefault(place, asyncio.Lock()):
            if (kept := self._fresh(place, every)) is not None:
                return kept
            value = await make()
            body, last = msgspec.json.encode(value), self._kept.get(place)
            made = Frame(value, last.body if last is not None and last.body == body else body, self._clock())
            self._forget()
            self._kept[place] = made
            return made

    async def soon(self, place: Place, make: Callable[[], Awaitable[Any]], every: float, *, within: float) -> Any:
        """What the frame of now says; where making it takes longer than `within` seconds, what the last said, or None.

        It is made to its end all the same: what always takes long would otherwise never be there.
        """
        task = self._tasks.get(place)
        if task is None:
            task = self._tasks[place] = asyncio.create_task(self.of(place, make, every))
            task.add_done_callback(lambda ended: self._ended(place, ended))
        await asyncio.wait({task}, timeout=within)
        return self.last(place) if not task.done() or task.cancelled() else task.result().value

    def last(self, place: Place) -> Any:
        """What the frame of this place said last; None if there is none."""
        kept = self._kept.get(place)
        return None if kept is None else kept.value

    def _ended(self, place: Place, task: asyncio.Task[Frame]) -> None:
        del self._tasks[place]
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more, and asyncio complains of what nobody has looked at

    def _fresh(self, place: Place, every: float) -> Frame | None:
        kept = self._kept.get(place)
        return kept if kept is not None and self._clock() - kept.at < every else None

    def _forget(self) -> None:
        old = self._clock() - FORGOTTEN
        for place in [place for place, kept in self._kept.items() if kept.at < old and not self._making[place].locked()]:
            del self._kept[place], self._making[place]


class Streams:
    """Frames to those who look, as long as they may. `stopping` tells that the gateway is about to end."""

    def __init__(
        self, door: Door, clock: Clock, stopping: Callable[[], bool], *, every: float = EVERY, most: float = MOST_A_SECOND
    ) -> None:
        self._door = door
        self._clock = clock
        self._stopping = stopping
        self._every = every
        self._most = most
        self.open = 0

    def __repr__(self) -> str:
        return f"<Streams {self.open} open>"

    async def stream(self, visit: Visit, frame: Callable[[], Awaitable[Frame]]) -> AsyncIterator[bytes]:
        """Server-sent events: each frame that says something new."""
        end = self._clock() + LONGEST
        last, sent, due = b"", self._clock(), 0.0
        self.open += 1
        try:
            yield RETRY
            while not self._stopping() and (now := self._clock()) < end:
                try:
                    if not self._door.still(visit):
                        yield SIGNED_OUT
                        return
                except KeysUnavailable:
                    return  # its browser asks again, is told 503, and keeps its session
                body = last
                if now >= due:
                    due = now + self.open / self._most - self._every / 2
                    body = (await frame()).body
                if body is not last:
                    last, sent = body, now
                    yield b"data: %b\n\n" % body
                elif now - sent >= QUIET:
                    sent = now
                    yield STILL_HERE
                await asyncio.sleep(self._every)
        finally:
            self.open -= 1
