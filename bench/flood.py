"""An open loop of plain sockets: for rates at which a generator made of coroutines would measure itself.

One thread, one epoll, one request in flight on each connection. When an answer was there is asked of the kernel, which stamps
what arrives: this process may be reading others, or waiting for the core that it shares with the mock. Knows answers that say
how long they are, and no others. Linux only.
"""

import heapq
import math
import random
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from bench.client import Exchange
from bench.load import SWEEP, MakeMessage, Turn, rendered

TOO_MUCH: Final = ("429", "503", "529")
"""Answers of who has too much to do."""
SO_TIMESTAMPNS: Final = 35
"""`socket` has no name for it. The kernel stamps soon after somebody has asked; what came before counts as it is read."""
STAMP: Final = struct.Struct("qq")
READ: Final = 65_536
AT_ONCE: Final = 256
"""Answers that are read before it is asked again what is to be sent."""
MOST_CLIENTS: Final = 8000
LENGTH: Final = b"\r\ncontent-length: "
WAIT: Final = b"\r\nretry-after-ms: "


class Crowd(NamedTuple):
    """Who sends: so many, each on a connection of its own."""

    number: int
    patience: float = 10.0
    """Seconds after which they give an answer up, to a quarter of a second."""
    retries: int = 0
    """How often they ask again who are told that there is too much to do."""
    backoff: tuple[float, float] = (0.1, 0.4)
    """Seconds before they do, drawn between these: whatever the server says."""


def enough(rate: float) -> Crowd:
    """For so many a second: each is busy for a second at most, and none for so long idle that it is cut."""
    return Crowd(int(min(MOST_CLIENTS, max(64, rate))))


class Flood(NamedTuple):
    """What came of it. Times are `time.perf_counter()`."""

    done: list[tuple[Turn, Exchange]]
    """Every turn with its last exchange, in the order in which they ended."""
    asked_again: int
    """Requests beside those: of clients who insisted."""


def flood(url: str, make: MakeMessage, steps: Sequence[tuple[float, float]], crowd: Crowd) -> Flood:
    """Send as planned, step by step, each a rate and its seconds; one that finds all clients busy waits.

    Raises OSError if the server can't be reached.
    """
    with closing(_Flood(url, make, crowd)) as running:
        return running.run(planned(steps))


class _Client:
    """One connection."""

    __slots__ = ("answer", "left", "sent", "socket", "turn")

    def __init__(self, turn: Turn) -> None:
        self.socket: socket.socket
        self.turn = turn
        self.sent = math.inf  # waits for no answer
        self.left = 0
        self.answer = b""

    def __repr__(self) -> str:
        return f"<_Client {self.turn}>"


