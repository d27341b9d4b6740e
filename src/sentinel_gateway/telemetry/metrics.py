"""What Prometheus reads: seed 002's metrics by their names, and ours.

Counters and histograms are made from tallies when somebody asks: the library's own counters cost 6 us a request, a tally 1.
Nothing here knows keys, prompts, users or addresses. One process is one node with its own registry.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Gauge, Info, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.errors import Failure, UpstreamLimited, UpstreamRefused, UpstreamTimeout, UpstreamUnauthorized
from sentinel_gateway.telemetry.attempts import AttemptTallies, circuit_family
from sentinel_gateway.telemetry.costs import CostTallies
from sentinel_gateway.telemetry.evidence import EvidenceFigures, evidence_families
from sentinel_gateway.telemetry.tallies import LATENCY_BUCKETS, OTHER, Tallies, Totals

MAX_EVENTS: Final = 64
BUCKET_LABELS: Final = (*map(str, LATENCY_BUCKETS), "+Inf")
NO_TIER: Final = "none"
UPSTREAM_KINDS: Final = frozenset(get_args(Failure)) | {
    error.code for error in (UpstreamLimited, UpstreamRefused, UpstreamTimeout, UpstreamUnauthorized)
}
"""The error types of seed 002, and ours."""
Labels = tuple[str, ...]


class Metrics:
    """All metrics of one process. `content_type` is what `render` must be sent as.

    `observe`, `attempted`, `totals`, `costs` and `render` belong to the event loop's thread; the rest may be called from any.
    """

    content_type: Final = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, version: str) -> None:
        self._tallies = Tallies()
        self._attempts = AttemptTallies()
        self._costs = CostTallies()
        self._circuits: Mapping[str, State] = {}
        self._upstream_errors: Counter[Labels] = Counter()
        self._events: Counter[Labels] = Counter()
        self._evidence: EvidenceFigures | None = None
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self._families))
        self._connections = Gauge("active_connections", "Open client connections, idle ones too.", registry=self._registry)
        self._limiter_buckets = Gauge("rate_limiter_buckets", "Rate limiter buckets in use.", registry=self._registry)
        self._in_flight = Gauge("sentinel_in_flight", "Requests that hold a place now.", registry=self._registry)
        Info("sentinel_build", "The running version.", registry=self._registry).info({"version": version})

    def __repr__(self) -> str:
        return f"<Metrics {self._tallies!r}>"

    def observe(self, record: Record) -> None:
        """Count a finished request."""
        self._tallies.add(record)
        self._costs.add(record)

    def attempted(self, attempt: Attempt) -> None:
        """Count a call of a provider. An error with a code of the provider's own making counts as a refusal."""
        self._attempts.add(attempt)
        self._costs.charge(attempt)
        if attempt.error:
            known = attempt.error if attempt.error in UPSTREAM_KINDS else str(UpstreamRefused.code)
            self._upstream_errors[known,] += 1

    def event(self, name: str) -> None:
        """Count a change of state."""
        with self._lock:
            known = (name,) in self._events or len(self._events) < MAX_EVENTS
            self._events[name if known else OTHER,] += 1

    def opened(self) -> None:
        """A client has connected."""
        self._connections.inc()

    def closed(self) -> None:
        """A client's connection has ended."""
        self._connections.dec()

    def update_in_flight(self, count: int) -> None:
        """Say how many requests hold a place now."""
        self._in_flight.set(count)

    def update_rate_limiter_buckets(self, count: int) -> None:
        """Say how many buckets the rate limiter holds now."""
        self._limiter_buckets.set(count)

    def update_evidence(self, figures: EvidenceFigures) -> None:
        """Say what is known of answers to reworded questions."""
        self._evidence = figures

    def update_circuits(self, states: Mapping[str, State]) -> None:
        """Say how the circuits stand, by the names under which they are shown."""
        self._circuits = states

    def totals(self) -> Totals:
        """The counts so far."""
        return self._tallies.totals()

    def costs(self) -> Mapping[tuple[str, str], Costs]:
        """What was spent and saved so far, by model and face."""
        return self._costs.all()

    def render(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def _families(self) -> Iterator[Metric]:
        with self._lock:
            events = self._events.copy()
        requests, cache, tokens, stored = _project(self._tallies)
        yield _counter("requests_total", "HTTP requests.", ("route", "method", "status"), requests)
        yield _counter("upstream_errors_total", "Failed provider attempts.", ("error_type",), self._upstream_errors)
        yield from self._attempts.families()
        yield from self._costs.families()
        yield circuit_family(self._circuits)
        yield _latency(self._tallies)
        yield _counter("sentinel_cache_requests_total", "Requests by how the cache took part.", ("outcome", "tier"), cache)
        yield _counter("sentinel_stored_total", "Answers taken into the cache.", (), stored)
        yield _counter("sentinel_tokens_total", "Tokens answered with, by where they came from.", ("type", "source"), tokens)
        yield _counter("sentinel_events_total", "Changes of state that were logged.", ("event",), events)
        if self._evidence is not None:
            yield from evidence_families(self._evidence)


class _Families(Collector):
    """Lets the registry ask for families that exist only while somebody reads them."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def _project(tallies: Tallies) -> tuple[Counter[Labels], Counter[Labels], Counter[Labels], Counter[Labels]]:
    """Requests, cache outcomes, tokens and stored answers, each by the labels of its metric."""
    requests: Counter[Labels] = Counter()
    cache: Counter[Labels] = Counter()
    tokens: Counter[Labels] = Counter()
    stored: Counter[Labels] = Counter({(): 0})
    for tally in tallies.all():
        kind, count, source = tally.kind, tally.requests, "cache" if tally.hit else "provider"
        requests[kind.route, kind.method, str(kind.status)] += count
        stored[()] += tally.stored
        if kind.outcome != "none":
            cache[kind.outcome, kind.tier or NO_TIER] += count
            tokens["prompt", source] += tally.prompt_tokens
            tokens["completion", source] += tally.completion_tokens
    return requests, cache, tokens, stored


def _counter(name: str, help_text: str, labels: Sequence[str], counts: Counter[Labels]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _latency(tallies: Tallies) -> Metric:
    family = HistogramMetricFamily("request_latency_seconds", "From a request's first byte to its end.", labels=("route",))
    buckets: dict[str, list[int]] = {}
    seconds: defaultdict[str, float] = defaultdict(float)
    for tally in tallies.all():
        route = tally.kind.route
        before = buckets.get(route, [0] * len(BUCKET_LABELS))
        buckets[route] = [held + more for held, more in zip(before, tally.buckets, strict=True)]
        seconds[route] += tally.seconds
    for route, counts in buckets.items():
        family.add_metric((route,), list(zip(BUCKET_LABELS, accumulate(counts), strict=True)), seconds[route])
    return family
