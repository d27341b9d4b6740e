"""Who asks: programs at a steady rate, come what may, and people who listen to long streams, one after the other."""

import asyncio
import itertools
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp

from tests.deploy.fronts import CERTIFICATE, NAME, Front
from tests.gateway import CHAT, Sse, chat

PATIENCE = 90.0
"""Seconds after which anybody gives up."""
OLD = 40
"""Questions that are asked again and again."""


@dataclass
class Asked:
    """One request; times are `time.monotonic()`."""

    who: str
    text: str
    sent: float
    stream: bool = False
    limited: bool = False
    """It may be refused with 429."""
    ended: float = 0.0
    status: int = 0
    problem: str = ""
    """Why it has no right answer; empty if it has, or was refused by the rules."""
    id: str = ""
    """The gateway's own."""
    outcome: str = ""

    def was_under_way(self, moment: float) -> bool:
        return self.sent < moment < self.ended


class Program(NamedTuple):
    """Asks so often a second; every other question is one that was asked before, if it has `old` ones."""

    name: str
    key: str
    rate: float
    old: bool = True
    limited: bool = False
    max_tokens: int = 40


@dataclass
class Load:
    """All that was asked."""

    session: aiohttp.ClientSession
    asked: list[Asked] = field(default_factory=list)
    live: int = 0
    """Streams that have begun and not ended."""

    async def program(self, program: Program, stopped: asyncio.Event) -> None:
        """Ask until it is told to stop, then wait for the answers."""
        async with asyncio.TaskGroup() as asking:
            began = time.monotonic()
            for number in itertools.count():
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, began + number / program.rate - time.monotonic())):
                        await stopped.wait()
                if stopped.is_set():
                    return
                old = program.old and number % 2
                text = f"{program.name}: old question {number % OLD}?" if old else f"{program.name}: new question {number}?"
                asking.create_task(self.ask(program, text))

    async def ask(self, program: Program, text: str) -> None:
        one = Asked(program.name, text, time.monotonic(), limited=program.limited)
        raw = await self._post(one, program.key, chat(text, "quick/mock-small", max_tokens=program.max_tokens))
        if raw and f" to: {text}" not in json.loads(raw)["choices"][0]["message"]["content"]:
            one.problem = "the answer to another question"

    async def listen(self, key: str, name: str, stopped: asyncio.Event) -> None:
        """One stream after the other, until told to stop; the last is heard to its end."""
        for number in itertools.count():
            if stopped.is_set():
                return
            one = Asked("streams", f"{name}, story {number}, please.", time.monotonic(), stream=True)
            raw = await self._post(one, key, chat(one.text, "slow/mock-small", stream=True))
            if raw and not _is_whole(raw, one.text):
                one.problem = "a stream without its end"
            if one.problem:
                await asyncio.sleep(0.2)

    async def _post(self, one: Asked, key: str, body: dict[str, object]) -> bytes:
        """What was answered, if it was 200 and whole; else the problem of `one` says why not."""
        self.asked.append(one)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        try:
            async with self.session.post(CHAT, data=json.dumps(body), headers=headers) as response:
                one.status, one.id = response.status, response.headers.get("x-sentinel-id", "")
                one.outcome = response.headers.get("x-cache", "")
                self.live += one.stream
                try:
                    raw = await response.read()
                finally:
                    self.live -= one.stream
        except (aiohttp.ClientError, TimeoutError) as exc:
            one.problem = type(exc).__name__
            return b""
        finally:
            one.ended = time.monotonic()
        if one.status != 200 and not (one.status == 429 and one.limited):
            one.problem = f"{one.status} {json.loads(raw)['error']['message'][:60]}"
        return raw if one.status == 200 else b""

    # --- what came of it ---

    def of(self, *who: str) -> list[Asked]:
        return [one for one in self.asked if one.who in who]

    def between(self, start: float, end: float) -> list[Asked]:
        """Those that were sent then."""
        return [one for one in self.asked if start <= one.sent < end]


@asynccontextmanager
async def loading(front: Front) -> AsyncIterator[Load]:
    """Callers that trust the tests' certificate, whatever the front's address."""
    tls = ssl.create_default_context(cafile=CERTIFICATE)
    tls.check_hostname = False
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(front.url, connector=connector, timeout=timeout, headers={"host": NAME}) as session:
        yield Load(session)


def _is_whole(raw: bytes, text: str) -> bool:
    try:
        heard = Sse.read(raw)
    except (AssertionError, ValueError):
        return False
    return heard.done and heard.error is None and f" to: {text}" in heard.text()


def problems(asked: Iterable[Asked]) -> Counter[str]:
    return Counter(one.problem for one in asked if one.problem)
