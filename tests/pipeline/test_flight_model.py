"""X3: flights against a model, by chance: who asks, who leaves, what comes, what fails, what is cleared.

The model knows for each question what is stored and who waits for which call. At any moment there is at most one call for a
question that may be shared, and whoever waits gets what that very call brings, or its error. All who want a stream hear each
piece as it comes, and who joins late what came before.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.handle import Cached, Live, Whole
from sentinel_gateway.ports import ChunkStream, Completion, UpstreamCall
from tests.fakes import FakeStream, completion, spoken, turns
from tests.pipeline.conftest import question
from tests.pipeline.test_path import content

pytestmark = pytest.mark.anyio

STEPS = [4_000, pytest.param(100_000, marks=pytest.mark.long)]
QUESTIONS = 4
SEEN = ("hit", "joined", "led", "left", "answered", "failed", "cleared", "cancelled", "begun", "ended", "broken")
CROWD = 12
"""Waiting callers, at most."""


@dataclass
class Call:
    """One upstream call: open until it is told how it ends. A stream may come piece by piece, each when its gate is opened."""

    number: int
    text: str
    stream: bool
    gates: deque[asyncio.Event] = field(default_factory=deque)
    opened: int = 0
    breaks: bool = False
    ending: asyncio.Future[Completion | FakeStream] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class HeldStream(FakeStream):
    """What is said from one gate to the next; in the end it breaks off, or not. The call is open until it is closed."""

    def __init__(self, call: Call, under_way: list[Call], batches: list[list[Chunk]]) -> None:
        call.gates.extend(asyncio.Event() for _ in batches)
        script = [step for both in zip(call.gates, batches, strict=True) for step in both]
        super().__init__(*script, *[UpstreamBroken("cut")] * call.breaks)
        self._call, self._under_way = call, under_way

    async def __aexit__(self, *_: object) -> None:
        self._under_way.remove(self._call)


class HeldProvider:
    """Answers when it is told to."""

    name = "first"

    def __init__(self) -> None:
        self.calls = 0
        self.open: list[Call] = []

    async def _call(self, call: UpstreamCall, *, stream: bool) -> Completion | FakeStream:
        held = Call(self.calls, call.fields["messages"][0]["content"], stream)
        self.calls += 1
        self.open.append(held)
        try:
            return await held.ending
        finally:
            if not held.gates:
                self.open.remove(held)

    async def complete(self, call: UpstreamCall) -> Completion:
        ended = await self._call(call, stream=False)
        assert isinstance(ended, Completion)
        return ended

    async def open_stream(self, call: UpstreamCall) -> ChunkStream:
        ended = await self._call(call, stream=True)
        assert isinstance(ended, FakeStream)
        return ended

    async def list_models(self) -> frozenset[str]:
        return frozenset()


@dataclass
class Caller:
    """Who asked, and what is to come of it: an answer of this call, `error`, or nothing but the end of waiting."""

    text: str
    task: asyncio.Task[str]
    heard: list[bytes] | None
    """What has come of a stream, for whoever wants one."""
    call: Call | None


class World:
    """The path, its provider, and the model of both."""

    def __init__(self, make_path, rng: Random) -> None:
        self.rng = rng
        self.provider = HeldProvider()
        self.path = make_path(first=self.provider)
        self.stored: dict[str, str] = {}
        self.cleared: set[int] = set()
        self.waiting: list[Caller] = []
        self.seen = dict.fromkeys(SEEN, 0)

    def call_for(self, text: str) -> Call | None:
        """What is under way for whoever asks now: nothing that was asked for before a clear."""
        joinable = (call for call in self.provider.open if call.number not in self.cleared)
        return next((call for call in joinable if call.text == text), None)

    async def ask(self) -> None:
        text, stream = f"question {self.rng.randrange(QUESTIONS)}", self.rng.random() < 0.5
        known, flying, calls = self.stored.get(text), self.call_for(text), self.provider.calls
        heard: list[bytes] = []
        task = asyncio.create_task(self._said(text, heard, stream=stream))
        await turns()
        if known is not None:
            assert await task == known
            self.seen["hit"] += 1
        else:
            call = self.call_for(text)
            self.waiting.append(Caller(text, task, heard if stream and call.stream else None, call))
            assert not task.done()
            self.seen["joined" if flying else "led"] += 1
        assert self.provider.calls == calls + (known is None and flying is None)

    async def _said(self, text: str, heard: list[bytes], *, stream: bool) -> str:
        journey = self.path.journey()
        reply = await self.path.handle(question(text, stream=stream), journey)
        match reply:
            case Cached():
                return content(reply)
            case Whole():
                return reply.completion.answer.fields["choices"][0]["message"]["content"]
        assert isinstance(reply, Live)
        try:
            await reply.reader().pipe(lambda payloads: heard.extend(payloads) or True)
        finally:
            await self.path.pipeline.close(reply, journey)
        return "".join(_pieces(heard))

    def held(self) -> list[Call]:
        """Of which nothing has come yet."""
        return [call for call in self.provider.open if not call.gates]

    def flowing(self) -> list[Call]:
        """Streams that have begun, and not ended."""
        return [call for call in self.provider.open if call.gates]

    async def answer(self) -> None:
        call = self.rng.choice(self.held())
        call.ending.set_result(FakeStream(*_spoken(call)) if call.stream else completion(f"answer {call.number}"))
        await self._answered(call)
        self.seen["answered"] += 1

    async def begin(self) -> None:
        call = self.rng.choice([call for call in self.held() if call.stream])
        call.breaks = self.rng.random() < 0.3
        batches = _spoken(call)[: self.rng.choice([2, 3]) if call.breaks else None]
        call.ending.set_result(HeldStream(call, self.provider.open, batches))
        await turns()
        self.seen["begun"] += 1

    async def flow(self) -> None:
        call = self.rng.choice(self.flowing())
        call.gates.popleft().set()
        call.opened += 1
        await turns()
        if call.gates:
            said = "".join(["answer ", str(call.number)][: call.opened - 1])  # the first is the role
            heard = [caller.heard for caller in self.waiting if caller.call is call and caller.heard is not None]
            assert ["".join(_pieces(one)) for one in heard] == [said] * len(heard)
        elif call.breaks:
            await self._failed(call)
            self.seen["broken"] += 1
        else:
            await self._answered(call)
            self.seen["ended"] += 1

    async def fail(self) -> None:
        call = self.rng.choice(self.held())
        call.ending.set_exception(UpstreamBroken("told to"))
        await self._failed(call)
        self.seen["failed"] += 1

    async def _answered(self, call: Call) -> None:
        said = f"answer {call.number}"
        for caller in self.passengers(call):
            assert await caller.task == said
        if call.number not in self.cleared:
            self.stored[call.text] = said

    async def _failed(self, call: Call) -> None:
        for caller in self.passengers(call):
            with pytest.raises(UpstreamBroken):
                await caller.task

    def passengers(self, call: Call) -> list[Caller]:
        """Who waits for it; from now on nobody does."""
        aboard = [caller for caller in self.waiting if caller.call is call]
        self.waiting = [caller for caller in self.waiting if caller.call is not call]
        assert aboard
        return aboard

    async def leave(self) -> None:
        caller = self.waiting.pop(self.rng.randrange(len(self.waiting)))
        caller.task.cancel()
        await asyncio.wait([caller.task])
        await turns()
        others = any(other.call is caller.call for other in self.waiting)
        assert (caller.call in self.provider.open) == others, "the last one to leave ends the call, and nobody else does"
        self.seen["left" if others else "cancelled"] += 1

    async def clear(self) -> None:
        await self.path.tiers.clear(Selector())
        self.stored.clear()
        self.cleared.update(call.number for call in self.provider.open)
        self.seen["cleared"] += 1

    async def step(self) -> None:
        choices = [self.ask] * (4 if len(self.waiting) < CROWD else 0)
        if self.waiting:
            choices += [self.leave, self.leave]
        if self.held():
            choices += [self.answer, self.fail]
        if any(call.stream for call in self.held()):
            choices += [self.begin] * 2
        if self.flowing():
            choices += [self.flow] * 4
        if self.rng.random() < 0.3:
            choices.append(self.clear)
        await self.rng.choice(choices or [self.clear])()
        texts = [call.text for call in self.provider.open if call.number not in self.cleared]
        assert len(set(texts)) == len(texts), "two calls for one question"
        assert {id(caller.call) for caller in self.waiting} == {id(call) for call in self.provider.open}


def _spoken(call: Call) -> list[list[Chunk]]:
    return list(spoken("answer ", str(call.number)))


def _pieces(said: list[bytes]) -> Iterator[str]:
    for payload in said:
        for choice in json.loads(payload)["choices"]:
            yield choice["delta"].get("content") or ""


@pytest.mark.parametrize("steps", STEPS)
async def test_flights_do_what_the_model_does(make_path, steps):
    world = World(make_path, Random(steps))
    for _ in range(steps):
        await world.step()
    while world.waiting:
        await world.leave()
    assert min(world.seen.values()) > steps / 200, world.seen
    assert world.provider.open == []
