"""What a view means, and where its pages end."""

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.browsing import FOREVER, Page, Place, View, is_pinned, page_of
from sentinel_gateway.core.caching import YEAR, Head, Selector

NOW = 1_800_000_000.0
HEAD = Head(
    key="k", model="m", created=NOW - 100, expires=NOW + 100, tenant="t", text="What is the price of Äpfel in 2024?", scope="s"
)


@pytest.mark.parametrize(
    ("view", "fits"),
    [
        (View(), True),
        (View(selector=Selector(tenant="t")), True),
        (View(selector=Selector(tenant="u")), False),
        (View(newer_than=101.0), True),
        (View(newer_than=100.0), False),
        (View(words=("PRICE", "äpfel")), True),
        (View(words=("price", "pears")), False),
        (View(words=("2024?",)), True),
        (View(state="expired"), False),
        (View(state="pinned"), False),
        (View(state="all"), True),
    ],
    ids=str,
)
def test_a_view_means_all_of_its_members(view, fits):
    assert view.matches(HEAD, NOW) is fits


def test_states():
    over, pinned = replace(HEAD, expires=NOW), replace(HEAD, expires=FOREVER)
    states = ("live", "pinned", "expired", "all")
    assert [View(state=state).matches(over, NOW) for state in states] == [False, False, True, True]
    assert [View(state=state).matches(pinned, NOW) for state in states] == [True, True, False, True]
    assert (is_pinned(pinned), is_pinned(replace(HEAD, expires=NOW + YEAR))) == (True, False)


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_pages_follow_each_other_where_many_are_equal(rising, most):
    heads = [replace(HEAD, key=f"{n:02}", created=NOW - n // 4) for n in range(20)]
    told, after = [], None
    while True:
        page = page_of(reversed(heads), View(rising=rising), NOW, after=after, most=most)
        told += page.heads
        if (after := page.next) is None:
            break
    assert told == sorted(heads, key=lambda head: (head.created, head.key), reverse=not rising)


def test_the_last_page_has_no_next_one():
    heads = [replace(HEAD, key=str(n)) for n in range(3)]
    assert page_of(heads, View(), NOW, after=None, most=3).next is None
    assert page_of(heads, View(), NOW, after=None, most=2).next == Place(HEAD.created, "1")
    assert page_of([], View(), NOW, after=Place(0.0, ""), most=2) == Page(())
