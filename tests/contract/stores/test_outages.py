"""What every farther tier promises while what it stands on is frozen, gone or back: it says so, soon, and recovers by itself."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from sentinel_gateway.core.browsing import View
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import ReplyStore
from sentinel_gateway.stores._redis import RedisLimits
from sentinel_gateway.stores.sqlite import SqliteLimits
from tests.contract.stores.conftest import NOW, RedisReplies, make_entry, open_sqlite
from tests.contract.stores.test_disk_faults import another_process_holds
from tests.servers import REDIS7, REDIS8, RedisCluster, RedisServer

pytestmark = pytest.mark.anyio

SOON = 30.0
"""Seconds; the real bars are those of the long tests."""
DISK = SqliteLimits(deadline=0.2, short_deadline=0.3, long_deadline=1.0, pause=0.3)
REDIS = RedisLimits(place=0.3, call=0.3, connect=0.3, slow=0.3, pause=0.3, patient=0.5)
"""Which notice an outage, but not that the machine is busy."""


@dataclass
class Bench:
    """How to open a store, to break what it stands on, and to mend that. `keeps`: what was stored survives."""

    open: Callable[[], Awaitable[ReplyStore]]
    break_: Callable[[], object]
    mend: Callable[[], object]
    keeps: bool


def locked(file: Path) -> AbstractContextManager[None]:
    """By another process: the log where the file is open, else the file."""
    return another_process_holds(file, "log" if file.with_name("cache.db-shm").exists() else "file")


@pytest.fixture(
    params=["locked disk", *(f"{how} {kind}" for how in ("frozen", "stopped") for kind in ("redis7", "redis8", "cluster"))]
)
def bench(request, tmp_path, told, absent):
    how, kind = request.param.split()
    with ExitStack() as closing:
        if kind == "disk":
            lock = closing.enter_context(ExitStack())
            yield Bench(
                lambda: open_sqlite(tmp_path, told, limits=DISK),
                lambda: lock.enter_context(locked(tmp_path / "cache.db")),
                lock.close,
                keeps=True,
            )
            return
        if kind == "cluster":
            server = closing.enter_context(RedisCluster(REDIS8, tmp_path, patience=2.0))
            nodes = server.nodes
        else:
            binary = REDIS8 if kind == "redis8" else REDIS7 or absent("redis-server: make test-deps installs it")
            server = closing.enter_context(RedisServer(binary, tmp_path))
            nodes = [server]
        break_, mend = (RedisServer.freeze, RedisServer.thaw) if how == "frozen" else (RedisServer.stop, RedisServer.start)
        yield Bench(
            lambda: RedisReplies.open(server.url, told, limits=REDIS),
            lambda: [break_(node) for node in nodes],
            lambda: [mend(node) for node in nodes],
            keeps=how == "frozen",
        )


@asynccontextmanager
async def opened(bench) -> AsyncIterator[ReplyStore]:
    store = await bench.open()
    try:
        yield store
    finally:
        await store.close()


async def is_kept(store, key) -> bool:
    """Is what is put under this key found afterwards?"""
    try:
        promised = store.put(make_entry(key))
        await store.flush()
        return await store.get(key) is not None and promised
    except StoreDown:
        return False


async def finds(store, key) -> bool:
    try:
        return await store.get(key) is not None
    except StoreDown:
        return False


async def keeps_again(store) -> None:
    """It does what it is for, within a time."""
    with anyio.fail_after(SOON):
        attempt = 0
        while not await is_kept(store, f"again-{attempt}"):
            attempt += 1
            await anyio.sleep(0.05)


async def test_an_outage(bench, told):
    async with opened(bench) as store:
        await keeps_again(store)
        with anyio.fail_after(SOON):
            while not await is_kept(store, "before"):  # noqa: ASYNC110 - what it stands on may be late
                await anyio.sleep(0.05)
        bench.break_()
        looks = [lambda: store.get("before")] * 5
        admins = (
            lambda: store.page(View(order="expires"), NOW, after=None, most=1),
            lambda: store.select(Selector(), NOW, sample=1),
            lambda: store.clear(Selector(tag="none"), NOW),
        )
        for call in (*looks, store.count, store.ping, *admins):
            begun = time.monotonic()
            with pytest.raises(StoreDown):
                await call()
            assert time.monotonic() - begun < SOON
        for n in range(5):  # it has had time to notice: nothing is promised now
            assert not store.put(make_entry(f"lost-{n}"))
        bench.mend()
        await keeps_again(store)
        if bench.keeps:
            with anyio.fail_after(SOON):
                while not await finds(store, "before"):  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.05)


async def test_a_start_without_it(bench):
    async with opened(bench) as store:
        await keeps_again(store)
    bench.break_()
    begun = time.monotonic()
    async with opened(bench) as store:
        assert time.monotonic() - begun < SOON
        with pytest.raises(StoreDown):
            await store.get("again-0")
        bench.mend()
        await keeps_again(store)


async def test_an_end_without_it(bench):
    """What was taken is lost then; nobody waits for it for ever."""
    store = await bench.open()
    await keeps_again(store)
    bench.break_()
    for n in range(500):
        store.put(make_entry(f"lost-{n}"))
    begun = time.monotonic()
    await store.close()
    assert time.monotonic() - begun < SOON
    bench.mend()
