"""Which hits are checked: many at first, then few, and those where a label says most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.exploration import exploration_rate

SHARE = st.floats(0, 1)


@given(SHARE, SHARE, st.integers(0, 10**9), st.floats(1e-3, 1))
def test_it_is_a_chance_and_never_none(confidence, threshold, hits, least):
    rate = exploration_rate(confidence, threshold=threshold, hits=hits, least=least)
    assert least / 2 <= rate <= 1
    assert exploration_rate(confidence, threshold=threshold, hits=hits + 1000, least=least) <= rate


@given(SHARE, SHARE)
def test_the_surer_the_fewer(a, b):
    rates = [exploration_rate(told, threshold=0.5, hits=200, least=0.02) for told in sorted((a, b))]
    assert rates[0] >= rates[1]


def test_in_the_long_run_it_is_what_the_operator_asks_for_where_it_is_in_doubt():
    assert exploration_rate(0.9, threshold=0.9, hits=10**6, least=0.02) == 0.02
    assert exploration_rate(0.999, threshold=0.9, hits=10**6, least=0.02) == 0.01
    assert exploration_rate(0.9, threshold=0.9, hits=100, least=0.02) == 0.5
    assert exploration_rate(1.0, threshold=1.0, hits=0, least=0.02) == pytest.approx(0.01)


def test_off_is_off():
    assert exploration_rate(0.9, threshold=0.9, hits=0, least=0.0) == 0
