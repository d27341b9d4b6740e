"""The indexes under test, an archive in memory, and vectors whose neighbours are known."""

from collections.abc import AsyncIterator, Sequence

import msgspec
import numpy as np
import pytest

from sentinel_gateway.core.caching import Head
from sentinel_gateway.ports import VectorArchive, VectorIndex
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex
from tests.fakes import FakeClock

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


ADAPTERS = ("memory",)


async def open_adapter(name: str, clock: FakeClock) -> VectorIndex:
    assert name == "memory"
    return open_memory(clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=ADAPTERS)
async def index(request, clock, anyio_backend) -> AsyncIterator[VectorIndex]:
    index = await open_adapter(request.param, clock)
    yield index
    await index.close()


async def fill(index: VectorIndex, count: int, scope: str = "scope") -> list[Head]:
    """Questions with a vector: number `n` has `unit(n)`."""
    heads = [make_head(f"{scope}-{number}", scope) for number in range(count)]
    for head in heads:
        index.add(head)
    await index.attach([(head, unit(number)) for number, head in enumerate(heads)])
    return heads


async def keys(index: VectorIndex, vector: np.ndarray, scope: str = "scope", limit: int = 3) -> list[str]:
    return [neighbour.head.key for neighbour in await index.nearest(scope, vector, limit=limit)]
