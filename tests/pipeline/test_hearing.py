"""What a node does about what others tell."""

import numpy as np
import pytest

from sentinel_gateway.core.bulletin import CacheCleared, CircuitTurned, EntryAmended, KeysChanged, SimilarCleared
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.pipeline.hearing import Hearing
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.pipeline.purge import Purge
from tests.fakes import completion
from tests.gateway import until
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio


class Ring(KeyRing):
    """Counts how often it is told to look."""

    def __init__(self) -> None:
        self.hurried = 0

    def hurry(self) -> None:
        self.hurried += 1


class Hearer:
    def __init__(self, *, semantic=True):
        self.path, self.ring = Path(semantic=semantic), Ring()
        path = self.path
        self.purge = Purge(path.semantic, path.tiers, path.bulletin, clock=path.clock, events=path.events) if semantic else None
        self.hearing = Hearing(path.tiers, self.ring, self.purge, path.circuits)

    async def fill(self):
        self.path.first.replies.append(completion())
        await self.path.ask(question())

    @property
    def kept(self):
        return len(self.path.near.entries)


@pytest.fixture
async def hearer():
    hearer = Hearer()
    await hearer.fill()
    yield hearer
    await hearer.purge.close()


async def test_a_clear(hearer):
    hearer.hearing.heard(CacheCleared(Selector(tenant="another")))
    assert hearer.kept == 1
    hearer.hearing.heard(CacheCleared(Selector()))
    assert hearer.kept == 0


async def test_an_entry_that_was_changed_elsewhere(hearer):
    (key,) = hearer.path.near.entries
    hearer.hearing.heard(EntryAmended("another"))
    assert hearer.kept == 1
    hearer.hearing.heard(EntryAmended(key))
    assert hearer.kept == 0, "it is read again where it was changed"


async def test_keys(hearer):
    hearer.hearing.heard(KeysChanged())
    assert (hearer.ring.hurried, hearer.kept) == (1, 1)


async def test_a_circuit(hearer):
    hearer.hearing.heard(CircuitTurned("first/m", opened=True))
    assert hearer.path.circuits.states() == {"first/m": "open"}
    hearer.hearing.heard(CircuitTurned("first/m", opened=False))
    assert hearer.path.circuits.states() == {}


async def test_a_gap(hearer):
    hearer.hearing.missed()
    assert (hearer.ring.hurried, hearer.kept) == (1, 0)


async def test_a_clear_by_similarity(hearer):
    """It goes on beside; what is found here is told to all."""
    vector = np.float32(hearer.path.embedder.vector("Capital of France??")).tobytes()
    hearer.hearing.heard(SimilarCleared(Selector(), "another model", vector, 0.9))
    hearer.hearing.heard(SimilarCleared(Selector(tenant="another"), "letters", vector, 0.9))
    await until(lambda: not hearer.purge._following)  # noqa: SLF001 - nothing is to come of it
    assert hearer.kept == 1
    hearer.hearing.heard(SimilarCleared(Selector(), "letters", vector, 0.9))
    await until(lambda: hearer.kept == 0)
    assert hearer.path.bulletin.notices[-1].selector.keys


async def test_where_questions_are_not_compared_there_is_nothing_to_clear_by_similarity():
    hearer = Hearer(semantic=False)
    await hearer.fill()
    hearer.hearing.heard(SimilarCleared(Selector(), "letters", b"", 0.0))
    assert hearer.kept == 1
