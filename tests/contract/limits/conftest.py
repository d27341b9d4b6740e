"""The stores of limits under test, and a real Redis for those that live there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from sentinel_gateway.core.budgets import CALM
from sentinel_gateway.ports import Events, LimitStore
from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.stores._redis_member import Member
from sentinel_gateway.stores._shared_accounts import SharedAccounts
from sentinel_gateway.stores.memory_limits import MemoryLimits
from sentinel_gateway.stores.redis_limits import LEASE_SECONDS, PREFIX, SharedLimits
from tests.fakes import FakeClock, FakeEvents
from tests.servers import RedisServer, free_port


@dataclass
class Bench:
    """A store, and how its time goes by: by hand where it has a clock of ours, else by waiting."""

    store: LimitStore
    clock: FakeClock | None = None

    async def wait(self, seconds: float) -> None:
        if self.clock is None:
            await asyncio.sleep(seconds)
        else:
            self.clock.now += seconds


OWNER = "0wner"
ADAPTERS = ("memory", "redis8", "redis7", "cluster", "apart")
"""Each `LimitStore`; `apart` is the one of all nodes whose Redis is away, where there is but one node."""


PATIENT = RedisLimits(call=5.0, connect=5.0, place=5.0, slow=5.0)
"""For tests that are about something else than deadlines, on machines that are busy."""


WATCHFUL = RedisLimits(call=0.5, connect=0.5, place=0.5, slow=0.5)
"""For tests of outages, which they notice, and no machine that is busy."""


@asynccontextmanager
async def open_shared(
    url: str,
    *,
    owner: str = OWNER,
    node: str = "node",
    replicas: int = 1,
    events: Events | None = None,
    lease: float = LEASE_SECONDS,
    deadlines: RedisLimits = PATIENT,
) -> AsyncIterator[SharedLimits]:
    """As a node has it, but for the deadlines of its link."""
    told = events or FakeEvents()
    link = open_link(url, name="limits", clock=time.monotonic, events=told, limits=deadlines)
    who = Member(owner, node)
    store = SharedLimits(link, member=who, replicas=replicas, accounts=SharedAccounts(time.monotonic), events=told, lease=lease)
    await store.open()
    yield store
    await store.close()
    await link.close()


def end_calm(server: RedisServer, nodes: float) -> None:
    """Budgets that `server` had lost are drawn upon again, once so many nodes have told it what they know; else after 15 s.

    That they would be after 15 s is seen from when it says that calm ends.
    """
    with server.client() as client:
        for key in client.keys(f"{PREFIX}:*:budget:*"):
            told = client.hgetall(key)
            seconds, micros = client.time()
            assert int(told.get(b"calm", 0)) <= 1000 * seconds + micros // 1000 + CALM
            if b"calm" in told and len(told.keys() - {b"calm", b"tight"}) >= nodes:
                client.hset(key, "calm", 0)


@pytest.fixture(params=ADAPTERS)
async def bench(request, anyio_backend) -> AsyncIterator[Bench]:
    """Every adapter; one with a server of its own joins by its name here."""
    if request.param == "memory":
        clock = FakeClock()
        yield Bench(MemoryLimits(clock=clock), clock)
        return
    if request.param == "apart":
        url = f"redis://127.0.0.1:{free_port()}"
    else:
        server = request.getfixturevalue(request.param if request.param != "cluster" else "redis_cluster")
        server.flush()
        url = server.url
    async with open_shared(url) as store:
        yield Bench(store)


@pytest.fixture
def redis_url(redis8) -> str:
    """A Redis of nobody's."""
    return redis8.url
