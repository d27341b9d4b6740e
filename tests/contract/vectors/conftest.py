"""The indexes under test, an archive in memory, and vectors whose neighbours are known."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import redis.asyncio
from qdrant_client import AsyncQdrantClient
from redis.exceptions import RedisError

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import ScopeView, VectorArchive, VectorIndex
from sentinel_gateway.vectors._qdrant_points import PREFIX
from sentinel_gateway.vectors._records import Records
from sentinel_gateway.vectors._redis_calls import Link
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex
from sentinel_gateway.vectors.qdrant import QdrantIndex, QdrantLimits
from sentinel_gateway.vectors.redis_sets import RedisIndex
from tests.fakes import FakeClock, FakeEvents
from tests.servers import QDRANT

MODEL = "model"
DIMENSION = 96
"""Not a multiple of 64, as some models have it."""
PATIENT = IndexLimits(deadline=20.0)
"""For tests that are about something else than deadlines, on machines that are busy."""


def make_head(key: str, scope: str = "scope", **changes) -> Head:
    head = Head(key=key, model="openai/gpt", created=FakeClock().now, expires=FakeClock().now + 3600, scope=scope, text=f"{key}?")
    return msgspec.structs.replace(head, **changes)


def unit(seed: int, *, away: float = 0.0, dimension: int = DIMENSION) -> np.ndarray:
    """A direction for each seed, far from all others; with `away`, one that lies near to it, its cosine 1/sqrt(1 + away^2)."""
    vector = np.random.default_rng(seed).standard_normal(dimension)
    vector /= np.linalg.norm(vector)
    if away:
        aside = np.random.default_rng([seed, int(away * 1e6)]).standard_normal(dimension)
        aside -= (aside @ vector) * vector
        vector += away * aside / np.linalg.norm(aside)
        vector /= np.linalg.norm(vector)
    return vector.astype(np.float32)


RECORDS = Records(b"secret", model=MODEL, dimension=DIMENSION)


class FakeArchive:
    """A `VectorArchive` in memory. Its heads are put there by hand, as a store's are by answers; `page` heads to a page."""

    def __init__(self, *heads: Head, page: int = 7) -> None:
        self.stored = {head.key: head for head in heads}
        self.vectors: dict[tuple[str, str], bytes] = {}
        self.page = page

    def keep_vectors(self, vectors: Sequence[tuple[str, bytes]], *, model: str) -> None:
        self.vectors |= {(model, key): kept for key, kept in vectors}

    async def heads(self, *, model: str) -> AsyncIterator[list[tuple[Head, bytes | None]]]:
        rows = [(head, self.vectors.get((model, key))) for key, head in self.stored.items()]
        for start in range(0, len(rows), self.page):
            yield rows[start : start + self.page]


def open_memory(
    clock: FakeClock, *, limits: IndexLimits = PATIENT, archive: VectorArchive | None = None, model: str = MODEL
) -> MemoryIndex:
    return MemoryIndex(model=model, dimension=DIMENSION, limits=limits, clock=clock, archive=archive)


class PatientLink:
    """The way to Redis without deadlines, for tests that are about something else, on machines that are busy."""

    works = True

    def __init__(self, url: str) -> None:
        kind = redis.asyncio.RedisCluster if "+cluster" in url else redis.asyncio.Redis
        self.client = kind.from_url(url.replace("+cluster", "").split(",")[0], protocol=2)
        self.calls = 0

    async def call(self, work):
        self.calls += 1
        try:
            return await work(self.client)
        except RedisError as exc:
            raise StoreDown(str(exc)) from exc

    async def call_patiently(self, work):
        return await self.call(work)

    async def close(self) -> None:
        await self.client.aclose()


def open_redis(clock: FakeClock, link: Link, records: Records = RECORDS, *, most: int = 100_000) -> RedisIndex:
    return RedisIndex(link, records, most=most, clock=clock, events=FakeEvents())


