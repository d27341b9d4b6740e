"""`POST /v1/query/batch`: many queries, each answered as `/v1/query` answers it, together or each once it is there."""

import asyncio
from functools import partial
from typing import Final

import msgspec

from sentinel_gateway.api.batched import Item, Items, Run, Take
from sentinel_gateway.api.endpoint import SLOW_BODY, Post
from sentinel_gateway.api.exchange import NDJSON, Exchange, Sender, wait_after
from sentinel_gateway.api.problems import problem_body
from sentinel_gateway.api.wire.batch import Batch, Result, Tally, read_batch, result_line, summary_line, whole_body
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.errors import RequestError, Unprocessable
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.siblings import Leader, Siblings
from sentinel_gateway.ports import Clock

PULSE: Final = b" "
"""A sign of life between two lines: every reader of JSON passes over it."""
MOST_HELD: Final = 32 << 20
"""Bytes of answers that are held until all of them are there. What is longer is asked for as a stream."""
TOO_LONG: Final = (
    "The answers are longer than 32 MiB together: send true, and each comes once it is there. What was answered is in the cache."
)


class BatchRules(msgspec.Struct, frozen=True):
    """`queries` in one batch at most, `concurrency` of them at once. `heartbeat` in seconds; `via` as of every endpoint."""

    queries: int
    concurrency: int
    max_depth: int
    heartbeat: float
    via: str


class QueryBatch(Post):
    """The endpoint. A batch takes a place of its own `admission`, so that what all hold is bounded; its queries are as others."""

    route = "/v1/query/batch"
    takes = "a batch of queries"

    def __init__(
        self, items: Items, siblings: Siblings, limiter: Limiter, rules: BatchRules, *, admission: Admission, clock: Clock
    ) -> None:
        super().__init__(admission, limiter, via=rules.via, clock=clock)
        self._items = items
        self._siblings = siblings
        self._rules = rules

    async def _answer(self, exchange: Exchange, journey: Journey) -> None:
        body = await exchange.caller.body()
        async with self._admission:
            if self._clock() - journey.at > SLOW_BODY:
                exchange.enter()
            batch = await self._read(body, exchange)
            await exchange.cancel_when_gone()
            if _streams(batch, exchange):
                await self._stream(batch, exchange)
            else:
                await self._collect(batch, exchange)

    async def _read(self, body: bytes, exchange: Exchange) -> Batch:
        """A batch that can't be understood costs its caller a request, as every body does."""
        try:
            return read_batch(body, max_depth=self._rules.max_depth, most=self._rules.queries)
        except RequestError:
            if exchange.journey.grant is not None:
                await exchange.journey.grant.spoiled()
            raise

    async def _collect(self, batch: Batch, exchange: Exchange) -> None:
        lines, tally, held = [b""] * len(batch.queries), Tally(), 0

        async def take(index: int, item: Item, leader: Leader | None) -> None:
            nonlocal held
            lines[index] = _line(index, batch, item, leader, tally)
            held += len(lines[index])
            if held > MOST_HELD:
                raise Unprocessable((("body", "stream"), TOO_LONG))

        await self._run(batch, exchange, take)
        summary = tally.summary(self._clock() - exchange.journey.at)
        await exchange.sender.whole(200, whole_body(lines, summary), PRIVATE)

    async def _stream(self, batch: Batch, exchange: Exchange) -> None:
        sender, tally = exchange.sender, Tally()
        sender.broken = _broken
        exchange.journey.stream = True

        async def take(index: int, item: Item, leader: Leader | None) -> None:
            line = _line(index, batch, item, leader, tally) + b"\n"
            await sender.start_stream(PRIVATE, NDJSON)
            if not sender.pass_on(line):
                await sender.part(line)

        exchange.run_later(self._rules.heartbeat, partial(self._keep_alive, exchange.sender))
        await self._run(batch, exchange, take)
        await sender.end_stream(summary_line(tally.summary(self._clock() - exchange.journey.at)) + b"\n")

    async def _keep_alive(self, sender: Sender) -> None:
        while True:
            await sender.start_stream(PRIVATE, NDJSON)
            await asyncio.sleep(await sender.beat(PULSE, self._rules.heartbeat))

    async def _run(self, batch: Batch, exchange: Exchange, take: Take) -> None:
        journey = exchange.journey
        run = Run(batch.queries, exchange, self._items, self._siblings.meet(journey), take)
        places = self._limiter.places(journey.caller.party)
        most = self._rules.concurrency if places is None else min(self._rules.concurrency, max(1, places - 1))
        await run.all(most)


def _streams(batch: Batch, exchange: Exchange) -> bool:
    """Is each answer wanted once it is there? What the body says stands above the header."""
    return b"application/x-ndjson" in exchange.headers.get(b"accept", b"") if batch.stream is None else batch.stream


def _line(index: int, batch: Batch, item: Item, leader: Leader | None, tally: Tally) -> bytes:
    kept, same = item.kept, leader is not None and leader.same
    tally.add(item.journey, duplicate=same)
    failure, body = kept.failure, msgspec.Raw(kept.body)
    return result_line(
        Result(
            index=index,
            id=batch.queries[index].id,
            request_id=item.journey.request_id,
            status=item.journey.status,
            duplicate_of=leader.number if leader is not None and same else None,
            retry_after=None if failure is None else wait_after(failure),
            answer=body if failure is None else None,
            problem=None if failure is None else body,
        )
    )


def _broken(error: RequestError) -> bytes:
    """The last line of a stream that can't go on, in place of its summary."""
    return b'{"problem":%b}\n' % problem_body(error)
