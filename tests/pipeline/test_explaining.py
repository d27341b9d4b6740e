"""Why other words were answered, or were not: on the path for whoever asks, and beside it for two texts."""

import math

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.access import caller_of
from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.core.budget import ErrorBudget, ErrorBudgets
from sentinel_gateway.core.confidence.learner import Fit, Prior
from sentinel_gateway.core.explanation import Comparison
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds
from sentinel_gateway.core.tightening import OFF, Stance
from sentinel_gateway.pipeline.explaining import Explainer, Place
from sentinel_gateway.pipeline.semantic import NEIGHBOURS
from tests.core.keys import KEY
from tests.fakes import completion
from tests.pipeline.conftest import question
from tests.pipeline.loop import HERE, credulous
from tests.pipeline.test_semantic import ASKED, OTHER, REWORDED, learn, missed

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(make_path):
    return make_path(semantic=True)


@pytest.fixture
def explainer(path) -> Explainer:
    return Explainer(path.semantic, BoundRules(), {})


def similarity(one: str, other: str, path) -> float:
    return float(path.embedder.vector(one) @ path.embedder.vector(other))


# -- on the path


async def test_a_hit_is_explained(path):
    await learn(path, ASKED, OTHER)
    reply, journey = await path.ask(question(REWORDED), path.journey(explain=True))
    told = journey.explanation
    assert (told.threshold, told.basis) == (0.95, "similarity")
    assert [found.objections[:1] for found in told.candidates] == [(), ("below-threshold",)]
    assert told.candidates[0].key == reply.hit.entry.key
    assert told.candidates[0].confidence == told.candidates[0].similarity == reply.hit.similarity


async def test_a_miss_is_explained_with_all_that_speaks_against_it(path):
    await learn(path, "Capital of France in 1999?")
    journey = path.journey(explain=True)
    step = await missed(path, "Capital of Spain in 1998?", journey)
    (found,) = journey.explanation.candidates
    assert found.objections[0] == step.detail
    assert {"guard-numbers", "guard-names"} <= set(found.objections)


async def test_the_threshold_is_the_one_in_force_for_this_caller(path):
    await learn(path, ASKED)
    _, journey = await path.ask(question(REWORDED), path.journey(explain=True, similarity_threshold=0.8))
    assert journey.explanation.threshold == 0.8


async def test_who_does_not_ask_gets_none_and_pays_for_none(path):
    await learn(path, ASKED)
    _, journey = await path.ask(question(REWORDED))
    assert journey.explanation is None


async def test_no_more_than_the_neighbours_that_are_asked(path):
    await learn(path, *(f"What is the capital of {name}?" for name in ("Peru", "Chile", "Cuba", "Mali", "Iran", "Oman", "Laos")))
    journey = path.journey(explain=True)
    await missed(path, ASKED, journey)
    assert len(journey.explanation.candidates) == NEIGHBOURS


async def test_what_an_index_brings_from_another_scope_is_not_told(path):
    await learn(path, ASKED, journey=path.journey(tenant="other"))
    (stray,) = path.near.entries.values()
    path.index.strays = [Neighbour(replace(stray.head(), key="f" * 64), 0.99)]
    await learn(path, OTHER)
    journey = path.journey(explain=True)
    await missed(path, REWORDED, journey)
    assert "f" * 64 not in {found.key for found in journey.explanation.candidates}


# -- two texts


async def test_two_texts(path, explainer):
    path.semantic.thresholds = Thresholds(usual=0.9, least=0.7)
    found = await explainer.compare(ASKED, REWORDED)
    assert (found.reason, found.bar, set(found.guards.values())) == (None, Bar(0.9), {False})
    assert found.similarity == pytest.approx(similarity(ASKED, REWORDED, path))
    far = await explainer.compare(ASKED, OTHER)
    assert (far.reason, far.guards["words"]) == ("below-threshold", True)
    assert (await explainer.compare(ASKED, ASKED)).similarity == 1.0
    assert path.calls == 0
    assert path.index.size() == (0, 0), "what is compared is not stored"


@pytest.mark.parametrize(("text", "why"), [("x" * 1025, "long"), (" ", "last-turn"), ("프랑스의 수도는?", "language")])
async def test_a_text_that_is_compared_with_nothing(explainer, text, why):
    for pair in ((text, ASKED), (ASKED, text)):
        assert await explainer.compare(*pair) == Comparison(f"uncacheable-{why}", Bar(0.95))


async def test_a_text_without_a_vector(path, explainer):
    path.embedder.too_long = {OTHER}
    for pair in ((OTHER, ASKED), (ASKED, OTHER)):
        assert await explainer.compare(*pair) == Comparison("uncacheable-unread", Bar(0.95))
    path.embedder.down = True
    assert await explainer.compare(ASKED, REWORDED) == Comparison("tier-down", Bar(0.95))


