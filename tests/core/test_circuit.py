"""When a target is left alone, and how it comes back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sentinel_gateway.core.circuit import PROBE_SECONDS, Circuit, CircuitRules

RULES = CircuitRules(failures=3, successes=2, pause=60.0)


@pytest.fixture
def circuit():
    return Circuit(RULES)


def trip(circuit, now=0.0):
    for _ in range(RULES.failures):
        circuit.failed(circuit.enter(now), now)


def test_failures_in_a_row_open_it(circuit):
    assert [circuit.failed(circuit.enter(0.0), 0.0) for _ in range(3)] == [False, False, True]
    assert (circuit.state(0.0), circuit.failures) == ("open", 3)
    assert "open" in repr(circuit)


def test_a_success_in_between_begins_the_count_anew(circuit):
    for _ in range(10):
        assert not circuit.failed(circuit.enter(0.0), 0.0)
        assert not circuit.failed(circuit.enter(0.0), 0.0)
        assert not circuit.succeeded(circuit.enter(0.0))
    assert circuit.state(0.0) == "closed"
    assert "closed" in repr(circuit)


def test_it_rests_and_then_one_request_a_second_may_try(circuit):
    trip(circuit)
    assert not circuit.admits(59.9, last=False)
    assert circuit.state(59.9) == "open"
    assert circuit.state(60.0) == "half_open"
    assert circuit.admits(60.0, last=False)
    circuit.enter(60.0)
    assert not circuit.admits(60.9, last=False)
    assert circuit.admits(61.0, last=False)


def test_the_last_target_is_tried_once_a_second_all_the_while(circuit):
    trip(circuit)
    assert not circuit.admits(0.9, last=True)
    tried = [now for now in range(1, 60) if circuit.admits(float(now), last=True) and circuit.enter(float(now))]
    assert tried == list(range(1, 60))
    assert not circuit.admits(1.5, last=True)


def test_successes_in_a_row_close_it(circuit):
    trip(circuit)
    assert not circuit.succeeded(circuit.enter(60.0))
    assert circuit.state(60.0) == "half_open"
    assert circuit.succeeded(circuit.enter(61.0))
    assert (circuit.state(61.0), circuit.failures) == ("closed", 0)


def test_a_probe_that_fails_begins_the_pause_anew(circuit):
    trip(circuit)
    circuit.succeeded(circuit.enter(60.0))
    assert not circuit.failed(circuit.enter(61.0), 61.5)
    assert circuit.state(121.4) == "open"
    assert circuit.state(121.5) == "half_open"
    assert not circuit.succeeded(circuit.enter(121.5)), "the success before it counts no more"


def test_what_was_asked_before_a_turn_says_nothing_after_it(circuit):
    before = circuit.enter(0.0)
    trip(circuit)
    assert not circuit.succeeded(before)
    assert not circuit.succeeded(before)
    assert circuit.state(0.0) == "open"
    probe = circuit.enter(60.0)
    circuit.succeeded(probe)
    circuit.succeeded(probe)
    assert circuit.state(60.0) == "closed"
    for _ in range(10):
        assert not circuit.failed(before, 60.0)
        assert not circuit.failed(probe, 60.0)
    assert circuit.state(60.0) == "closed"


def test_a_refusal_proves_to_an_open_one_that_somebody_answers(circuit):
    circuit.failed(circuit.enter(0.0), 0.0)
    assert not circuit.refused(circuit.enter(0.0))
    assert circuit.failures == 1, "and ends no failures in a row"
    before = circuit.enter(0.0)
    trip(circuit)
    assert not circuit.refused(before)
    assert not circuit.refused(circuit.enter(60.0))
    assert circuit.refused(circuit.enter(61.0))
    assert circuit.state(61.0) == "closed"


def test_a_probe_that_is_left_makes_room_for_the_next(circuit):
    before = circuit.enter(0.0)
    trip(circuit)
    circuit.left(before, 0.0)
    assert not circuit.admits(0.5, last=True), "it was no probe"
    circuit.left(circuit.enter(60.0), 60.0)
    assert circuit.admits(60.1, last=False)
    slow, _ = circuit.enter(61.0), circuit.enter(62.0)
    circuit.left(slow, 61.0)
    assert not circuit.admits(62.5, last=False), "the second is another's"


def test_others_may_open_and_close_it(circuit):
    assert circuit.open(5.0)
    assert not circuit.open(50.0)
    assert circuit.state(65.0) == "half_open", "the pause runs from the first word"
    assert circuit.close()
    assert not circuit.close()
    assert circuit.state(65.0) == "closed"


@dataclass
class Told:
    """What the machine knows of a circuit, told in other words than the circuit's own."""

    failures: int = 0
    opened: float | None = None
    good: int = 0
    turns: int = 0
    under_way: list[tuple[int, int, float]] = field(default_factory=list)
    """Generations as the circuit gave them, beside the turns before them and when they began."""


