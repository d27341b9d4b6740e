"""Seed 003's own face, as a client written against the seed uses it: `POST /v1/query` and `GET /v1/metrics`."""

import asyncio
import json
import sqlite3
import time

import pytest

from sentinel_gateway.stores import _sqlite_rows
from tests.gateway import chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

QUERY = "/v1/query"
MEMBERS = [
    "response",
    "cache_hit",
    "similarity_score",
    "matched_prompt",
    "provider",
    "model",
    "tokens_used",
    "latency_ms",
]
"""In the seed's order."""
PROBLEM = {"type", "title", "status", "detail", "error", "code"}
FIGURES = ["total_requests", "cache_hits", "cache_misses", "hit_rate_percent", "stored_items"]
QUERIES = 'requests_total{method="POST",route="/v1/query",status="%d"}'


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """A default route to `mock`."""
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


async def query(gateway, prompt, /, headers=None, **fields):
    """Ask it, whatever comes back."""
    return await gateway.ask({"prompt": prompt, **fields}, QUERY, **(headers or {}))


def answered(answer) -> dict:
    """The members of a good answer; there are always the same, of the same types."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    said = answer.json
    assert list(said) == MEMBERS
    assert [type(said[name]) for name in ("response", "cache_hit", "provider", "model")] == [str, bool, str, str]
    assert type(said["tokens_used"]) is int
    assert type(said["latency_ms"]) is float
    assert 0 < said["latency_ms"] < 60_000
    assert isinstance(said["similarity_score"], float | None)
    assert (said["similarity_score"] is None) == (said["matched_prompt"] is None) == (not said["cache_hit"])
    return said


def problem(answer, status: int, code: str) -> dict:
    """The members of a problem document."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "private, no-store"
    assert {"x-request-id", "x-sentinel-id"} <= answer.headers.keys()
    document = answer.json
    assert document.keys() - {"errors"} == PROBLEM
    assert (document["status"], document["code"], document["error"]) == (status, code, document["detail"])
    return document


