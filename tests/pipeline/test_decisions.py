"""The last close decisions, for whoever looks after them."""

import pytest

from sentinel_gateway.pipeline.decisions import KEPT
from tests.fakes import completion
from tests.pipeline.conftest import question
from tests.pipeline.loop import HERE, credulous
from tests.pipeline.test_semantic import ASKED, REWORDED, learn

pytestmark = pytest.mark.anyio

NEGATED = "What is not the capital of France?"


@pytest.fixture
async def path(make_path):
    path = make_path(semantic=True, judged=True)
    await learn(path, ASKED)
    yield path
    await path.evidence.close()


async def ask(path, text, id_="s"):
    path.first.replies.append(completion())
    journey = path.journey()
    journey.sentinel_id = id_
    await path.ask(question(text), journey)
    return path.semantic.recent.latest()


async def test_what_was_served_and_what_was_not(path):
    await ask(path, REWORDED, "first")
    refused, served = await ask(path, NEGATED, "second")
    assert (refused.id, refused.outcome, refused.reason) == ("second", "refused", "guard-negation")
    assert (served.id, served.outcome, served.reason) == ("first", "served", None)
    assert repr(path.semantic.recent) == "<Decisions 2>"


async def test_the_margin_is_that_of_what_decided(path, make_path):
    (told,) = await ask(path, REWORDED)
    assert (told.basis, told.margin) == ("similarity", told.similarity - 0.95)
    path = make_path(semantic=True, judged=True)
    path.learned.kept[HERE] = credulous()
    await learn(path, ASKED)
    (told,) = await ask(path, REWORDED)
    assert (told.basis, told.margin) == ("probability", told.confidence - told.threshold)
    await path.evidence.close()


async def test_no_question_is_told_that_may_not_be_read_now(path):
    path.semantic.recent.texts = lambda: True
    (told,) = await ask(path, REWORDED)
    assert (told.asked, told.stored) == (REWORDED, ASKED)
    path.semantic.recent.texts = lambda: False
    (told,) = path.semantic.recent.latest()
    assert (told.asked, told.stored) == (None, None)
    path.semantic.recent.texts = lambda: True
    assert path.semantic.recent.latest()[0].asked == REWORDED
    path.semantic.recent.texts = lambda: False
    assert [one.asked for one in await ask(path, REWORDED)] == [None, None]
    path.semantic.recent.texts = lambda: True
    assert [one.asked for one in path.semantic.recent.latest()] == [None, REWORDED], "what came then was not kept"


async def test_so_many_are_kept(path):
    for number in range(KEPT + 1):
        await ask(path, REWORDED, str(number))
    told = path.semantic.recent.latest()
    assert (len(told), told[0].id, told[-1].id) == (KEPT, str(KEPT), "1")
