"""The cache in headers: what a caller may ask for, and what every answer says (contract section 4)."""

import re

import pytest

from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

STREAM = {"stream": True}


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """With lifetimes of the operator's own for two names. What has expired stays on the disk: it may go within ten minutes."""
    config = f"""
{one_provider(chaos.base_url)}
models:
  hourly: {{targets: mock/mock-model, ttl: 1800}}
  never: {{targets: mock/mock-small, ttl: 0}}
"""
    environ = {"SENTINEL_CACHE__STALE_IF_ERROR": "600"}
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config, environ=environ) as gateway:
        yield gateway


def lifetime(answer) -> int:
    """For how many seconds an answer is kept, as `x-cache-explain` says."""
    return int(re.search(r"stored for (\d+) s", answer.headers["x-cache-explain"])[1])


# --- what every answer says ---


@pytest.mark.parametrize("how", [{}, STREAM], ids=["whole", "stream"])
async def test_headers_of_a_miss_and_a_hit(gateway, upstream, text, how):
    body, miss = await gateway.ask_in_time(chat(text, **how))
    hit = await gateway.ask(body)
    for answer in (miss, hit):
        assert answer.headers["cache-control"] == "private, no-store"
        assert {name.strip() for name in answer.headers["vary"].split(",")} == {"Accept-Encoding", "Authorization"}
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-sentinel-id"])
        assert "date" in answer.headers
        assert "x-should-retry" not in answer.headers
        assert answer.headers.keys().isdisjoint({"server", "x-cache-explain", "x-cache-similarity", "set-cookie"})
    assert miss.headers["x-sentinel-id"] != hit.headers["x-sentinel-id"]
    assert miss.cache == "miss"
    assert "age" not in miss.headers
    assert hit.cache == "exact"
    assert 0 <= int(hit.headers["age"]) <= 10
    stored = {} if how else {"stored": True}  # of a stream it is not known yet
    assert list(miss.tiers.items()) == [
        ("sentinel-disk", {"fwd": "uri-miss"} | stored),
        ("sentinel-memory", {"fwd": "uri-miss"} | stored),
    ]
    assert hit.tiers.keys() == {"sentinel-memory"}
    assert hit.tiers["sentinel-memory"].keys() == {"hit", "ttl"}
    if how:
        assert (miss.headers["x-accel-buffering"], hit.headers["x-accel-buffering"]) == ("no", "no")
        assert "content-length" not in miss.headers


@pytest.mark.parametrize("sane", ["a", "01JQ.some:id/with+all=of@it-_", "x" * 128, "req_0123"])
async def test_a_sane_request_id_is_echoed(gateway, upstream, sane):
    for answer in (
        await gateway.ask(chat("An id?"), x_request_id=sane),
        await gateway.ask(b"not JSON", x_request_id=sane),
        await gateway.get("/livez", headers={"x-request-id": sane}),
        await gateway.get("/nowhere", headers={"x-request-id": sane}),
    ):
        assert answer.headers["x-request-id"] == sane


