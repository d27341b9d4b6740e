"""The day's cost, and the share of it that may be extra."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.pricing import DAY
from sentinel_gateway.core.spending import DayBook

NOW = 20_000.0 * DAY + 5


def book(share=0.1):
    made = DayBook()
    made.share = share
    return made


def test_all_of_it_and_the_part_that_was_extra():
    day = book()
    day.note(1300, NOW, extra=False)
    day.note(130, NOW, extra=True)
    assert day.costs(NOW) == (1430, 130)
    assert "130 of 1430" in repr(day)


def test_a_share_is_allowed_and_no_more():
    day = book(share=0.1)
    day.note(1000, NOW, extra=False)
    assert day.allows(100, NOW)
    assert not day.allows(101, NOW)
    day.note(100, NOW, extra=True)  # now 100 of 1,100
    assert day.allows(10, NOW)
    assert not day.allows(11, NOW)


def test_what_costs_nothing_is_always_allowed():
    assert book(share=0.0).allows(0, NOW)
    assert not book(share=1.0).allows(1, NOW)


@pytest.mark.parametrize("later", [DAY, 40 * DAY])
def test_each_day_begins_anew(later):
    day = book()
    day.note(100, NOW, extra=True)
    assert day.costs(NOW + later) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.booleans()), max_size=60), st.floats(0, 1))
def test_what_is_extra_never_has_more_than_its_share_if_it_asks(calls, share):
    day = book(share)
    for cost, extra in calls:
        if not extra or day.allows(cost, NOW):
            day.note(cost, NOW, extra=extra)
            whole, spent = day.costs(NOW)
            assert spent <= share * whole * (1 + 1e-9) + 1 or not extra or cost == 0
