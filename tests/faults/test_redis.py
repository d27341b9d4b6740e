"""F1 to F4: whatever befalls Redis, everybody gets their own answer, and soon.

A gateway as a program of its own, a real Redis 8 behind a proxy, and questions at a steady rate while it is broken and mended.
Every other question is new; the others' answers are in Redis alone, because memory has room for one.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import redis as library

from bench.chaos import ChaosUpstream
from tests.faults.conftest import ADMIN, Node
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.traffic import PATIENCE, Asked, Phase, Traffic, asked_twice, nothing_collected
from tests.gateway import until
from tests.servers import RedisServer

pytestmark = pytest.mark.anyio

RATE = 40.0
DEADLINE = 0.25
"""Seconds that an answer of Redis may take here: five times as many, so that a busy machine is no slow Redis."""
ENVIRON = {"SENTINEL_REDIS__TIMEOUT": str(DEADLINE)}
HANG = 1.0
"""Seconds that no answer takes where nothing else holds the machine up."""
USUAL = 0.5
"""Seconds in which 95 of 100 have their answer also meanwhile, there."""
BACK = 5.0
"""Seconds in which a Redis that works again is used again."""
LINES = 10
"""Most lines in the log that an outage is worth."""
TIER = "sentinel-redis"


@dataclass
class Scene:
    """A node, and the Redis and the network that it depends on."""

    node: Node
    redis: RedisServer
    proxy: FaultProxy

    async def ask_redis(self, *command: str, password: str | None = None) -> None:
        """Straight to it, past the proxy."""

        def ask() -> None:
            with self.redis.client(password=password) as client:
                client.execute_command(*command)

        await asyncio.to_thread(ask)

    def lines(self) -> list[str]:
        """What the log says of Redis and of stores."""
        return [str(event) for event in (*self.node.events("redis_"), *self.node.events("store_"))]


Step = Callable[[Scene], Awaitable[None]]


@pytest.fixture
async def scene(start, redis, proxy) -> Scene:
    return Scene(await start(REDIS_URL=f"redis://127.0.0.1:{proxy.port}", **ENVIRON), redis, proxy)


async def used_again(traffic: Traffic) -> float:
    """Wait until Redis answers questions that are asked from now on; seconds that it took."""
    start = time.monotonic()
    async with asyncio.timeout(12 * BACK):
        while not traffic.between(start).sources[TIER]:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)
    return time.monotonic() - start


async def look_on(scene: Scene, seconds: float) -> list[float]:
    """For so long; what the node takes meanwhile for an answer that needs nothing but the machine."""
    took, end = list[float](), time.monotonic() + seconds
    while not took or time.monotonic() < end:
        begun = time.monotonic()
        assert (await scene.node.gets("/livez")).status == 200
        took.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)
    return took


def waited_for_redis(asked: Iterable[Asked], beside: list[float]) -> bool:
    """Did most? Who takes ten times as long as one who needs no Redis, and as long as Redis may take, has waited for it."""
    usual, waits = median(beside), median(one.ended - one.sent for one in asked)
    print(f"in the median {1000 * waits:.1f} ms, {1000 * usual:.1f} beside")
    return waits >= max(DEADLINE, 10 * usual)


# --- what can go wrong, and how it is mended ---


def bytes_are(fault: Fault) -> tuple[Step, Step]:
    async def break_(scene: Scene) -> None:
        scene.proxy.answers.fault = fault

    async def mend(scene: Scene) -> None:
        scene.proxy.heal()

    return break_, mend


async def freeze(scene: Scene) -> None:
    scene.redis.freeze()


async def thaw(scene: Scene) -> None:
    scene.redis.thaw()


async def stop(scene: Scene) -> None:
    scene.redis.stop()


async def restart(scene: Scene) -> None:
    await asyncio.to_thread(scene.redis.start)


async def go_silent(scene: Scene) -> None:
    scene.proxy.requests.fault = scene.proxy.answers.fault = Fault(freeze=True)


async def speak(scene: Scene) -> None:
    scene.proxy.heal()


async def refuse(scene: Scene) -> None:
    await scene.proxy.refuse()
    await scene.proxy.reset()


async def vanish(scene: Scene) -> None:
    await scene.proxy.blackhole()
    await scene.proxy.reset()


async def accept(scene: Scene) -> None:
    await scene.proxy.accept()


async def half_close(scene: Scene) -> None:
    scene.proxy.half_close()


async def nothing(scene: Scene) -> None:
    pass


def commands(breaking: list[str], mending: list[str]) -> tuple[Step, Step]:
    async def each(texts: list[str], scene: Scene) -> None:
        for text in texts:
            await scene.ask_redis(*text.split())

    return partial(each, breaking), partial(each, mending)


async def lock(scene: Scene) -> None:
    await scene.ask_redis("CONFIG", "SET", "requirepass", "changed")
    await scene.proxy.reset()


async def unlock(scene: Scene) -> None:
    await scene.ask_redis("CONFIG", "SET", "requirepass", "", password="changed")


async def run_away(scene: Scene) -> None:
    """A script without an end: Redis answers BUSY to everybody."""
    await scene.ask_redis("CONFIG", "SET", "busy-reply-threshold", "20")

    def run() -> None:
        with scene.redis.client(socket_timeout=0.2) as client, suppress(library.RedisError):
            client.eval("while true do end", 0)

    await asyncio.to_thread(run)


async def load(scene: Scene) -> None:
    """It reads its data anew, which takes two seconds, and answers LOADING to everybody."""
    for text in (
        "DEBUG POPULATE 200 filler 2000",
        "CONFIG SET key-load-delay 10000",
        "CONFIG SET loading-process-events-interval-bytes 1024",
    ):
        await scene.ask_redis(*text.split())

    def run() -> None:
        with scene.redis.client(socket_timeout=0.2, retry=None) as client, suppress(library.RedisError):
            client.execute_command("DEBUG", "RELOAD")

    await asyncio.to_thread(run)


async def loaded(scene: Scene) -> None:
    def run() -> None:
        with scene.redis.client() as client:
            while client.info("persistence")["loading"]:
                time.sleep(0.02)

    await asyncio.to_thread(run)


Trace = tuple[str, str]
"""Where a fault shows that it was there, and as what: in the "proxy" that counts what it did, in the "log" of the node, in the
errors or the commands that "redis" counts."""
DOWN: Trace = ("log", "redis_down")

OUTAGES: dict[str, tuple[Step, Step, Trace]] = {
    "frozen": (freeze, thaw, DOWN),
    "killed, and back empty": (stop, restart, DOWN),
    "silent": (go_silent, speak, DOWN),
    "refused": (refuse, accept, DOWN),
    "vanished": (vanish, accept, DOWN),
    "connections half closed": (half_close, nothing, ("proxy", "half-closed")),
    "slow": (*bytes_are(Fault(delay=1.6 * DEADLINE)), DOWN),
    "slow, and in time": (*bytes_are(Fault(delay=0.6 * DEADLINE)), DOWN),
    "jittery": (*bytes_are(Fault(jitter=2.4 * DEADLINE)), ("proxy", "delayed")),
    "one in a hundred reset": (*bytes_are(Fault(reset=0.01)), ("proxy", "reset")),
    "trickling": (*bytes_are(Fault(trickle=0.005)), ("proxy", "trickled")),
    "garbage": (*bytes_are(Fault(garbage=1.0)), ("proxy", "garbled")),
    "some garbage": (*bytes_are(Fault(garbage=0.1)), ("proxy", "garbled")),
    "cut off": (*bytes_are(Fault(truncate=300)), ("proxy", "truncated")),
    "flushed": (*commands(["FLUSHALL"], []), ("redis", "cmdstat_flushall")),
    "out of memory": (*commands(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]), ("redis", "errorstat_OOM")),
    "read only": (*commands(["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]), ("redis", "errorstat_READONLY")),
    "a replica without its master": (
        *commands(["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]),
        ("redis", "errorstat_MASTERDOWN"),
    ),
    "a password": (lock, unlock, ("redis", "errorstat_NOAUTH")),
    "busy": (run_away, commands([], ["SCRIPT KILL"])[1], ("redis", "errorstat_BUSY")),
    "loading": (load, loaded, ("redis", "errorstat_LOADING")),
}


def shows(scene: Scene, trace: Trace) -> int:
    """How often it has shown so far."""
    where, what = trace
    if where == "proxy":
        return scene.proxy.did[what]
    if where == "log":
        return len(scene.node.events(what))
    with scene.redis.client() as client:
        told = client.info("errorstats") | client.info("commandstats")
    return int(told[what].get("count", told[what].get("calls"))) if what in told else 0


async def go_through(name: str, scene: Scene, upstream: ChaosUpstream) -> tuple[Phase, Phase, float]:
    """The outage, which is mended once those are answered who came first: all while it lasted, all, and when Redis was back."""
    break_, mend, trace = OUTAGES[name]
    async with Traffic(scene.node.base_url, rate=RATE) as traffic:
        await used_again(traffic)
        await asyncio.sleep(0.5)
        shown, broken = shows(scene, trace), time.monotonic()
        await break_(scene)
        await until(lambda: trace != DOWN or shows(scene, trace) > shown)
        known = time.monotonic()
        beside = await look_on(scene, max(0.5, broken + 1.5 - known))
        await until(lambda: trace[0] == "redis" or shows(scene, trace) > shown)
        early = traffic.between(broken, broken + 0.5).asked
        await until(lambda: all(one.seconds for one in early), 2 * PATIENCE)  # who waited for its end would wait in vain
        mended = time.monotonic()
        await mend(scene)
        back = await used_again(traffic)
    during, everything = traffic.between(broken, mended), traffic.between()
    print(f"{name}: {during}; back after {back:.2f} s; {dict(scene.proxy.did)}", *scene.lines(), sep="\n")
    assert everything.problems == {}
    assert shows(scene, trace) > shown, "it was not there"
    if trace == DOWN:
        assert not waited_for_redis((one for one in during.asked if one.sent > known), beside), "though it was known to be away"
    assert len(scene.lines()) <= LINES
    assert asked_twice(upstream, "New") == {}
    return during, everything, back


@pytest.mark.parametrize("name", OUTAGES)
async def test_everybody_gets_their_own_answer_and_soon(scene, upstream, name):
    await go_through(name, scene, upstream)


@pytest.mark.long
@pytest.mark.parametrize("name", OUTAGES)
async def test_where_nothing_else_holds_the_machine_up_nobody_waits_for_long(scene, upstream, name):
    during, everything, back = await go_through(name, scene, upstream)
    assert during.seconds(0.95) < USUAL
    assert everything.seconds(1) < HANG
    assert back <= BACK


async def test_a_redis_that_comes_and_goes(scene, upstream):
    """Ten times in five seconds."""
    async with Traffic(scene.node.base_url, rate=RATE) as traffic:
        await used_again(traffic)
        begun, beside = time.monotonic(), list[float]()
        for _ in range(10):
            await scene.proxy.refuse()
            await scene.proxy.reset()
            beside += await look_on(scene, 0.3)
            await scene.proxy.accept()
            beside += await look_on(scene, 0.2)
        ended = time.monotonic()
        back = await used_again(traffic)
    everything = traffic.between()
    print(f"{everything}; back after {back:.2f} s; {dict(scene.proxy.did)}", *scene.lines(), sep="\n")
    assert everything.problems == {}
    assert scene.proxy.did["refusing"] == 10
    assert not waited_for_redis(traffic.between(begun, ended).asked, beside)
    assert len(scene.lines()) <= 2 * LINES
    assert asked_twice(upstream, "New") == {}


# --- F4: nothing is there when it starts ---

STARTING = 6.0
"""Seconds more that a start may take without what it needs, besides three times the usual: this machine does other things too."""


async def timed(starting: Awaitable[Node]) -> tuple[Node, float]:
    """The node, and the seconds until it was ready."""
    begun = time.monotonic()
    return await starting, time.monotonic() - begun


@pytest.mark.parametrize("how", ["refused", "vanished", "silent"])
async def test_it_starts_without_redis(start, redis, proxy, upstream, how):
    environ = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}"} | ENVIRON
    before, usual = await timed(start(**environ))
    await asyncio.to_thread(before.stop)
    if how == "silent":
        proxy.requests.fault = proxy.answers.fault = Fault(freeze=True)
    else:
        await proxy.refuse() if how == "refused" else await proxy.blackhole()
    node, ready = await timed(start(**environ))
    scene = Scene(node, redis, proxy)
    assert [(await node.gets(path)).status for path in ("/livez", "/ready")] == [200, 200]
    assert (await node.services())["redis"] == "down"
    for outcome in ("miss", "exact"):
        assert (await node.asks("The same again?")).headers["x-cache"] == outcome
    async with Traffic(node.base_url, rate=RATE) as traffic:
        await asyncio.sleep(0.5)
        await proxy.accept()
        proxy.heal()
        back = await used_again(traffic)
    print(f"ready after {ready:.2f} s, else {usual:.2f}, Redis used after {back:.2f} s", *scene.lines(), sep="\n")
    async with asyncio.timeout(12 * BACK):
        while (await node.services())["redis"] != "up":  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.1)
    assert traffic.between().problems == {}
    assert len(scene.lines()) <= LINES
    assert ready < 3 * usual + STARTING, "it waits for what is not there"


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """As by another program that does not end."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


