"""What a `LearnerStore` promises."""

import pytest

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._state_server import StateServer
from sentinel_gateway.stores.learners import PLAIN, Naming, SqlLearners
from tests.contract.evidence.conftest import serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(place) -> SqlLearners:
    return SqlLearners(place, most=3, shared=isinstance(place, StateServer))


async def test_the_last_word_on_a_realm_is_kept(store):
    assert await store.find("a\n") is None
    await store.keep("a\n", b"\x00one", 1.0, 0)
    await store.keep("a\n", b"two", 2.0, 0)
    await store.keep("a\nn", b"three", 3.0, 0)
    assert await store.find("a\n") == b"two"
    assert await store.find("a\nn") == b"three"
    assert [await store.begins(realm, 2) for realm in ("a\n", "b\n")] == [b"tw", None]


async def test_what_nodes_have_made_of_more_lessons_stays(database):
    place = await serve(database)
    await place.write(lambda statements: statements.execute("TRUNCATE learners"))
    store = SqlLearners(place, shared=True)
    assert [await store.keep("a\n", bytes([lesson]), float(at), lesson) for at, lesson in enumerate((7, 9, 8, 9))] == [
        True,
        True,
        False,
        True,
    ]
    assert (await store.find("a\n"), await store.latest(9)) == (b"\x09", ["a\n"])
    await place.close()


async def test_what_another_version_has_kept_stays_beside_it(place):
    """While nodes are replaced by newer ones, and where the way leads back."""
    shared = isinstance(place, StateServer)
    older, newer = (SqlLearners(place, naming=Naming(version), shared=shared) for version in (PLAIN, PLAIN + 1))
    await older.keep("a\n", b"older", 1.0, 7)
    assert (await newer.find("a\n"), await newer.begins("a\n", 2), await newer.latest(9)) == (None, None, [])
    assert await newer.keep("a\n", b"newer", 2.0, 3), "of fewer lessons, and in nobody's place"
    await older.keep("b\nn", b"also older", 3.0, 8)
    assert (await older.find("a\n"), await newer.find("a\n")) == (b"older", b"newer")
    assert (await older.latest(1), await older.latest(9), await newer.latest(9)) == (["b\nn"], ["b\nn", "a\n"], ["a\n"])


async def test_the_latest_come_first_and_of_many_the_oldest_go(store):
    for at, realm in enumerate(("a", "b", "c", "a", "d")):
        await store.keep(realm, realm.encode(), float(at), 0)
    assert await store.latest(10) == ["d", "a", "c"]
    assert await store.latest(2) == ["d", "a"]
    assert await store.find("b") is None


async def test_namespaces_that_one_makes_up_push_out_none_of_anothers(store):
    await store.keep("quiet\n", b"1", 0.0, 0)
    for at in range(5):
        await store.keep(f"busy\nn{at}", b"2", 1.0 + at, 0)
    assert await store.latest(10) == ["busy\nn4", "busy\nn3", "quiet\n"]
    await store.keep("new\n", b"3", 9.0, 0)
    assert await store.latest(10) == ["new\n", "busy\nn4", "quiet\n"]


async def test_a_file_that_is_gone_is_a_store_that_is_down(file, tmp_path):
    store = SqlLearners(file)
    await store.keep("a", b"1", 1.0, 0)
    for path in tmp_path.glob("sentinel.db*"):
        path.unlink()
    with pytest.raises(StoreDown):
        await store.keep("a", b"2", 2.0, 0)
    with pytest.raises(StoreDown):
        await store.find("a")
    with pytest.raises(StoreDown):
        await store.latest(1)


async def test_it_says_what_it_is(file):
    assert repr(SqlLearners(file)).startswith("<SqlLearners <StateFile")
