"""The threshold keeps the budget: by properties of the curve, and by what it lets through in many drawn histories."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.curve import STRATUM, Point, Records, threshold
from sentinel_gateway.core.confidence.curve import curve as curve_of


class Record(NamedTuple):
    """One request; `right` None: nobody can tell."""

    confidence: float
    right: bool | None
    weight: float


def curve(records: Sequence[Record]) -> list[Point]:
    told, right, weight = np.array(records, float).reshape(len(records), 3).T  # None becomes NaN
    return curve_of(Records(told, right, weight))


RECORDS = st.lists(
    st.builds(
        Record,
        st.floats(0, 1),
        st.sampled_from([True, True, True, False, None]),
        st.sampled_from([0.0, 1.0, 1.0, 7.5, 50.0]),
    ),
    max_size=400,
)


def history(seed: int, requests: int, *, explored: float = 1.0, above: float = 1.0) -> list[Record]:
    """Confidences that are what they say; of those from `above` on only a share `explored` has a label."""
    chance = np.random.default_rng(seed)
    confidences = chance.beta(4, 1, requests).tolist()
    right = (chance.random(requests) < confidences).tolist()
    drawn = (chance.random(requests) < explored).tolist()
    return [
        Record(told, ok, 1.0 if told < above else 1.0 / explored)
        for told, ok, labelled in zip(confidences, right, drawn, strict=True)
        if told < above or labelled
    ]


def true_rate(least: float) -> float:
    """Of wrong hits by requests, of histories as above, if everything from `least` on served: the integral of 4 c^3 (1 - c)."""
    return 1 - least**4 - 0.8 * (1 - least**5) if least < 1 else 0.0


@given(RECORDS)
def test_confidence_falls_and_the_bound_rises(records):
    points = curve(records)
    for higher, lower in pairwise(points):
        assert lower.confidence < higher.confidence
        assert lower.bound >= higher.bound
        assert lower.rate >= higher.rate
    assert all(point.bound > point.rate >= 0 for point in points)


@given(RECORDS, st.floats(0.001, 0.1), st.floats(0.001, 0.1))
def test_a_larger_budget_never_asks_for_more(records, a, b):
    points = curve(records)
    assert threshold(points, max(a, b)) <= threshold(points, min(a, b))


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(records, chance):
    mixed = [*records]
    chance.shuffle(mixed)
    for a, b in zip(curve(records), curve(mixed), strict=True):
        assert a.confidence == b.confidence
        assert math.isclose(a.bound, b.bound, rel_tol=1e-9)


def test_without_labels_nothing_may_serve():
    assert curve([]) == []
    assert curve([Record(0.9, None, 1.0), Record(0.9, False, 0.0)]) == []
    assert threshold([], 0.01) == math.inf
    assert threshold([Point(0.9, 0.0, 0.02)], 0.01) == math.inf


def test_one_wrong_label_more_raises_the_bound():
    records = history(1, 2_000)
    worse = [*records, Record(0.99, False, 1.0)]
    assert curve(worse)[-1].bound > curve(records)[-1].bound


def test_requests_without_a_label_thin_the_rate():
    records = history(1, 2_000)
    thinner = curve([*records, *([Record(0.0, None, 1.0)] * 2_000)])
    assert math.isclose(thinner[-1].bound, curve(records)[-1].bound / 2)


def test_a_label_stands_for_as_many_requests_as_it_was_drawn_from():
    """One in fifty explored, and all of like confidence: the rate is that of all, and less is known of it."""
    few = curve([Record(0.9, number % 10 > 0, 50.0) for number in range(STRATUM)])
    all_ = curve([Record(0.9, number % 10 > 0, 1.0) for number in range(50 * STRATUM)])
    assert 0.1 < all_[-1].bound < few[-1].bound < 0.25


def test_a_stratum_that_did_worse_than_the_one_below_is_counted_with_it():
    """Two wrong at the top, where labels are few and dear, none in a thousand just below: the top is as good as those."""
    top = [Record(0.99, number >= 2, 20.0) for number in range(STRATUM)]
    below = [Record(0.9, True, 1.0)] * 1_000
    assert curve([*top, *below])[-1].bound < curve(top)[-1].bound * 800 / 1_800 / 2


def test_the_budget_is_kept_in_four_of_five_histories_and_never_missed_by_far():
    """Of 3,000 requests all labelled, and with one in ten labelled where it would have served."""
    for explored, above, useful in ((1.0, 1.0, 0.95), (0.1, 0.95, 0.98)):
        found = [threshold(curve(history(seed, 3_000, explored=explored, above=above)), 0.01) for seed in range(200)]
        rates = [true_rate(min(least, 1.0)) for least in found]
        kept = sum(rate <= 0.01 for rate in rates)
        assert kept / len(found) >= 0.8, (explored, kept)
        assert max(rates) < 0.015
        assert np.median(found) < useful, "it serves next to nothing"


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=400))
def test_where_every_request_has_a_label_the_rate_is_what_was_seen(labels):
    last = curve([Record(told, right, 1.0) for told, right in labels])[-1]
    assert math.isclose(last.rate, sum(not right for _, right in labels) / len(labels), abs_tol=1e-9)


def test_what_the_confidences_foretell_counts_where_luck_has_shown_nothing_wrong():
    """2,000 hits at 0.9 foretell 200 wrong ones, and below, confidences meant what they said: 40 lucky labels prove little."""
    lucky = [Record(0.9, True, 50.0)] * STRATUM
    below = [Record(0.8, number % 5 > 0, 1.0) for number in range(400)]
    assert curve([*lucky, *below])[0].bound * 2_400 > 150


def test_what_nobody_can_tell_is_like_what_was_told_of_the_same_confidence():
    """Of the hits one in four is told, of the misses all: the hits that were not told count with the hits."""
    chance = random.Random(5)
    requests = [Record(0.95, chance.random() < 0.95, 1.0) for _ in range(4_000)] + [
        Record(0.2, chance.random() < 0.2, 1.0) for _ in range(4_000)
    ]
    whole = curve(requests)
    thinned = curve([Record(c, right if c < 0.5 or n % 4 == 0 else None, w) for n, (c, right, w) in enumerate(requests)])
    for confidence in (0.95, 0.2):
        one, other = (min(p.rate for p in points if p.confidence == confidence) for points in (whole, thinned))
        assert math.isclose(one, other, rel_tol=0.25)


def test_without_a_label_what_nobody_can_tell_is_nothing():
    assert curve([Record(0.9, None, 1.0)] * 5) == []
