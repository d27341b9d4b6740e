"""The vector index in Redis, shared by all nodes: one vector set a scope, so tenants never share one and a cluster spreads them.

Redis compares in 8 bits and names candidates; their true cosines are taken here, from the exact vectors that stand beside. What
has expired is no filter of the search: whoever meets it has it taken away (docs/decisions/019).
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.ports import Clock, Events, ScopeView
from sentinel_gateway.vectors._outbox import Outbox
from sentinel_gateway.vectors._records import STAMP_BYTES, Record, Records
from sentinel_gateway.vectors._redis_calls import (
    ENDS,
    HEADS,
    PREFIX,
    Link,
    Step,
    probe,
    scan,
    search,
    servers,
    take_steps,
    wipe,
)
from sentinel_gateway.vectors._rows import cosines, decode, encode

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

EFFORT: Final = 100
"""Neighbours that Redis keeps in mind while it searches or adds: the nearest of 100,000 is found 99 times of 100, within 2 ms."""
CANDIDATES: Final = 2
"""So many for each that is wanted: 8 bits may put near neighbours in another order."""
SLICE: Final = 8
"""Vectors that are added in one call: each takes the server up to a millisecond, in which it does nothing else."""
SCOPES: Final = 16
"""So many are looked through together, in one round trip: most hold few questions."""
PAGE: Final = 32
"""Questions that are looked at before others have their turn, and asked of Redis in one call."""
NUMBER_BYTES: Final = 2

Kept = tuple[Step, Record | None]
"""What would drop a question, and what is kept of it; None if that is damaged."""


class RedisIndex:
    """A `VectorIndex` in Redis. To be closed; it closes the link.

    At most `most` questions of each scope wait for a vector, and as many have one.
    """

    shared: Final = True

    def __init__(self, link: Link, records: Records, *, most: int, clock: Clock, events: Events) -> None:
        self._link = link
        self._records = records
        self._ours = f"{PREFIX}:{records.owner}:"
        self._prefix = self._ours + hashlib.blake2b(records.model.encode(), digest_size=6).hexdigest()
        self._most = most
        self._clock = clock
        self._outbox: Outbox[Step] = Outbox(self._deliver, works=lambda: link.works, events=events)

    def __repr__(self) -> str:
        return f"<RedisIndex {self._records.model} over {self._link!r}, {len(self._outbox)} steps to take>"

    async def fault(self) -> str | None:
        """Why this Redis can't be used, in its own words; None if it can. Raises `StoreDown` if it does not answer."""
        return await self._link.call(partial(probe, key=f"{self._prefix}:probe"))

    async def prepare(self) -> None:
        """There is nothing to be done first."""

    async def status(self) -> Mapping[str, str]:
        return {"vectors": "up" if self._link.works else "down"}

    def add(self, head: Head) -> None:
        now = self._clock()
        if not head.scope or head.expires <= now:
            return
        try:
            value = self._records.pack(head)
        except (ValueError, OverflowError):  # nothing that can be sent
            return
        self._outbox.put(Step(self._base(head.scope), ("add", head.key, value, _seconds(head, now), self._most), head))

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        if not scope:
            return ScopeView(0, ())
        ((vectors, keys, values),) = await self._take([Step(self._base(scope), ("view", waiting))])
        records = self._living(scope, zip(keys, values, strict=True))
        return ScopeView(vectors, tuple(record.head for record in records))

    async def attach(self, vectors: "Sequence[tuple[Head, Vector]]") -> None:
        steps = [self._attaching(head, vector) for head, vector in vectors if head.scope]
        for start in range(0, len(steps), SLICE):
            await self._take(steps[start : start + SLICE])

    async def nearest(self, scope: str, vector: "Vector", *, limit: int) -> list[Neighbour]:
        """At most `limit` questions of the scope, the most similar first; among very many, nearly always the very nearest."""
        if not scope:
            return []
        count = CANDIDATES * limit
        asked = partial(search, base=self._base(scope), vector=_floats(vector), count=count, effort=max(EFFORT, count))
        records = self._living(scope, await self._link.call(asked))
        whole = [record for record in records if len(record.numbers) == NUMBER_BYTES * self._records.dimension]
        return _ranked(whole, vector)[:limit]

    def drop(self, heads: Iterable[Head]) -> None:
        for head in heads:
            if head.scope:
                self._outbox.put(Step(self._base(head.scope), ("drop", head.key, self._records.stamp_of(head))))

    async def clear(self, selector: Selector, now: float) -> int:
        """Forget what is selected, whatever model made its vector; what is added here meanwhile stays."""
        if selector.keys is not None and not selector.keys:
            return 0
        async with self._outbox.paused:
            removed = self._outbox.withdraw(lambda step: step.head is not None and selector.matches(step.head, now))
            async for bases in self._scopes():
                if selector.everything:
                    removed += await self._link.call_patiently(partial(wipe, bases=bases))
                else:
                    removed += await self._clear(bases, selector, now)
        return removed

    async def questions(self, selector: Selector, now: float) -> AsyncGenerator[list[tuple[Head, "Vector | None"]]]:
        async for bases in self._scopes():
            yield []
            async for page in self._pages([base for base in bases if base.startswith(f"{self._prefix}:")]):
                found = [record for _, record in page if record is not None and selector.matches(record.head, now)]
                yield [(record.head, self._vector_of(record)) for record in found]

    async def flush(self) -> None:
        """Returns once Redis knows what was added and dropped."""
        await self._outbox.flush()

    async def close(self) -> None:
        await self._outbox.close()
        await self._link.close()

    def _base(self, scope: str) -> str:
        return f"{self._prefix}:{{{scope}}}:"

    def _attaching(self, head: Head, vector: "Vector") -> Step:
        now, value = self._clock(), self._records.pack(head, encode([vector]).tobytes())
        what = (head.key, self._records.stamp_of(head), _floats(vector), EFFORT, value)
        return Step(self._base(head.scope), ("attach", *what, head.expires, now, _seconds(head, now), self._most))

    def _living(self, scope: str, found: Iterable[tuple[bytes, bytes | None]]) -> list[Record]:
        """What is whole, stands where it belongs and is not over; the rest is taken away."""
        now, living = self._clock(), []
        for key, value in found:
            record = self._records.unpack(value)
            if record is not None and (record.head.scope, record.head.key.encode()) == (scope, key) and record.head.expires > now:
                living.append(record)
            else:
                self._outbox.put(_dropping(self._base(scope), key, value))
        return living

    async def _scopes(self) -> AsyncIterator[list[str]]:
        """What the keys of each scope and model begin with, each once, some at a time, or none."""
        told = set[str]()
        for server in await self._link.call_patiently(servers):
            cursor, more = 0, True
            while more:
                cursor, keys = await self._link.call_patiently(partial(scan, server=server, ours=self._ours, cursor=cursor))
                bases = list({key.decode().rpartition(":")[0] + ":" for key in keys} - told)
                told.update(bases)
                for start in range(0, len(bases) or 1, SCOPES):
                    yield bases[start : start + SCOPES]
                more = cursor != 0

    async def _clear(self, bases: Sequence[str], selector: Selector, now: float) -> int:
        removed = 0
        async for page in self._pages(bases):
            chosen = [drop for drop, record in page if record is not None and selector.matches(record.head, now)]
            damaged = [drop for drop, record in page if record is None]
            if chosen or damaged:
                await self._take_patiently([*chosen, *damaged])
            removed += len(chosen)
        return removed

    async def _pages(self, bases: Sequence[str]) -> AsyncIterator[list[Kept]]:
        """The questions of these scopes. First those that wait for a vector: one that gets it meanwhile is met again."""
        places = [(base, HEADS, b"0") for base in bases]
        while places:
            count = PAGE // len(places)
            pages = await self._take_patiently([Step(base, ("page", name, cursor, count)) for base, name, cursor in places])
            met = [
                (base, key, value)
                for (base, _, _), (_, keys, values) in zip(places, pages, strict=True)
                for key, value in zip(keys, values, strict=True)
            ]
            for start in range(0, len(met), PAGE):
                yield [(_dropping(*what), self._record(*what)) for what in met[start : start + PAGE]]
                await asyncio.sleep(0)
            going_on = [(base, name, cursor) for (base, name, _), (cursor, _, _) in zip(places, pages, strict=True)]
            places = [place for place in map(_next_place, going_on) if place is not None]

    def _record(self, base: str, key: bytes, value: bytes | None) -> Record | None:
        """What is whole and stands where it belongs."""
        record = self._records.unpack(value)
        if record is None or not base.endswith(f":{{{record.head.scope}}}:") or record.head.key.encode() != key:
            return None
        return record

    def _vector_of(self, record: Record) -> "Vector | None":
        if len(record.numbers) != NUMBER_BYTES * self._records.dimension:
            return None
        return decode(np.frombuffer(record.numbers, np.int16))

    async def _take(self, steps: Sequence[Step]) -> list[Any]:
        return await self._link.call(partial(take_steps, steps=steps))

    async def _take_patiently(self, steps: Sequence[Step]) -> list[Any]:
        return await self._link.call_patiently(partial(take_steps, steps=steps))

    async def _deliver(self, steps: Sequence[Step]) -> None:
        await self._take_patiently(steps)


def _dropping(base: str, key: bytes, value: bytes | None) -> Step:
    return Step(base, ("drop", key, (value or b"")[:STAMP_BYTES]))


def _next_place(place: tuple[str, str, bytes]) -> tuple[str, str, bytes] | None:
    """Where to go on in a scope, after what was read up to a cursor."""
    base, name, cursor = place
    if cursor == b"0":
        return (base, ENDS, b"0") if name == HEADS else None
    return place


def _seconds(head: Head, now: float) -> int:
    return math.ceil(head.expires - now)


def _floats(vector: "Vector") -> bytes:
    return vector.astype("<f4").tobytes()


def _ranked(records: Sequence[Record], vector: "Vector") -> list[Neighbour]:
    if not records:
        return []
    rows = np.frombuffer(b"".join(record.numbers for record in records), np.int16).reshape(len(records), -1)
    found = [Neighbour(record.head, near) for record, near in zip(records, cosines(rows, vector).tolist(), strict=True)]
    return sorted(found, key=lambda neighbour: -neighbour.similarity)
