"""Probes, health and metrics, as the seeds' load balancers and Prometheus ask for them."""

import asyncio
import re
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel_gateway import __version__
from sentinel_gateway.errors import ConfigurationError
from tests.gateway import DEADLINE, chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

GETS = ("/livez", "/healthz", "/ready", "/readyz", "/health", "/metrics", "/v1/metrics")
BUCKETS = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]
PROBLEM = {"type", "title", "status", "detail", "error", "code"}


async def samples(gateway, **how) -> dict[str, dict[tuple, float]]:
    """All samples of the metrics as Prometheus reads them: by name, then by labels."""
    answer = await gateway.get("/metrics", **how)
    assert answer.status == 200
    read: dict[str, dict[tuple, float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            read.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return read


# --- probes ---


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_the_process_answers(gateway, path):
    answer = await gateway.get(path)
    assert (answer.status, answer.json) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
async def test_this_node_can_serve(gateway, path):
    answer = await gateway.get(path)
    assert (answer.status, answer.json, answer.headers["cache-control"]) == (200, {"status": "ready"}, "no-store")


@pytest.mark.parametrize("path", GETS)
async def test_head_works_on_every_get(gateway, path):
    wire = await gateway.connect()
    for method in ("HEAD", "GET"):
        wire.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, whole = await wire.answer("HEAD"), await wire.answer("GET")
    await wire.close()
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    assert whole.body


async def test_health(gateway):
    """Seed 000's shape and seed 001's fields."""
    answer = await gateway.get("/health")
    assert answer.status == 200
    health = answer.json
    assert health.pop("services") == {
        "redis": {"status": "disabled"},
        "qdrant": {"status": "disabled"},
        "embeddings": {"status": "disabled"},
        "disk": {"status": "up"},
        "ledger": {"status": "up"},
    }
    when = datetime.strptime(health.pop("timestamp"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - when) < timedelta(seconds=10)
    assert type(health.pop("uptime_secs")) is int
    assert health == {
        "status": "healthy",
        "service": "sentinel",
        "version": __version__,
        "redis_connected": False,
        "python_initialized": True,
        "cache_size": 0,
        "circuit_breakers": {},
    }


async def test_health_counts_what_is_kept(gateway, upstream, text):
    before = (await gateway.get("/health")).json["cache_size"]
    await gateway.ask(chat(text))
    assert (await gateway.get("/health")).json["cache_size"] == before + 1


async def test_service_version_is_the_operator_s(upstream, tmp_path):
    async with running_gateway(tmp_path, environ={"SERVICE_NAME": "ours", "SERVICE_VERSION": "7.7"}) as gateway:
        assert (await gateway.get("/health")).json["version"] == "7.7"


async def test_without_a_disk_tier(chaos, upstream, text, tmp_path):
    config = f"{one_provider(chaos.base_url)}\ncache: {{disk: {{enabled: false}}}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        assert "disk" not in (await gateway.get("/health")).json["services"]
        assert list((await gateway.ask(chat(text))).tiers) == ["sentinel-memory"]
        assert (await gateway.ask(chat(text))).cache == "exact"
        assert await gateway.stored() == 1


async def test_a_disk_that_does_not_answer(chaos, upstream, text, tmp_path):
    """Another holds its file: unhealthy, but every request is served; healthy again by itself."""
    (tmp_path / "data").mkdir()
    other = sqlite3.connect(tmp_path / "data" / "cache.db", timeout=0, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), patient=False) as gateway:
        answer = await gateway.get("/health")
        assert (answer.status, answer.json["status"]) == (503, "unhealthy")
        assert answer.json["services"]["disk"] == {"status": "down"}
        assert (await gateway.get("/livez")).status == 200
        assert (await gateway.get("/ready")).status == 200, "a node without its disk still serves"
        stats = await gateway.get("/admin/stats", headers=gateway.admin)
        assert (stats.status, stats.json["services"]["disk"]) == (200, "down")

        miss = await gateway.ask(chat(text))
        assert miss.status == 200
        assert (miss.tiers["sentinel-disk"]["fwd"], miss.tiers["sentinel-disk"]["detail"]) == ("miss", "tier-down")
        assert (await gateway.ask(chat(text))).cache == "exact", "memory still answers"

        other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(DEADLINE):
            while (await gateway.get("/health")).status != 200:  # noqa: ASYNC110 - it happens in a thread
                await asyncio.sleep(0.02)
        _, after = await gateway.ask_in_time(chat(f"{text} after"))
        assert after.tiers["sentinel-disk"] == {"fwd": "uri-miss", "stored": True}


async def test_a_disk_that_is_not_there(chaos, upstream, text, tmp_path):
    """Something else stands in its place: the same, until it is gone."""
    (tmp_path / "data" / "cache.db").mkdir(parents=True)
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), patient=False) as gateway:
        assert (await gateway.get("/health")).status == 503
        assert (await gateway.ask(chat(text))).status == 200
        refused = await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin)
        assert (refused.status, refused.json["code"]) == (503, "cache_clear_failed")
        assert refused.json["error"].startswith("Failed to clear")
        assert {"retry-after", "retry-after-ms"} <= refused.headers.keys()
        assert (await gateway.ask(chat(text))).cache == "miss", "memory was cleared"


