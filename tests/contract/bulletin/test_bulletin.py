"""What nodes tell each other: in order, soon, and never half of it without knowing."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress

import msgspec
import pytest

from sentinel_gateway.core.bulletin import CacheCleared, CircuitTurned, KeysChanged, Notice, SimilarCleared
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.stores._redis_member import Member
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from sentinel_gateway.stores.redis_bulletin import KEPT, STREAM, RedisBulletin
from tests.fakes import FakeEvents
from tests.faults.proxy import Fault, FaultProxy
from tests.gateway import until
from tests.servers import REDIS8, RedisServer

pytestmark = pytest.mark.anyio

OWNER = "0wner"
ENTRIES = f"{STREAM}:{OWNER}"
SOON = 5.0
RECOVERY = 15.0
PATIENT = RedisLimits(call=5.0, connect=5.0, place=5.0, slow=5.0)
"""For tests that are about something else than outages."""
WATCHFUL = RedisLimits(call=0.5, connect=0.5, place=0.5, slow=0.5)
"""Which notice an outage, but not that the machine is busy."""
NOTICES = [
    CacheCleared(Selector()),
    CacheCleared(Selector(tenant="a", namespace="", model="p/m", tag="t", writer="key_1", older_than=1.5)),
    CacheCleared(Selector(keys=frozenset({"k", "\u00e4\n{}*"}))),
    SimilarCleared(Selector(tenant="a"), "model", bytes(range(256)), 0.95),
    KeysChanged(),
    CircuitTurned("a/b\u00e4", opened=True),
]


class Node:
    """One reader. `missed` is how often it may have missed something; the first time is the beginning."""

    def __init__(self, bulletin, told):
        self.bulletin = bulletin
        self.told = told
        self.heard: list[Notice] = []
        self.missed = 0
        self.fails = 0

    async def tell(self, notice):
        """Again, where Redis was late, as it may be on a busy machine."""
        for _ in range(100):
            with suppress(StoreDown):
                return await self.bulletin.publish(notice)
            await asyncio.sleep(0.1)
        raise AssertionError("Redis is always late")

    def hear(self, notice):
        self.fail()
        self.heard.append(notice)

    def miss(self):
        self.missed += 1
        self.fail()

    def fail(self):
        if self.fails:
            self.fails -= 1
            raise ZeroDivisionError

    @property
    def events(self):
        return [name for name, _ in self.told.notes]


@pytest.fixture
def server(tmp_path):
    """One to be broken."""
    with RedisServer(REDIS8, tmp_path) as server:
        yield server


@pytest.fixture
async def join(anyio_backend):
    """join(server or URL) is a node that reads from now on."""
    async with AsyncExitStack() as closing:
        joined = []

        async def join(server, *, waits=True, owner=OWNER, limits=PATIENT):
            told = FakeEvents()
            link = open_link(getattr(server, "url", server), name="bulletin", clock=time.monotonic, events=told, limits=limits)
            bulletin = RedisBulletin(link, member=Member(owner, f"node-{len(joined)}"), events=told)
            closing.push_async_callback(link.close)
            closing.push_async_callback(bulletin.close)
            node = Node(bulletin, told)
            joined.append(node)
            await bulletin.follow(node.hear, node.miss)
            if waits:
                await until(lambda: node.missed == 1)
            return node

        yield join


@pytest.mark.parametrize("kind", ["redis7", "redis8", "redis_cluster"])
async def test_all_others_hear_it_once_in_order_and_soon(request, join, kind):
    server = request.getfixturevalue(kind)
    server.flush()
    nodes = [await join(server) for _ in range(3)]
    for notice in NOTICES:
        begun = time.monotonic()
        await nodes[0].tell(notice)
        await until(lambda notice=notice: all(node.heard[-1:] == [notice] for node in nodes[1:]))
        assert time.monotonic() - begun < SOON
    assert [node.heard for node in nodes] == [[], NOTICES, NOTICES]
    assert [node.missed for node in nodes] == [1, 1, 1]
    assert [node.events for node in nodes] == [[], [], []]


async def test_two_who_speak_at_once_are_heard_by_all_in_one_order(redis8, join):
    redis8.flush()
    nodes = [await join(redis8) for _ in range(3)]
    told = [CacheCleared(Selector(tag=str(number))) for number in range(40)]
    await asyncio.gather(*(nodes[number % 2].tell(notice) for number, notice in enumerate(told)))
    await until(lambda: [len(node.heard) for node in nodes] == [20, 20, 40])
    everything = nodes[2].heard
    assert sorted(notice.selector.tag for notice in everything) == sorted(notice.selector.tag for notice in told)
    for node, other in ((nodes[0], 1), (nodes[1], 0)):
        own = {str(number) for number in range(40) if number % 2 != other}
        assert node.heard == [notice for notice in everything if notice.selector.tag not in own]


async def test_another_gateway_on_the_same_redis_is_not_heard(redis8, join):
    redis8.flush()
    ours, theirs = await join(redis8), await join(redis8, owner="another")
    await theirs.tell(CacheCleared(Selector()))
    await ours.tell(KeysChanged())
    last = await join(redis8)
    await ours.tell(KeysChanged())
    await until(lambda: last.heard)
    assert ours.heard == theirs.heard == []


async def test_who_joins_late_hears_nothing_old(redis8, join):
    redis8.flush()
    early = await join(redis8)
    await early.tell(KeysChanged())
    late = await join(redis8)
    await early.tell(CacheCleared(Selector()))
    await until(lambda: late.heard)
    assert late.heard == [CacheCleared(Selector())]


async def test_a_connection_that_was_lost_loses_nothing(server, join):
    """It reads on where it stopped."""
    async with FaultProxy(server.port) as proxy:
        near, far = await join(server), await join(f"redis://127.0.0.1:{proxy.port}", limits=WATCHFUL)
        await proxy.reset()
        await proxy.refuse()
        await until(lambda: far.events == ["redis_down"])
        await near.tell(KeysChanged())
        await proxy.accept()
        begun = time.monotonic()
        await until(lambda: far.heard)
        assert time.monotonic() - begun < RECOVERY
        assert proxy.did["reset"]
        await until(lambda: far.events == ["redis_down", "redis_up"])
    assert far.heard == [KeysChanged()]
    assert far.missed == 1


@pytest.mark.parametrize("freeze", [True, False])
async def test_a_server_that_goes_and_comes_back(server, join, freeze):
    """One that was frozen has lost nothing; one that begins anew has."""
    nodes = [await join(server, limits=WATCHFUL) for _ in range(2)]
    server.freeze() if freeze else server.stop()
    with pytest.raises(StoreDown):
        await nodes[0].bulletin.publish(KeysChanged())
    await until(lambda: all(node.events == ["redis_down"] for node in nodes))
    server.thaw() if freeze else server.start()
    begun = time.monotonic()
    await nodes[0].tell(CacheCleared(Selector()))
    await until(lambda: CacheCleared(Selector()) in nodes[1].heard or nodes[1].missed == 2)
    assert time.monotonic() - begun < RECOVERY
    assert [node.missed for node in nodes] == ([1, 1] if freeze else [2, 2])
    expected = {"redis_down", "redis_up"} | (set() if freeze else {"bulletin_missed"})
    await until(lambda: all(set(node.events) == expected for node in nodes))


async def test_a_server_that_is_not_there_yet(tmp_path, join):
    server = RedisServer(REDIS8, tmp_path)
    node = await join(server, waits=False, limits=WATCHFUL)
    await until(lambda: node.events == ["redis_down"])
    assert node.missed == 0
    with server:
        await until(lambda: node.missed == 1)
        await until(lambda: node.events == ["redis_down", "redis_up"])


async def test_a_stream_that_was_emptied_is_noticed(redis8, join):
    redis8.flush()
    node = await join(redis8)
    redis8.flush()
    await until(lambda: node.missed == 2)
    assert node.events == ["bulletin_missed"]


async def test_a_reader_that_falls_behind_the_end_of_the_stream_knows_that(redis8, join):
    redis8.flush()
    node = await join(redis8)
    with redis8.client() as client:
        for number in range(3 * KEPT):
            body = msgspec.json.encode(CacheCleared(Selector(tag=str(number))))
            client.xadd(ENTRIES, {"node": "other", "kind": "cache-cleared", "notice": body}, maxlen=KEPT)
        assert client.xlen(ENTRIES) < 2 * KEPT
    await until(lambda: node.missed == 2)
    assert "bulletin_missed" in node.events
    assert len(node.heard) < 3 * KEPT


@pytest.mark.parametrize(
    ("fields", "missed"),
    [
        ({"node": "x", "kind": "of-a-later-version", "notice": "{}"}, 1),
        ({"node": "x", "kind": "cache-cleared", "notice": "{"}, 2),
        ({"node": "x", "kind": "cache-cleared", "notice": '{"type": "cache-cleared", "selector": {"keys": 7}}'}, 2),
        ({"node": "x", "kind": "cache-cleared", "notice": '{"type": "cache-cleared", "selector": {"later": 7}}'}, 1),
        ({"node": "x", "kind": b"\xff\xfe", "notice": "{}"}, 1),
        ({"kind": "cache-cleared"}, 2),
        ({"": ""}, 1),
    ],
    ids=str,
)
async def test_what_cannot_be_understood(redis8, join, fields, missed):
    """A kind that is not known is passed over; a known one that makes no sense may have been any."""
    redis8.flush()
    node, other = await join(redis8), await join(redis8)
    with redis8.client() as client:
        client.xadd(ENTRIES, fields)
    await other.tell(KeysChanged())
    await until(lambda: KeysChanged() in node.heard)
    assert node.missed == missed


async def test_a_reader_that_failed_begins_anew(redis8, join):
    """Whatever it was; and if it goes on, that is told."""
    redis8.flush()
    node, other = await join(redis8), await join(redis8)
    node.fails = 4
    await other.tell(KeysChanged())
    await until(lambda: node.events == ["bulletin_down", "bulletin_up"])
    assert node.missed == 5
    await other.tell(KeysChanged())
    await until(lambda: node.heard == [KeysChanged()])


async def test_garbage_is_no_notice(server, join):
    async with FaultProxy(server.port) as proxy:
        near, far = await join(server), await join(f"redis://127.0.0.1:{proxy.port}", limits=WATCHFUL)
        proxy.answers.fault = Fault(garbage=1.0)
        await near.tell(KeysChanged())
        await until(lambda: "redis_down" in far.events)
        assert proxy.did["garbled"]
        proxy.answers.fault = Fault()
        await proxy.reset()
        await until(lambda: KeysChanged() in far.heard or far.missed == 2)
        await near.tell(CacheCleared(Selector()))
        await until(lambda: CacheCleared(Selector()) in far.heard)
    assert set(far.heard) <= {KeysChanged(), CacheCleared(Selector())}


async def test_a_node_alone_tells_nobody():
    node = Node(LoneBulletin(), FakeEvents())
    await node.tell(KeysChanged())
    await node.bulletin.close()
    assert (node.heard, node.missed) == ([], 0)