async def figures(gateway) -> dict:
    answer = await gateway.get("/v1/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json
    assert list(told) == [*FIGURES, "cost_usd", "saved_usd"]
    assert [type(value) for value in told.values()] == [int, int, int, float, int, float, float]
    return {name: told[name] for name in FIGURES}


# --- what the seed promises ---


async def test_query_prompt_only_keyless(upstream, tmp_path, text):
    async with running_gateway(tmp_path) as gateway:
        first = answered(await query(gateway, text))
        assert f"You asked: {text}" in first["response"]
        assert (first["provider"], first["model"], first["cache_hit"]) == ("demo", "demo", False)
        assert answered(await query(gateway, text))["cache_hit"]
        assert answered(await query(gateway, text, provider="demo"))["cache_hit"], "the same by another name"


async def test_bare_model_with_only_groq_key(chaos, upstream, tmp_path, text):
    """What the seed's curl lines send; and its default model where they send none."""
    async with running_gateway(tmp_path, environ=groq(chaos)) as gateway:
        answers = [
            answered(await query(gateway, text, **more))
            for more in ({"model": "mixtral-8x7b-32768"}, {"provider": "groq", "model": "mixtral-8x7b-32768"}, {})
        ]
    assert [(said["provider"], said["model"], said["cache_hit"]) for said in answers] == [
        ("groq", "mixtral-8x7b-32768", False),
        ("groq", "mixtral-8x7b-32768", True),
        ("groq", "llama-3.3-70b-versatile", False),
    ]
    asked = [call for call in upstream.calls if call.method == "POST"]
    assert [call.body["model"] for call in asked] == ["mixtral-8x7b-32768", "llama-3.3-70b-versatile"]
    assert {call.headers["authorization"] for call in asked} == {"Bearer gsk_not-a-real-key"}


async def test_the_provider_is_asked_what_the_query_means(gateway, upstream, text):
    await query(gateway, text)
    await query(gateway, text, temperature=1, max_tokens=7, similarity_threshold=0.9, model="mock-small")
    first, second = (call.body for call in upstream.calls)
    asked = [{"role": "user", "content": text}]
    assert first == {"model": "mock-model", "messages": asked, "temperature": 0.7, "max_tokens": 500}
    assert second == {"model": "mock-small", "messages": asked, "temperature": 1.0, "max_tokens": 7}


async def test_similarity_null_1_0_float(gateway, upstream, text):
    miss, hit = await query(gateway, text), await query(gateway, text)
    assert b'"similarity_score":null' in miss.body
    assert b'"similarity_score":1.0' in hit.body
    assert (answered(miss)["matched_prompt"], answered(hit)["matched_prompt"]) == (None, text)
    assert (miss.cache, hit.cache) == ("miss", "exact")
    assert upstream.count == 1


@pytest.mark.parametrize("asked_before", [False, True])
async def test_the_same_again_under_an_idempotency_key_is_the_same_answer(gateway, upstream, text, asked_before):
    if asked_before:
        await query(gateway, text)
    key = {"idempotency-key": f"{text} {asked_before}".replace(" ", "-")}
    first, again = [await query(gateway, text, key) for _ in range(2)]
    assert again.headers["idempotent-replayed"] == "true"
    assert answered(first) | {"latency_ms": 0} == answered(again) | {"latency_ms": 0}
    assert answered(again)["cache_hit"] is asked_before
    assert answered(again)["provider"] == "mock"


async def test_tokens_used_zero_on_hit(gateway, upstream, text):
    miss, hit = answered(await query(gateway, text)), answered(await query(gateway, text))
    (call,) = upstream.calls
    assert miss["tokens_used"] == len(call.raw_body) // 4 + call.tokens_sent > 0
    assert hit["tokens_used"] == 0
    assert miss["response"] == hit["response"]
    assert miss["response"].endswith(f"to: {text[:60]}")


async def test_usage_that_nobody_reports_is_zero(gateway, upstream, text):
    upstream.script("usage=absent")
    assert answered(await query(gateway, text))["tokens_used"] == 0


async def test_query_default_temperature_and_threshold_are_no_other_question(gateway, upstream, text):
    await query(gateway, text)
    same = {"temperature": 0.7, "max_tokens": 500, "provider": "mock", "similarity_threshold": 0.99}
    assert answered(await query(gateway, text, **same))["cache_hit"]
    assert not answered(await query(gateway, text, temperature=0.71))["cache_hit"]
    assert upstream.count == 2


async def test_a_query_at_the_default_temperature_is_kept_for_a_day(gateway, upstream, text):
    day = await query(gateway, text, {"x-cache-explain": "true"})
    hour = await query(gateway, text, {"x-cache-explain": "true"}, temperature=0.8)
    stored = [int(answer.headers["x-cache-explain"].partition("stored for ")[2].split()[0]) for answer in (day, hour)]
    assert 0.9 * 86_400 <= stored[0] <= 86_400
    assert 0.9 * 3_600 <= stored[1] <= 3_600


async def test_what_a_chat_was_answered_is_no_answer_to_a_query(gateway, upstream, text):
    await gateway.ask(chat(text, temperature=0.7, max_tokens=500))
    assert not answered(await query(gateway, text))["cache_hit"]


async def test_walkthrough_steps_5_to_8(chaos, upstream, tmp_path):
    """Steps 5, 6 and 8 with the seed's own bodies. Its figures of time and similarity are not ours."""
    async with running_gateway(tmp_path, environ=groq(chaos), semantic=True) as gateway:
        body = {"prompt": "What is 2+2?", "model": "mixtral-8x7b-32768"}
        first, second = [answered(await gateway.ask(body, QUERY)) for _ in range(2)]
        assert (first["cache_hit"], first["similarity_score"], first["provider"]) == (False, None, "groq")
        assert (first["model"], first["tokens_used"] > 0) == ("mixtral-8x7b-32768", True)
        assert (second["cache_hit"], second["similarity_score"], second["provider"]) == (True, 1.0, "groq")
        assert second["response"] == first["response"]

        in_words = body | {"prompt": "What is two plus two?", "similarity_threshold": 0.75}
        third = answered(await gateway.ask(in_words, QUERY))
        assert (third["cache_hit"], third["matched_prompt"], third["provider"]) == (True, "What is 2+2?", "groq")
        assert 0.75 <= third["similarity_score"] < 1
        assert (third["response"], third["tokens_used"]) == (first["response"], 0)

        for prompt in ("What is AI?", "What is AI?", "What is machine learning?"):
            await gateway.ask(body | {"prompt": prompt}, QUERY)
        counted = await figures(gateway)
    assert counted == {"total_requests": 6, "cache_hits": 3, "cache_misses": 3, "hit_rate_percent": 50.0, "stored_items": 3}
    assert upstream_questions(upstream) == 3


def upstream_questions(upstream) -> int:
    return sum(call.method == "POST" for call in upstream.calls)


def groq(chaos) -> dict[str, str]:
    return {"GROQ_API_KEY": "gsk_not-a-real-key", "GROQ_BASE_URL": chaos.base_url}


# --- reworded ---


@pytest.fixture(scope="module")
async def semantic(chaos, tmp_path_factory):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    async with running_gateway(tmp_path_factory.mktemp("semantic"), config=config, semantic=True) as gateway:
        yield gateway


async def test_two_plus_two_in_words_hits_at_0_75(semantic, upstream):
    namespace = {"x-cache-namespace": "two-plus-two"}
    await query(semantic, "What is 2+2?", namespace)
    other = await query(semantic, "What is 2+3?", namespace | {"cache-control": "no-store"}, similarity_threshold=0.75)
    assert not answered(other)["cache_hit"]
    assert not answered(await query(semantic, "What is two plus two?", namespace | {"cache-control": "no-store"}))["cache_hit"]
    said = answered(await query(semantic, "What is two plus two?", namespace, similarity_threshold=0.75))
    assert (said["cache_hit"], said["matched_prompt"], round(said["similarity_score"], 2)) == (True, "What is 2+2?", 0.83)


async def test_a_semantic_hit_comes_again_as_one(semantic, upstream):
    fields, headers = {"similarity_threshold": 0.75}, {"x-cache-namespace": "again"}
    await query(semantic, "What is 2+2?", headers)
    first, again = [
        answered(await query(semantic, "What is two plus two?", headers | {"idempotency-key": "2+2"}, **fields)) for _ in range(2)
    ]
    assert first["matched_prompt"] == "What is 2+2?"
    assert first | {"latency_ms": 0} == again | {"latency_ms": 0}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("What is machine learning?", "What exactly is machine learning?"),
        ("How do I reset my password?", "How can I reset my password?"),
        ("What is the capital of France?", "Which city is the capital of France?"),
    ],
)
async def test_threshold_just_below_hits_just_above_misses(semantic, upstream, stored, asked):
    """Around the cosine that is measured, not around the seed's figures."""
    namespace = {"x-cache-namespace": stored.replace(" ", "-").strip("?")}
    await query(semantic, stored, namespace)
    measured = answered(await query(semantic, asked, namespace, similarity_threshold=0.7))["similarity_score"]
    assert 0.8 < measured < 1
    above = await query(semantic, asked, namespace | {"cache-control": "no-store"}, similarity_threshold=measured + 1e-4)
    below = await query(semantic, asked, namespace, similarity_threshold=measured - 1e-4)
    assert (answered(above)["cache_hit"], answered(below)["cache_hit"]) == (False, True)


