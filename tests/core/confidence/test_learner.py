"""The learner: what holds at first, what labels teach, and that the budget is kept in the loop."""

import math
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.curve import expected_threshold, threshold
from sentinel_gateway.core.confidence.features import NAMES, NEAR, SPREAD, Surroundings, features
from sentinel_gateway.core.confidence.learner import Fit, Learner, Observation, Pace, Prior, State, refit
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.pipeline.learned import read, written

BUDGET = 0.01


def pair(similarity: float, asked: str = "how do I pay", stored: str = "how do I pay") -> tuple[float, ...]:
    return features(asked, stored, Surroundings(similarity), Rarity())


def drawn(count: int, seed: int = 0, *, steep: float = 4.0) -> list[Observation]:
    """Requests whose candidate is right the more often the nearer it is."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        numbers = pair(chance.uniform(0.5, 1.0))
        right = chance.random() < 1 / (1 + math.exp(-steep * numbers[0]))
        found.append(Observation(str(number % 50), numbers, 0.5, right))
    return found


def taught(observations: list[Observation], learner: Learner | None = None) -> Learner:
    learner = learner or Learner()
    for seen in observations:
        learner.learn(msgspec.structs.replace(seen, confidence_then=learner.confidence(seen.features, seen.entry)))
        if learner.due:
            learner.adopt(refit(learner.work()))
    return learner


def same(one: State, other: State) -> bool:
    return written(one) == written(other)


def requests(learner: Learner) -> int:
    """So many a refit looks back on."""
    return sum(map(len, learner.work().blocks))


def test_at_first_more_similar_is_surer_and_a_guards_doubt_outweighs_any_similarity():
    learner = Learner()
    assert learner.confidence(pair(0.95), "a") > learner.confidence(pair(0.9), "a") > 0.5
    assert learner.confidence(pair(1.0, "sore knee", "sore elbow"), "a") < learner.confidence(pair(0.7), "a")
    assert learner.threshold(BUDGET) == 0.0, "nothing is known: similarity decides alone"


def test_labels_teach_what_similarity_is_worth_here():
    learner = taught(drawn(1_500))
    assert learner.fit.labels > 1_000
    for similarity, expected in ((0.7, 0.02), (0.8, 0.5), (0.9, 0.98)):
        assert learner.confidence(pair(similarity), "new") == pytest.approx(expected, abs=0.12)
    assert 0 < learner.threshold(0.05) < learner.threshold(BUDGET) < 1


def test_where_a_doubt_is_mostly_unfounded_it_loses_its_weight():
    doubtful = [Observation(str(n), pair(0.9, "sore knee", "sore elbow"), 0.5, right=n % 20 > 0) for n in range(600)]
    learner = taught(doubtful)
    assert learner.confidence(doubtful[0].features, "new") > 0.85


def test_below_the_least_number_of_labels_the_rate_to_be_expected_counts_and_not_its_bound():
    learner = taught(drawn(290))
    assert 0 < learner.fit.labels < learner.prior.least
    points = learner.fit.points
    rates = [rate / 100 for rate in range(1, 40)]
    assert [learner.threshold(rate) for rate in rates] == [expected_threshold(points, rate) for rate in rates]
    assert any(learner.threshold(rate) < threshold(points, rate) for rate in rates)
    assert learner.threshold(0.0) > learner.threshold(0.3) > 0


def test_each_label_moves_the_confidence_of_its_entry_at_once():
    learner = Learner()
    before = learner.confidence(pair(0.9), "a")
    learner.learn(Observation("a", pair(0.9), before, right=False))
    assert learner.confidence(pair(0.9), "a") < before == learner.confidence(pair(0.9), "b")
    learner.learn(Observation("b", pair(0.9), before, right=True))
    assert learner.confidence(pair(0.9), "b") > before


def test_a_verdict_that_its_kin_outvote_teaches_the_opposite():
    learner = Learner()
    learner.learn(Observation(asked="a", compared={"b": True, "c": True}))
    told = learner.confidence(pair(0.9), "a")
    learner.learn(Observation("a", pair(0.9), told, right=False, asked="q", compared={"b": True, "c": True}))
    assert learner.confidence(pair(0.9), "a") > told
    assert learner.kinship.around("q", "a") == (0.0, 0.5), "kin are noted as the judge said it"


def test_an_answer_that_is_not_kept_has_no_kin():
    learner = Learner()
    learner.learn(Observation("a", pair(0.9), 0.5, right=True, compared={"b": True}))
    assert learner.kinship.verdicts() == {}


def test_a_complaint_teaches_and_does_not_count():
    """Of what is not drawn by chance no rate can be told."""
    calm = taught(drawn(1_000))
    rows = requests(calm)
    loud = taught([Observation("a", pair(1.0), 0.99, right=False, weight=0.0)] * 30, taught(drawn(1_000)))
    assert refit(loud.work()).labels == refit(calm.work()).labels
    assert refit(loud.work()).points[-1].rate == pytest.approx(refit(calm.work()).points[-1].rate)
    assert requests(loud) == rows + 30
    assert loud.confidence(pair(1.0), "a") < calm.confidence(pair(1.0), "a")


def test_what_was_told_when_less_was_known_is_no_measure_of_what_is_told_now():
    learner = Learner()
    for seen in drawn(1_500):
        learner.learn(seen)  # all told that it is even
    points = refit(learner.work()).points
    assert points[0].confidence > 0.95
    assert points[-1].confidence < 0.1
    assert points[0].bound < BUDGET < points[-1].bound


def test_requests_without_a_candidate_are_counted_and_teach_nothing():
    learner = taught([*drawn(1_000), *([Observation()] * 1_000)])
    with_ = refit(learner.work())
    without = refit(taught(drawn(1_000)).work())
    assert with_.labels == without.labels == 1_000
    assert with_.points[-1].bound == pytest.approx(without.points[-1].bound / 2)


def test_a_case_that_nobody_could_tell_is_taken_to_be_like_the_others():
    told = drawn(2_000, steep=1.0)
    half = [msgspec.structs.replace(seen, right=seen.right if number % 2 else None) for number, seen in enumerate(told)]
    whole, thinned = (refit(taught(seen, Learner(pace=Pace(least=3_000, most=3_000))).work()) for seen in (told, half))
    assert thinned.labels == whole.labels / 2
    assert thinned.points[-1].rate == pytest.approx(whole.points[-1].rate, rel=0.1)
    assert thinned.points[-1].rate > 0.05


def test_without_a_label_nothing_is_told_of_open_cases():
    learner = Learner()
    learner.learn(Observation("a", pair(0.9), 0.5, right=None))
    assert refit(learner.work()) == Fit(tuple(learner.prior.weights))


def test_how_near_a_questions_neighbours_were_is_remembered_of_so_many():
    learner = Learner(pace=Pace(entries=2))
    for asked, around in (("a", 0.9), ("b", 0.8), ("a", 0.7), ("c", 0.6)):
        learner.learn(Observation(asked=asked, around=around))
    assert [learner.around(entry) for entry in ("a", "b", "c")] == [0.7, 0.0, 0.6]
    assert learner.state().arounds == {"a": 0.7, "c": 0.6}


def test_labels_decide_from_so_many_on():
    learner = taught(drawn(100))
    assert not learner.calibrated
    assert taught(drawn(600)).calibrated


def test_refits_come_often_at_first():
    learner = Learner(pace=Pace(least=10, most=40))
    due = []
    for number, seen in enumerate(drawn(600), 1):
        learner.learn(seen)
        if learner.due:
            due.append(number)
            learner.adopt(refit(learner.work()))
    steps = [later - earlier for earlier, later in pairwise(due)]
    assert due[0] == 10
    assert steps == sorted(steps)
    assert steps[-1] == 40


@given(st.integers(0, 2**16), st.integers(0, 80))
def test_it_comes_back_as_it_was_kept(seed, count):
    learner = taught(drawn(count, seed), Learner(pace=Pace(least=20)))
    learner.learn(Observation(asked="q", around=0.5, compared={"0": True}))
    learner.rarity.count(["pay"])
    kept = read(written(learner.state()))
    back = Learner.restore(kept, pace=Pace(least=20))
    assert same(back.state(), learner.state())
    for entry in ("0", "1", "new"):
        assert back.confidence(pair(0.9), entry) == learner.confidence(pair(0.9), entry)
    assert refit(back.work()) == refit(learner.work())


@pytest.mark.parametrize("strange", [{"version": 0}, {"fit": Fit((1.0, 2.0))}])
def test_what_another_version_kept_is_not_read(strange):
    kept = msgspec.structs.replace(taught(drawn(400)).state(), **strange)
    assert same(Learner.restore(kept).state(), Learner().state())


def test_entries_are_bounded():
    learner = taught(drawn(200), Learner(pace=Pace(entries=10)))
    assert len(learner.state().standings) == 10
    assert repr(learner).startswith("<Learner of 200 requests, fitted to ")


def test_one_weight_and_one_strength_for_each_feature():
    assert len(Prior().weights) == len(Prior().strengths) == len(NAMES) + 2


@pytest.mark.parametrize("operators", [0.97, 0.6])
def test_in_the_loop_the_budget_is_kept(operators):
    """Served hits have no label but those explored; also where the operator's similarity would serve far too much."""
    learner = Learner()
    chance = random.Random(1)
    wrong = hits = 0
    for seen in drawn(6_000, seed=2):
        told = learner.confidence(seen.features, seen.entry)
        near = learner.calibrated or NEAR + SPREAD * seen.features[0] >= operators
        serves, explores = near and told >= learner.threshold(BUDGET), chance.random() < 0.1
        if serves and not explores:
            hits += 1
            wrong += not seen.right
            continue
        learner.learn(msgspec.structs.replace(seen, confidence_then=told, weight=10.0 if serves else 1.0))
        if learner.due:
            learner.adopt(refit(learner.work()))
    assert hits > 1_000
    assert wrong <= 0.01 * 6_000 or operators == 0.6
    assert wrong <= 0.02 * 6_000


