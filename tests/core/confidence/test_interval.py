"""The interval of the rate of wrong hits covers it as often as it says."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.interval import gamma_quantile, wrong_hit_interval

RUNS = 1_000


@pytest.mark.parametrize(
    ("shape", "chance", "expected"),
    [(1, 0.975, 3.689), (1, 0.95, 2.996), (2, 0.975, 5.572), (10, 0.025, 4.795), (10, 0.975, 17.085), (100, 0.5, 99.667)],
)
def test_quantiles_are_those_of_the_tables(shape, chance, expected):
    assert gamma_quantile(shape, chance) == pytest.approx(expected, rel=1e-3)


def test_nothing_seen_says_nothing():
    found = wrong_hit_interval([], 1000)
    assert (found.rate, found.low, found.high, found.observations) == (0.0, 0.0, 1.0, 0)
    assert wrong_hit_interval([(True, 1.0)], 0).high == 1.0


def test_a_few_labels_without_a_wrong_one_still_leave_room():
    """Rule of three, for a two-sided interval: 3.7 by the number of labels."""
    found = wrong_hit_interval([(True, 1.0)] * 100, 100)
    assert (found.rate, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.037, rel=0.03)


def test_what_was_not_drawn_by_chance_does_not_count():
    drawn = [(True, 50.0)] * 20 + [(False, 50.0)]
    assert wrong_hit_interval([*drawn, (False, 0.0)], 5000) == wrong_hit_interval(drawn, 5000)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("wrong", [6, 15, 30, 90])
def test_it_covers_the_true_rate_in_95_of_100_cases(rate, wrong):
    """So many wrong hits among 3,000 requests, hits explored with the chance `rate`: exactly, over all that may be seen."""
    requests, hits = 3_000, 1_200
    labels = int(hits * rate)
    covered = 0.0
    for seen in range(wrong + 1):
        likelihood = comb(wrong, seen) * rate**seen * (1 - rate) ** (wrong - seen)
        found = wrong_hit_interval([(True, 1 / rate)] * max(labels - seen, 1) + [(False, 1 / rate)] * seen, requests)
        covered += likelihood * (found.low <= wrong / requests <= found.high)
    assert covered >= 0.95


def test_it_covers_the_true_rate_in_95_of_1000_runs_of_unequal_weights():
    """As hits are explored in earnest: often where they are doubtful, rarely where they are sure."""
    chance = np.random.default_rng(0)
    doubt = np.linspace(0.001, 0.1, 1_200)
    rates = 0.2 * np.sqrt(doubt / doubt.max())
    covered = 0
    for _ in range(RUNS):
        wrong = chance.random(doubt.size) < doubt
        drawn = chance.random(doubt.size) < rates
        labels = [(not bad, 1 / rate) for bad, rate in zip(wrong[drawn], rates[drawn], strict=True)]
        found = wrong_hit_interval(labels, 3_000)
        covered += found.low <= doubt.sum() / 3_000 <= found.high
    assert covered / RUNS >= 0.95


@given(st.lists(st.tuples(st.booleans(), st.floats(0.5, 100)), min_size=1, max_size=50), st.floats(1, 1e5))
def test_it_is_an_interval_around_the_rate(labels, requests):
    found = wrong_hit_interval(labels, requests)
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.observations == len(labels)
    worse = wrong_hit_interval([*labels, (False, 1.0)], requests)
    assert worse.high >= found.high - 1e-9
