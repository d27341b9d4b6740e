"""The harness: what it counts is what happened, and no rule sees more than it may."""

import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.evaluation.corpus import Corpus, Shelf, embed, ranked
from sentinel_gateway.evaluation.policies import Fixed, Guards, Sentinel, cosine_and_overlap
from sentinel_gateway.evaluation.replay import Asked, Candidate, Decision, Request, ideal, replay
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.evaluation.vcache import VCache
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
        shelf.put(number, 0.0)
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
    for kept in tmp_path.iterdir():
        np.save(kept, np.load(kept) * 2)
    assert (Corpus.of(texts, tmp_path).vectors == 2 * embed(texts[:3])).all()


def test_the_judge_is_the_truth_with_so_many_verdicts_turned():
    corpus, stream = world(30, 20)
    heard = {}
    for noise in (0.0, 0.1):
        curious = Curious()
        replay(corpus, stream, curious, noise=noise, seed=3)
        heard[noise] = curious.heard
    turned = np.mean(np.array(heard[0.0]) != np.array(heard[0.1]))
    assert turned == pytest.approx(0.1, abs=0.02)


def test_what_is_counted_is_what_happened():
    corpus, stream = world(10, 10, spread=0.2)
    tally = replay(corpus, [*stream, stream[0]], Fixed(0.8), noise=0.0, seed=0)
    assert tally.requests + tally.exact + 1 == len(stream) + 1
    assert (tally.hits, tally.wrong, tally.exact) == (90, 0, 1)
    assert tally.hit_rate == 90 / 99
    assert replay(corpus, stream, Fixed(-1.0), noise=0.0, seed=0).error > 0.5
    assert replay(corpus, stream, Fixed(1.1), noise=0.0, seed=0).hits == 0
    assert ideal(stream).hits == 90


def test_a_question_without_an_answer_may_never_hit():
    corpus, stream = world(5, 10, spread=0.2)
    nothing = [request._replace(answer=None) for request in stream]
    tally = replay(corpus, nothing, Fixed(0.5), noise=0.0, seed=0)
    assert tally.hits == tally.wrong > 0
    assert ideal(nothing).hits == 0


def test_nothing_crosses_a_scope():
    corpus, stream = world(10, 20, spread=0.2)
    scoped = [request._replace(scope=str(place % 2)) for place, request in enumerate(stream)]
    curious = Curious()
    replay(corpus, scoped, curious, noise=0.0, seed=0)
    home = {request.text: request.scope for request in scoped}
    assert all(home[near.text] == asked.scope for asked in curious.seen for near in asked.candidates)
    assert ideal(scoped).hits <= ideal(stream).hits


@pytest.mark.parametrize("compared", [True, False])
def test_sentinels_rule_serves_within_its_budget_and_says_the_same_twice(compared):
    corpus, stream = world(40, 50, spread=1.0)
    runs = [
        replay(corpus, stream, Sentinel(corpus.texts, Guards(corpus.texts), budget=0.01, compared=compared), noise=0.02, seed=1)
        for _ in range(2)
    ]
    assert runs[0].decided == runs[1].decided
    assert runs[0].error <= 0.01
    assert runs[0].hit_rate > 0.1
    assert runs[0].judged_per_thousand > (1_500 if compared else 0)


def test_guards_stand_before_it():
    texts = ["Is it legal?", "Is it not legal?", "What is legal there?"]
    guards = Guards(texts)
    assert guards.vetoed(0, 1)
    assert guards.ruled_out(0, 1)
    policy = Sentinel(texts, guards, budget=0.01)
    near = Candidate(1, 1.0, 0.0)
    asked = Asked(0, "", [near], 1.0)
    assert policy.decide(asked, random.Random(0)).candidate is None
    assert not policy.serves(asked, near)
    assert Fixed(0.5, guards=guards).decide(asked, random.Random(0)) == Decision()
    assert Fixed(0.5).decide(asked, random.Random(0)).serve


def test_a_soft_guards_doubt_is_a_veto_only_for_the_strict():
    texts = ["What helps a sore knee?", "What helps a sore elbow?"]
    asked = Asked(0, "", [Candidate(1, 1.0, 0.0)], 1.0)
    for strict in (True, False):
        policy = Sentinel(texts, Guards(texts), budget=0.01, strict=strict)
        assert (policy.decide(asked, random.Random(0)).candidate is None) is strict


def test_what_was_learned_can_stand_before_other_texts():
    corpus, stream = world(40, 25, spread=0.5)
    policy = Sentinel(corpus.texts, Guards(corpus.texts), budget=0.01)
    replay(corpus, stream, policy, noise=0.0, seed=0)
    other = policy.transferred(["a", "b"], Guards(["a", "b"]))
    assert other.learner.fit == policy.learner.fit
    assert other.serves(Asked(0, "", [Candidate(0, 1.0, 0.9)], 0.9), Candidate(0, 1.0, 0.9))


def test_vcache_serves_what_its_entry_has_learned_and_nothing_before():
    rule, chance = VCache(0.05, least=30), random.Random(0)
    near, far = (Asked(1, "", [Candidate(0, cosine, 0.0)], 0.0) for cosine in (0.95, 0.5))
    for number in range(60):
        decision = rule.decide(near, chance)
        assert number >= 30 or not decision.serve
        if not decision.serve:
            assert not rule.learn(near, decision, {0: True}), "an answer that is there needs no entry of its own"
    for _ in range(20):
        assert rule.learn(far, Decision(far.candidates[0]), {0: False})
    assert rule.decide(near, chance).confidence > 0.5
    assert rule.decide(far, chance).confidence < 0.2


def test_betterdbs_score_is_of_cosine_and_words():
    score = cosine_and_overlap(["Red vase", "red lamp"])
    assert score(0, Candidate(1, 0.9, 0.0)) == pytest.approx(0.7 * 0.9 + 0.3 / 3)


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
