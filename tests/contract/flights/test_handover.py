"""One call for all nodes: whose turn it is, what the others get, and what becomes of a node that dies."""

import asyncio
import contextlib
import time
from uuid import uuid4

import msgspec
import pytest

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Landed
from sentinel_gateway.stores import redis_flights
from sentinel_gateway.stores._redis import USUAL, RedisLimits, RedisLink, open_link
from sentinel_gateway.stores.redis_flights import RedisFlights
from tests.fakes import FakeEvents, FakeHandover
from tests.faults.proxy import Fault, FaultProxy
from tests.gateway import until
from tests.servers import REDIS8, RedisServer, mad_server
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

CLAIM = 1.5
PATIENT = 20.0
"""For tests that are about something else than claims that lapse, on machines that are busy."""
EASY = RedisLimits(call=5.0, connect=5.0, place=5.0, slow=5.0)
"""For tests that are about something else than deadlines."""
TIMES = 10
"""Tries at what must be asked within half a second, on a machine that may pause for longer."""
SECRET = b"s" * 32
ANSWER = Landed(b'{"choices": []}' + b" " * 300_000, "mock/mock-model")


@pytest.fixture(params=["redis8", "redis7", "redis_cluster", "fake"])
async def nodes(request, anyio_backend):
    """nodes(name) is one node's end; `server` the Redis between them."""
    if request.param == "fake":
        shared = FakeHandover()
        yield shared.of
        return
    async with real_nodes(request.getfixturevalue(request.param).url) as node:
        yield node


@contextlib.asynccontextmanager
async def real_nodes(url, claim=PATIENT, deadlines=EASY):
    """Each with a link of its own, closed at the end."""
    opened = []

    def node(name, secret=SECRET):
        link = open_link(url, name=name, clock=time.monotonic, events=FakeEvents(), limits=deadlines)
        end = RedisFlights(link, secret=secret, node=name, claim_seconds=claim)
        opened.append((end, link))
        return end

    try:
        yield node
    finally:
        for end, link in opened:
            await end.close()
            await link.close()


@pytest.fixture
def server(tmp_path):
    """One of this test's own, with nothing in it."""
    with RedisServer(REDIS8, tmp_path) as server:
        yield server


@pytest.fixture
def key():
    return uuid4().hex


async def turn(end, key, flight=1, *, waited=0.0):
    """What `claim` says, asked until it is no other's turn."""
    async with asyncio.timeout(30):
        while (found := await patiently(end, key, flight, waited=waited)) is False:  # noqa: ASYNC110 - as the path does
            await asyncio.sleep(0.02)
        return found


async def patiently(end, key, flight=1, *, waited=0.0):
    """A busy machine may be late; that is another test's matter."""
    for _ in range(50):
        try:
            return await end.claim(key, flight, waited=waited)
        except StoreDown:
            await asyncio.sleep(0.1)
    raise AssertionError("it is always down")


async def test_it_is_one_nodes_turn(nodes, key):
    a, b = nodes("a"), nodes("b")
    assert await patiently(a, key) is True
    assert await patiently(b, key) is False
    assert await patiently(b, key + "x") is True, "of this key only"


async def test_who_does_not_know_that_it_has_the_turn_has_it(nodes, key):
    """As where Redis' answer to the claim was lost."""
    a = nodes("a")
    assert await patiently(a, key) is True
    assert await patiently(a, key) is True
    assert await patiently(nodes("b"), key) is False


async def test_what_was_brought_is_handed_to_all_who_wait_and_to_who_comes_a_moment_late(nodes):
    a, *others = (nodes(name) for name in "abc")
    late = nodes("d")
    for _ in range(TIMES):
        key = uuid4().hex
        assert await patiently(a, key) is True
        for other in others:
            assert await patiently(other, key) is False
        assert await patiently(late, key + "x") is True
        waiting = [asyncio.create_task(turn(other, key, waited=5.0)) for other in others]
        a.land(key, 1, ANSWER)
        found = await turn(late, key)
        assert await asyncio.gather(*waiting) == [ANSWER, ANSWER]
        if found == ANSWER:
            break
        assert found is True, "a moment was over"
    else:
        pytest.fail("who comes late is never answered")


