"""May the stored answer to one question serve another?"""

import pytest

from sentinel_gateway.core.caching import Head, Wish
from sentinel_gateway.core.chat import Answer
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.matching import Neighbour, Thresholds, first_fit, objections, ranked, serves_rewordings

ASKED = "What's the capital of France?"


def neighbour(similarity: float = 0.96, text: str = "What is the capital of France?", *, tokens: int = 5) -> Neighbour:
    return Neighbour(Head(key="k", model="m", created=0, expires=1, completion_tokens=tokens, text=text), similarity)


def objecting(near: Neighbour, *, threshold: float = 0.95, limit: int | None = None) -> str | None:
    return next(objections(ASKED, near, threshold=threshold, token_limit=limit), None)


def test_who_is_near_enough_may_serve():
    assert objecting(neighbour()) is None
    assert objecting(neighbour(0.95)) is None
    assert objecting(neighbour(0.9499)) == "below-threshold"
    assert objecting(neighbour(0.7), threshold=0.7) is None


def test_an_answer_fits_the_callers_limit_or_does_not_serve():
    assert objecting(neighbour(tokens=5), limit=5) is None
    assert objecting(neighbour(tokens=6), limit=5) == "guard-length"
    assert objecting(neighbour(tokens=0), limit=5) == "guard-length"  # nobody told how long it is
    assert objecting(neighbour(tokens=0)) is None


def test_a_guard_stands_above_any_similarity():
    assert objecting(neighbour(1.0, "What was the capital of France in 1940?"), threshold=0.0) == "guard-numbers"


def test_where_what_was_learned_decides_a_rewording_comes_into_question_with_its_doubts():
    asked, swapped = (
        "Where do I find the routing number of my bank?",
        neighbour(0.9, "Where do I find the account number of my bank?"),
    )
    reworded = neighbour(0.8, "Could you please tell me what my bank's routing code is?")
    found = [first_fit(asked, [swapped, reworded], threshold=0.7, rarity=Rarity(), weighed=weighed) for weighed in (False, True)]
    assert [verdict.reasons for verdict in found] == [("guard-words", "guard-question"), ("guard-words", None)]
    assert found[0].words is None
    told = dict(zip(NAMES[-len(found[1].words) :], found[1].words, strict=True))
    assert (told["doubt_question"], told["doubt_words"]) == (1.0, 1.0)


def test_the_nearest_come_first_and_the_very_same_text_before_all():
    far, near, same = neighbour(0.8), neighbour(0.9), neighbour(0.89, ASKED)
    assert ranked(ASKED, [far, near, same]) == [Neighbour(same.head, 1.0), near, far]


@pytest.mark.parametrize(("asked", "holds"), [(None, 0.95), (0.99, 0.99), (0.8, 0.8), (0.2, 0.7)])
def test_a_caller_chooses_above_the_floor(asked, holds):
    assert Thresholds(usual=0.95, least=0.7).of(Wish(similarity_threshold=asked)) == holds


@pytest.mark.parametrize(
    ("reason", "message", "serves"),
    [
        ("stop", {"content": "a"}, True),
        ("length", {"content": "a"}, False),
        ("tool_calls", {"content": None, "tool_calls": [{}]}, False),
        ("stop", {"content": "a", "tool_calls": [{}]}, False),
        ("stop", {"content": "a", "function_call": {"name": "f"}}, False),
        ("stop", {"content": "a", "tool_calls": []}, True),
        (None, {"content": "a"}, False),
    ],
)
def test_only_what_was_said_to_its_end_serves_other_words(reason, message, serves):
    assert serves_rewordings(Answer({"choices": [{"message": message}]}, (reason,), None)) == serves
