"""The queries of one batch, under way: each a request of its own, asked in an order in which none is asked twice.

Each query passes the entrance, takes from limits, takes a place, is told and written down as if it had come alone. What a batch
adds: a query that another one may answer waits for that one, no more are under way than `batch.concurrency`, and no other begins
in a query's stead until its answer was taken.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sentinel_gateway.api.asgi import Header, Lines
from sentinel_gateway.api.exchange import JSON, Exchange, Intake, Sender
from sentinel_gateway.api.face import Face
from sentinel_gateway.api.problems import PROBLEMS
from sentinel_gateway.api.query import Query
from sentinel_gateway.api.wire.batch import Asked
from sentinel_gateway.errors import (
    BudgetHeld,
    ConcurrencyLimited,
    NeverFits,
    Overloaded,
    RequestError,
    Strained,
    TokensLimited,
    UpstreamError,
)
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.siblings import TOGETHER, Gathering, Leader
from sentinel_gateway.ports import Clock

OF_THE_BATCH: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"accept-encoding", b"expect", b"x-request-id", b"idempotency-key"}
)
"""Headers that are not passed on to each query."""
HELD: Final = (BudgetHeld, ConcurrencyLimited, Overloaded, TokensLimited)
"""Refusals for want of what others hold, and give back: places, tokens, money."""
AGAIN: Final = 5
"""Times that every worker has a query refused because there is too much to do, and none answered, before one fails by that."""
ID_LENGTH: Final = 120
"""Characters of the batch's id that begin each query's: what follows must fit as well."""


class Kept(Sender, eq=False):
    """Keeps an answer instead of sending it: its `body`, and the `failure` that it tells of, if it is one."""

    body: bytes = b""
    failure: RequestError | None = None

    async def whole(self, status: int, body: bytes, headers: Lines, content_type: bytes = JSON) -> None:  # noqa: ARG002 - nobody reads the headers
        """A complete answer."""
        self._started, self._journey.status = True, status
        self.body = body

    async def error(self, error: RequestError) -> None:
        """An error, kept as such and as what would be sent."""
        self.failure = error
        await super().error(error)


class Item(Exchange):
    """One query of a batch and its answer. `told` is what has come of the same query before: then no provider is asked."""

    __slots__ = ("kept", "told")

    def __init__(self, headers: list[Header], body: bytes, *, client: str, now: float, intake: Intake) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        scope = {"method": "POST", "path": Query.route, "headers": headers, "client": (client, 0)}
        super().__init__(scope, receive, _unsent, now=now, intake=intake, form=PROBLEMS)
        self.sender = self.kept = Kept(_unsent, self.journey, self.caller, PROBLEMS)
        self.told: UpstreamError | None = None

    async def cancel_when_gone(self) -> None:
        """The batch sees to that, for all that are under way."""


class Single(Query):
    """A query as it is answered within a batch."""

    async def _wait(self, exchange: Exchange, plan: Plan) -> None:
        """As every query; but who waited for the same one shares its failure, as those do who wait for one call."""
        await super()._wait(exchange, plan)
        if isinstance(exchange, Item) and exchange.told is not None:
            raise exchange.told.with_traceback(None)


class Items:
    """Makes the requests of a batch's queries, and has `face` answer them."""

    def __init__(self, face: Face, *, intake: Intake, clock: Clock) -> None:
        self._intake = intake
        self._clock = clock
        self.serve = face.serve

    def __repr__(self) -> str:
        return f"<Items {self._intake!r}>"

    def headers(self, outer: Exchange) -> list[Header]:
        """What each query has of the batch's headers."""
        return [header for header in outer.headers.items() if header[0] not in OF_THE_BATCH]

    def make(self, outer: Exchange, headers: list[Header], index: int, body: bytes) -> Item:
        """The request of one query: the batch's id and key, and its own place in it."""
        journey = outer.journey
        own = [*headers, (b"x-request-id", f"{journey.request_id[:ID_LENGTH]}-{index}".encode("ascii"))]
        if journey.idempotency_key:
            own.append((b"idempotency-key", _key(journey.idempotency_key, index)))
        return Item(own, body, client=journey.client, now=self._clock(), intake=self._intake)


