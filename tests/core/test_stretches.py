"""What is added up of stretches of time, and how it is put together."""

import pytest

from sentinel_gateway.core.stretches import Part, Share, Stretch, by_name, filled, runs


def test_requests_are_counted_by_what_the_cache_did():
    stretch = Stretch(0)
    for outcome, requests in (("exact", 3), ("semantic", 2), ("miss", 1), ("failed", 7)):
        stretch.count(outcome, requests)
    assert (stretch.exact, stretch.semantic, stretch.miss, stretch.other, stretch.total) == (3, 2, 1, 7, 6)


def test_figures_are_added_and_names_stay():
    stretch = Stretch(300, exact=1, spent=5)
    stretch.add(Stretch(600, exact=2, tokens_used=7))
    assert stretch == Stretch(300, exact=3, spent=5, tokens_used=7)
    part = Part(0, "acme", "key_1", "m", requests=1, saved=2)
    part.add(Part(1, "other", "key_2", "n", requests=2, calls=3))
    assert part == Part(0, "acme", "key_1", "m", requests=3, calls=3, saved=2)
    share = Share(0, "acme")
    share.add(part)
    assert share == Share(0, "acme", requests=3, calls=3, saved=2)


def test_shares_of_one_name_are_one_and_the_dearest_comes_first():
    shares = [Share(0, "b", spent=1), Share(0, "a", spent=1), Share(0, "c", spent=3), Share(86_400, "b", saved=4)]
    assert by_name(shares) == [Share(0, "c", spent=3), Share(0, "b", spent=1, saved=4), Share(0, "a", spent=1)]
    assert shares[0] == Share(0, "b", spent=1), "what was given stays as it was"


def test_a_stretch_in_which_nothing_came_is_there():
    assert filled([Stretch(300, miss=1)], 0, 900, 300) == [Stretch(0), Stretch(300, miss=1), Stretch(600)]


@pytest.mark.parametrize(
    ("starts", "found"),
    [
        ([], []),
        ([10], [(10, 20)]),
        ([0, 10, 20], [(0, 20), (20, 30)]),
        ([0, 10, 30], [(0, 20), (30, 40)]),
        ([0, 20, 40], [(0, 10), (20, 30), (40, 50)]),
    ],
)
def test_neighbours_are_one_run_up_to_the_longest(starts, found):
    assert list(runs(starts, 10, 20)) == found
