"""Whom one request asks, when, and when it gives up."""

from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.retrying import Course, Pause, RetryRules
from sentinel_gateway.core.routing import Conduct, Target
from sentinel_gateway.core.standing import StandingRules, Standings
from sentinel_gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.providers._errors import UpstreamTooLong, UpstreamUnstreamed

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")
REFUSED = UpstreamRefused("too long", upstream_status=400, upstream_code="context_length_exceeded")
FILTERED = UpstreamRefused("no", upstream_status=400, upstream_code="content_filter")
UNKNOWN = UpstreamRefused("no such model", upstream_status=404)
GONE = UpstreamRefused("no longer served", upstream_status=410)


class Journey:
    """A course and a clock; it does what the course says, and each target answers with its errors in their order."""

    def __init__(self, *targets, attempts=3, patience=60.0, chance=0.5, rules=None, conduct=None):
        self.now = 1000.0
        self.standings = Standings(rules or StandingRules())
        self.chance = chance
        self.errors = {}
        self.asked: list[tuple[str, float]] = []
        self._targets, self._rules, self._conduct = targets, RetryRules(attempts, patience), conduct
        self.course = self.begin()

    def begin(self):
        chance, conduct = (lambda: self.chance), self._conduct
        return Course(self._targets, self.standings, self._rules, started=self.now, chance=chance, conduct=conduct)

    def go(self, **errors):
        """The error that the caller is told, or None: somebody answered. `a=[...]` are the errors of provider a."""
        started, last = self.now, None
        while (step := self.course.next(self.now)) is not None:
            if isinstance(step, Pause):
                assert step.seconds > 0
                self.now += step.seconds
                continue
            provider = step.provider
            again = step in self.course.errors
            assert again == (provider in {name for name, _ in self.asked})
            self.asked.append((provider, self.now - started))
            standing = self.standings.find(step.name)
            generation = 0 if standing is None else standing.enter(self.now, stream=False, again=again)
            queue = errors.get(provider, [])
            if not queue:
                return None
            last = queue.pop(0)
            self.standings.of(step.name).failed(generation, last, self.now)
            self.course.failed(step, last, self.now)
        return last or self.course.why(self.now)


def test_a_good_answer_is_asked_for_once():
    journey = Journey(A, B)
    assert journey.go() is None
    assert journey.asked == [("a", 0.0)]
    assert "1 attempts at 2 targets" in repr(journey.course)


@pytest.mark.parametrize(
    "error",
    [
        UpstreamError("x"),
        UpstreamUnreachable("x"),
        UpstreamUnauthorized("x"),
        UpstreamBroken("x"),
        UpstreamTimeout("x"),
        UpstreamLimited("x", retry_after=20.0),
        UNKNOWN,
        GONE,
    ],
    ids=lambda error: f"{type(error).__name__}-{error.http_status}",
)
def test_the_next_target_is_asked_at_once(error):
    journey = Journey(A, B)
    assert journey.go(a=[error]) is None
    assert journey.asked == [("a", 0.0), ("b", 0.0)]


@pytest.mark.parametrize("error", [REFUSED, FILTERED], ids=["context", "filter"])
def test_what_is_wrong_with_the_request_is_told_at_once(error):
    journey = Journey(A, B)
    assert journey.go(a=[error]) is error
    assert journey.asked == [("a", 0.0)]


@pytest.mark.parametrize("error", [UpstreamUnreachable("x"), UpstreamBroken("x"), UpstreamTimeout("x")])
def test_the_same_target_is_asked_again_after_a_pause(error):
    journey = Journey(A)
    assert journey.go(a=[error, error, error]) is error
    assert journey.asked == [("a", 0.0), ("a", 0.5), ("a", 1.5)], "half of one second, half of two"


def test_an_answer_that_is_too_long_is_not_paid_for_twice():
    journey, error = Journey(A, B), UpstreamTooLong("x")
    assert journey.go(a=[error]) is error
    assert journey.asked == [("a", 0.0)]


@pytest.mark.parametrize("error", [UpstreamUnauthorized("x"), UNKNOWN, GONE, UpstreamError("x"), UpstreamUnstreamed("x")])
def test_what_no_retry_mends_is_not_asked_of_the_same_target_again(error):
    journey = Journey(A)
    assert journey.go(a=[error] * 3) is error
    assert journey.asked == [("a", 0.0)]


@given(st.floats(0, 1), st.integers(1, 6))
def test_wait_n_is_uniform_between_0_and_2_to_the_n_minus_1(chance, attempts):
    lasting = StandingRules(CircuitRules(failures=1_000_000))
    journey = Journey(A, attempts=attempts, patience=1e9, chance=chance, rules=lasting)
    journey.go(a=[UpstreamBroken("x")] * attempts)
    times = [at for _, at in journey.asked]
    waits = [after - before for before, after in pairwise(times)]
    assert waits == pytest.approx([chance * 2**n for n in range(attempts - 1)])


