"""F5: a node behind nginx is killed, again and again. Only its own requests fail, and the provider is asked nothing twice.

The nodes share a Redis: what the killed ones have held there is free again.
"""

import asyncio
import random
import time
from statistics import median

import pytest

from tests.faults.traffic import Traffic, asked_twice
from tests.server.nginx import is_installed, nginx_of_the_page

pytestmark = pytest.mark.anyio

SOON = 2.0
"""Seconds in which a node answers again after kill -9, if somebody starts it at once."""
ROUNDS = [pytest.param(2, id="twice"), pytest.param(20, id="20 times", marks=pytest.mark.long)]
RATE = 50.0
LEASE = 30.0
"""Seconds after which the places in flight of a node that died are free (docs/limits.md)."""
THINKING = 0.15
"""Seconds that the provider takes, so that there is always something under way."""


@pytest.fixture
def nginx(tmp_path, absent):
    """nginx(port, other) before two nodes."""
    if not is_installed():
        absent("nginx (make test-deps installs it)")
    folder = tmp_path / "nginx"
    folder.mkdir()
    return lambda *nodes: nginx_of_the_page(folder, *nodes)


def places(redis) -> int:
    """In flight, of all nodes, as Redis knows them; those that have lapsed are not there."""
    with redis.client() as client:
        now = 1000 * client.time()[0]
        return sum(client.zcount(key, now, "+inf") for key in client.keys("sentinel:limit:*:concurrency:*"))


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_killed_node_takes_only_its_own_requests_along(start, redis, upstream, nginx, rounds):
    upstream.script(f"latency_ms={1000 * THINKING:.0f}", times=100_000)
    shared = {"REDIS_URL": redis.url, "SENTINEL_REPLICAS": "2", "SENTINEL_LIMITS__CONCURRENCY": "1000"}
    allowed = {"SENTINEL_SERVER__ALLOWED_HOSTS": "ai.example.com"} | shared
    nodes = {name: await start(name, **allowed) for name in ("one", "two")}
    ports = {name: node.port for name, node in nodes.items()}
    chance, killed, back = random.Random(rounds), [], []
    with nginx(*ports.values()) as front:
        async with Traffic(f"http://127.0.0.1:{front.port}", rate=RATE) as traffic:
            for _ in range(rounds):
                await asyncio.sleep(chance.random())
                name = chance.choice(list(nodes))
                killed.append(time.monotonic())
                nodes[name].kill()
                nodes[name] = await start(name, PORT=str(ports[name]), **allowed)
                back.append(time.monotonic() - killed[-1])
            await asyncio.sleep(1)
        await asyncio.sleep(0.5)
        left, ended = places(redis), time.monotonic()
    everything = traffic.between()
    failed = [one for one in everything.asked if one.problem]
    print(
        f"{rounds} kills: {everything}; {dict(everything.problems)}; back after {median(back):.2f} s, {max(back):.2f} s at most"
    )
    assert failed, "nothing was under way on a node that was killed"
    for one in failed:
        assert one.problem == "502"
        assert any(one.sent < moment < one.planned + one.seconds for moment in killed), "nothing was killed under it"
    assert len(failed) <= 2 * rounds * RATE * THINKING
    assert asked_twice(upstream, "New") == {}
    if rounds > 2:
        assert median(back) <= SOON
    print(f"places of the dead: {left}")
    assert left, "the killed node has held no place"
    while places(redis):
        assert time.monotonic() - ended < LEASE + 1
        await asyncio.sleep(0.2)