async def test_a_threshold_below_the_operators_least_is_raised(semantic, upstream):
    namespace = {"x-cache-namespace": "least"}
    await query(semantic, "What is machine learning?", namespace)
    answer = await query(semantic, "ML explained", namespace, similarity_threshold=0)
    assert not answered(answer)["cache_hit"]
    assert answer.tiers["sentinel-vector"]["detail"] == "below-threshold"


async def test_query_default_temperature_hits_semantically(semantic, upstream):
    namespace = {"x-cache-namespace": "temperature"}
    await query(semantic, "How do I reset my password?", namespace)
    said = answered(await query(semantic, "How can I reset my password?", namespace, temperature=0.7))
    assert (said["cache_hit"], said["matched_prompt"]) == (True, "How do I reset my password?")


async def test_a_header_and_a_member_agree_on_the_threshold(semantic, upstream):
    namespace = {"x-cache-namespace": "header"}
    await query(semantic, "What is the capital of France?", namespace)
    asked = "Which city is the capital of France?"
    low = namespace | {"x-similarity-threshold": "0.8", "cache-control": "no-store"}
    assert not answered(await query(semantic, asked, low, similarity_threshold=0.99))["cache_hit"]
    assert answered(await query(semantic, asked, low))["cache_hit"]


# --- the same path as every other request ---


