"""Streams on which nothing comes, and readers who hardly read: what they take, what others notice. For `bench.overload`."""

import asyncio
import itertools
import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, cast

import msgspec
import uvloop

from bench.flood import Crowd, flood
from bench.load import MakeMessage, Quantiles, Report, summarise
from bench.overload_report import Bar
from bench.processes import Process, get
from bench.workloads import unique

MODEL: Final = "groq/mock-model"
"""The second provider, whose mock does what the streams are about."""
IDLE: Final = "stall_after=1"
HEARTBEAT: Final = 15.0
"""Seconds, as it comes (`server.heartbeat`)."""
LATE: Final = 2.0
OPENING: Final = 200
"""Streams that are opened at a time."""
FILES: Final = 700
"""Files of the gateway that are no stream's: what else it has open, and ordinary requests."""
ORDINARY: Final = Crowd(256)
SECONDS: Final = 10.0
STREAM_KIB: Final = 100.0
LONG: Final = f"huge={16 * 2**20}"
"""Bytes of an answer, which no buffer between a provider and a reader holds."""
SLOW_KIB: Final = 256.0
"""A stream is 35, some 60 wait for its reader, and what was said so far is kept twice: for who asks the same, and the cache."""
PIECE: Final = 16_384
"""Bytes of one of its chunks."""
CUT: Final = 30.0
"""Seconds that a reader may take, as it comes (`server.write_timeout`)."""
CUT_LATE: Final = 20.0
"""Seconds more within which all have to be cut: it runs from when their buffers are full."""
TO_CUT: Final = 45.0
"""Seconds more in which that is waited for."""
SETTLED: Final = 10.0
"""Seconds after which nothing moves any more."""
LATER: Final = 10.0
RECEIVE: Final = 4096
"""Bytes that the kernel may hold for a slow reader, or it would read for it."""


class Idle(msgspec.Struct, frozen=True):
    """Silent streams, beside ordinary requests. Times in seconds; `first_beat` from the last word of the stream."""

    streams: int
    calls: int
    """Of providers: if a process may not open two files for each stream, the last ones share them."""
    kib: float
    """KiB resident, for each."""
    opened_in: float
    first_beat: Quantiles
    gaps: Quantiles
    """From each beat to the next."""
    off: float
    """By how much the worst of them was early or late."""
    lost: int
    """Streams that ended."""
    before: Report
    beside: Report
    left_after: float
    """Seconds after all had left until no call of a provider was open."""

    def bars(self) -> Iterator[Bar]:
        """What is asked of it."""
        yield Bar(f"{self.streams:,} idle streams: KiB for each", self.kib, STREAM_KIB)
        slower = self.beside.latency.p99 / self.before.latency.p99
        yield Bar(f"{self.streams:,} idle streams: p99 of others, times that without", slower, 1.5)
        yield Bar(f"{self.streams:,} idle streams: heartbeats off by, s", self.off, LATE)
        failed = self.lost + sum(report.requests - report.good for report in (self.before, self.beside))
        yield Bar(f"{self.streams:,} idle streams: lost, or others failed", float(failed), 0.0)


class Slow(msgspec.Struct, frozen=True):
    """Readers of a byte a second. Times in seconds from their requests."""

    readers: int
    kib: float
    """KiB resident for each, once nothing moves."""
    written: tuple[float, float]
    """KiB that the provider has written to the gateway for each: early, and ten seconds later."""
    cut: Quantiles
    uncut: int
    others: Report

    def bars(self) -> Iterator[Bar]:
        """What is asked of it."""
        yield Bar(f"{self.readers} slow readers: KiB for each", self.kib, SLOW_KIB)
        yield Bar(f"{self.readers} slow readers: KiB more from the provider, 10 s later", self.written[1] - self.written[0], 0.0)
        yield Bar(f"{self.readers} slow readers: not cut", float(self.uncut), 0.0)
        yield Bar(f"{self.readers} slow readers: s until the last was cut", self.cut.max, CUT + CUT_LATE)
        yield Bar(f"{self.readers} slow readers: others failed", float(self.others.requests - self.others.good), 0.0)


def question(number: int) -> bytes:
    """A request for a stream."""
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": f"Tell me about spade {number}."}]}
    text = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)


class Listener(asyncio.Protocol):
    """One stream: when something came on it."""

    def __init__(self, number: int) -> None:
        self._question = question(number)
        self.heard: list[float] = []
        self.begun = asyncio.get_running_loop().create_future()
        self.ended = False
        self.transport: asyncio.Transport

    def __repr__(self) -> str:
        return f"<Listener heard {len(self.heard)} times>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._question)

    def data_received(self, data: bytes) -> None:
        self.heard.append(time.perf_counter())
        if not self.begun.done() and b"data: " in data:
            self.begun.set_result(None)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True
        if not self.begun.done():
            self.begun.set_result(None)


def idle_streams(process: Process, port: int, streams: int, *, rate: float, held: float, files: int) -> Idle:
    """Hold so many for so long, beside ordinary requests at this rate. `files` is how many a process may open."""
    calls = min(streams, files - streams - FILES)
    return uvloop.run(_idle_streams(process, port, streams, calls=calls, rate=rate, held=held))


