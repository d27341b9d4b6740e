"""What is told of the candidates of one request agrees with what became of it."""

import math

import pytest

from sentinel_gateway.core.caching import Head
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import BELOW_THRESHOLD, Bar, Neighbour
from sentinel_gateway.pipeline.remembered import Remembered

ASKED = "Please tell me: what is the capital of France?"
ASKED_OF = Question("s", ASKED)


def neighbour(key: str, text: str) -> Neighbour:
    return Neighbour(Head(key=key, model="m", created=0, expires=1, completion_tokens=5, scope="s", text=text), 0.97)


NEAR = (
    neighbour("other", "What is the capital of Germany?"),
    neighbour("first", "What is the capital of France?"),
    neighbour("second", "What's the capital of France?"),
)


def remembered(bar: Bar | None, considered: str = "", confidence: float | None = None, asked=ASKED_OF) -> Remembered:
    return Remembered(
        "id",
        None,
        "key",
        None,
        asked,
        None,
        NEAR,
        bar,
        confidence,
        considered,
        explored=False,
        grant=None,
        space="",
        epoch=0,
        steps=(),
    )


def told(bar: Bar, **known):
    found = {one.entry: one for one in remembered(bar, **known).candidates()}
    assert "guard-names" in found["other"].objections
    assert found["other"].weighed
    return [(found[entry].objections, found[entry].weighed) for entry in ("first", "second")]


def test_where_similarity_decides_all_fit_that_no_rule_objects_to():
    assert told(Bar(0.9), considered="first", confidence=0.2) == [((), True), ((), True)]


@pytest.mark.parametrize(("confidence", "objections"), [(0.99, ()), (0.5, (BELOW_THRESHOLD,))])
def test_only_of_the_one_that_came_into_question_is_known_how_sure_it_is(confidence, objections):
    bar = Bar(0.9, confidence=0.95)
    assert told(bar, considered="first", confidence=confidence) == [(objections, True), ((), False)]
    assert told(bar, considered="second", confidence=confidence) == [((), False), (objections, True)]


def test_where_nothing_serves_nothing_fits():
    bar = Bar(0.9, confidence=math.inf)
    assert told(bar, considered="first", confidence=0.99) == [((BELOW_THRESHOLD,), True)] * 2
    assert told(bar) == [((BELOW_THRESHOLD,), True)] * 2


@pytest.mark.parametrize(("bar", "asked"), [(None, ASKED_OF), (Bar(0.9), "bound-moment"), (Bar(0.9), None)])
def test_of_what_was_not_compared_there_are_no_candidates(bar, asked):
    assert list(remembered(bar, asked=asked).candidates()) == []
