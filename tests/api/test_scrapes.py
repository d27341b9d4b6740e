"""`/metrics` as a whole: what it says when it can't be gathered, what its settings change, and that nobody can make it grow."""

import math
import random
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from sentinel_gateway.api.asgi import App
from sentinel_gateway.api.browsers import Browsers, Hosts, Pages
from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.api.management import Observed, build_management
from sentinel_gateway.api.operations import Identity, Operations, Reports
from sentinel_gateway.core.record import Attempt, Record
from tests.gateway import Answer, chat, one_provider, provider, running_gateway

pytestmark = pytest.mark.anyio
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0"}


class Noted:
    """`Events`, remembered."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def finished(self, record: Record) -> None:
        self.records.append(record)

    def attempted(self, attempt: Attempt) -> None: ...

    def note(self, event: str, **fields: Any) -> None:
        self.notes.append((event, fields))


async def get(app: App, path: str) -> Answer:
    """The answer of an ASGI app to one GET."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await app(
        scope | {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "http_version": "1.1", "scheme": "http"}, receive, send
    )
    start, *rest = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], told, b"".join(part.get("body", b"") for part in rest))


async def test_gather_failure_500(gateway):
    async def failing(exposition: str) -> tuple[bytes, str]:
        raise KeyError("a collector's own words")

    process, noted = gateway.process, Noted()
    guard = Guard(process.authenticator, process.stores.state.ring, Policy(required=False))
    nothing: dict[str, Any] = dict.fromkeys(("ready", "counters", "services", "costs", "priced", "circuits", "tiers", "config"))
    operations = Operations(
        process.tiers, Identity("s", "1", 0.0), Reports(metrics=failing, **nothing), guard=guard, clock=process.clock
    )
    management = build_management([operations.routes()], guard)
    browsers = Browsers(Pages((), False), Hosts(()))
    answer = await get(Observed(management, browsers=browsers, clock=process.clock, events=noted), "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json["error"] == (
        f"The gateway failed on this request. Its log says more under {answer.headers['x-sentinel-id']}."
    )
    assert b"own words" not in answer.body
    [(event, fields)] = noted.notes
    assert (event, fields["error"]) == ("internal_error", "KeyError")
    [record] = noted.records
    assert (record.route, record.status, record.error) == ("/metrics", 500, "internal_error"), "and that is counted"


async def test_percentiles_are_the_operators_choice(chaos, upstream, tmp_path, text):
    base = one_provider(chaos.base_url)
    async with running_gateway(tmp_path, config=f"{base}metrics: {{percentiles: [90, 99.9]}}\n") as gateway:
        for _ in range(5):
            await gateway.ask(chat(text))

        async def told() -> dict[tuple[str, str], float]:
            families = plain((await gateway.get("/metrics")).body.decode())
            [family] = [family for family in families if family.name == "sentinel_latency_seconds"]
            assert {s.labels["route"] for s in family.samples} == {"/v1/chat/completions"}
            return {(s.labels["outcome"], s.labels["quantile"]): s.value for s in family.samples if "quantile" in s.labels}

        before = await told()
        assert before.keys() == {(outcome, share) for outcome in ("exact", "miss") for share in ("0.9", "0.999")}
        assert all(0 < seconds < 10 and not math.isnan(seconds) for seconds in before.values())
        assert (await gateway.reload(f"{base}metrics: {{percentiles: 75}}\n")).status == 200
        assert (await told()).keys() == {("exact", "0.75"), ("miss", "0.75")}


async def test_what_a_scrape_tells_of_the_node(gateway, text):
    await gateway.ask(chat(text))
    await gateway.get("/metrics")
    assert gateway.metric("sentinel_ready") == 1
    assert gateway.metric('sentinel_dependency_up{dependency="disk"}') == 1
    assert gateway.metric('sentinel_dependency_up{dependency="ledger"}') == 1
    assert gateway.metric("sentinel_memory_entries") >= 1
    assert gateway.metric("sentinel_memory_bytes") > 100
    assert "redis" not in (await gateway.get("/metrics")).body.decode(), "which is not in use"


async def test_an_exemplar_leads_to_a_request(gateway, text):
    ids = {(await gateway.ask(chat(text))).headers["x-sentinel-id"] for _ in range(3)}
    answer = await gateway.get("/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    named = {
        sample.exemplar.labels["sentinel_id"]: sample
        for family in openmetrics(answer.body.decode())
        for sample in family.samples
        if sample.exemplar and sample.labels.get("route") == "/v1/chat/completions"
    }
    assert named.keys() & ids
    for sample in named.values():
        assert sample.exemplar.value <= float(sample.labels["le"])


async def test_names_that_callers_make_up_make_nothing_grow(chaos, upstream, tmp_path):
    """reliability.md D10, with everything on, and with a provider that answers whatever it is asked for."""
    chance = random.Random(4)
    config = (
        f"providers:\n{provider('mock', chaos.base_url)}{provider('other', chaos.base_url)}models: {{fast: [mock/mock-model]}}\n"
    )

    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:

        async def crowd(number: int) -> int:
            for _ in range(number):
                junk = f"junk{chance.getrandbits(64):x}"
                model = chance.choice((f"other/{junk}", junk, "mock-model", "fast"))
                body = chat(f"Is {junk} a word?", model, user=junk, stream=chance.random() < 0.5)
                await gateway.ask(body, x_cache_namespace=junk[:20], x_cache_tags=junk, x_request_id=junk, user_agent=junk)
                await gateway.ask(body | {"stream": False}, x_cache_namespace=junk[:20])
                await gateway.request(chance.choice(("GET", "PUT", "BREW", junk[:9])), f"/{junk}", headers={"x-api-key": junk})
                await gateway.ask({"model": model, "input": junk}, f"/v1/{chance.choice(('embeddings', 'responses', junk))}")
            text = (await gateway.get("/metrics", headers=OPENMETRICS)).body.decode()
            assert "junk" not in text
            return sum(1 for line in text.splitlines() if not line.startswith("#"))

        first = await crowd(100)
        assert {call.status for call in upstream.calls} == {200}
        assert await crowd(100) - first < 30, "buckets of routes that were not asked for in the first hundred"
        assert first < 1000
        other = 'sentinel_model_requests_total{cache="miss",model="other"}'
        assert gateway.metric(other) > 20
        assert gateway.metric(other.replace("other", "fast")) > 20
