"""Traces and metrics as an OTLP endpoint gets them: read from its wire, by OpenTelemetry's own definitions of it."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.gateway import ADMIN_KEY, chat, one_provider, post, provider, running_gateway

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROMPT = "Quokka-canary-of-a-prompt"


class Sink(ThreadingHTTPServer):
    """An OTLP endpoint."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.raw: list[bytes] = []
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.wait = threading.Event()
        self.wait.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Span]:
        return [
            span for told in self.traces for held in told.resource_spans for scope in held.scope_spans for span in scope.spans
        ]

    def resource(self) -> dict[str, Any]:
        return values(self.traces[0].resource_spans[0].resource.attributes)

    def points(self, name: str) -> list[Any]:
        last = self.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in last if metric.name == name for point in metric.histogram.data_points]


class _Taking(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.wait.wait(30)
        self.server.raw.append(body)
        if self.path == "/v1/traces":
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            self.server.metrics.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def told(sink: Sink) -> list[tuple[Span, tuple[str, str, Any]]]:
    """Each span with its kind, name and attributes, in the order in which they ended."""
    kinds = {number: name.removeprefix("SPAN_KIND_") for name, number in Span.SpanKind.items()}
    spans = sorted(sink.spans(), key=lambda span: span.end_time_unix_nano)
    return [(span, (kinds[span.kind], span.name, values(span.attributes))) for span in spans]


def looked_up(sink: Sink) -> list[list[tuple[str, str]]]:
    """The tiers that each request asked and what they said, both in the order in which they began."""
    spans = sorted(sink.spans(), key=lambda span: span.start_time_unix_nano)
    found = [(span.parent_span_id, values(span.attributes)) for span in spans if span.name == "cache.lookup"]
    return [
        [(shown["sentinel.cache.tier"], shown["sentinel.cache.result"]) for parent, shown in found if parent == server.span_id]
        for server in spans
        if server.kind == Span.SPAN_KIND_SERVER
    ]


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.wait.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """An endpoint that is away is given up on, but the SDK's thread goes on for a while: what it says is no later test's."""
    yield
    for thread in threading.enumerate():
        if thread.name == "sentinel-otlp":
            thread.join(60)
            assert not thread.is_alive()


def traced(sink: Sink, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **more}


async def test_a_request_is_a_span_and_so_is_each_call_and_each_tier(sink, upstream, tmp_path):
    config = one_provider(upstream.base_url) + "tracing: {pass_to: [mock]}\nservice: {name: gate}\n"
    began = time.time_ns()
    async with running_gateway(tmp_path, environ=traced(sink), config=config) as gateway:
        answer = await gateway.ask(chat(PROMPT), traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="a=b")
        assert answer.status == 200
    assert sink.resource()["service.name"] == "gate"
    spans = {f"{kind} {attributes.get('sentinel.cache.tier', '')}": span for span, (kind, _, attributes) in told(sink)}
    server = spans["SERVER "]
    assert (server.name, server.trace_id.hex(), server.parent_span_id.hex()) == ("POST /v1/chat/completions", TRACE, PARENT)
    assert (
        values(server.attributes).items()
        >= {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "gen_ai.request.model": "mock-model",
            "sentinel.cache.outcome": "miss",
            "sentinel.id": answer.headers["x-sentinel-id"],
            "sentinel.attempts": 1,
        }.items()
    )
    memory, disk, call = [spans.pop(name) for name in ("INTERNAL memory", "INTERNAL disk", "CLIENT ")]
    assert spans.keys() == {"SERVER "}
    for child in (memory, disk, call):
        assert (child.trace_id, child.parent_span_id) == (server.trace_id, server.span_id)
        assert began < server.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= server.end_time_unix_nano < time.time_ns()
    assert disk.end_time_unix_nano <= call.start_time_unix_nano
    assert values(disk.attributes) == {"sentinel.cache.tier": "disk", "sentinel.cache.result": "uri-miss"}
    usage = answer.json["usage"]
    assert (call.name, values(call.attributes)["gen_ai.usage.input_tokens"]) == ("chat mock-model", usage["prompt_tokens"])
    assert (
        values(call.attributes).items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "mock",
            "gen_ai.request.model": "mock-model",
            "gen_ai.usage.output_tokens": usage["completion_tokens"],
            "sentinel.attempt.ending": "answered",
        }.items()
    )
    assert upstream.calls[-1].headers["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"


async def test_a_hit_has_no_call_and_its_tier_says_so(sink, upstream, tmp_path):
    async with running_gateway(tmp_path, environ=traced(sink), config=one_provider(upstream.base_url)) as gateway:
        wire = await gateway.connect()
        for _ in range(4):  # the last is answered before its bytes are read: they have hit twice
            wire.send(post(chat(PROMPT)))
            assert (await wire.answer()).status == 200
        await wire.close()
    servers = [span for span, (kind, _, shown) in told(sink) if kind == "SERVER" and shown["sentinel.cache.outcome"] == "exact"]
    assert len(servers) == 3
    for server in servers:
        [memory] = [span for span in sink.spans() if span.parent_span_id == server.span_id]
        assert values(memory.attributes) == {"sentinel.cache.tier": "memory", "sentinel.cache.result": "hit"}
    assert len({span.trace_id for span in sink.spans()}) == 4
    assert "traceparent" not in upstream.calls[-1].headers, "no provider is told that isn't named"


async def test_a_hit_goes_on_with_its_callers_trace_however_often_it_is_asked(sink, upstream, tmp_path):
    async with running_gateway(tmp_path, environ=traced(sink), config=one_provider(upstream.base_url)) as gateway:
        for _ in range(4):
            assert (await gateway.ask(chat(PROMPT), traceparent=f"00-{TRACE}-{PARENT}-01")).status == 200
    servers = [(span, shown) for span, (kind, _, shown) in told(sink) if kind == "SERVER"]
    assert [shown["sentinel.cache.outcome"] for _, shown in servers] == ["miss", "exact", "exact", "exact"]
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span, _ in servers} == {(TRACE, PARENT)}


