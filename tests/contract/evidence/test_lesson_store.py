"""What a `LessonStore` promises, to nodes that share a PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sentinel_gateway.ports import Told
from sentinel_gateway.stores import lessons as module
from sentinel_gateway.stores._state import State
from sentinel_gateway.stores.learners import PLAIN, Naming, SqlLearners
from sentinel_gateway.stores.lessons import KEPT, LEARNED, SqlLessons
from tests.contract.evidence.conftest import TABLES, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
async def places(database, anyio_backend) -> AsyncIterator[list[State]]:
    """Of two nodes."""
    opened = [await serve(database) for _ in range(2)]
    await opened[0].write(lambda statements: statements.execute(f"TRUNCATE {', '.join(TABLES)}"))
    yield opened
    for place in opened:
        await place.close()


@pytest.fixture
def stores(places) -> list[SqlLessons]:
    return [SqlLessons(place) for place in places]


def lessons(*names: str, realm: str = "a\n") -> list[tuple[str, str, bytes]]:
    return [(name, realm, name.encode()) for name in names]


async def test_each_node_hears_all_in_the_same_order(stores):
    one, two = stores
    await one.tell(lessons("x", "y"), 1.0)
    await two.tell(lessons("z", realm="b\n"), 1.0)
    told = [Told(1, "a\n", b"x"), Told(2, "a\n", b"y"), Told(3, "b\n", b"z")]
    for store in stores:
        assert (await store.news(0, 9))[:2] == (told, 3)
        assert (await store.news(1, 1))[:2] == (told[1:2], 3)
        assert (await store.news(None, 9))[:2] == ([], 3)
        assert (await store.of("b\n", 0, 9))[:2] == (told[2:], 3)
        assert (await store.of("a\n", 1, 9))[:2] == (told[1:2], 3)


async def test_what_is_told_twice_is_kept_once(stores):
    for _ in range(2):
        await stores[0].tell(lessons("x", "y"), 1.0)
    await stores[1].tell(lessons("z"), 1.0)
    assert [told.lesson for told in (await stores[0].news(0, 9)).lessons] == [b"x", b"y", b"z"]


async def test_whoever_tells_at_the_same_time_none_is_lost_and_none_comes_late(stores):
    """Who has heard the seventh never missed the sixth."""
    names = [[f"{node}-{number}" for number in range(40)] for node in range(2)]
    heard, last = [], 0

    async def tell(node: int) -> None:
        for name in names[node]:
            await stores[node].tell(lessons(name), 1.0)

    telling = asyncio.gather(*(tell(node) for node in range(2)))
    while len(heard) < 80:
        found = (await stores[0].news(last, 7)).lessons
        heard += [told.lesson.decode() for told in found]
        last = found[-1].number if found else last
    await telling
    assert sorted(heard) == sorted(names[0] + names[1])
    assert [name for name in heard if name in names[1]] == names[1]


async def test_it_says_what_it_is(stores):
    assert repr(stores[0]).startswith("<SqlLessons <StateServer postgresql://")


async def test_when_learners_were_kept_is_told_with_the_news(stores, places):
    await SqlLearners(places[0], shared=True).keep("a\n", b"state", 5.0, 0)
    assert (await stores[1].news(None, 9)).kept == {"a\n": 5.0}


async def test_nodes_of_two_versions_have_a_turn_each_and_hear_of_what_their_own_have_kept(places):
    older, newer = (Naming(version) for version in (PLAIN, PLAIN + 1))
    for naming, at in ((older, 5.0), (newer, 6.0)):
        await SqlLearners(places[0], naming=naming, shared=True).keep("a\n", b"state", at, 0)
    one, two = SqlLessons(places[0], naming=older), SqlLessons(places[1], naming=newer)
    assert ((await one.news(None, 9)).kept, (await two.news(None, 9)).kept) == ({"a\n": 5.0}, {"a\n": 6.0})
    assert await one.claim("a\n", "n1", 0.0, 60.0)
    assert await two.claim("a\n", "n2", 0.0, 60.0), "what is made of the lessons by the other is nothing to it"


async def test_one_node_has_the_turn_until_it_ends(stores):
    one, two = stores
    assert [await store.claim("a\n", name, 0.0, 60.0) for store, name in ((one, "n1"), (two, "n2"), (one, "n1"))] == [
        True,
        False,
        True,
    ]
    assert await two.claim("b\n", "n2", 0.0, 60.0)
    assert await two.claim("a\n", "n2", 60.0, 60.0), "it has died"
    assert not await one.claim("a\n", "n1", 61.0, 60.0)


async def names(store: SqlLessons) -> list[str]:
    return [told.lesson.decode() for told in (await store.news(0, 99)).lessons]


async def test_what_was_learned_goes_an_hour_after_it_was_however_old_it_is(stores):
    store = stores[0]
    await store.tell(lessons("slow"), 1.0)
    await store.tell(lessons("new"), 90_000.0)
    await store.tell(lessons("other", realm="b\n"), 90_000.0)
    await store.learned("a\n", 1, 90_000.0)
    await store.tell(lessons("x"), 90_000.0 + LEARNED - 1)
    assert await names(store) == ["slow", "new", "other", "x"]
    await store.learned("a\n", 2, 90_000.0 + LEARNED - 1)
    await store.tell(lessons("y"), 90_000.0 + LEARNED + 1)
    assert await names(store) == ["new", "other", "x", "y"], "what was in it before goes by that"


async def test_what_is_old_goes_and_no_number_is_given_again(stores):
    store = stores[0]
    await store.tell(lessons("old"), 1.0)
    await store.tell(lessons("other", realm="b\n"), 1.0)
    await store.learned("b\n", 2, 1.0)
    await store.tell([("old", "a\n", b"again")], 2.0 + KEPT)
    assert (await store.news(0, 9))[:2] == ([Told(2, "b\n", b"other")], 2), "its last number stays"
    await store.tell(lessons("later"), 3.0 + KEPT)
    assert [(told.number, told.lesson) for told in (await store.news(0, 9)).lessons] == [(3, b"later")]


async def test_a_realm_whose_lessons_are_never_part_of_anything_has_so_many(stores, monkeypatch):
    monkeypatch.setattr(module, "OF_REALM", 3)
    monkeypatch.setattr(module, "AT_ONCE", 4)
    store = stores[0]
    await store.tell(lessons("other", realm="b\n"), 1.0)
    await store.tell(lessons(*"abcdefghi"), 1.0)
    assert await names(store) == ["other", *"efghi"], "so many at once"
    await store.tell(lessons("j"), 1.0)
    assert await names(store) == ["other", *"hij"]