async def test_it_starts_with_nothing_at_all(start, redis, proxy, upstream, tmp_path):
    """F4: Redis gone, the database locked, the provider down. It says so, and answers what it can."""
    how = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}", "SENTINEL_DATA_DIR": str(tmp_path / "data")}
    before, usual = await timed(start(**how))
    await asyncio.to_thread(before.stop)
    await proxy.refuse()
    upstream.script("err=503", times=1_000)
    with locked(tmp_path / "data" / "sentinel.db"):
        node, ready = await timed(start(**how))
        assert (await node.gets("/livez")).status == 200
        health = await node.gets("/health")
        print(f"ready after {ready:.2f} s; {health.json}")
        assert health.status == 503
        assert health.json["services"]["redis"]["status"] == "down"
        operator = {"authorization": f"Bearer {ADMIN}"}  # whether there are other keys can't be told now
        assert (await node.asks("Is anybody there?", **operator)).status == 502
        for outcome in ("miss", "exact"):
            answer = await asyncio.to_thread(partial(node.ask, "Hello", "demo", **operator))
            assert answer.headers["x-cache"] == outcome
    assert ready < 3 * usual + STARTING, "it waits for what is not there"


# --- the bars ---

ROUNDS = 3
FROZEN = 30.0
LISTENING = "0A"
"""In /proc/net/tcp."""
POOL = 10


