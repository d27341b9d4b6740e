"""A second target beside one that is slow to begin, where the route says so: whoever begins first is heard, the other is let go.

Both are attempts, and count as such. What the one that loses has cost is booked as extra, and where that would be more than the
route's share of the day's cost, nobody else is asked. Whole answers begin when they are there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.chat import ChatRequest, Usage, tier_of
from sentinel_gateway.core.retrying import Course, Pause
from sentinel_gateway.core.routing import Hedge, Target
from sentinel_gateway.core.tokens import BYTES_PER_TOKEN, about, said_about, usage_about, within
from sentinel_gateway.errors import UpstreamError
from sentinel_gateway.pipeline.attempt import NOTHING, HedgedTry, Try, pause
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.ports import Clock, Completion, NotCarried, Prices, Unsent


class Closeable(Protocol):
    """What may have begun when it has lost already."""

    async def close(self) -> None: ...


Answered = TypeVar("Answered", bound=Completion | Closeable)
Prepare = Callable[[Target, float], Callable[[Try], Awaitable[Answered]]]
"""Puts the call of a target at some time into its provider's words, or raises `NotCarried`; what comes back asks it."""


class Accounts:
    """What each route that hedges has cost today, and what of it was extra; `prices` are those that all calls are counted by."""

    def __init__(self, prices: Prices, clock: Clock) -> None:
        self.prices = prices
        self._clock = clock
        self._by_model: dict[str, Spending] = {}

    def __repr__(self) -> str:
        return f"<Accounts of {', '.join(self._by_model) or 'nobody'}>"

    def of(self, model: str, share: float) -> Spending:
        """That of a public name, of whose cost `share` may be extra."""
        spending = self._by_model.get(model)
        if spending is None:
            spending = self._by_model[model] = Spending(self.prices, self._clock)
        spending.limit(share)
        return spending


class Bet:
    """What asking twice may cost one request. `spending` is its route's."""

    def __init__(self, plan: Plan, hedge: Hedge, spending: Spending) -> None:
        self.request = plan.request
        self._names = plan.route.names
        self.after = hedge.after
        self.spending = spending

    def __repr__(self) -> str:
        return f"<Bet after {self.after or 'p95'}>"

    def allowed(self, *, stream: bool) -> bool:
        """May a call to any of the targets be lost? Of whole answers as much output is counted as is asked for."""
        output = 0 if stream else self.request.choices * (self.request.token_limit or 0)
        asked = about(self.request.fields)
        return all(self.spending.allows(name, asked, output) for name in self._names)

    def lost(self, winner: Usage | None) -> Usage:
        """What a call is taken to have cost that lost: its input, and of a whole answer as much output as the other had."""
        return usage_about(self.request.fields, completion=0 if winner is None else winner.completion_tokens)


class Runner(msgspec.Struct, Generic[Answered], eq=False):
    """An attempt that is being made."""

    target: Target
    one: HedgedTry
    asking: "asyncio.Future[Answered]"


