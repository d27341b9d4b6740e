"""The analytics of `/api/monitoring`, over a ledger with a past: seed 004's endpoints, what they tell, and what they refuse."""

import asyncio
import random
import threading
import time
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from sentinel_gateway.api.analytics import Analytics
from sentinel_gateway.api.monitoring_hours import ProviderHours
from sentinel_gateway.core.analytics import FIGURES, STAGES
from sentinel_gateway.core.windows import Window
from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ports.ledger import Handled, Intent, Settled, Spent
from tests.gateway import DAY, HOUR, away_from_the_end_of, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

IMPATIENT = {"SENTINEL_ROUTING__COOL_DOWN": "20", "SENTINEL_ROUTING__PATIENCE": "1"}
BEFORE = 40
"""Hours of the past."""
GETS = {
    "/api/monitoring/anomalies": ["timestamp", "anomalies", "total_count", "critical_count", "warning_count"],
    "/api/monitoring/trial-analytics": ["timestamp", "period_days", "funnel", "rates", "conversion_rate"],
    "/api/monitoring/cost-analysis": ["timestamp", "period_days", "total_cost", "providers", "daily", "advice"],
    "/api/monitoring/latency-trends/mock": ["timestamp", "provider", "hours", "data", "models", "trend"],
    "/api/monitoring/error-rates": ["timestamp", "hours", "error_rate", "models"],
    "/api/monitoring/token-efficiency/mock/org/large": ["timestamp", "provider", "model", "hours", "tokens_per_request"],
}


def call(number: int, at: float, provider: str = "mock", model: str = "small", *, ending: str = "answered", ms: int = 800):
    intent = Intent(f"{number:032x}", 1, int(at * 1e6), "acme", "key_1", "/v1/chat/completions", model, provider, model)
    large = model != "small"
    took = Spent(4000, 100, 0, 200, 150, 9_000_000, "2026-01-01") if large else Spent(400, 0, 0, 200, 0, 90_000, "2026-01-01")
    return Settled(intent, ending, took if ending == "answered" else Spent(), duration=ms * 1000, first_token=ms * 100)


@pytest.fixture(scope="module")
async def now(anyio_backend) -> float:
    """Neither at the end of an hour nor before there is a call in it."""
    await away_from_the_end_of(HOUR, 60.0)
    await asyncio.sleep(max(0.0, 31 - time.time() % HOUR))
    return time.time()


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory, now):
    """Two days of two models; for an hour, four hours ago, `mock/small` failed often, and `mock/org/large` was slow."""
    fault = now // HOUR * HOUR - 4 * HOUR
    folder, chance, rows = tmp_path_factory.mktemp("analytics"), random.Random(4), []
    for number in range(BEFORE * 120):
        at = now - 30 * (number + 1)
        bad, model = fault <= at < fault + HOUR, ("small", "small", "org/large")[number % 3]
        ending = "broken" if model == "small" and chance.random() < (0.6 if bad else 0.001) else "answered"
        ms = chance.randint(700, 900) * (4 if bad and model == "org/large" else 1)
        rows.append(call(number, at, model=model, ending=ending, ms=ms))
    rows.append(call(99_999, now - HOUR, "gone", "old"))
    (folder / "data").mkdir()
    database = make_database(folder / "data", None)
    database.copy(rows)
    database.close()
    async with running_gateway(folder, config=one_provider(chaos.base_url)) as gateway:
        yield gateway


async def told(gateway, path: str, **params):
    answer = await gateway.get(f"/api/monitoring/{path}", params=params)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    return answer.json


