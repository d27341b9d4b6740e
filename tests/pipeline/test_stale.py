"""An answer that has expired stands in where every target fails, and nowhere else."""

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.core.caching import Hit, TtlRules
from sentinel_gateway.errors import NotCached, UpstreamBroken, UpstreamError, UpstreamRefused, UpstreamUnauthorized
from sentinel_gateway.pipeline.handle import Cached
from tests.fakes import FakeStream, completion, spoken
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

TTL, LONGER = 100.0, 500.0


@pytest.fixture
async def make():
    """A path whose answers live for `TTL` seconds, and stand in for `LONGER`; one is stored."""

    async def make(text="Capital of France?", **how):
        path = Path(rules=TtlRules(fixed=TTL), stale_if_error=LONGER, **how)
        path.first.replies.append(completion("Paris."))
        await path.ask(question(text))
        return path

    return make


async def fail(path, text="Capital of France?", error=None, **wish):
    path.first.replies.append(error or UpstreamBroken("x"))
    return await path.ask(question(text), path.journey(**wish))


@pytest.mark.parametrize("far", [True, False])
async def test_it_stands_in_where_every_target_fails(make, far):
    path = await make(far=far)
    path.clock.now += TTL + LONGER - 1
    reply, journey = await fail(path)
    assert isinstance(reply, Cached)
    assert (reply.hit.stale, reply.hit.similarity) == (True, None)
    assert (journey.outcome, journey.tier, journey.target) == ("exact", "disk" if far else "memory", "first/m")
    assert (journey.prompt_tokens, journey.completion_tokens, journey.attempts) == (3, 5, 1)


async def test_a_stream_gets_it_as_well(make):
    path = await make()
    path.clock.now += TTL
    path.first.replies.append(FakeStream())
    reply, _ = await path.ask(question(stream=True))
    assert isinstance(reply, Cached)


async def test_a_fresh_answer_comes_from_a_provider_that_is_well(make):
    path = await make()
    path.clock.now += TTL
    path.first.replies.append(completion("Still Paris."))
    reply, _ = await path.ask(question())
    assert not isinstance(reply, Cached)
    again, _ = await path.ask(question())
    assert again.hit.stale is False


@pytest.mark.parametrize("error", [UpstreamBroken("x"), UpstreamUnauthorized("x")])
async def test_it_ends(make, error):
    path = await make()
    path.clock.now += TTL + LONGER
    with pytest.raises(UpstreamError):
        await fail(path, error=error)


async def test_what_is_wrong_with_the_request_is_told(make):
    path = await make()
    path.clock.now += TTL
    with pytest.raises(UpstreamRefused):
        await fail(path, error=UpstreamRefused("x", upstream_status=400))


@pytest.mark.parametrize("wish", [{"bypass": True, "read": False}, {"read": False}, {"max_age": 1e6}, {"min_fresh": 0.0}])
async def test_who_wants_it_fresh_gets_none(make, wish):
    path = await make()
    path.clock.now += TTL
    with pytest.raises(UpstreamBroken):
        await fail(path, **wish)


async def test_who_asks_no_provider_gets_none(make):
    path = await make()
    path.clock.now += TTL
    with pytest.raises(NotCached):
        await path.ask(question(), path.journey(only_if_cached=True))


async def test_it_is_off_unless_asked_for():
    path = Path(rules=TtlRules(fixed=TTL))
    path.first.replies.append(completion())
    await path.ask(question())
    path.clock.now += TTL
    with pytest.raises(UpstreamBroken):
        await fail(path)


async def test_what_was_true_for_a_moment_is_not_served_later(make):
    path = await make("What's the weather in Bonn today?", bounds=BoundRules())
    path.clock.now += TTL
    with pytest.raises(UpstreamBroken):
        await fail(path, "What's the weather in Bonn today?")
    lasting = await make("What's the weather in Bonn today?", bounds=BoundRules(time="exact"))
    lasting.clock.now += TTL
    assert isinstance((await fail(lasting, "What's the weather in Bonn today?"))[0], Cached)


async def test_a_farther_tier_that_is_down_leaves_memory(make):
    path = await make()
    path.clock.now += TTL
    path.far.down = True
    reply, journey = await fail(path)
    assert (reply.hit.stale, journey.tier) == (True, "memory")


async def test_what_was_cleared_is_gone(make):
    path = await make()
    path.clock.now += TTL
    path.near.entries.clear()
    path.far.entries.clear()
    with pytest.raises(UpstreamBroken):
        await fail(path)


async def test_the_shorter_life_in_memory_is_not_its_own(make):
    path = await make()
    (entry,) = path.far.entries.values()
    path.far.entries[entry.key] = replace(entry, expires=entry.expires + 50.0)
    path.clock.now += TTL + LONGER + 20.0
    assert await path.tiers.find_outlived(entry.key, LONGER) == Hit(path.far.entries[entry.key], "disk", stale=True)


async def test_what_came_meanwhile_is_not_stale(make):
    path = await make()
    (entry,) = path.far.entries.values()
    assert await path.tiers.find_outlived(entry.key, LONGER) == Hit(entry, "disk")


async def test_a_stream_that_breaks_after_its_first_word_is_told_of(make):
    path = await make()
    path.clock.now += TTL
    first, *_ = spoken()
    path.first.replies.append(FakeStream(first, UpstreamBroken("cut")))
    with pytest.raises(UpstreamBroken):
        await path.ask(question(stream=True))


@pytest.mark.parametrize("far", [True, False])
async def test_who_takes_it_stale_is_spared_the_provider(make, far):
    path = await make(far=far)
    path.clock.now += TTL + 10.0
    reply, journey = await path.ask(question(), path.journey(max_stale=10.0, only_if_cached=True))
    assert isinstance(reply, Cached)
    assert (reply.hit.stale, journey.outcome, path.calls) == (True, "exact", 1)
    with pytest.raises(NotCached):
        await path.ask(question(), path.journey(max_stale=9.9, only_if_cached=True))


async def test_who_takes_it_stale_gets_the_fresh_one_that_a_farther_tier_has(make):
    path = await make()
    (entry,) = path.far.entries.values()
    path.far.entries[entry.key] = replace(entry, expires=entry.expires + 50.0)
    path.clock.now += TTL + 10.0
    reply, _ = await path.ask(question(), path.journey(max_stale=1e6))
    assert (reply.hit.stale, reply.hit.tier) == (False, "disk")


async def test_the_caller_bounds_what_stands_in(make):
    path = await make()
    path.clock.now += TTL + 20.0
    assert isinstance((await fail(path, stale_if_error=20.1))[0], Cached)
    for unwilling in ({"stale_if_error": 20.0}, {"stale_if_error": 0.0}, {"max_stale": 19.0}):
        with pytest.raises(UpstreamBroken):
            await fail(path, **unwilling)