class _Flood:
    def __init__(self, url: str, make: MakeMessage, crowd: Crowd) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n".encode()
        self._make = make
        self._crowd = crowd
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._free: deque[_Client] = deque()
        self._again: list[tuple[float, int, _Client]] = []
        self._stamps_at = _between_clocks()  # what to take from a stamp
        self.done: list[tuple[Turn, Exchange]] = []
        self.asked_again = 0
        for _ in range(crowd.number):
            self._free.append(self._connect(_Client(Turn(0, 0.0))))

    def __repr__(self) -> str:
        return f"<_Flood {len(self._clients)} clients, {len(self.done)} done>"

    def run(self, moments: Iterator[float]) -> Flood:
        start, number = time.perf_counter(), 0
        due, sweep = start + next(moments, math.inf), start + SWEEP
        while due < math.inf or len(self._free) < self._crowd.number:
            now = time.perf_counter()
            while due <= now and self._free:
                client = self._free.popleft()
                client.turn, client.left = Turn(number, due), self._crowd.retries
                self._send(client)
                number, due = number + 1, start + next(moments, math.inf)
            while self._again and self._again[0][0] <= now:
                self._send(heapq.heappop(self._again)[2])
            if now >= sweep:
                sweep = now + SWEEP
                self._sweep(now - self._crowd.patience)
            then = min(due if self._free else math.inf, sweep, self._again[0][0] if self._again else math.inf)
            for descriptor, _ in self._poll.poll(max(0.0, then - time.perf_counter()), AT_ONCE):
                self._read(self._clients[descriptor])
        return Flood(self.done, self.asked_again)

    def close(self) -> None:
        """Leave."""
        self._poll.close()
        for client in self._clients.values():
            client.socket.close()

    def _connect(self, client: _Client) -> _Client:
        client.socket = socket.create_connection(self._address)
        client.socket.setblocking(False)  # noqa: FBT003 - the library's
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        client.answer, client.sent = b"", math.inf
        self._clients[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLIN)
        return client

    def _send(self, client: _Client) -> None:
        message = rendered(self._head, self._make(client.turn.number))
        client.sent = time.perf_counter()
        try:
            whole = client.socket.send(message) == len(message)  # nothing else is on its way there
        except OSError:
            whole = False
        if not whole:
            self._break_off(client, "not sent")

    def _read(self, client: _Client) -> None:
        try:
            data, told, _, _ = client.socket.recvmsg(READ, 64)
        except OSError:
            data, told = b"", []
        if not data:
            self._break_off(client, "connection lost")
            return
        answer = client.answer = client.answer + data if client.answer else data
        head, blank, body = answer.partition(b"\r\n\r\n")
        if not blank:
            return
        head = head.lower()
        length = _number(head, LENGTH)
        if length is None:
            self._break_off(client, "no length")
        elif len(body) >= length:
            client.answer = b""
            self._take(client, head, (_moment(told) if told else time.time()) - self._stamps_at)

    def _take(self, client: _Client, head: bytes, at: float) -> None:
        """One whole answer, whose last byte came at this moment."""
        status = head[9:12].decode()
        if status in TOO_MUCH and client.left:
            client.left -= 1
            client.sent = math.inf
            self.asked_again += 1
            heapq.heappush(self._again, (at + random.uniform(*self._crowd.backoff), id(client), client))
            return
        wait = (_number(head, WAIT) or 0) / 1000
        self._settle(client, Exchange("" if status == "200" else status, client.sent, at, at, wait=wait))
        if b"\r\nconnection: close" in head:
            self._reconnect(client)

    def _settle(self, client: _Client, exchange: Exchange) -> None:
        self.done.append((client.turn, exchange))
        client.sent = math.inf
        self._free.append(client)

    def _break_off(self, client: _Client, problem: str) -> None:
        if client.sent < math.inf:
            self._settle(client, Exchange(problem, client.sent, 0.0, time.perf_counter()))
        self._reconnect(client)

    def _reconnect(self, client: _Client) -> None:
        del self._clients[client.socket.fileno()]
        client.socket.close()
        self._connect(client)

    def _sweep(self, before: float) -> None:
        self._stamps_at = _between_clocks()
        for client in list(self._clients.values()):
            if client.sent < before:
                self._break_off(client, "timeout")


def planned(steps: Sequence[tuple[float, float]]) -> Iterator[float]:
    """When each request is to be sent, in seconds from the start."""
    begun = 0.0
    for rate, seconds in steps:
        yield from (begun + number / rate for number in range(round(rate * seconds)))
        begun += seconds


def _number(head: bytes, name: bytes) -> int | None:
    """What a header says, if it is there."""
    _, found, rest = head.partition(name)
    return int(rest.partition(b"\r\n")[0]) if found else None


def _between_clocks() -> float:
    """What to take from a stamp. Whoever is held up between the two questions finds too little."""
    return max(time.time() - time.perf_counter() for _ in range(5))


def _moment(told: Sequence[tuple[int, int, bytes]]) -> float:
    """The kernel's stamp, as `time.time()`."""
    seconds, nanoseconds = STAMP.unpack(told[0][2])
    return float(seconds + nanoseconds / 1e9)
