"""The health score: what a call does to it, what it settles at, and where it is going."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.health import FEWEST, predicted, scored, status
from sentinel_gateway.core.percentiles import percentile, percentile_name

CALLS = st.lists(st.booleans(), min_size=1, max_size=200)


def after(calls, score=100.0):
    for answered in calls:
        score = scored(score, answered=answered, failed=not answered)
    return score


@given(CALLS, st.floats(0, 100))
def test_it_stays_between_0_and_100(calls, score):
    assert 0.0 <= after(calls, score) <= 100.0
    assert 0.0 <= scored(score, answered=sum(calls), failed=len(calls) - sum(calls)) <= 100.0


@given(CALLS)
def test_calls_together_weigh_as_much_as_one_after_the_other(calls):
    """All alike they come to the same; mixed, to the mean over their orders."""
    answered = sum(calls)
    together = scored(50.0, answered=answered, failed=len(calls) - answered)
    best, worst = sorted([after(sorted(calls), 50.0), after(sorted(calls, reverse=True), 50.0)], reverse=True)
    assert worst - 1e-9 <= together <= best + 1e-9
    if answered in {0, len(calls)}:
        assert together == pytest.approx(after(calls, 50.0))


def test_it_settles_at_the_share_that_is_answered():
    score = after([number % 20 != 0 for number in range(4000)])
    assert score == pytest.approx(95.0, abs=3.0)


def test_how_soon_it_tells():
    """The counts that the module and docs/monitoring.md name."""
    assert status(after([False] * 4)) == "healthy"
    assert status(after([False] * 5)) == "degraded"
    assert status(after([False] * 13)) == "degraded"
    assert status(after([False] * 14)) == "unhealthy"
    assert status(after([True] * 31, 0.0)) == "degraded"
    assert status(after([True] * 32, 0.0)) == "healthy"


@pytest.mark.parametrize(
    ("score", "told"), [(100, "healthy"), (80, "healthy"), (79.99, "degraded"), (50, "degraded"), (49.99, "unhealthy")]
)
def test_statuses(score, told):
    assert status(score) == told


def course(scores, start=1_000_000.0):
    return [(start + 60.0 * minute, score) for minute, score in enumerate(scores)]


def foreseen(history, score):
    """Right after the last call."""
    return predicted(history, score, now=history[-1][0] + 1.0)


def test_a_trend_is_carried_on_for_ten_minutes():
    assert foreseen(course([100.0 - minute for minute in range(15)]), 86.0) == pytest.approx(76.0)
    assert foreseen(course([40.0 + 4 * minute for minute in range(15)]), 96.0) == 100.0
    assert foreseen(course([80.0 - 5 * minute for minute in range(15)]), 10.0) == 0.0


def test_no_trend_in_what_stands_still_or_in_one_bad_minute():
    assert foreseen(course([95.0] * 15), 95.0) == 95.0
    assert foreseen(course([100.0] * 14 + [70.0]), 70.0) == 70.0
    assert foreseen(course([90.0] * 7 + [60.0] + [90.0] * 7), 90.0) == 90.0


def test_too_little_makes_no_trend():
    assert predicted([], 100.0, now=0.0) == 100.0
    assert foreseen(course([90.0 - 10 * minute for minute in range(FEWEST - 1)]), 60.0) == 60.0
    long_ago = course([100.0 - 5 * minute for minute in range(15)])
    assert foreseen([*long_ago, (long_ago[-1][0] + 3600.0, 30.0)], 30.0) == 30.0


def test_nothing_goes_on_where_nobody_calls_any_more():
    falling = course([100.0 - 2 * minute for minute in range(15)])
    assert predicted(falling, 72.0, now=falling[-1][0] + 60.0) == pytest.approx(52.0)
    assert predicted(falling, 72.0, now=falling[-1][0] + 3600.0) == 72.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_a_percentile_is_between_the_least_and_the_most(values, per_cent):
    ordered = sorted(values)
    assert ordered[0] - 1e-6 <= percentile(ordered, per_cent) <= ordered[-1] + 1e-6
    assert percentile(ordered, 0) == ordered[0]
    assert percentile(ordered, 100) == ordered[-1]


def test_percentile_p99_9_name():
    assert [percentile_name(rank) for rank in (50, 50.0, 99.9, 99.99, 0.5)] == ["p50", "p50", "p99_9", "p99_99", "p0_5"]
