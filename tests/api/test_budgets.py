"""Budgets over HTTP: what a key and its tenant may spend, and what callers are told. The prices are the test's own."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.gateway import DAY, away_from_the_end_of, chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

PRICES = """
prices:
  models: {mock/*: {input: 0, output: 1000, flex: 0.5, priority: 2}}
tenants:
  shared: {budget: {day: 0.05}}
  told: {budget: {day: 0.05}}
keys: {required: true}
"""
"""A token of output costs 0.001 USD, and one of input nothing."""
TOKEN = 0.001


@pytest.fixture(autouse=True)
async def within_a_day(anyio_backend):
    await away_from_the_end_of(DAY)


@pytest.fixture(scope="module")
async def priced(chaos, tmp_path_factory):
    async with running_gateway(tmp_path_factory.mktemp("priced"), config=one_provider(chaos.base_url) + PRICES) as gateway:
        yield gateway


async def ask(gateway, key, text="budgets", path="/v1/chat/completions", **more):
    fields = {
        name: more.pop(name) for name in ("model", "stream", "max_tokens", "n", "stream_options", "service_tier") if name in more
    }
    headers = {"authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in more.items()}
    return await gateway.request("POST", path, json=chat(text, **fields), headers=headers)


async def is_left(gateway, key, remaining):
    """Until so much is left: what an answer has cost is booked beside it."""
    for _ in range(2_000):
        told = (await ask(gateway, key, "?", cache_control="only-if-cached")).headers.get("x-budget-remaining")
        if told == remaining:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{told} is left, and not {remaining}")


async def test_what_is_spent_is_told_and_then_refused(priced, upstream):
    key = await priced.key(tenant="plain", budget={"day": 0.01})
    upstream.script("tokens=8", 9)
    first = await ask(priced, key, "first", max_tokens=8)
    assert (first.status, first.headers["x-budget-limit"], first.headers["x-budget-remaining"]) == (200, "0.01", "0.002")
    today = datetime.now(UTC).date()
    assert first.headers["x-budget-reset"] > f"{today}T23"
    refused = await ask(priced, key, "second", max_tokens=8)
    assert refused.status == 429
    assert (refused.error["type"], refused.error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "may cost 0.008 USD; this key may spend 0.01 USD a day, of which 0.002 are left" in refused.error["message"]
    assert "'sentinel keys budget'" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert len(upstream.calls) == 1
    assert (await ask(priced, key, "third", max_tokens=2)).status == 200
    await until(lambda: len(upstream.calls) == 2)


async def test_a_spent_budget_refuses_hits_too_and_an_unspent_one_takes_nothing_for_them(priced, upstream):
    key = await priced.key(tenant="hits", budget={"month": 0.01})
    upstream.script("tokens=5", 2)
    for _ in range(5):
        answer = await ask(priced, key, "hit", max_tokens=5)
        assert (answer.status, answer.headers["x-budget-remaining"]) == (200, "0.005")
    assert len(upstream.calls) == 1
    assert (await ask(priced, key, "another", max_tokens=5)).status == 200
    await is_left(priced, key, "0")
    refused = await ask(priced, key, "hit", max_tokens=5)
    assert (refused.status, refused.error["code"], "x-cache" in refused.headers) == (429, "insufficient_quota", False)
    assert "this key may spend 0.01 USD a month, and has spent 0.01" in refused.error["message"]


async def test_a_tenant_s_budget_is_that_of_all_its_keys(priced, upstream):
    keys = [await priced.key(tenant="shared") for _ in range(3)]
    upstream.script("tokens=10", 9)
    statuses = [(await ask(priced, keys[number % 3], f"shared {number}", max_tokens=10)).status for number in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    refused = await ask(priced, keys[0], "shared", max_tokens=10)
    assert "this tenant may spend 0.05 USD a day" in refused.error["message"]
    assert "under 'tenants'" in refused.error["message"]


async def test_each_dialect_says_it_in_its_own_words(priced, upstream):
    key = await priced.key(tenant="dialects", budget={"day": 0.001})
    upstream.script("tokens=1")
    assert (await ask(priced, key, "spend it", max_tokens=1)).status == 200
    await is_left(priced, key, "0")
    messages = await ask(priced, key, path="/v1/messages", max_tokens=5)
    assert (messages.status, messages.json["type"]) == (429, "error")
    assert messages.json["error"]["type"] == "rate_limit_error"
    query = await priced.request(
        "POST",
        "/v1/query",
        json={"prompt": "p", "provider": "mock", "model": "mock-model"},
        headers={"authorization": f"Bearer {key}"},
    )
    assert (query.status, query.json["code"], query.headers["content-type"]) == (
        429,
        "insufficient_quota",
        "application/problem+json",
    )
    for refused in (messages, query):
        assert "Budget spent: this key may spend 0.001 USD a day" in refused.body.decode()
        assert refused.headers["x-should-retry"] == "false"
        assert "retry-after" not in refused.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_without_a_bound_is_given_what_the_budget_buys(priced, upstream, stream):
    key = await priced.key(tenant=f"unbound {stream}", budget={"day": 0.012})
    upstream.script("tokens=9", 3)
    assert (await ask(priced, key, "unbound", stream=stream)).status == 200
    assert upstream.calls[0].body["max_tokens"] == 12
    await is_left(priced, key, "0.003")
    assert (await ask(priced, key, "unbound")).cache == "exact", "the bound is in no key"
    assert (await ask(priced, key, "once more", stream=stream)).status == 200
    assert upstream.calls[1].body["max_tokens"] == 3


@pytest.mark.parametrize(("budget", "calls"), [(0.012, 2), (100, 1)])
async def test_an_answer_that_is_short_for_want_of_money_is_not_shared(priced, upstream, budget, calls):
    poor, rich = await priced.key(tenant=f"short {budget}", budget={"day": budget}), await priced.key(tenant=f"short {budget}")
    upstream.script("tokens=2;latency_ms=60000", 2)
    asking = [asyncio.create_task(ask(priced, poor, "short"))]
    await until(lambda: upstream.calls)
    asking.append(asyncio.create_task(ask(priced, rich, "short")))
    await until(lambda: priced.places() == 2 and len(upstream.calls) == calls)
    upstream.go_on()
    first, second = [await each for each in asking]
    assert (first.status, second.status, len(upstream.calls)) == (200, 200, calls)


@pytest.mark.parametrize("asked", ["priority", "auto"])
async def test_a_budget_holds_what_a_dearer_tier_may_take(priced, upstream, asked):
    key = await priced.key(tenant=f"tier {asked}", budget={"day": 0.01})
    upstream.script("tokens=5;service_tier=priority")
    refused = await ask(priced, key, "dear", max_tokens=6, service_tier=asked)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "this request may cost 0.012 USD" in refused.error["message"]
    assert not upstream.calls
    served = await ask(priced, key, "dear", max_tokens=5, service_tier=asked)
    assert (served.status, served.json["service_tier"], served.headers["x-sentinel-cost-usd"]) == (200, "priority", "0.01")
    assert served.headers["x-budget-remaining"] == "0"


async def test_what_a_tier_has_not_taken_is_given_back(priced, upstream):
    key = await priced.key(tenant="tier back", budget={"day": 0.02})
    upstream.script("tokens=5;service_tier=flex")
    assert (await ask(priced, key, "cheap", max_tokens=10, service_tier="auto")).status == 200
    await is_left(priced, key, "0.0175")


async def test_a_request_without_a_bound_is_given_what_the_budget_buys_at_the_dearest_tier(priced, upstream):
    key = await priced.key(tenant="tier unbound", budget={"day": 0.012})
    upstream.script("tokens=6;service_tier=priority")
    assert (await ask(priced, key, "unbound and dear", service_tier="auto")).status == 200
    assert upstream.calls[0].body["max_tokens"] == 6
    await is_left(priced, key, "0")


async def test_no_crowd_of_dear_requests_overruns_a_budget(priced, upstream):
    key = await priced.key(tenant="tier crowd", budget={"day": 0.05})
    upstream.script("tokens=5;service_tier=priority;latency_ms=50", 99)
    crowd = [ask(priced, key, f"dear {number}", max_tokens=5, service_tier="priority") for number in range(30)]
    statuses = sorted([answer.status for answer in await asyncio.gather(*crowd)])
    assert statuses == [200] * 5 + [429] * 25
    assert len(upstream.calls) == 5
    await is_left(priced, key, "0")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("bound", [{"max_tokens": 2}, {}])
async def test_what_nobody_has_counted_takes_no_more_than_was_held(priced, upstream, bound, stream):
    key = await priced.key(tenant=f"untold {bound} {stream}", budget={"day": 0.002})
    upstream.script("tokens=2;usage=absent")
    answer = await ask(priced, key, "untold", stream=stream, **bound)
    told = answer.sse.told if stream else answer.headers
    assert (upstream.calls[0].fault.usage, told["x-sentinel-cost-basis"]) == ("absent", "estimated")
    assert 0 < Decimal(told["x-sentinel-cost-usd"]) <= Decimal("0.002")


async def test_who_has_no_budget_is_given_no_bound_and_no_headers(priced, upstream):
    key = await priced.key(tenant="free")
    answer = await ask(priced, key, "free")
    assert "max_tokens" not in upstream.calls[0].body
    assert [name for name in answer.headers if "budget" in name] == []


async def test_what_requests_in_flight_hold_is_told_apart_from_what_is_spent(priced, upstream):
    key = await priced.key(tenant="held", budget={"day": 0.01})
    upstream.script("tokens=2;latency_ms=60000")
    first = asyncio.create_task(ask(priced, key, "held", max_tokens=8))
    await until(lambda: upstream.calls)
    refused = await ask(priced, key, "held, too", max_tokens=8)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "0.008 of them are held for requests in flight" in refused.error["message"]
    assert "x-should-retry" not in refused.headers, "most of it comes back"
    assert int(refused.headers["retry-after"]) >= 1
    upstream.go_on()
    assert (await first).status == 200
    await is_left(priced, key, "0.008")
    assert (await ask(priced, key, "held, too", max_tokens=8)).status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["err=500", "cut_after=0"])
async def test_what_came_to_nothing_is_held_no_more(priced, upstream, stream, fault):
    key = await priced.key(tenant=f"nothing {stream} {fault}", budget={"day": 1})
    upstream.script(fault, 9)
    assert (await ask(priced, key, "nothing", max_tokens=900, stream=stream)).status in {502, 504}
    upstream.reset()
    await is_left(priced, key, "1")
    upstream.script("tokens=3")
    assert (await ask(priced, key, "something", max_tokens=900, stream=stream)).status == 200


async def test_an_answer_that_is_too_long_is_paid_for(priced, upstream):
    key = await priced.key(tenant="too long", budget={"day": 0.01})
    upstream.script("huge=40000000", 9)
    first = await ask(priced, key, "too long", n=2, max_tokens=5)
    assert (first.status, first.error["code"]) == (502, "upstream_error")
    await is_left(priced, key, "0")
    again = await ask(priced, key, "too long", n=2, max_tokens=5)
    assert (again.status, again.error["code"], len(upstream.calls)) == (429, "insufficient_quota", 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_pays_what_came_and_holds_nothing(priced, upstream, stream):
    key = await priced.key(tenant=f"leaves {stream}", budget={"day": 0.1})
    upstream.script("tokens=90;chunks=90;stall_after=20" if stream else "tokens=90;latency_ms=60000")
    wire = await priced.connect()
    wire.send(post(chat("leaves", max_tokens=90, stream=stream), headers=f"Authorization: Bearer {key}\r\n"))
    await until(lambda: upstream.calls)
    if stream:
        await wire.read_until(b'"content":"mock')
    wire.abort()
    for _ in range(2_000):
        left = float((await ask(priced, key, "?", cache_control="only-if-cached")).headers["x-budget-remaining"])
        if left > 0.01:
            break
        await asyncio.sleep(0.01)
    assert (0.05 < left < 0.1) if stream else left == 0.1


async def test_a_budget_that_is_changed_holds_at_once(priced, upstream):
    made = await priced.request(
        "POST", "/admin/keys", json={"name": "n", "tenant": "changed", "budget": {"day": "0.01"}}, headers=priced.admin
    )
    key, path = made.json["key"], f"/admin/keys/{made.json['id']}/budget"
    upstream.script("tokens=5", 9)
    assert (await ask(priced, key, "changed 1", max_tokens=5)).status == 200
    await is_left(priced, key, "0.005")
    lowered = await priced.request("PUT", path, json={"day": 0.005}, headers=priced.admin)
    assert (lowered.status, lowered.json["budget"]) == (200, {"day": "0.005", "month": None})
    assert "has spent 0.005" in (await ask(priced, key, "changed 1", max_tokens=5)).error["message"]
    assert (await priced.request("PUT", path, json={"month": "0.02"}, headers=priced.admin)).status == 200
    answer = await ask(priced, key, "changed 2", max_tokens=5)
    assert (answer.status, answer.headers["x-budget-limit"]) == (200, "0.02"), "a month is another account, which is new"
    assert (await priced.request("PUT", path, json={"day": -1}, headers=priced.admin)).status == 400
    for wrong in ("0.0000000001", "1e999999999", "NaN", "-1", "0", 1e300):
        answer = await priced.request("PUT", path, json={"day": wrong}, headers=priced.admin)
        assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json"), wrong
    audit = (await priced.request("GET", "/admin/audit?limit=2", headers=priced.admin)).json["data"]
    assert [(entry["action"], entry["after"]["budget"]["month"]) for entry in audit] == [
        ("key.budget", "0.02"),
        ("key.budget", None),
    ]


async def test_embeddings_cost_their_input(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "prices: {models: {mock/*: {input: 1000, output: 0}}}\nkeys: {required: true}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.key(budget={"day": 0.02})
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": "mock-model", "input": ["four words are here"]}
        first = await gateway.request("POST", "/v1/embeddings", json=body, headers=headers)
        assert first.status == 200, first.body
        again = await gateway.request("POST", "/v1/embeddings", json=body, headers=headers)
        spent = first.json["usage"]["prompt_tokens"] * TOKEN
        assert float(again.headers["x-budget-remaining"]) == pytest.approx(0.02 - spent)
        long = await gateway.request("POST", "/v1/embeddings", json=body | {"input": "x" * 30}, headers=headers)
        assert (long.status, long.error["code"]) == (429, "insufficient_quota")


async def test_what_was_spent_outlives_a_restart(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + PRICES
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.key(budget={"day": 0.01})
        upstream.script("tokens=6")
        assert (await ask(gateway, key, "before", max_tokens=6)).status == 200
    async with running_gateway(tmp_path, config=config) as gateway:
        hit = await ask(gateway, key, "before", max_tokens=6)
        assert (hit.cache, hit.headers["x-budget-remaining"]) == ("exact", "0.004")
        assert (await ask(gateway, key, "after", max_tokens=6)).status == 429
        assert (await gateway.reload(config + "budget: {day: 0.001}\n")).status == 200
        other = await gateway.key(tenant="default of the configuration")
        assert (await ask(gateway, other, "first", max_tokens=2)).headers["x-budget-limit"] == "0.001"


async def test_a_stop_holds_nothing_of_what_was_drained(chaos, upstream, tmp_path):
    """The call that nobody waits for had not said a word."""
    route = "models: {drained: {targets: [mock/mock-model], on_disconnect: drain}}\n"
    config = one_provider(chaos.base_url) + PRICES + route
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.key(budget={"day": 0.1})
        upstream.script("latency_ms=60000")
        leaving = asyncio.create_task(ask(gateway, key, "drained", model="drained", max_tokens=90))
        await until(lambda: upstream.calls)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: gateway.places() == 0)
        assert upstream.calls[0].closed_by_peer_at is None, "it goes on"
        left = (await ask(gateway, key, "?", cache_control="only-if-cached")).headers["x-budget-remaining"]
        assert left == "0.01"
    async with running_gateway(tmp_path, config=config) as gateway:
        await is_left(gateway, key, "0.1")


async def test_the_ledger_says_what_was_held(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url) + PRICES) as gateway:
        keys = [await gateway.key(), await gateway.key(budget={"day": 1})]
        upstream.script("tokens=6", 2)
        for key in keys:
            assert (await ask(gateway, key, "held", max_tokens=8, cache_control="no-cache")).status == 200
    export = [sys.executable, "-m", "sentinel_gateway", "ledger", "export", "--table", "attempts", "--format", "jsonl"]
    env = os.environ | {"HOME": str(tmp_path), "SENTINEL_DATA_DIR": str(tmp_path / "data")}
    told = await asyncio.to_thread(subprocess.run, export, env=env, capture_output=True, check=True)
    held = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(each["reserved_usd"], each["cost_usd"]) for each in held] == [(0, 0.006), (0.008, 0.006)]


async def test_a_hit_that_is_answered_at_once_tells_the_budget_and_is_refused_when_it_is_spent(priced, upstream):
    key = await priced.key(tenant="fast", budget={"day": 0.01})
    upstream.script("tokens=5", 2)
    for _ in range(6):
        assert (await ask(priced, key, "fast", max_tokens=5)).headers["x-budget-remaining"] == "0.005"
    assert (await ask(priced, key, "faster", max_tokens=5)).status == 200
    await is_left(priced, key, "0")
    assert (await ask(priced, key, "fast", max_tokens=5)).status == 429
    assert len(upstream.calls) == 2


@pytest.mark.parametrize(
    ("unknown", "status", "remaining"), [("estimate", 429, None), ("refuse", 400, None), ("allow", 200, "0.000001")]
)
async def test_a_price_that_nobody_knows(chaos, upstream, tmp_path, unknown, status, remaining):
    config = one_provider(chaos.base_url) + f"prices: {{unknown: {unknown}}}\nkeys: {{required: true}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.key(budget={"day": "0.000001"})
        answer = await ask(gateway, key, "unknown", max_tokens=5)
        assert answer.status == status, answer.body
        assert answer.headers.get("x-budget-remaining") == remaining or remaining is None


async def test_how_budgets_stand_is_told_to_who_may_know(priced, upstream):
    """The spent and what is held for requests under way; a tenant's reader sees its tenant's alone."""
    key = await priced.key(tenant="told", budget={"day": 0.02, "month": 1})
    other = await priced.key(tenant="elsewhere", budget={"day": 5})
    upstream.script("tokens=8", 1)
    assert (await ask(priced, key, "told", max_tokens=8)).status == 200
    await is_left(priced, key, "0.012")
    upstream.script("latency_ms=60000", 1)
    waiting = asyncio.create_task(ask(priced, key, "stalls", max_tokens=4))
    for _ in range(500):
        budgets = (await priced.get("/api/monitoring/budgets", headers=priced.admin)).json["budgets"]
        found = {(one["scope"], one["tenant"], one["span"], one["limit"]): one for one in budgets}
        own = found["key", "told", "day", 0.02]
        if own["held"]:
            break
        await asyncio.sleep(0.02)
    assert (own["spent"], own["held"], own["remaining"]) == (0.008, 0.004, 0.008)
    assert own["reset"] > f"{datetime.now(UTC).date()}T23"
    assert found["key", "told", "month", 1]["spent"] == 0.008
    assert found["tenant", "told", "day", 0.05]["owner"] == "told"
    assert found["key", "elsewhere", "day", 5]["spent"] == 0
    waiting.cancel()
    reader = {"authorization": f"Bearer {await priced.key(tenant='told', scopes=['read'])}"}
    told = (await priced.get("/api/monitoring/budgets?limit=2", headers=reader)).json
    assert {one["tenant"] for one in told["budgets"]} == {"told"}
    assert (len(told["budgets"]), told["total"]) == (2, 3)
    assert told["budgets"][0]["owner"] == own["owner"], "the most used first"
    assert (await priced.get("/api/monitoring/budgets", headers={"authorization": f"Bearer {other}"})).status == 403
