"""What an answer has to reach, how sure it is and what a comparison teaches: the same for the path and for its evaluation."""

import math
import random

import pytest

from sentinel_gateway.core.budget import ErrorBudget
from sentinel_gateway.core.caching import Head
from sentinel_gateway.core.calibration import PACE, Calibrator
from sentinel_gateway.core.confidence.learner import Learner, refit
from sentinel_gateway.core.evidence import Fresh, Lesson, Study, Weighed
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds

LIMITS = Thresholds(0.95, 0.7)
BUDGET = ErrorBudget(0.01)
ASKED = "how do I pay?"


@pytest.fixture
def calibrator():
    return Calibrator(Learner(pace=PACE))


def near(similarity: float, key: str = "k" * 64) -> Neighbour:
    return Neighbour(Head(key=key, model="m", created=0.0, expires=1.0, text="how do I pay"), similarity)


def teach(calibrator: Calibrator, count: int, *, wrong_below: float) -> None:
    chance = random.Random(1)
    for number in range(count):
        found = near(chance.uniform(0.75, 1.0), f"{number % 20:064}")
        weighed = calibrator.weigh(ASKED, found, (found,))
        calibrator.learn(Lesson(entry=found.head.key, weighed=weighed, right=found.similarity >= wrong_below), at=0.0)
        if calibrator.learner.due:
            calibrator.adopt(refit(calibrator.learner.work()))


def test_before_labels_similarity_decides_and_a_budget_of_nothing_lets_nothing_serve(calibrator):
    assert calibrator.bar(LIMITS, BUDGET) == Bar(0.95, None, BUDGET)
    nothing = ErrorBudget(0.0)
    assert calibrator.bar(LIMITS, nothing) == Bar(0.95, math.inf, nothing)


def test_below_three_hundred_labels_both_must_hold_and_then_the_confidence_from_the_least_similarity_on(calibrator):
    teach(calibrator, 250, wrong_below=0.85)
    bar = calibrator.bar(LIMITS, BUDGET)
    assert (bar.similarity, bar.confidence is None) == (0.95, False)
    teach(calibrator, 400, wrong_below=0.85)
    bar = calibrator.bar(LIMITS, BUDGET)
    assert bar.similarity == 0.7
    right, wrong = (near(similarity) for similarity in (0.93, 0.8))
    assert not bar.fails(calibrator.weigh(ASKED, right, (right,)).confidence)
    assert bar.fails(calibrator.weigh(ASKED, wrong, (wrong,)).confidence)


def test_few_labels_that_speak_for_it_take_nothing_from_what_similarity_serves(calibrator):
    teach(calibrator, 60, wrong_below=0.0)
    bar = calibrator.bar(LIMITS, BUDGET)
    for others in ((), (near(0.94, "a" * 64), near(0.93, "b" * 64))):
        found = near(0.951)
        assert not bar.fails(calibrator.weigh(ASKED, found, (found, *others)).confidence), "crowded or alone"


def test_an_entry_is_known_again_by_the_beginning_of_its_key(calibrator):
    one, other = near(0.9, "a" * 64), near(0.85, "b" * 64)
    study = Study(Question("s", ASKED), "c" * 64, "", (one, other))
    fresh = Fresh(study, {one.head.key: True, other.head.key: True}, kept=True)
    weighed = calibrator.weigh(ASKED, one, (one, other))
    calibrator.learn(Lesson(entry=one.head.key, weighed=weighed, right=True, fresh=fresh), at=0.0)
    kept = near(0.97, "c" * 64)
    assert calibrator.learner.kinship.around("c" * 16, ["a" * 16, "b" * 16]) == (pytest.approx(2 / 3), 0.0)
    assert calibrator.learner.around("c" * 16) == pytest.approx(0.875)
    agreed, alone = calibrator.weigh(ASKED, kept, (kept, one, other)), calibrator.weigh(ASKED, kept, (kept,))
    assert agreed.features[5] > alone.features[5] == 0.0


def test_numbers_of_an_older_version_teach_nothing(calibrator):
    for _ in range(60):
        calibrator.learn(Lesson(entry="k", weighed=Weighed(0.9, (1.0,)), right=False), at=0.0)
    assert not calibrator.learner.worth_keeping
    assert repr(calibrator).startswith("<Calibrator <Learner of 0 requests")
