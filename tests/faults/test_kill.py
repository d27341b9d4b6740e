"""F5: a node behind nginx is killed, again and again. Only its own requests fail, and the provider is asked nothing twice.

The nodes share a Redis: the places that the killed ones have held there are free again. What they had answered, and what they
were asking, stands in their ledgers, once.
"""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from tests.faults.kept import ledger_rows
from tests.faults.traffic import Phase, Traffic, asked_twice
from tests.server.nginx import is_installed, nginx_of_the_page
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio


class Run(NamedTuple):
    """So many rounds with a kill at some moment of each, of so many requests at so many a second."""

    rounds: int
    requests: int
    rate: float


RUNS = [
    pytest.param(Run(2, 50, 50.0), id="twice"),
    pytest.param(Run(20, 1000, 150.0), id="20 times", marks=pytest.mark.long),
]
SOON = 2.0
"""Seconds in which a node answers again after kill -9, if somebody starts it at once and its main thread has a core."""
LEASE = 30.0
"""Seconds after which the places in flight of a node that died are free (docs/limits.md)."""
THINKING = 0.4
"""Seconds that the provider takes, so that there is always something under way."""
GATHERED = 1.0
"""Seconds around a kill in which a request's own row may still have been in memory: 50 ms, and what a busy machine adds."""


@pytest.fixture
def nginx(tmp_path, absent):
    """nginx(port, other) before two nodes."""
    if not is_installed():
        absent("nginx (make test-deps installs it)")
    folder = tmp_path / "nginx"
    folder.mkdir()
    return lambda *nodes: nginx_of_the_page(folder, *nodes)


class Back(NamedTuple):
    """How a node came back. In seconds: until it answered, the CPU that it took, and what its main thread waited for a core."""

    after: float
    cpu: float
    waited: float

    @property
    def own(self) -> float:
        """What it would have been if its main thread had never waited for a core."""
        return self.after - self.waited

    def __str__(self) -> str:
        return f"{self.after:.2f} s ({self.cpu:.2f} of it CPU, its main thread {self.waited:.2f} waiting for a core)"


def back(pid: int, after: float) -> Back:
    """Of a process that has just begun to answer. Linux tells what its main thread waited: threads wait at the same time, so
    that the sum of what all of them waited may be more than the time that went by."""
    _, waited, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return Back(after, time.clock_gettime(~pid << 3 | 2), int(waited) / 1e9)


def places(redis) -> dict[bytes, float]:
    """In flight, of all nodes, as Redis knows them: when each ends by itself, in milliseconds. Those that have are not there."""
    with redis.client() as client:
        now, keys = 1000 * client.time()[0], client.keys("sentinel:limit:*:concurrency:*")
        return {name: end for key in keys for name, end in client.zrange(key, now, "+inf", byscore=True, withscores=True)}


def check_ledgers(folders, upstream, everything: Phase, killed: list[float]) -> str:
    """Every call of the provider has a row, once, and so has every answer but those of the last moment before a kill."""
    calls = Counter(call.headers["x-request-id"] for call in upstream.calls if call.method == "POST")
    rows = [row for data in folders for row in ledger_rows(data, "SELECT id, number, ending FROM attempts")]
    booked, endings = Counter(row[0] for row in rows), Counter(row[2] for row in rows)
    assert {key for key in calls if calls[key] > booked[key]} == set(), "a call without its row"
    unsure = {row[0] for row in rows if row[2] == "orphan"}
    assert {key for key in booked if booked[key] > calls[key]} <= unsure, "a row of a call that nobody made"
    assert len({row[:2] for row in rows}) == len(rows), "a row twice"
    assert endings["orphan"], "nothing was being asked when it was killed"
    handled = {key for data in folders for (key,) in ledger_rows(data, "SELECT id FROM requests")}
    lost = [one.ended for one in everything.asked if not one.problem and one.id not in handled]
    assert [when for when in lost if not any(abs(kill - when) < GATHERED for kill in killed)] == []
    return f"{calls.total()} calls, {len(rows)} rows {dict(endings)}; {len(lost)} answers of the last moment without a row"


@pytest.mark.parametrize("run", RUNS)
async def test_a_killed_node_takes_only_its_own_requests_along(start, redis, upstream, nginx, tmp_path, run: Run):
    upstream.script(f"latency_ms={1000 * THINKING:.0f}", times=100_000)
    allowed = {
        "REDIS_URL": redis.url,
        "SENTINEL_REPLICAS": "2",
        "SENTINEL_LIMITS__CONCURRENCY": "1000",
        "SENTINEL_SERVER__ALLOWED_HOSTS": "ai.example.com",
    } | PATIENT
    folders = {name: tmp_path / name / "data" for name in ("one", "two")}
    nodes = {name: await start(name, SENTINEL_DATA_DIR=str(folder), **allowed) for name, folder in folders.items()}
    environs = {name: {"PORT": str(node.port), "SENTINEL_DATA_DIR": str(folders[name])} | allowed for name, node in nodes.items()}
    held: dict[bytes, float] = {}
    chance, killed, starts, span = random.Random(run.rounds), [], [], run.requests / run.rate
    turns = [name for _ in range(run.rounds // 2) for name in chance.sample(list(nodes), 2)]
    with nginx(*(node.port for node in nodes.values())) as front:
        async with Traffic(f"http://127.0.0.1:{front.port}", rate=run.rate) as traffic:
            for number, name in enumerate(turns):
                await asyncio.sleep(chance.random() * span)
                killed.append(time.monotonic())
                nodes[name].kill()
                held |= places(redis)
                nodes[name] = await start(name, **environs[name])
                starts.append(back(nodes[name].process.pid, time.monotonic() - killed[-1]))
                await asyncio.sleep(max(0.0, traffic.begun + (number + 1) * span - time.monotonic()))
            await asyncio.sleep(1)
        await asyncio.sleep(0.5)
        left, ended = places(redis), time.monotonic()
    everything = traffic.between()
    failed = [one for one in everything.asked if one.problem]
    print(f"{run.rounds} kills: {everything}; {dict(everything.problems)}")
    print(f"back after {median(one.after for one in starts):.2f} s in the median, {max(starts)} at most")
    print(
        f"had its main thread not waited {median(one.own for one in starts):.2f} s, {max(one.own for one in starts):.2f} at most"
    )
    assert failed, "nothing was under way on a node that was killed"
    for one in failed:
        assert one.problem == "502"
        assert any(one.sent < moment < one.ended for moment in killed), "nothing was killed under it"
    assert len(failed) <= 2 * run.rounds * run.rate * THINKING
    assert asked_twice(upstream, "New") == {}
    print(f"places of the dead: {len(left)}")
    assert left, "the killed node has held no place"
    if run.rounds > 2:
        while places(redis):
            assert time.monotonic() - ended < LEASE + 1
            await asyncio.sleep(0.2)
        print(f"all of it free {time.monotonic() - ended:.1f} s later")
    for node in nodes.values():
        await asyncio.to_thread(node.stop)
    assert places(redis).items() <= held.items(), "somebody has renewed them, or has kept one of its own"
    print(check_ledgers(folders.values(), upstream, everything, killed))
    if run.rounds > 2:
        assert max(one.own for one in starts) <= SOON
