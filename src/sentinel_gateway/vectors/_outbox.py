"""Changes on their way to a server, made in the background and in order: whoever has one to make never waits for it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Generic, TypeVar

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Events

MOST: Final = 4096
"""Changes that may wait, while a server is away for some time; a question takes about a kilobyte."""
BATCH: Final = 32
TRIES: Final = 10
"""So often does a server that works get to refuse a batch; then it is the batch that is wrong. One that is away is left alone
after half as many failures, and what waits for it goes on waiting."""
PAUSE_SECONDS: Final = 0.5

Change = TypeVar("Change")


class Outbox(Generic[Change]):
    """`deliver` makes a batch of changes, or raises `StoreDown`; it may be given the same batch again."""

    def __init__(
        self,
        deliver: Callable[[Sequence[Change]], Awaitable[None]],
        *,
        works: Callable[[], bool],
        events: Events,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._deliver = deliver
        self._works = works
        self._events = events
        self._pause = pause
        self._changes: deque[Change] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._full = False
        self._closed = False
        self.paused = asyncio.Lock()
        """While it is held, nothing is delivered."""

    def __len__(self) -> int:
        return len(self._changes)

    def put(self, change: Change) -> None:
        """Take a change; it is lost if too many wait already, which is told once."""
        if len(self._changes) >= MOST:
            if not self._full:
                self._events.note("vectors_overflow", reason=f"{MOST} changes wait already")
            self._full = True
            return
        self._changes.append(change)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    def withdraw(self, unwanted: Callable[[Change], bool]) -> int:
        """Take back what is not delivered yet; how many. Only while `paused` is held."""
        kept = [change for change in self._changes if not unwanted(change)]
        withdrawn = len(self._changes) - len(kept)
        self._changes = deque(kept)
        return withdrawn

    async def flush(self) -> None:
        """Returns once nothing waits."""
        while self._sending is not None:
            await asyncio.wait([self._sending])

    async def close(self) -> None:
        """Deliver what can be delivered now, then end."""
        if self._sending is None:
            return
        self._closed = True  # a cancellation may be lost on its way through a client
        self._sending.cancel()
        await asyncio.wait([self._sending])
        with suppress(StoreDown):
            while self._changes:
                await self._deliver(self._batch())
                self._forget(self._batch())

    async def _send(self) -> None:
        refused = 0
        try:
            while self._changes and not self._closed:
                async with self.paused:
                    batch = self._batch()
                    try:
                        await self._deliver(batch)
                    except StoreDown:
                        refused += 1
                    else:
                        refused = 0
                    if not refused or (refused >= TRIES and self._works()):
                        self._forget(batch)
                if refused:
                    await asyncio.sleep(self._pause)
        finally:
            self._sending = None
            self._full = False

    def _batch(self) -> list[Change]:
        return list(islice(self._changes, BATCH))

    def _forget(self, batch: Sequence[Change]) -> None:
        for _ in batch:
            self._changes.popleft()