class Settled:
    """An index beyond this process, where all that was added and dropped is known there before anything else is done."""

    def __init__(self, index: RedisIndex | QdrantIndex) -> None:
        self.index = index
        self.add, self.drop, self.close, self.shared = index.add, index.drop, index.close, index.shared

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        await self.index.flush()
        return await self.index.view(scope, waiting=waiting)

    async def attach(self, vectors: Sequence[tuple[Head, np.ndarray]]) -> None:
        await self.index.flush()
        await self.index.attach(vectors)

    async def nearest(self, scope: str, vector: np.ndarray, *, limit: int) -> list[Neighbour]:
        await self.index.flush()
        return await self.index.nearest(scope, vector, limit=limit)

    async def clear(self, selector: Selector, now: float) -> int:
        await self.index.flush()
        return await self.index.clear(selector, now)

    async def questions(self, selector: Selector, now: float) -> AsyncIterator[list[tuple[Head, np.ndarray | None]]]:
        await self.index.flush()
        async for page in self.index.questions(selector, now):
            yield page

    async def status(self) -> Mapping[str, str]:
        return await self.index.status()


ADAPTERS = ("memory", "redis", "cluster", "qdrant", *(("qdrant-server",) if QDRANT else ()))
"""Qdrant in its client's own local mode, and a real one where QDRANT_URL names it."""


class Servers:
    """What shared indexes are opened over, by the adapter's name: emptied, then lent to as many as want to share it."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._redis = {"redis": "redis8", "cluster": "redis_cluster"}
        self._lent = request.getfixturevalue
        self._local: AsyncQdrantClient | None = None

    async def empty(self, name: str) -> None:
        if name in self._redis:
            self._lent(self._redis[name]).flush()
        elif name == "qdrant":
            self._local = AsyncQdrantClient(location=":memory:")
        else:
            client = AsyncQdrantClient(url=QDRANT)
            for found in (await client.get_collections()).collections:
                if found.name.startswith(PREFIX):
                    await client.delete_collection(found.name)
            await client.close()

    async def node(self, name: str, clock: FakeClock, records: Records = RECORDS) -> RedisIndex | QdrantIndex:
        """One more index over the same server."""
        if name in self._redis:
            return open_redis(clock, PatientLink(self._lent(self._redis[name]).url), records)
        client = LentClient(self._local) if name == "qdrant" else AsyncQdrantClient(url=QDRANT)
        patient = QdrantLimits(answer=20.0, patience=20.0)
        index = QdrantIndex(client, records, limits=patient, clock=clock, events=FakeEvents())
        await index.prepare()
        return index


class LentClient:
    """A client in local mode, where the data are the client's own: closing it leaves them to the others."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create_payload_index(self, *which: object) -> None:
        """Local mode has none, and warns of it."""

    async def close(self) -> None: ...


async def open_adapter(name: str, clock: FakeClock, servers: Servers) -> VectorIndex:
    """An empty one."""
    if name == "memory":
        return open_memory(clock)
    await servers.empty(name)
    return Settled(await servers.node(name, clock))


@pytest.fixture(scope="session")
def servers(request) -> Servers:
    return Servers(request)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=ADAPTERS)
async def index(request, clock, servers, anyio_backend) -> AsyncIterator[VectorIndex]:
    index = await open_adapter(request.param, clock, servers)
    yield index
    await index.close()


@pytest.fixture
def many(request) -> int:
    """Enough questions for a large index; Qdrant's local mode reads all of them for each search, in Python."""
    return 150 if "qdrant" in request.node.callspec.id else 1500


async def held(index: VectorIndex, *scopes: str) -> tuple[int, int]:
    """Questions in these scopes, and how many of them have a vector."""
    views = [await index.view(scope, waiting=5000) for scope in scopes or ("scope",)]
    vectors = sum(view.vectors for view in views)
    return vectors + sum(len(view.waiting) for view in views), vectors


async def fill(index: VectorIndex, count: int, scope: str = "scope") -> list[Head]:
    """Questions with a vector: number `n` has `unit(n)`."""
    heads = [make_head(f"{scope}-{number}", scope) for number in range(count)]
    for head in heads:
        index.add(head)
    await index.attach([(head, unit(number)) for number, head in enumerate(heads)])
    return heads


async def keys(index: VectorIndex, vector: np.ndarray, scope: str = "scope", limit: int = 3) -> list[str]:
    return [neighbour.head.key for neighbour in await index.nearest(scope, vector, limit=limit)]
