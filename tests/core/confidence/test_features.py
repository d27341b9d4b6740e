"""What two questions have in common: finite, of the order of 1, and each number says what its name says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.features import NAMES, Surroundings, features
from sentinel_gateway.core.confidence.rarity import Counts, Rarity

COSINE = st.floats(-1, 1)


def named(asked: str, stored: str, *, similarity: float = 0.9, words: Rarity | None = None, **more: float) -> dict[str, float]:
    found = features(asked, stored, Surroundings(similarity, **more), words or Rarity())
    return dict(zip(NAMES, found, strict=True))


@given(st.text(max_size=60), st.text(max_size=60), st.builds(Surroundings, COSINE, COSINE, COSINE, COSINE))
def test_every_pair_has_numbers_of_the_order_of_one(asked, stored, surroundings):
    found = features(asked, stored, surroundings, Rarity())
    assert len(found) == len(NAMES)
    assert all(math.isfinite(number) and abs(number) <= 20 for number in found)


@given(st.text(max_size=60))
def test_a_text_has_all_in_common_with_itself(text):
    found = named(text, text)
    assert [found[name] for name in ("overlap", "order", "trigrams", "question_word")] == [1, 1, 1, 1]
    assert [found[name] for name in ("unmatched_asked", "unmatched_stored", "length")] == [0, 0, 0]
    assert [found[name] for name in NAMES if name.startswith("doubt")] == [0, 0, 0]


def test_the_search_tells():
    found = named(
        "a", "b", similarity=0.9, second=0.85, mean_near_asked=0.7, mean_near_stored=0.1, agreeing=0.25, disagreeing=0.5
    )
    assert found["similarity"] == pytest.approx(1)
    assert found["distance"] == pytest.approx(math.log(2))
    assert found["gap"] == pytest.approx(0.5)
    assert (found["near_asked"], found["near_stored"]) == pytest.approx((-1, -5))
    assert (found["agreeing"], found["disagreeing"]) == (0.25, 0.5)


def test_alone_or_behind_another_it_has_no_wild_gap():
    assert named("a", "b")["gap"] == 3
    assert named("a", "b", second=0.95)["gap"] == 0


def test_the_words_tell():
    found = named("How do I return a red vase?", "Where can I return a vase?")
    assert found["question_word"] == 0
    assert 0 < found["overlap"] < 1
    assert found["unmatched_asked"] == 1
    assert found["length"] == pytest.approx(math.log(8 / 7))
    assert found["doubt_question"] == 1
    assert named("cats chase dogs", "dogs chase cats")["order"] == pytest.approx(1 / 3)
    assert named("sore knee", "sore elbow")["doubt_words"] == 1
    assert named("Is Ann taller than Bob?", "Is Bob taller than Ann?")["doubt_order"] == 1


def test_a_word_that_every_question_holds_matters_little():
    words = Rarity()
    for number in range(50):
        words.count(["card", f"word{number}"])
    common, rare = named("card", "lost", words=words), named("tiger", "lost", words=words)
    assert common["unmatched_asked"] < 0.1
    assert rare["unmatched_asked"] > 0.9


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=4), max_size=40), st.sampled_from("abcdef"))
def test_rarity_is_between_0_and_1_and_falls_with_each_sight(questions, word):
    words = Rarity()
    for question in questions:
        words.count(question)
    before = words.of(word)
    assert 0 < before <= 1
    words.count([word, word])
    assert words.of(word) < before
    assert Rarity(words.counts()).of(word) == words.of(word)


def test_without_the_key_no_word_can_be_tried():
    words, stranger = Rarity(key=b"secret"), Rarity()
    for rarity in (words, stranger):
        rarity.count(["merger"])
    kept = words.counts()
    assert not set(kept.words) & set(stranger.counts().words)
    assert Rarity(kept, key=b"secret").of("merger") == words.of("merger") < Rarity(kept).of("merger")


def test_counts_are_bounded_and_the_frequent_survive():
    words = Rarity(most=10)
    for number in range(40):
        words.count(["often", f"once{number}"])
    counts = words.counts()
    assert len(counts.words) <= 10
    assert Rarity(counts).of("often") < Rarity(counts).of("once39"), "no word itself is kept"
    assert repr(Rarity(Counts(3, {7: 1}))) == "<Rarity of 1 words in 3 questions>"
