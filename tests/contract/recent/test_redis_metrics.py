"""Recent figures in Redis: seed 004's keys by name, type and TTL, and what an outage costs."""

import asyncio
import json
import time

import pytest

from sentinel_gateway.stores._redis import RedisLimits
from tests.contract.recent.conftest import NOON
from tests.servers import REDIS8, RedisServer, free_port

pytestmark = pytest.mark.anyio

HOURS, HOUR, MINUTES = 7200, 3600, 300


@pytest.fixture
def server(redis8):
    redis8.flush()
    return redis8


async def record_everything(metrics, call):
    await metrics.record_requests([call(tokens_input=75, tokens_output=37, first_token_ms=9.5, tokens_per_second=40.0)])
    await metrics.record_requests([call(success=False, error_message="Rate limit exceeded", latency_ms=1500.2)])
    await metrics.update_circuit_breaker("openrouter", "meta/llama:70b", "open", 5)


async def test_key_types_and_exact_ttls(server, redis_metrics, call):
    async with redis_metrics(server.url) as metrics:
        await record_everything(metrics, call)
    with server.client(decode_responses=True) as client:
        found = {key: (client.type(key), client.ttl(key)) for key in client.scan_iter()}
    told = {key: (kind, round(ttl, -1)) for key, (kind, ttl) in found.items()}  # a second may have gone
    assert told == {
        "metrics:openrouter:2025-11-27:14": ("hash", HOURS),
        "latency:openrouter:gpt-4": ("zset", HOURS),
        "errors:openrouter": ("list", HOUR),
        "provider_health": ("zset", 0),  # -1: it has none
        "circuit:openrouter:meta/llama%3A70b": ("string", MINUTES),
        "first_token:openrouter:gpt-4": ("zset", HOURS),
        "speed:openrouter:gpt-4": ("zset", HOURS),
        "provider_health:openrouter": ("hash", 0),
        "circuits": ("zset", MINUTES),
    }
    assert found["provider_health"][1] == -1
    assert all(ttl <= most for (_, ttl), most in zip(found.values(), (told[key][1] for key in found), strict=True))


async def test_what_is_too_many_or_too_old_leaves_redis(server, redis_metrics, call, clock):
    async with redis_metrics(server.url) as metrics:
        for _ in range(11):
            await metrics.record_requests([call() for _ in range(1000)])
        for _ in range(2):
            await metrics.record_requests([call(success=False, error_message="x") for _ in range(70)])
        with server.client() as client:
            assert client.zcard("latency:openrouter:gpt-4") == 10_000
            assert client.llen("errors:openrouter") == 100
            clock.now += 7201
            await metrics.record_request(call())
            assert client.zcard("latency:openrouter:gpt-4") == 1


async def test_what_others_read_there(server, redis_metrics, call):
    async with redis_metrics(server.url) as metrics:
        await record_everything(metrics, call)
    with server.client(decode_responses=True) as client:
        assert client.hgetall("metrics:openrouter:2025-11-27:14") == {
            "total_requests": "2",
            "successful_requests": "1",
            "failed_requests": "1",
            "tokens_input": "75",
            "tokens_output": "37",
            "total_cost": "0.000025",
            "latency_ms": "1250.5",
        }
        ((member, moment),) = client.zrange("latency:openrouter:gpt-4", 0, -1, withscores=True)
        assert (member.partition(":")[0], moment) == ("1250.5", NOON)
        (error,) = client.lrange("errors:openrouter", 0, -1)
        assert json.loads(error) == {
            "model": "gpt-4",
            "error": "Rate limit exceeded",
            "timestamp": NOON,
            "latency_ms": 1500,
        }
        assert client.zscore("provider_health", "openrouter") == pytest.approx(95.0)
        circuit = json.loads(client.get("circuit:openrouter:meta/llama%3A70b"))
        assert (circuit["state"], circuit["failure_count"]) == ("open", 5)