@pytest.mark.parametrize(("path", "members"), GETS.items())
async def test_bodies_of_seed_004(gateway, path, members):
    answer = await gateway.get(path)
    assert answer.status == 200, answer.body
    assert set(members) <= set(answer.json)
    datetime.strptime(answer.json["timestamp"], "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - its zone is the Z
    assert (await gateway.request("HEAD", path)).status == 200


async def test_anomalies_are_found_explained_and_counted(gateway, now):
    body = await told(gateway, "anomalies")
    slow, failing = sorted(body["anomalies"], key=lambda one: one["type"], reverse=True)
    assert (slow["type"], slow["severity"], slow["provider"], slow["model"]) == ("latency_shift", "critical", "mock", "org/large")
    assert slow["ratio"] == pytest.approx(4, rel=0.15)
    assert (failing["type"], failing["model"], failing["metric"]) == ("error_burst", "small", "error_rate")
    assert failing["value"] == pytest.approx(0.6, abs=0.12)
    for one in (slow, failing):
        since, until = (datetime.fromisoformat(one[name]).timestamp() for name in ("since", "until"))
        assert since == pytest.approx(now // HOUR * HOUR - 4 * HOUR, abs=600)
        assert until == pytest.approx(now // HOUR * HOUR - 3 * HOUR, abs=600)
        assert one["message"].startswith(f"mock/{one['model']}: ")
    assert (body["total_count"], body["critical_count"], body["warning_count"]) == (2, 2, 0)
    assert (await told(gateway, "anomalies", severity="warning"))["anomalies"] == []
    assert (await told(gateway, "anomalies", provider="gone"))["total_count"] == 0
    assert (await told(gateway, "anomalies", hours=1))["total_count"] == 0
    assert len((await told(gateway, "anomalies", limit=1))["anomalies"]) == 1


async def test_error_rates_by_model_the_worst_first(gateway):
    body = await told(gateway, "error-rates", hours=48)
    worst, *others = body["models"]
    assert (worst["provider"], worst["model"]) == ("mock", "small")
    assert worst["by_type"] == {"broken": worst["failed_requests"]}
    assert worst["error_rate"] == worst["failed_requests"] / worst["total_requests"] > 0
    assert [one["error_rate"] for one in others] == [0.0, 0.0]
    assert body["total_requests"] == BEFORE * 120 + 1
    assert [one["model"] for one in (await told(gateway, "error-rates", provider="gone"))["models"]] == ["old"]


async def test_latency_trends_by_the_hour(gateway, now):
    body = await told(gateway, "latency-trends/mock", hours=6)
    assert len(body["data"]) == 6
    assert f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d:%H}" in body["data"]
    for hour in body["data"].values():
        assert hour["count"] > 0
        assert 600 < hour["p50"] <= hour["p95"] <= hour["p99"]
    assert body["models"]["small"]["trend"] == "steady"
    assert body["models"]["org/large"]["count"] > 100


async def test_token_efficiency_of_a_model_with_a_slash(gateway):
    body = await told(gateway, "token-efficiency/mock/org/large", hours=24)
    assert body["model"] == "org/large"
    assert (body["tokens_per_request"], body["output_ratio"], body["cached_ratio"], body["reasoning_ratio"]) == (
        *(4200, 0.05, 0.025, 0.75),
    )
    assert body["cost_per_million_tokens"] == pytest.approx(0.009 / 4200 * 1e6)
    assert body["tokens_per_second"] > 50
    nothing = await told(gateway, "token-efficiency/mock/unheard-of")
    assert (nothing["total_requests"], nothing["tokens_per_request"]) == (0, None)


async def test_costs_by_provider_model_and_day_with_advice(gateway):
    body = await told(gateway, "cost-analysis", days=3)
    mock = body["providers"]["mock"]
    large = BEFORE * 120 // 3
    assert mock["models"]["org/large"]["total_cost"] == pytest.approx(large * 0.009)
    assert body["total_cost"] == pytest.approx(sum(one["total_cost"] for one in body["providers"].values()))
    assert body["total_cost"] == pytest.approx(sum(body["daily"].values()))
    assert sum(one["share"] for one in body["providers"].values()) == pytest.approx(1, abs=1e-5)
    assert {one["type"] for one in body["advice"] if one["model"] == "org/large"} == {
        "cheaper_model",
        "prompt_cache",
        "reasoning",
    }
    assert all(one["at_stake"] > 0 for one in body["advice"])


PRICES = "prices: {models: {mock/*: {input: 2, output: 8, cached_input: 1}}}\n"


@pytest.fixture
async def priced(chaos, tmp_path, now):
    """Three calls at known prices: one as it would cost now, one of a price that has changed since, one of another tenant."""
    usual, old, other = (call(number, now - 60 * number) for number in (1, 2, 3))
    asked = Spent(1000, 400, 0, 500, 100, 600 * 2000 + 400 * 1000 + 500 * 8000, "2026-01-01")
    rows = [replace(usual, spent=asked), replace(old, spent=replace(asked, cost=9 * 10**9))]
    rows.append(replace(other, intent=replace(other.intent, tenant="other"), spent=asked))
    (tmp_path / "data").mkdir()
    database = make_database(tmp_path / "data", None)
    database.copy(rows)
    database.close()
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url) + PRICES) as gateway:
        yield gateway


