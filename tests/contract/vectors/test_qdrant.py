"""The index in Qdrant over a server of our own that answers what is told: what is asked of it, and what its faults cost."""

import asyncio
import time
from contextlib import suppress

import pytest
from qdrant_client import AsyncQdrantClient

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import ScopeView
from sentinel_gateway.vectors._qdrant_points import FIELDS, collection_of
from sentinel_gateway.vectors._records import Records
from sentinel_gateway.vectors.qdrant import QdrantIndex, QdrantLimits
from tests.contract.vectors.conftest import DIMENSION, RECORDS, LentClient, make_head, unit
from tests.fake_qdrant import FakeQdrant
from tests.fakes import FakeEvents

pytestmark = pytest.mark.anyio

PATIENT = QdrantLimits(answer=20.0, patience=20.0, pause=0.05)
"""For tests that are about something else than deadlines, on machines that are busy."""
QUICK = QdrantLimits(answer=0.3, patience=20.0, pause=1.0)
COLLECTION = f"/collections/{collection_of(RECORDS)}"


@pytest.fixture
async def server(anyio_backend):
    server = FakeQdrant()
    yield server
    await server.stop()


@pytest.fixture
def events():
    return FakeEvents()


class RunningClock:
    """Real time, and what is added by hand."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def running():
    return RunningClock()


@pytest.fixture
async def open_one(server, events, running):
    """To be called with limits: an index over the server."""
    opened = []

    def open_index(limits):
        client = AsyncQdrantClient(url=f"http://127.0.0.1:{server.port}", timeout=20, check_compatibility=False)
        opened.append(QdrantIndex(client, RECORDS, limits=limits, clock=running, events=events))
        return opened[-1]

    yield open_index
    for index in opened:
        await index.close()


@pytest.fixture
async def index(open_one):
    return open_one(PATIENT)


def names(events):
    return [name for name, _ in events.notes]


async def preparing(index, until):
    """Have it prepare until something has happened."""
    task = asyncio.create_task(index.prepare())
    async with asyncio.timeout(60):
        while not until():  # noqa: ASYNC110 - what the index does of itself
            await asyncio.sleep(0.01)
    return task


async def test_the_collection_is_made_with_its_scopes_as_tenants(server, index, events):
    await server.start()
    await index.prepare()
    (collection,) = server.bodies("PUT", COLLECTION)
    assert collection["vectors"] == {"question": {"size": DIMENSION, "distance": "Cosine"}}
    assert collection["hnsw_config"] == {"m": 0, "payload_m": 16}
    fields = {body["field_name"]: body["field_schema"] for body in server.bodies("PUT", f"{COLLECTION}/index")}
    assert fields.keys() == FIELDS.keys()
    assert fields["scope"] == {"type": "keyword", "is_tenant": True}
    assert events.notes == []


@pytest.mark.parametrize("status", [400, 409])
async def test_a_collection_that_already_exists_is_not_worth_a_word(server, index, events, status):
    """Seed 000. Newer servers say 409, older ones 400."""
    server.created = (status, {"status": {"error": "Wrong input: Collection `x` already exists!"}})
    await server.start()
    await index.prepare()
    assert len(server.bodies("PUT", f"{COLLECTION}/index")) == len(FIELDS)
    assert events.notes == []


async def test_any_other_error_of_creating_it_is_told_once_and_tried_again(server, index, events):
    server.created = (403, {"status": {"error": "Forbidden: Global manage access is required"}})
    await server.start()
    task = await preparing(index, lambda: len(server.bodies("PUT", COLLECTION)) > 2)
    ((name, fields),) = events.notes
    assert name == "qdrant_create_failed"
    assert fields["collection"] == collection_of(RECORDS)
    assert "403" in fields["reason"]
    assert "Global manage access is required" in fields["reason"]
    server.created = (200, {"result": True})
    await asyncio.wait_for(task, 60)
    assert names(events) == ["qdrant_create_failed"]


async def test_a_qdrant_that_is_away_at_the_start_is_found_when_it_comes(server, index, events):
    index.add(make_head("a", expires=time.monotonic() + 1000))
    task = await preparing(index, lambda: "qdrant_down" in names(events))
    with pytest.raises(StoreDown):
        await index.view("scope", waiting=3)
    assert await index.status() == {"qdrant": "down"}
    await server.start()
    await asyncio.wait_for(task, 60)
    assert await index.status() == {"qdrant": "up"}
    await asyncio.wait_for(index.flush(), 60)
    (added,) = server.bodies("PUT", f"{COLLECTION}/points")
    assert added["points"][0]["payload"]["key"] == "a"
    assert await index.view("scope", waiting=3) == ScopeView(3, ())
    assert names(events) == ["qdrant_down", "qdrant_up"]


async def test_a_frozen_one_costs_a_deadline_at_first_and_then_nothing(server, open_one, events):
    index = open_one(QUICK)
    await server.start()
    await index.prepare()
    server.frozen = True
    for _ in range(QUICK.failures):
        began = time.monotonic()
        with pytest.raises(StoreDown, match="within"):
            await index.nearest("scope", unit(1), limit=3)
        assert time.monotonic() - began > QUICK.answer * 0.9
    asked = len(server.asked)
    with pytest.raises(StoreDown, match="left alone"):
        await index.nearest("scope", unit(1), limit=3)
    assert len(server.asked) == asked
    server.frozen = False
    async with asyncio.timeout(60):
        while names(events) != ["qdrant_down", "qdrant_up"]:
            await asyncio.sleep(QUICK.pause)
            with suppress(StoreDown):
                assert await index.view("scope", waiting=0) == ScopeView(3, ())


async def test_a_collection_that_was_taken_away_is_made_again(server, index):
    await server.start()
    await index.prepare()
    server.missing = True
    with pytest.raises(StoreDown):
        await index.view("scope", waiting=3)
    async with asyncio.timeout(60):
        while server.missing:  # noqa: ASYNC110 - what the index does of itself
            await asyncio.sleep(0.01)
    assert await index.view("scope", waiting=3) == ScopeView(3, ())


async def test_what_has_expired_is_swept_by_whoever_adds(server, index, running):
    await server.start()
    await index.prepare()
    running.ahead += 61
    index.add(make_head("a", expires=time.monotonic() + 1000))
    await index.flush()
    (swept,) = server.bodies("POST", f"{COLLECTION}/points/delete")
    (condition,) = swept["filter"]["must"]
    assert condition["key"] == "expires"
    assert condition["range"]["lte"] == pytest.approx(running(), abs=20)
    index.add(make_head("b", expires=time.monotonic() + 1000))
    await index.flush()
    assert len(server.bodies("POST", f"{COLLECTION}/points/delete")) == 1


async def test_a_caller_that_leaves_takes_its_question_with_it(server, index):
    await server.start()
    await index.prepare()
    server.frozen = True
    leaving = asyncio.create_task(index.nearest("scope", unit(1), limit=3))
    await asyncio.sleep(0.05)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert len(asyncio.all_tasks()) < 8


@pytest.mark.parametrize("changed", [{"text": "Another question?"}, {"stamp": "00"}, {"created": "soon"}])
async def test_what_is_not_exactly_what_was_stored_is_not_found(clock, changed):
    client = AsyncQdrantClient(location=":memory:")
    index = QdrantIndex(LentClient(client), RECORDS, limits=PATIENT, clock=clock, events=FakeEvents())
    await index.prepare()
    index.add(make_head("a"))
    await index.flush()
    await index.attach([(make_head("a"), unit(1))])
    assert len(await index.nearest("scope", unit(1), limit=3)) == 1
    await client.set_payload(collection_of(RECORDS), changed, points=[(await client.scroll(collection_of(RECORDS)))[0][0].id])
    assert await index.nearest("scope", unit(1), limit=3) == []
    await index.close()


def test_models_and_owners_have_collections_of_their_own():
    def of(model, secret=b"secret"):
        return collection_of(Records(secret, model=model, dimension=DIMENSION))

    models = ("all-MiniLM-L6-v2/int8", "all-MiniLM-L6-v2-int8", "ü" * 300, "ö" * 300)
    names = {*map(of, models), of(models[0], b"another")}
    assert len(names) == 5
    assert all(name.isascii() and len(name) < 140 and "/" not in name for name in names)
    assert of(models[0]).startswith("sentinel-vectors-")
    assert "-all-MiniLM-L6-v2-int8-" in of(models[0])