async def test_a_prefix_stands_before_every_key(server, redis_metrics, call):
    async with redis_metrics(server.url, prefix="team-a:") as metrics, redis_metrics(server.url) as other:
        await record_everything(metrics, call)
        with server.client(decode_responses=True) as client:
            assert all(key.startswith("team-a:") for key in client.scan_iter())
        assert await metrics.get_provider_health("openrouter") == pytest.approx(95.0)
        assert await other.get_all_provider_health() == {}


async def test_nodes_share_it(server, redis_metrics, call):
    async with redis_metrics(server.url) as one, redis_metrics(server.url) as other:
        await one.record_request(call(success=False))
        await other.record_request(call(success=False))
        assert await one.get_provider_health("openrouter") == pytest.approx(90.25)
        assert (await one.get_hourly_stats("openrouter"))["2025-11-27:14"].failed_requests == 2


async def test_what_is_not_ours_is_as_good_as_nothing(server, redis_metrics, call):
    with server.client() as client:
        client.lpush("errors:openrouter", "no JSON")
        client.set("latency:openrouter:gpt-4", "not a sorted set")
        client.hset("metrics:openrouter:2025-11-27:14", mapping={"total_requests": "many"})
        client.zadd("circuits", {"a:b": NOON})
        client.set("circuit:a:b", "[]")
    async with redis_metrics(server.url) as metrics:
        assert await metrics.get_recent_errors("openrouter") == []
        assert await metrics.get_latency_percentiles("openrouter", "gpt-4") == {}
        assert await metrics.get_hourly_stats("openrouter") == {}
        assert await metrics.get_circuit_breakers() == []
        assert not await metrics.record_requests([call()])
        assert await metrics.get_provider_health("openrouter") == 100.0


async def test_what_others_have_put_there_hides_nothing_of_ours(server, redis_metrics, call, clock):
    async with redis_metrics(server.url) as metrics:
        await record_everything(metrics, call)
        clock.now += 31 * 60
        await record_everything(metrics, call)
        with server.client() as client:
            client.lpush("errors:openrouter", "no JSON", b"\xff", '{"model": 7}')
            client.zadd("latency:openrouter:gpt-4", {b"\xff": clock.now, "slow:1": clock.now})
            client.hset("metrics:openrouter:2025-11-27:14", "total_requests", "many")
            client.hset("provider_health:openrouter", "61", "never")
            client.zadd("circuits", {b"\xff:a": clock.now, "a:b": clock.now})
            client.set("circuit:a:b", "[]")
        assert [one.error for one in await metrics.get_recent_errors("openrouter")] == ["Rate limit exceeded"] * 2
        assert (await metrics.get_latency_percentiles("openrouter", "gpt-4"))["count"] == 2
        assert list(await metrics.get_hourly_stats("openrouter", 2)) == ["2025-11-27:15"]
        assert len((await metrics.get_health_history(["openrouter"]))["openrouter"]) == 2
        assert [one.model for one in await metrics.get_circuit_breakers()] == ["meta/llama:70b"]