async def test_cost_parts_of_each_request(priced):
    body = await told(priced, "cost-analysis/requests")
    dearest, usual, _ = body["calls"]
    assert (dearest["cost"], dearest["parts"]) == (9.0, None), "its price is another by now"
    assert usual["cost"] == 0.0056
    assert usual["parts"] == pytest.approx(
        {"request": 0, "input": 0.0012, "cached_input": 0.0004, "cache_write": 0, "output": 0.0032, "reasoning": 0.0008}
    )
    assert (usual["request"], usual["attempt"], usual["basis"], usual["latency_ms"]) == (f"{1:032x}", 1, "price", 800)
    assert body["total_cost"] == pytest.approx(9.0112)
    latest = await told(priced, "cost-analysis/requests", order="latest", limit=1)
    assert [one["request"] for one in latest["calls"]] == [f"{1:032x}"]
    of_one = await told(priced, "cost-analysis/requests", id=f"{2:032x}")
    assert [one["cost"] for one in of_one["calls"]] == [9.0]
    assert (await priced.get("/api/monitoring/cost-analysis/requests?id=x")).status == 400


async def test_a_tenant_sees_what_its_own_calls_cost(priced):
    key = await priced.key(tenant="other", scopes=["read"])
    answer = await priced.get("/api/monitoring/cost-analysis/requests", headers={"authorization": f"Bearer {key}"})
    assert [one["request"] for one in answer.json["calls"]] == [f"{3:032x}"]


async def report(gateway, **body):
    return await gateway.request("POST", "/api/monitoring/report", json=body)


async def test_a_report_has_the_figures_and_groups_that_were_asked_for(gateway):
    answer = await report(
        gateway,
        metrics=["total_requests", "latency_p95_ms", "total_cost"],
        group_by=["provider", "model"],
        filter={"provider": ["mock"]},
        window={"days": 3},
    )
    assert answer.status == 200, answer.body
    rows = answer.json["rows"]
    assert [list(row) for row in rows] == [["provider", "model", "total_requests", "latency_p95_ms", "total_cost"]] * 2
    assert {row["model"]: row["total_requests"] for row in rows} == {"small": BEFORE * 80, "org/large": BEFORE * 40}
    assert answer.json["total_rows"] == 2


async def test_a_report_of_everything_by_nothing_is_one_row(gateway):
    answer = await report(gateway, metrics=list(FIGURES))
    (row,) = answer.json["rows"]
    assert list(row) == list(FIGURES)
    hours = (await report(gateway, metrics=["total_requests"], group_by=["hour"], window={"hours": 5}, limit=2)).json
    assert (len(hours["rows"]), hours["total_rows"]) == (2, 5)
    nobody = (await report(gateway, metrics=["total_requests", "error_rate"], filter={"provider": ["nobody"]})).json
    assert (nobody["rows"], nobody["total_rows"]) == ([{"total_requests": 0, "error_rate": None}], 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "metrics"),
        ({"metrics": []}, "metrics"),
        ({"metrics": ["speed"]}, "metrics.0"),
        ({"metrics": ["total_cost"], "group_by": ["tenant"]}, "group_by.0"),
        ({"metrics": ["total_cost"], "window": {"hours": 721}}, "window.hours"),
        ({"metrics": ["total_cost"], "window": {"hours": 1, "days": 1}}, "window"),
        ({"metrics": ["total_cost"], "window": {"days": 60}, "group_by": ["hour"]}, "group_by"),
        ({"metrics": ["total_cost"], "limit": 0}, "limit"),
        ({"metrics": ["total_cost"], "sql": "x"}, "sql"),
    ],
)
async def test_a_report_that_can_t_be_made_is_refused(gateway, body, field):
    answer = await report(gateway, **body)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert field in [error["field"] for error in answer.json["errors"]]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("anomalies?hours=0", "hours"),
        ("anomalies?hours=73", "hours"),
        ("anomalies?limit=1001", "limit"),
        ("anomalies?severity=bad", "severity"),
        ("cost-analysis?days=91", "days"),
        ("trial-analytics?days=0", "days"),
        ("latency-trends/mock?hours=721", "hours"),
        ("error-rates?hours=x", "hours"),
        (f"latency-trends/{'x' * 1025}", "provider"),
    ],
)
async def test_inputs_are_checked(gateway, path, field):
    answer = await gateway.get(f"/api/monitoring/{path}")
    assert (answer.status, answer.json["errors"][0]["field"]) == (400, field)