async def test_what_was_released_is_the_next_ones_turn(nodes, key):
    a, b = nodes("a"), nodes("b")
    assert await patiently(a, key) is True
    a.release(key, 1)
    assert await turn(b, key) is True
    assert await patiently(a, key) is False


async def test_without_the_claim_nothing_is_landed_or_released(nodes, key):
    a, b = nodes("a"), nodes("b")
    assert await patiently(a, key) is True
    b.land(key, 1, ANSWER)
    b.release(key, 1)
    await asyncio.sleep(0.05)
    assert await patiently(b, key) is False


async def test_a_nodes_later_flight_takes_the_turn_of_its_earlier_one(nodes, key):
    """Which is stale, or too long to be joined: what becomes of that is nothing to the later one."""
    a, b = nodes("a"), nodes("b")
    assert await patiently(a, key, 1) is True
    assert await patiently(a, key, 2) is True
    assert await patiently(a, key, 1) is False
    a.release(key, 1)
    a.land(key, 1, Landed(b"{}", "stale"))
    await asyncio.sleep(0.05)
    assert await patiently(b, key, 3) is False
    a.land(key, 2, ANSWER)
    assert await turn(b, key, 3, waited=5.0) == ANSWER


async def test_who_leaves_while_it_asks_has_no_turn(server, key):
    """Whether Redis has heard of it or not, and however late it answers."""
    async with (
        FaultProxy(server.port) as proxy,
        real_nodes(f"redis://127.0.0.1:{proxy.port}") as node,
        real_nodes(server.url) as near,
    ):
        a, b = node("a"), near("b")
        assert await patiently(a, "warm") is True
        proxy.answers.fault = Fault(delay=0.5)
        for number, wait in enumerate((0.0, 0.01, 0.03, 0.06)):
            claiming = asyncio.create_task(a.claim(f"{key}{number}", 1, waited=0.0))
            await asyncio.sleep(wait)
            claiming.cancel()
            await asyncio.wait({claiming})
            assert claiming.cancelled()
            begun = time.monotonic()
            assert await turn(b, f"{key}{number}") is True
            assert time.monotonic() - begun < PATIENT / 2, "it was given back, and has not lapsed"
        assert proxy.did["delayed"] >= 4


async def test_who_was_not_told_of_its_turn_in_time_hands_over_what_it_brings(server, key):
    """Redis was late with the answer, so the flight asks for itself; it has the turn all the same."""
    async with (
        FaultProxy(server.port) as proxy,
        real_nodes(f"redis://127.0.0.1:{proxy.port}", deadlines=msgspec.structs.replace(EASY, call=0.5)) as node,
        real_nodes(server.url) as near,
    ):
        a, b = node("a"), near("b")
        assert await patiently(a, "warm") is True
        proxy.answers.fault = Fault(delay=1.0)
        with pytest.raises(StoreDown):
            await a.claim(key, 1, waited=0.0)
        assert await patiently(b, key) is False
        proxy.heal()
        await until(lambda: a._link.works)  # noqa: SLF001 - it was looked at meanwhile
        a.land(key, 1, ANSWER)
        assert await turn(b, key, waited=5.0) == ANSWER


@undisturbed
async def test_a_claim_that_is_held_is_kept(redis8, key):
    """Again and again it has its whole time, as is seen by that it had even more."""
    async with real_nodes(redis8.url, CLAIM) as node:
        a, b = node("a"), node("b")
        assert await patiently(a, key) is True
        with redis8.client() as client:
            (name,) = client.keys(f"*{key}*")
            for _ in range(3):
                client.expire(name, 3_600)
                await until(lambda: client.ttl(name) < 3_000)
                assert 0 < client.pttl(name) <= 1000 * CLAIM
                client.expire(name, 3_600)
                assert await patiently(b, key) is False


async def test_the_claim_of_a_node_that_died_lapses(redis8, key):
    async with real_nodes(redis8.url, CLAIM) as node:
        a, b = node("a"), node("b")
        assert await patiently(a, key) is True
        a._renewing.cancel()  # noqa: SLF001 - as kill -9 does
        begun = time.monotonic()
        assert await turn(b, key) is True
        assert time.monotonic() - begun < 10 * CLAIM
        a.land(key, 1, ANSWER)
        await asyncio.sleep(0.1)
        assert await patiently(node("c"), key) is False, "what a dead node brings late is nobody's"