class CircuitMachine(RuleBasedStateMachine):
    """Any order of requests, sooner or later, of their ends, and of words of others."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.circuit = Circuit(RULES)
        self.told = Told()
        self.entered: list[float] = []

    def may(self, *, last):
        """One request a second while it is open, and none before the pause is over but where nothing else is left."""
        opened = self.told.opened
        rested = last or opened is None or self.now >= opened + RULES.pause
        return opened is None or (rested and self.now >= self.entered[-1] + PROBE_SECONDS)

    @rule(after=st.sampled_from([0.0, 0.5, 1.0, 60.0]), last=st.booleans())
    def ask(self, after, last):
        self.now += after
        if self.may(last=last):
            self.told.under_way.append((self.circuit.enter(self.now), self.told.turns, self.now))
            if self.told.opened is not None:
                self.entered.append(self.now)

    @precondition(lambda self: self.told.under_way)
    @rule(data=st.data(), end=st.sampled_from(["good", "bad", "refused"]))
    def end(self, data, end):
        generation, turns, _ = self._one(data)
        match end:
            case "bad":
                turned = self.circuit.failed(generation, self.now)
            case "good":
                turned = self.circuit.succeeded(generation)
            case _:
                turned = self.circuit.refused(generation)
        told = self.told
        if turns != told.turns:
            assert not turned
        elif told.opened is None:
            told.failures = {"good": 0, "bad": told.failures + 1, "refused": told.failures}[end]
            assert turned == (told.failures == RULES.failures)
            assert self.circuit.failures == told.failures
            if turned:
                self._turn(self.now)
        elif end != "bad":
            told.good += 1
            assert turned == (told.good == RULES.successes)
            if turned:
                self._turn(None)
        else:
            assert not turned
            self._turn(self.now)

    @precondition(lambda self: self.told.under_way)
    @rule(data=st.data())
    def leave(self, data):
        """Whoever asked last while it is open leaves the turn to somebody else; nobody else who leaves changes anything."""
        generation, turns, at = self._one(data)
        self.circuit.left(generation, at)
        if turns == self.told.turns and self.told.opened is not None and self.entered[-1] == at:
            self.entered.pop()

    def _one(self, data):
        """Any of those under way, which is so no longer."""
        return self.told.under_way.pop(data.draw(st.integers(0, len(self.told.under_way) - 1)))

    @rule(opened=st.booleans())
    def hear(self, opened):
        changed = self.circuit.open(self.now) if opened else self.circuit.close()
        assert changed == (opened == (self.told.opened is None))
        if changed:
            self._turn(self.now if opened else None)

    def _turn(self, opened):
        self.told.turns += 1
        self.told.failures = self.told.good = 0
        self.told.opened = opened
        self.entered = [] if opened is None else [opened]

    @invariant()
    def it_is_as_told(self):
        opened = self.told.opened
        wanted = "closed" if opened is None else "open" if self.now < opened + RULES.pause else "half_open"
        assert self.circuit.state(self.now) == wanted

    @invariant()
    def it_admits_whom_it_should(self):
        assert [self.circuit.admits(self.now, last=last) for last in (False, True)] == [self.may(last=False), self.may(last=True)]

    @invariant()
    def it_is_never_stuck(self):
        """Whatever is under way and never ends: after the pause somebody may try, and the last target after a second."""
        assert self.circuit.admits(self.now + PROBE_SECONDS, last=True)
        assert self.circuit.admits(self.now + RULES.pause + PROBE_SECONDS, last=False)


@pytest.mark.hypothesis
@pytest.mark.parametrize(("runs", "steps"), [(100, 40), pytest.param(1000, 100, marks=pytest.mark.long)])
def test_any_order(runs, steps):
    run_state_machine_as_test(CircuitMachine, settings=settings(max_examples=runs, stateful_step_count=steps, deadline=None))
