"""X3: flights against a model, by chance: who asks, who leaves, what comes, what fails, what is cleared.

The model knows for each question what is stored and who waits for which call. At any moment there is at most one call for a
question that may be shared, and whoever waits gets what that very call brings, or its error.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.handle import Cached, Live, Whole
from sentinel_gateway.ports import ChunkStream, Completion, UpstreamCall
from tests.fakes import FakeStream, completion, spoken, turns
from tests.pipeline.conftest import question
from tests.pipeline.test_path import content

pytestmark = pytest.mark.anyio

STEPS = [4_000, pytest.param(100_000, marks=pytest.mark.long)]
QUESTIONS = 4
CROWD = 12
"""Waiting callers, at most."""


@dataclass
class Call:
    """One upstream call: open until it is told how it ends."""

    number: int
    text: str
    stream: bool
    ending: asyncio.Future[Completion | FakeStream] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


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
        self.seen = dict.fromkeys(("hit", "joined", "led", "left", "answered", "failed", "cleared", "cancelled"), 0)

    def call_for(self, text: str) -> Call | None:
        """What is under way for whoever asks now: nothing that was asked for before a clear."""
        joinable = (call for call in self.provider.open if call.number not in self.cleared)
        return next((call for call in joinable if call.text == text), None)

    async def ask(self) -> None:
        text, stream = f"question {self.rng.randrange(QUESTIONS)}", self.rng.random() < 0.5
        known, flying, calls = self.stored.get(text), self.call_for(text), self.provider.calls
        task = asyncio.create_task(self._said(text, stream=stream))
        await turns()
        if known is not None:
            assert await task == known
            self.seen["hit"] += 1
        else:
            self.waiting.append(Caller(text, task, self.call_for(text)))
            assert not task.done()
            self.seen["joined" if flying else "led"] += 1
        assert self.provider.calls == calls + (known is None and flying is None)

    async def _said(self, text: str, *, stream: bool) -> str:
        journey = self.path.journey()
        reply = await self.path.handle(question(text, stream=stream), journey)
        match reply:
            case Cached():
                return content(reply)
            case Whole():
                return reply.completion.answer.fields["choices"][0]["message"]["content"]
        assert isinstance(reply, Live)
        await self.path.read(reply, journey)
        return "".join(_pieces(self.path.said))

    async def answer(self) -> None:
        call = self.rng.choice(self.provider.open)
        said = f"answer {call.number}"
        call.ending.set_result(FakeStream(*spoken("answer ", str(call.number))) if call.stream else completion(said))
        for caller in self.passengers(call):
            assert await caller.task == said
        if call.number not in self.cleared:
            self.stored[call.text] = said
        self.seen["answered"] += 1

    async def fail(self) -> None:
        call = self.rng.choice(self.provider.open)
        call.ending.set_exception(UpstreamBroken("told to"))
        for caller in self.passengers(call):
            with pytest.raises(UpstreamBroken):
                await caller.task
        self.seen["failed"] += 1

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
        if self.provider.open:
            choices += [self.answer, self.fail, self.leave, self.leave]
        if self.rng.random() < 0.3:
            choices.append(self.clear)
        await self.rng.choice(choices or [self.clear])()
        texts = [call.text for call in self.provider.open if call.number not in self.cleared]
        assert len(set(texts)) == len(texts), "two calls for one question"
        assert {id(caller.call) for caller in self.waiting} == {id(call) for call in self.provider.open}


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