@pytest.mark.parametrize(
    ("header", "value", "cache", "kept"),
    [
        ("x-bypass-cache", "true", "bypass", False),
        ("x-cache-ttl", "0", "miss", False),
        ("cache-control", "no-store", "miss", False),
        ("cache-control", "no-cache", "miss", True),
    ],
)
async def test_the_cache_s_headers_hold(gateway, upstream, text, header, value, cache, kept):
    answer = await query(gateway, text, {header: value})
    assert answered(answer)["cache_hit"] is False
    assert answer.cache == cache
    assert answer.headers["cache-control"] == "private, no-store"
    found = await query(gateway, text, {"cache-control": "only-if-cached"})
    assert found.status == (200 if kept else 504)
    if not kept:
        problem(found, 504, "cache_miss")


async def test_a_hit_says_where_it_came_from(gateway, upstream, text):
    await query(gateway, text)
    hit = await query(gateway, text, {"x-cache-explain": "true"})
    assert hit.tiers["sentinel-memory"]["hit"]
    assert int(hit.headers["age"]) >= 0
    assert "target=mock/mock-model" in hit.headers["x-cache-explain"]


async def test_a_long_answer_is_compressed(gateway, upstream, text):
    upstream.script("huge=5000")
    answer = await query(gateway, text, {"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answered(answer)["response"]) > 5000


async def test_it_is_counted_and_takes_places_as_every_other(gateway, upstream, text):
    before = gateway.metric(QUERIES % 200), gateway.metric(QUERIES % 422)
    upstream.script("latency_ms=60000")
    asking = asyncio.create_task(query(gateway, text))
    await until(lambda: gateway.places() == 1 and upstream.count)
    upstream.go_on()
    answered(await asking)
    await until(lambda: gateway.places() == 0)
    await query(gateway, "")
    assert (gateway.metric(QUERIES % 200), gateway.metric(QUERIES % 422)) == (before[0] + 1, before[1] + 1)


async def test_who_leaves_lets_the_provider_go(gateway, upstream, text):
    left = gateway.metric(QUERIES % 499)
    upstream.script("latency_ms=60000")
    wire = await gateway.connect()
    wire.send(post({"prompt": text}, QUERY))
    await until(lambda: upstream.count == 1)
    start = time.monotonic()
    await wire.close()
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at - start < 5.0, "a minute before the provider would have ended it"
    await until(lambda: gateway.metric(QUERIES % 499) == left + 1)


async def test_a_full_gateway_says_so(chaos, upstream, tmp_path, text):
    environ = {
        "SENTINEL_SERVER__MAX_IN_FLIGHT": "1",
        "SENTINEL_SERVER__QUEUE": "0",
        "SENTINEL_ROUTING__DEFAULT": "mock/mock-model",
    }
    async with running_gateway(tmp_path, environ=environ, config=one_provider(chaos.base_url)) as gateway:
        upstream.script("latency_ms=60000")
        asking = asyncio.create_task(gateway.ask(chat(text)))
        await until(lambda: upstream.count == 1)
        refused = await query(gateway, text)
        problem(refused, 503, "server_is_overloaded")
        assert {"retry-after", "retry-after-ms"} <= refused.headers.keys()
        upstream.go_on()
        assert (await asking).status == 200
    assert upstream.count == 1


# --- errors ---


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"temperature": "hot"}, [["body", "prompt"], ["body", "temperature"]]),
        ({"prompt": ""}, [["body", "prompt"]]),
        ({"prompt": "a", "similarity_threshold": 1.5}, [["body", "similarity_threshold"]]),
        ({"prompt": "a", "max_tokens": 0}, [["body", "max_tokens"]]),
        (b'{"prompt": ', [["body"]]),
        (b"[]", [["body"]]),
    ],
)
async def test_query_validation(gateway, upstream, body, places):
    answer = await gateway.ask(body, QUERY)
    document = problem(answer, 422, "invalid_value")
    assert [fault["loc"] for fault in document["errors"]] == places
    assert all(fault.keys() == {"loc", "msg"} and fault["msg"] for fault in document["errors"])
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.count == 0


