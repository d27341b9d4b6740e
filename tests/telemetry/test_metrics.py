"""What Prometheus reads: the text, its labels, and that nobody can make it grow."""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.telemetry.metrics import Metrics
from sentinel_gateway.telemetry.tallies import Totals

Make = Callable[..., Record]

SEED_002 = {
    "requests": "counter",
    "upstream_errors": "counter",
    "request_latency_seconds": "histogram",
    "active_connections": "gauge",
    "rate_limiter_buckets": "gauge",
}
OURS = {
    "sentinel_cache_requests": "counter",
    "sentinel_stored": "counter",
    "sentinel_tokens": "counter",
    "sentinel_in_flight": "gauge",
    "sentinel_events": "counter",
    "sentinel_upstream_attempts": "counter",
    "sentinel_cost_usd": "counter",
    "sentinel_saved_usd": "counter",
    "sentinel_unpriced_calls": "counter",
    "sentinel_first_token_seconds": "histogram",
    "dspy_circuit_breaker_state": "gauge",
    "sentinel_build_info": "gauge",
}
"""The parser names a counter without its `_total`."""
BUCKETS = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def samples(metrics: Metrics) -> Iterator[Sample]:
    for family in text_string_to_metric_families(metrics.render().decode()):
        yield from family.samples


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found = [sample.value for sample in samples(metrics) if sample.name == name and sample.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


def failed(error: str, target: str = "groq/llama") -> Attempt:
    return Attempt("s", target, 1, 7.0, stream=False, ending="broken", error=error, seconds=0.1)


def test_golden_text(metrics: Metrics, make_record: Make) -> None:
    miss = make_record(outcome="miss", tier="", seconds=0.25, stored=True, cost=600_000)
    other = make_record(outcome="none", tier="", target="", model="", prompt_tokens=0, completion_tokens=0)
    for record in (
        make_record(saved=600_000),
        miss,
        msgspec.structs.replace(miss, outcome="bypass", seconds=12.0, stored=False),
        msgspec.structs.replace(miss, status=502, error="upstream_error", stored=False, prompt_tokens=0, completion_tokens=0),
        msgspec.structs.replace(other, route="/health", method="GET"),
        msgspec.structs.replace(other, route="unmatched", method="BREW", status=404, error="unknown_url"),
    ):
        metrics.observe(record)
    metrics.opened()
    metrics.attempted(failed("upstream_error"))
    paid = Attempt("s", "groq/llama", 2, 7.0, stream=True, ending="answered", first_token_seconds=0.3, cost=600_000, model="fast")
    paid.route = "/v1/chat/completions"
    metrics.attempted(paid)
    metrics.attempted(msgspec.structs.replace(paid, cost=17_500, basis="estimated", first_token_seconds=0.0))
    metrics.attempted(msgspec.structs.replace(paid, cost=0, prompt_tokens=9, basis="unknown", first_token_seconds=0.0))
    metrics.update_circuits({"llama": "open", "gpt-4": "closed", "a/b": "half_open"})
    metrics.event("store_down")
    assert metrics.render().decode() == Path(__file__).with_name("golden.prom").read_text()


def test_metrics_are_registered(metrics: Metrics) -> None:
    families = text_string_to_metric_families(metrics.render().decode())
    assert {family.name: family.type for family in families} == SEED_002 | OURS


def test_record_request_increments_counter(metrics: Metrics, make_record: Make) -> None:
    for _ in range(3):
        metrics.observe(make_record(route="/v1/models", method="GET"))
    assert value(metrics, "requests_total", route="/v1/models", method="GET", status="200") == 3


def test_record_upstream_error_increments_counter(metrics: Metrics) -> None:
    for code in ("upstream_error", "upstream_timeout", "upstream_timeout"):
        metrics.attempted(failed(code))
    assert value(metrics, "upstream_errors_total", error_type="upstream_error") == 1
    assert value(metrics, "upstream_errors_total", error_type="upstream_timeout") == 2


def test_observe_request_latency_records_histogram(metrics: Metrics, make_record: Make) -> None:
    for seconds in (0.0004, 0.001, 0.0011, 2.0, 11.0):
        metrics.observe(make_record(seconds=seconds))
    counts = {s.labels["le"]: s.value for s in samples(metrics) if s.name == "request_latency_seconds_bucket"}
    assert (counts["0.001"], counts["0.005"], counts["1.0"], counts["2.5"], counts["10.0"], counts["+Inf"]) == (2, 3, 3, 4, 4, 5)
    assert value(metrics, "request_latency_seconds_count", route="/v1/chat/completions") == 5
    assert math.isclose(value(metrics, "request_latency_seconds_sum", route="/v1/chat/completions") or 0, 13.0025)


def test_connection_guard_updates_active_connections(metrics: Metrics) -> None:
    metrics.opened()
    metrics.opened()
    metrics.closed()
    assert value(metrics, "active_connections") == 1


def test_update_rate_limiter_buckets_sets_gauge(metrics: Metrics) -> None:
    assert value(metrics, "rate_limiter_buckets") == 0
    metrics.update_rate_limiter_buckets(7)
    assert value(metrics, "rate_limiter_buckets") == 7


def test_in_flight_is_what_was_said_last(metrics: Metrics) -> None:
    metrics.update_in_flight(4)
    assert value(metrics, "sentinel_in_flight") == 4


def test_twelve_buckets_exact(metrics: Metrics, make_record: Make) -> None:
    metrics.observe(make_record())
    assert [s.labels["le"] for s in samples(metrics) if s.name == "request_latency_seconds_bucket"] == BUCKETS


def test_no_created_series(metrics: Metrics, make_record: Make) -> None:
    metrics.observe(make_record())
    metrics.event("store_down")
    assert b"_created" not in metrics.render()


def test_content_type_0_0_4(metrics: Metrics) -> None:
    assert metrics.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_requests_total_200_400_404_429_500(metrics: Metrics, make_record: Make) -> None:
    statuses = (200, 400, 404, 429, 500)
    for status in statuses:
        metrics.observe(make_record(status=status))
    counted = {s.labels["status"]: s.value for s in samples(metrics) if s.name == "requests_total"}
    assert counted == {str(status): 1 for status in statuses}


def test_two_gateways_in_one_process_share_nothing(make_record: Make) -> None:
    one, other = Metrics("1"), Metrics("2")
    one.observe(make_record())
    assert one.totals().exact_hits == 1
    assert other.totals() == Totals()
    assert not any(family.name in SEED_002 | OURS for family in REGISTRY.collect())


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        ("context_length_exceeded", "upstream_refused"),  # the provider's own code never becomes a label
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("io_error", "io_error"),
        ("tls_error", "tls_error"),
        ("json_error", "json_error"),
        ("", None),
    ],
)
def test_only_a_providers_failure_is_an_upstream_error(
    metrics: Metrics, make_record: Make, error: str, counted: str | None
) -> None:
    """However many waited for it, and however often it was tried again."""
    metrics.attempted(failed(error))
    metrics.observe(make_record(outcome="miss", tier="", status=502, error="upstream_error"))
    found = [(s.labels["error_type"], s.value) for s in samples(metrics) if s.name == "upstream_errors_total"]
    assert found == ([(counted, 1)] if counted else [])


