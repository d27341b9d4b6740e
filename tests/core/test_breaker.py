"""The breaker, step by step, and against its rules by chance (X3)."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from sentinel_gateway.core.breaker import Breaker


def opened(now=0.0) -> Breaker:
    breaker = Breaker(failures=3, pause=5.0)
    assert [breaker.failed(now) for _ in range(3)] == [False, False, True]
    return breaker


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(failures=3, pause=5.0)
    for _ in range(10):
        assert not breaker.failed(0.0)
        assert not breaker.failed(0.0)
        assert not breaker.succeeded()
    assert breaker.allows(0.0)
    assert not breaker.is_open


def test_while_open_one_goes_through_each_pause():
    breaker = opened()
    assert [breaker.allows(now) for now in (0.0, 4.9, 5.0, 5.1, 9.9, 10.0, 10.1)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_failed_probe_is_no_news_and_starts_the_pause_again():
    breaker = opened()
    assert breaker.allows(6.0)
    assert not breaker.failed(7.0)
    assert not breaker.allows(11.9)
    assert breaker.allows(12.0)


def test_one_success_closes_it_and_the_count_starts_again():
    breaker = opened()
    assert breaker.allows(5.0)
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.allows(5.0)
    assert not breaker.failed(5.0)


def test_it_tells_its_state():
    assert repr(opened()) == "<Breaker open, 3 failures in a row>"


class Machine(RuleBasedStateMachine):
    """Requests that may go or not, and what becomes of them, in any order. The model keeps no state but what has happened."""

    @initialize(failures=st.integers(1, 4), pause=st.sampled_from([0.5, 1.0, 5.0]))
    def begin(self, failures, pause):
        self.limit, self.pause, self.now = failures, pause, 100.0
        self.breaker = Breaker(failures=failures, pause=pause)
        self.in_a_row = 0
        self.quiet_since = 0.0
        """When the last probe went, or the last failure came, while it was open."""

    @property
    def is_open(self):
        return self.in_a_row >= self.limit

    @rule(eighths=st.integers(0, 48))
    def wait(self, eighths):
        self.now += eighths / 8

    @rule()
    def ask(self):
        may = not self.is_open or self.now >= self.quiet_since + self.pause
        assert self.breaker.allows(self.now) == may, "an open one lets one through each pause, and is never stuck"
        if may:
            self.quiet_since = self.now

    @rule()
    def fail(self):
        was_open = self.is_open
        self.in_a_row += 1
        self.quiet_since = self.now
        assert self.breaker.failed(self.now) == (self.is_open and not was_open)
        assert self.breaker.is_open == self.is_open

    @rule()
    def succeed(self):
        was_open, self.in_a_row = self.is_open, 0
        assert self.breaker.succeeded() == was_open
        assert not self.breaker.is_open


@pytest.mark.hypothesis
@pytest.mark.parametrize("runs", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_the_breaker_against_its_rules(runs):
    run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=100, deadline=None))
