"""Which clears are remembered, and for how long."""

import pytest

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.pipeline.clears import NAMED, REMEMBERED_SECONDS, SKEW_SECONDS, WIDE, Clears, as_of

NOW = 1_800_000_000.0


def named(*keys):
    return Selector(keys=frozenset(keys))


@pytest.fixture
def clears():
    return Clears()


def test_what_was_cleared_and_when(clears):
    clears.note(Selector(tag="t"), NOW)
    clears.note(named("k"), NOW + 1)
    clears.note(named(), NOW + 2)
    assert clears.since(NOW + 5) == [(Selector(tag="t"), NOW), (named("k"), NOW + 1)]


@pytest.mark.parametrize(("same", "other"), [(Selector(tag="t"), Selector(tag="u")), (named("k"), named("l"))])
def test_the_same_again_is_one(clears, same, other):
    for number in range(3):
        clears.note(same, NOW + number)
    clears.note(other, NOW + 4)
    clears.note(same, NOW + 5)
    assert clears.since(NOW + 5) == [(other, NOW + 4), (same, NOW + 5)]


def test_what_clears_all_makes_the_others_needless(clears):
    clears.note(Selector(tag="t"), NOW)
    clears.note(named("k"), NOW)
    clears.note(Selector(), NOW + 1)
    clears.note(Selector(tag="u"), NOW + 2)
    assert clears.since(NOW + 2) == [(Selector(), NOW + 1), (Selector(tag="u"), NOW + 2)]


@pytest.mark.parametrize("selector", [Selector(tag="t"), named("k")])
def test_an_hour_long(clears, selector):
    clears.note(selector, NOW)
    assert clears.since(NOW + REMEMBERED_SECONDS)
    assert clears.since(NOW + REMEMBERED_SECONDS + 1) == []
    clears.note(Selector(tag="later"), NOW + REMEMBERED_SECONDS + 1)
    assert len(clears) == 1


def test_so_many_and_no_more(clears):
    for number in range(WIDE + 5):
        clears.note(Selector(tag=str(number)), NOW)
    for number in range(5):
        clears.note(named(*(f"{number}-{key}" for key in range(NAMED // 3))), NOW)
    known = [selector for selector, _ in clears.since(NOW)]
    assert [selector.tag for selector in known[:WIDE]] == [str(number) for number in range(5, WIDE + 5)]
    assert [min(selector.keys) for selector in known[WIDE:]] == ["2-0", "3-0", "4-0"]


@pytest.mark.parametrize("older_than", [None, 60.0])
def test_nothing_that_was_made_later_is_meant(older_than):
    selector, later = Selector(older_than=older_than), NOW + 1000
    bound = NOW - (older_than or 0) + SKEW_SECONDS
    for made, is_meant in ((bound - 1, True), (bound + 1, False)):
        assert as_of(selector, NOW, later).matches(Head(key="k", model="m", created=made, expires=made + 1), later) is is_meant