def test_the_first_word_of_streams_is_timed_by_provider(metrics: Metrics) -> None:
    for seconds in (0.05, 0.3, 90.0):
        metrics.attempted(Attempt("s", "a/x", 1, 0.0, stream=True, ending="answered", first_token_seconds=seconds))
    metrics.attempted(Attempt("s", "b/x", 1, 0.0, stream=False, ending="answered"))
    assert value(metrics, "sentinel_first_token_seconds_bucket", provider="a", le="0.05") == 1
    assert value(metrics, "sentinel_first_token_seconds_bucket", provider="a", le="60.0") == 2
    assert value(metrics, "sentinel_first_token_seconds_sum", provider="a") == 90.35
    assert value(metrics, "sentinel_first_token_seconds_count", provider="b") is None


def test_providers_beyond_a_number_are_counted_together(metrics: Metrics) -> None:
    for number in range(100):
        metrics.attempted(Attempt("s", f"p{number}/x", 1, 0.0, stream=True, ending="answered", first_token_seconds=1.0))
    assert value(metrics, "sentinel_upstream_attempts_total", provider="p63", outcome="answered") == 1
    assert value(metrics, "sentinel_upstream_attempts_total", provider="other", outcome="answered") == 36
    assert value(metrics, "sentinel_first_token_seconds_count", provider="other") == 36


