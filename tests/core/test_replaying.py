"""What another policy would have served, of requests that are known."""

import math

import numpy as np
import pytest
from msgspec.structs import replace

from sentinel_gateway.core.confidence.features import Surroundings, searched
from sentinel_gateway.core.confidence.learner import Learner, Observation, refit
from sentinel_gateway.core.matching import Bar
from sentinel_gateway.core.replaying import Played, played, together

NOW = 1_800_000_000.0
WORDS = (1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0)
PLAIN, DOUBTED = (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def seen(near, right, *, weight=1.0, at=NOW, doubts=PLAIN, entry="e"):
    features = (*searched(Surroundings(similarity=near)), *WORDS, *doubts)
    return Observation(entry=entry, features=features, confidence_then=near, right=right, weight=weight, at=at)


def learner(observations) -> Learner:
    made = Learner()
    for number, one in enumerate(observations):
        made.learn(replace(one, entry=f"e{number}") if one.entry else one)
    return made


def play(made, *bars, since=0.0):
    return played(made.recorded, made.fit.weights, bars, since)


def test_similarity_decides_what_serves():
    made = learner([*(seen(0.97, right=True) for _ in range(30)), *(seen(0.9, right=n % 2 == 0) for n in range(20))])
    strict, lax, none = play(made, Bar(0.95), Bar(0.9), Bar(1.0))
    assert (strict.requests, strict.hits, strict.wrong_hits.rate) == (50.0, 30.0, 0.0)
    assert (lax.hits, lax.wrong_hits.rate, lax.wrong.rate) == (50.0, pytest.approx(0.2), pytest.approx(0.2))
    assert (none.hits, none.wrong.observations, none.wrong.high) == (0.0, 0, 1.0)


def test_each_stands_for_as_many_as_chance_passed_over():
    made = learner([seen(0.97, right=True, weight=90.0), seen(0.97, right=False, weight=10.0), Observation(weight=100.0)])
    (told,) = play(made, Bar(0.95))
    assert (told.requests, told.hits) == (200.0, 100.0)
    assert (told.wrong_hits.rate, told.wrong.rate) == (pytest.approx(0.1), pytest.approx(0.05))


def test_what_nobody_could_tell_is_taken_to_be_like_the_rest():
    made = learner([*(seen(0.97, right=n > 0) for n in range(4)), *(seen(0.97, right=None) for _ in range(12))])
    (told,) = play(made, Bar(0.95))
    assert (told.hits, told.wrong_hits.observations) == (16.0, 4)
    assert told.wrong_hits.rate == pytest.approx(0.25)


def test_a_complaint_stands_for_none():
    made = learner([seen(0.97, right=True), seen(0.97, right=False, weight=0.0)])
    (told,) = play(made, Bar(0.95))
    assert (told.requests, told.hits, told.wrong_hits.rate) == (1.0, 1.0, 0.0)


def test_doubts_of_soft_guards_are_vetoes_until_labels_decide():
    made = learner([seen(0.97, right=True), seen(0.97, right=True, doubts=DOUBTED)])
    assert [told.hits for told in play(made, Bar(0.95), Bar(0.7, weighed=True))] == [1.0, 2.0]


def test_only_the_window_counts():
    made = learner([seen(0.97, right=True, at=NOW - 100), seen(0.97, right=True, at=NOW)])
    assert [play(made, Bar(0.95), since=since)[0].requests for since in (NOW - 100, NOW - 99, NOW + 1)] == [2.0, 1.0, 0.0]


def test_a_confidence_is_that_of_the_latest_fit_without_the_label_s_own_part():
    made = learner([seen(0.99 if n % 2 else 0.85, right=bool(n % 2)) for n in range(400)])
    made.adopt(refit(made.work()))
    sure, all_, none = play(made, Bar(0.7, 0.5, weighed=True), Bar(0.7, 0.0, weighed=True), Bar(0.7, math.inf, weighed=True))
    assert (sure.hits, sure.wrong_hits.rate) == (200.0, 0.0)
    assert (all_.hits, none.hits) == (400.0, 0.0)


def test_without_requests_there_is_nothing():
    assert play(Learner(), Bar(0.95)) == [Played()]
    assert together([]) == Played()


def test_several_places_are_one():
    left = learner([seen(0.97, right=True) for _ in range(3)])
    right = learner([seen(0.97, right=False)])
    whole = together([play(left, Bar(0.95))[0], play(right, Bar(0.95))[0]])
    assert (whole.requests, whole.hits, whole.wrong_hits.rate) == (4.0, 4.0, pytest.approx(0.25))
    assert np.isfinite(whole.wrong.high)
