"""Any sequence of changes, compared with an index so simple that it can't be wrong: a list, and all cosines."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sentinel_gateway.core.caching import Head, Selector
from tests.contract.vectors.conftest import ADAPTERS, FakeArchive, make_head, open_adapter, open_memory, unit
from tests.fakes import FakeClock

SCOPES = st.sampled_from(["one", "other"])
KEYS = st.integers(0, 12).map(str)
SEEDS = st.integers(0, 30)


@dataclass(frozen=True)
class Question:
    head: Head
    vector: np.ndarray | None = None


class NaiveIndex:
    """Questions by key, the oldest first."""

    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}

    def add(self, head: Head) -> None:
        self.questions.pop(head.key, None)
        self.questions[head.key] = Question(head)

    def attach(self, head: Head, vector: np.ndarray) -> None:
        held = self.questions.get(head.key)
        if held is not None and held.head == head:
            self.questions[head.key] = replace(held, vector=vector)

    def drop(self, head: Head) -> None:
        if head in (held.head for held in self.questions.values()):
            del self.questions[head.key]

    def clear(self, selector: Selector, now: float) -> int:
        selected = [key for key, held in self.questions.items() if selector.matches(held.head, now)]
        for key in selected:
            del self.questions[key]
        return len(selected)

    def waiting(self, scope: str) -> list[Head]:
        return [held.head for held in self.questions.values() if held.head.scope == scope and held.vector is None]

    def similarities(self, scope: str, vector: np.ndarray) -> dict[str, float]:
        return {
            key: float(held.vector @ vector)
            for key, held in self.questions.items()
            if held.head.scope == scope and held.vector is not None
        }


class IndexMachine(RuleBasedStateMachine):
    adapter = ""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.naive = NaiveIndex()
        self.made: list[Head] = []
        self.index = self.run(open_adapter(self.adapter, self.clock))

    def run(self, work):
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.run(self.index.close())
            self.runner.close()

    @rule(key=KEYS, scope=SCOPES, tag=st.sampled_from(["red", "blue"]), age=st.integers(0, 3))
    def add(self, key, scope, tag, age):
        head = make_head(key, scope, tags=(tag,), created=self.clock.now - age)
        self.made.append(head)
        self.index.add(head)
        self.naive.add(head)

    @precondition(lambda self: self.made)
    @rule(choices=st.lists(st.tuples(st.integers(0, 50), SEEDS), min_size=1, max_size=4))
    def attach(self, choices):
        given = {
            self.made[which % len(self.made)].key: (self.made[which % len(self.made)], unit(seed)) for which, seed in choices
        }
        self.run(self.index.attach(list(given.values())))
        for head, vector in given.values():
            self.naive.attach(head, vector)

    @precondition(lambda self: self.made)
    @rule(which=st.lists(st.integers(0, 50), max_size=3))
    def drop(self, which):
        heads = [self.made[number % len(self.made)] for number in which]
        self.index.drop(heads)
        for head in heads:
            self.naive.drop(head)

    @rule(tag=st.sampled_from(["red", "blue", None]), older_than=st.sampled_from([None, 1.0]))
    def clear(self, tag, older_than):
        selector = Selector(tag=tag, older_than=older_than)
        assert self.run(self.index.clear(selector, self.clock.now)) == self.naive.clear(selector, self.clock.now)

    @rule(scope=SCOPES, seed=SEEDS, away=st.sampled_from([0.0, 0.1, 0.7]), limit=st.integers(1, 15))
    def search(self, scope, seed, away, limit):
        asked = unit(seed, away=away)
        truth = self.naive.similarities(scope, asked)
        found = self.run(self.index.nearest(scope, asked, limit=limit))
        assert len(found) == min(limit, len(truth))
        best = sorted(truth.values(), reverse=True)
        for neighbour, similarity in zip(found, best, strict=False):
            assert neighbour.similarity == pytest.approx(similarity, abs=1e-3)
            assert neighbour.similarity == pytest.approx(truth[neighbour.head.key], abs=1e-3)
            assert neighbour.head == self.naive.questions[neighbour.head.key].head

    @invariant()
    def the_same_is_held(self):
        if not hasattr(self, "index"):
            return
        held = self.naive.questions.values()
        assert self.index.size() == (len(held), sum(question.vector is not None for question in held))
        for scope in ("one", "other"):
            view = self.run(self.index.view(scope, waiting=100))
            assert list(view.waiting) == self.naive.waiting(scope)
            assert view.vectors == len(self.naive.similarities(scope, unit(0)))


class MemoryMachine(IndexMachine):
    """As above, and now and then restarted from its archive, which holds the stored questions in their order of age."""

    adapter = "memory"

    @initialize()
    def open(self) -> None:
        super().open()
        self.run(self.index.close())
        self.archive = FakeArchive(page=3)
        self.index = self.run(self.opened())

    async def opened(self):
        return open_memory(self.clock, archive=self.archive)

    @rule()
    def restart(self):
        self.run(self.index.close())
        self.archive.stored = {key: question.head for key, question in self.naive.questions.items()}
        alive = {key for key, question in self.naive.questions.items() if question.vector is not None}
        self.archive.vectors = {(model, key): kept for (model, key), kept in self.archive.vectors.items() if key in alive}
        self.index = self.run(self.opened())
        self.run(self.index.restore())


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_it_agrees_with_a_naive_index(adapter):
    machine = {"memory": MemoryMachine}[adapter]
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
    machine.TestCase("runTest").runTest()