def test_totals_count_each_request_once(metrics: Metrics, make_record: Make) -> None:
    for record in (
        make_record(),
        make_record(tier="disk"),
        make_record(outcome="semantic"),
        make_record(outcome="miss", tier=""),
        make_record(outcome="bypass", tier=""),
        make_record(outcome="miss", tier="", status=502, error="upstream_error"),
        make_record(outcome="miss", tier="", error="upstream_error"),  # a stream that broke after its 200
        make_record(outcome="none", tier="", route="/health", prompt_tokens=0, completion_tokens=0),
    ):
        metrics.observe(record)
    totals = metrics.totals()
    assert totals == Totals(exact_hits=2, semantic_hits=1, misses=1)
    assert totals.total == 4


def test_tokens_are_told_apart_by_where_they_came_from(metrics: Metrics, make_record: Make) -> None:
    metrics.observe(make_record())
    metrics.observe(make_record(outcome="miss", tier="", prompt_tokens=100, completion_tokens=10**400))
    assert value(metrics, "sentinel_tokens_total", type="prompt", source="cache") == 9
    assert value(metrics, "sentinel_tokens_total", type="completion", source="cache") == 12
    assert value(metrics, "sentinel_tokens_total", type="prompt", source="provider") == 100
    assert value(metrics, "sentinel_tokens_total", type="completion", source="provider") == 2**53


def test_100_000_random_routes_methods_and_codes_stay_2_000_series(metrics: Metrics, make_record: Make) -> None:
    """reliability.md D10. What comes first keeps its own series, the sum of all is right."""
    chance = random.Random(1)
    metrics.observe(make_record())
    for number in range(100_000):
        junk = f"{number}-{chance.random()}"
        method = chance.choice(("GET", "POST", "PUT", "DELETE", junk))
        status = chance.randrange(100, 600)
        metrics.observe(make_record(route=f"/{junk}", method=method, status=status, tier=junk, error=junk, outcome="miss"))
        metrics.event(junk)
        metrics.attempted(failed(junk, target=junk))
        metrics.attempted(Attempt("s", "a/b", 1, 0.0, stream=False, cost=1, basis="estimated", model=junk, route=f"/{junk}"))
    metrics.observe(make_record())
    found = list(samples(metrics))
    assert len(found) <= 2000
    assert sum(s.value for s in found if s.name == "requests_total") == 100_002
    assert sum(s.value for s in found if s.name == "sentinel_events_total") == 100_000
    assert value(metrics, "requests_total", route="/v1/chat/completions", method="POST", status="200") == 2
    assert value(metrics, "upstream_errors_total", error_type="upstream_refused") == 100_000


@given(route=st.text(), method=st.text(), tier=st.text(), error=st.text())
def test_any_text_renders_and_parses(route: str, method: str, tier: str, error: str) -> None:
    metrics = Metrics("1")
    metrics.observe(
        Record(0.0, "", "", route, method, 200, 0.1, outcome="miss", tier=tier, error=error, model=route, target="a/b")
    )
    assert value(metrics, "request_latency_seconds_count", route=route) == 1
