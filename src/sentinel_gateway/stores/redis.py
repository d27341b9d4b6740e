"""The tier that nodes share: one Redis key an entry, forgotten by Redis itself some time after it has expired.

A look-up has 50 ms, and none at all while Redis is down; what is put is written in the background. The names of all keys stand in
a sorted set beside them, so counting them scans nothing.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from sentinel_gateway.core.browsing import Order, Page, Place, Selection, View
from sentinel_gateway.core.caching import Entry, Head, Selector, Tier
from sentinel_gateway.ports import Clock
from sentinel_gateway.stores._redis import Client, RedisLink
from sentinel_gateway.stores._redis_outbox import GRACE, Outbox, Packed
from sentinel_gateway.stores._redis_pages import LOOKED_AT, TEXT_BYTES, existing, heads_of, page
from sentinel_gateway.stores._redis_values import Values

PREFIX: Final = "sentinel:cache:1"
"""Seed 003's, and the version of what lies below it. Nothing outside of it is ever touched."""
VALUE_BYTES: Final = 4 << 20
"""Larger answers would not be here in time."""
SCANNED: Final = 256
WRONG_TYPE: Final = "WRONGTYPE"


class RedisStore:
    """A `ReplyStore` in Redis, over a link that is its maker's to close.

    What has expired is kept for `stale` seconds more: it may still serve if every target fails.
    Changes of state are told to `on_event`: store_entry_corrupt (once), and the outbox's. The link tells when Redis goes and
    comes.
    """

    tier: Final[Tier] = "redis"
    shared: Final = True
    orders: Final[frozenset[Order]] = frozenset({"expires"})

    def __init__(
        self, link: RedisLink, *, secret: bytes, clock: Clock, on_event: Callable[..., None], stale: float = 0.0
    ) -> None:
        self._link = link
        self._values = Values(secret)
        self._prefix = f"{PREFIX}:{self._values.owner}:".encode()
        self._index = f"{PREFIX}-index:{self._values.owner}".encode()
        self._clock = clock
        self._kept_on = GRACE + stale
        self._on_event = on_event
        self._outbox = Outbox(link, index=self._index, pack=self._pack, clock=clock, note=self._note)
        self._refused = 0
        self._put_meanwhile: list[set[bytes]] = []
        """For each clear under way, what was put since it began."""
        self._closed = False
        self.corrupt = 0
        """Values found that are not exactly what was written, each a miss."""

    def __repr__(self) -> str:
        return f"<RedisStore {self._link!r}, {len(self._outbox)} queued, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """Entries given and not written: too large, no room in the queue, or Redis was down or would not take them."""
        return self._refused + self._outbox.dropped

    async def get(self, key: str) -> Entry | None:
        """The entry as stored, expired or not. A value that can't be proven is a miss, counted, and removed."""
        name = self._name(key)
        value = await self._link.call(lambda client: _read(client, name))
        if value is None:
            return None
        entry = self._values.unpack(value, key)
        if entry is None:
            self.corrupt += 1
            if self.corrupt == 1:
                self._note("store_entry_corrupt")
            self._outbox.remove(name)
        return entry

    def put(self, entry: Entry) -> bool:
        """Written within milliseconds, and not found until then. Nothing waits for a Redis that is down."""
        if self._closed or len(entry.body) > VALUE_BYTES or self._link.is_down:
            self._refused += 1
            return False
        for names in self._put_meanwhile:
            names.add(self._name(entry.key))
        return self._outbox.take(entry) and self._link.works

    async def flush(self) -> None:
        """Returns once all that was put is written or lost."""
        await self._outbox.flush()

    async def clear(self, selector: Selector, now: float) -> int:
        """Looks at every key of ours, or at those that are named, a few at a time, so that Redis serves others meanwhile.

        What this node puts after the beginning stays. `StoreDown` if it was interrupted: some of it may be left.
        """
        spared: set[bytes] = set()
        self._put_meanwhile.append(spared)
        try:
            await self.flush()
            return await self._link.call_patiently(lambda client: self._clear_all(client, selector, now, spared))
        finally:
            self._put_meanwhile.remove(spared)

    async def page(self, view: View, now: float, *, after: Place | None, most: int) -> Page:
        """By expiry only. What Redis has forgotten with the whole index, for want of memory, is not among it."""
        asked = partial(page, index=self._index, view=view, now=now, after=after, most=most)
        return await self._link.call_patiently(asked)

    async def select(self, selector: Selector, now: float, *, sample: int) -> Selection:
        """Looks at what a clear looks at."""
        await self.flush()
        return await self._link.call_patiently(lambda client: self._select(client, selector, now, sample))

    async def count(self) -> int:
        """Entries kept; what Redis has evicted for want of memory is among them until it would have expired."""
        found: int = await self._link.call_patiently(lambda client: client.zcount(self._index, self._clock(), "+inf"))
        return found

    async def ping(self) -> None:
        """Not held back by earlier failures, and heals the link if it succeeds."""
        await self._link.check()

    async def close(self) -> None:
        """Write what was taken."""
        self._closed = True
        await self.flush()

    async def _clear_all(self, client: Client, selector: Selector, now: float, spared: set[bytes]) -> int:
        chosen = self._chosen(client, selector, now)
        return sum([await self._clear_some(client, names, spared) async for names in chosen])

    async def _select(self, client: Client, selector: Selector, now: float, sample: int) -> Selection:
        seen, heads = set[bytes](), list[Head]()
        async for names in self._chosen(client, selector, now):
            there = await existing(client, [name for name in names if name not in seen])  # a SCAN may tell one twice
            seen.update(there)
            if len(heads) < sample:
                found = await heads_of(client, there, at_least=TEXT_BYTES)
                heads += [head for head in found.values() if head is not None]
        return Selection(len(seen), tuple(heads[:sample]))

    async def _chosen(self, client: Client, selector: Selector, now: float) -> AsyncIterator[list[bytes]]:
        """The keys that a clear removes, some at a time."""
        names = list[bytes]()
        async for name in self._named(client, selector):
            names.append(name)
            if len(names) == LOOKED_AT:
                yield await _matching(client, names, selector, now)
                names = []
        yield await _matching(client, names, selector, now)

    async def _named(self, client: Client, selector: Selector) -> AsyncIterator[bytes]:
        if selector.keys is not None:
            for key in selector.keys:
                yield self._name(key)
            return
        async for name in client.scan_iter(match=self._prefix + b"*", count=SCANNED):
            yield name

    async def _clear_some(self, client: Client, names: list[bytes], spared: set[bytes]) -> int:
        chosen = [name for name in names if name not in spared]
        if not chosen:
            return 0
        pipe = client.pipeline(transaction=False)
        for name in chosen:
            pipe.execute_command("UNLINK", name)  # pipe.unlink() of a cluster is something else
        pipe.zrem(self._index, *chosen)
        *removed, _ = await pipe.execute()
        return sum(removed)

    def _name(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogatepass")

    def _pack(self, entry: Entry) -> Packed:
        return Packed(self._name(entry.key), self._values.pack(entry), entry.expires + self._kept_on)

    def _note(self, event: str, **fields: str | float) -> None:
        self._on_event(event, tier=self.tier, **fields)


async def _read(client: Client, name: bytes) -> bytes | None:
    """The value; what is no string at all is one that proves nothing."""
    try:
        value: Any = await client.get(name)
    except ResponseError as exc:
        if not str(exc).startswith(WRONG_TYPE):
            raise
        return b""
    return value if value is None or isinstance(value, bytes) else b""


async def _matching(client: Client, names: list[bytes], selector: Selector, now: float) -> list[bytes]:
    """The keys that the selector matches, and those whose values are none."""
    if selector.everything:
        return names
    heads = await heads_of(client, names)
    return [name for name, head in heads.items() if head is None or selector.matches(head, now)]