def rights(learner: Learner) -> list[float]:
    return [right for block in learner.work().blocks for right in block["right"].tolist()]


@pytest.mark.parametrize("first", [True, False, None])
def test_a_later_word_on_a_decision_stands_in_place_of_the_first(first):
    """As if it had been the first: weights, standing, and how many labels there are."""
    learner, straight = Learner(), Learner()
    learner.learn(Observation("a", pair(0.9), 0.7, right=first, weight=2.0, decision="d"))
    learner.learn(Observation("b", pair(0.9), 0.7, right=True, decision="other"))
    assert learner.correct("d", "a", right=False, drawn=True)
    straight.learn(Observation("a", pair(0.9), 0.7, right=False, weight=2.0, decision="d"))
    straight.learn(Observation("b", pair(0.9), 0.7, right=True, decision="other"))
    assert rights(learner) == rights(straight)
    assert refit(learner.work()) == refit(straight.work())
    assert learner.confidence(pair(0.9), "a") == pytest.approx(straight.confidence(pair(0.9), "a"))


def test_a_word_on_what_nobody_could_tell_stands_only_where_chance_has_drawn_it():
    learner = Learner()
    learner.learn(Observation("a", pair(0.9), 0.7, right=None, decision="d"))
    assert not learner.correct("d", "a", right=False, drawn=False)
    assert math.isnan(rights(learner)[0])
    assert not learner.correct("unknown", "a", right=False, drawn=True)


@pytest.mark.parametrize("right", [True, False, None])
def test_what_was_said_of_an_answer_can_be_taken_back(right):
    learner = Learner()
    numbers = pair(0.9)
    before = learner.confidence(numbers, "entry")
    learner.learn(Observation("entry", numbers, before, right, decision="d"))
    assert (learner.confidence(numbers, "entry") == before) is (right is None)
    learner.forget("d", "entry")
    assert learner.confidence(numbers, "entry") == pytest.approx(before)
