"""Questions that are bound to their moment or to who asks, through the whole gateway."""

import pytest

from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

WEATHER = "What's the weather like in Oslo?"
ORDER = "Where is my order?"
EXPLAIN = {"x-cache-explain": "true"}


def stored_for(answer) -> int:
    return int(answer.headers["x-cache-explain"].partition("stored for ")[2].split()[0])


async def test_by_default_they_are_exact_and_kept_for_minutes(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        for text, why in ((WEATHER, "time-bound"), (ORDER, "personal")):
            first = await gateway.ask(chat(text), **EXPLAIN)
            assert first.tiers["sentinel-vector"] == {"fwd": "miss", "detail": f"uncacheable-{why}"}
            assert 270 <= stored_for(first) <= 300
            assert (await gateway.ask(chat(text))).cache == "exact"
        asked = {"prompt": "How's the weather in Oslo?", "model": "mock-model", "provider": "mock"}
        answer = await gateway.ask(asked, "/v1/query", **EXPLAIN)
        assert "other words: uncacheable-time-bound" in answer.headers["x-cache-explain"]
        longer = await gateway.ask(chat("How's the weather in Oslo?"), **EXPLAIN, x_cache_ttl="4000")
        assert stored_for(longer) > 3000
        told = await gateway.ask({"a": ORDER, "b": "Where's my order?"}, "/admin/cache/explain", **gateway.admin)
        assert told.json["reason"] == "uncacheable-personal"


async def test_the_operator_chooses_and_a_reload_changes_it(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "cache: {bound: {time: %s, personal: never, ttl: %d}}\n"
    async with running_gateway(tmp_path, config=config % ("usual", 300)) as gateway:
        assert stored_for(await gateway.ask(chat(WEATHER), **EXPLAIN)) > 1800
        for _ in range(2):
            answer = await gateway.ask(chat(ORDER))
            assert (answer.cache, answer.tiers["sentinel-memory"]["detail"]) == ("miss", "uncacheable-personal")
        await gateway.reload(config % ("brief", 20))
        assert 18 <= stored_for(await gateway.ask(chat(WEATHER, seed=1), **EXPLAIN)) <= 20


async def test_a_word_that_is_no_treatment_is_refused(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "cache: {bound: {time: %s}}\n"
    async with running_gateway(tmp_path, config=config % "exact") as gateway:
        answer = await gateway.reload(config % "sometimes")
    assert answer.status == 400
    assert "cache.bound.time" in answer.json["detail"]