def test_attempts_are_counted_over_all_targets():
    journey = Journey(A, B, C, attempts=2)
    told = journey.go(a=[UpstreamBroken("1")], b=[UpstreamBroken("2")])
    assert [name for name, _ in journey.asked] == ["a", "b"]
    assert told.message == "2"
    journey = Journey(A, B, attempts=3)
    assert journey.go(a=[UpstreamBroken("1"), UpstreamBroken("3")], b=[UpstreamBroken("2")]).message == "3"
    assert journey.asked == [("a", 0.0), ("b", 0.0), ("a", 0.5)]


def test_retry_after_is_honoured():
    journey = Journey(A)
    assert journey.go(a=[UpstreamBroken("x", retry_after=7.0)]) is None
    assert journey.asked == [("a", 0.0), ("a", 7.5)]


def test_a_cooled_target_is_passed_over():
    journey = Journey(A, B)
    journey.standings.of("a/m").cooled_until = journey.now + 5.0
    assert journey.go() is None
    assert journey.asked == [("b", 0.0)]


def test_a_cooled_target_that_is_the_last_is_waited_for():
    journey = Journey(A, chance=0.25)
    journey.standings.of("a/m").cooled_until = journey.now + 5.0
    assert journey.go() is None
    assert journey.asked == [("a", 5.25)], "and not by all who wait at once"


def test_a_cooled_target_is_not_waited_for_for_ever():
    journey = Journey(A, patience=4.0)
    journey.standings.of("a/m").cooled_until = journey.now + 5.0
    error = journey.go()
    assert isinstance(error, UpstreamLimited)
    assert error.retry_after == 5.0
    assert journey.asked == []


def test_a_429_is_waited_for_where_it_is_the_last():
    journey = Journey(A, B)
    assert journey.go(a=[UpstreamLimited("x", retry_after=10.0)], b=[UpstreamUnauthorized("x")]) is None
    assert journey.asked == [("a", 0.0), ("b", 0.0), ("a", 10.5)]


def test_a_first_byte_that_took_all_the_time_there_is_is_not_waited_for_again():
    journey = Journey(A)
    step = journey.course.next(journey.now)
    journey.now += 60.0
    journey.standings.of("a/m").failed(0, UpstreamTimeout("x"), journey.now)
    journey.course.failed(step, UpstreamTimeout("x"), journey.now)
    assert journey.course.next(journey.now) is None


def test_but_another_target_is_asked():
    journey = Journey(A, B)
    step = journey.course.next(journey.now)
    journey.now += 60.0
    journey.course.failed(step, UpstreamTimeout("x"), journey.now)
    assert journey.course.next(journey.now) == B


def test_a_target_whose_key_was_refused_is_asked_only_where_there_is_no_other():
    journey = Journey(A, B)
    journey.standings.of("a/m").refused_until = journey.now + 60.0
    assert journey.go() is None
    assert journey.asked == [("b", 0.0)]
    alone = Journey(A)
    alone.standings.of("a/m").refused_until = alone.now + 60.0
    assert alone.go() is None


def test_an_open_circuit_is_passed_over():
    journey = Journey(A, B)
    journey.standings.of("a/m").circuit.open(journey.now - 5.0)
    assert journey.go() is None
    assert journey.asked == [("b", 0.0)]


def test_where_all_circuits_are_open_one_request_a_second_tries():
    journey = Journey(A, B)
    for name in ("a/m", "b/m"):
        journey.standings.of(name).circuit.open(journey.now - 5.0)
    assert journey.go(a=[UpstreamBroken("x")]) is None
    assert [name for name, _ in journey.asked] == ["a", "b"]
    journey.course, journey.asked = journey.begin(), []
    error = journey.go()
    assert isinstance(error, UpstreamBroken)
    assert "again and again" in error.message
    assert journey.asked == []


def test_the_retry_budget_is_the_target_s():
    journey = Journey(A, rules=StandingRules(CircuitRules(failures=1_000_000)))
    asked = 0
    for number in count(1):
        journey.course, journey.asked = journey.begin(), []
        journey.go(a=[UpstreamBroken("x")] * 3)
        asked += len(journey.asked)
        if number == 1000:
            break
    assert asked <= 1.15 * 1000


def test_what_goes_to_another_target_is_no_retry():
    journey = Journey(A, B, rules=StandingRules(CircuitRules(failures=1_000_000)))
    for _ in range(200):
        journey.course, journey.asked = journey.begin(), []
        assert journey.go(a=[UpstreamBroken("x")]) is None


