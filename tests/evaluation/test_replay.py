"""The harness: what it counts is what happened, and no rule sees more than it may."""

import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.core.confidence.curve import Point
from sentinel_gateway.core.confidence.learner import Fit, Prior
from sentinel_gateway.evaluation.corpus import Corpus, Shelf, embed, ranked
from sentinel_gateway.evaluation.policies import Fixed, Guards, Sentinel, Terms, cosine_and_overlap
from sentinel_gateway.evaluation.replay import Asked, Candidate, Decision, Judge, Request, alone, comparable, ideal, replay
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.evaluation.vcache import VCache
from sentinel_gateway.settings.cache import Cache, Semantic
from sentinel_gateway.settings.model import Settings
from tests.evaluation.worlds import world


class Curious:
    """Serves nothing, asks about all, and keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[bool] = []
        self.seen: list[Asked] = []

    def decide(self, asked: Asked, chance: random.Random) -> Decision:
        self.seen.append(asked)
        return Decision(asked.candidates[0], confidence=0.5, compared=asked.candidates)

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:
        assert list(heard) == [near.text for near in asked.candidates]
        self.heard += heard.values()
        return True


@given(st.integers(2, 400), st.sets(st.integers(0, 399)), st.integers(0, 9))
def test_a_shelf_finds_the_nearest_of_what_it_holds(count, held, text):
    vectors = np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shelf = Shelf(Corpus([str(number) for number in range(count)], vectors, ranked(vectors)))
    text %= count
    stored = [number for number in held if number < count and number != text]
    for number in stored:
        shelf.put(number)
    found = shelf.nearest(text, 5)
    best = sorted((float(vectors[number] @ vectors[text]) for number in stored), reverse=True)[:5]
    assert [cosine for _, cosine in found] == pytest.approx(best, abs=1e-5)
    assert len(shelf) == len(stored)
    assert text not in shelf


def test_vectors_are_those_of_the_gateways_own_model_and_are_kept(tmp_path):
    texts = ["How do I pay?", "How can I pay?", "What is a 🦔?", "How do I pay?"]
    corpus = Corpus.of(texts, tmp_path)
    assert corpus.texts == texts[:3]
    assert float(corpus.vectors[0] @ corpus.vectors[1]) > 0.9
    assert not corpus.vectors[2].any(), "a sign that the model doesn't know"
    assert corpus.near[0].tolist() == [1, 2]
    assert {len(row) for row in Corpus.of(texts, tmp_path, rank=False).near} == {0}
    for kept in tmp_path.iterdir():
        np.save(kept, np.load(kept) * 2)
    assert (Corpus.of(texts, tmp_path).vectors == 2 * embed(texts[:3])).all()


def test_the_judge_is_the_truth_with_so_many_verdicts_turned():
    corpus, stream = world(30, 20)
    heard = {}
    for noise in (0.0, 0.1):
        curious = Curious()
        replay(corpus, stream, curious, judge=Judge(noise), seed=3)
        heard[noise] = curious.heard
    turned = np.mean(np.array(heard[0.0]) != np.array(heard[0.1]))
    assert turned == pytest.approx(0.1, abs=0.02)


def test_what_is_counted_is_what_happened():
    corpus, stream = world(10, 10, spread=0.2)
    tally = replay(corpus, [*stream, stream[0]], Fixed(0.8), seed=0)
    assert tally.requests + tally.exact + 1 == len(stream) + 1
    assert (tally.hits, tally.wrong, tally.exact) == (90, 0, 1)
    assert tally.hit_rate == 90 / 99
    assert replay(corpus, stream, Fixed(-1.0), seed=0).error > 0.5
    assert replay(corpus, stream, Fixed(1.1), seed=0).hits == 0
    assert ideal(stream).hits == 90


def test_a_question_without_an_answer_may_never_hit():
    corpus, stream = world(5, 10, spread=0.2)
    nothing = [request._replace(answer=None) for request in stream]
    tally = replay(corpus, nothing, Fixed(0.5), seed=0)
    assert tally.hits == tally.wrong > 0
    assert ideal(nothing).hits == 0


def test_nothing_crosses_a_scope():
    corpus, stream = world(10, 20, spread=0.2)
    scoped = [request._replace(scope=str(place % 2)) for place, request in enumerate(stream)]
    curious = Curious()
    replay(corpus, scoped, curious, seed=0)
    home = {request.text: request.scope for request in scoped}
    assert all(home[near.text] == asked.scope for asked in curious.seen for near in asked.candidates)
    assert ideal(scoped).hits <= ideal(stream).hits


AS_IT_COMES = Terms.of(Settings(), budget=0.01)


@pytest.mark.parametrize("judge", [Judge(0.02), Judge(silent=0.5)])
def test_sentinels_rule_serves_within_its_budget_and_says_the_same_twice(judge):
    corpus, stream = world(40, 50, spread=0.7)
    runs = [
        replay(corpus, stream, Sentinel(corpus.texts, Guards(corpus.texts), AS_IT_COMES), judge=judge, seed=1) for _ in range(2)
    ]
    assert runs[0].decided == runs[1].decided
    assert runs[0].error <= 0.01
    assert runs[0].hit_rate > 0.1
    assert runs[0].judged_per_thousand > 500


def asked_of(text: int, *near: tuple[int, float]) -> Asked:
    return Asked(text, "", [Candidate(*found) for found in near])


def taught(policy: Sentinel, count: int) -> None:
    """So many labels: what is less similar than 0.9 is wrong."""
    chance = random.Random(0)
    for number in range(count):
        asked = asked_of(number, (number + 1, chance.uniform(0.75, 0.949)))
        decision = policy.decide(asked, chance)
        if not decision.serve:
            policy.learn(asked, decision, {near.text: near.similarity >= 0.9 for near in decision.compared})


def test_the_operators_similarity_and_least_similarity_hold_as_in_the_gateway():
    texts = ["please" + "!" * number for number in range(900)]
    policy, chance = Sentinel(texts, Guards(texts), AS_IT_COMES), random.Random(0)
    assert policy.decide(asked_of(0, (1, 0.951)), chance).serve
    assert not policy.decide(asked_of(0, (1, 0.949)), chance).serve, "nothing is learned"
    taught(policy, 200)
    assert policy.calibrator().learner.fit.labels > 100
    assert not policy.decide(asked_of(0, (1, 0.949)), chance).serve, "both must hold below 300 labels"
    taught(policy, 800)
    assert policy.decide(asked_of(0, (1, 0.949)), chance).serve
    far = policy.decide(asked_of(0, (1, 0.69), (2, 0.68)), chance)
    assert far == Decision(compared=[]), "what is below the least similarity is no candidate, and is not compared"
    none = Sentinel(texts, Guards(texts), Terms.of(Settings(), budget=0.0))
    assert not none.decide(asked_of(0, (1, 1.0)), chance).serve, "a budget of nothing lets nothing serve"


@pytest.mark.parametrize("exploration", [0.02, 0.2])
def test_so_many_hits_are_explored_as_the_operator_says_and_stand_for_the_others(exploration):
    texts = ["please", "please!"]
    settings = Settings(cache=Cache(semantic=Semantic(exploration=exploration)))
    policy, chance = Sentinel(texts, Guards(texts), Terms.of(settings, budget=0.01)), random.Random(0)
    asked = asked_of(0, (1, 0.99))
    decisions = [policy.decide(asked, chance) for _ in range(5_000)]
    explored = [decision for decision in decisions if not decision.serve]
    assert len(explored) / 5_000 == pytest.approx(exploration, rel=0.25)
    while policy.decide(asked, chance).serve:
        pass
    policy.learn(asked, explored[0], {1: True})
    (block,) = policy.calibrator().learner.work().blocks
    assert [block[name].tolist() for name in ("right", "weight")] == [[1.0], [1 / exploration]]


def test_without_exploration_each_hit_counts_as_one_that_nobody_can_tell():
    texts = ["please", "please!"]
    settings = Settings(cache=Cache(semantic=Semantic(exploration=0.0)))
    policy = Sentinel(texts, Guards(texts), Terms.of(settings, budget=0.01))
    assert policy.decide(asked_of(0, (1, 0.99)), random.Random(0)).serve
    (block,) = policy.calibrator().learner.work().blocks
    assert np.isnan(block["right"]).tolist() == [True]
    assert block["weight"].tolist() == [1.0]


def test_what_one_realm_learns_is_nothing_to_another():
    corpus, stream = world(20, 20, spread=0.5)
    policy = Sentinel(corpus.texts, Guards(corpus.texts), AS_IT_COMES)
    replay(corpus, [request._replace(realm="a") for request in stream], policy, seed=0)
    assert policy.calibrator("a").learner.fit.labels > 0
    assert policy.calibrator("b").learner.fit.labels == 0


def test_questions_that_the_gateway_compares_with_no_other_are_left_out():
    texts = [
        "How do I pay?",
        "What is the weather in Oslo today?",
        "Where is my order?",
        "pay " * 300,
        "어떻게 지불합니까",
        "unread",
    ]
    vectors = np.eye(6, dtype=np.float32)
    vectors[5] = 0.0
    corpus = Corpus(texts, vectors, ranked(vectors))
    stream = [Request(number, "a") for number in range(6)]
    assert comparable(corpus, stream, BoundRules()) == stream[:1]
    assert alone(corpus, BoundRules(personal="usual", time="usual")) == {3, 4, 5}


def test_guards_stand_before_it():
    texts = ["Is it legal?", "Is it not legal?", "What is legal there?"]
    guards = Guards(texts)
    assert guards.vetoed(0, 1)
    assert guards.vetoed(0, 1, weighed=True)
    policy = Sentinel(texts, guards, AS_IT_COMES)
    asked = asked_of(0, (1, 1.0))
    assert policy.decide(asked, random.Random(0)).candidate is None
    assert not policy.serves(asked)
    assert Fixed(0.5, guards=guards).decide(asked, random.Random(0)) == Decision()
    assert Fixed(0.5).serves(asked)


def test_a_soft_guards_doubt_about_a_rewording_is_a_veto_until_labels_outweigh_it():
    texts = ["What helps a sore knee?", "What helps a sore elbow?", "Could you please tell me which remedy eases a painful knee?"]
    policy = Sentinel(texts, Guards(texts), AS_IT_COMES)
    swapped, reworded = asked_of(0, (1, 1.0)), asked_of(0, (2, 1.0))
    assert policy.decide(swapped, random.Random(0)).candidate is None
    decision = policy.decide(reworded, random.Random(0))
    assert decision.candidate is not None, "a miss is learned from"
    assert not decision.serve
    sure = Fit((*Prior().weights[:-1], 30.0), (Point(0.0, 0.0, 0.0),), labels=Prior().least)
    policy.calibrator().adopt(sure)
    assert policy.serves(reworded)
    assert not policy.serves(swapped)


def test_what_was_learned_can_stand_before_other_texts():
    corpus, stream = world(40, 25, spread=0.5)
    policy = Sentinel(corpus.texts, Guards(corpus.texts), AS_IT_COMES)
    replay(corpus, stream, policy, seed=0)
    other = policy.transferred(["a", "b"], Guards(["a", "b"]))
    assert other.calibrator().learner.fit == policy.calibrator().learner.fit
    assert other.serves(asked_of(0, (0, 1.0)))
    assert not other.serves(asked_of(0, (0, 0.5)))


def test_vcache_serves_what_its_entry_has_learned_and_nothing_before():
    rule, chance = VCache(0.05, least=30), random.Random(0)
    near, far = (Asked(1, "", [Candidate(0, cosine)]) for cosine in (0.95, 0.5))
    for number in range(60):
        decision = rule.decide(near, chance)
        assert number >= 30 or not decision.serve
        if not decision.serve:
            assert not rule.learn(near, decision, {0: True}), "an answer that is there needs no entry of its own"
    for _ in range(20):
        assert rule.learn(far, Decision(far.candidates[0]), {0: False})
    assert rule.learn(far, Decision(far.candidates[0]), {}), "nobody could tell: nothing is learned, and it is stored"
    assert rule.decide(near, chance).confidence > 0.5
    assert rule.decide(far, chance).confidence < 0.2


def test_betterdbs_score_is_of_cosine_and_words():
    score = cosine_and_overlap(["Red vase", "red lamp"])
    assert score(0, Candidate(1, 0.9)) == pytest.approx(0.7 * 0.9 + 0.3 / 3)


def test_a_tally_knows_its_windows_and_how_far_confidences_are_off():
    tally = Tally()
    for number in range(2_500):
        tally.note(served=True, right=number % 50 > 0 or number > 1_000, confidence=0.9)
    assert (tally.wrong, tally.windows_above(0.01), tally.windows_above(0.03)) == (21, 0.5, 0.0)
    assert tally.error_per_hit == 21 / 2_500
    assert tally.calibration_error() == pytest.approx(1 - 21 / 2_500 - 0.9)
    assert Tally().windows_above(0.01) == Tally().hit_rate == Tally().calibration_error() == 0


def test_a_request_has_one_scope_unless_it_is_given_another():
    assert Request(1, "a").scope == ""
