"""`/api/monitoring`: what the gateway records, alone and with Redis, and what can be wrong with a question."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ports.ledger import Intent, Settled, Spent
from tests.gateway import DEADLINE, HOUR, away_from_the_end_of, chat, one_provider, running_gateway, until
from tests.servers import PATIENT, REDIS8, RedisServer
from tests.still import awake

pytestmark = pytest.mark.anyio

HEALTH, REALTIME, COMPARISON = (
    "/api/monitoring/health",
    "/api/monitoring/stats/realtime",
    "/api/monitoring/providers/comparison",
)
CIRCUITS = "/api/monitoring/circuit-breakers"
BRITTLE = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2", "CIRCUIT_BREAKER_SUCCESS_THRESHOLD": "1"}


def hour_now():
    return f"{datetime.now(UTC):%Y-%m-%d:%H}"


def is_moment(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) is not None


@pytest.fixture(autouse=True)
async def within_an_hour(anyio_backend):
    await away_from_the_end_of(HOUR)


async def recorded(gateway, calls):
    """Wait until so many calls of `mock` are counted."""
    deadline = time.monotonic() + DEADLINE
    while True:
        whole = (await gateway.get(REALTIME)).json
        if whole["total_requests"] >= calls:
            return whole
        assert time.monotonic() < deadline, whole
        await asyncio.sleep(0.02)


@pytest.fixture
async def fresh(chaos, upstream, tmp_path):
    """A gateway of this test alone, without Redis."""
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=BRITTLE) as gateway:
        yield gateway


# --- what the gateway records ---


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_told_of(fresh, text, stream):
    assert (await fresh.ask(chat(text, stream=stream))).status == 200
    whole = await recorded(fresh, 1)
    (hour,) = whole["providers"]["mock"]["hourly_breakdown"].values()
    assert (hour["total_requests"], hour["successful_requests"], hour["failed_requests"]) == (1, 1, 0)
    assert hour["tokens_input"] > 0
    assert hour["tokens_output"] > 0
    assert hour["total_cost"] > 0
    latency = (await fresh.get("/api/monitoring/latency/mock/mock-model?percentiles=50,99.9")).json
    assert latency["count"] == 1
    assert latency["p99_9"] == latency["p50"] > 0
    assert latency["first_token"]["count"] == latency["tokens_per_second"]["count"] == int(stream)
    assert (await fresh.get(f"{HEALTH}/mock")).json["health_score"] == 100.0


async def test_hit_does_not_touch_provider_health(fresh, text):
    await fresh.ask(chat(text))
    whole = await recorded(fresh, 1)
    assert (await fresh.ask(chat(text))).cache == "exact"
    await asyncio.sleep(0.3)  # longer than it takes to record
    again = (await fresh.get(REALTIME)).json
    assert again["providers"] == whole["providers"]


async def test_a_failure_is_told_of_and_lowers_the_health(fresh, upstream, text):
    upstream.script("err=500")
    asked = time.time()
    assert (await fresh.ask(chat(text))).status == 502
    await recorded(fresh, 1)
    (error,) = (await fresh.get("/api/monitoring/errors/mock")).json
    assert (error["model"], error["error"]) == ("mock-model", "mock failed (500).")
    assert asked - 1 < error["timestamp"] < time.time() + 1
    told = (await fresh.get(f"{HEALTH}/mock")).json
    assert (told["health_score"], told["status"]) == (95.0, "healthy")


async def test_a_request_that_is_wrong_does_not(fresh, upstream, text):
    upstream.script("err=400")
    assert (await fresh.ask(chat(text))).status == 400
    await fresh.ask(chat(f"again {text}"))
    await recorded(fresh, 1)
    assert len((await fresh.get("/api/monitoring/errors/mock")).json) == 1
    assert (await fresh.get(f"{HEALTH}/mock")).json["health_score"] == 100.0


async def test_circuits(fresh, upstream, text):
    for number in range(2):
        upstream.script("err=500")
        await fresh.ask(chat(f"{number} {text}"))
    (told,) = (await fresh.get(CIRCUITS)).json
    assert is_moment(told.pop("last_updated"))
    expected = {"provider": "mock", "model": "mock-model", "state": "open", "failure_count": 2, "is_available": False}
    assert told == expected
    await recorded(fresh, 2)
    assert (await fresh.get(COMPARISON)).json["providers"][-1]["open_circuits"] == 1
    assert (await fresh.get(f"{CIRCUITS}/demo")).json == []


# --- more hours than two ---


async def test_the_ledger_tells_of_more_hours_as_what_is_recent_does(fresh, upstream, text):
    await fresh.ask(chat(text))
    upstream.script("err=500")
    await fresh.ask(chat(f"again {text}"))
    recent = (await recorded(fresh, 2))["providers"]["mock"]
    past: dict[str, dict[str, float]] = {}
    async with asyncio.timeout(DEADLINE):
        while past.get("mock", {}).get("total_requests") != 2:  # it is copied into the ledger beside requests
            await asyncio.sleep(0.05)
            answer = await fresh.get(f"{REALTIME}?hours=720")
            past = answer.json.get("providers", {})
    assert past == {"mock": recent}
    hourly = (await fresh.get("/api/monitoring/stats/hourly/mock?hours=3")).json
    assert hourly == {"provider": "mock", "hours": 3, "data": recent["hourly_breakdown"]}
    near, far = [(await fresh.get(f"{COMPARISON}?hours={hours}")).json["providers"] for hours in (2, 3)]
    for one in (*near, *far):
        if (latency := one.pop("avg_latency_ms")) is not None:
            assert latency > 0
    assert near == far


async def test_what_a_provider_did_is_told_when_it_is_configured_no_more(chaos, tmp_path):
    at, names = int((time.time() - 4 * 3600) * 1e6), ("acme", "key_1", "/v1/chat/completions", "old", "gone", "old")
    (tmp_path / "data").mkdir()
    database = make_database(tmp_path / "data", None)
    database.copy([Settled(Intent("1" * 32, 1, at, *names), "answered", Spent(5, 0, 0, 7, 0, 1000, "2026-01-01"), duration=9000)])
    database.close()
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        told = await gateway.get("/api/monitoring/stats/hourly/gone?hours=6")
        assert told.status == 200, told.body
        assert [hour["total_requests"] for hour in told.json["data"].values()] == [1]
        compared = {one["provider"]: one for one in (await gateway.get(f"{COMPARISON}?hours=6")).json["providers"]}
        assert set(compared) == {"mock", "demo", "gone"}
        assert (compared["gone"]["total_requests"], compared["gone"]["health_score"]) == (1, 100.0)
        for path in ("stats/hourly/gone?hours=2", "stats/hourly/nobody?hours=6"):
            assert (await gateway.get(f"/api/monitoring/{path}")).status == 404


async def test_without_a_ledger_two_hours_are_all_there_is(chaos, tmp_path):
    environ = {"SENTINEL_LEDGER__ENABLED": "false"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
        assert (await gateway.get(f"{REALTIME}?hours=2")).status == 200
        for path in (REALTIME, COMPARISON, "/api/monitoring/stats/hourly/mock"):
            refused = await gateway.get(f"{path}?hours=3")
            assert (refused.status, "ledger.enabled" in refused.json["error"]) == (400, True)


# --- with Redis ---


async def test_a_node_tells_what_the_other_has_seen(chaos, upstream, text, tmp_path, redis8):
    redis8.flush()
    environ = BRITTLE | {"REDIS_URL": redis8.url} | PATIENT
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = running_gateway(tmp_path / "a", config=one_provider(chaos.base_url), environ=environ)
    other = running_gateway(tmp_path / "b", config=one_provider(chaos.base_url), environ=environ, alone=False)
    async with one as seen, other as asked:
        await seen.ask(chat(text))
        for number in range(2):
            upstream.script("err=500")
            await seen.ask(chat(f"{number} {text}"))
        assert (await recorded(asked, 3))["providers"]["mock"]["health_score"] == pytest.approx(90.4, abs=0.2)
        with redis8.client() as client:
            await until(lambda: client.exists("circuit:mock:mock-model"))
            assert json.loads(client.get("circuit:mock:mock-model"))["state"] == "open"
        assert [one["state"] for one in (await asked.get(CIRCUITS)).json] == ["open"]
        await asked.request("POST", "/admin/cache/clear", headers=asked.admin)
        with redis8.client() as client:
            assert client.exists("provider_health", f"metrics:mock:{hour_now()}", "latency:mock:mock-model", "errors:mock") == 4


async def test_record_never_blocks_with_frozen_redis(chaos, upstream, text, tmp_path):
    with RedisServer(REDIS8, tmp_path) as server:
        environ = {"REDIS_URL": server.url}
        async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
            await gateway.ask(chat(text))
            await recorded(gateway, 1)
            server.freeze()
            with awake() as clock:
                slowest = 0.0
                for number in range(50):
                    start = clock()
                    assert (await gateway.ask(chat(f"{number} {text}"))).status == 200
                    slowest = max(slowest, clock() - start)
                assert slowest < 2.0  # a call that records would wait for so long
                await until(lambda: gateway.metric('sentinel_events_total{event="monitoring_dropped"}') == 1)
                start = clock()
                assert (await gateway.get(f"{HEALTH}/mock")).json["health_score"] == 100.0
                assert (await gateway.get("/api/monitoring/errors/mock")).json == []
                assert (await gateway.get(REALTIME)).json["providers"] == {}
                assert clock() - start < 10.0
            server.thaw()
            deadline = time.monotonic() + DEADLINE
            while not gateway.metric('sentinel_events_total{event="monitoring_resumed"}'):
                assert time.monotonic() < deadline
                await gateway.ask(chat(f"{time.monotonic()} {text}"))
                await asyncio.sleep(0.2)


# --- what can be wrong with a question ---


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/health/nobody", 404, "no provider 'nobody'. Those that are configured: mock"),
        ("/errors/nobody", 404, "nobody"),
        ("/stats/hourly/nobody", 404, "nobody"),
        ("/circuit-breakers/nobody", 404, "nobody"),
        ("/latency/nobody/x", 404, "nobody"),
        ("/errors/mock?limit=0", 400, "limit"),
        ("/errors/mock?limit=1001", 400, "limit"),
        ("/stats/realtime?hours=0", 400, "hours"),
        ("/stats/realtime?hours=721", 400, "hours"),
        ("/stats/hourly/mock?hours=x", 400, "hours"),
        ("/latency/mock/x?percentiles=", 400, "percentiles"),
        ("/latency/mock/x?percentiles=0", 400, "percentiles"),
        ("/latency/mock/x?percentiles=101", 400, "percentiles"),
        ("/latency/mock/x?percentiles=nan", 400, "percentiles"),
        ("/latency/mock/x?percentiles=99.99999,100", 400, "4 decimals"),
        ("/latency/mock/x?percentiles=" + ",".join(map(str, range(1, 23))), 400, "percentiles"),
        ("/nothing", 404, "Unknown path"),
    ],
)
async def test_a_question_that_is_wrong(gateway, path, status, said):
    answer = await gateway.get(f"/api/monitoring{path}")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json["error"]


async def test_model_with_slash_and_colon(gateway):
    told = (await gateway.get("/api/monitoring/latency/mock/meta/llama-3:70b%20x")).json
    assert told["model"] == "meta/llama-3:70b x"
    assert told["count"] == 0


async def test_head_is_as_get_without_a_body(gateway):
    answer = await gateway.request("HEAD", HEALTH)
    assert (answer.status, answer.body) == (200, b"")


async def test_it_is_for_readers(fresh):
    key = await fresh.key(scopes=["inference"])
    reader = await fresh.key(scopes=["read"])
    assert (await fresh.get(HEALTH)).status == 401
    assert (await fresh.get(HEALTH, headers={"authorization": f"Bearer {key}"})).status == 403
    assert (await fresh.get(HEALTH, headers={"authorization": f"Bearer {reader}"})).status == 200
