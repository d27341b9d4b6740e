"""The stores under test, all in the shape of a `ReplyStore`, and what was told of them."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import anyio
import msgspec
import pytest

from sentinel_gateway.core.browsing import Order, Page, Place, Selection, View, page_of
from sentinel_gateway.core.caching import Entry, Selector, Tier
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, ReplyStore
from sentinel_gateway.stores._redis import RedisLimits, RedisLink, open_link
from sentinel_gateway.stores.memory import MemoryStore
from sentinel_gateway.stores.redis import RedisStore
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore
from tests.servers import RedisCluster, RedisServer

NOW = 1_800_000_300.0
"""In the middle of a sweep's step, so that a second more or less is the same step."""
Servers = Callable[[str], RedisServer | RedisCluster]
PATIENT = SqliteLimits(deadline=5.0, short_deadline=5.0)
"""For tests that are about something else than deadlines, on machines that are busy."""


UNHURRIED = RedisLimits(place=5.0, call=5.0, connect=5.0, slow=5.0, patient=5.0)
"""As PATIENT."""


class MemoryReplies:
    """The memory tier behind the farther tiers' port."""

    tier: Tier = "memory"
    shared = False
    orders: frozenset[Order] = frozenset({"created", "expires"})

    def __init__(self) -> None:
        self._near = MemoryStore(max_entries=10_000, max_bytes=64 << 20)

    async def get(self, key: str) -> Entry | None:
        return self._near.get(key)

    def put(self, entry: Entry) -> bool:
        return self._near.put(entry)

    async def clear(self, selector: Selector, now: float) -> int:
        return self._near.clear(selector, now)

    async def count(self) -> int:
        return self._near.size()[0]

    async def page(self, view: View, now: float, *, after: Place | None, most: int) -> Page:
        return page_of(self._near.held(), view, now, after=after, most=most)

    async def select(self, selector: Selector, now: float, *, sample: int) -> Selection:
        found = [entry.head() for entry in self._near.held() if selector.matches(entry, now)]
        return Selection(len(found), tuple(found[:sample]))

    async def ping(self) -> None: ...
    async def flush(self) -> None: ...
    async def close(self) -> None: ...


class Told:
    """The events of a store, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str | float | bool | None]]] = []

    def __call__(self, event: str, **fields: str | float | bool | None) -> None:
        self.events.append((event, fields))

    note = __call__
    """So that it passes for an `Events`."""

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def fields(self, event: str) -> dict[str, str | float | bool | None]:
        return next(fields for name, fields in self.events if name == event)


def make_entry(key: str, **changes) -> Entry:
    """An entry that tells by its body whose it is."""
    entry = Entry(key=key, body=f'{{"answer":"{key!a}"}}'.encode(), model="openai/gpt", created=NOW, expires=NOW + 3600)
    return msgspec.structs.replace(entry, **changes)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that happens by itself."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on disk or in a thread
            await anyio.sleep(0.005)


async def open_sqlite(folder: Path, told: Callable[..., None], *, limits=PATIENT, clock=lambda: NOW) -> SqliteStore:
    return await SqliteStore.open(folder, limits=limits, clock=clock, on_event=told)


def answers_at_once(store: SqliteStore, key: str) -> bool:
    """Does a look-up end without waiting for anything? Then the disk was not asked."""
    look_up = store.get(key)
    try:
        look_up.send(None)
    except StopIteration:
        return True
    look_up.close()
    return False


async def knows_its_keys(store: SqliteStore) -> None:
    """Wait until it has read what its file holds."""
    strange = iter(range(10**6))
    await until(lambda: answers_at_once(store, f"strange-{next(strange)}"))


REDIS = ("redis7", "redis8", "redis_cluster")
ADAPTERS = ("memory", "sqlite", *REDIS)
SECRET = b"the same on all nodes, by chance"


class RedisReplies(RedisStore):
    """With a link of its own."""

    @classmethod
    async def open(
        cls,
        url: str,
        told: "Told",
        *,
        limits: RedisLimits,
        clock: Clock = lambda: NOW,
        secret: bytes = SECRET,
        stale: float = 0.0,
    ) -> Self:
        """Connected, if it can be."""
        link = open_link(url, name="test", clock=time.monotonic, events=told, limits=limits)
        with contextlib.suppress(StoreDown):
            await link.check()
        return cls(link, secret=secret, clock=clock, on_event=told, stale=stale)

    @property
    def link(self) -> RedisLink:
        return self._link

    async def close(self) -> None:
        await super().close()
        await self._link.close()


async def open_adapter(name: str, folder: Path, told: "Told", servers: Servers) -> ReplyStore:
    """`servers` are asked for only those that the adapter needs."""
    if name not in REDIS:
        return MemoryReplies() if name == "memory" else await open_sqlite(folder, told)
    server = servers(name)
    server.flush()
    return await open_working(server.url, told)


async def open_working(url: str, told: "Told") -> RedisReplies:
    """Before a sound Redis, which a busy machine may have found too late at first: then it is opened anew."""
    while not (store := await RedisReplies.open(url, told, limits=UNHURRIED)).link.works:
        await store.close()
        told.events.clear()
    return store


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(params=ADAPTERS)
async def store(request, tmp_path, told, anyio_backend) -> AsyncIterator[ReplyStore]:
    store = await open_adapter(request.param, tmp_path, told, request.getfixturevalue)
    yield store
    await store.close()


@pytest.fixture
async def sqlite(tmp_path, told, anyio_backend) -> AsyncIterator[SqliteStore]:
    store = await open_sqlite(tmp_path, told)
    yield store
    await store.close()


@pytest.fixture
def elapsed() -> Callable[[], float]:
    start = time.monotonic()
    return lambda: time.monotonic() - start