async def test_the_log_and_exemplars_lead_to_the_trace(sink, upstream, tmp_path, capfd):
    environ = traced(sink, LOG_LEVEL="info")
    async with running_gateway(tmp_path, environ=environ, config=one_provider(upstream.base_url)) as gateway:
        ids = [(await gateway.ask(chat(PROMPT))).headers["x-sentinel-id"] for _ in range(5)]  # the last by its bytes alone
        scraped = await gateway.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    spans = {shown["sentinel.id"]: span for span, (kind, _, shown) in told(sink) if kind == "SERVER"}
    lines = {line["sentinel_id"]: line for line in map(json.loads, capfd.readouterr().out.splitlines()) if "sentinel_id" in line}
    for one in ids:
        assert (lines[one]["trace_id"], lines[one]["span_id"]) == (spans[one].trace_id.hex(), spans[one].span_id.hex())
    labels = [
        sample.exemplar.labels
        for family in text_string_to_metric_families(scraped.body.decode())
        for sample in family.samples
        if sample.exemplar
    ]
    assert {one["sentinel_id"] for one in labels} & set(ids)
    assert all(one["trace_id"] == spans[one["sentinel_id"]].trace_id.hex() for one in labels)


async def test_each_attempt_is_a_span_and_failures_are_told(sink, upstream, tmp_path):
    config = f"providers:\n{provider('bad', upstream.base_url + '/err=503')}{provider('mock', upstream.base_url)}"
    config += "models: {both: [bad/mock-model, mock/mock-model]}\n"
    async with running_gateway(tmp_path, environ=traced(sink), config=config) as gateway:
        assert (await gateway.ask(chat(PROMPT, model="both", stream=True))).status == 200
        assert (await gateway.ask(chat(PROMPT, model="bad/mock-model"))).status == 502
        assert (await gateway.get("/health")).status == 200
        assert (await gateway.get("/nowhere")).status == 404
    calls = [(span, shown) for span, (kind, _, shown) in told(sink) if kind == "CLIENT"]
    assert [(shown["gen_ai.provider.name"], shown.get("error.type", "")) for _, shown in calls] == [
        ("bad", "upstream_error"),
        ("mock", ""),
        ("bad", "upstream_error"),
    ]
    assert [span.status.code == Status.STATUS_CODE_ERROR for span, _ in calls] == [True, False, True]
    assert calls[1][1]["gen_ai.response.time_to_first_chunk"] > 0
    servers = {span.name: span for span, (kind, _, _) in told(sink) if kind == "SERVER"}
    assert servers.keys() == {"POST /v1/chat/completions", "GET /health", "GET unmatched"}
    durations = sink.points("gen_ai.client.operation.duration")
    assert sum(point.count for point in durations) == 3
    tokens = {values(point.attributes)["gen_ai.token.type"]: point.sum for point in sink.points("gen_ai.client.token.usage")}
    assert tokens == {"input": calls[1][1]["gen_ai.usage.input_tokens"], "output": calls[1][1]["gen_ai.usage.output_tokens"]}
    assert sum(point.count for point in sink.points("gen_ai.client.operation.time_to_first_chunk")) == 1


