"""The day's cost, and the share of it that may be extra."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.pricing import DAY
from sentinel_gateway.core.spending import DayBook, DayCost

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


def test_what_was_kept_is_counted_on_and_not_kept_twice():
    day = book(share=0.1)
    day.restore(DayCost(20_000, 1000, 60), NOW)
    assert day.allows(40, NOW)
    assert not day.allows(41, NOW)
    day.note(500, NOW, extra=False)
    day.note(50, NOW, extra=True)
    assert day.costs(NOW) == (1550, 110)
    assert day.take(NOW) == DayCost(20_000, 550, 50)
    assert day.take(NOW) == DayCost(20_000)


def test_the_cost_of_another_day_is_not_restored():
    day = book()
    day.restore(DayCost(19_999, 1000, 60), NOW)
    assert day.costs(NOW) == (0, 0)


def test_what_could_not_be_kept_is_taken_again_unless_its_day_is_over():
    day = book()
    day.note(500, NOW, extra=True)
    lost = day.take(NOW)
    day.note(5, NOW, extra=False)
    day.put_back(lost)
    assert day.take(NOW) == DayCost(20_000, 505, 500)
    day.note(7, NOW + DAY, extra=False)
    day.put_back(lost)
    assert day.take(NOW + DAY) == DayCost(20_001, 7)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.booleans()), max_size=60), st.floats(0, 1))
def test_what_is_extra_never_has_more_than_its_share_if_it_asks(calls, share):
    day = book(share)
    for cost, extra in calls:
        if not extra or day.allows(cost, NOW):
            day.note(cost, NOW, extra=extra)
            whole, spent = day.costs(NOW)
            assert spent <= share * whole * (1 + 1e-9) + 1 or not extra or cost == 0