@pytest.mark.parametrize("path", ["latency-trends/nobody", "token-efficiency/nobody/small"])
async def test_a_provider_that_was_never_heard_of_is_not_found(gateway, path):
    answer = await gateway.get(f"/api/monitoring/{path}")
    assert (answer.status, answer.json["code"]) == (404, "provider_not_found")
    assert "mock" in answer.json["detail"]
    assert (await gateway.get("/api/monitoring/latency-trends/gone")).status == 200, (
        "it is not configured any more, but was called"
    )


# --- who may ask, and trials ---


def asked(number: int, key: dict, at: float, *, limited: bool = False) -> Handled:
    status, error = (429, "insufficient_quota") if limited else (200, "")
    route = "/v1/chat/completions"
    return Handled(
        f"{number:032x}", int(at * 1e6), key["tenant"], key["id"], route, status, "miss", "", "m", "p", "m", error=error
    )


@pytest.fixture
async def trying(chaos, tmp_path):
    """A gateway that asks for keys; make(name, tenant=..., trial=True) makes one."""
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path, config=config, environ=IMPATIENT) as gateway:

        async def make(name: str, **fields):
            answer = await gateway.request("POST", "/admin/keys", json={"name": name} | fields, headers=gateway.admin)
            assert answer.status == 201
            return answer.json

        yield gateway, make


async def test_trial_funnel_stages(trying, tmp_path):
    gateway, make = trying
    await away_from_the_end_of(DAY)
    now = time.time()
    trials = {stage: await make(stage, tenant=f"of-{stage}", trial=True) for stage in STAGES}
    await make("full", tenant="of-converted")
    await make("another", tenant="of-active", trial=True)
    rows = [asked(number, trials[stage], now + number) for number, stage in enumerate(STAGES[1:])]
    rows += [asked(100 + number, trials[stage], now - 86_400) for number, stage in enumerate(("active", "limit_reached"))]
    rows += [asked(200, trials["limit_reached"], now, limited=True)]
    database = make_database(tmp_path / "data", None)
    database.copy(rows)
    database.close()
    answer = await gateway.get("/api/monitoring/trial-analytics", headers=gateway.admin)
    assert answer.status == 200, answer.body
    body = answer.json
    assert body["funnel"] == {"created": 6, "first_request": 4, "active": 3, "limit_reached": 2, "converted": 1}
    assert body["rates"]["active"] == 0.5
    assert body["conversion_rate"] == pytest.approx(1 / 6, abs=1e-6)
    stages = {one["name"]: one["stage"] for one in body["trials"]}
    assert stages == {stage: stage for stage in STAGES} | {"another": "created"}
    limited = next(one for one in body["trials"] if one["name"] == "limit_reached")
    assert (limited["requests"], limited["limited_requests"], limited["active_days"]) == (3, 1, 2)
    assert body["total_requests"] == 7
    reader = await make("reader", tenant="of-active", scopes=["read"])
    own = await gateway.get("/api/monitoring/trial-analytics", headers={"authorization": f"Bearer {reader['key']}"})
    assert {one["name"] for one in own.json["trials"]} == {"active", "another"}, "a tenant sees its own"
    assert trials["active"]["key"].encode() not in answer.body + own.body


async def test_a_request_that_met_a_limit_counts_as_that(trying):
    gateway, make = trying
    key = await make("limited", trial=True, tenant="limited", limits={"requests_per_minute": 1})
    headers = {"authorization": f"Bearer {key['key']}"}
    answers = [await gateway.request("POST", "/v1/chat/completions", json=chat(word), headers=headers) for word in ("a", "b")]
    assert [answer.status for answer in answers] == [200, 429]
    for _ in range(300):
        body = (await gateway.get("/api/monitoring/trial-analytics", headers=gateway.admin)).json
        if body["total_requests"] == 2:
            break
        await asyncio.sleep(0.1)
    assert (body["funnel"]["limit_reached"], body["trials"][0]["limited_requests"]) == (1, 1)