class Race(Generic[Answered]):
    """One request whose targets may be asked side by side, two at most."""

    def __init__(
        self, course: Course, prepare: Prepare[Answered], journey: Journey, circuits: Circuits, bet: Bet, *, stream: bool
    ) -> None:
        self._course = course
        self._prepare = prepare
        self._journey = journey
        self._circuits = circuits
        self._world = circuits.world
        self._bet = bet
        self._stream = stream
        self._running: list[Runner[Answered]] = []
        self._timer: asyncio.Future[None] | None = None
        self._failure: UpstreamError | None = None

    def __repr__(self) -> str:
        return f"<Race of {' and '.join(runner.target.name for runner in self._running) or 'nobody'}>"

    async def run(self) -> Answered:
        """What the first brings that begins to answer; raises the last target's `UpstreamError` when none does."""
        try:
            while True:
                if not self._running:
                    await self._ask_first()
                    continue
                await self._news()
                if (winner := self._first_done()) is not None:
                    return await self._won(winner)
                if self._timer is not None and self._timer.done():
                    self._timer = None
                    self._ask_second()
                elif self._timer is None and len(self._running) == 1:  # the other has failed meanwhile
                    self._set_timer(self._running[0].target)
        except asyncio.CancelledError as error:
            if await self._let_go():
                raise Unsent from error
            raise
        finally:
            await self._let_go()

    async def _ask_first(self) -> None:
        now = self._world.clock()
        step = self._course.next(now)
        if step is None:
            raise self._failure or self._course.why(now)
        if isinstance(step, Pause):
            await pause(self._world, step.seconds)
        elif self._start(step, now):
            self._set_timer(step)

    def _ask_second(self) -> None:
        if self._running and self._bet.allowed(stream=self._stream):
            now = self._world.clock()
            step = self._course.next(now, beside=self._running[0].target)
            if isinstance(step, Target) and self._start(step, now):
                self._running[-1].one.beside()

    def _start(self, target: Target, now: float) -> bool:
        """False if the target has no words for what is asked."""
        journey = self._journey
        try:
            asking = self._prepare(target, now)
        except NotCarried as error:
            self._course.passed_over(target, error)
            return False
        journey.target = target.name
        journey.attempts += 1
        again, spending = target in self._course.errors, self._bet.spending
        one = HedgedTry(self._circuits, journey, now, again=again, stream=self._stream, spending=spending)
        self._running.append(Runner(target, one, asyncio.ensure_future(_asked(asking, one, self._bet.request))))
        return True

    def _set_timer(self, target: Target) -> None:
        """When it will be time for another beside this one; never, if there is no other left to ask."""
        after = None
        if self._course.has_another(self._world.clock(), target):
            after = self._bet.after
            if after is None:
                after = self._circuits.standings.of(target.name).late(stream=self._stream)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if after is None else asyncio.ensure_future(self._world.sleep(after))

    async def _news(self) -> None:
        """Returns when a call has begun to answer or has failed, or when it is time for another."""
        waited: list[asyncio.Future[Any]] = [runner.asking for runner in self._running]
        await asyncio.wait(waited if self._timer is None else [*waited, self._timer], return_when=asyncio.FIRST_COMPLETED)

    def _first_done(self) -> Runner[Answered] | None:
        """The first that has begun to answer, taken from those that run; those before it that have failed are gone."""
        for runner in [runner for runner in self._running if runner.asking.done()]:
            self._running.remove(runner)
            error = runner.asking.exception()
            if error is None:
                return runner
            if not isinstance(error, UpstreamError):
                runner.one.left()
                raise error
            self._failure = error
            self._course.failed(runner.target, error, runner.one.failed(error, paid_for(error, self._bet.request)))
        return None

    async def _won(self, winner: Runner[Answered]) -> Answered:
        """Its answer, once it is noted and the other is let go."""
        answered, usage = winner.asking.result(), None
        self._journey.target = winner.target.name
        async with AsyncExitStack() as closing:
            if isinstance(answered, Completion):
                usage = answered.answer.usage
                winner.one.answered(winner.one.told)
            else:  # nobody else would, if the caller leaves now
                closing.callback(winner.one.left, self._used(winner, None))
                closing.push_async_callback(answered.close)
            while self._running:
                error = await _end(self._running[0])
                loser = self._running.pop()
                if error is None:
                    loser.one.lost(self._used(loser, usage))
                else:
                    loser.one.failed(error, paid_for(error, self._bet.request))
            closing.pop_all()
        return answered

    def _used(self, loser: Runner[Answered], winner: Usage | None) -> Usage | None:
        """What it has used: as it tells itself, if its answer has come as well; else as it is taken to have, if it was sent."""
        if loser.one.unsent:
            return None
        return self._bet.lost(winner) if loser.one.told is NOTHING else loser.one.told

    async def _let_go(self) -> bool:
        """Nobody waits any more for what is still under way. True if there was something, and nothing of it had been sent."""
        if self._timer is not None:
            self._timer.cancel()
        unsent = []
        while self._running:
            runner = self._running.pop(0)
            try:
                await _end(runner)
            finally:
                runner.one.left(self._used(runner, None))
            unsent.append(runner.one.unsent)
        return bool(unsent) and all(unsent)


async def _asked(asking: Callable[[Try], Awaitable[Answered]], one: HedgedTry, request: ChatRequest) -> Answered:
    """What it brings, and of a whole answer what it has used: a fault in that is one of the attempt.

    Noted here where nothing was sent, for a task that was cancelled forgets by what.
    """
    try:
        answered = await asking(one)
    except Unsent:
        one.unsent = True
        raise
    if isinstance(answered, Completion):
        one.told = told_or_about(answered, request)
    return answered


async def _end(runner: Runner[Answered]) -> UpstreamError | None:
    """Close its call, also if it has begun in this very moment. What it has failed with, if it has."""
    runner.asking.cancel()
    await asyncio.wait([runner.asking])
    if runner.asking.cancelled():
        return None
    error = runner.asking.exception()
    if error is None:
        answered = runner.asking.result()
        if not isinstance(answered, Completion):
            await answered.close()
    elif not isinstance(error, UpstreamError):
        raise error
    return error


def told_or_about(completion: Completion, request: ChatRequest) -> Usage:
    """The usage of a whole answer: as its provider tells it, else about as much as was asked and said."""
    answer = completion.answer
    if answer.usage is not None:
        return answer.usage
    usage = usage_about(request.fields, completion=within(request, said_about(answer)))
    return replace(usage, service_tier=tier_of(answer.fields.get("service_tier")))


def paid_for(error: UpstreamError, request: ChatRequest) -> Usage | None:
    """What a call is taken to have used that failed: nothing, unless its provider takes money for what nobody is given.

    Then it is all the output that was allowed, or about as much as came, where that is known and less.
    """
    if not error.paid:
        return None
    allowed = None if request.token_limit is None else request.choices * request.token_limit
    came = None if error.size is None else error.size // BYTES_PER_TOKEN
    return usage_about(request.fields, completion=min((most for most in (allowed, came) if most is not None), default=0))
