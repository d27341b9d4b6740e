"""What Prometheus reads: the metrics of `catalogue.py`, of one process.

Counters and histograms are made from tallies when somebody asks: the library's own counters cost 6 us a request, a tally 1.
Even these are added to for many requests together: what runs once a request finds none of it in the processor's caches.
Nothing here knows keys, prompts, users or addresses. One process is one node with its own registry.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, get_args

from prometheus_client import CollectorRegistry, Gauge, Info, Metric, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from sentinel_gateway.core.alerting.board import Board
from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.errors import Failure, UpstreamLimited, UpstreamRefused, UpstreamTimeout, UpstreamUnauthorized
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.alerts import alert_families
from sentinel_gateway.telemetry.attempts import AttemptTallies, circuit_family
from sentinel_gateway.telemetry.costs import CostTallies
from sentinel_gateway.telemetry.evidence import EvidenceFigures, evidence_families
from sentinel_gateway.telemetry.models import Models
from sentinel_gateway.telemetry.predictions import Predictions
from sentinel_gateway.telemetry.projections import request_families
from sentinel_gateway.telemetry.tallies import OTHER, Tallies, Totals

if TYPE_CHECKING:
    from sentinel_gateway.telemetry.catalogue import Labels

TOGETHER: Final = 64
"""Requests, or calls of providers, that are counted together."""
MAX_EVENTS: Final = 64
PERCENTILES: Final = (50.0, 95.0, 99.0)
UPSTREAM_KINDS: Final = frozenset(get_args(Failure)) | {
    error.code for error in (UpstreamLimited, UpstreamRefused, UpstreamTimeout, UpstreamUnauthorized)
}
"""The error types of seed 002, and ours."""
Exposition = Literal["text", "openmetrics"]
RENDERED: Final[Mapping[Exposition, Callable[[CollectorRegistry], bytes]]] = {
    "text": generate_latest,
    "openmetrics": openmetrics.generate_latest,
}
CONTENT_TYPES: Final[Mapping[Exposition, str]] = {
    "text": CONTENT_TYPE_PLAIN_0_0_4,
    "openmetrics": openmetrics.CONTENT_TYPE_LATEST,
}


class Metrics:
    """All metrics of one process.

    `observe`, `attempted`, `predictions`, `totals`, `costs` and `render` belong to the event loop's thread; the rest may be
    called from any. `percentiles` (0 to 100) are those that are told of; `models` says which have a label of their own.
    """

    def __init__(self, version: str) -> None:
        self.percentiles: Sequence[float] = PERCENTILES
        self.models = Models()
        self.predictions = Predictions(self.models)
        self._ended: list[Record] = []
        self._called: list[Attempt] = []
        self._tallies = Tallies()
        self._attempts = AttemptTallies(self.models)
        self._costs = CostTallies(self.models)
        self._circuits: Mapping[str, State] = {}
        self._dependencies: Mapping[str, str] = {}
        self._upstream_errors: Counter[Labels] = Counter()
        self._events: Counter[Labels] = Counter()
        self._evidence: EvidenceFigures | None = None
        self._alerts: tuple[Board | None, Mapping[tuple[str, str], int]] = None, {}
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self._families))
        self._connections = self._gauge(catalogue.CONNECTIONS)
        self._limiter_buckets = self._gauge(catalogue.LIMITER_BUCKETS)
        self._in_flight = self._gauge(catalogue.IN_FLIGHT)
        self._ready = self._gauge(catalogue.READY)
        self._entries = self._gauge(catalogue.MEMORY_ENTRIES)
        self._bytes = self._gauge(catalogue.MEMORY_BYTES)
        build = Info(catalogue.BUILD.name.removesuffix("_info"), catalogue.BUILD.text, registry=self._registry)
        build.info({"version": version})
        ProcessCollector(registry=self._registry)

    def __repr__(self) -> str:
        return f"<Metrics {self._tallies!r}>"

    def _gauge(self, family: catalogue.Family) -> Gauge:
        return Gauge(family.name, family.text, registry=self._registry)

    def observe(self, record: Record) -> None:
        """Count a finished request, whose record is `bare`."""
        self._ended.append(record)
        if len(self._ended) >= TOGETHER:
            self._add_up()

    def attempted(self, attempt: Attempt) -> None:
        """Count a call of a provider. An error with a code of the provider's own making counts as a refusal."""
        self._called.append(attempt)
        if len(self._called) >= TOGETHER:
            self._add_up()

    def _add_up(self) -> None:
        """Count what has come since: it is time to, or somebody asks."""
        called, self._called = self._called, []
        for attempt in called:
            self._attempts.add(attempt)
            self._costs.charge(attempt)
            if attempt.error:
                known = attempt.error if attempt.error in UPSTREAM_KINDS else str(UpstreamRefused.code)
                self._upstream_errors[known,] += 1
        ended, self._ended = self._ended, []
        for record in ended:
            self._tallies.add(record)
            self._costs.add(record)

    def know(self, models: Callable[[str], bool]) -> None:
        """From here on these have labels of their own: `models.knows`. What has come goes by who was known until now."""
        self._add_up()
        self.models.knows = models

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

    def update_ready(self, *, ready: bool) -> None:
        """Say whether this node can serve requests."""
        self._ready.set(ready)

    def update_memory(self, entries: int, size: int) -> None:
        """Say what the memory tier holds; `size` in bytes."""
        self._entries.set(entries)
        self._bytes.set(size)

    def update_dependencies(self, states: Mapping[str, str]) -> None:
        """Say how the dependencies are: `up`, `local`, `down` or `disabled`."""
        self._dependencies = states

    def update_evidence(self, figures: EvidenceFigures) -> None:
        """Say what is known of answers to reworded questions."""
        self._evidence = figures

    def update_alerts(self, board: Board | None, delivered: Mapping[tuple[str, str], int]) -> None:
        """Say how alerts stand, on the node that looks, and what was delivered: messages by channel and outcome."""
        self._alerts = board, delivered

    def update_circuits(self, states: Mapping[str, State]) -> None:
        """Say how the circuits stand, by the names under which they are shown."""
        self._circuits = states

    def update_time(self, now: float) -> None:
        """Say what time it is, so that percentiles are of the last minutes also where nothing has come for long."""
        self._add_up()
        self._tallies.turn(now)

    def totals(self) -> Totals:
        """The counts so far."""
        self._add_up()
        return self._tallies.totals()

    def tiers(self) -> Mapping[str, tuple[int, float]]:
        """Where answers came from so far: how many from each tier and from providers, and the seconds that those took."""
        self._add_up()
        return self._tallies.tiers()

    def costs(self) -> Mapping[tuple[str, str], Costs]:
        """What was spent and saved so far, by model and face."""
        self._add_up()
        return self._costs.all()

    def render(self, exposition: Exposition = "text") -> bytes:
        """Everything, in Prometheus' text format 0.0.4, or in OpenMetrics 1.0.0 with exemplars."""
        self._add_up()
        return RENDERED[exposition](self._registry)

    def _families(self) -> Iterator[Metric]:
        with self._lock:
            events = self._events.copy()
        dependencies = (((name,), state != "down") for name, state in self._dependencies.items() if state != "disabled")
        yield from request_families(self._tallies, self.percentiles)
        yield catalogue.UPSTREAM_ERRORS.of(self._upstream_errors.items())
        yield from self._attempts.families()
        yield from self._costs.families()
        yield from self.predictions.families()
        yield circuit_family(self._circuits)
        yield catalogue.EVENTS.of(events.items())
        yield catalogue.DEPENDENCY.of(dependencies)
        yield from alert_families(*self._alerts)
        if self._evidence is not None:
            yield from evidence_families(self._evidence)


class _Families(Collector):
    """Lets the registry ask for families that exist only while somebody reads them."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()
