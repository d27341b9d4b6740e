"""C4 on two nodes: of a thousand who ask the same at the same time, one reaches the provider, whatever node they came to."""

import asyncio
import re
import time
from collections import Counter

import aiohttp
import pytest

from tests.gateway import CHAT, DEADLINE, Sse, chat
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

CROWD = 500
"""On each node."""


async def crowd(nodes, body, count):
    """Everybody asks at once, every other one for a stream; what each was told."""

    async def ask(session, node, number):
        streams = bool(number % 2)
        async with session.post(f"http://127.0.0.1:{node.port}{CHAT}", json=body | {"stream": streams}) as response:
            raw = await response.read()
            assert response.status == 200, raw
            return Sse.read(raw).text() if streams else (await response.json())["choices"][0]["message"]["content"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asking = [ask(session, node, number) for number in range(count) for node in nodes]
        return Counter(await asyncio.gather(*asking))


async def warm(nodes):
    """Each has met Redis."""
    for node in nodes:
        for number in range(3):
            await node.asks(f"warm {number}?")


async def all_wait(upstream, nodes, expected):
    """Once so many are under way on each node, and have looked for an answer, the provider goes on with what it does."""
    async with asyncio.timeout(DEADLINE):
        while [await under_way(node) for node in nodes] != expected:  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # they have come in, and ask a cache that is close by
    upstream.go_on()


async def under_way(node):
    """Requests that hold a place."""
    told = (await node.gets("/metrics")).body.decode()
    return int(float(re.search(r"^sentinel_in_flight (\S+)$", told, re.MULTILINE)[1]))


@pytest.mark.parametrize("stream_first", [False, True])
async def test_a_crowd_on_two_nodes_is_one_call(start, redis, upstream, stream_first):
    nodes = [await start(name, REDIS_URL=redis.url, **PATIENT) for name in ("one", "two")]
    await warm(nodes)
    upstream.reset()
    upstream.script("latency_ms=60000;tokens=40")
    body = chat("The same, please?")
    first = asyncio.create_task(crowd(nodes[:1], body | {"stream": stream_first}, 1))
    others = asyncio.create_task(crowd(nodes, body, CROWD))
    await all_wait(upstream, nodes, [CROWD + 1, CROWD])
    said = await others + await first
    assert upstream.count == 1
    assert list(said.values()) == [2 * CROWD + 1], "all were told the same"


async def test_without_redis_it_is_one_call_a_node(start, redis, upstream):
    nodes = [await start(name, REDIS_URL=redis.url, **PATIENT) for name in ("one", "two")]
    await warm(nodes)
    redis.stop()
    upstream.reset()
    upstream.script("latency_ms=60000", times=2)
    asking = asyncio.create_task(crowd(nodes, chat("The same, please?"), CROWD // 5))
    await all_wait(upstream, nodes, [CROWD // 5] * 2)
    said = await asking
    assert upstream.count == 2
    assert sum(said.values()) == 2 * (CROWD // 5)


async def test_who_waits_for_a_node_that_is_killed_asks_for_itself(start, redis, upstream):
    one, two = [await start(name, REDIS_URL=redis.url, **PATIENT) for name in ("one", "two")]
    await warm([one, two])
    upstream.reset()
    upstream.script("latency_ms=30000")
    leading = asyncio.create_task(crowd([one], chat("Who asks?"), 1))
    while not upstream.count:  # noqa: ASYNC110 - it happens in another process
        await asyncio.sleep(0.02)
    following = asyncio.create_task(crowd([two], chat("Who asks?"), 20))
    await asyncio.sleep(0.5)
    assert upstream.count == 1, "they wait"
    one.kill()
    begun = time.monotonic()
    said = await following
    assert time.monotonic() - begun < 15, "a claim lapses within 3 s"
    assert upstream.count == 2
    assert list(said.values()) == [20]
    with pytest.raises(aiohttp.ClientError):
        await leading