async def test_each_chunk_of_a_stream_but_the_first_is_timed(sink, upstream, tmp_path):
    config = one_provider(f"{upstream.base_url}/chunks=4;chunk_ms=100")
    streamed = chat(PROMPT, stream=True, stream_options={"include_usage": True})
    async with running_gateway(tmp_path, environ=traced(sink), config=config) as gateway:
        stream = (await gateway.ask(streamed)).sse
        assert (await gateway.ask(streamed)).cache == "exact"
        assert (await gateway.ask(chat("as a whole"))).status == 200
    assert len(upstream.calls) == 2
    [point] = sink.points("gen_ai.client.operation.time_per_output_chunk")
    assert point.count == len(stream.chunks) - 1 > 4
    assert 0.05 < point.sum < sum(one.sum for one in sink.points("gen_ai.client.operation.duration"))
    assert values(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mock",
        "gen_ai.request.model": "mock-model",
    }


async def test_no_prompt_answer_or_key_is_told(sink, upstream, tmp_path):
    async with running_gateway(tmp_path, environ=traced(sink), config=one_provider(upstream.base_url)) as gateway:
        answer = await gateway.ask(chat(PROMPT), authorization=f"Bearer {ADMIN_KEY}")
        assert answer.status == 200
        assert (await gateway.ask(b'{"model": "mock/' + PROMPT.encode() + b'"')).status == 400
    sent = b"".join(sink.raw)
    assert answer.headers["x-sentinel-id"].encode() in sent
    for canary in (PROMPT, "mock answer", ADMIN_KEY, "key-of-mock"):
        assert canary.encode() not in sent


