"""The disk tier of one machine: SQLite, read by one thread and written by another; it survives kill -9.

Nothing here waits for the disk: a look-up has a deadline, a put is queued, and a disk that does not answer is left alone for a
while. It is not even asked for a key that it surely lacks.
"""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from sentinel_gateway.core import browsing
from sentinel_gateway.core.breaker import Breaker
from sentinel_gateway.core.browsing import FOREVER, Order, Place, Selection, View
from sentinel_gateway.core.caching import Entry, Head, Selector, Tier
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock
from sentinel_gateway.stores._inbox import Inbox
from sentinel_gateway.stores._sealing import KeptVector
from sentinel_gateway.stores._sqlite_backlog import Backlog
from sentinel_gateway.stores._sqlite_file import CacheFile
from sentinel_gateway.stores._sqlite_limits import SqliteLimits
from sentinel_gateway.stores._sqlite_presence import Presence
from sentinel_gateway.stores._sqlite_reader import Lookup, Page, Reader
from sentinel_gateway.stores._sqlite_rows import AHEAD, hash_of
from sentinel_gateway.stores._sqlite_writer import Writer

if TYPE_CHECKING:
    from sentinel_gateway.stores._sqlite_pages import Part

__all__ = ["SqliteLimits", "SqliteStore"]

QUIET_SECONDS: Final = 60.0
"""A full queue is told of once in so long."""
NO_KEY: Final = ""


