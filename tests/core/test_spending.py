"""The day's cost, and the share of it that evidence may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.spending import DAY, TARGETS, DayBook, Rate, Tokens

NOW = 20_000.0 * DAY + 5
RATES = {"a": Rate(10.0, 30.0), "free": Rate(0.0, 0.0)}


def book(share=0.1):
    made = DayBook()
    made.share = share
    return made


def test_all_of_it_and_the_part_of_evidence():
    day = book()
    day.note("a", Tokens(100, 10), NOW, extra=False)
    day.note("a", Tokens(10, 1), NOW, extra=True)
    day.note("unknown", Tokens(10**9, 0), NOW, extra=False)
    assert day.costs(RATES, NOW) == (1430.0, 130.0)
    assert day.targets(NOW) == {"a", "unknown"}


def test_a_share_is_allowed_and_no_more():
    day = book(share=0.1)
    day.note("a", Tokens(100, 0), NOW, extra=False)
    assert day.allows(100.0, RATES, NOW)
    assert not day.allows(101.0, RATES, NOW)
    day.note("a", Tokens(10, 0), NOW, extra=True)  # now 100 of 1,100
    assert day.allows(10.0, RATES, NOW)
    assert not day.allows(11.0, RATES, NOW)


def test_what_costs_nothing_is_always_allowed():
    assert book(share=0.0).allows(0.0, RATES, NOW)
    assert not book(share=1.0).allows(1.0, RATES, NOW)


@pytest.mark.parametrize("later", [DAY, 40 * DAY])
def test_each_day_begins_anew(later):
    day = book()
    day.note("a", Tokens(100, 10), NOW, extra=True)
    assert day.costs(RATES, NOW + later) == (0.0, 0.0)


def test_targets_are_bounded():
    day = book()
    for number in range(TARGETS + 5):
        day.note(f"target-{number}", Tokens(1, 1), NOW, extra=False)
    day.note("target-0", Tokens(1, 1), NOW, extra=False)
    assert len(day.targets(NOW)) == TARGETS
    assert str(TARGETS) in repr(day)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.booleans()), max_size=60), st.floats(0, 1))
def test_evidence_never_has_more_than_its_share_if_it_asks(calls, share):
    day = book(share)
    for prompt, completion, extra in calls:
        cost = RATES["a"].of(Tokens(prompt, completion))
        if not extra or day.allows(cost, RATES, NOW):
            day.note("a", Tokens(prompt, completion), NOW, extra=extra)
            whole, spent = day.costs(RATES, NOW)
            assert spent <= share * whole + 1e-6 or not extra or cost == 0
