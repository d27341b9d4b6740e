"""What Prometheus reads: the text, its labels, and that nobody can make it grow."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sentinel_gateway.core.record import Attempt, Record, bare
from sentinel_gateway.errors import UpstreamRefused
from sentinel_gateway.telemetry.metrics import CONTENT_TYPES, TOGETHER, Metrics
from sentinel_gateway.telemetry.tallies import Totals

Make = Callable[..., Record]

SEED_002 = {
    "requests": "counter",
    "upstream_errors": "counter",
    "request_latency_seconds": "histogram",
    "active_connections": "gauge",
    "rate_limiter_buckets": "gauge",
}
SEED_001 = {
    "dspy_predictions": "counter",
    "dspy_prediction_duration_seconds": "histogram",
    "dspy_cache_operations": "counter",
    "dspy_circuit_breaker_state": "gauge",
    "dspy_prediction_cost": "counter",
    "dspy_token_usage": "counter",
    "dspy_active_predictions": "gauge",
    "dspy_errors": "counter",
}
OURS = {
    "sentinel_inference_requests": "counter",
    "sentinel_cache_requests": "counter",
    "sentinel_not_cached": "counter",
    "sentinel_stored": "counter",
    "sentinel_tokens": "counter",
    "sentinel_saved_usd": "counter",
    "sentinel_own_seconds": "histogram",
    "sentinel_latency_seconds": "summary",
    "sentinel_upstream_attempts": "counter",
    "sentinel_upstream_seconds": "histogram",
    "sentinel_first_token_seconds": "histogram",
    "sentinel_cost_usd": "counter",
    "sentinel_unpriced_calls": "counter",
    "sentinel_model_requests": "counter",
    "sentinel_model_failures": "counter",
    "sentinel_model_upstream_seconds": "summary",
    "sentinel_model_tokens": "counter",
    "sentinel_model_cost_usd": "counter",
    "sentinel_model_saved_usd": "counter",
    "sentinel_in_flight": "gauge",
    "sentinel_ready": "gauge",
    "sentinel_dependency_up": "gauge",
    "sentinel_memory_entries": "gauge",
    "sentinel_memory_bytes": "gauge",
    "sentinel_events": "counter",
    "sentinel_build_info": "gauge",
}
"""The parser names a counter without its `_total`."""
CHAT = "/v1/chat/completions"
BUCKETS = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics("1.2.3")
    metrics.models.knows = {"fast", "llama"}.__contains__
    return metrics


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
    metrics.update_dependencies({"disk": "up", "redis": "down", "qdrant": "disabled"})
    metrics.update_memory(3, 4096)
    metrics.update_ready(ready=True)
    shown, _, of_the_process = metrics.render().decode().partition("# HELP process_")
    assert shown == Path(__file__).with_name("golden.prom").read_text()
    assert "sentinel" not in of_the_process


def test_metrics_are_registered(metrics: Metrics) -> None:
    families = text_string_to_metric_families(metrics.render().decode())
    found = {family.name: family.type for family in families}
    processes = {name for name in found if name.startswith("process_")}
    assert {name: found[name] for name in found if name not in processes} == SEED_002 | SEED_001 | OURS
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= processes


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


def test_content_type_0_0_4() -> None:
    assert CONTENT_TYPES["text"] == "text/plain; version=0.0.4; charset=utf-8"


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
    assert not any(family.name in SEED_002 | SEED_001 | OURS for family in REGISTRY.collect())


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


def test_time_of_our_own_is_told_apart_from_the_wait_for_providers(metrics: Metrics, make_record: Make) -> None:
    metrics.observe(make_record(seconds=0.0003))
    for waited in (0.0, 0.296, 0.25):  # the first has never asked anybody: it was refused
        metrics.observe(make_record(outcome="miss", tier="", seconds=0.3, upstream_seconds=waited))
    for le, count in (("0.0025", 0), ("0.005", 1), ("0.025", 1), ("0.1", 2), ("0.25", 2), ("1.0", 3)):
        assert value(metrics, "sentinel_own_seconds_bucket", outcome="miss", le=le) == count
    assert math.isclose(value(metrics, "sentinel_own_seconds_sum", outcome="miss") or 0, 0.3 + 0.004 + 0.05)
    assert value(metrics, "sentinel_own_seconds_bucket", outcome="exact", le="0.00025") == 0
    assert value(metrics, "sentinel_own_seconds_bucket", outcome="exact", le="0.0005") == 1
    metrics.attempted(Attempt("s", "a/x", 1, 0.0, stream=False, ending="answered", seconds=0.25))
    assert value(metrics, "sentinel_upstream_seconds_bucket", provider="a", le="0.1") == 0
    assert value(metrics, "sentinel_upstream_seconds_bucket", provider="a", le="0.25") == 1


def test_requests_to_models_are_counted_streaming_or_not(metrics: Metrics, make_record: Make) -> None:
    for stream in (True, False, False):
        metrics.observe(make_record(stream=stream))
    metrics.observe(make_record(route="/health", outcome="none", tier=""))
    counted = {s.labels["stream"]: s.value for s in samples(metrics) if s.name == "sentinel_inference_requests_total"}
    assert counted == {"true": 1, "false": 2}


def test_only_known_models_have_a_label(metrics: Metrics, make_record: Make) -> None:
    for model in ("fast", "llama", "made/up", ""):
        metrics.observe(make_record(model=model, saved=1_000_000))
        metrics.observe(make_record(model=model, outcome="miss", tier=""))
        paid = Attempt(
            "s", "groq/x", 1, 7.0, stream=False, ending="answered", seconds=2.0, prompt_tokens=5, cost=3_000, model=model
        )
        metrics.attempted(msgspec.structs.replace(paid, completion_tokens=7, route="/v1/chat/completions"))
        metrics.attempted(Attempt("s", "groq/x", 2, 7.0, stream=False, ending="broken", error="io_error", model=model))
    for label, times in (("fast", 1), ("llama", 1), ("other", 2)):
        assert value(metrics, "sentinel_model_requests_total", model=label, cache="hit") == times
        assert value(metrics, "sentinel_model_requests_total", model=label, cache="miss") == times
        assert value(metrics, "sentinel_model_tokens_total", model=label, type="prompt") == 5 * times
        assert value(metrics, "sentinel_model_tokens_total", model=label, type="completion") == 7 * times
        assert value(metrics, "sentinel_model_cost_usd_total", model=label) == 0.000003 * times
        assert value(metrics, "sentinel_model_saved_usd_total", model=label) == 0.001 * times
        assert value(metrics, "sentinel_model_failures_total", model=label) == times
        assert value(metrics, "sentinel_model_upstream_seconds_sum", model=label) == 2.0 * times
        assert value(metrics, "sentinel_model_upstream_seconds_count", model=label) == 2 * times
    assert {s.labels["model"] for s in samples(metrics) if "_model_" in s.name} == {"fast", "llama", "other"}


def test_a_model_that_becomes_known_has_its_label_from_then_on_and_keeps_it(metrics: Metrics, make_record: Make) -> None:
    """A provider lists its models late. A counter that went to another label would go back where it left: none ever does."""
    known: set[str] = set()
    metrics.models.knows = known.__contains__
    asked, before = make_record(model="late", saved=1_000_000), dict[tuple[str, ...], float]()
    for listed in (set(), {"late"}, {"late"}, set()):
        known.clear()
        known.update(listed)
        metrics.observe(asked)
        paid = Attempt("s", "groq/x", 1, 7.0, stream=False, ending="answered", seconds=2.0, prompt_tokens=5, model="late", cost=3)
        metrics.attempted(msgspec.structs.replace(paid, route=CHAT))
        with metrics.predictions.track(asked, lambda: asked.at + 1.0):
            pass
        now = {(s.name, *s.labels.values()): s.value for s in samples(metrics) if "model" in s.labels and s.value}
        assert all(now[name] >= counted for name, counted in before.items())
        before = now
    for label in ("other", "late"):
        assert value(metrics, "sentinel_model_requests_total", model=label, cache="hit") == 2
        assert value(metrics, "sentinel_model_tokens_total", model=label, type="prompt") == 10
        assert value(metrics, "sentinel_model_upstream_seconds_count", model=label) == 2
    assert value(metrics, "dspy_predictions_total", model="late", variant="chat", status="success") == 3
    [(use, costs)] = metrics.costs().items()
    assert (use, costs.requests, costs.cost) == (("late", "chat"), 4, 12)


def test_what_came_before_a_model_was_unknown_again_is_its_own(metrics: Metrics, make_record: Make) -> None:
    metrics.know({"fast"}.__contains__)
    metrics.observe(make_record(model="fast"))
    metrics.know(set[str]().__contains__)
    assert value(metrics, "sentinel_model_requests_total", model="fast", cache="hit") == 1


@pytest.mark.parametrize("count", [1, TOGETHER - 1, TOGETHER, TOGETHER + 1])
def test_whoever_asks_is_told_of_all_that_came(metrics: Metrics, make_record: Make, count: int) -> None:
    for number in range(1, count + 1):
        metrics.observe(make_record(model="m", outcome="miss", tier=""))
        metrics.attempted(Attempt("s", "groq/x", 1, 7.0, stream=False, ending="answered", model="m", route=CHAT, cost=3))
        if number in {1, count}:
            assert metrics.totals().misses == number
            assert metrics.tiers()["provider"][0] == number
            assert [(one.requests, one.cost) for one in metrics.costs().values()] == [(number, 3 * number)]
            assert value(metrics, "sentinel_upstream_attempts_total", provider="groq", outcome="answered") == number


def rendered(metrics: Metrics) -> list[Sample]:
    return [sample for sample in samples(metrics) if "route" in sample.labels]


@pytest.mark.parametrize("ask", [Metrics.totals, Metrics.tiers, Metrics.costs, rendered])
def test_each_question_is_answered_by_all_that_came(
    metrics: Metrics, make_record: Make, ask: Callable[[Metrics], object]
) -> None:
    before = ask(metrics)
    metrics.observe(make_record())
    assert ask(metrics) != before


def test_forty_models_have_a_label(metrics: Metrics, make_record: Make) -> None:
    for number in range(50):
        metrics.know({f"m{number}"}.__contains__)
        metrics.observe(make_record(model=f"m{number}"))
    named = {s.labels["model"] for s in samples(metrics) if s.name == "sentinel_model_requests_total"}
    assert named == {f"m{number}" for number in range(40)} | {"other"}


def test_exemplars_name_the_request_that_came_last_in_openmetrics_alone(metrics: Metrics, make_record: Make) -> None:
    metrics.observe(make_record(sentinel_id="first", seconds=0.003))
    metrics.observe(make_record(sentinel_id="second", seconds=0.004, status=429, at=1_800_000_001.0))
    metrics.observe(make_record(sentinel_id="slow", seconds=3.0, at=1_800_000_007.5))
    metrics.attempted(Attempt("called", "groq/x", 1, 9.0, stream=False, ending="answered", seconds=0.2))
    text = metrics.render("openmetrics").decode()
    assert text.endswith("# EOF\n")
    assert "_created" not in text
    lines = {line.partition(" ")[0]: line for line in text.splitlines()}
    of_route = 'route="/v1/chat/completions"'
    second = lines[f'request_latency_seconds_bucket{{le="0.005",{of_route}}}']
    assert second.endswith(' 2.0 # {sentinel_id="second"} 0.004 1800000001.0')
    slow = lines[f'request_latency_seconds_bucket{{le="5.0",{of_route}}}']
    assert slow.endswith(' 3.0 # {sentinel_id="slow"} 3.0 1800000007.5')
    assert "#" not in lines[f'request_latency_seconds_bucket{{le="0.1",{of_route}}}']
    called = lines['sentinel_upstream_seconds_bucket{le="0.25",provider="groq"}']
    assert called.endswith('# {sentinel_id="called"} 0.2 9.0')
    families = {family.name: family for family in openmetrics_families(text)}
    assert families["requests"].type == "counter"
    assert "sentinel_id" not in metrics.render().decode()


class Followed:
    """A `Trace` that exemplars may name."""

    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    def __init__(self, *, sampled: bool) -> None:
        self.sampled = sampled


def test_exemplars_name_traces_that_can_be_looked_up(metrics: Metrics, make_record: Make) -> None:
    sent, unsent = Followed(sampled=True), Followed(sampled=False)
    metrics.observe(bare(make_record(sentinel_id="sent", seconds=0.003, trace=sent)))
    metrics.observe(bare(make_record(sentinel_id="unsent", seconds=3.0, trace=unsent)))
    metrics.attempted(Attempt("called", "groq/x", 1, 9.0, stream=False, ending="answered", seconds=0.2, trace=sent))
    families = {family.name: family for family in openmetrics_families(metrics.render("openmetrics").decode())}
    named = [
        sample.exemplar.labels
        for name in ("request_latency_seconds", "sentinel_upstream_seconds")
        for sample in families[name].samples
        if sample.exemplar
    ]
    assert named == [
        {"sentinel_id": "sent", "trace_id": sent.trace_id},
        {"sentinel_id": "unsent"},
        {"sentinel_id": "called", "trace_id": sent.trace_id},
    ]


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
    assert value(metrics, "sentinel_upstream_attempts_total", provider="p31", outcome="answered") == 1
    assert value(metrics, "sentinel_upstream_attempts_total", provider="other", outcome="answered") == 68
    assert value(metrics, "sentinel_first_token_seconds_count", provider="other") == 68


def test_totals_count_each_request_once(metrics: Metrics, make_record: Make) -> None:
    for record in (
        make_record(),
        make_record(tier="disk"),
        make_record(outcome="semantic"),
        make_record(outcome="miss", tier=""),
        make_record(outcome="bypass", tier=""),
        make_record(outcome="miss", tier="", status=502, error="upstream_error"),
        make_record(outcome="miss", tier="", error="upstream_error"),  # a stream that broke after its 200
        make_record(status=499, error="client_left"),
        make_record(outcome="none", tier="", route="/health", prompt_tokens=0, completion_tokens=0),
    ):
        metrics.observe(record)
    totals = metrics.totals()
    assert totals == Totals(exact_hits=2, semantic_hits=1, misses=1)
    assert totals.total == 4
    counted: Counter[str] = Counter()
    for one in samples(metrics):
        if one.name == "sentinel_cache_requests_total":
            counted[one.labels["outcome"]] += int(one.value)
    assert counted == {"exact": 2, "semantic": 1, "miss": 1, "bypass": 1, "failed": 3}


def test_hits_are_told_of_before_the_first_one(metrics: Metrics, make_record: Make) -> None:
    """After a start with an empty cache the hit rate is 0, and not nothing: an alert must see that it fell."""
    metrics.observe(make_record(outcome="miss", tier=""))
    assert value(metrics, "sentinel_cache_requests_total", outcome="exact", tier="memory") == 0


def test_what_was_to_come_from_the_cache_alone_and_did_not_is_counted(metrics: Metrics, make_record: Make) -> None:
    """Its 504 is what the caller asked for; a provider's is not, and may have any word of the provider's own."""
    metrics.observe(make_record(outcome="miss", tier="", status=504, error="cache_miss"))
    metrics.observe(make_record(outcome="miss", tier="", status=504, error="timeout"))
    metrics.observe(make_record(outcome="miss", tier="", status=400, error="cache_miss"))
    assert value(metrics, "sentinel_not_cached_total") == 1


def test_tokens_are_told_apart_by_where_they_came_from(metrics: Metrics, make_record: Make) -> None:
    metrics.observe(make_record())
    metrics.observe(make_record(outcome="miss", tier="", prompt_tokens=100, completion_tokens=10**400))
    assert value(metrics, "sentinel_tokens_total", type="prompt", source="cache") == 9
    assert value(metrics, "sentinel_tokens_total", type="completion", source="cache") == 12
    assert value(metrics, "sentinel_tokens_total", type="prompt", source="provider") == 100
    assert value(metrics, "sentinel_tokens_total", type="completion", source="provider") == 2**53


def test_100_000_random_models_methods_and_codes_stay_2_000_series(metrics: Metrics, make_record: Make) -> None:
    """reliability.md D10: what callers and providers choose is junk. What comes first keeps its series, sums are right."""
    chance = random.Random(1)
    routes = [f"/{number}" for number in range(40)] + ["unmatched"]
    statuses = (200, 400, 401, 404, 405, 408, 413, 422, 429, 500, 502, 503, 504)
    metrics.observe(make_record())
    for number in range(100_000):
        junk = f"{number}-{chance.random()}"
        method = chance.choice(("GET", "POST", "PUT", "DELETE", junk))
        where = "unmatched" if method not in {"GET", "POST"} else chance.choice(routes)
        metrics.observe(
            make_record(
                route=where,
                method=method,
                status=chance.choice(statuses),
                outcome="none" if where == "unmatched" else "miss",
                tier="",
                error=junk,
                model=junk,
                account=junk,
                key=junk,
                stream=number % 2 == 0,
                upstream_seconds=0.001,
            )
        )
        metrics.attempted(failed(junk, target=f"p{number % 8}/{junk}"))
        paid = Attempt("s", "p1/b", 1, 0.0, stream=True, cost=1, basis="estimated", model=junk, first_token_seconds=1)
        metrics.attempted(msgspec.structs.replace(paid, route=where))
    metrics.observe(make_record())
    found = list(samples(metrics))
    assert len(found) <= 2000
    assert sum(s.value for s in found if s.name == "requests_total") == 100_002
    assert value(metrics, "requests_total", route="/v1/chat/completions", method="POST", status="200") == 2
    assert value(metrics, "upstream_errors_total", error_type="upstream_refused") == 100_000
    assert value(metrics, "sentinel_model_failures_total", model="other") == 100_000


def test_whatever_is_told_a_time_comes_when_nothing_grows(metrics: Metrics, make_record: Make) -> None:
    """Also where the closed sets of the code itself were not closed."""

    def tell(numbers: range) -> int:
        for number in numbers:
            junk = f"{number} {chance.random()}"
            metrics.observe(
                make_record(route=junk, method=junk, status=number, tier=junk, error=junk, model=junk, upstream_seconds=0.1)
            )
            metrics.observe(make_record(route=junk, model=junk))
            metrics.event(junk)
            metrics.attempted(failed(junk, target=junk))
            with suppress(UpstreamRefused), metrics.predictions.track(make_record(model=junk, route=junk), lambda: 7.0):
                raise UpstreamRefused(junk, upstream_status=400, upstream_code=junk)
        return len(list(samples(metrics)))

    chance = random.Random(2)
    assert tell(range(2_000)) == tell(range(2_000, 4_000))
    assert sum(s.value for s in samples(metrics) if s.name == "sentinel_events_total") == 4_000
    assert sum(s.value for s in samples(metrics) if s.name == "requests_total") == 8_000
    assert value(metrics, "dspy_errors_total", error_type="upstream_refused") == 4_000


@given(route=st.text(), method=st.text(), tier=st.text(), error=st.text())
def test_any_text_renders_and_parses(route: str, method: str, tier: str, error: str) -> None:
    metrics = Metrics("1")
    metrics.observe(
        Record(0.0, "", "", route, method, 200, 0.1, outcome="miss", tier=tier, error=error, model=route, target="a/b")
    )
    assert value(metrics, "request_latency_seconds_count", route=route) == 1
