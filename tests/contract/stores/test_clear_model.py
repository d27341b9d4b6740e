"""`Selector.matches` is the meaning of a clear: each store against a dictionary that asks it."""

import asyncio
import tempfile
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sentinel_gateway.core.caching import Entry, Selector
from tests.contract.stores.conftest import ADAPTERS, NOW, Told, open_adapter

# Few and look-alike names, so that entries meet selectors, and wildcards would show.
NAMES = st.sampled_from(["", "a", "A", "aa", "%", "_", "a%", "ä", "a\x00", "a\x00b"])
# Sums of these are rounded: a query that puts them in another order would decide otherwise.
AGES = st.sampled_from([0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 1 / 3, 60.0, 60.0 + 2**-20])
KEYS = st.sampled_from([f"key-{n}" for n in range(8)])
TAGS = st.lists(NAMES, max_size=3).map(tuple)
ENTRIES = st.builds(
    Entry,
    key=KEYS,
    body=st.binary(max_size=20),
    model=NAMES,
    created=AGES.map(lambda age: NOW - age),
    expires=st.just(NOW + 60),
    tenant=NAMES,
    namespace=NAMES,
    writer=NAMES,
    tags=TAGS,
)
SELECTORS = st.builds(
    Selector,
    tenant=st.none() | NAMES,
    namespace=st.none() | NAMES,
    model=st.none() | NAMES,
    tag=st.none() | NAMES,
    writer=st.none() | NAMES,
    older_than=st.none() | AGES,
    keys=st.none() | st.frozensets(KEYS),
)


class Clearing(RuleBasedStateMachine):
    adapter = ""
    servers = None

    def __init__(self):
        super().__init__()
        self.model: dict[str, Entry] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.store = self.runner.run(open_adapter(self.adapter, Path(self.folder.name), Told(), self.servers))

    @rule(entries=st.lists(ENTRIES, min_size=1, max_size=8))
    def put(self, entries):
        self.runner.run(self.take(entries))
        self.model |= {entry.key: entry for entry in entries}

    async def take(self, entries):
        for entry in entries:
            self.store.put(entry)

    @rule(selector=SELECTORS, drift=st.sampled_from([0.0, 0.1, 1 / 3]))
    def clear(self, selector, drift):
        now = NOW + drift
        matching = [key for key, entry in self.model.items() if selector.matches(entry, now)]
        assert self.runner.run(self.store.clear(selector, now)) == len(matching)
        for key in matching:
            del self.model[key]

    @rule(key=KEYS, member=st.sampled_from(["tenant", "namespace", "model", "writer"]))
    def clear_one_of_its_kind(self, key, member):
        if key in self.model:
            self.clear(Selector(**{member: getattr(self.model[key], member)}), 0.0)

    @invariant()
    def agree(self):
        self.runner.run(self.compare())

    async def compare(self):
        await self.store.flush()
        assert await self.store.count() == len(self.model)
        for n in range(8):
            assert await self.store.get(f"key-{n}") == self.model.get(f"key-{n}")

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


@pytest.mark.hypothesis
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_clear_means_what_the_selector_means(adapter, request):
    servers = staticmethod(request.getfixturevalue)
    machine = type(f"Clearing_{adapter}", (Clearing,), {"adapter": adapter, "servers": servers})
    examples = settings(max_examples=20, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(machine, settings=examples)