async def test_a_limit_of_the_provider_s_is_none_of_ours(trying, upstream):
    """Neither where it says so, nor where it said so a moment ago and is not asked again."""
    gateway, make = trying
    key = await make("unlimited", trial=True, tenant="unlimited")
    headers = {"authorization": f"Bearer {key['key']}"}
    upstream.script("err=429;retry_after=20")
    answers = [await gateway.request("POST", "/v1/chat/completions", json=chat(word), headers=headers) for word in ("c", "d")]
    assert [answer.status for answer in answers] == [429, 429]
    assert upstream.count == 1
    for _ in range(300):
        body = (await gateway.get("/api/monitoring/trial-analytics", headers=gateway.admin)).json
        if body["total_requests"] == 2:
            break
        await asyncio.sleep(0.1)
    assert (body["total_requests"], body["funnel"]["limit_reached"], body["trials"][0]["limited_requests"]) == (2, 0, 0)


@pytest.mark.parametrize("path", [*GETS, "/api/monitoring/report"])
async def test_only_readers_are_told(trying, path):
    gateway, make = trying
    method = "POST" if path.endswith("report") else "GET"
    assert (await gateway.request(method, path)).status == 401
    asker = await make("asker")
    answer = await gateway.request(method, path, headers={"authorization": f"Bearer {asker['key']}"})
    assert answer.status == 403


async def test_without_a_ledger_it_says_what_to_set(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "ledger: {enabled: false}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        answer = await gateway.get("/api/monitoring/error-rates")
        assert (answer.status, answer.json["code"]) == (503, "history_unavailable")
        assert "ledger.enabled" in answer.json["detail"]


async def test_a_ledger_that_can_t_be_read_is_told_and_hides_where_it_is(chaos, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.db").write_bytes(b"this is no database" * 100)
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        for path, kept in (("error-rates", True), ("cost-analysis/requests", False)):
            answer = await gateway.get(f"/api/monitoring/{path}")
            assert (answer.status, answer.json["code"]) == (503, "history_unavailable")
            assert ("what was read is kept" in answer.json["detail"]) == kept
            assert str(tmp_path) not in answer.body.decode()


class Watched(list):
    """Windows that tell on which threads somebody went through them."""

    def __init__(self, windows):
        super().__init__(windows)
        self.threads = set()

    def __iter__(self):
        self.threads.add(threading.get_ident())
        return super().__iter__()


async def test_a_long_past_is_added_up_beside_the_event_loop():
    """A month of sixty models held it for a second or two, and with it all requests."""

    class Past:
        async def windows(self, *_, **__):
            return found

        hourly = windows

    found = Watched([Window(0, "mock", "small", requests=1)])
    analytics = Analytics(Past(), None, ["mock"], guard=None, clock=time.time)
    told = [
        await analytics.error_rates(),
        await analytics.latency_trends("mock"),
        await analytics.token_efficiency("mock", "small"),
        await analytics.cost_analysis(),
        await ProviderHours(None, Past(), time.time).of_all([], 720),
    ]
    assert all(told)
    assert found.threads
    assert threading.get_ident() not in found.threads


# --- by region ---


async def test_latency_by_region_of_a_header_that_is_trusted(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "server: {region_header: cf-ipcountry}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        for number, region in enumerate(("DE", "DE", "US", "<script>", None)):
            headers = {} if region is None else {"cf_ipcountry": region}
            assert (await gateway.ask(chat(f"region {number}"), **headers)).status == 200
        assert (await gateway.ask(b"{", cf_ipcountry="US")).status == 400
        body = await told(gateway, "latency-regions", hours=2)
    assert body["header"] == "cf-ipcountry"
    assert {region: one["total_requests"] for region, one in body["regions"].items()} == {"DE": 2, "US": 2, "other": 1}
    assert (body["regions"]["US"]["error_rate"], body["regions"]["US"]["count"]) == (0.5, 1)
    assert body["regions"]["DE"]["p95"] > 0
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert b"<script>" not in kept


async def test_without_that_setting_no_header_is_believed(gateway):
    assert (await gateway.ask(chat("no region"), cf_ipcountry="DE")).status == 200
    body = await told(gateway, "latency-regions")
    assert (body["header"], body["regions"]) == (None, {})
