"""Callers that take as long as they are let, thousands at a time, and how long they were let; honest ones beside them."""

import asyncio
import json
import select
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

TICK = 0.05
"""Seconds between looks at all connections."""
LOOKS = 250
"""After so many, all of them are connected."""
TRICKLE = 1.0
"""Seconds between two bytes of a caller that trickles."""
PATIENCE = 20.0
"""Seconds after which an honest caller gives up."""


def chat(question: str, **fields: object) -> bytes:
    return json.dumps({"model": "demo", "messages": [{"role": "user", "content": question}], **fields}).encode()


def post(body: bytes, *, length: int | None = None) -> bytes:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    return head % (len(body) if length is None else length) + body


LONG_ANSWER = post(chat("é" * 1000, n=128))
"""Some 290 KB come back: more than the kernel and the gateway hold for a reader who does not read."""
ATTACKS = {
    "head": b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: ",
    "body": post(b"", length=1000),
    "reader": LONG_ANSWER,
}


@dataclass(eq=False)
class Slow:
    """One caller; `life` in seconds, once it was cut."""

    attack: str
    socket: socket.socket
    began: float
    life: float | None = None
    answer: bytes = b""


@dataclass
class Swarm:
    """Keeps `each` callers of every attack connected, for some time; then waits until the last is cut."""

    port: int
    each: int
    callers: list[Slow] = field(default_factory=list)
    _open: dict[int, Slow] = field(default_factory=dict)
    _poll: select.epoll = field(default_factory=select.epoll)

    async def attack(self, seconds: float, *, patience: float) -> None:
        """`patience`: seconds after the end of the attack for which the last may still live."""
        end = time.monotonic() + seconds
        due = 0.0
        try:
            while (now := time.monotonic()) < end or (self._open and now < end + patience):
                if len(self.callers) < self.each * len(ATTACKS):
                    end = max(end, now + TICK)  # a busy machine connects the last of them later
                if now < end:
                    self._connect()
                if now >= due:
                    self._trickle()
                    due = now + TICK
                self._look()
                await asyncio.sleep(TICK / 2)
        finally:
            for caller in self._open.values():
                caller.socket.close()
            self._poll.close()

    def _connect(self) -> None:
        """As many as are missing, a few at a time: the gateway shall have slow callers, and not too much to do."""
        there = Counter(caller.attack for caller in self._open.values())
        at_once = max(1, self.each // LOOKS)
        missing = [attack for attack in ATTACKS for _ in range(min(self.each - there[attack], at_once))]
        for attack in missing:
            began = time.monotonic()
            caller = Slow(attack, self._dial(), began)
            caller.socket.send(ATTACKS[attack])
            self.callers.append(caller)
            self._open[caller.socket.fileno()] = caller
            self._poll.register(caller.socket, select.EPOLLRDHUP)

    def _dial(self) -> socket.socket:
        """With small buffers and segments, as over a real network: else the kernel would hold megabytes for each."""
        dialled = socket.socket()
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        dialled.connect(("127.0.0.1", self.port))
        dialled.setblocking(False)
        return dialled

    def _trickle(self) -> None:
        """A byte from those whose turn it is."""
        turns = round(TRICKLE / TICK)
        turn = round(time.monotonic() / TICK) % turns
        for number, caller in self._open.items():
            if number % turns == turn and caller.attack != "reader":
                try:
                    caller.socket.send(b"a")
                except (BlockingIOError, ConnectionError):
                    continue  # the next look sees why

    def _look(self) -> None:
        for number, _ in self._poll.poll(0):
            caller = self._open.pop(number)
            caller.life = time.monotonic() - caller.began
            if caller.attack != "reader":
                try:
                    caller.answer = caller.socket.recv(4096)
                except ConnectionError:
                    caller.answer = b""
            caller.socket.close()


@dataclass
class Honest:
    """Asks at a steady rate, however long answers take: what was asked before, and what was not, in turn."""

    port: int
    rate: float
    asked: int = 0
    failures: list[str] = field(default_factory=list)

    async def ask_while(self, running: asyncio.Task[None]) -> None:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as asking:
            while not running.done():
                asking.create_task(self._ask(session, self.asked))
                self.asked += 1
                await asyncio.sleep(1 / self.rate)

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        question = chat(f"honest {number if number % 2 else number % 10}", stream=number % 3 == 0)
        try:
            async with asyncio.timeout(PATIENCE), session.post(url, data=question) as answer:
                body = await answer.read()
                if answer.status != 200 or (number % 3 == 0 and b"data: [DONE]" not in body):
                    self.failures.append(f"{answer.status} {body[:200]!r}")
        except (TimeoutError, aiohttp.ClientError) as error:
            self.failures.append(repr(error))


def lives(callers: list[Slow]) -> Mapping[str, list[float]]:
    """The lives of those of each attack, the shortest first. One that was never cut lived for ever."""
    found: dict[str, list[float]] = {attack: [] for attack in ATTACKS}
    for caller in callers:
        found[caller.attack].append(float("inf") if caller.life is None else caller.life)
    return {attack: sorted(times) for attack, times in found.items()}