async def test_groq_api_key_not_configured(gateway, upstream, text):
    """Asked for by name, a provider that is off is never replaced by another."""
    answer = await query(gateway, text, provider="groq", model="mixtral-8x7b-32768")
    assert problem(answer, 404, "model_not_found")["error"].startswith("GROQ_API_KEY not configured")
    assert upstream.count == 0


async def test_no_default_route(chaos, upstream, tmp_path, text):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        document = problem(await query(gateway, text), 422, "invalid_value")
        assert document["errors"][0]["loc"] == ["body", "model"]
        assert "routing.default" in document["error"]
        assert answered(await query(gateway, text, model="mock-model"))["provider"] == "mock"


async def test_a_default_route_can_be_an_alias_and_be_reloaded(chaos, upstream, tmp_path, text):
    config = f"{one_provider(chaos.base_url)}models: {{fast: [mock/mock-small, demo/demo]}}\nrouting: {{default: fast}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        assert answered(await query(gateway, text))["model"] == "mock-small"
        assert answered(await query(gateway, text, provider="mock"))["model"] == "mock-small"
        upstream.script("err=500")
        failed_over = answered(await query(gateway, f"again {text}"))
        assert (failed_over["provider"], failed_over["model"]) == ("demo", "demo"), "the answer names who really answered"
        assert (await gateway.reload(config.replace("default: fast", "default: mock/mock-large"))).status == 200
        assert answered(await query(gateway, text))["model"] == "mock-large"


@pytest.mark.parametrize(
    ("fault", "status", "code", "said"),
    [
        ("err=401", 502, "upstream_unauthorized", "GROQ_API_KEY"),
        ("err=429;retry_after=7", 429, "rate_limit_exceeded", "rate limit"),
        ("latency_ms=60000", 504, "upstream_timeout", "0.3 s"),
        ("bad_json", 502, "upstream_error", "groq"),
        ("rst_after=-1", 502, "upstream_error", "groq"),
        ("cut_after=0", 502, "upstream_error", "groq"),
        ("err=400", 400, "upstream_refused", ""),
    ],
    ids=["401", "429", "timeout", "badjson", "netloss", "cut", "400"],
)
async def test_groq_401_429_timeout_badjson_netloss(chaos, upstream, tmp_path, text, fault, status, code, said):
    patience = "timeouts: {first_byte: 0.3}, " if status == 504 else ""
    config = f"providers: {{groq: {{{patience}models: [mixtral-8x7b-32768]}}}}"
    async with running_gateway(tmp_path, environ=groq(chaos), config=config) as gateway:
        upstream.script(fault, times=2)  # a pooled connection that is closed at once is tried again, once
        answer = await query(gateway, text)
        assert said in problem(answer, status, code)["error"]
        assert {str(call.fault) for call in upstream.calls} == {fault}
        assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
        assert await gateway.stored() == 0
        upstream.reset()
        assert answered(await query(gateway, text))["cache_hit"] is False


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", QUERY, 405, "method_not_allowed"),
        ("PUT", f"{QUERY}/", 405, "method_not_allowed"),
        ("POST", f"{QUERY}/nothing", 404, "unknown_url"),
        ("POST", f"{QUERY}x", 404, "unknown_url"),
        ("POST", "/v1/metrics", 405, "method_not_allowed"),
        ("POST", "/query", 404, "unknown_url"),
    ],
)
async def test_error_member_in_problem_json(gateway, method, path, status, code):
    answer = await gateway.request(method, path)
    problem(answer, status, code)
    assert answer.headers.get("allow") == {(405, QUERY): "POST", (405, f"{QUERY}/"): "POST"}.get(
        (status, path), "GET, HEAD" if status == 405 else None
    )


