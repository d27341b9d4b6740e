"""What a `LearnerStore` promises."""

from collections.abc import AsyncIterator

import pytest

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.learners import SqliteLearners
from tests.core.keys import PEPPER

pytestmark = pytest.mark.anyio


@pytest.fixture
async def file(tmp_path, anyio_backend) -> AsyncIterator[StateFile]:
    opened = await StateFile.open(tmp_path, secret=PEPPER)
    yield opened
    await opened.close()


@pytest.fixture
def store(file) -> SqliteLearners:
    return SqliteLearners(file, most=3)


async def test_the_last_word_on_a_realm_is_kept(store):
    assert await store.find("a\n") is None
    await store.keep("a\n", b"\x00one", 1.0)
    await store.keep("a\n", b"two", 2.0)
    await store.keep("a\nn", b"three", 3.0)
    assert await store.find("a\n") == b"two"
    assert await store.find("a\nn") == b"three"


async def test_the_latest_come_first_and_of_many_the_oldest_go(store):
    for at, realm in enumerate(("a", "b", "c", "a", "d")):
        await store.keep(realm, realm.encode(), float(at))
    assert await store.latest(10) == ["d", "a", "c"]
    assert await store.latest(2) == ["d", "a"]
    assert await store.find("b") is None


async def test_namespaces_that_one_makes_up_push_out_none_of_anothers(store):
    await store.keep("quiet\n", b"1", 0.0)
    for at in range(5):
        await store.keep(f"busy\nn{at}", b"2", 1.0 + at)
    assert await store.latest(10) == ["busy\nn4", "busy\nn3", "quiet\n"]
    await store.keep("new\n", b"3", 9.0)
    assert await store.latest(10) == ["new\n", "busy\nn4", "quiet\n"]


async def test_a_file_that_is_gone_is_a_store_that_is_down(store, tmp_path):
    await store.keep("a", b"1", 1.0)
    for path in tmp_path.glob("sentinel.db*"):
        path.unlink()
    with pytest.raises(StoreDown):
        await store.keep("a", b"2", 2.0)
    with pytest.raises(StoreDown):
        await store.find("a")
    with pytest.raises(StoreDown):
        await store.latest(1)


async def test_it_says_what_it_is(store):
    assert repr(store).startswith("<SqliteLearners <StateFile")
