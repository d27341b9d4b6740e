"""An expired answer that stands in for providers that all fail, over HTTP."""

import pytest

from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio


async def test_it_is_marked_as_stale(chaos, upstream, text, tmp_path):
    environ = {"SENTINEL_CACHE__STALE_IF_ERROR": "60"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
        fresh = await gateway.ask(chat(text), x_cache_ttl="8")
        assert "x-cache-stale" not in (await gateway.ask(chat(text))).headers
        await gateway.wait(9)
        for stream in (False, True):
            upstream.script("err=503")
            answer = await gateway.ask(chat(text, stream=stream))
            assert (answer.status, answer.cache, answer.headers["x-cache-stale"]) == (200, "exact", "true")
            ((tier, told),) = answer.tiers.items()
            assert tier in {"sentinel-disk", "sentinel-memory"}
            assert told["hit"] is True
            assert -60 < told["ttl"] <= -1
            assert int(answer.headers["age"]) >= 1
            said = answer.sse.text() if stream else answer.json["choices"][0]["message"]["content"]
            assert said == fresh.json["choices"][0]["message"]["content"]
        upstream.script("err=503")
        wants_it_fresh = await gateway.ask(chat(text), cache_control="max-age=100")
        assert wants_it_fresh.status == 502
        assert (await gateway.ask(chat(text))).cache == "miss"


async def test_who_takes_it_stale_asks_no_provider(chaos, upstream, text, tmp_path):
    environ = {"SENTINEL_CACHE__STALE_IF_ERROR": "60"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
        await gateway.ask(chat(text), x_cache_ttl="8")
        await gateway.wait(9)
        for stream in (False, True):
            answer = await gateway.ask(chat(text, stream=stream), cache_control="max-stale=60, only-if-cached")
            assert (answer.status, answer.cache, answer.headers["x-cache-stale"]) == (200, "exact", "true")
        assert upstream.count == 1
        for impatient in ("max-stale=0, only-if-cached", "only-if-cached"):
            assert (await gateway.ask(chat(text), cache_control=impatient)).status == 504
        upstream.script("err=503")
        assert (await gateway.ask(chat(text), cache_control="stale-if-error=0")).status == 502
        malformed = await gateway.ask(chat(text), cache_control="max-stale=soon")
        assert (malformed.status, malformed.error["param"]) == (400, "Cache-Control")
