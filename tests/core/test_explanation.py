"""An explanation tells all that speaks against an answer, and decides as the path does."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.caching import Head
from sentinel_gateway.core.explanation import Candidate, Comparison, candidate, compared
from sentinel_gateway.core.guards import Guard, veto, vetoes
from sentinel_gateway.core.matching import Bar, Neighbour, objections

TEXTS = st.sampled_from(
    [
        "What is the capital of France?",
        "What's the capital of France?",
        "Who founded London in 1901, and why?",
        "Who didn't found Paris in 1902?",
        "Cancel my order 7781.",
        "Is A taller than B?",
        "Is B taller than A?",
        "Which one would you say is the taller person, A or B?",
        "Quelle est la capitale de la France ?",
        "프랑스의 수도는 어디인가요?",
        "How many owls live in 5 km of London today?",
    ]
)
COSINES = st.floats(0, 1)


def neighbour(text: str, similarity: float, tokens: int = 5) -> Neighbour:
    return Neighbour(Head(key="k" * 64, model="m", created=0, expires=1, completion_tokens=tokens, text=text), similarity)


@given(TEXTS, TEXTS)
def test_the_first_veto_is_the_first_of_all(question, stored):
    every = list(vetoes(question, stored))
    assert veto(question, stored) == (every[0] if every else None)
    assert len(set(every)) == len(every)
    assert set(every) <= set(get_args(Guard))
    assert set(every) == set(vetoes(stored, question))


@given(TEXTS, TEXTS, COSINES, COSINES, st.none() | st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_a_candidate_is_judged_as_on_the_path(asked, stored, similarity, threshold, limit, tokens, weighed):
    near = neighbour(stored, similarity, tokens)
    told = candidate(asked, near, Bar(threshold, weighed=weighed), token_limit=limit)
    first = next(objections(asked, near, threshold=threshold, token_limit=limit, weighed=weighed), None)
    assert told.objections[:1] == (() if first is None else (first,))
    assert (told.key, told.similarity, told.confidence) == ("k" * 64, similarity, similarity)


@given(TEXTS, TEXTS, COSINES, COSINES, st.booleans())
def test_two_texts_are_compared_as_on_the_path(a, b, similarity, threshold, weighed):
    bar = Bar(threshold, weighed=weighed)
    found = compared(a, b, similarity, bar)
    against = objections(b, neighbour(a, similarity), threshold=threshold, token_limit=None, weighed=weighed)
    assert found.reason == next(against, None)
    assert [guard for guard, objects in found.guards.items() if objects] == list(vetoes(b, a))
    assert list(found.guards) == list(get_args(Guard))
    assert (found.similarity, found.confidence, found.bar) == (similarity, similarity, bar)


def test_everything_that_speaks_against_it_is_told():
    near = neighbour("Who founded London in 1901?", 0.5)
    told = candidate("Who didn't found Paris in 1902?", near, Bar(0.95), token_limit=3)
    assert told.objections[:2] == ("below-threshold", "guard-length")
    assert {"guard-numbers", "guard-negation", "guard-names"} < set(told.objections)


def test_nothing_in_an_explanation_holds_a_text():
    members = {name for kind in (Candidate, Comparison) for name in kind.__struct_fields__}
    assert members.isdisjoint({"text", "question", "head"})