@pytest.mark.parametrize("insane", ["", "x" * 129, "a b", 'a"b', "a,b", "<script>", "\u00e9", "a;b", "%0d%0a", "(", "\t"])
async def test_an_insane_request_id_is_replaced(gateway, upstream, insane):
    wire = await gateway.connect()
    wire.send(f"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {insane}\r\n\r\n".encode())
    wire.send(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {insane}\r\n\r\n".encode())
    for answer in (await wire.answer("GET"), await wire.answer("GET")):
        assert answer.status == 200
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    await wire.close()


# --- what a caller may ask for ---


async def test_bypass_neither_reads_nor_writes(gateway, upstream, text):
    first = await gateway.ask(chat(text), x_bypass_cache="true")
    assert (first.cache, first.tiers) == ("bypass", {"sentinel-memory": {"fwd": "bypass", "detail": "uncacheable-bypass"}})
    assert (await gateway.ask(chat(text))).cache == "miss", "it was not written"
    upstream.script("reasoning")
    again = await gateway.ask(chat(text), x_bypass_cache="TRUE")
    assert again.cache == "bypass"
    assert again.json["choices"][0]["message"]["reasoning_content"], "it was not read"
    kept = await gateway.ask(chat(text), x_bypass_cache="false")
    assert kept.cache == "exact"
    assert "reasoning_content" not in kept.json["choices"][0]["message"], "what was there is still there"
    assert upstream.count == 3


@pytest.mark.parametrize("how", [{}, STREAM], ids=["whole", "stream"])
async def test_no_cache_asks_the_provider_and_keeps_its_answer(gateway, upstream, text, how):
    await gateway.ask(chat(text))
    upstream.script("reasoning")
    fresh = await gateway.ask(chat(text, **how), cache_control="no-cache")
    assert fresh.cache == "miss"
    assert fresh.tiers["sentinel-memory"]["fwd"] == "request"
    kept = await gateway.ask(chat(text))
    assert (kept.cache, upstream.count) == ("exact", 2)
    assert kept.json["choices"][0]["message"]["reasoning_content"]


@pytest.mark.parametrize("how", [{}, STREAM], ids=["whole", "stream"])
async def test_no_store_reads_and_does_not_write(gateway, upstream, text, how):
    first = await gateway.ask(chat(text, **how), cache_control="no-store")
    assert first.cache == "miss"
    if not how:
        assert first.tiers["sentinel-memory"] == {"fwd": "uri-miss", "detail": "uncacheable-no-store"}
    assert (await gateway.ask(chat(text))).cache == "miss"
    assert (await gateway.ask(chat(text, **how), cache_control="max-age=60, no-store")).cache == "exact"
    assert upstream.count == 2


async def test_only_if_cached(gateway, upstream, text):
    miss = await gateway.ask(chat(text), cache_control="only-if-cached")
    assert (miss.status, miss.error["code"], miss.headers["x-should-retry"]) == (504, "cache_miss", "false")
    assert upstream.count == 0
    await gateway.ask(chat(text))
    hit = await gateway.ask(chat(text, **STREAM), cache_control="Only-If-Cached")
    assert (hit.status, hit.cache, upstream.count) == (200, "exact", 1)


async def test_unknown_directives_are_left_alone(gateway, upstream, text):
    await gateway.ask(chat(text))
    assert (await gateway.ask(chat(text), cache_control='stale-if-error=3, private="a, b", max-stale')).cache == "exact"


async def test_ttl_0_is_not_kept(gateway, upstream, text):
    for _ in range(2):
        answer = await gateway.ask(chat(text), x_cache_ttl="0")
        assert (answer.cache, answer.tiers["sentinel-memory"]["detail"]) == ("miss", "uncacheable-ttl-0")
    assert (await gateway.ask(chat(text))).cache == "miss"


async def test_x_cache_ttl_never_exceeded_in_any_tier(gateway, upstream, text):
    """And `max-age` and `min-fresh`, which need an answer that has aged a little."""
    await gateway.ask(chat(text), x_cache_ttl="30")
    await gateway.ask(chat(f"{text} for long"), x_cache_ttl="200")
    soon = await gateway.ask(chat(text))
    assert soon.cache == "exact"
    assert soon.tiers["sentinel-memory"]["ttl"] <= 29
    assert (await gateway.ask(chat(f"{text} for long"), cache_control="max-age=20, min-fresh=170")).cache == "exact"

    await gateway.wait(30.05)

    late = await gateway.ask(chat(text), cache_control="no-store")
    while late.tiers["sentinel-disk"].get("detail") == "tier-down":  # as it may be on a busy machine
        late = await gateway.ask(chat(text), cache_control="no-store")
    assert late.cache == "miss"
    assert (late.tiers["sentinel-memory"]["fwd"], late.tiers["sentinel-disk"]["fwd"]) == ("stale", "stale")
    assert late.json["id"].startswith("chatcmpl-mock")
    aged = await gateway.ask(chat(f"{text} for long"), cache_control="max-age=100")
    assert aged.cache == "exact"
    assert 30 <= int(aged.headers["age"]) <= 100
    for unwanted in ("max-age=20", "max-age=0", "min-fresh=180"):
        answer = await gateway.ask(chat(f"{text} for long"), cache_control=f"{unwanted}, no-store")
        assert (answer.cache, answer.tiers["sentinel-memory"]["fwd"]) == ("miss", "request"), unwanted


@pytest.mark.parametrize(
    ("model", "fields", "headers", "longest"),
    [
        ("mock-model", {}, {}, 3600),
        ("mock-model", {"temperature": 0.7}, {}, 86_400),
        ("mock-model", {"temperature": 0.71}, {}, 3600),
        ("mock-model", {"temperature": 0}, {}, 86_400),
        ("mock-model", {"temperature": 0}, {"x_cache_ttl": "31536000"}, 31_536_000),
        ("hourly", {"temperature": 0}, {}, 1800),
        ("hourly", {"temperature": 0}, {"x_cache_ttl": "7200"}, 7200),
    ],
)
async def test_lifetimes(gateway, upstream, text, model, fields, headers, longest):
    """ttl_boundary_temperature_0_7_and_absent; jitter only shortens."""
    answer = await gateway.ask(chat(text, model, **fields), x_cache_explain="true", **headers)
    assert 0.9 * longest - 1 <= lifetime(answer) <= longest


async def test_a_model_that_is_never_kept(gateway, upstream, text):
    answer = await gateway.ask(chat(text, "never"))
    assert answer.tiers["sentinel-memory"]["detail"] == "uncacheable-ttl-0"
    assert (await gateway.ask(chat(text, "never"), x_cache_ttl="60")).tiers["sentinel-memory"]["stored"] is True
    assert (await gateway.ask(chat(text, "never"))).cache == "exact"


async def test_ttl_of_the_seeds_variable(chaos, upstream, text, tmp_path):
    environ = {"REDIS_CACHE_TTL_SECS": "120", "MEMORY_CACHE_TTL_SECS": "30"}
    async with running_gateway(tmp_path, environ=environ, config=one_provider(chaos.base_url)) as gateway:
        answer = await gateway.ask(chat(text, temperature=0), x_cache_explain="true")
        assert 107 <= lifetime(answer) <= 120
        assert (await gateway.ask(chat(text, temperature=0))).tiers["sentinel-memory"]["ttl"] <= 30


async def test_a_namespace_is_a_cache_of_its_own(gateway, upstream, text):
    names = [None, "team-a", "team-b", "team-a/x", "Team-A"]
    for expected in ("miss", "exact"):
        for name in names:
            answer = await gateway.ask(chat(text), **({} if name is None else {"x_cache_namespace": name}))
            assert answer.cache == expected, name
    assert upstream.count == len(names)


async def test_explain(gateway, upstream, text):
    miss = await gateway.ask(chat(text), x_cache_explain="true", x_cache_ttl="100")
    assert re.fullmatch(
        r"key=[0-9a-f]{16}; target=mock/mock-model; stored for (9\d|100) s in memory and disk", miss.headers["x-cache-explain"]
    )
    hit = await gateway.ask(chat(text, **STREAM), x_cache_explain="1")
    assert re.fullmatch(
        r"key=[0-9a-f]{16}; target=mock/mock-model; memory hit, stored \d s ago for another \d+ s", hit.headers["x-cache-explain"]
    )
    assert hit.headers["x-cache-explain"][:20] == miss.headers["x-cache-explain"][:20]
    stream = await gateway.ask(chat(text, **STREAM), x_cache_explain="true", x_cache_namespace="explain")
    assert stream.headers["x-cache-explain"].endswith("; stored once the stream's end is proven")
    refused = await gateway.ask(chat(text), x_cache_explain="true", cache_control="no-store, no-cache")
    assert refused.headers["x-cache-explain"].endswith("; not stored: no-store")
    quiet = await gateway.ask(chat(text), x_cache_explain="false")
    assert "x-cache-explain" not in quiet.headers


async def test_a_stream_is_found_once_it_is_complete(gateway, upstream, text):
    """Not a moment before."""
    upstream.script("chunk_ms=60000;chunks=2")
    async with gateway.session.post("/v1/chat/completions", json=chat(text, **STREAM)) as response:
        await response.content.readuntil(b"\n\n")
        beside = await gateway.ask(chat(text), cache_control="only-if-cached")
        assert beside.status == 504
        upstream.go_on()
        await response.read()
    assert (await gateway.ask(chat(text), cache_control="only-if-cached")).status == 200
    await until(lambda: gateway.places() == 0)
