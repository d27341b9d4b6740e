"""Limits of several nodes, and what is left of them while Redis is away, slow, full, or was emptied."""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from itertools import count

import msgspec
import pytest

from sentinel_gateway.core.limits import UNIT, charge
from sentinel_gateway.stores._redis import USUAL, open_link
from sentinel_gateway.stores._redis_member import Member
from sentinel_gateway.stores._shared_accounts import SharedAccounts
from sentinel_gateway.stores.redis_limits import BEAT_SECONDS, FEW, LEASE_SECONDS, PREFIX, SharedLimits
from tests.contract.limits.conftest import OWNER, PATIENT, WATCHFUL, open_shared
from tests.contract.limits.test_budget_race import budget
from tests.contract.limits.test_limit_store import FAST, SLOW, admitted, places, requests, tokens
from tests.fakes import FakeEvents, turns
from tests.faults.proxy import Fault, FaultProxy
from tests.gateway import until
from tests.servers import REDIS8, RedisServer, mad_server

pytestmark = pytest.mark.anyio

RECOVERY = 15.0
PLACES = f"{PREFIX}:{OWNER}:{{t}}:concurrency"
PATIENCE = 5.0
"""Seconds. A take has 150 ms at most, on a machine that is not as busy as one that runs tests."""


@pytest.fixture
def server(tmp_path):
    """One to be broken."""
    with RedisServer(REDIS8, tmp_path) as server:
        yield server


@pytest.fixture
async def node(anyio_backend):
    """await node(server or URL, **how) is a store as one more node has it; closed at the end."""
    async with AsyncExitStack() as closing:
        names = map("node-{}".format, count())

        async def node(server, **how):
            return await closing.enter_async_context(open_shared(getattr(server, "url", server), node=next(names), **how))

        yield node


@pytest.fixture
def told():
    return FakeEvents()


def names(told):
    return [name for name, _ in told.notes]


async def meet(*nodes):
    """Until each has heard of the others."""
    await until(lambda: all(one.nodes >= len(nodes) for one in nodes))


async def is_apart(store, *, of=None):
    """Until it knows that Redis is away."""
    while "apart" not in repr(store):
        await store.take([requests(amount=0)])
        await asyncio.sleep(0.02)
    assert of is None or f"1/{of} of each limit" in repr(store)


def is_together(store):
    return "apart" not in repr(store)


async def test_a_node_that_starts_knows_what_is_left_though_redis_was_not_to_be_reached_while_it_was_busy(server, told):
    """What it knows of the others it has from nobody else: a call that fails before would make it doubt for 15 s."""
    async with FaultProxy(server.port) as proxy:
        await proxy.refuse()
        link = open_link(f"redis://127.0.0.1:{proxy.port}", name="limits", clock=time.monotonic, events=told, limits=PATIENT)
        accounts = SharedAccounts(time.monotonic)
        store = SharedLimits(link, member=Member(OWNER, "late"), replicas=1, accounts=accounts, events=told)
        await asyncio.sleep(0.2)  # in which it loads what it needs
        await proxy.accept()
        await store.open()
        assert (await store.take((), budget())).refused is None
        assert names(told) == []
        await store.close()
        await link.close()


@pytest.mark.parametrize("how", ["refused", "vanished", "silent"])
async def test_a_node_that_starts_while_redis_is_away_does_not_wait_for_it(server, node, how):
    async with FaultProxy(server.port) as proxy:
        if how == "silent":
            proxy.requests.fault = Fault(freeze=True)
        else:
            await proxy.refuse() if how == "refused" else await proxy.blackhole()
        begun = time.monotonic()
        store = await node(f"redis://127.0.0.1:{proxy.port}", deadlines=USUAL)
        assert time.monotonic() - begun < PATIENCE
        assert how != "silent" or proxy.did["frozen"]
    assert not is_together(store)
    assert (await store.take((), budget())).refused is not None, "nobody can say how much is left"


