"""A request with an idempotency key is done once: who comes second waits for the first, or is given what it was given.

The work is a task of its own, so that a caller who loses the connection finds the answer when it asks again. It stands after
authentication and limits and before the cache (docs/decisions/016).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from sentinel_gateway.core.chat import read_answer
from sentinel_gateway.core.idempotency import Answered, Claim, Held, Outcome, Refused, TooLong, refusal, refused
from sentinel_gateway.core.streaming import whole_body
from sentinel_gateway.errors import (
    IdempotencyUnavailable,
    KeyReused,
    Overloaded,
    RequestError,
    RequestInterrupted,
    RequestUnderway,
    StoreDown,
)
from sentinel_gateway.pipeline.flight import Flight
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Cached, Live, Repeated, Reply, Whole
from sentinel_gateway.ports import Clock, Completion, IdempotencyStore

T = TypeVar("T")

SAME: Final = 1.0
"""The similarity of a question to itself."""
REUSED: Final = "This Idempotency-Key was used with another request: a new request needs a new key."
UNDERWAY: Final = (
    "The first request with this Idempotency-Key is still being answered: send it again a little later, with the same key."
)
INTERRUPTED: Final = (
    "The gateway stopped, or lost its store, while it worked on the first request with this Idempotency-Key. Whether the "
    "provider answered, and charged for it, is not known: if it may be asked again, send the request with a new key."
)
TOO_LONG: Final = (
    "The first request with this Idempotency-Key was answered, at such length that the answer was not kept: "
    "if the provider may be asked again, send the request with a new key."
)
UNAVAILABLE: Final = "The store of idempotency keys does not answer: send the request again a little later, or without a key."
FULL: Final = "Too many requests with an Idempotency-Key are being answered: try again shortly."


class IdempotencyLimits(msgspec.Struct, frozen=True):
    """Seconds, and how many requests with a key may be worked on at the same time: they go on when their callers have left."""

    wait: float = 60.0
    running: int = 1_000
    running_of_tenant: int = 100
    max_bytes: int = 1 << 20
    """The longest answer that is kept."""


class Work(msgspec.Struct, frozen=True):
    """`begun` is told before anything is done, and `ended` when nothing goes on any more; `answer` does it."""

    begun: Callable[[], None]
    answer: Callable[[], Coroutine[Any, Any, Cached | Whole | Live]]
    ended: Callable[[], Awaitable[None]]


class Idempotency:
    """Requests with a key, each done once."""

    def __init__(self, store: IdempotencyStore, limits: IdempotencyLimits, clock: Clock) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._running: dict[Claim, asyncio.Future[Outcome | RequestError]] = {}
        """What will have come of each request that is being worked on."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Idempotency {len(self._running)} running>"

    async def answer(self, claim: Claim, plan: Plan, journey: Journey, work: Work) -> Reply:
        """The reply of the `work`, or what the first request under this claim was given; raises `RequestError`s.

        `work` goes on when the caller is cancelled: it must not depend on the caller's own task.
        """
        ended = self._running.get(claim)
        if ended is not None:
            return await self._wait(ended, plan, journey)
        of_tenant = sum(running.tenant == claim.tenant for running in self._running)
        if len(self._running) >= self._limits.running or of_tenant >= self._limits.running_of_tenant:
            raise Overloaded(FULL, retry_after=1.0)
        self._running[claim] = asyncio.get_running_loop().create_future()
        work.begun()
        task = self._begin(self._do(claim, plan, journey, work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._unread)
            raise

    async def close(self) -> None:
        """Give up what is being worked on. What came of it is not known then, and its keys say so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self, ended: "asyncio.Future[Outcome | RequestError]", plan: Plan, journey: Journey) -> Reply:
        done, _ = await asyncio.wait([ended], timeout=self._limits.wait)
        if not done:
            raise RequestUnderway(UNDERWAY, retry_after=1.0)
        outcome = ended.result()
        if isinstance(outcome, RequestError):
            raise outcome.with_traceback(None)  # one error for many: each raise would lengthen its trace
        return _replay(outcome, plan, journey)

    async def _do(self, claim: Claim, plan: Plan, journey: Journey, work: Work) -> Reply:
        """For the first caller. It ends what it began, or leaves that to `_follow`."""
        followed = False
        try:
            held = await self._claim(claim)
            if held is not None:
                outcome = _recall(held, claim)
                repeated = _replay(outcome, plan, journey)
                self._tell(claim, outcome)
                return repeated
            reply = await self._first(claim, work)
            followed = isinstance(reply, Live)
            if isinstance(reply, Live):
                reply.flight.board()
                self._begin(self._follow(claim, reply.flight, journey, work))
            else:
                await self._keep(claim, self._bounded(_answered(reply, journey, self._clock())))
        except RequestError as exc:
            self._tell(claim, exc)
            raise
        else:
            return reply
        finally:
            if not followed:
                self._end(claim)
                await work.ended()

    async def _claim(self, claim: Claim) -> Held | None:
        try:
            return await self._store.claim(claim, self._clock())
        except StoreDown as exc:
            raise IdempotencyUnavailable(UNAVAILABLE, retry_after=1.0) from exc

    async def _first(self, claim: Claim, work: Work) -> Cached | Whole | Live:
        try:
            return await work.answer()
        except RequestError as exc:
            await self._failed(claim, exc)
            raise

    async def _follow(self, claim: Claim, flight: Flight, journey: Journey, work: Work) -> None:
        """Draw a stream to its end, whether or not its caller stays."""
        try:
            answer = await flight.answer()
            flight.tell(journey)
            kept = None if answer is None else Answered(msgspec.json.encode(answer.fields), journey.target)
            await self._keep(claim, TooLong() if kept is None else self._bounded(kept))
        except RequestError as exc:
            await self._failed(claim, exc)
            self._tell(claim, exc)
        finally:
            self._end(claim)
            try:
                await flight.leave()
            finally:
                await work.ended()

    def _bounded(self, answered: Answered) -> Outcome:
        return answered if len(answered.body) <= self._limits.max_bytes else TooLong()

    async def _keep(self, claim: Claim, outcome: Outcome) -> None:
        with contextlib.suppress(StoreDown):  # the key stays held, without an outcome: who asks again is told that
            await self._store.keep(claim, outcome)
        self._tell(claim, outcome)

    async def _failed(self, claim: Claim, error: RequestError) -> None:
        kept = refused(error)
        with contextlib.suppress(StoreDown):  # as above
            if kept is None:
                await self._store.release(claim)
            else:
                await self._store.keep(claim, kept)

    def _tell(self, claim: Claim, outcome: Outcome | RequestError) -> None:
        self._running[claim].set_result(outcome)

    def _end(self, claim: Claim) -> None:
        """It is worked on no more. Nobody knows what came of it if it was broken off, or by a fault of ours."""
        ended = self._running.pop(claim)
        if not ended.done():
            ended.set_result(RequestInterrupted(INTERRUPTED))

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _unread(self, task: "asyncio.Task[Reply]") -> None:
        """Its caller has left before it had the reply."""
        if not task.cancelled() and task.exception() is None and isinstance(reply := task.result(), Live):
            self._begin(reply.flight.leave())


def _recall(held: Held, claim: Claim) -> Outcome:
    if held.fingerprint != claim.fingerprint:
        raise KeyReused(REUSED)
    if held.outcome is None:
        raise RequestInterrupted(INTERRUPTED)
    return held.outcome


def _answered(reply: Cached | Whole, journey: Journey, now: float) -> Answered:
    if isinstance(reply, Whole):
        return Answered(reply.completion.raw, journey.target)
    entry, similarity = reply.hit.entry, reply.hit.similarity
    body = whole_body(entry.body, answer_id=f"chatcmpl-{journey.sentinel_id}", created=int(now))
    return Answered(body, journey.target, SAME) if similarity is None else Answered(body, journey.target, similarity, entry.text)


def _replay(outcome: Outcome, plan: Plan, journey: Journey) -> Repeated:
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    if isinstance(outcome, TooLong):
        raise RequestInterrupted(TOO_LONG)
    answer = read_answer(msgspec.json.decode(outcome.body))
    if answer is None:
        raise RequestInterrupted(INTERRUPTED)
    journey.target = outcome.target
    return Repeated(plan, Completion(outcome.body, answer), outcome)
