"""The vector index in Qdrant, shared by all nodes: one collection for each embedding model, in which a scope is a tenant.

A question that waits for a vector is a point without one. No request waits longer than a tenth of a second for an answer, and a
Qdrant that keeps failing is left alone, but for one question now and then (docs/decisions/019).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from sentinel_gateway.core.breaker import Breaker
from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, Events, ScopeView
from sentinel_gateway.vectors._outbox import Outbox
from sentinel_gateway.vectors._qdrant_points import (
    FIELDS,
    VECTOR,
    collection_of,
    exactly,
    head_of,
    id_of,
    in_scope,
    over,
    point,
    prefix_of,
    selected,
    vector_of,
)
from sentinel_gateway.vectors._records import Records

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

T = TypeVar("T")

PROBE_SECONDS: Final = 3.0
CLIENT_SECONDS: Final = 10
"""More than any of our own deadlines."""
SWEEP_SECONDS: Final = 60.0
PAGE: Final = 32
"""Points that are read in one call, with their vectors."""
SLICE: Final = 64
"""Vectors that are sent in one call."""
FAULTS: Final = (ApiException, QdrantException, ValueError)
"""What the client raises: no answer, a refusal, an answer that is none."""
REASON_LENGTH: Final = 200
NOT_FOUND: Final = 404


def open_client(url: str, key: str | None) -> AsyncQdrantClient:
    """The way to Qdrant by HTTP. Connects to nothing yet."""
    return AsyncQdrantClient(url=url, api_key=key, timeout=CLIENT_SECONDS, check_compatibility=False)


async def fault_of(client: AsyncQdrantClient) -> str | None:
    """Why Qdrant does not answer as it should, found out now; None if it does."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await client.get_collections()
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} s"
    except FAULTS as exc:
        return _said(exc)
    return None


class QdrantLimits(msgspec.Struct, frozen=True):
    """Seconds for what a request waits for, and for the rest. `failures` in a row make it leave Qdrant alone for `pause`."""

    answer: float = 0.1
    patience: float = 5.0
    failures: int = 5
    pause: float = 2.0


class Change(msgspec.Struct, frozen=True):
    """A question to be added, as the `added`th, or to be dropped (None)."""

    head: Head
    stamp: str
    added: int | None = None