class Crowd:
    """Asks all the time, at all nodes; counts what is let through, and how long the longest take lasted."""

    def __init__(self, nodes, limit):
        self.charge = requests(limit, max(1, limit // 500))
        self.admitted, self.asked, self.longest = 0, 0, 0.0
        self.begun = time.monotonic()
        self.askers = [asyncio.create_task(self.ask(node)) for node in nodes for _ in range(2)]

    async def ask(self, node):
        while True:
            begun = time.monotonic()
            taken = await admitted(node, self.charge)
            self.longest = max(self.longest, time.monotonic() - begun)
            self.admitted += self.charge.amount if taken else 0
            self.asked += self.charge.amount
            await asyncio.sleep(0 if taken else 0.005)

    @property
    def allowed(self):
        """What one bucket gives in this time."""
        return self.charge.limit * (1 + (time.monotonic() - self.begun) / 60)

    async def stop(self):
        for asker in self.askers:
            asker.cancel()
        await asyncio.gather(*self.askers, return_exceptions=True)


# --- together ---


@pytest.mark.parametrize("limit", [10, 100, 1000, 10_000])
async def test_two_nodes_let_through_what_one_limit_allows(redis8, node, limit):
    """L8: bursts at 10 to 10,000 a minute, within 1 % or 1; less only by what comes back while a busy machine stands still."""
    redis8.flush()
    crowd = Crowd([await node(redis8, replicas=2), await node(redis8, replicas=2)], limit)
    await asyncio.sleep(3)
    await until(lambda: crowd.asked > crowd.admitted)
    second = limit / 60
    await until(lambda: crowd.admitted >= 0.99 * crowd.allowed - 1 - second)
    allowed = crowd.allowed
    await crowd.stop()
    assert 0 < crowd.admitted <= allowed + max(1.0, 0.01 * allowed) + 0.05 * second


async def test_another_gateway_on_the_same_redis_has_limits_of_its_own(redis8, node):
    redis8.flush()
    ours, theirs = await node(redis8), await node(redis8, owner="another")
    assert await admitted(ours, requests(1), places(1))
    assert not await admitted(ours, requests(1))
    assert await admitted(theirs, requests(1), places(1))
    await asyncio.sleep(1.5)
    assert (ours.nodes, theirs.nodes) == (1, 1)


async def test_places_are_shared_and_those_of_a_node_that_died_come_back(redis8, node):
    redis8.flush()
    one, other = await node(redis8), await node(redis8)
    assert await admitted(one, places())
    assert await admitted(other, places())
    assert not await admitted(one, places())
    one._tending.cancel()  # noqa: SLF001 - as kill -9 does
    assert not await admitted(other, places())
    grow_older(redis8, "node-0", LEASE_SECONDS)
    assert await admitted(other, places())
    assert not await admitted(other, places())


async def test_a_stream_that_is_longer_than_the_lease_keeps_its_place(redis8, node):
    """However often most of the lease is over: whoever holds the place says so in time."""
    redis8.flush()
    one, other = await node(redis8, lease=60.0), await node(redis8)
    assert await admitted(one, places(1))
    for _ in range(3):
        grow_older(redis8, "node-0", 30.0)
        one._renewed -= 30.0  # noqa: SLF001 - by its own clock, too
        await until(lambda: left_of(redis8, "node-0") > 45.0)
        assert not await admitted(other, places(1))
    await one.settle([places(1, -1)])
    assert await admitted(other, places(1))


def grow_older(server, node, seconds):
    """As if so long had gone by for the places of this node."""
    with server.client() as client:
        held = client.zrange(PLACES, 0, -1, withscores=True)
        client.zadd(PLACES, {name: end - 1000 * seconds for name, end in held if name.startswith(f"{node}:".encode())})


def left_of(server, node):
    """Seconds until the one place of this node lapses."""
    with server.client() as client:
        seconds, micros = client.time()
        [(_, end)] = [held for held in client.zrange(PLACES, 0, -1, withscores=True) if held[0].startswith(f"{node}:".encode())]
    return end / 1000 - seconds - micros / 1e6


async def test_places_of_several_limits_go_back_where_they_came_from(redis8, node):
    """The key's and the tenant's, where two keys are under way at a time."""
    redis8.flush()
    one = await node(redis8)

    def of(key, amount):
        return [charge(f"{{t}}:c:{name}", "concurrency", "key", limit=9, amount=amount) for name in (key, "tenant")]

    for key in ("a", "b", "a"):
        assert await admitted(one, *of(key, 1))
    await one.settle(of("a", -1))
    verdict = await one.take([*of("a", 0), *of("b", 0)[:1]])
    assert list(verdict.spent) == [UNIT, 2 * UNIT, UNIT]
    await one.settle(of("b", -1))
    await one.settle(of("a", -1))
    with redis8.client() as client:
        assert client.keys("*:c:*") == []


@pytest.mark.parametrize("kind", ["redis7", "redis8", "redis_cluster"])
async def test_a_server_that_has_lost_the_script_is_given_it(request, node, kind):
    server = request.getfixturevalue(kind)
    server.flush()
    store = await node(server)
    assert await admitted(store, requests(2))
    for member in getattr(server, "nodes", [server]):
        with member.client() as client:
            client.script_flush()
    assert [await admitted(store, requests(2)) for _ in range(2)] == [True, False]


async def test_all_keys_are_ours_and_end_by_themselves(redis8, node):
    redis8.flush()
    store = await node(redis8)
    await until(lambda: redis8_keys(redis8) >= {f"sentinel:nodes:1:{OWNER}".encode()})
    await store.take([requests(60), tokens(60, 30), places()])
    with redis8.client() as client:
        keys = client.keys()
        assert len(keys) == 4
        assert all(key.startswith(b"sentinel:") and client.pttl(key) > 0 for key in keys)


def limits_in(server):
    return {key for key in redis8_keys(server) if key.startswith(b"sentinel:limit:")}


def redis8_keys(server):
    with server.client() as client:
        return set(client.keys())


async def test_a_take_that_is_cancelled_has_taken_nothing(server, node):
    store = await node(server)
    assert await admitted(store, requests(60, 10), places())
    async with FaultProxy(server.port) as proxy:
        slow = await node(f"redis://127.0.0.1:{proxy.port}")
        assert await admitted(slow, requests(60, 1))
        proxy.answers.fault = Fault(delay=0.004)
        for wait in (0.0, 0.001, 0.002, 0.003):
            taking = asyncio.create_task(slow.take([requests(60, 20), places(4)]))
            await asyncio.sleep(wait)
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking
                await slow.settle([requests(60, -20), places(4, -1)])  # on a machine that is busy it has ended before
        await until(lambda: not slow._beside)  # noqa: SLF001 - what is given back late is given back beside
        assert proxy.did["delayed"] >= 4
    verdict = await store.take([requests(60, 0), places(4, 0)])
    assert verdict.spent[0] <= 11 * UNIT
    assert verdict.spent[1] == UNIT


# --- heart beats ---


async def test_nodes_know_how_many_they_are(redis8, node):
    redis8.flush()
    nodes = [await node(redis8) for _ in range(3)]
    await meet(*nodes)
    assert [one.nodes for one in nodes] == [3, 3, 3]
    await nodes[2].close()
    await until(lambda: nodes[0].nodes == 2)
    assert (await node(redis8, replicas=5)).nodes == 5


# --- apart ---


async def test_without_redis_each_node_has_its_share(node, tmp_path, told):
    """From the very start: nobody waits for a server that is not there."""
    absent = RedisServer(REDIS8, tmp_path)
    one, other = [await node(absent, replicas=2, events=told) for _ in range(2)]
    begun = time.monotonic()
    taken = [[await admitted(store, requests(10)) for _ in range(10)] for store in (one, other)]
    assert time.monotonic() - begun < 2 * PATIENCE
    assert [sum(of_one) for of_one in taken] == [5, 5]
    await until(lambda: names(told).count("limits_apart") == 2)
    await asyncio.sleep(2.5)
    assert sorted(names(told)) == ["limits_apart", "limits_apart", "redis_down", "redis_down"]
    assert one.nodes == 2


@pytest.mark.parametrize("freeze", [True, False], ids=["frozen", "killed"])
async def test_an_outage_neither_gives_a_limit_back_nor_takes_it_away(server, node, told, freeze):
    """L8, all along: full before, two halves meanwhile, one again afterwards; Redis comes back without its data, or with."""
    limit = 1200
    nodes = [await node(server, replicas=2, events=told, deadlines=WATCHFUL) for _ in range(2)]
    crowd = Crowd(nodes, limit)
    await until(lambda: crowd.admitted >= limit)
    server.freeze() if freeze else server.stop()
    before = crowd.admitted
    await asyncio.gather(*map(is_apart, nodes))
    await asyncio.sleep(2)
    meanwhile = crowd.admitted - before
    server.thaw() if freeze else server.start()
    begun = time.monotonic()
    await until(lambda: all(map(is_together, nodes)))
    assert time.monotonic() - begun < RECOVERY
    await asyncio.sleep(2)
    await until(lambda: crowd.admitted >= 0.992 * crowd.allowed)  # what came back while a busy machine stood still is there
    allowed = crowd.allowed
    await crowd.stop()
    assert meanwhile >= limit / 60
    assert crowd.longest < PATIENCE
    assert crowd.admitted == pytest.approx(allowed, rel=0.01, abs=2)
    assert set(names(told)) == {"redis_down", "limits_apart", "redis_up", "limits_together"}
    assert len(names(told)) <= 2 * 10  # two of each where the machine is not too busy to follow


LOSSES = {"emptied": ["FLUSHALL"], "dropped": ["DEL", f"sentinel:limit:1:{OWNER}:{{t}}:requests"]}


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_limit_that_was_spent_is_spent_though_redis_has_lost_it(redis8, node, loss):
    """Without any failure, and at once: nobody has to find out first that Redis was emptied, or has dropped the bucket."""
    redis8.flush()
    one, other = await node(redis8), await node(redis8)
    with redis8.client() as client:
        assert await admitted(one, requests(SLOW))
        assert await admitted(other, requests(SLOW))
        assert not await admitted(one, requests(SLOW))
        for turn in (one, other, one):
            client.execute_command(*LOSSES[loss])
            assert not await admitted(turn, requests(SLOW))


async def test_who_knew_less_of_a_bucket_that_was_lost_does_not_make_the_others_forget(redis8, node):
    redis8.flush()
    one, other = await node(redis8), await node(redis8)
    assert await admitted(other, requests(10))
    assert await admitted(one, requests(10, 9))
    redis8.flush()
    assert await admitted(other, requests(10))
    assert not await admitted(one, requests(10))
    assert not await admitted(other, requests(10))


async def test_what_others_have_given_back_is_back(redis8, node):
    """What a node has seen before that is nothing that Redis has lost."""
    redis8.flush()
    one, other = await node(redis8), await node(redis8)
    assert await admitted(one, requests(10, 9))
    assert not await admitted(other, requests(10, 8))
    await one.settle([requests(10, -9)])
    assert await admitted(other, requests(10, 8))


async def test_a_node_that_has_not_asked_is_told_within_a_beat_what_redis_has_lost(redis8, node):
    redis8.flush()
    one, other = await node(redis8), await node(redis8)
    assert await admitted(one, requests(SLOW, SLOW), places(1))
    await meet(one, other)
    kept = limits_in(redis8)
    redis8.flush()
    begun = time.monotonic()
    await until(lambda: limits_in(redis8) == kept)
    assert time.monotonic() - begun < 10 * BEAT_SECONDS
    assert not await admitted(other, requests(SLOW))
    assert not await admitted(other, places(1))


async def test_births_are_kept_of_buckets_that_are_in_use(redis8, node):
    redis8.flush()
    store = await node(redis8)
    await store.take([requests(1, name="mine")])
    for number in range(2 * FEW):
        await store.take([requests(60_000, name=number)])
    assert len(store._born) <= FEW + 1  # noqa: SLF001 - it must not grow
    assert not await admitted(store, requests(1, name="mine"))


async def test_places_in_flight_are_kept_through_an_outage(server, node):
    """Those that were taken before count among a node's share, and those that were taken meanwhile are known afterwards."""
    store, other = await node(server, replicas=2), await node(server, replicas=2)
    assert [await admitted(store, places(6)) for _ in range(2)] == [True, True]
    server.stop()
    await asyncio.gather(is_apart(store), is_apart(other))
    assert [await admitted(store, places(6)) for _ in range(2)] == [True, False]
    await store.settle([places(6, -1)])
    assert [await admitted(store, places(6)) for _ in range(2)] == [True, False]
    server.start()
    await until(lambda: is_together(store) and is_together(other))
    assert (await other.take([places(6, 0)])).spent[0] == 3 * UNIT
    for _ in range(3):
        await store.settle([places(6, -1)])
    assert (await other.take([places(6, 0)])).spent[0] == 0


async def test_a_place_that_could_not_be_given_back_goes_back_later(server, node):
    store, other = await node(server, deadlines=WATCHFUL), await node(server, deadlines=WATCHFUL)
    assert await admitted(store, places(1))
    server.freeze()
    await asyncio.gather(is_apart(store), is_apart(other))
    await store.settle([places(1, -1)])
    server.thaw()
    await until(lambda: is_together(store) and is_together(other))
    assert await admitted(other, places(1))


async def test_who_closes_gives_back_what_could_not_be_given_back_before(redis8, node):
    """As where too many asked at once, and a node stops: the others would wait for its lease to end."""
    redis8.flush()
    other = await node(redis8)
    async with open_shared(redis8.url, deadlines=msgspec.structs.replace(PATIENT, connections=1, place=0.3)) as store:
        assert await admitted(store, places())
        release = asyncio.Event()
        busy = asyncio.create_task(store._link.call(lambda _: release.wait()))  # noqa: SLF001 - its only connection
        await turns()
        await store.settle([places(amount=-1)])
        assert (await other.take([places(amount=0)])).spent == [UNIT]
        release.set()
        await busy
    assert (await other.take([places(amount=0)])).spent == [0]


async def test_tokens_are_put_right_during_an_outage(server, node):
    store = await node(server, replicas=2)
    begun = time.monotonic()
    await store.take([tokens(1000, 100)])
    server.stop()
    await is_apart(store, of=2)
    await store.settle([tokens(1000, 50)])

    def came_back():
        return (time.monotonic() - begun) * 1000 / 60

    left = (await store.take([tokens(1000, 0)])).standings()[1].remaining
    assert 800 <= left <= 801 + came_back()  # 100, and twice 50, less what came back meanwhile
    server.start()
    await until(lambda: is_together(store))
    assert 800 <= (await store.take([tokens(1000, 0)])).standings()[1].remaining <= 801 + came_back()


async def test_a_server_that_refuses_to_write_is_gone_on_without(server, node, told):
    store = await node(server, replicas=2, events=told)
    assert await admitted(store, requests(10))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        taken = [await admitted(store, requests(10)) for _ in range(10)]
        assert 4 <= sum(taken) <= 5
        await until(lambda: "limits_apart" in names(told))
        client.config_set("maxmemory", 0)
    await until(lambda: is_together(store))
    assert names(told) == ["limits_apart", "limits_together"]  # for the link it was none: the server answers


@pytest.mark.parametrize(
    "answer",
    [b"*0\r\n", b"*1\r\n:1\r\n", b"*3\r\n:1\r\n:1\r\n:0\r\n", b"+OK\r\n", b"$-1\r\n", b":1\r\n", b"*2\r\n+a\r\n+b\r\n"],
)
async def test_answers_that_make_no_sense_are_gone_on_without(node, told, tmp_path, answer):
    """And once they do again, all is well again: nothing that has to go on has ended."""
    async with mad_server(answer) as port:
        store = await node(f"redis://127.0.0.1:{port}", replicas=2, events=told)
        assert sum([await admitted(store, requests(10)) for _ in range(10)]) == 5
        await store.settle([requests(10, -1)])
        assert await admitted(store, places(2))
        await is_apart(store, of=2)
        await asyncio.sleep(1.5 * BEAT_SECONDS)
    with RedisServer(REDIS8, tmp_path, port=port):
        begun = time.monotonic()
        await until(lambda: is_together(store))
        assert time.monotonic() - begun < RECOVERY
        assert (await store.take([places(2, 0)])).spent[0] == UNIT


@pytest.mark.parametrize(
    "fault",
    [Fault(delay=0.08), Fault(reset=0.3), Fault(garbage=0.3), Fault(freeze=True), Fault(truncate=40), Fault(trickle=0.01)],
    ids=["slow", "reset", "garbage", "frozen", "truncated", "trickling"],
)
async def test_nothing_is_raised_and_nobody_waits(server, node, fault):
    async with FaultProxy(server.port) as proxy:
        store = await node(f"redis://127.0.0.1:{proxy.port}", replicas=2, deadlines=USUAL)
        assert await admitted(store, requests(FAST))
        proxy.answers.fault = fault
        begun = time.monotonic()
        taken = 0
        while time.monotonic() - begun < 1.5:
            start = time.monotonic()
            taken += await admitted(store, requests(FAST), places(5))
            await store.settle([places(5, -1)])
            assert time.monotonic() - start < 2 * PATIENCE
            await turns()
        assert taken
        assert sum(proxy.did.values()) > 0
        proxy.answers.fault = Fault()
        await proxy.reset()
        await until(lambda: is_together(store))
