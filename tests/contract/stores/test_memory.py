"""The memory tier's bounds: entries, bytes, and who has to go; with its lifetimes against a naive model, by chance (X3)."""

import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from sentinel_gateway.core.caching import Hit, Selector, Wish, judge
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


class Machine(RuleBasedStateMachine):
    """Puts, look-ups, clears and time. The model is a list in the order in which entries were last used."""

    keys, models = st.sampled_from("abcdefgh"), st.sampled_from("xy")

    @initialize()
    def begin(self):
        self.store = MemoryStore(max_entries=5, max_bytes=16_000)
        self.model = OrderedDict()
        self.now = NOW

    def weight(self):
        return sum(OVERHEAD + 1 + len(entry.body) for entry in self.model.values())

    @rule(puts=st.lists(st.tuples(keys, st.integers(0, 1300), st.sampled_from([0, 1, 60, 3600]), models), min_size=1, max_size=8))
    def put(self, puts):
        for key, size, seconds, model in puts:
            entry = make_entry(key, body=bytes(size), created=self.now, expires=self.now + seconds, model=model)
            fits = OVERHEAD + 1 + size <= 2000
            self.model.pop(key, None)
            if fits:
                self.model[key] = entry
            while len(self.model) > 5 or self.weight() > 16_000:
                self.model.popitem(last=False)
            assert self.store.put(entry) == fits

    @rule(key=keys)
    def look_up(self, key):
        known = self.model.get(key)
        if known is not None:
            self.model.move_to_end(key)
        entry = self.store.get(key)
        assert entry is known
        found = None if entry is None else judge(entry, Wish(), "memory", self.now, last=True)
        assert isinstance(found, Hit) == (known is not None and self.now < known.expires)

    @precondition(lambda self: self.model)
    @rule(chosen=st.none() | st.frozensets(keys, min_size=1, max_size=3), model=st.none() | models)
    def clear(self, chosen, model):
        gone = [key for key in self.model if chosen is None or key in chosen]
        gone = [key for key in gone if model in {None, self.model[key].model}]
        assert self.store.clear(Selector(keys=chosen, model=model), self.now) == len(gone)
        for key in gone:
            del self.model[key]

    @rule(seconds=st.sampled_from([0.5, 1.0, 59.0, 3600.0]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def agree(self):
        assert self.store.held() == list(self.model.values()), "the oldest first"
        assert self.store.size() == (len(self.model), self.weight())


@pytest.mark.hypothesis
@pytest.mark.parametrize("runs", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_the_store_against_a_naive_model(runs):
    run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=100, deadline=None))