@dataclass(frozen=True)
class Freeze:
    """One time that Redis was frozen: what was asked before, in the first second, and after it; then until it was used again."""

    before: Phase
    first: Phase
    rest: Phase
    told: float
    back: float
    connected: int
    """Connections that were made once it went on."""

    @property
    def misses(self) -> list[str]:
        """The bars that it missed, of those on time. One round in three may: the machine does other things too."""
        usual = self.before.seconds(0.99)
        added = self.first.seconds(0.99) - usual, self.rest.seconds(0.99) - usual
        bars = {
            f"p99 +{1000 * added[0]:.1f} ms in the first second": added[0] <= 0.05,
            f"p99 +{1000 * added[1]:.1f} ms afterwards": added[1] <= 0.025,
            f"told after {self.told:.2f} s": self.told <= 1,
            f"back after {self.back:.2f} s": self.back <= BACK,
        }
        return [bar for bar, kept in bars.items() if not kept]


async def freeze_for_a_while(node: Node, redis: RedisServer, traffic: Traffic) -> Freeze:
    await used_again(traffic)
    begun = time.monotonic()
    await asyncio.sleep(10)
    lines, connections, frozen = len(node.events("redis_down")), connections_of(redis), time.monotonic()
    redis.freeze()
    await node.told("redis_down", lines + 1)
    told = time.monotonic() - frozen
    await asyncio.sleep(FROZEN - told)
    thawed, before = time.monotonic(), connections + waiting_for(redis)
    redis.thaw()
    back = await used_again(traffic)
    await asyncio.sleep(2)
    phases = [traffic.between(*stretch) for stretch in ((begun, frozen), (frozen, frozen + 1), (frozen + 1, thawed - 2))]
    return Freeze(*phases, told, back, connections_of(redis) - before)