async def test_without_a_folder_nothing_starts(tmp_path):
    """What must last can't be kept there: keys, the secret, the audit log."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="make the folder writable"):
        async with running_gateway(tmp_path, environ={"SENTINEL_DATA_DIR": str(tmp_path / "file" / "data")}):
            pass


async def test_not_ready_while_draining(chaos, upstream, text, tmp_path):
    """Balancers are told first; who is here is served to the end."""
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        gateway.process.drain()
        for path in ("/ready", "/readyz"):
            answer = await gateway.get(path)
            assert (answer.status, answer.json["status"]) == (503, "not ready")
            assert "draining" in answer.json["error"]
        assert (await gateway.get("/livez")).status == 200
        assert (await gateway.get("/health")).status == 200
        assert (await gateway.ask(chat(text))).status == 200


async def test_not_ready_without_a_provider(tmp_path):
    async with running_gateway(tmp_path, config="providers: {demo: {enabled: false}}") as gateway:
        answer = await gateway.get("/ready")
        assert answer.status == 503
        assert "providers.demo.enabled" in answer.json["error"]
        assert (await gateway.get("/v1/models")).json["data"] == []
        assert (await gateway.ask(chat("Hello", "demo"))).status == 404


# --- metrics ---


async def test_content_type_0_0_4(gateway):
    assert (await gateway.get("/metrics")).headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_of_seed_002(gateway, upstream, text):
    upstream.script("err=429")
    for body in (chat(text), chat(text), chat(f"{text} limited"), chat(text, n=0)):
        await gateway.ask(body)
    read = await samples(gateway)
    assert {"requests_total", "upstream_errors_total", "active_connections", "rate_limiter_buckets"} <= read.keys()
    assert {"request_latency_seconds_bucket", "request_latency_seconds_count", "request_latency_seconds_sum"} <= read.keys()
    assert not any(name.endswith("_created") for name in read)
    chats = {status: value for labels, value in read["requests_total"].items() if (status := _status_of_chat(labels))}
    assert {"200", "400", "429"} <= chats.keys()
    of_chats = [dict(labels)["le"] for labels in read["request_latency_seconds_bucket"] if _is_chat(labels)]
    assert of_chats == BUCKETS
    counts = [value for labels, value in read["request_latency_seconds_bucket"].items() if _is_chat(labels)]
    assert counts == sorted(counts)
    assert counts[-1] == sum(chats.values())


def _is_chat(labels) -> bool:
    return dict(labels)["route"] == "/v1/chat/completions"


def _status_of_chat(labels) -> str:
    return dict(labels)["status"] if _is_chat(labels) else ""


async def test_metrics_counts_itself(gateway):
    one = (("method", "GET"), ("route", "/metrics"), ("status", "200"))
    first = (await samples(gateway))["requests_total"].get(one, 0)
    assert (await samples(gateway))["requests_total"][one] == first + 1
    assert (("route", "/metrics"),) in (await samples(gateway))["request_latency_seconds_count"]


async def test_paths_never_become_labels(gateway):
    await samples(gateway)
    before = len((await samples(gateway))["requests_total"])
    for number in range(20):
        await gateway.get(f"/nowhere/{number}")
        await gateway.get(f"/v1/nowhere/{number}")
        await gateway.get(f"/v1/models/demo-fail-4{number:02}")
    read = await samples(gateway)
    routes = {dict(labels)["route"] for labels in read["requests_total"]}
    assert "unmatched" in routes
    assert "/v1/models/{model}" in routes
    assert not any(re.search(r"\d", route.removeprefix("/v1")) for route in routes)
    assert len(read["requests_total"]) <= before + 3


async def test_odd_methods_never_become_labels(gateway):
    wire = await gateway.connect()
    for method in ("PROPFIND", "LOCK", "REPORT"):
        wire.send(f"{method} /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await wire.answer("GET")).status == 405
    await wire.close()
    methods = {dict(labels)["method"] for labels in (await samples(gateway))["requests_total"]}
    assert methods <= {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"}


async def test_active_connections_counts_idle_keepalive(gateway):
    wires = [await gateway.connect() for _ in range(5)]
    for wire in wires[:3]:
        wire.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wire.answer("GET")
    own = 1  # the one that asks
    await until(lambda: gateway.metric("active_connections") >= 5)
    (count,) = (await samples(gateway))["active_connections"].values()
    assert count == 5 + own
    for wire in wires:
        await wire.close()
    await until(lambda: gateway.metric("active_connections") == own)


async def test_places_are_shown_while_they_are_held(gateway, upstream, text):
    upstream.script("latency_ms=60000")
    wire = await gateway.connect()
    body = b'{"model":"mock-model","messages":[{"role":"user","content":"held?"}]}'
    wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await until(lambda: upstream.count == 1)
    assert (await samples(gateway))["sentinel_in_flight"] == {(): 1.0}
    upstream.go_on()
    await wire.answer()
    await wire.close()
    await until(lambda: gateway.places() == 0)
    assert (await samples(gateway))["sentinel_in_flight"] == {(): 0.0}


async def test_what_the_cache_did_is_counted(chaos, upstream, text, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        usage = (await gateway.ask(chat(text))).json["usage"]
        await gateway.ask(chat(text, stream=True))
        await gateway.ask(chat(text), x_bypass_cache="true")
        read = await samples(gateway)
        outcomes = {dict(labels)["outcome"]: value for labels, value in read["sentinel_cache_requests_total"].items()}
        assert outcomes == {"miss": 1, "exact": 1, "bypass": 1}
        assert read["sentinel_stored_total"] == {(): 1.0}
        tokens = {tuple(value for _, value in labels): count for labels, count in read["sentinel_tokens_total"].items()}
        assert tokens["cache", "completion"] == usage["completion_tokens"]
        assert tokens["provider", "prompt"] == 2 * usage["prompt_tokens"]


async def test_504s_that_were_asked_for_are_told_apart(upstream, text, tmp_path):
    asked = {
        "/v1/chat/completions": chat(text),
        "/chat/completions": chat(text),
        "/v1/messages": chat(text, max_tokens=9),
        "/v1/embeddings": {"model": "mock-model", "input": text},
        "/v1/query": {"prompt": text, "model": "mock-model"},
    }
    async with running_gateway(tmp_path, config=one_provider(upstream.base_url)) as gateway:
        for path, body in asked.items():
            assert (await gateway.ask(body, path, cache_control="only-if-cached")).status == 504, path
        read = await samples(gateway)
    assert read["sentinel_not_cached_total"] == {(): 5.0}
    none, failed = (("outcome", "exact"), ("tier", "memory")), (("outcome", "failed"), ("tier", "none"))
    assert read["sentinel_cache_requests_total"] == {none: 0.0, failed: 5.0}
    shown = {(labels["route"], labels["status"]) for labels in map(dict, read["requests_total"])}
    assert shown == {(path, "504") for path in asked if path.startswith("/v1/")}, "which the rules look at"
    assert upstream.count == 0


async def test_nothing_of_a_request_is_in_the_metrics(gateway, upstream):
    marks = ("canary-prompt", "canary-model", "canary-user", "canary-namespace", "canary-id", "canary-key")
    await gateway.ask(
        chat(marks[0], marks[1], user=marks[2]),
        x_cache_namespace=marks[3],
        x_request_id=marks[4],
        authorization=f"Bearer {marks[5]}",
    )
    await gateway.get("/canary-path?canary=1")
    body = (await gateway.get("/metrics")).body.decode()
    assert "canary" not in body
    assert "key-of-mock" not in body


# --- everything else ---


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("GET", "/nowhere", 404, "unknown_url"),
        ("POST", "/nowhere", 404, "unknown_url"),
        ("GET", "/redoc", 404, "unknown_url"),
        ("GET", "/admin", 404, "unknown_url"),
        ("GET", "/V1/models", 404, "unknown_url"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("DELETE", "/metrics", 405, "method_not_allowed"),
        ("PUT", "/health", 405, "method_not_allowed"),
        ("GET", "/admin/cache/clear", 405, "method_not_allowed"),
    ],
)
async def test_error_member_in_problem_json(gateway, method, path, status, code):
    answer = await gateway.request(method, path, headers=gateway.admin)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem.keys() == PROBLEM
    assert (problem["status"], problem["code"], problem["error"]) == (status, code, problem["detail"])
    assert problem["title"] in {"Not Found", "Method Not Allowed"}
    assert answer.headers["cache-control"] == "private, no-store"
    assert {"x-request-id", "x-sentinel-id"} <= answer.headers.keys()
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("POST", "/livez", "GET, HEAD"), ("DELETE", "/admin/stats", "GET, HEAD"), ("GET", "/admin/cache/clear", "POST")],
)
async def test_what_is_allowed_instead(gateway, method, path, allow):
    answer = await gateway.request(method, path, headers=gateway.admin)
    assert (answer.status, answer.headers["allow"]) == (405, allow)