class QdrantIndex:
    """A `VectorIndex` in Qdrant. To be closed; it closes the client.

    Changes of state are told once: qdrant_down (reason) and qdrant_up; and qdrant_create_failed (reason).
    """

    shared: Final = True

    def __init__(
        self, client: AsyncQdrantClient, records: Records, *, limits: QdrantLimits, clock: Clock, events: Events
    ) -> None:
        self._client = client
        self._records = records
        self.collection = collection_of(records)
        self._limits = limits
        self._clock = clock
        self._events = events
        self._breaker = Breaker(failures=limits.failures, pause=limits.pause)
        self._outbox: Outbox[Change] = Outbox(self._deliver, works=lambda: not self._breaker.is_open, events=events)
        self._added = 0
        self._swept_at = clock()
        self._mending: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<QdrantIndex {self.collection}, {self._breaker!r}, {len(self._outbox)} changes to make>"

    async def prepare(self) -> None:
        """Make the collection if there is none, however long it takes until Qdrant lets us."""
        told = False
        while (fault := await self._try_to_create()) is not None:
            if fault and not told:
                told = True
                self._events.note("qdrant_create_failed", collection=self.collection, reason=fault)
            await asyncio.sleep(self._limits.pause)

    async def status(self) -> Mapping[str, str]:
        return {"qdrant": "up" if await fault_of(self._client) is None else "down"}

    def add(self, head: Head) -> None:
        now = self._clock()
        if not head.scope or head.expires <= now:
            return
        try:
            stamp = self._stamp(head)
        except (ValueError, OverflowError):  # nothing that can be sent
            return
        self._added = max(self._added + 1, int(now * 1e6))
        self._outbox.put(Change(head, stamp, self._added))

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        client, now = self._client, self._clock()

        async def look() -> ScopeView:
            counting = client.count(self.collection, in_scope(scope, waiting=False, now=now))
            if not waiting:
                return ScopeView((await counting).count, ())
            asked = in_scope(scope, waiting=True, now=now)
            reading = client.scroll(self.collection, asked, limit=waiting, order_by=models.OrderBy(key="added"))
            found, (records, _) = await asyncio.gather(counting, reading)
            heads = [head_of(record.payload, self._records) for record in records]
            return ScopeView(found.count, tuple(head for head in heads if head is not None))

        return await self._ask(look)

    async def attach(self, vectors: "Sequence[tuple[Head, Vector]]") -> None:
        """An answer that takes the place in this very moment may lose it to the older one: the question is the same."""
        given = {self._stamp(head): (head, vector.tolist()) for head, vector in vectors}
        ids = [id_of(head.key) for head, _ in given.values()]
        for start in range(0, len(ids), SLICE):
            await self._ask(partial(self._attach, ids[start : start + SLICE], given))

    async def nearest(self, scope: str, vector: "Vector", *, limit: int) -> list[Neighbour]:
        asked, numbers = in_scope(scope, waiting=False, now=self._clock()), vector.tolist()
        search = partial(self._client.query_points, self.collection, numbers, using=VECTOR, query_filter=asked, limit=limit)
        heads = [(head_of(near.payload, self._records), near.score) for near in (await self._ask(search)).points]
        return [Neighbour(head, min(score, 1.0)) for head, score in heads if head is not None]

    def drop(self, heads: Iterable[Head]) -> None:
        for head in heads:
            self._outbox.put(Change(head, self._stamp(head)))

    async def clear(self, selector: Selector, now: float) -> int:
        """Forget what is selected, whatever model made its vector; what is added here meanwhile stays."""
        async with self._outbox.paused:
            withdrawn = self._outbox.withdraw(lambda change: change.added is not None and selector.matches(change.head, now))
            return withdrawn + await self._ask(partial(self._clear, selected(selector, now)), seconds=self._limits.patience)

    async def questions(self, selector: Selector, now: float) -> AsyncGenerator[list[tuple[Head, "Vector | None"]]]:
        offset, more = None, True
        asked = partial(self._client.scroll, self.collection, selected(selector, now), limit=PAGE, with_vectors=[VECTOR])
        while more:
            points, offset = await self._ask(partial(asked, offset=offset), seconds=self._limits.patience)
            found = [(head_of(point.payload, self._records), vector_of(point)) for point in points]
            yield [(head, vector) for head, vector in found if head is not None]
            more = offset is not None

    async def flush(self) -> None:
        """Returns once Qdrant knows what was added and dropped."""
        await self._outbox.flush()

    async def close(self) -> None:
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        await self._outbox.close()
        await self._client.close()

    async def _try_to_create(self) -> str | None:
        """None once it is there; what Qdrant objects; empty while it does not answer, which is told elsewhere."""
        try:
            return await self._ask(self._create, seconds=self._limits.patience)
        except StoreDown:
            return ""

    async def _create(self) -> str | None:
        """The collection, and what it is searched by. What Qdrant objects, if it does."""
        shape = {VECTOR: models.VectorParams(size=self._records.dimension, distance=models.Distance.COSINE)}
        by_scope = models.HnswConfigDiff(m=0, payload_m=16)  # a graph for each scope, none across them
        try:
            await self._client.create_collection(self.collection, vectors_config=shape, hnsw_config=by_scope)
        except (UnexpectedResponse, ValueError) as exc:
            if "already exists" not in str(exc):
                return _said(exc)
        for field, kind in FIELDS.items():
            await self._client.create_payload_index(self.collection, field, kind)
        return None

    async def _attach(self, ids: list[str], given: Mapping[str, tuple[Head, list[float]]]) -> None:
        held = await self._client.retrieve(self.collection, ids, with_payload=["stamp", "added"])
        known = [record.payload for record in held if record.payload is not None and record.payload["stamp"] in given]
        stamps = [(found["stamp"], found["added"]) for found in known]
        points = [point(given[stamp][0], stamp, added=added, vector=given[stamp][1]) for stamp, added in stamps]
        if points:
            await self._client.upsert(self.collection, points)

    async def _deliver(self, changes: Sequence[Change]) -> None:
        await self._ask(partial(self._make, changes), seconds=self._limits.patience)

    async def _make(self, changes: Sequence[Change]) -> None:
        """In their order: what was dropped after it was added stays away, and what was added after that stays."""
        for adding, group in groupby(changes, key=lambda change: change.added is not None):
            if adding:
                last = {change.head.key: point(change.head, change.stamp, added=change.added or 0) for change in group}
                await self._client.upsert(self.collection, list(last.values()))
            else:
                await self._client.delete(self.collection, exactly((change.head, change.stamp) for change in group))
        if (now := self._clock()) - self._swept_at > SWEEP_SECONDS:
            self._swept_at = now
            await self._client.delete(self.collection, over(now), wait=False)

    async def _clear(self, what: models.Filter) -> int:
        removed = 0
        for found in (await self._client.get_collections()).collections:
            if found.name.startswith(prefix_of(self._records)):
                removed += (await self._client.count(found.name, what)).count
                await self._client.delete(found.name, what)
        return removed

    async def _ask(self, asked: Callable[[], Awaitable[T]], *, seconds: float | None = None) -> T:
        """The answer, if it comes in time; else `StoreDown`, and at once while Qdrant is left alone."""
        seconds = seconds or self._limits.answer
        if not self._breaker.allows(self._clock()):
            raise StoreDown("Qdrant is left alone until it answers again")
        answer = asyncio.ensure_future(asked())
        try:
            await asyncio.wait([answer], timeout=seconds)  # `asyncio.timeout` needs a task
            if not answer.done():
                raise self._failed(f"no answer within {seconds:g} s")
            found = answer.result()
        except FAULTS as exc:
            if isinstance(exc, UnexpectedResponse) and exc.status_code == NOT_FOUND:
                self._mend()
            raise self._failed(type(exc).__name__) from None
        finally:
            answer.cancel()
        if self._breaker.succeeded():
            self._events.note("qdrant_up")
        return found

    def _stamp(self, head: Head) -> str:
        return self._records.stamp_of(head).hex()

    def _failed(self, reason: str) -> StoreDown:
        if self._breaker.failed(self._clock()):
            self._events.note("qdrant_down", reason=reason)
        return StoreDown(reason)

    def _mend(self) -> None:
        """Somebody took the collection away."""
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self.prepare())


def _said(error: Exception) -> str:
    """What it says, in one short line."""
    return " ".join(str(error).split())[:REASON_LENGTH]
