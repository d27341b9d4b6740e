"""The memory tier's bounds: entries, bytes, and who has to go."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.stores.memory import OVERHEAD, MemoryStore
from tests.contract.stores.conftest import NOW, make_entry

ROOMY = 1 << 30
WEIGHT = OVERHEAD + 1 + 1000
"""Of an entry with a key of one letter and a body of 1000 bytes."""


def filled(keys: str, *, max_entries: int = 1000, max_bytes: int = ROOMY) -> MemoryStore:
    store = MemoryStore(max_entries=max_entries, max_bytes=max_bytes)
    for key in keys:
        store.put(make_entry(key, body=bytes(1000)))
    return store


def held(store: MemoryStore, keys: str) -> str:
    return "".join(key for key in keys if store.get(key) is not None)


def test_more_entries_than_allowed_push_out_the_oldest():
    store = filled("abcde", max_entries=3)
    assert held(store, "abcde") == "cde"
    assert store.size() == (3, 3 * WEIGHT)


def test_more_bytes_than_allowed_push_out_the_oldest():
    store = filled("abcdefghij", max_bytes=9 * WEIGHT)
    assert held(store, "abcdefghij") == "bcdefghij"
    assert store.size() == (9, 9 * WEIGHT)


def test_what_was_read_lately_stays():
    store = filled("abc", max_entries=3)
    store.get("a")
    store.put(make_entry("d"))
    assert held(store, "abcd") == "acd"


def test_what_was_written_lately_stays():
    store = filled("abca", max_entries=3)
    store.put(make_entry("d"))
    assert held(store, "abcd") == "acd"


def test_a_clear_is_no_reading():
    store = filled("abc", max_entries=3)
    store.clear(Selector(tag="none"), NOW)
    store.put(make_entry("d"))
    assert held(store, "abcd") == "bcd"


def test_an_entry_too_large_is_dropped_without_pushing_anything_out():
    store = filled("abc", max_bytes=8 * WEIGHT)
    assert store.put(make_entry("x", body=bytes(1000)))
    assert not store.put(make_entry("y", body=bytes(1001)))
    assert held(store, "abcxy") == "abcx"


def test_an_entry_too_large_takes_its_forerunner_with_it():
    store = filled("abc", max_bytes=8 * WEIGHT)
    store.put(make_entry("b", body=bytes(1001)))
    assert held(store, "abc") == "ac"


def test_tags_weigh():
    store = filled("", max_bytes=8 * WEIGHT)
    store.put(make_entry("a", body=bytes(1000), tags=("x",)))
    assert store.size() == (0, 0)


def test_no_room_at_all_keeps_nothing():
    assert filled("abc", max_bytes=0).size() == (0, 0)
    assert filled("abc", max_entries=0).size() == (0, 0)
    assert not filled("", max_bytes=0).put(make_entry("a"))
    assert not filled("", max_entries=0).put(make_entry("a"))


def test_clear_gives_the_bytes_back():
    store = filled("abc")
    assert store.clear(Selector(), NOW) == 3
    assert store.size() == (0, 0)
    assert store.clear(Selector(), NOW) == 0


def test_it_tells_its_state():
    assert repr(filled("abc", max_entries=7, max_bytes=90_000)) == f"<MemoryStore 3/7 entries, {3 * WEIGHT}/90000 bytes>"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3000)), max_size=60))
def test_the_bounds_hold_whatever_is_put(puts):
    store = MemoryStore(max_entries=5, max_bytes=16_000)
    newest = {}
    for key, size in puts:
        newest[key] = make_entry(key, body=bytes(size))
        taken = store.put(newest[key])
        entries, weight = store.size()
        assert entries <= 5
        assert weight <= 16_000
        assert store.get(key) in (newest[key], None)
        assert (store.get(key) is not None) == taken == (size + 1 + OVERHEAD <= 2000)


def test_the_bytes_told_are_no_less_than_the_bytes_taken():
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        store = MemoryStore(max_entries=100_000, max_bytes=ROOMY)
        for n in range(2000):
            # Each with strings of its own, as when they come from disk.
            store.put(
                make_entry(f"{n:064x}", body=bytes(300), model=f"openai/gpt-{n}", namespace=f"space-{n}", writer=f"key-{n}")
            )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 < (after - before) / store.size()[1] < 1.0