async def test_what_no_figure_can_be_is_as_good_as_nothing(server, redis_metrics, call, clock):
    """A score of infinity would stay one whatever was called, and no JSON holds it; calendars end with the year 9999."""
    async with redis_metrics(server.url) as metrics:
        await record_everything(metrics, call)
        with server.client() as client:
            client.zadd("provider_health", {"openrouter": float("inf"), "portkey": 101})
            client.hset("provider_health:openrouter", mapping={"61": "inf:90", "62": f"{clock.now}:nan"})
            client.hset("metrics:openrouter:2025-11-27:13", mapping={"total_cost": "inf"})
            client.zadd("latency:openrouter:gpt-4", {"nan:a.1": clock.now, "inf:a.1": clock.now, "1e300:a.1": clock.now})
            client.lpush("errors:openrouter", '{"model": "x", "error": "", "timestamp": 1e300, "latency_ms": 1}')
            client.zadd("circuits", {"a:b": clock.now})
            client.set("circuit:a:b", '{"state": "open", "failure_count": 1, "updated": 1e300}')
        assert await metrics.get_provider_health("openrouter") == 100.0
        assert not {"openrouter", "portkey"} & (await metrics.get_all_provider_health()).keys()
        assert len((await metrics.get_health_history(["openrouter"]))["openrouter"]) == 1
        assert list(await metrics.get_hourly_stats("openrouter", 2)) == ["2025-11-27:14"]
        assert (await metrics.get_latency_percentiles("openrouter", "gpt-4"))["count"] == 1
        assert [one.error for one in await metrics.get_recent_errors("openrouter")] == ["Rate limit exceeded"]
        assert [one.model for one in await metrics.get_circuit_breakers()] == ["meta/llama:70b"]
        await metrics.record_requests([call(success=False)])
        assert await metrics.get_provider_health("openrouter") == 95.0


async def test_cleanup_leaves_what_only_looks_like_ours(server, redis_metrics, call, clock):
    hashes = {"metrics:other", "metrics:a:yesterday", "team:metrics:a:2020-01-01:00", "metrics:shop:2020-01-01:00"}
    others = {"metrics:a:2020-01-01:00": "a string"}
    scored = {
        "latency:game:scores": {"7:anna.1": 12.0, "8:bert.1": 700.0},
        "speed:a:by-moment": {"anna": NOON, "bert:1": NOON},
        "first_token:a:b:c": {"page/7:x": NOON},
    }
    with server.client(decode_responses=True) as client:
        for key in hashes:
            client.hset(key, "a", 1)
        for key, text in others.items():
            client.set(key, text)
        for key, members in scored.items():
            client.zadd(key, members)
        client.hset(b"metrics:\xff:2020-01-01:00", "a", 1)
        async with redis_metrics(server.url) as metrics:
            await metrics.record_request(call())
            clock.now += 3 * 3600
            assert await metrics.cleanup_old_data(hours=2) == 2
        assert client.delete(b"metrics:\xff:2020-01-01:00") == 1
        left = hashes | others.keys() | scored.keys()
        assert left | {"provider_health", "provider_health:openrouter"} == set(client.scan_iter())
        assert {key: dict(client.zrange(key, 0, -1, withscores=True)) for key in scored} == scored


async def test_degraded_100_empty_list_empty_dict(redis_metrics, call):
    async with redis_metrics(f"redis://127.0.0.1:{free_port()}", RedisLimits()) as metrics:
        assert not await metrics.record_requests([call()])
        assert await metrics.get_provider_health("openrouter") == 100.0
        assert await metrics.get_all_provider_health() == {}
        assert await metrics.get_health_history(["openrouter"]) == {}
        assert await metrics.get_recent_errors("openrouter") == []
        assert await metrics.get_hourly_stats("openrouter") == {}
        assert await metrics.get_latency_percentiles("openrouter", "gpt-4") == {}
        assert await metrics.get_circuit_breakers() == []
        assert await metrics.find_health() is None, "not known is not none"
        assert await metrics.find_circuits() is None
        await metrics.update_circuit_breaker("openrouter", "gpt-4", "open", 5)


async def test_it_works_again_when_redis_does(tmp_path, redis_metrics, call):
    with RedisServer(REDIS8, tmp_path) as server:
        async with redis_metrics(server.url, RedisLimits(pause=0.05, place=5.0, call=5.0, connect=5.0, slow=5.0)) as metrics:
            assert await metrics.record_requests([call()])
            server.stop()
            assert not await metrics.record_requests([call()])
            server.start()
            end = time.monotonic() + 60
            while not await metrics.record_requests([call()]):
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            assert (await metrics.get_hourly_stats("openrouter"))["2025-11-27:14"].total_requests == 1