class SqliteStore:
    """A `ReplyStore` and `VectorArchive` on `cache.db` in a folder of this process alone. Made by `open`, to be closed.

    Changes of state are told to `on_event`, on the event loop: store_down and store_up (look-ups), store_writes_failed and
    store_writes_resumed, store_queue_full, store_file_lost, store_file_corrupt, store_entry_corrupt,
    store_clock_behind (so many entries are of the future), store_questions_unread (`heads` ended early).
    """

    tier: Final[Tier] = "disk"
    shared: Final = False
    orders: Final[frozenset[Order]] = frozenset({"created", "expires"})

    def __init__(self, folder: Path, *, limits: SqliteLimits, clock: Clock, on_event: Callable[..., None]) -> None:
        self._limits = limits
        self._clock = clock
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(self._loop)
        self._breaker = Breaker(failures=limits.failures, pause=limits.pause)
        self._backlog = Backlog(max_entries=limits.queue_entries, max_bytes=limits.queue_bytes)
        file = CacheFile(folder)
        self._path = file.path
        self._writer = Writer(file, backlog=self._backlog, limits=limits, clock=clock, inbox=self._inbox, note=self._note)
        self._reader = Reader(file.path, writer=self._writer, inbox=self._inbox, answered=self._answered, failed=self._failed)
        self._presence = Presence(self._writer, max_bytes=limits.max_bytes, pause=limits.pause)
        self._refused = 0
        self._quiet_until = 0.0
        self._closed = False

    @classmethod
    async def open(cls, folder: Path, *, limits: SqliteLimits, clock: Clock, on_event: Callable[..., None]) -> Self:
        """With or without the disk, which may come later. Raises ConfigurationError if a newer Sentinel wrote the file."""
        store = cls(folder, limits=limits, clock=clock, on_event=on_event)
        try:
            await store._request(store._writer.confirm, limits.short_deadline)
        except StoreDown:
            if store._writer.refusal is not None:
                await store.close()
                raise store._writer.refusal from None
        store._presence.refresh()
        return store

    @property
    def dropped(self) -> int:
        """Entries and vectors given and not written: too large, no room in the queue, or the disk would not take them."""
        return self._refused + self._writer.lost

    @property
    def corrupt(self) -> int:
        """Entries, questions and vectors found damaged, each a miss."""
        return self._writer.corrupt

    async def get(self, key: str) -> Entry | None:
        """The entry as stored, expired or not. What was surely never committed is None without asking the disk.

        None, too, if it says to have been made in the future: the clock is behind, or was ahead, and nobody knows how old it is.
        """
        hashed = hash_of(key)
        if self._breaker.is_open:
            if not self._breaker.allows(self._loop.time()):
                raise StoreDown("the disk does not answer and is left alone for a while")
        elif not self._closed and self._presence.lacks(hashed):
            return None
        entry = await self._look_up(key, hashed)
        if entry is not None and entry.created > self._clock() + AHEAD and entry.expires < FOREVER:
            return None
        return entry

    def put(self, entry: Entry) -> bool:
        """Committed within some 200 ms, and not found until then. False too if it waits for a disk that may not come back."""
        if len(entry.body) > self._limits.max_bytes:
            self._refused += 1
            return False
        if self._closed or not self._backlog.take(entry):
            self._refuse()
            return False
        return self._writer.works and not self._breaker.is_open

    def keep_vectors(self, vectors: Sequence[tuple[str, bytes]], *, model: str) -> None:
        """Committed as entries are, after those put before. One whose entry is not there by then is nobody's."""
        for key, vector in vectors:
            if self._closed or not self._backlog.take(KeptVector(key, model, vector)):
                self._refused += 1  # and not told: it only has to be made again

    async def heads(self, *, model: str) -> AsyncIterator[list[tuple[Head, bytes | None]]]:
        """Pages of at most 500; a look-up that waits cuts one short. What is put meanwhile may be among them."""
        row: int | None = 0
        while row is not None:
            ask = partial(self._reader.page, row, model=model, now=self._clock())
            try:
                page: Page | None = await self._ask(ask, self._limits.long_deadline)
            except StoreDown as exc:
                if not self._closed:
                    self._note("store_questions_unread", reason=str(exc))
                return
            if page is None:
                return
            row = page.last
            if page.heads:
                yield page.heads

    async def clear(self, selector: Selector, now: float) -> int:
        """Once it returns, no look-up finds what it removed. After StoreDown it will be carried out when the disk is back."""
        return await self._request(lambda future: self._writer.clear(selector, now, future), self._limits.long_deadline)

    async def page(self, view: View, now: float, *, after: Place | None, most: int) -> browsing.Page:
        """By expiry it is in order to within ten minutes. Ends early where look-ups wait."""
        ask = partial(self._reader.browse, view, now, after=after, most=most)
        found: browsing.Page | None = await self._ask(ask, self._limits.long_deadline)
        return found or browsing.Page(())

    async def select(self, selector: Selector, now: float, *, sample: int) -> Selection:
        """Those put before this call among them. A part at a time, with look-ups in between."""
        await self.count()
        count, heads, after = 0, list[Head](), None
        while True:
            ask = partial(self._reader.select, selector, now, after=after, sample=sample - len(heads))
            part: Part | None = await self._ask(ask, self._limits.long_deadline)
            if part is None:
                return Selection()
            count += part.selection.count
            heads += part.selection.sample
            after = part.next
            if after is None:
                return Selection(count, tuple(heads))

    async def count(self) -> int:
        """Entries stored, those put before this call among them."""
        return await self._request(self._writer.count, self._limits.short_deadline)

    async def flush(self) -> None:
        """Returns once all that was put is committed, proof against kill -9; StoreDown if some of it has been lost."""
        await self._request(self._writer.confirm, self._limits.long_deadline)

    async def ping(self) -> None:
        """Look up a key that nothing has. Not held back by earlier failures, and heals the store if it succeeds."""
        await self._look_up(NO_KEY, hash_of(NO_KEY))

    async def close(self) -> None:
        """Write what was taken, then release; a disk that hangs is left to its threads after the deadline."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(self._limits.long_deadline):
                self._reader.stop()  # first: the last connection to go must be the one that checkpoints
                await self._reader.ended.wait()
                self._writer.stop()
                await self._writer.ended.wait()
        except TimeoutError:
            self._writer.stop()
            self._note("store_close_failed", queued=len(self._backlog))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._writer.generation else "without its file"
        return f"<SqliteStore {self._path} {state}, {len(self._backlog)} queued, {self.dropped} dropped, {self._breaker!r}>"

    async def _look_up(self, key: str, hashed: int) -> Entry | None:
        entry: Entry | None = await self._ask(partial(self._reader.find, key, hashed), self._limits.deadline)
        return entry

    async def _ask(self, question: Callable[[], object], deadline: float) -> Any:
        if self._closed:
            raise StoreDown("the store is closed")
        lookup: Lookup = self._loop.create_future()
        timer = self._loop.call_later(deadline, self._expire, lookup, deadline)
        self._reader.ask(question, lookup)
        try:
            return await lookup
        finally:
            timer.cancel()

    async def _request(self, request: Callable[[Future[int]], None], deadline: float) -> int:
        if self._closed:
            raise StoreDown("the store is closed")
        future: Future[int] = self._loop.create_future()
        request(future)
        try:
            async with asyncio.timeout(deadline):
                await asyncio.wait([future], timeout=self._limits.short_deadline)
                if not future.done():
                    # A disk that is busy answers this, on a busy machine not at once; one that is frozen is not waited for.
                    await self._ask(partial(self._reader.find, NO_KEY, hash_of(NO_KEY)), self._limits.short_deadline)
                return await future
        except TimeoutError as exc:
            raise StoreDown(f"the disk did not do it within {deadline:g} s") from exc
        finally:
            future.cancel()  # what becomes of it later is told to nobody

    def _answered(self, lookup: Lookup, found: object) -> None:
        if lookup.done():  # too late, or nobody waits any more
            return
        if self._breaker.succeeded():
            self._note("store_up")
        lookup.set_result(found)

    def _failed(self, lookup: Lookup, reason: str) -> None:
        if lookup.done():
            return
        if self._breaker.failed(self._loop.time()):
            self._note("store_down", reason=reason)
        lookup.set_exception(StoreDown(reason))

    def _expire(self, lookup: Lookup, deadline: float) -> None:
        self._inbox.drain()  # when it was the loop that was late, the answer is already here
        self._failed(lookup, f"no answer within {deadline:g} s")

    def _refuse(self) -> None:
        self._refused += 1
        now = self._loop.time()
        if not self._closed and now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            self._note("store_queue_full", queued=len(self._backlog))

    def _note(self, event: str, **fields: str | float) -> None:
        self._on_event(event, tier=self.tier, **fields)