async def test_after_a_moment_it_is_asked_anew_but_who_waited_is_answered_for_longer(redis8, key):
    async with real_nodes(redis8.url) as node:
        a, b, late = node("a"), node("b"), node("late")
        assert await patiently(a, key) is True
        a.land(key, 1, ANSWER)
        assert await turn(b, key, waited=5.0) == ANSWER
        await asyncio.sleep(redis_flights.FRESH_SECONDS + 0.1)
        assert await patiently(late, key, waited=redis_flights.KEPT_SECONDS) == ANSWER
        assert await patiently(b, key) is True
        assert await patiently(a, key) is False, "and not the answer of before"
        assert await patiently(a, key, waited=0.55) is False, "which came before it began to wait"
        assert await patiently(late, key, waited=redis_flights.KEPT_SECONDS) == ANSWER, "whoever asks by now"


async def test_a_node_that_closes_gives_its_turns_back(redis8, key):
    async with real_nodes(redis8.url) as node:
        a, b = node("a"), node("b")
        assert await patiently(a, key) is True
        await a.close()
        assert await patiently(b, key) is True


async def test_it_closes_though_a_client_swallows_that_it_is_cancelled(redis8, key):
    """As a cluster's may that is looking for its nodes."""

    inside = asyncio.Event()

    class Swallowing(RedisLink):
        async def call(self, work):
            if self.swallows:
                self.swallows = False
                inside.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
            return await super().call(work)

    link = Swallowing(redis8.url, name="a", clock=time.monotonic, events=FakeEvents(), limits=EASY)
    link.swallows = False
    a = RedisFlights(link, secret=SECRET, node="a", claim_seconds=0.1)
    assert await patiently(a, key) is True
    link.swallows = True
    await inside.wait()
    async with asyncio.timeout(20):
        await a.close()
    await link.close()


async def test_without_redis_it_is_said_at_once_and_landing_is_harmless(tmp_path, key):
    with RedisServer(REDIS8, tmp_path) as server:
        async with real_nodes(server.url, deadlines=USUAL) as node:
            a = node("a")
            assert await patiently(a, key) is True
            server.freeze()
            begun = time.monotonic()
            with pytest.raises(StoreDown):
                await a.claim(key + "x", 1, waited=0.0)
            assert time.monotonic() - begun < EASY.call
            a.land(key, 1, ANSWER)
            server.thaw()


@pytest.mark.parametrize("answer", [b"*0\r\n", b":7\r\n", b"$-1\r\n", b"*1\r\n:1\r\n"])
async def test_an_answer_that_makes_no_sense_is_none(answer, key):
    async with mad_server(answer) as port, real_nodes(f"redis://127.0.0.1:{port}") as node:
        a = node("a")
        with pytest.raises(StoreDown):
            await a.claim(key, 1, waited=0.0)
        a.land(key, 1, ANSWER)


async def test_what_is_not_exactly_what_was_brought_is_nothing(redis8, key):
    async with real_nodes(redis8.url) as node:
        a, b = node("a"), node("b")
        assert await patiently(a, key) is True
        a.land(key, 1, ANSWER)
        assert await turn(b, key, waited=5.0) == ANSWER
        with redis8.client() as client:
            (name,) = client.keys(f"*{key}*")
            brought = client.get(name)
            for value in (b"", b"damaged", brought[:-1], brought.replace(b"mock-model", b"mock-evil!"), brought):
                client.set(name, value, px=int(redis_flights.KEPT_SECONDS * 1000))
                assert await a.claim(key, 1, waited=5.0) == ANSWER if value == brought else await refuses(a, key)
            client.set(name.replace(key.encode(), b"x" + key.encode()), brought, px=int(redis_flights.KEPT_SECONDS * 1000))
            assert await refuses(a, "x" + key), "what was brought for another request"


async def refuses(end, key):
    with pytest.raises(StoreDown, match="believed"):
        await end.claim(key, 1, waited=5.0)
    return True


async def test_nodes_that_share_no_secret_know_nothing_of_each_other(redis8, key):
    async with real_nodes(redis8.url) as node:
        a, b = node("a"), node("b", secret=b"t" * 32)
        assert await patiently(a, key) is True
        assert await patiently(b, key) is True