def connections_of(redis: RedisServer) -> int:
    """How many it has ever had, this one not included."""
    with redis.client() as client:
        return client.info("stats")["total_connections_received"] - 1


def waiting_for(redis: RedisServer) -> int:
    """Connections that it has not accepted yet: while it is frozen, the kernel does."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if int(local.partition(":")[2], 16) == redis.port and state == LISTENING:
            return int(queues.partition(":")[2], 16)
    raise LookupError(f"nobody listens on {redis.port}")


@pytest.mark.long
async def test_a_frozen_redis_costs_50_ms_once(start, redis, upstream):
    """F1."""
    node = await start(REDIS_URL=redis.url)
    rate = await Traffic.most(node.base_url) / 2
    upstream.reset()
    with nothing_collected():
        async with Traffic(node.base_url, rate=rate) as traffic:
            rounds = [await freeze_for_a_while(node, redis, traffic) for _ in range(ROUNDS)]
    for one in rounds:
        print(f"{rate:.0f}/s: before {one.before}; first second {one.first}; rest {one.rest}")
        print(f"  told after {one.told:.2f} s, back after {one.back:.2f} s with {one.connected} connections; {one.misses}")
        assert one.rest.sources[TIER] == 0, "it was not frozen"
        assert one.connected <= 2 * POOL
    assert traffic.between().problems == {}
    assert len([*node.events("redis_"), *node.events("store_")]) <= ROUNDS * LINES
    assert sum(bool(one.misses) for one in rounds) <= 1
