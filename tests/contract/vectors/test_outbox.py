"""Changes on their way: in order, in the background, never without end."""

import asyncio
import time

import pytest

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._redis import open_link
from sentinel_gateway.vectors._outbox import BATCH, MOST, TRIES, Outbox
from tests.contract.stores.conftest import UNHURRIED
from tests.fakes import FakeEvents
from tests.servers import REDIS8, RedisServer

pytestmark = pytest.mark.anyio


class Server:
    """Takes changes, unless it is `down` or `refuses` one of them."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.asked = 0
        self.down = False
        self.refuses: int | None = None
        self.events = FakeEvents()
        self.outbox: Outbox[int] = Outbox(self.take, works=lambda: not self.down, events=self.events, pause=0.001)

    async def take(self, changes):
        self.asked += 1
        await asyncio.sleep(0)
        if self.down or self.refuses in changes:
            raise StoreDown("told to")
        self.taken += changes


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def events():
    return FakeEvents()


async def test_changes_arrive_in_order_and_in_batches(server):
    for number in range(3 * BATCH):
        server.outbox.put(number)
    assert server.taken == []
    await server.outbox.flush()
    assert server.taken == list(range(3 * BATCH))
    assert server.asked == 3


async def test_they_wait_while_the_server_is_down(server):
    server.down = True
    server.outbox.put(1)
    while server.asked <= 2 * TRIES:  # noqa: ASYNC110 - of itself
        await asyncio.sleep(0.001)
    server.outbox.put(2)
    server.down = False
    await server.outbox.flush()
    assert server.taken == [1, 2]


async def test_a_server_that_is_gone_is_left_alone_before_anything_is_given_up(events, tmp_path):
    """Though nobody else asks it, so that these refusals are all that its link knows."""
    with RedisServer(REDIS8, tmp_path) as redis:
        link = open_link(redis.url, name="vectors", clock=time.monotonic, events=events, limits=UNHURRIED)

        async def deliver(changes):
            await link.call(lambda client: client.rpush("changes", *changes))

        outbox = Outbox(deliver, works=lambda: link.works, events=events, pause=0.05)
        await link.call(lambda client: client.ping())
        redis.stop()
        outbox.put(1)
        async with asyncio.timeout(60):
            while link.works:  # noqa: ASYNC110 - it finds out by what the outbox meets
                await asyncio.sleep(0.01)
        await asyncio.sleep(20 * 0.05)
        redis.start()
        await outbox.flush()
        assert await link.call(lambda client: client.lrange("changes", 0, -1)) == [b"1"]
        await link.close()


async def test_only_so_many_wait_which_is_told_once(server):
    server.down = True
    for number in range(MOST + 100):
        server.outbox.put(number)
    assert len(server.outbox) == MOST
    server.down = False
    await server.outbox.flush()
    assert server.taken == list(range(MOST))
    assert server.events.notes == [("vectors_overflow", {"reason": f"{MOST} changes wait already"})]


async def test_what_a_working_server_keeps_refusing_does_not_hold_up_the_rest(server):
    server.refuses = 3
    for number in range(2 * BATCH):
        server.outbox.put(number)
    await server.outbox.flush()
    assert server.taken == list(range(BATCH, 2 * BATCH))
    assert server.asked == TRIES + 1


async def test_nothing_is_delivered_while_it_is_paused_and_what_is_withdrawn_never(server):
    async with server.outbox.paused:
        for number in range(10):
            server.outbox.put(number)
        await asyncio.sleep(0.01)
        assert server.taken == []
        assert server.outbox.withdraw(lambda change: change % 2 == 0) == 5
    await server.outbox.flush()
    assert server.taken == [1, 3, 5, 7, 9]


async def test_closing_delivers_what_can_be_delivered(server):
    for number in range(2 * BATCH):
        server.outbox.put(number)
    await server.outbox.close()
    assert sorted(server.taken) == list(range(2 * BATCH))
    server.down = True
    server.outbox.put(1)
    await asyncio.wait_for(server.outbox.close(), 20)
    assert len(server.taken) == 2 * BATCH
