"""A real Prometheus scrapes a running gateway by deploy/prometheus; what is written for it finds what it asks for."""

import asyncio
import json
import math
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from bench.chaos import ChaosUpstream
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import UpstreamLimited
from sentinel_gateway.telemetry.catalogue import SEED_001
from tests.gateway import Gateway, chat, provider, running_gateway
from tests.servers import PROMETHEUS, PROMTOOL, PrometheusServer

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMQL_OF_SEED_001 = [
    "rate(dspy_predictions_total[5m])",
    'rate(dspy_predictions_total{status="error"}[5m])',
    "histogram_quantile(0.95, rate(dspy_prediction_duration_seconds_bucket[5m]))",
    'rate(dspy_cache_operations_total{operation="hit"}[5m]) / rate(dspy_cache_operations_total[5m])',
    "sum(dspy_prediction_cost_total)",
]
EMPTY = {"sentinel_semantic_confidence_threshold": "nothing is learned from a few questions"}
"""Metrics that have no series here."""
PATIENCE = 60.0
QUESTIONS = ("What is the capital of France?", "Please tell me: what is the capital of France?")


class Seen:
    """A gateway with some traffic behind it, and the Prometheus that saw it."""

    def __init__(self, gateway: Gateway, prometheus: PrometheusServer, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.prometheus = prometheus
        self.session = session
        self.ids: set[str] = set()

    async def api(self, path: str, **params: str) -> Any:
        async with self.session.get(f"{self.prometheus.url}/api/v1/{path}", params=params) as response:
            body = await response.json()
            assert body["status"] == "success", f"{params}: {body.get('error')}"
            return body["data"]

    async def ask(self, query: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = (await self.api("query", query=query))["result"]
        return result

    async def scraped(self, times: int = 2) -> None:
        """So many more scrapes have been seen."""
        query = 'requests_total{route="/metrics",status="200"}'

        async def count() -> float:
            await asyncio.sleep(0.2)
            result = await self.ask(query)
            return float(result[0]["value"][1]) if result else 0.0

        async with asyncio.timeout(PATIENCE):
            wanted = await count() + times
            while await count() < wanted:
                pass


async def traffic(seen: Seen, upstream: ChaosUpstream, number: int) -> None:
    """Something of everything that a gateway does."""
    gateway = seen.gateway
    answers = [await gateway.ask(chat(f"What is {number} plus {number}?")) for _ in range(3)]
    answers.append(await gateway.ask(chat(f"Tell me a story about {number} whales.", stream=True)))
    answers.append(await gateway.ask(chat(f"Which sort is unpriced, number {number}?", "other/unpriced")))
    hits = [await gateway.ask(chat(question)) for question in QUESTIONS]
    seen.ids |= {answer.headers["x-sentinel-id"] for answer in (*answers, *hits)}
    verdict = {"request_id": hits[-1].headers["x-sentinel-id"], "correct": True}
    assert hits[-1].cache == "semantic"
    assert (await gateway.ask(verdict, "/v1/feedback")).status in {200, 202, 204}
    upstream.script("err=500")
    assert (await gateway.ask(chat(f"Does {number} fail?"))).status == 502
    await gateway.get("/health")
    for tier in ("", "memory"):
        began, outcome = gateway.process.clock() - 0.25, "exact" if tier else "miss"
        record = Record(began, "", "", "/v1/predict/baseline", "POST", outcome=outcome, tier=tier)
        record.model, record.cost, record.prompt_tokens, record.completion_tokens = "mock-model", 31_000, 7, 8
        with gateway.process.metrics.predictions.track(record, gateway.process.clock):
            pass
    with pytest.raises(UpstreamLimited), gateway.process.metrics.predictions.track(record, gateway.process.clock):
        raise UpstreamLimited("slow down")


@pytest.fixture(scope="module")
async def seen(anyio_backend, tmp_path_factory, absent) -> AsyncIterator[Seen]:
    binary = PROMETHEUS or absent("prometheus: make test-deps installs it")
    folder = tmp_path_factory.mktemp("prometheus")
    for rules in ("rules.yml", "alerts.yml"):
        shutil.copy(DEPLOY / "prometheus" / rules, folder)
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    async with ChaosUpstream() as upstream:
        other = provider("other", upstream.base_url).replace("mock-model, mock-small, mock-large", "unpriced")
        providers = f"providers:\n{provider('mock', upstream.base_url)}{other}"
        models = "models: {fast: [mock/mock-model, mock/mock-small]}\n"
        prices = 'prices:\n  unknown: allow\n  models: {"mock/*": {input: "0.15", output: "0.6"}}\n'
        async with running_gateway(
            tmp_path_factory.mktemp("gateway"), config=providers + models + prices, semantic=True
        ) as gateway:
            config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{gateway.port}"]
            starting = asyncio.to_thread(PrometheusServer(binary, folder, yaml.safe_dump(config)).__enter__)
            prometheus = await starting
            try:
                async with aiohttp.ClientSession() as session:
                    seen = Seen(gateway, prometheus, session)
                    for number in (1, 2):
                        await traffic(seen, upstream, number)
                        await seen.scraped()
                    yield seen
            finally:
                prometheus.__exit__(None, None, None)


async def test_it_is_up_and_is_sent_openmetrics(seen):
    [target] = (await seen.api("targets"))["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"]["job"] == "sentinel"
    [exemplars] = [
        one
        for one in await seen.api("query_exemplars", query="request_latency_seconds_bucket", start="0", end="9999999999")
        if one["seriesLabels"]["route"] == "/v1/chat/completions" and one["exemplars"][0]["labels"]["sentinel_id"] in seen.ids
    ][:1]
    assert float(exemplars["exemplars"][0]["value"]) > 0


async def test_five_promql_on_real_prometheus(seen):
    for query in PROMQL_OF_SEED_001:
        result = await seen.ask(query)
        assert result, query
        assert any(not math.isnan(float(one["value"][1])) for one in result), query
    [errors] = await seen.ask('dspy_predictions_total{status="error"}')
    assert errors["metric"].items() >= {"model": "mock-model", "variant": "baseline", "status": "error"}.items()
    [cost] = await seen.ask("sum(dspy_prediction_cost_total)")
    assert float(cost["value"][1]) == pytest.approx(2 * 0.000031)
    for family in SEED_001:
        name = f"{family.name}_count" if family.kind == "histogram" else family.name
        assert await seen.ask(name), name


async def test_prometheus_has_what_the_gateway_counts(seen):
    [asked] = await seen.ask('sum(sentinel_inference_requests_total{route="/v1/chat/completions"})')
    assert float(asked["value"][1]) == 2 * 8
    [failed] = await seen.ask('upstream_errors_total{error_type="upstream_error"}')
    assert float(failed["value"][1]) == 2
    [slowest] = await seen.ask('max(sentinel_latency_seconds{quantile="0.99"})')
    assert float(slowest["value"][1]) > 0
    calls = {one["metric"]["model"]: float(one["value"][1]) for one in await seen.ask("sentinel_model_upstream_seconds_count")}
    assert calls == {"mock-model": 2 * 4 - 1, "other/unpriced": 2}, "the capital was asked for once"


async def test_rules_are_evaluated_and_find_something(seen):
    groups = (await seen.api("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert len(recorded) == 8
    for name in recorded:
        assert await seen.ask(name), name


async def test_alerts_ask_for_metrics_that_exist(seen):
    """Most queries of alerts find nothing while all is well; each of their metrics must be there."""
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            for name in re.findall(
                r"\b(?:up|(?:sentinel|dspy|process|requests)_[a-z_]+|sentinel:[a-z0-9_:]+)\b(?![(\"=])", rule["expr"]
            ):
                assert await seen.ask(name), f"{rule['alert']}: {name}"


def queries() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{file.stem}-{panel['title']}")
        for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("query", queries())
async def test_every_query_of_the_dashboards_finds_something(seen, query):
    for variable, value in {"$job": "sentinel", "$instance": ".*", "$__rate_interval": "1m", "$__range": "1h"}.items():
        query = query.replace(variable, value)
    assert "$" not in query
    result = await seen.ask(query)
    if any(name in query for name in EMPTY):
        assert not result
    else:
        assert any(not math.isnan(float(one["value"][1])) for one in result), query


async def test_promtool_finds_no_fault_in_either_exposition(seen, absent):
    tool = PROMTOOL or absent("promtool: make test-deps installs it with prometheus")
    body = (await seen.gateway.get("/metrics")).body
    result = await asyncio.to_thread(subprocess.run, [tool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
