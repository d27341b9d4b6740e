"""Redis with and without vector sets, there at the start or not: who keeps the questions, and what is said of it."""

import asyncio
import time
from contextlib import suppress

import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import ScopeView
from sentinel_gateway.stores._redis import open_link
from sentinel_gateway.vectors.shared import SharedIndex
from tests.contract.vectors.conftest import PatientLink, make_head, open_memory, open_redis, unit
from tests.fakes import FakeEvents
from tests.servers import REDIS7, REDIS8, RedisServer, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def events():
    return FakeEvents()


@pytest.fixture
async def open_node(clock, events, anyio_backend):
    """To be called with a server: the index of one more node, which asks it what it can."""
    opened, asking = [], []

    def open_one(server, link=None):
        shared = open_redis(clock, link or PatientLink(server.url))
        opened.append(SharedIndex(shared, open_memory(clock), events=events, pause=0.05))
        asking.append(asyncio.create_task(opened[-1].prepare()))
        return opened[-1]

    yield open_one
    for task in asking:
        task.cancel()
    for index in opened:
        await index.close()


def forbid(server):
    """As if it had no vector sets: no program can take them from a real server."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-vadd")


def allow(server):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "+vadd")


async def becomes(index, state):
    async with asyncio.timeout(60):
        while await index.status() != {"vectors": state}:
            with suppress(StoreDown):
                await index.view("scope", waiting=8)
            await asyncio.sleep(0.01)


async def visible(index, scope="scope"):
    """What waits in a scope, once anything does."""
    async with asyncio.timeout(60):
        while not (view := await index.view(scope, waiting=8)).waiting:  # noqa: ASYNC110 - another node does it
            await asyncio.sleep(0.01)
    return view.waiting


async def told(events, count):
    async with asyncio.timeout(60):
        while len(events.notes) < count:  # noqa: ASYNC110 - told by what runs beside
            await asyncio.sleep(0.01)
    return [name for name, _ in events.notes]


async def test_redis_8_is_shared_and_nothing_is_said(open_node, events, redis8):
    redis8.flush()
    one, other = open_node(redis8), open_node(redis8)
    await becomes(one, "up")
    await becomes(other, "up")
    one.add(make_head("a"))
    assert await visible(other) == (make_head("a"),)
    await other.attach([(make_head("a"), unit(1))])
    assert [near.head.key for near in await one.nearest("scope", unit(1), limit=1)] == ["a"]
    other.drop([make_head("a")])
    one.add(make_head("b"))
    assert await visible(other) == (make_head("b"),)
    assert await one.clear(Selector(), 0.0) >= 1
    assert await other.view("scope", waiting=8) == ScopeView(0, ())
    assert events.notes == []
    assert "RedisIndex" in repr(one)


@pytest.mark.parametrize("which", ["forbidden", "redis7"])
async def test_without_vector_sets_each_node_has_its_own_which_is_said_once(open_node, events, tmp_path, which, absent):
    """Debian's Redis 7, where it is installed; everywhere a Redis that refuses them."""
    binary = REDIS8 if which == "forbidden" else REDIS7 or absent("redis-server: make test-deps installs it")
    with RedisServer(binary, tmp_path) as server:
        if which == "forbidden":
            forbid(server)
        one, other = open_node(server), open_node(server)
        await told(events, 2)
        await asyncio.sleep(0.3)
        assert [name for name, _ in events.notes] == ["vectors_local"] * 2
        assert "takes Redis 8.2 or newer" in events.notes[0][1]["reason"]
        assert await one.status() == {"vectors": "local"}
        one.add(make_head("a"))
        await one.attach([(make_head("a"), unit(1))])
        assert [near.head.key for near in await one.nearest("scope", unit(1), limit=1)] == ["a"]
        assert await other.view("scope", waiting=8) == ScopeView(0, ())
        one.add(make_head("b"))
        one.drop([make_head("a")])
        assert await one.clear(Selector(), 0.0) == 1
        with server.client() as client:
            assert client.dbsize() == 0
        assert "MemoryIndex" in repr(one)


async def test_a_redis_that_comes_later_is_shared_with_what_was_added_meanwhile(open_node, events, tmp_path):
    """No start, and nothing lost; until then this node goes on by itself."""
    server = RedisServer(REDIS8, tmp_path, port=free_port())
    index = open_node(server)
    index.add(make_head("a"))
    assert await index.view("scope", waiting=8) == ScopeView(0, (make_head("a"),))
    await asyncio.sleep(0.3)
    assert await index.status() == {"vectors": "local"}
    with pytest.raises(StoreDown):
        await index.clear(Selector(tag="t"), 0.0)
    with server:
        await becomes(index, "up")
        assert await visible(index) == (make_head("a"),)
        assert await visible(open_node(server)) == (make_head("a"),)
    assert events.notes == []


async def test_a_redis_that_can_later_on_is_shared_from_then_on(open_node, events, tmp_path):
    """As one that was replaced by a newer one."""
    with RedisServer(REDIS8, tmp_path) as server:
        forbid(server)
        index = open_node(server)
        assert await told(events, 1) == ["vectors_local"]
        allow(server)
        assert await told(events, 2) == ["vectors_local", "vectors_shared"]
        assert await index.status() == {"vectors": "up"}


async def test_one_that_can_no_more_is_down(open_node, tmp_path):
    """As one that an older one has taken the place of."""
    with RedisServer(REDIS8, tmp_path) as server:
        index = open_node(server)
        await becomes(index, "up")
        forbid(server)
        assert await index.status() == {"vectors": "down"}
        allow(server)
        assert await index.status() == {"vectors": "up"}


async def test_a_lost_redis_is_down_and_not_replaced_by_memory(open_node, tmp_path):
    """Else a node would find what the others have cleared."""
    with RedisServer(REDIS8, tmp_path) as server:
        index = open_node(server, open_link(server.url, name="vectors", clock=time.monotonic, events=FakeEvents()))
        await becomes(index, "up")
    await becomes(index, "down")
    with pytest.raises(StoreDown):
        await index.view("scope", waiting=8)
