"""Any sequence of changes, compared with an index so simple that it can't be wrong: a list, and all cosines."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.ports import VectorIndex
from tests.contract.vectors.conftest import ADAPTERS, FakeArchive, Settled, held, make_head, open_adapter, open_memory, unit
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
    moves = True
    """May a key be added in another scope than before? In the product it never is."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.naive = NaiveIndex()
        self.made: list[Head] = []
        self.index = self.run(self.opened())

    async def opened(self) -> VectorIndex:
        raise NotImplementedError

    def run(self, work):
        return self.runner.run(work)

    def do(self, change, what):
        """As on the path: on the event loop."""

        async def at_once():
            change(what)

        self.run(at_once())

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.run(self.index.close())
            self.runner.close()

    @rule(key=KEYS, scope=SCOPES, tag=st.sampled_from(["red", "blue"]), age=st.integers(0, 3))
    def add(self, key, scope, tag, age):
        scope = scope if self.moves else ("one", "other")[int(key) % 2]
        head = make_head(key, scope, tags=(tag,), created=self.clock.now - age)
        self.made.append(head)
        self.do(self.index.add, head)
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
        self.do(self.index.drop, heads)
        for head in heads:
            self.naive.drop(head)

    @rule(
        tag=st.sampled_from(["red", "blue", None]),
        older_than=st.sampled_from([None, 1.0]),
        keys=st.none() | st.frozensets(KEYS),
    )
    def clear(self, tag, older_than, keys):
        selector = Selector(tag=tag, older_than=older_than, keys=keys)
        assert self.run(self.index.clear(selector, self.clock.now)) == self.naive.clear(selector, self.clock.now)

    @rule(tag=st.sampled_from(["red", "blue", None]))
    def tell_questions(self, tag):
        selector = Selector(tag=tag)
        expected = {key: held for key, held in self.naive.questions.items() if selector.matches(held.head, self.clock.now)}
        found = dict(self.run(self.list_questions(selector)))
        assert {head.key: head for head in found} == {key: held.head for key, held in expected.items()}
        for head, vector in found.items():
            true = expected[head.key].vector
            assert (vector is None) == (true is None)
            assert vector is None or vector == pytest.approx(true, abs=1e-3)

    async def list_questions(self, selector):
        return [question async for page in self.index.questions(selector, self.clock.now) for question in page]

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
        questions = self.naive.questions.values()
        with_vector = sum(question.vector is not None for question in questions)
        assert self.run(held(self.index, "one", "other")) == (len(questions), with_vector)
        for scope in ("one", "other"):
            view = self.run(self.index.view(scope, waiting=100))
            assert list(view.waiting) == self.naive.waiting(scope)
            assert view.vectors == len(self.naive.similarities(scope, unit(0)))


class MemoryMachine(IndexMachine):
    """As above, and now and then restarted from its archive, which holds the stored questions in their order of age."""

    @initialize()
    def open(self) -> None:
        self.archive = FakeArchive(page=3)
        super().open()

    async def opened(self):
        return open_memory(self.clock, archive=self.archive)

    @rule()
    def restart(self):
        self.run(self.index.close())
        self.archive.stored = {key: question.head for key, question in self.naive.questions.items()}
        alive = {key for key, question in self.naive.questions.items() if question.vector is not None}
        self.archive.vectors = {(model, key): kept for (model, key), kept in self.archive.vectors.items() if key in alive}
        self.index = self.run(self.opened())
        self.run(self.index.prepare())


@pytest.mark.hypothesis
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_it_agrees_with_a_naive_index(adapter, servers):
    class SharedMachine(IndexMachine):
        """As above; other indexes over the same server come and go, and each sees what the others did."""

        moves = False

        async def opened(self):
            return await open_adapter(adapter, self.clock, servers)

        @rule()
        def change_node(self):
            self.run(self.index.close())
            self.clock.now += 0.001  # nodes put what waits in order by their clocks
            self.index = Settled(self.run(servers.node(adapter, self.clock)))

    machine = MemoryMachine if adapter == "memory" else SharedMachine
    machine.TestCase.settings = settings(max_examples=40 if adapter == "memory" else 15, stateful_step_count=40)
    machine.TestCase("runTest").runTest()