async def _idle_streams(process: Process, port: int, streams: int, *, calls: int, rate: float, held: float) -> Idle:
    numbers = itertools.count()
    make, url = unique()(numbers), f"http://127.0.0.1:{port}/v1/chat/completions"
    await _ordinary(url, make, rate, 3.0)
    before = await _ordinary(url, make, rate, SECONDS)
    process.wait_until_quiet()
    resident, start = process.resident_bytes(), time.perf_counter()
    listeners = await _open(port, streams, calls)
    opened_in = time.perf_counter() - start
    grown, start = process.resident_bytes() - resident, time.perf_counter()
    await asyncio.sleep(2.0)
    beside = await _ordinary(url, make, rate, SECONDS)
    await asyncio.sleep(held - (time.perf_counter() - start))
    grown = max(grown, process.resident_bytes() - resident)
    lost = sum(listener.ended for listener in listeners)
    for listener in listeners:
        listener.transport.abort()
    left = await _until_left(port)
    spans = [_spans(listener) for listener in listeners]
    gaps = [gap for _, between in spans for gap in between]
    return Idle(
        streams,
        calls,
        grown / streams / 1024,
        opened_in,
        Quantiles.of([first for first, _ in spans]),
        Quantiles.of(gaps),
        max(abs(gap - HEARTBEAT) for gap in gaps),
        lost,
        before,
        beside,
        left,
    )


async def _ordinary(url: str, make: MakeMessage, rate: float, seconds: float) -> Report:
    """Requests as they usually come, beside whatever else there is: on a thread, for it waits for nobody."""
    found = await asyncio.to_thread(flood, url, make, [(rate, seconds)], ORDINARY)
    return summarise(found.done, seconds)


async def _open(port: int, streams: int, calls: int) -> list[Listener]:
    loop, listeners = asyncio.get_running_loop(), list[Listener]()
    for first in range(0, streams, OPENING):
        numbers = range(first, min(streams, first + OPENING))
        opened = [loop.create_connection(partial(Listener, number % calls), "127.0.0.1", port) for number in numbers]
        some = [listener for _, listener in await asyncio.gather(*opened)]
        await asyncio.gather(*(listener.begun for listener in some))
        listeners += some
    return listeners


def _spans(listener: Listener) -> tuple[float, list[float]]:
    """From its last word to the first heartbeat, and from each to the next. What came within a second is one."""
    moments = [at for at, after in itertools.pairwise([*listener.heard, float("inf")]) if after - at > 1.0]
    between = [after - at for at, after in itertools.pairwise(moments)]
    return (between[0], between[1:]) if between else (float("inf"), [])


async def _until_left(port: int) -> float:
    """Seconds until the gateway has let go of all."""
    start = time.perf_counter()
    while time.perf_counter() - start < CUT:
        _, metrics = await asyncio.to_thread(get, port, "/metrics")
        held = next(line for line in metrics.decode().splitlines() if line.startswith("sentinel_in_flight "))
        if float(held.split()[1]) == 0.0:
            break
        await asyncio.sleep(0.05)
    return time.perf_counter() - start


def slow_readers(process: Process, port: int, mock: int, readers: int, *, rate: float) -> Slow:
    """Have them ask, read a byte a second each, and wait until they are cut; beside ordinary requests at this rate."""
    return uvloop.run(_slow_readers(process, port, mock, readers, rate=rate))


async def _slow_readers(process: Process, port: int, mock: int, readers: int, *, rate: float) -> Slow:
    make, url = unique()(itertools.count()), f"http://127.0.0.1:{port}/v1/chat/completions"
    await _ordinary(url, make, rate, 3.0)
    process.wait_until_quiet()
    resident, start = process.resident_bytes(), time.perf_counter()
    sockets = [await _slow_reader(port, number) for number in range(readers)]
    reading = asyncio.create_task(_trickle(sockets, start))
    await asyncio.sleep(SETTLED)
    early = await asyncio.to_thread(_written, mock, readers)
    await asyncio.sleep(LATER)
    late = await asyncio.to_thread(_written, mock, readers)
    grown = process.resident_bytes() - resident
    others = await _ordinary(url, make, rate, 5.0)
    cut = await reading
    return Slow(readers, grown / readers / 1024, (early, late), Quantiles.of(cut), readers - len(cut), others)


async def _slow_reader(port: int, number: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE)
    one.setblocking(False)  # noqa: FBT003 - the library's
    loop = asyncio.get_running_loop()
    await loop.sock_connect(one, ("127.0.0.1", port))
    await loop.sock_sendall(one, question(number))
    return one


async def _trickle(sockets: Sequence[socket.socket], start: float) -> list[float]:
    """Read a byte of each every second; when each was cut."""
    left, cut = list(sockets), list[float]()
    random.shuffle(left)
    while left and time.perf_counter() - start < CUT + TO_CUT:
        await asyncio.sleep(1.0)
        for one in list(left):
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # a reset is told here; what came before it can still be read
                cut.append(time.perf_counter() - start)
                left.remove(one)
                one.close()
                continue
            with suppress(BlockingIOError):
                one.recv(1)
    for one in left:
        one.close()
    return cut


def _written(mock: int, readers: int) -> float:
    """KiB that the provider has written for each of the last so many streams."""
    with suppress(OSError):
        log = msgspec.json.decode(get(mock, f"/__calls?last={readers + 4000}")[1])["log"]
        streamed = [call for call in log if call["body"] and call["body"].get("stream")][-readers:]
        return float(sum(call["chunks_sent"] for call in streamed) * PIECE / len(streamed) / 1024)
    return 0.0