async def test_an_endpoint_that_is_away_or_stuck_touches_no_request(sink, upstream, tmp_path):
    (tmp_path / "away").mkdir()
    config = one_provider(upstream.base_url)
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    async with running_gateway(tmp_path / "away", environ=away, config=config, alone=False) as gateway:
        assert (await gateway.ask(chat(PROMPT))).status == 200
    sink.wait.clear()
    async with running_gateway(tmp_path, environ=traced(sink), config=config, alone=False) as gateway:
        answers = await asyncio.gather(*(gateway.ask(chat(f"{PROMPT} {number}")) for number in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert sink.traces == []
        sink.wait.set()
    assert len([kind for _, (kind, _, _) in told(sink) if kind == "SERVER"]) == 50


async def test_the_semantic_tier_is_a_span_with_the_reason_of_its_miss(sink, upstream, tmp_path):
    environ = traced(sink)
    async with running_gateway(tmp_path, environ=environ, config=one_provider(upstream.base_url), semantic=True) as gateway:
        assert (await gateway.ask(chat(PROMPT))).status == 200
    [vector] = [shown for _, (_, _, shown) in told(sink) if shown.get("sentinel.cache.tier") == "vector"]
    assert vector == {
        "sentinel.cache.tier": "vector",
        "sentinel.cache.result": "miss",
        "sentinel.cache.detail": "empty-scope",
    }


async def test_a_batch_of_embeddings_asks_a_tier_once(sink, upstream, tmp_path):
    async with running_gateway(tmp_path, environ=traced(sink), config=one_provider(upstream.base_url)) as gateway:
        for asked in (["a", "b"], ["a", "b", "c"], ["c", "a"]):
            assert (await gateway.ask({"model": "mock-model", "input": asked}, "/v1/embeddings")).status == 200
    assert looked_up(sink) == [
        [("memory", "uri-miss"), ("disk", "uri-miss")],
        [("memory", "uri-miss"), ("disk", "uri-miss")],
        [("memory", "hit")],
    ]


async def test_a_batch_of_embeddings_that_the_farther_tier_has_is_a_hit_there(sink, upstream, tmp_path):
    for asked in (["a", "b"], ["a", "b"]):  # by another process, whose memory is empty
        async with running_gateway(tmp_path, environ=traced(sink), config=one_provider(upstream.base_url)) as gateway:
            assert (await gateway.ask({"model": "mock-model", "input": asked}, "/v1/embeddings")).status == 200
    assert looked_up(sink)[1] == [("memory", "uri-miss"), ("disk", "hit")]


async def test_who_wants_nothing_stored_has_no_tier_asked(sink, upstream, tmp_path):
    async with running_gateway(tmp_path, environ=traced(sink), config=one_provider(upstream.base_url)) as gateway:
        for wish in ({"cache_control": "no-cache"}, {"x_bypass_cache": "true"}, {"cache_control": "max-age=60"}):
            assert (await gateway.ask(chat(PROMPT), **wish)).status == 200
    assert looked_up(sink) == [[], [], [("memory", "hit")]]


async def test_an_answer_that_has_expired_is_looked_up_again_where_every_provider_fails(sink, upstream, tmp_path):
    environ = traced(sink, SENTINEL_CACHE__STALE_IF_ERROR="60")
    async with running_gateway(tmp_path, environ=environ, config=one_provider(upstream.base_url)) as gateway:
        assert (await gateway.ask(chat(PROMPT), x_cache_ttl="8")).status == 200
        await gateway.wait(9)
        upstream.script("err=503")
        assert (await gateway.ask(chat(PROMPT))).headers["x-cache-stale"] == "true"
        upstream.script("err=503")
        assert (await gateway.ask(chat("of this nothing is stored"))).status == 502
    assert looked_up(sink)[1:] == [
        [("memory", "uri-miss"), ("disk", "stale"), ("disk", "hit")],
        [("memory", "uri-miss"), ("disk", "uri-miss"), ("disk", "miss")],
    ]


async def test_a_trace_that_its_caller_does_not_sample_is_passed_on_and_not_told(sink, upstream, tmp_path):
    config = one_provider(upstream.base_url) + "tracing: {pass_to: [mock]}\n"
    async with running_gateway(tmp_path, environ=traced(sink), config=config) as gateway:
        assert (await gateway.ask(chat(PROMPT), traceparent=f"00-{TRACE}-{PARENT}-00")).status == 200
        assert (await gateway.ask(chat("other"), traceparent="00-nonsense-01")).status == 200
    passed = [call.headers["traceparent"].split("-") for call in upstream.calls]
    assert (passed[0][1], passed[0][3]) == (TRACE, "00")
    assert (passed[1][1] != TRACE, int(passed[1][3], 16) & 1) == (True, 1)
    assert {span.trace_id.hex() for span in sink.spans()} == {passed[1][1]}


async def test_each_signal_may_have_an_address_of_its_own(sink, upstream, tmp_path):
    environ = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{sink.url}/v1/metrics"}
    async with running_gateway(tmp_path, environ=environ, config=one_provider(upstream.base_url)) as gateway:
        assert (await gateway.ask(chat(PROMPT))).status == 200
    assert (sink.traces, len(sink.metrics)) == ([], 1)


def test_it_is_not_loaded_where_it_is_off():
    look = "import sys, sentinel_gateway.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, text=True).stdout.split()
    assert "sentinel_gateway.telemetry.events" in loaded
    for name in ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "sentinel_gateway.telemetry.tracing"):
        assert name not in loaded


async def test_off_costs_nothing(upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(upstream.base_url)) as gateway:
        assert gateway.process.events.begin_trace is None
        assert (await gateway.ask(chat(PROMPT), traceparent=f"00-{TRACE}-{PARENT}-01")).status == 200
    assert "traceparent" not in upstream.calls[-1].headers
