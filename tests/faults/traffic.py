"""Questions at a steady rate, come what may: what clients see of an outage.

Half of them were asked before, and half are new; each has to be answered with its own answer. A question's time counts from the
moment for which it was planned, so that a gateway that stands still can't hide what it kept from being asked.
"""

import asyncio
import gc
import json
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp

from bench.chaos import ChaosUpstream
from tests.gateway import CHAT, chat

PATIENCE = 30.0
"""Seconds after which a client gives up."""
OLD = 40
"""Questions that are asked again and again."""


@dataclass
class Asked:
    """One question: when it was to be asked (`time.monotonic()`), and how it went."""

    text: str
    gateway: str
    planned: float
    sent: float = 0.0
    seconds: float = 0.0
    """From `planned` until the whole answer was here."""
    problem: str = ""
    """Why it has no right answer; empty if it has."""
    source: str = ""
    """Which tier had the answer; empty if the provider was asked."""
    id: str = ""
    """The gateway's own, as the ledger has it."""

    @property
    def ended(self) -> float:
        return self.planned + self.seconds


@dataclass(frozen=True)
class Phase:
    """The questions planned for a stretch of time."""

    asked: Sequence[Asked] = field(repr=False)

    @property
    def problems(self) -> Counter[str]:
        return Counter(one.problem for one in self.asked if one.problem)

    @property
    def sources(self) -> Counter[str]:
        """Who answered, by how often."""
        return Counter(one.source for one in self.asked if not one.problem)

    def seconds(self, share: float) -> float:
        """By nearest rank: so long or less took this share of the questions."""
        return sorted(one.seconds for one in self.asked)[math.ceil(share * len(self.asked)) - 1]

    def __str__(self) -> str:
        times = ", ".join(f"p{100 * share:g} {1000 * self.seconds(share):.1f} ms" for share in (0.5, 0.99, 1))
        return f"{len(self.asked)} asked, {self.problems.total()} failed, {times}, {dict(self.sources)}"


class Traffic:
    """Asks `rate` questions a second, at each gateway in turn, while the context is open; it closes when all are answered.

    The old questions are asked once before that, at each of them; unless it is not `warm`.
    """

    def __init__(self, *gateways: str, rate: float, name: str = "", warm: bool = True) -> None:
        self.asked: list[Asked] = []
        self.rate = rate
        self.begun = 0.0
        self._ends = math.inf
        self._gateways = gateways
        self._name = name
        self._warms = warm
        self._stopped = asyncio.Event()
        self._old = [f"Old question {number}{name}?" for number in range(OLD)]

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=PATIENCE)
        )
        try:
            if self._warms:
                await self._warm()
        except BaseException:
            await self._session.close()
            raise
        self._asking = asyncio.create_task(self._ask_all())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ends = time.monotonic()
        self._stopped.set()
        await self._asking
        await self._session.close()

    def between(self, start: float = 0.0, end: float = math.inf) -> Phase:
        """What was planned from `start` until `end`, in `time.monotonic()`. All is known when the context is closed."""
        first, after = (bisect_left(self.asked, moment, key=lambda one: one.planned) for moment in (start, end))
        return Phase(self.asked[first:after])

    @classmethod
    async def most(cls, gateway: str, *, seconds: float = 5.0, clients: int = 16) -> float:
        """New questions a second that the gateway, this machine and these tests manage together."""
        asked: list[Asked] = []

        async def one(traffic: Self, number: int) -> None:
            end = time.monotonic() + seconds
            while (now := time.monotonic()) < end:
                asked.append(Asked(f"How many, {number}, {now}?", gateway, now))
                await traffic._ask(asked[-1])

        async with cls(gateway, rate=1) as traffic:
            await asyncio.gather(*(one(traffic, number) for number in range(clients)))
        assert not Phase(asked).problems, Phase(asked).problems
        return len(asked) / seconds

    async def _warm(self) -> None:
        for gateway in self._gateways:
            warming = [Asked(text, gateway, time.monotonic()) for text in self._old]
            await asyncio.gather(*(self._ask(one) for one in warming))
            problems = Phase(warming).problems
            assert not problems, problems

    async def _ask_all(self) -> None:
        """Late ones as well: a machine that is busy asks no fewer."""
        self.begun = time.monotonic()
        running: set[asyncio.Task[None]] = set()
        number = 0
        while True:
            planned = self.begun + number / self.rate
            with suppress(TimeoutError):
                async with asyncio.timeout(planned - time.monotonic()):
                    await self._stopped.wait()
            if planned >= self._ends:
                break
            text = f"New question {number}{self._name}?" if number % 2 else self._old[number // 2 % OLD]
            self.asked.append(Asked(text, self._gateways[number // 2 % len(self._gateways)], planned))
            running.add(asking := asyncio.create_task(self._ask(self.asked[-1])))
            asking.add_done_callback(running.discard)
            number += 1
        await asyncio.gather(*running)

    async def _ask(self, one: Asked) -> None:
        one.sent = time.monotonic()
        body = json.dumps(chat(one.text))
        try:
            async with self._session.post(one.gateway + CHAT, data=body, headers={"content-type": "application/json"}) as answer:
                one.problem = _fault_of(answer.status, await answer.read(), one.text)
                one.id = answer.headers.get("x-sentinel-id", "")
                one.source = _source_of(answer.headers.get("cache-status", ""))
        except (aiohttp.ClientError, TimeoutError) as exc:
            one.problem = type(exc).__name__
        one.seconds = time.monotonic() - one.planned


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Python looks for no garbage in the test's own process, which is the callers' and the provider's as well: that is a tenth of
    a second each time, and looks as if the gateway had taken it. For tests whose gateway is a program of its own.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _fault_of(status: int, body: bytes, text: str) -> str:
    if status != 200:
        return str(status)
    said = json.loads(body)["choices"][0]["message"]["content"]
    return "" if said.endswith(f" to: {text}") else f"the answer to another question: {said}"


def _source_of(cache_status: str) -> str:
    first, *_ = cache_status.split(",")
    name, _, state = first.partition(";")
    return name.strip() if state.startswith("hit") else ""


def asked_twice(upstream: ChaosUpstream, which: str) -> dict[str, int]:
    """The questions beginning so that the provider was asked more than once, by how often."""
    asked = Counter(call.body["messages"][-1]["content"] for call in upstream.calls)
    return {text: count for text, count in asked.items() if count > 1 and text.startswith(which)}
