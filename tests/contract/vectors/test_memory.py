"""The index in process: its bounds, its sweeping, its archive, and that it holds nobody up."""

import asyncio
import threading
import tracemalloc
from typing import Any

import anyio
import numpy as np
import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import ScopeView
from sentinel_gateway.vectors.memory import IndexLimits
from tests.contract.vectors.conftest import DIMENSION, MODEL, PATIENT, FakeArchive, fill, keys, make_head, open_memory, unit
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def opened(clock, anyio_backend):
    """To be called with limits and an archive: an index, closed at the end."""
    indexes = []

    def open_one(archive=None, model=MODEL, **limits):
        indexes.append(open_memory(clock, limits=IndexLimits(**{"deadline": 20.0, **limits}), archive=archive, model=model))
        return indexes[-1]

    yield open_one
    for index in indexes:
        await index.close()


async def test_the_oldest_make_room(opened):
    index = opened(questions=100)
    heads = await fill(index, 130)
    assert index.size() == (100, 100)
    assert await keys(index, unit(0), limit=1) != ["scope-0"]
    assert await keys(index, unit(30), limit=1) == ["scope-30"]
    index.add(heads[30])  # answered anew
    index.add(make_head("another"))
    assert heads[30] in (await index.view("scope", waiting=8)).waiting
    assert await keys(index, unit(31), limit=1) != ["scope-31"]
    assert index.size() == (100, 98)


async def test_texts_are_bounded_by_bytes(opened):
    index = opened(text_bytes=100_000)
    for number in range(100):
        index.add(make_head(str(number), text="x" * 9_900))
    assert index.size() == (10, 0)
    index.add(make_head("giant", text="x" * 100_000))
    assert index.size() == (10, 0)
    index.add(make_head("99", text="short now"))
    index.add(make_head("another", text="x" * 9_900))
    assert index.size() == (11, 0)


async def test_an_index_without_room_holds_nothing(opened):
    index = opened(questions=0)
    await fill(index, 3)
    assert index.size() == (0, 0)


async def test_what_has_expired_goes_by_itself(opened, clock):
    index = opened()
    for number in range(1000):
        index.add(make_head(str(number), expires=clock.now + 10 + number))
    index.add(make_head("lasts", expires=clock.now + 10 * 86_400))
    clock.now += 2 * 86_400
    for number in range(250):
        index.add(make_head(f"new {number}", expires=clock.now + 3600))
    assert index.size()[0] <= 260
    assert (await index.view("scope", waiting=1)).waiting == (make_head("lasts", expires=clock.now + 8 * 86_400),)


async def test_what_is_dead_on_arrival_is_not_taken(opened, clock):
    index = opened()
    index.add(make_head("dead", expires=clock.now))
    assert index.size() == (0, 0)


async def test_a_scope_of_one_question_costs_little(opened):
    index = opened()
    heads = [make_head(f"{number:064x}", f"{number:064d}") for number in range(2000)]
    index.add(make_head("first"))
    tracemalloc.start()
    for head in heads:
        index.add(head)
    added, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert added / len(heads) < 700, "beside the head itself, whose texts and numbers take some 400"


async def test_memory_is_given_back(opened):
    index = opened()
    tracemalloc.start()
    heads = await fill(index, 2000)
    full, _ = tracemalloc.get_traced_memory()
    index.drop(heads[10:])
    few, _ = tracemalloc.get_traced_memory()
    index.drop(heads)
    none, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert few < 0.75 * full
    assert none < few
    assert await index.view("scope", waiting=1) == ScopeView(0, ())


async def test_a_restart_loses_nothing(opened):
    heads = [make_head(str(number), f"scope-{number % 3}") for number in range(100)]
    archive = FakeArchive(*heads)
    before = opened(archive)
    for head in heads:
        before.add(head)
    await before.attach([(head, unit(number)) for number, head in enumerate(heads) if number % 5])
    assert {key for _, key in archive.vectors} == {str(number) for number in range(100) if number % 5}
    after = opened(archive)
    await after.prepare()
    assert after.size() == before.size() == (100, 80)
    for number in range(100):
        scope = f"scope-{number % 3}"
        asked = unit(number, away=0.3)
        assert await after.nearest(scope, asked, limit=5) == await before.nearest(scope, asked, limit=5)
        assert await after.view(scope, waiting=50) == await before.view(scope, waiting=50)


async def test_vectors_of_another_model_are_not_restored_but_their_questions_are(opened):
    heads = [make_head(str(number)) for number in range(10)]
    archive = FakeArchive(*heads)
    before = opened(archive)
    for head in heads:
        before.add(head)
    await before.attach([(head, unit(1)) for head in heads])
    after = opened(archive, model="another")
    await after.prepare()
    assert after.size() == (10, 0)
    assert (await after.view("scope", waiting=10)).waiting == tuple(heads)


@pytest.mark.parametrize("kept", [b"", b"x", bytes(2 * DIMENSION - 1), bytes(4 * DIMENSION)])
async def test_bytes_that_are_no_vector_are_not_restored(opened, kept):
    archive = FakeArchive(make_head("a"), make_head("b"))
    index = opened(archive)
    index.add(make_head("b"))
    await index.attach([(make_head("b"), unit(2))])
    archive.vectors[MODEL, "a"] = kept
    after = opened(archive)
    await after.prepare()
    assert after.size() == (2, 1)
    assert await keys(after, unit(2)) == ["b"]