async def test_other_errors_are_problems_too(gateway, upstream, text):
    problem(await query(gateway, text, {"x-cache-ttl": "soon"}), 400, "invalid_header")
    problem(await query(gateway, text, {"origin": "https://evil.example"}), 403, "origin_not_allowed")
    problem(await query(gateway, text, {"via": f"1.1 {gateway.process.via}"}), 508, "loop_detected")
    wire = await gateway.connect()
    wire.send(f"POST {QUERY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n".encode())
    problem(await wire.answer(), 413, "request_too_large")
    await wire.close()
    assert upstream.count == 0, "none of them got through"


async def test_a_slash_at_the_end_is_no_other_path(gateway, upstream, text):
    assert answered(await gateway.ask({"prompt": text}, f"{QUERY}/"))["cache_hit"] is False


# --- figures ---


async def test_metrics_count_every_face(upstream, tmp_path, text):
    async with running_gateway(tmp_path) as gateway:
        assert await figures(gateway) == dict(zip(FIGURES, (0, 0, 0, 0.0, 0), strict=True))
        await query(gateway, text)
        await query(gateway, text)
        await gateway.ask(chat(text, "demo"))
        await query(gateway, text, {"x-bypass-cache": "true"})
        await query(gateway, "")
        assert await figures(gateway) == dict(zip(FIGURES, (3, 1, 2, 33.33, 2), strict=True))


async def test_stored_items_without_scan(upstream, tmp_path, text):
    """From the tier that holds more, by an index alone: no stored answer is looked at."""
    async with running_gateway(tmp_path) as gateway:
        for number in range(5):
            await query(gateway, f"{number} {text}")
        assert (await figures(gateway))["stored_items"] == 5
    database = sqlite3.connect(tmp_path / "data" / "cache.db")
    ((*_, plan),) = database.execute(f"EXPLAIN QUERY PLAN {_sqlite_rows._COUNT}").fetchall()  # noqa: SLF001 - the very statement
    database.close()
    assert "COVERING INDEX" in plan
    async with running_gateway(tmp_path) as gateway:
        assert (await gateway.get("/health")).json["cache_size"] == 0, "memory is empty"
        assert (await figures(gateway))["stored_items"] == 5


async def test_stored_items_while_the_disk_does_not_answer(upstream, tmp_path, text):
    (tmp_path / "data").mkdir()
    other = sqlite3.connect(tmp_path / "data" / "cache.db", timeout=0, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    async with running_gateway(tmp_path, patient=False) as gateway:
        await query(gateway, text)
        assert (await figures(gateway))["stored_items"] == 1, "what memory holds"
        other.close()


async def test_an_answer_is_what_its_json_says(gateway, upstream):
    """Any text comes through: quotes, other scripts, what looks like markup."""
    prompt = 'He said "2 + 2 = 4"\n\t\\ </script> 漢字 🙂 \u2028'
    miss, hit = await query(gateway, prompt), await query(gateway, prompt)
    assert upstream.calls[0].body["messages"][0]["content"] == prompt
    assert answered(hit)["matched_prompt"] == prompt
    assert json.loads(miss.body)["response"] == json.loads(hit.body)["response"]
