"""Money through the whole gateway: what each answer costs and each hit saves, to the last digit of what the upstream counted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import aiohttp
import pytest

from sentinel_gateway.pipeline.strain import FEW
from tests.gateway import Gateway, chat, post, provider, running_gateway, until

pytestmark = pytest.mark.anyio

PRICES = """
prices:
  models:
    "mock/*": {input: "0.15", output: "0.6"}
    "mock/mock-large": {input: "3", output: "15", request: "0.005"}
"""
INPUT, OUTPUT = Decimal("0.15") / 1_000_000, Decimal("0.6") / 1_000_000
JSON = "application/json"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
SEED_001 = ["total_requests", "total_input_tokens", "total_output_tokens", "total_cost_usd", "last_updated"]


def configured(base_url: str, more: str = PRICES, *, more_models: str = "") -> str:
    other = provider("other", base_url).replace("mock-model, mock-small, mock-large", "unpriced")
    models = f"models: {{chain: [mock/mock-model, mock/mock-small]{more_models}}}\n"
    return f"providers:\n{provider('mock', base_url)}{other}{models}{more}"


@pytest.fixture
async def gateway(chaos, upstream, tmp_path) -> AsyncIterator[Gateway]:
    """One for each test: what it has spent starts at nothing."""
    async with running_gateway(tmp_path, config=configured(chaos.base_url)) as gateway:
        yield gateway


def paid(prompt: int, completion: int) -> Decimal:
    return prompt * INPUT + completion * OUTPUT


def paid_for(answer) -> Decimal:
    usage = answer.json["usage"]
    return paid(usage["prompt_tokens"], usage["completion_tokens"])


def cost(answer) -> Decimal:
    return Decimal(answer.headers["x-sentinel-cost-usd"])


def saved(answer) -> Decimal:
    return Decimal(answer.headers["x-sentinel-saved-usd"])


async def costs(gateway) -> dict:
    answer = await gateway.get("/costs")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


def told_by_prometheus(gateway, name: str, **labels: str) -> Decimal:
    shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return Decimal(str(gateway.metric(f"{name}{{{shown}}}")))


# --- answers ---


async def test_an_answer_says_what_it_has_cost_and_each_hit_what_it_saves(gateway, text):
    first = await gateway.ask(chat(text))
    assert cost(first) == paid_for(first) > 0
    assert "x-sentinel-saved-usd" not in first.headers
    assert "x-sentinel-cost-basis" not in first.headers
    hits = [await gateway.ask(chat(text)) for _ in range(5)]  # the last ones by the fast path
    assert {hit.cache for hit in hits} == {"exact"}
    assert {(cost(hit), saved(hit)) for hit in hits} == {(Decimal(0), cost(first))}
    told = (await costs(gateway))["mock-model:chat"]
    assert Decimal(str(told["total_saved_usd"])) == 5 * cost(first)
    assert (told["total_requests"], told["cache_hits"]) == (6, 5)


async def test_a_hit_saves_what_the_answer_has_cost_also_after_a_restart(chaos, upstream, tmp_path, text):
    async with running_gateway(tmp_path, config=configured(chaos.base_url)) as gateway:
        first = await gateway.ask(chat(text))
    dearer = PRICES.replace("0.15", "150")
    async with running_gateway(tmp_path, config=configured(chaos.base_url, dearer)) as gateway:
        hit = await gateway.ask(chat(text))
        assert (hit.cache, saved(hit)) == ("exact", cost(first))


async def test_a_stream_tells_its_cost_at_its_end_and_a_replayed_one_in_its_head(gateway, text):
    first = await gateway.ask(chat(text, stream=True, stream_options={"include_usage": True}))
    (usage,) = first.sse.usages
    assert "x-sentinel-cost-usd" not in first.headers
    expected = paid(usage["prompt_tokens"], usage["completion_tokens"])
    assert {name: Decimal(value) for name, value in first.sse.told.items()} == {"x-sentinel-cost-usd": expected}
    again = await gateway.ask(chat(text, stream=True))
    assert (again.cache, cost(again), saved(again), again.sse.told) == ("exact", 0, expected, {})


TIERED = PRICES.replace('output: "0.6"}', 'output: "0.6", flex: "0.5", priority: "1.75"}')
SHARES = {"flex": Decimal("0.5"), "priority": Decimal("1.75"), "default": Decimal(1), "scale": Decimal(1)}


@pytest.mark.parametrize("tier", SHARES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_costs_what_the_tier_takes_that_served_it_and_a_hit_saves_that(chaos, upstream, tmp_path, tier, stream):
    """Whatever tier was asked for. One that nobody knows the rates of is billed as usual, and marked."""
    async with running_gateway(tmp_path, config=configured(chaos.base_url, TIERED)) as gateway:
        upstream.script(f"service_tier={tier};tokens=40")
        asked = chat(
            "tiers", service_tier="auto", stream=stream, **({"stream_options": {"include_usage": True}} if stream else {})
        )
        first = await gateway.ask(asked)
        told = first.sse.told if stream else first.headers
        usage = first.sse.usages[0] if stream else first.json["usage"]
        exact = paid(usage["prompt_tokens"], usage["completion_tokens"]) * SHARES[tier]
        assert Decimal(told["x-sentinel-cost-usd"]) == round(exact, 9) > 0
        assert told.get("x-sentinel-cost-basis") == ("estimated" if tier == "scale" else None)
        hit = await gateway.ask(chat("tiers"))
        assert (hit.cache, cost(hit), saved(hit)) == ("exact", 0, round(exact, 9))
        told = (await costs(gateway))["mock-model:chat"]
        assert Decimal(str(told["total_cost_usd"])) == Decimal(str(told["total_saved_usd"])) == round(exact, 9)


async def test_a_stream_that_is_cut_is_billed_at_the_tier_that_its_first_chunk_told(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=configured(chaos.base_url, TIERED)) as gateway:
        billed = []
        for tier in ("default", "flex", "priority"):
            upstream.script(f"service_tier={tier};tokens=40;chunks=40;cut_after=20")
            before = (await costs(gateway)).get("mock-model:chat", {}).get("total_cost_usd", 0)
            assert (await gateway.ask(chat("cut", stream=True, max_tokens=40))).sse.error
            await until(lambda: upstream.count == len(billed) + 1)
            after = (await costs(gateway))["mock-model:chat"]["total_cost_usd"]
            billed.append(Decimal(str(after)) - Decimal(str(before)))
        assert billed[0] > 0
        assert billed == [billed[0], billed[0] / 2, billed[0] * Decimal("1.75")]


@pytest.mark.parametrize("stream", [False, True])
async def test_so_is_an_answer_whose_tokens_nobody_has_counted(chaos, upstream, tmp_path, stream):
    async with running_gateway(tmp_path, config=configured(chaos.base_url, TIERED)) as gateway:
        billed = {}
        for tier in ("default", "flex", "priority"):
            upstream.script(f"service_tier={tier};tokens=40;usage=absent")
            answer = await gateway.ask(chat("untold", stream=stream, max_tokens=40), x_bypass_cache="true")
            billed[tier] = Decimal((answer.sse.told if stream else answer.headers)["x-sentinel-cost-usd"])
        assert billed == {tier: round(billed["default"] * SHARES[tier], 9) for tier in billed}
        assert billed["default"] > 0


async def test_a_call_s_own_fee_counts_once(gateway, text):
    answer = await gateway.ask(chat(text, "mock-large"))
    usage = answer.json["usage"]
    assert cost(answer) == Decimal("0.005") + (3 * usage["prompt_tokens"] + 15 * usage["completion_tokens"]) / Decimal(1_000_000)


async def test_who_shares_a_call_pays_nothing(gateway, upstream, text):
    upstream.script("latency_ms=60000")
    asking = asyncio.gather(gateway.ask(chat(text)), gateway.ask(chat(text)))
    await until(lambda: gateway.places() == 2 and upstream.count)
    upstream.go_on()
    first, second = await asking
    assert upstream.count == 1
    assert sorted([cost(first), cost(second)]) == [0, paid_for(first)]
    told = (await costs(gateway))["mock-model:chat"]
    assert (told["total_requests"], Decimal(str(told["total_cost_usd"]))) == (2, paid_for(first))


async def test_embeddings_are_saved_item_by_item_to_the_last_digit(gateway):
    def asked(*texts):
        return {"model": "mock-model", "input": list(texts)}

    whole = await gateway.ask(asked("one", "some more words", "the third of them"), "/v1/embeddings")
    assert cost(whole) == whole.json["usage"]["total_tokens"] * INPUT
    parts = [await gateway.ask(asked(*texts), "/v1/embeddings") for texts in (("one", "the third of them"), ("some more words",))]
    assert [part.cache for part in parts] == ["exact", "exact"]
    assert sum(map(saved, parts)) == cost(whole)
    mixed = await gateway.ask(asked("some more words", "and a new one"), "/v1/embeddings")
    assert (mixed.cache, cost(mixed) > 0, saved(mixed) > 0) == ("miss", True, True)


async def test_a_semantic_hit_saves_as_well(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=configured(chaos.base_url), semantic=True) as gateway:
        first = await gateway.ask(chat("What is the capital of France?"))
        hit = await gateway.ask(chat("Please tell me: what is the capital of France?"))
        assert (hit.cache, cost(hit), saved(hit)) == ("semantic", 0, cost(first))


async def test_what_was_said_in_vain_is_paid_for_and_saved_by_nobody(gateway, upstream, text):
    upstream.script("cut_after=5;chunks=20")
    first = await gateway.ask(chat(text, "chain", stream=True, stream_options={"include_usage": True}), x_recovery="buffered")
    broken, whole = upstream.calls
    assert (broken.chunks_sent, whole.completed) == (5, True)
    (usage,) = first.sse.usages
    of_the_answer = paid(usage["prompt_tokens"], usage["completion_tokens"])
    told = (await costs(gateway))["chain:chat"]
    both = Decimal(first.sse.told["x-sentinel-cost-usd"])
    assert of_the_answer < both == Decimal(str(told["total_cost_usd"]))
    assert first.sse.told["x-sentinel-cost-basis"] == "estimated", "of the broken one"
    hit = await gateway.ask(chat(text, "chain"))
    assert (hit.cache, saved(hit), "x-sentinel-cost-basis" in hit.headers) == ("exact", of_the_answer, False)


# --- usage that providers don't tell, or tell wrongly ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", ["absent", "wrong"])
async def test_what_nobody_counted_is_estimated_and_says_so(gateway, upstream, text, stream, usage):
    upstream.script(f"usage={usage}")
    answer = await gateway.ask(chat(text, stream=stream))
    assert upstream.calls[0].fault.usage == usage
    told = answer.sse.told if stream else answer.headers
    assert told["x-sentinel-cost-basis"] == "estimated"
    assert Decimal(told["x-sentinel-cost-usd"]) > 0
    again = await gateway.ask(chat(text, stream=stream))
    assert (again.headers["x-sentinel-cost-basis"], saved(again)) == ("estimated", Decimal(told["x-sentinel-cost-usd"]))
    told = (await costs(gateway))["mock-model:chat"]
    assert 0 < told["estimated_cost_usd"] == told["total_cost_usd"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_explicit_zero_is_kept(gateway, upstream, text, stream):
    upstream.script("usage=zero")
    answer = await gateway.ask(chat(text, stream=stream))
    assert upstream.calls[0].fault.usage == "zero"
    told = answer.sse.told if stream else answer.headers
    assert (told["x-sentinel-cost-usd"], "x-sentinel-cost-basis" in told) == ("0", False)


@pytest.mark.parametrize("usage", ["late", "content"])
async def test_usage_is_found_wherever_a_stream_has_it(gateway, upstream, text, usage):
    upstream.script(f"usage={usage}")
    answer = await gateway.ask(chat(text, stream=True))
    assert upstream.calls[0].fault.usage == usage
    assert list(answer.sse.told) == ["x-sentinel-cost-usd"]


async def test_a_stream_that_was_cut_is_paid_for_as_far_as_it_came(gateway, upstream, text):
    upstream.script("cut_after=5;chunks=20")
    answer = await gateway.ask(chat(text, stream=True))
    assert answer.sse.error
    assert upstream.calls[0].chunks_sent == 5
    told = (await costs(gateway))["mock-model:chat"]
    assert told["total_output_tokens"] in {5, 6}, "the first chunk says who speaks"
    assert told["total_input_tokens"] > 0
    assert told["estimated_cost_usd"] == told["total_cost_usd"] > 0


async def test_a_caller_who_leaves_pays_for_what_was_said(gateway, upstream, text):
    upstream.script("chunk_ms=50;chunks=100")
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{gateway.base_url}/v1/chat/completions", json=chat(text, stream=True)) as response:
            await response.content.readany()
        await until(lambda: upstream.calls[0].closed_by_peer_at)
    await until(gateway.process.metrics.costs)
    told = (await costs(gateway))["mock-model:chat"]
    assert 0 < told["total_output_tokens"] <= upstream.calls[0].chunks_sent + 1
    assert told["total_cost_usd"] > 0


# --- models without a price ---


async def test_an_unknown_price_is_that_of_a_well_known_model(gateway, text):
    answer = await gateway.ask(chat(text, "other/unpriced"))
    usage = answer.json["usage"]
    expected = (usage["prompt_tokens"] * Decimal("0.59") + usage["completion_tokens"] * Decimal("0.79")) / 1_000_000
    assert (cost(answer), answer.headers["x-sentinel-cost-basis"]) == (expected, "estimated")
    assert gateway.metric('sentinel_events_total{event="price_unknown"}') == 1


async def test_what_has_no_price_is_refused_where_the_operator_wants_that(chaos, upstream, tmp_path, text):
    more = PRICES.replace("prices:", "prices:\n  unknown: refuse")
    config = configured(chaos.base_url, more, more_models=", both: [other/unpriced, mock/mock-model]")
    async with running_gateway(tmp_path, config=config) as gateway:
        refused = await gateway.ask(chat(text, "other/unpriced"))
        assert (refused.status, refused.error["param"], refused.headers["x-should-retry"]) == (400, "model", "false")
        assert "No price is known for 'other/unpriced'" in refused.error["message"]
        assert "prices.models" in refused.error["message"]
        assert upstream.count == 0
        streamed = await gateway.ask(chat(text, "other/unpriced", stream=True))
        assert streamed.status == 400
        both = await gateway.ask(chat(text, "both"))
        assert (both.status, cost(both)) == (200, paid_for(both)), "who has a price is asked instead"
        assert upstream.calls[0].headers["authorization"] == "Bearer key-of-mock"


async def test_what_has_no_price_counts_nothing_where_the_operator_wants_that(chaos, upstream, tmp_path, text):
    more = PRICES.replace("prices:", "prices:\n  unknown: allow")
    async with running_gateway(tmp_path, config=configured(chaos.base_url, more)) as gateway:
        miss, hit = [await gateway.ask(chat(text, "other/unpriced")) for _ in range(2)]
        assert (miss.cache, hit.cache) == ("miss", "exact")
        for answer in (miss, hit):
            assert answer.headers["x-sentinel-cost-basis"] == "unknown"
            assert "x-sentinel-cost-usd" not in answer.headers
        told = (await costs(gateway))["other/unpriced:chat"]
        assert (told["total_cost_usd"], told["unpriced_calls"]) == (0.0, 1)


async def test_a_reload_brings_other_prices(gateway, text):
    gateway.config.write_text(gateway.config.read_text().replace('"0.15"', '"1.5"').replace('"0.6"', '"6"'))
    await gateway.reload()
    answer = await gateway.ask(chat(text))
    assert cost(answer) == 10 * paid_for(answer)


# --- sums ---


async def test_costs_keys_model_variant(gateway, text):
    await gateway.ask(chat(text))
    await gateway.ask({"prompt": text, "model": "mock-model"}, "/v1/query")
    await gateway.ask({"model": "mock-model", "max_tokens": 9, "messages": chat(text)["messages"]}, "/v1/messages")
    await gateway.ask({"model": "mock-small", "input": text}, "/v1/embeddings")
    await gateway.ask({"model": "mock-small", "input": text}, "/v1/responses")
    await gateway.ask({"model": "mock-small", "prompt": f"Another {text}"}, "/v1/completions")
    told = await costs(gateway)
    assert list(told) == [
        "mock-model:chat",
        "mock-model:messages",
        "mock-model:query",
        "mock-small:completions",
        "mock-small:embeddings",
        "mock-small:responses",
    ]
    for one in told.values():
        assert list(one)[:5] == SEED_001
        assert [type(one[name]) for name in SEED_001] == [int, int, int, float, str]
        assert one["total_cost_usd"] > 0
        when = datetime.strptime(one["last_updated"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - when) < timedelta(seconds=60)
        assert len(one["last_updated"]) == len("2025-10-30T12:34:56.789Z")


async def test_what_is_told_is_what_the_upstream_counted(gateway, upstream, text):
    """Hits, misses, shared calls, failures and retries at once: each token that was counted is in the sum, and none twice."""
    for fault in ("err=500", "latency_ms=30", "err=429", "chunks=3"):
        upstream.script(fault)
    asked = [chat(f"{text} {number % 17}", stream=number % 3 == 0) for number in range(80)]
    answers = [answer for _ in range(2) for answer in await asyncio.gather(*map(gateway.ask, asked))]
    counted = [call for call in upstream.calls if call.status == 200]
    assert {call.status for call in upstream.calls} == {200, 429, 500}
    answered = [answer for answer in answers if answer.status == 200]
    streams = [answer.sse.told for answer in answered if answer.headers["content-type"].startswith("text/event-stream")]
    whole = sum((cost(answer) for answer in answered if "x-sentinel-cost-usd" in answer.headers), Decimal(0))
    whole += sum((Decimal(said["x-sentinel-cost-usd"]) for said in streams if said), Decimal(0))
    told = (await costs(gateway))["mock-model:chat"]
    assert told["total_output_tokens"] == sum(call.tokens_sent for call in counted)
    assert Decimal(str(told["total_cost_usd"])) == paid(told["total_input_tokens"], told["total_output_tokens"]) == whole
    hits = [answer for answer in answered if answer.cache == "exact"]
    assert len(hits) > 40
    assert Decimal(str(told["total_saved_usd"])) == sum(map(saved, hits))


async def test_all_places_tell_the_same(gateway, text):
    first = await gateway.ask(chat(text))
    await gateway.ask(chat(text))
    figures = (await gateway.get("/v1/metrics")).json
    assert (Decimal(str(figures["cost_usd"])), Decimal(str(figures["saved_usd"]))) == (cost(first), cost(first))
    assert told_by_prometheus(gateway, "sentinel_cost_usd_total", basis="price", provider="mock") == cost(first)
    assert told_by_prometheus(gateway, "sentinel_saved_usd_total", face="chat") == cost(first)


async def test_metrics_json_golden_with_zero_and_20_requests(gateway, text):
    async def snapshot():
        answer = await gateway.get("/metrics", headers={"accept": "application/json"})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        return answer.json

    empty = await snapshot()
    assert empty["cache_performance"] == {
        "exact_hits": 0,
        "semantic_hits": 0,
        "total_hits": 0,
        "misses": 0,
        "total_requests": 0,
        "hit_rate_percent": "0.00%",
    }
    assert empty["token_usage"] == {"tokens_saved": 0, "tokens_used": 0, "total_tokens_without_cache": 0}
    money = empty["cost_analysis"]
    assert [money[name] for name in ("cost_saved_usd", "cost_spent_usd", "total_cost_without_cache_usd")] == ["$0.0000"] * 3
    assert (money["savings_percent"], type(money["note"])) == ("0.00%", str)
    assert empty["pricing"] == {
        "model_assumed": "llama-3.3-70b-versatile",
        "input_per_1m_tokens": "$0.59",
        "output_per_1m_tokens": "$0.79",
        "supported_models": [],
    }
    first = await gateway.ask(chat(text, "mock-large"))
    for _ in range(19):
        await gateway.ask(chat(text, "mock-large"))
    full, used = await snapshot(), first.json["usage"]["total_tokens"]
    assert full["cache_performance"] == {
        "exact_hits": 19,
        "semantic_hits": 0,
        "total_hits": 19,
        "misses": 1,
        "total_requests": 20,
        "hit_rate_percent": "95.00%",
    }
    assert full["token_usage"] == {"tokens_saved": 19 * used, "tokens_used": used, "total_tokens_without_cache": 20 * used}
    assert full["cost_analysis"]["cost_spent_usd"] == f"${cost(first):.4f}"
    assert full["cost_analysis"]["cost_saved_usd"] == f"${19 * cost(first):.4f}"
    assert full["cost_analysis"]["savings_percent"] == "95.00%"
    assert full["pricing"]["supported_models"] == ["mock/mock-large"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", JSON),
        ("application/json, text/plain;q=0.5", JSON),
        ("application/json;q=0.9, */*;q=0.8", JSON),
        ("application/*", JSON),
        ("application/json, application/openmetrics-text;q=0.5", JSON),
        ("*/*", TEXT),
        ("", TEXT),
        ("text/html, application/xhtml+xml, */*;q=0.8", TEXT),
        ("application/json;q=0, */*", TEXT),
        ("application/json;q=much, text/plain", TEXT),
        ("text/plain;version=0.0.4;q=0.7, application/openmetrics-text;q=0.5", TEXT),
        ("application/openmetrics-text;q=0, text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.3, */*;q=0.1", OPENMETRICS),
        (PROMETHEUS, OPENMETRICS),
        ("application/openmetrics-text; version=99; charset=latin-1", OPENMETRICS),
    ],
)
async def test_metrics_are_text_unless_something_else_is_preferred(gateway, accept, expected):
    for method in ("GET", "HEAD"):
        answer = await gateway.request(method, "/metrics", headers={"accept": accept})
        assert (answer.status, answer.headers["content-type"]) == (200, expected)
    assert answer.body == b""


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_answer_that_is_put_off_under_overload_is_paid_also_by_who_leaves(gateway, chaos, leaves):
    def is_put_off():
        chaos.go_on()
        return strain._put_off  # noqa: SLF001

    text, strain, asked = f"put off: {leaves}", gateway.process.strain, chaos.count
    chaos.script("latency_ms=3600000;tokens=500", to=text)
    wire = await gateway.connect()
    wire.send(post(chat(text)))
    await until(lambda: chaos.count > asked)
    strain.is_strained, strain._gone_on = True, FEW  # noqa: SLF001 - nobody times the turns here, so this one does not end
    try:
        await until(is_put_off)
        assert gateway.places() == 1
        if leaves:
            wire.abort()
            await until(lambda: not gateway.places())
            assert strain._put_off == 0  # noqa: SLF001
    finally:
        strain.is_strained = False
    if not leaves:
        assert (await wire.answer()).status == 200
    await until(lambda: not gateway.places())
    await wire.close()
    assert (await costs(gateway))["mock-model:chat"]["total_output_tokens"] == 500
