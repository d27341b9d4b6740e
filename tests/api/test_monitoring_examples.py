"""Seed 004's four printed examples, to the field, and the members of the other five direct endpoints.

What they tell of is in Redis under seed 004's keys, and it is not this gateway that has put it there.
"""

import json
import time
from datetime import UTC, datetime

import pytest

from tests.gateway import HOUR, away_from_the_end_of, provider, running_gateway
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

HEALTH = "/api/monitoring/health"
REALTIME = "/api/monitoring/stats/realtime"
COMPARISON = "/api/monitoring/providers/comparison"
CIRCUITS = "/api/monitoring/circuit-breakers"
NOTHING = {"count": 0, "avg": None, "p50": None, "p95": None, "p99": None}


def hour_now():
    return f"{datetime.now(UTC):%Y-%m-%d:%H}"


@pytest.fixture(scope="module")
async def as_printed(chaos, redis8, tmp_path_factory):
    """The gateway."""
    redis8.flush()
    await away_from_the_end_of(HOUR, 60.0)
    hour = hour_now()
    with redis8.client() as client:
        for name, score in (("openrouter", 95.0), ("portkey", 85.0)):
            client.zadd("provider_health", {name: score})
        hours = {"total_requests": 1500, "successful_requests": 1425, "failed_requests": 75}
        hours |= {"tokens_input": 75000, "tokens_output": 37500, "total_cost": 12.5}
        client.hset(f"metrics:openrouter:{hour}", mapping=hours)
        client.zadd("latency:openrouter:gpt-4", {f"{ms}:{number}": time.time() for number, ms in enumerate((1100, 1401))})
        error = {"model": "gpt-4", "error": "Rate limit exceeded", "timestamp": 1732723200.5, "latency_ms": 1500}
        client.rpush("errors:openrouter", json.dumps(error))
    config = f"providers:\n{provider('openrouter', chaos.base_url)}{provider('portkey', chaos.base_url)}"
    environ = {"REDIS_URL": redis8.url, "SENTINEL_PROVIDERS__DEMO__ENABLED": "false"} | PATIENT
    async with running_gateway(tmp_path_factory.mktemp("printed"), config=config, environ=environ) as gateway:
        yield gateway


def is_moment(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) is not None


async def test_golden_health(as_printed):
    answer = await as_printed.get(HEALTH)
    assert answer.headers["content-type"] == "application/json"
    first, second = answer.json
    assert is_moment(first.pop("last_updated"))
    assert is_moment(second.pop("last_updated"))
    ours = {"predicted_score": 95.0}, {"predicted_score": 85.0}
    assert first == {"provider": "openrouter", "health_score": 95.0, "status": "healthy"} | ours[0]
    assert second == {"provider": "portkey", "health_score": 85.0, "status": "healthy"} | ours[1]
    one = (await as_printed.get(f"{HEALTH}/portkey")).json
    assert one == second | {"last_updated": one["last_updated"]}


async def test_golden_realtime(as_printed):
    told = (await as_printed.get(f"{REALTIME}?hours=1")).json
    assert is_moment(told.pop("timestamp"))
    hour = {
        "total_requests": 1500,
        "successful_requests": 1425,
        "failed_requests": 75,
        "tokens_input": 75000,
        "tokens_output": 37500,
        "total_cost": 12.50,
    }
    openrouter = {"total_requests": 1500, "total_cost": 12.50, "health_score": 95.0, "hourly_breakdown": {hour_now(): hour}}
    assert told == {
        "providers": {"openrouter": openrouter},
        "total_requests": 1500,
        "total_cost": 12.50,
        "avg_health_score": 95.0,
    }


async def test_golden_latency(as_printed):
    told = (await as_printed.get("/api/monitoring/latency/openrouter/gpt-4?percentiles=50,95,99")).json
    ours = {"first_token": NOTHING, "tokens_per_second": NOTHING}
    figures = {"count": 2, "avg": 1250.5, "p50": 1250.5, "p95": 1385.95, "p99": 1397.99}
    assert told == {"provider": "openrouter", "model": "gpt-4"} | figures | ours


async def test_golden_errors(as_printed):
    told = (await as_printed.get("/api/monitoring/errors/openrouter?limit=10")).json
    assert told == [{"model": "gpt-4", "error": "Rate limit exceeded", "timestamp": 1732723200.5, "latency_ms": 1500}]


async def test_the_other_five_have_their_members(as_printed):
    hourly = (await as_printed.get("/api/monitoring/stats/hourly/openrouter?hours=2")).json
    assert (hourly["provider"], hourly["hours"], list(hourly["data"])) == ("openrouter", 2, [hour_now()])
    compared = (await as_printed.get(COMPARISON)).json
    assert compared.keys() == {"timestamp", "providers", "total_providers"}
    first, second = compared["providers"]
    assert (first["provider"], first["error_rate"], first["cost_per_request"]) == ("openrouter", 0.05, round(12.5 / 1500, 9))
    assert (second["provider"], second["total_requests"], second["error_rate"]) == ("portkey", 0, None)
    assert (await as_printed.get(CIRCUITS)).json == []
    assert (await as_printed.get(f"{CIRCUITS}/portkey")).json == []