def test_it_says_what_it_is(explainer):
    assert repr(explainer).startswith("<Explainer <Semantic")


# -- where something was learned


@pytest.fixture
async def sure(make_path):
    """A path on which everything is taken for right, and that for proven."""
    path = make_path(semantic=True, judged=True)
    path.learned.kept[HERE] = credulous()
    await path.evidence.calibration.open()
    yield path
    await path.evidence.close()


async def test_on_the_path_the_confidence_is_a_probability(sure):
    await learn(sure, ASKED, OTHER)
    reply, journey = await sure.ask(question(REWORDED), sure.journey(explain=True))
    told = journey.explanation
    assert (told.threshold, told.basis) == (0.0, "probability")
    assert reply.hit.confidence == told.candidates[0].confidence == journey.weighed.confidence
    assert reply.hit.confidence != reply.hit.similarity
    assert told.candidates[1].objections[-1] != "below-threshold", "0 is reached by all"


async def test_whose_budget_it_is_that_holds(sure):
    await learn(sure, ASKED)
    sure.semantic.thresholds = Thresholds(0.95, 0.7, ErrorBudgets(0.01, {"first/m": 0.008}, {}))
    for key, expected in (
        (None, ErrorBudget(0.008, "model")),
        (0.5, ErrorBudget(0.008, "model")),
        (0.001, ErrorBudget(0.001, "key")),
    ):
        journey = sure.journey(explain=True)
        journey.caller = caller_of(replace(KEY, max_wrong_hit_rate=key))
        await sure.ask(question(REWORDED), journey)
        assert journey.explanation.bar.budget == expected


async def test_two_texts_are_compared_where_they_are_asked(sure):
    explainer = Explainer(sure.semantic, BoundRules(), {"a": "both"})
    sure.semantic.thresholds = Thresholds(0.95, 0.7, ErrorBudgets(0.01, {"m": 0.005}, {"n": 0.002}))
    here = await explainer.compare(ASKED, REWORDED)
    assert (here.reason, here.bar) == (None, Bar(0.7, 0.0, ErrorBudget(0.01), weighed=True))
    assert here.confidence != here.similarity
    there = await explainer.compare(ASKED, REWORDED, Place("a", "n", "m"))
    assert (there.reason, there.bar) == (None, Bar(0.95, None, ErrorBudget(0.002, "namespace")))
    assert there.confidence == there.similarity
    assert {stands.realm for stands in sure.evidence.calibration.standings(0.01)} == {HERE, "group\nboth\nn"}
    assert (await explainer.compare(ASKED, REWORDED, Place(model="m"))).bar.budget == ErrorBudget(0.005, "model")


async def test_two_texts_of_which_it_is_not_sure_enough(sure):
    sure.evidence.calibration._ward(HERE).learner.adopt(Fit(Prior().weights, (), 1_000))  # noqa: SLF001 - nothing proves it
    found = await Explainer(sure.semantic, BoundRules(), {}).compare(ASKED, REWORDED)
    assert (found.reason, found.bar.confidence, set(found.guards.values())) == ("below-threshold", math.inf, {False})


# -- where a broken budget has made it stricter


@pytest.mark.parametrize(("level", "threshold"), [(2, 0.9875), (OFF, math.inf)])
async def test_what_is_told_is_what_a_broken_budget_asks_for(sure, level, threshold):
    log, own = sure.evidence.log, replace(KEY, max_wrong_hit_rate=0.005)
    sure.evidence.habits = replace(sure.evidence.habits, threshold=0.95)
    await learn(sure, ASKED)
    explainer = Explainer(sure.semantic, BoundRules(), {})
    of_key = Place(allowed=0.005, key=own.id)
    assert [(await explainer.compare(ASKED, REWORDED, place)).reason for place in (Place(), of_key)] == [None] * 2
    for name in (f"key:{own.id}", "all"):
        await sure.kept.take(Stance(name, level, sure.clock.now))
        await log.open()
        told = await explainer.compare(ASKED, REWORDED, of_key)
        assert (told.reason, told.bar.similarity) == ("below-threshold", pytest.approx(threshold))
        assert (await explainer.compare(ASKED, REWORDED, Place())).reason == (None if name != "all" else told.reason)
    sure.first.replies.append(completion())
    _, journey = await sure.ask(question(REWORDED), sure.journey(explain=True))
    (found,) = journey.explanation.candidates
    assert (journey.explanation.bar.similarity, found.objections) == (threshold, ("below-threshold",))
    assert math.isinf(journey.explanation.threshold) is (level == OFF)