ERRORS = st.sampled_from(
    [
        UpstreamUnreachable("x"),
        UpstreamBroken("x"),
        UpstreamTimeout("x"),
        UpstreamLimited("x", retry_after=3.0),
        UpstreamLimited("x"),
        UpstreamUnauthorized("x"),
        REFUSED,
        UNKNOWN,
        GONE,
    ]
)


@given(
    targets=st.integers(1, 3),
    attempts=st.integers(1, 5),
    chance=st.floats(0, 1),
    errors=st.lists(st.lists(ERRORS, max_size=6), min_size=3, max_size=3),
)
def test_whatever_fails_it_ends_in_time(targets, attempts, chance, errors):
    """No more attempts than allowed, none of the same target at once, none after the patience, and always an end."""
    journey = Journey(*(A, B, C)[:targets], attempts=attempts, patience=10.0, chance=chance)
    journey.go(a=errors[0], b=errors[1], c=errors[2])
    assert 1 <= len(journey.asked) <= attempts
    seen = set()
    for name, at in journey.asked:
        assert at <= 10.0
        seen.add(name)
    if len(journey.asked) < attempts:
        assert len({name for name, _ in journey.asked[:targets]}) == min(targets, len(journey.asked)), "others first"


# --- as the route has it ---

CAREFUL = Conduct(careful=frozenset({A}))
BUSY = UpstreamBroken("503", retry_after=0.0).before_any_work()
UNCERTAIN = [UpstreamError("x"), UpstreamBroken("500"), UpstreamTimeout("late"), UpstreamUnstreamed("x")]
CERTAIN = [UpstreamUnreachable("x"), UpstreamLimited("x"), BUSY, UpstreamTimeout("connect").before_any_work(), UNKNOWN, GONE]


@pytest.mark.parametrize("error", UNCERTAIN, ids=str)
def test_what_a_target_may_have_begun_with_is_asked_of_nobody_again_where_the_route_says_so(error):
    journey = Journey(A, B, conduct=CAREFUL)
    assert journey.go(a=[error]) is error
    assert journey.asked == [("a", 0.0)]
    assert journey.course.next(0.0) is None


@pytest.mark.parametrize("error", [*CERTAIN, UpstreamUnauthorized("x")], ids=str)
def test_what_was_certainly_not_begun_with_goes_on_there_too(error):
    journey = Journey(A, B, conduct=CAREFUL)
    assert journey.go(a=[error]) is None
    assert journey.asked == [("a", 0.0), ("b", 0.0)]


@pytest.mark.parametrize("error", [UpstreamUnreachable("x"), UpstreamLimited("x"), BUSY], ids=str)
def test_and_is_asked_again_of_the_same_target(error):
    journey = Journey(A, conduct=CAREFUL)
    assert journey.go(a=[error]) is None
    assert [name for name, _ in journey.asked] == ["a", "a"]


def test_each_target_is_careful_by_itself():
    journey = Journey(B, A, C, conduct=CAREFUL)
    assert journey.go(b=[UpstreamBroken("500")]) is None
    assert journey.asked == [("b", 0.0), ("a", 0.0)]


def test_a_request_has_so_much_time_and_no_more():
    journey = Journey(A, B, C, conduct=Conduct(total=10.0))
    step = journey.course.next(journey.now)
    journey.course.failed(step, UpstreamTimeout("x"), journey.now + 9.8)
    assert journey.course.next(journey.now + 9.8) == B
    assert journey.course.next(journey.now + 9.9) is None, "it could not answer in time"


def test_a_pause_that_ends_too_late_is_not_begun():
    journey, error = Journey(A, conduct=Conduct(total=10.0)), UpstreamLimited("x", retry_after=20.0)
    assert journey.go(a=[error]) is error
    assert journey.asked == [("a", 0.0)]


# --- side by side ---


def test_beside_one_that_is_being_asked_the_next_is_found():
    course = Journey(A, B, C).course
    assert course.next(1000.0) == A
    assert course.next(1000.0, beside=A) == B
    course.failed(B, UpstreamBroken("x"), 1000.0)
    assert course.next(1000.0, beside=A) == C
    assert course.next(1000.0, beside=A) is None, "three attempts are all there are"


def test_nobody_is_asked_beside_one_but_who_is_open_to_all():
    journey = Journey(A, B, attempts=9)
    journey.course.next(journey.now)
    journey.standings.of("b/m").circuit.open(journey.now)
    assert journey.course.next(journey.now, beside=A) is None
    journey.standings.of("b/m").circuit.close()
    journey.standings.of("b/m").cooled_until = journey.now + 1.0
    assert journey.course.next(journey.now, beside=A) is None
    assert journey.course.next(journey.now + 1.0, beside=A) == B