Take = Callable[[int, Item, Leader | None], Awaitable[None]]
"""Is given each query once it was answered, with the one that it waited for. It may take its time."""


class Run:
    """One batch under way."""

    def __init__(self, queries: list[Asked], outer: Exchange, items: Items, gathering: Gathering, take: Take) -> None:
        self._queries = queries
        self._outer = outer
        self._items = items
        self._headers = items.headers(outer)
        self._gathering = gathering
        self._take = take
        self._ready: asyncio.Queue[tuple[int, Leader | None]] = asyncio.Queue()
        self._waiting: dict[int, list[tuple[int, Leader | None]]] = defaultdict(list)
        """Those that wait, by the number of whom they wait for."""
        self._ended: dict[int, UpstreamError | None] = {}
        """What each has failed by, if a provider did."""
        self._under_way: set[Item] = set()
        self._at_once = 1
        self._strained = 0
        """Queries in a row that were refused because there is too much to do."""
        self._turn = asyncio.Lock()
        self._is_over = False

    def __repr__(self) -> str:
        return f"<Run {len(self._ended)}/{len(self._queries)} ended, {len(self._under_way)} under way>"

    async def all(self, at_once: int) -> None:
        """Returns when all were answered and taken; cancelled, it ends what is under way, as if each caller had left."""
        self._at_once = min(at_once, len(self._queries))
        tasks = [asyncio.create_task(self._work()) for _ in range(self._at_once)]
        tasks.append(arranging := asyncio.create_task(self._arrange()))
        running = {*tasks}
        try:
            while not arranging.done():
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self._is_over = True
            for item in self._under_way:
                item.caller.left = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _arrange(self) -> None:
        """Say who may begin, a few at a time; the others are let go by whom they wait for. Ends when all have ended."""
        for start in range(0, len(self._queries), TOGETHER):
            some = [query.body for query in self._queries[start : start + TOGETHER]]
            for index, leader in enumerate(await self._gathering.join(some), start):
                if leader is None or leader.number in self._ended:
                    self._ready.put_nowait((index, leader))
                else:
                    self._waiting[leader.number].append((index, leader))
            await asyncio.sleep(0)
        await self._ready.join()

    async def _work(self) -> None:
        """Ends where fewer are to be under way at once: there is not enough for all that are."""
        while True:
            index, leader = await self._ready.get()
            item = await self._ask(index, leader)
            failure = item.kept.failure
            if self._is_over:  # what was under way has ended as if its caller had left, which stops nobody
                return
            self._strained = self._strained + 1 if isinstance(failure, Strained) else 0
            if isinstance(failure, Strained) and self._strained <= AGAIN * self._at_once:
                await asyncio.sleep(failure.retry_after or 1.0)  # it passes: nobody has to leave for it
                self._ready.put_nowait((index, leader))
                self._ready.task_done()
                continue
            if self._under_way and isinstance(failure, HELD) and not isinstance(failure, NeverFits | Strained):
                self._ready.put_nowait((index, leader))
                self._ready.task_done()
                return
            self._ended[index] = failure if isinstance(failure, UpstreamError) else None
            for waiting in self._waiting.pop(index, ()):
                self._ready.put_nowait(waiting)
            await self._take(index, item, leader)
            self._ready.task_done()
            async with self._turn:  # what is stored is answered without waiting: others have theirs after each
                await asyncio.sleep(0)

    async def _ask(self, index: int, leader: Leader | None) -> Item:
        item = self._items.make(self._outer, self._headers, index, self._queries[index].body)
        if leader is not None:
            item.told = self._ended[leader.number] if leader.same else None
            await self._gathering.settle(leader)
        self._under_way.add(item)
        try:
            await self._items.serve(item)
        finally:
            self._under_way.discard(item)
        return item


def _key(key: str, index: int) -> bytes:
    """A key of its own for each query, which no caller sends by chance, and which is never too long."""
    return f"batch-{hashlib.sha256(key.encode()).hexdigest()}-{index}".encode("ascii")


async def _unsent(_: Any) -> None:
    """Nothing of a query leaves but with its batch."""
