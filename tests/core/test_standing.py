"""What is remembered of a target."""

import pytest

from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.standing import BEGINNINGS, ENOUGH, MOST, RESERVE, Standing, StandingRules, Standings
from sentinel_gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.providers._errors import UpstreamTooLong, UpstreamUnstreamed

RULES = StandingRules(CircuitRules(failures=2), retry_budget=0.1, cool_down=30.0)


@pytest.fixture
def standing():
    return Standing(RULES)


def enter(standing, now=0.0, *, again=False, stream=False):
    return standing.enter(now, stream=stream, again=again)


@pytest.mark.parametrize(("retry_after", "until"), [(None, 101.0), (0.0, 100.0), (7.0, 107.0), (30.0, 130.0), (1e9, 130.0)])
def test_a_429_cools_it(standing, retry_after, until):
    assert not standing.failed(0, UpstreamLimited("x", retry_after=retry_after), 100.0)
    assert standing.cooled_until == until
    assert standing.is_open_to(until)
    assert until == 100.0 or not standing.is_open_to(until - 0.1)
    assert standing.circuit.failures == 0


def test_a_shorter_pause_does_not_end_a_longer_one(standing):
    standing.failed(0, UpstreamLimited("x", retry_after=20.0), 100.0)
    standing.failed(0, UpstreamLimited("x", retry_after=1.0), 101.0)
    assert standing.cooled_until == 120.0


def test_a_refused_key_is_not_tried_for_a_minute_or_until_the_configuration_is_read_again(standing):
    standing.failed(0, UpstreamUnauthorized("x"), 100.0)
    assert not standing.is_open_to(159.9)
    assert standing.is_open_to(160.0)
    standing.use(RULES)
    assert standing.is_open_to(100.0)
    assert standing.circuit.failures == 0


@pytest.mark.parametrize("error", [UpstreamBroken("x"), UpstreamTimeout("x"), UpstreamUnreachable("x")])
def test_what_says_that_it_fails_opens_the_circuit(standing, error):
    assert [standing.failed(0, error, 0.0) for _ in range(2)] == [False, True]
    assert not standing.is_open_to(0.0)


@pytest.mark.parametrize("error", [UpstreamError("x"), UpstreamTooLong("x"), UpstreamUnstreamed("x")])
def test_an_error_that_says_nothing_opens_nothing(standing, error):
    assert not any(standing.failed(0, error, 0.0) for _ in range(10))


def test_one_request_in_ten_may_be_asked_again(standing):
    retries = 0
    for _ in range(int(RESERVE)):
        assert standing.may_retry
        enter(standing, again=True)
    assert not standing.may_retry
    for _ in range(1000):
        enter(standing)
        if standing.may_retry:
            enter(standing, again=True)
            retries += 1
    assert 95 <= retries <= 100


def test_what_is_not_used_does_not_grow_without_end(standing):
    for _ in range(10_000):
        enter(standing)
    for _ in range(int(RESERVE)):
        enter(standing, again=True)
    assert not standing.may_retry


def test_a_budget_of_0_has_no_reserve(standing):
    none = StandingRules(retry_budget=0.0)
    assert not Standing(none).may_retry
    standing.use(none)
    assert not standing.may_retry


def test_the_pace_is_a_moving_average_of_each_kind(standing):
    assert standing.pace(0.0, stream=True) == 0.0
    for seconds in (1.0, 2.0):
        standing.succeeded(enter(standing, stream=True), stream=True, seconds=seconds)
    standing.succeeded(enter(standing), stream=False, seconds=9.0)
    assert standing.pace(1.0, stream=True) == pytest.approx(1.3)
    assert standing.pace(1.0, stream=False) == 9.0
    assert standing.pace(60.0, stream=True) == 0.0, "it may be faster by now"


def test_those_under_way_are_counted(standing):
    enter(standing)
    enter(standing)
    standing.leave()
    assert standing.busy == 1
    assert "1 under way" in repr(standing)


def test_nothing_is_known_of_a_target_before_something_is():
    standings = Standings(RULES)
    assert standings.find("a/b") is None
    assert standings.of("a/b") is standings.of("a/b") is standings.find("a/b")
    assert "1 targets" in repr(standings)


def test_what_is_remembered_is_bounded_and_those_compared_stay():
    standings = Standings(RULES)
    standings.use(RULES, ["kept/one", "kept/two"])
    first = standings.find("kept/one")
    for number in range(3 * MOST):
        standings.of(f"junk/{number}")
    assert standings.find("kept/one") is first
    assert standings.find(f"junk/{3 * MOST - 1}") is not None
    assert standings.find("junk/0") is None
    assert f"{MOST + 2} targets" in repr(standings)


def test_those_compared_are_shown_in_the_order_of_the_configuration():
    standings = Standings(RULES)
    names = [f"p{number}/m" for number in range(20, 0, -1)]
    standings.use(RULES, iter(names))
    assert list(standings.states(0.0)) == names


def test_new_rules_hold_for_what_is_known_already():
    standings = Standings(RULES)
    known = standings.of("a/b")
    standings.use(StandingRules(CircuitRules(failures=1)), [])
    assert known.failed(0, UpstreamBroken("x"), 0.0)
    assert standings.of("c/d").failed(0, UpstreamBroken("x"), 0.0)


def test_the_circuits_shown_are_those_compared_and_those_not_closed():
    standings = Standings(RULES)
    standings.use(RULES, ["a/x"])
    standings.of("b/x")
    assert [name for name, _ in standings.all()] == ["a/x", "b/x"]
    standings.of("c/x").circuit.open(0.0)
    assert standings.states(0.0) == {"a/x": "closed", "c/x": "open"}


def test_how_late_it_may_be_is_told_by_its_latest_beginnings(standing):
    for number in range(ENOUGH - 1):
        standing.began(float(number), stream=True)
    assert standing.late(stream=True) is None, "of so few nothing is said"
    standing.began(100.0, stream=True)
    assert standing.late(stream=True) == 18.0, "19 of 20 had begun by then"
    assert standing.late(stream=False) is None
    for _ in range(BEGINNINGS):
        standing.began(1.0, stream=True)
    assert standing.late(stream=True) == 1.0
