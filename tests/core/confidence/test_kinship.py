"""What is known of answers that say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.kinship import Kinship

ENTRIES = st.sampled_from("abcdefgh")


def kin(**verdicts: bool) -> Kinship:
    """`ab=True`: the answers of a and b say the same."""
    found = Kinship()
    for (a, b), same in verdicts.items():
        found.note(a, b, same=same)
    return found


def test_it_holds_both_ways_and_the_last_word_counts():
    found = kin(ab=True, ac=False)
    assert found.around("b", "a") == (0.5, 0.0)
    assert found.around("a", "bc") == pytest.approx((1 / 3, 1 / 3))
    found.note("b", "a", same=False)
    assert found.around("a", "b") == (0.0, 0.5)


def test_of_strangers_nothing_is_known():
    assert kin(ab=True).around("c", "ab") == (0.0, 0.0)
    assert kin(ab=True).second_opinion("c", {"a": True, "b": True}, right=False) is False


@pytest.mark.parametrize(
    ("compared", "right", "opinion"),
    [
        ({"b": True, "c": True}, False, True),  # it says what two of its kind say
        ({"b": True}, False, False),  # one voice is not enough
        ({"b": True, "c": True, "x": True}, False, False),  # a stranger's answer speaks for the verdict
        ({"x": True, "y": True}, True, False),  # it says what two of another kind say
        ({"b": False, "c": False}, True, False),
        ({"x": False, "y": False}, True, True),  # from being unlike strangers nothing follows
        ({"x": False, "y": False}, False, False),
        ({}, True, True),
    ],
)
def test_a_verdict_that_is_clearly_outvoted_is_turned(compared, right, opinion):
    known = kin(ab=True, ac=True, ax=False, ay=False)
    assert known.second_opinion("a", compared, right=right) is opinion


@given(st.lists(st.tuples(ENTRIES, ENTRIES, st.booleans())), ENTRIES, st.lists(ENTRIES))
def test_shares_are_shares_and_survive_being_kept(notes, entry, others):
    found = Kinship()
    for a, b, same in notes:
        found.note(a, b, same=same)
    agreeing, disagreeing = found.around(entry, others)
    assert 0 <= agreeing + disagreeing < 1
    assert Kinship(found.verdicts()).around(entry, others) == (agreeing, disagreeing)


def test_it_is_bounded_and_keeps_no_half_of_a_pair():
    found = Kinship(most=3)
    found.note("a", "b", same=True)
    found.note("c", "d", same=False)
    assert found.verdicts() == {"b": {}, "c": {"d": False}, "d": {"c": False}}
    assert repr(found) == "<Kinship of 3 entries>"