async def test_what_came_in_meanwhile_is_newer_than_the_archive(opened, clock):
    old = make_head("a", created=clock.now - 100)
    archive = FakeArchive(old, make_head("expired", expires=clock.now), *(make_head(str(n)) for n in range(100)))
    archive.vectors[MODEL, "a"] = bytes(2 * DIMENSION)
    index = opened(archive)
    new = make_head("a")
    index.add(new)
    await index.attach([(new, unit(1))])
    await index.prepare()
    assert [n.head for n in await index.nearest("scope", unit(1), limit=1)] == [new]
    assert index.size() == (101, 1)


async def test_restoring_more_than_there_is_room_for(opened):
    heads = [make_head(str(number)) for number in range(100)]
    archive = FakeArchive(*heads, page=100)
    whole = opened(archive)
    for number, head in enumerate(heads):
        whole.add(head)
        await whole.attach([(head, unit(number))])
    index = opened(archive, questions=10)
    await index.prepare()
    assert index.size() == (10, 10)
    assert await keys(index, unit(99), limit=1) == ["99"]


async def test_an_index_without_an_archive_starts_empty(opened):
    index = opened()
    await index.prepare()
    assert index.size() == (0, 0)


async def test_restoring_and_clearing_let_others_have_their_turn(opened):
    archive = FakeArchive(*(make_head(str(number), tags=("t",)) for number in range(1000)), page=1000)
    index = opened(archive)
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    for work in (index.prepare, lambda: index.clear(Selector(tag="none"), 0.0), lambda: index.clear(Selector(), 0.0)):
        turns = 0
        await work()
        assert turns >= 1000 // 16
    counting.cancel()


async def test_many_questions_are_searched_in_a_thread_and_few_are_not(opened):
    index = opened()
    before = set(threading.enumerate())
    await fill(index, 256)
    await keys(index, unit(1))
    assert set(threading.enumerate()) <= before
    await fill(index, 257)
    assert await keys(index, unit(1), limit=1) == ["scope-1"]
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["sentinel-vectors_0"]


async def test_too_many_searches_at_once_are_refused(opened):
    index = opened(searches=2)
    await fill(index, 600)
    outcomes = await asyncio.gather(*(keys(index, unit(1), limit=1) for _ in range(5)), return_exceptions=True)
    assert [outcome if isinstance(outcome, list) else type(outcome) for outcome in outcomes] == [["scope-1"]] * 2 + [
        StoreDown
    ] * 3
    assert await keys(index, unit(1), limit=1) == ["scope-1"]


class Stuck:
    """A vector that nobody can read before it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        assert self.let_go.wait(20)
        return np.asarray(unit(1), dtype)


async def test_a_search_that_takes_too_long_is_not_waited_for(opened):
    index, stuck = opened(deadline=0.01), Stuck()
    await fill(index, 600)
    try:
        with pytest.raises(StoreDown, match=r"within 0\.01 s"):
            await keys(index, stuck)
    finally:
        stuck.let_go.set()


async def test_a_caller_that_leaves_makes_room_for_another_search(opened):
    index = opened(searches=1)
    await fill(index, 600)
    with anyio.CancelScope() as leaving:
        leaving.cancel()
        await keys(index, unit(1))
    assert leaving.cancelled_caught
    assert await keys(index, unit(1), limit=1) == ["scope-1"]


async def test_a_clear_during_a_search_leaves_nothing_to_be_found(opened):
    index = opened()
    await fill(index, 3000)
    searching = asyncio.create_task(index.nearest("scope", unit(1), limit=3))
    await asyncio.sleep(0)
    clearing = asyncio.create_task(index.clear(Selector(), 0.0))
    await asyncio.sleep(0)
    assert index.size() == (0, 0)
    assert await searching == []
    await clearing


@pytest.mark.parametrize("count", [513, 1025, 20_000])
async def test_rows_hold_what_they_should_while_they_grow_and_shrink(opened, count):
    """Blocks come and go, and the last row takes the place of each that is dropped."""
    index = opened()
    chance = np.random.default_rng(count)
    vectors = chance.standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    heads = [make_head(str(number)) for number in range(count)]
    for head in heads:
        index.add(head)
    await index.attach(list(zip(heads, vectors, strict=True)))
    order = chance.permutation(count)
    for part in np.array_split(order, 5):
        for number in part[:40]:
            asked = int(number)
            (nearest,) = await index.nearest("scope", vectors[asked], limit=1)
            assert nearest.head.key == str(asked)
            assert nearest.similarity == pytest.approx(1.0, abs=1e-3)
        index.drop([heads[number] for number in part])
        for number in part[:10]:
            assert await keys(index, vectors[number], limit=1) != [str(number)]
    assert index.size() == (0, 0)


async def test_a_new_answer_may_move_its_question_to_another_scope(opened):
    index = opened()
    await fill(index, 1, "old")
    index.add(make_head("old-0", "new"))
    assert await keys(index, unit(0), "old") == []
    assert (await index.view("old", waiting=8)) == ScopeView(0, ())
    assert (await index.view("new", waiting=8)).waiting == (make_head("old-0", "new"),)


async def test_it_tells_its_state(opened):
    index = opened(questions=PATIENT.questions)
    await fill(index, 2)
    index.add(make_head("waiting"))
    assert repr(index) == "<MemoryIndex model: 3/100000 questions, 2 with a vector>"


async def test_a_search_in_a_thread_needs_no_task():
    """A request runs without one until it first waits."""
    index = open_memory(FakeClock())
    for number in range(300):
        index.add(make_head(str(number)))
        await index.attach([(make_head(str(number)), unit(number))])
    search = index.nearest("scope", unit(1), limit=1)
    begun = asyncio.get_running_loop().create_future()

    def begin() -> None:
        try:
            search.send(None)
            begun.set_result(asyncio.current_task())
        except RuntimeError as exc:
            begun.set_exception(exc)

    asyncio.get_running_loop().call_soon(begin)
    assert await begun is None
    search.close()
    await index.close()
