"""The last two hours in this process, where there is no Redis. Nothing is kept over a restart: the ledger has that.

What is kept is bounded by the number of providers, and of models that answer; of each at most 10,000 calls.
"""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.health import BEST, Sample, scored
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.ports.recent import HOUR, USUAL, CircuitBreaker, HourStats, RecentError, RequestMetrics, Series, hour_of
from sentinel_gateway.ports.world import Clock
from sentinel_gateway.telemetry.recent.shapes import (
    CIRCUITS_KEPT,
    ERRORS_KEPT,
    KEPT,
    LONGEST_NAME,
    MOST_ERRORS,
    MOST_MEASURED,
    SERIES,
    harmless,
    has_failed,
    hours_until,
    in_order,
    measured,
    ring_place,
    summary,
    verdicts,
)

SLACK: Final = 1_000
"""So many more than are kept, before the oldest are dropped together."""
MOST_MODELS: Final = 256
"""Whose series are kept; the one that was measured least lately goes first."""


class MemoryMetrics:
    """The port `RecentMetrics`. Belongs to the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._health: dict[str, float] = {}
        self._history: dict[str, dict[int, Sample]] = {}
        self._errors: dict[str, deque[RecentError]] = {}
        self._hours: dict[tuple[str, str], _Hour] = {}
        self._series: dict[tuple[str, str, Series], _Measured] = {}
        self._circuits: dict[tuple[str, str], CircuitBreaker] = {}

    def __repr__(self) -> str:
        return f"<MemoryMetrics of {len(self._health)} providers>"

    async def record_request(self, request: RequestMetrics) -> None:
        await self.record_requests([request])

    async def record_requests(self, requests: Sequence[RequestMetrics]) -> bool:
        for provider, (answered, failed) in verdicts(requests).items():
            self._judge(provider, answered=answered, failed=failed)
        for request in requests:
            self._count(request)
            if request.success:
                for series, value in measured(request):
                    self._measure((request.provider, request.model, series), request.timestamp, value)
            elif has_failed(request):
                self._note(request)
        return True

    async def get_provider_health(self, provider: str) -> float:
        return self._health.get(provider, BEST)

    async def get_all_provider_health(self) -> Mapping[str, float]:
        return await self.find_health()

    async def find_health(self) -> Mapping[str, float]:
        return dict(self._health)

    async def get_health_history(self, providers: Collection[str]) -> Mapping[str, Sequence[Sample]]:
        return {name: in_order([*self._history[name].values()]) for name in providers if name in self._history}

    async def get_recent_errors(self, provider: str, limit: int = MOST_ERRORS) -> Sequence[RecentError]:
        errors = self._errors.get(provider)
        if not errors or errors[0].timestamp <= self._clock() - ERRORS_KEPT:
            return []
        return list(islice(errors, limit))

    async def get_hourly_stats(self, provider: str, hours: int = 1) -> Mapping[str, HourStats]:
        names = hours_until(self._clock(), hours)
        return {hour: self._hours[provider, hour].told() for hour in names if (provider, hour) in self._hours}

    async def get_latency_percentiles(
        self, provider: str, model: str, percentiles: Sequence[float] = USUAL, series: Series = "latency"
    ) -> Mapping[str, float]:
        kept = self._series.get((provider, model, series))
        return {} if kept is None else summary(kept.since(self._clock() - KEPT), percentiles)

    async def update_circuit_breaker(self, provider: str, model: str, state: State, failure_count: int) -> None:
        self._circuits[provider, model] = CircuitBreaker(provider, model, state, failure_count, self._clock())

    async def get_circuit_breakers(self) -> Sequence[CircuitBreaker]:
        return await self.find_circuits()

    async def find_circuits(self) -> Sequence[CircuitBreaker]:
        oldest = self._clock() - CIRCUITS_KEPT
        self._circuits = {name: circuit for name, circuit in self._circuits.items() if circuit.updated > oldest}
        return list(self._circuits.values())

    async def cleanup_old_data(self, hours: int = 2) -> int:
        oldest = self._clock() - hours * HOUR
        gone = [key for key in self._hours if key[1] < hour_of(oldest)]
        for key in gone:
            del self._hours[key]
        removed = sum(series.drop(oldest) for series in self._series.values())
        self._series = {name: series for name, series in self._series.items() if len(series)}
        return len(gone) + removed

    def _count(self, request: RequestMetrics) -> None:
        key = request.provider, hour_of(request.timestamp)
        stats = self._hours.get(key)
        if stats is None:
            kept = set(hours_until(self._clock(), 3))
            self._hours = {known: hour for known, hour in self._hours.items() if known[1] in kept}
            stats = self._hours[key] = _Hour()
        stats.tokens_input += request.tokens_input
        stats.tokens_output += request.tokens_output
        stats.cost += request.cost
        if request.success:
            stats.answered += 1
            stats.latency_ms += request.latency_ms
        elif request.success is not None:
            stats.failed += 1

    def _judge(self, provider: str, *, answered: int, failed: int) -> None:
        now, score = self._clock(), self._health.get(provider, BEST)
        self._health[provider] = score = scored(score, answered=answered, failed=failed)
        self._history.setdefault(provider, {})[ring_place(now)] = (now, score)

    def _note(self, request: RequestMetrics) -> None:
        errors = self._errors.setdefault(request.provider, deque(maxlen=MOST_ERRORS))
        errors.appendleft(
            RecentError(
                request.model[:LONGEST_NAME], harmless(request.error_message), request.timestamp, round(request.latency_ms)
            )
        )

    def _measure(self, key: tuple[str, str, Series], at: float, value: float) -> None:
        series = self._series.pop(key, None)
        if series is None:
            series = _Measured()
            if len(self._series) >= MOST_MODELS * len(SERIES):
                del self._series[next(iter(self._series))]
        self._series[key] = series
        series.add(at, value)


class _Hour(msgspec.Struct):
    """An hour of a provider's, as it is added up: `cost` in nano-USD, `latency_ms` of the calls that were answered."""

    answered: int = 0
    failed: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    cost: int = 0
    latency_ms: float = 0.0

    def told(self) -> HourStats:
        """As others are told of it."""
        return HourStats(
            total_requests=self.answered + self.failed,
            successful_requests=self.answered,
            failed_requests=self.failed,
            tokens_input=self.tokens_input,
            tokens_output=self.tokens_output,
            total_cost=self.cost / NANO_PER_USD,
            latency_ms=self.latency_ms,
        )


class _Measured:
    """The newest values, in the order of their moments: 16 bytes each."""

    def __init__(self) -> None:
        self._moments = array("d")
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values)

    def add(self, at: float, value: float) -> None:
        """Calls end in the order of their ends, but for milliseconds: what is late stands where it comes."""
        self._moments.append(max(at, self._moments[-1]) if self._moments else at)
        self._values.append(value)
        if len(self._values) >= MOST_MEASURED + SLACK:
            self._cut(len(self._values) - MOST_MEASURED)

    def since(self, moment: float) -> Sequence[float]:
        return self._values[bisect_left(self._moments, moment) :][-MOST_MEASURED:]

    def drop(self, before: float) -> int:
        """Forget what is older; how many."""
        count = bisect_left(self._moments, before)
        self._cut(count)
        return count

    def _cut(self, count: int) -> None:
        del self._moments[:count]
        del self._values[:count]
