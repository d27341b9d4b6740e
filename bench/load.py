"""A load generator for chat endpoints: closed loop (so many at a time) and open loop (so many a second, come what may).

In the open loop, latency counts from the planned moment of sending, so that a server that stalls can't hide the requests
that it kept from being sent. As a program: `python -m bench.load URL ...`.
"""

import argparse
import asyncio
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.client import ClientConnection, Exchange

SWEEP: Final = 0.25
"""Seconds between two looks for requests that have run out of time; the accuracy of a timeout."""


class Message(NamedTuple):
    """What is sent as one request, beside what all have in common."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    line: str = ""
    """Method and target, where they are its own."""


MakeMessage = Callable[[int], Message]
"""Called with 0, 1, 2, ...: one number a request, so that each may be unlike all others."""


class Clients(NamedTuple):
    """Who sends: each client has a connection of its own and one request in flight."""

    number: int
    ramp: float = 0.0
    """Seconds over which they begin: streams of equal length that begin together would stay together."""
    patience: float = 30.0
    """Seconds after which they give an answer up, to a quarter of a second."""


class Quantiles(msgspec.Struct, frozen=True):
    """Of a sample of seconds, by nearest rank; zeros for an empty one."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, sample: Sequence[float]) -> Self:
        """Each is a value of the sample: the smallest that at least that share of it does not exceed."""
        if not sample:
            return cls()
        ranked = sorted(sample)
        p50, p95, p99 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.50, 0.95, 0.99))
        return cls(p50, p95, p99, ranked[-1])


class Report(msgspec.Struct, frozen=True):
    """One run. The times are of the good answers (200 and complete), in seconds."""

    requests: int
    good: int
    problems: dict[str, int]
    """How many answers were not good, by status or by what went wrong."""
    seconds: float
    events: int
    """Server-sent events of the good answers, `[DONE]` included."""
    latency: Quantiles
    first_byte: Quantiles
    per_event: Quantiles
    """Of each stream the mean time from one event to the next."""
    lateness: Quantiles
    """Open loop: how long after its planned moment a request was sent."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds


class Turn(NamedTuple):
    """Leave to send a request, planned for a moment (`time.perf_counter()`) that has come."""

    number: int
    planned: float


class Schedule(Protocol):
    """Decides who sends when."""

    async def next(self) -> Turn | None:
        """The next turn; None when all have been given."""
        ...


class ClosedLoop:
    """A turn at once for whoever asks, up to a number of requests or for so many seconds."""

    def __init__(self, requests: int | None, seconds: float | None) -> None:
        self._numbers: Iterator[int] = iter(itertools.count() if requests is None else range(requests))
        self._end = math.inf if seconds is None else time.perf_counter() + seconds

    async def next(self) -> Turn | None:
        """See Schedule."""
        now = time.perf_counter()
        number = next(self._numbers, None) if now < self._end else None
        return None if number is None else Turn(number, now)


class OpenLoop:
    """A turn every `1 / rate` seconds, whether the one before has been answered or not."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._start = time.perf_counter()
        self._rate = rate
        self._numbers = iter(range(round(rate * seconds)))

    async def next(self) -> Turn | None:
        """See Schedule."""
        number = next(self._numbers, None)
        if number is None:
            return None
        planned = self._start + number / self._rate
        while (wait := planned - time.perf_counter()) > 0:  # noqa: ASYNC110 - uvloop wakes us up to 1.4 ms early
            await asyncio.sleep(wait)
        return Turn(number, planned)


class _Load:
    """The clients, connected while the context is open."""

    def __init__(self, url: str, make: MakeMessage, clients: Clients) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        head = f"POST {parts.path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: application/json\r\n"
        self._head = head.encode()
        self._make = make
        self._clients = clients
        self._connections: set[ClientConnection] = set()
        self._done: list[tuple[Turn, Exchange]] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._clients.number):
            await self._connect()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._watcher.cancel()
        for connection in self._connections:
            connection.close()

    async def run(self, schedule: Schedule) -> Report:
        """Send until the schedule ends."""
        start = time.perf_counter()
        step = self._clients.ramp / self._clients.number
        places = enumerate(list(self._connections))
        await asyncio.gather(*(self._send(connection, schedule, place * step) for place, connection in places))
        return summarise(self._done, time.perf_counter() - start)

    async def _send(self, connection: ClientConnection, schedule: Schedule, wait: float) -> None:
        await asyncio.sleep(wait)
        while (turn := await schedule.next()) is not None:
            if connection.closed:
                self._connections.discard(connection)
                try:
                    connection = await self._connect()
                except OSError:
                    now = time.perf_counter()
                    self._done.append((turn, Exchange("no connection", now, 0.0, now)))
                    continue
            message = rendered(self._head, self._make(turn.number))
            self._done.append((turn, await connection.exchange(message)))

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(ClientConnection, self._host, self._port)
        self._connections.add(connection)
        return connection

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            for connection in self._connections:
                connection.give_up(time.perf_counter() - self._clients.patience)


