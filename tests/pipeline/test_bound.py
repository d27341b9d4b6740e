"""Questions bound to their moment or to who asks: not compared with others, and kept as the rules say."""

import asyncio

import pytest

from sentinel_gateway.core.bound import BoundRules, Restriction
from sentinel_gateway.core.caching import NotStorable, Step, Store, TtlRules
from sentinel_gateway.pipeline.handle import Cached
from tests.fakes import FakeStream, completion, spoken, turns
from tests.pipeline.conftest import question
from tests.pipeline.test_path import HOUR
from tests.pipeline.test_semantic import ASKED, REWORDED, learn, missed

pytestmark = pytest.mark.anyio

WEATHER = "What's the weather like in Oslo?"
SAME_WEATHER = "How is the weather in Oslo?"
ORDER = "Where is my order?"
NEVER = BoundRules(personal="never", time="never")
EXACT = BoundRules(personal="exact", time="exact")
USUAL = BoundRules(personal="usual", time="usual")


async def kept(path, text, journey=None, **fields):
    path.first.replies.append(completion("Sunny."))
    _, journey = await path.ask(question(text, **fields), journey)
    return journey.kept


async def test_they_are_compared_with_nothing_and_say_so(make_path):
    path = make_path(semantic=True)
    await learn(path, ASKED, WEATHER)
    assert await missed(path, SAME_WEATHER) == Step("vector", "miss", "uncacheable-time-bound")
    assert await missed(path, ORDER) == Step("vector", "miss", "uncacheable-personal")
    assert path.embedder.batches == []
    assert [head.text for head in path.index.heads.values()] == [ASKED], "nor is their answer for other words"


async def test_another_reason_not_to_be_compared_is_told_first(make_path):
    path = make_path(semantic=True)
    assert (await missed(path, ORDER, n=1, logprobs=True)).detail == "uncacheable-logprobs"


async def test_the_same_request_is_answered_for_a_short_time(make_path):
    path = make_path(semantic=True)
    assert await kept(path, WEATHER) == Store(300.0, ("memory", "disk"))
    reply, _ = await path.ask(question(WEATHER))
    assert isinstance(reply, Cached)
    path.clock.now += 301
    assert isinstance(await kept(path, WEATHER), Store)
    assert path.calls == 2


@pytest.mark.parametrize("semantic", [False, True])
async def test_also_where_nothing_is_compared_and_in_streams(make_path, semantic):
    path = make_path(semantic=semantic)
    path.first.replies.append(FakeStream(*spoken("Sun", "ny.")))
    _, journey = await path.ask(question(WEATHER, stream=True))
    assert journey.kept.ttl == 300.0
    assert journey.restriction == Restriction("time-bound", 300.0)


@pytest.mark.parametrize(
    ("rules", "ttl", "lifetime"),
    [
        (TtlRules(), None, 300.0),
        (TtlRules(fixed=60), None, 60.0),
        (TtlRules(fixed=9999), None, 300.0),
        (TtlRules(), 4000.0, 4000.0),
    ],
)
async def test_shorter_than_the_rules_and_as_long_as_a_caller_says(make_path, rules, ttl, lifetime):
    path = make_path(semantic=True, rules=rules)
    assert (await kept(path, ORDER, path.journey(ttl=ttl))).ttl == lifetime


async def test_exact_is_kept_as_long_as_any(make_path):
    path = make_path(semantic=True, bounds=EXACT)
    assert (await kept(path, ORDER)).ttl == HOUR
    assert (await missed(path, SAME_WEATHER)).detail == "uncacheable-time-bound"


async def test_never_is_not_kept_whatever_a_caller_says(make_path):
    path = make_path(semantic=True, bounds=NEVER)
    assert await kept(path, ORDER) == NotStorable("personal")
    assert await kept(path, WEATHER, path.journey(ttl=4000.0)) == NotStorable("time-bound")
    assert await kept(path, WEATHER, path.journey(bypass=True, read=False, write=False)) == NotStorable("bypass")
    assert path.near.entries == {}


@pytest.mark.parametrize(("bounds", "calls"), [(None, 1), (NEVER, 2)])
async def test_of_never_not_even_a_call_under_way_is_shared(make_path, bounds, calls):
    path = make_path(bounds=bounds)
    arrive = asyncio.Event()
    path.first.replies += [arrive, completion("Yours."), arrive, completion("Theirs.")]
    asking = [asyncio.create_task(path.ask(question(ORDER))) for _ in range(2)]
    await turns()
    arrive.set()
    await asyncio.gather(*asking)
    assert path.calls == calls


async def test_usual_is_as_any_other(make_path):
    path = make_path(semantic=True, bounds=USUAL)
    assert (await kept(path, WEATHER)).ttl == HOUR
    assert path.index.size() == (1, 0)


@pytest.mark.parametrize("text", [WEATHER, ORDER])
async def test_hints_beside_the_words_free_nobody(make_path, text):
    """As agents mark the last block of each request for their provider's cache."""
    path = make_path(semantic=True, bounds=NEVER)
    path.first.replies.append(completion("Sunny."))
    block = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
    _, journey = await path.ask({"model": "first/m", "messages": [{"role": "user", "content": [block]}]})
    assert journey.restriction is not None
    assert isinstance(journey.kept, NotStorable)
    assert path.near.entries == {}


async def test_only_the_last_words_count(make_path):
    path = make_path(semantic=True)
    past = [{"role": "user", "content": WEATHER}, {"role": "assistant", "content": "Sunny."}]
    path.first.replies.append(completion("Of course."))
    _, journey = await path.ask({"model": "first/m", "messages": [*past, {"role": "user", "content": REWORDED}]})
    assert (journey.restriction, journey.kept.ttl) == (None, HOUR)
