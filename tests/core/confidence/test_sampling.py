"""Which misses are looked at: all of few, so many a second of many."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.sampling import RAREST, Sampling


@given(st.lists(st.floats(0, 1e4), max_size=60), st.floats(0.01, 100))
def test_it_is_always_a_chance(gaps, most):
    sampling, now = Sampling(most), 0.0
    for gap in gaps:
        now += gap
        assert RAREST <= sampling.chance(now) <= 1.0


def test_few_are_all_looked_at():
    sampling = Sampling(1.0)
    assert [sampling.chance(number * 1.5) for number in range(1, 50)] == [1.0] * 49


@pytest.mark.parametrize("rate", [3.0, 20.0, 80.0])
def test_of_many_so_many_a_second(rate):
    sampling, chance, now, drawn = Sampling(1.0), random.Random(1), 0.0, 0
    weights = 0.0
    for _ in range(20_000):
        now += chance.expovariate(rate)
        share = sampling.chance(now)
        if chance.random() < share:
            drawn += 1
            weights += 1 / share
    assert drawn / now == pytest.approx(1.0, rel=0.25)
    assert weights == pytest.approx(20_000, rel=0.2), "each stands for those that were passed over"


def test_a_pause_is_forgotten_soon():
    sampling = Sampling(1.0)
    sampling.chance(1e6)
    later = [sampling.chance(1e6 + number / 1000) for number in range(100)]
    assert later[-1] < 0.02
    assert "of 0.0" in repr(sampling)