async def closed_loop(
    url: str, make: MakeMessage, clients: Clients, *, requests: int | None = None, seconds: float | None = None
) -> Report:
    """The clients send one request after the other: so many requests together, or for so many seconds.

    Raises OSError if the server can't be reached at the start; later that is a problem of the report.
    """
    if requests is None and seconds is None:
        raise ValueError("a closed loop needs a number of requests or of seconds")
    async with _Load(url, make, clients) as load:
        return await load.run(ClosedLoop(requests, seconds))


async def open_loop(url: str, make: MakeMessage, clients: Clients, *, rate: float, seconds: float) -> Report:
    """`rate` requests a second; one that finds all clients busy waits, and its latency counts that.

    Timers are good to a millisecond: `Report.lateness` says how much of the latency is the generator's own. Raises OSError as
    `closed_loop` does.
    """
    async with _Load(url, make, clients) as load:
        return await load.run(OpenLoop(rate, seconds))


def rendered(head: bytes, message: Message) -> bytes:
    """All that is sent of it, after the lines that all have in common."""
    if message.line:
        head = b"%b HTTP/1.1\r\n%b" % (message.line.encode(), head.partition(b"\r\n")[2])
    headers = "".join(f"{name}: {value}\r\n" for name, value in message.headers)
    return b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(message.body), headers.encode(), message.body)


def summarise(done: Sequence[tuple[Turn, Exchange]], seconds: float) -> Report:
    """The report of these exchanges."""
    good = [(turn, exchange) for turn, exchange in done if not exchange.problem]
    streams = [exchange for _, exchange in good if exchange.events > 1]
    return Report(
        requests=len(done),
        good=len(good),
        problems=dict(Counter(exchange.problem for _, exchange in done if exchange.problem)),
        seconds=seconds,
        events=sum(exchange.events for _, exchange in good),
        latency=Quantiles.of([exchange.last_byte - turn.planned for turn, exchange in good]),
        first_byte=Quantiles.of([exchange.first_byte - turn.planned for turn, exchange in good]),
        per_event=Quantiles.of([(stream.last_event - stream.first_event) / (stream.events - 1) for stream in streams]),
        lateness=Quantiles.of([exchange.sent - turn.planned for turn, exchange in done]),
    )


def _text(report: Report) -> str:
    lines = [f"{report.requests} requests, {report.good} good, {report.rate:.1f}/s over {report.seconds:.2f} s"]
    lines += [f"  {count} x {problem}" for problem, count in sorted(report.problems.items())]
    lines.append(f"{'ms':12}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}")
    for name in ("latency", "first_byte", "per_event", "lateness"):
        quantiles = msgspec.structs.astuple(getattr(report, name))
        lines.append(f"{name:12}" + "".join(f"{value * 1000:10.3f}" for value in quantiles))
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Send chat requests and take the time.")
    parser.add_argument("url", help="http://HOST:PORT/.../v1/chat/completions")
    parser.add_argument("--clients", type=int, default=16, help="requests in flight; in an open loop the most (default 16)")
    parser.add_argument("--requests", type=int, help="closed loop: stop after so many")
    parser.add_argument("--seconds", type=float, default=5.0, help="stop after so long (default 5)")
    parser.add_argument("--rate", type=float, help="open loop: requests a second")
    parser.add_argument("--model", default="mock-model")
    parser.add_argument(
        "--prompt", default="Question {i}: which spade fits a small clay bed?", help="{i} is the request's number"
    )
    parser.add_argument("--stream", action="store_true", help="ask for a stream")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    return parser.parse_args()


def _chat(arguments: argparse.Namespace) -> MakeMessage:
    headers = tuple((name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in arguments.header))

    def make(index: int) -> Message:
        content = arguments.prompt.replace("{i}", str(index))
        body = {"model": arguments.model, "stream": arguments.stream, "messages": [{"role": "user", "content": content}]}
        return Message(json.dumps(body).encode(), headers)

    return make


def main() -> None:
    """Parse the arguments, run, print the report."""
    arguments = _arguments()
    make, clients = _chat(arguments), Clients(arguments.clients)
    if arguments.rate is not None:
        run = open_loop(arguments.url, make, clients, rate=arguments.rate, seconds=arguments.seconds)
    else:
        seconds = arguments.seconds if arguments.requests is None else None
        run = closed_loop(arguments.url, make, clients, requests=arguments.requests, seconds=seconds)
    print(_text(uvloop.run(run)))


if __name__ == "__main__":
    main()
