"""What is on its way to Redis: a bounded queue, written in the background, many entries in one round trip."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from redis.exceptions import ResponseError

from sentinel_gateway.core.browsing import FOREVER
from sentinel_gateway.core.caching import Entry
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock
from sentinel_gateway.stores._redis import Client, RedisLink, has_answered

GRACE: Final = 600.0
"""Seconds that Redis keeps what has expired: whether it has is for `core.caching` to judge, by one node's clock."""
QUEUE_ENTRIES: Final = 4096
QUEUE_BYTES: Final = 32 << 20
BATCH_ENTRIES: Final = 64
"""Some 2 ms of the event loop."""
BATCH_BYTES: Final = 1 << 20
STALE: Final = 2 * BATCH_ENTRIES
"""Names that leave the index with each batch, twice as many as can come: it never holds many that have expired."""
QUIET_SECONDS: Final = 60.0
"""A full queue is told of once in so long."""
CALM_SECONDS: Final = 5.0
"""Writing is said to work again after so long without a refusal: a Redis on the brink would tell with each batch."""


class Packed(NamedTuple):
    """An entry as it is written. `expires` is when Redis forgets it; where it is pinned, never."""

    name: bytes
    value: bytes
    expires: float


class Outbox:
    """Tells `note` of store_queue_full, store_writes_failed and store_writes_resumed. `dropped` counts what was not written."""

    def __init__(
        self, link: RedisLink, *, index: bytes, pack: Callable[[Entry], Packed], clock: Clock, note: Callable[..., None]
    ) -> None:
        self._link = link
        self._index = index
        self._pack = pack
        self._clock = clock
        self._note = note
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._unwanted: set[bytes] = set()
        self._stale: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None
        self._taken = self._settled = 0
        self._batch_settled = asyncio.Event()
        self._refused_at: float | None = None
        self._quiet_until = 0.0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, entry: Entry) -> bool:
        """False if it is dropped, or may be: Redis has lately refused others."""
        if len(self._queue) >= QUEUE_ENTRIES or self._bytes + _size(entry) > QUEUE_BYTES:
            self.dropped += 1
            self._tell_full()
            return False
        self._queue.append(entry)
        self._taken += 1
        self._bytes += _size(entry)
        self._write_soon()
        return self._refused_at is None

    def remove(self, name: bytes) -> None:
        """Have a key removed, soon."""
        if len(self._unwanted) < QUEUE_ENTRIES:
            self._unwanted.add(name)
            self._write_soon()

    async def flush(self) -> None:
        """Returns once all that was taken before is written or lost."""
        taken = self._taken
        while self._settled < taken:
            self._batch_settled.clear()
            await self._batch_settled.wait()

    def _tell_full(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            self._note("store_queue_full", queued=len(self._queue))

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._queue or self._unwanted:
                batch = self._next_batch()
                try:
                    self._judge(await self._link.call_patiently(partial(self._write, batch)))
                except StoreDown:  # maybe at once: whoever kept on trying would let nothing else have a turn
                    self.dropped += len(batch)
                    self._unwanted.clear()  # whoever reads one of them has it removed again
                    await asyncio.sleep(0)
                self._settle()
        finally:
            self._writing = None
            self._settle()

    def _settle(self) -> None:
        self._settled = self._taken - len(self._queue)
        self._batch_settled.set()

    def _next_batch(self) -> list[Packed]:
        batch: list[Packed] = []
        size = 0
        while self._queue and len(batch) < BATCH_ENTRIES and size < BATCH_BYTES:
            entry = self._queue.popleft()
            self._bytes -= _size(entry)
            size += _size(entry)
            try:
                batch.append(self._pack(entry))
            except (ValueError, OverflowError):  # it holds what can't be written
                self.dropped += 1
        return batch

    async def _write(self, batch: list[Packed], client: Client) -> list[ResponseError]:
        """What Redis refused of it."""
        now, unwanted, stale = self._clock(), self._unwanted, self._stale
        self._unwanted, self._stale = set(), []
        pipe = client.pipeline(transaction=False)
        for name, value, expires in batch:
            pipe.set(name, value, px=None if expires >= FOREVER else _milliseconds(expires - now))
        if batch:
            pipe.zadd(self._index, {name: expires for name, _, expires in batch})
            longest = _milliseconds(max(expires for _, _, expires in batch) - now)
            pipe.pexpire(self._index, longest, nx=True)
            pipe.pexpire(self._index, longest, gt=True)
        for name in unwanted:
            pipe.execute_command("UNLINK", name)  # pipe.unlink() of a cluster is something else
        if unwanted or stale:
            pipe.zrem(self._index, *unwanted, *stale)
        pipe.zrange(self._index, "-inf", now, byscore=True, offset=0, num=STALE)
        *done, found = await pipe.execute(raise_on_error=False)
        self._stale = found if isinstance(found, list) else []
        for result in (*done, found):
            if isinstance(result, Exception) and not has_answered(result):
                raise result
        refusals = [result for result in (*done, found) if isinstance(result, ResponseError)]
        self.dropped += sum(isinstance(result, ResponseError) for result in done[: len(batch)])
        return refusals

    def _judge(self, refusals: list[ResponseError]) -> None:
        now = asyncio.get_running_loop().time()
        if refusals:
            if self._refused_at is None:
                self._note("store_writes_failed", reason=type(refusals[0]).__name__)
            self._refused_at = now
        elif self._refused_at is not None and now - self._refused_at > CALM_SECONDS:
            self._refused_at = None
            self._note("store_writes_resumed", lost=self.dropped)


def _size(entry: Entry) -> int:
    return len(entry.body) + len(entry.text)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
