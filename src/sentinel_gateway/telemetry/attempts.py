"""Attempts and circuits as Prometheus reads them. Providers are named by the configuration; beyond a number they are `other`."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.pricing import NANO_PER_USD, Basis
from sentinel_gateway.core.record import Attempt, Ending
from sentinel_gateway.telemetry.tallies import OTHER

MAX_PROVIDERS: Final = 64
FIRST_TOKEN_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
"""Seconds."""
STATES: Final[Mapping[State, int]] = {"closed": 0, "open": 1, "half_open": 2}
"""Seed 001's numbers."""


class AttemptTallies:
    """Calls of providers, counted. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Ending], int] = {}
        self._first_tokens: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._costs: Counter[tuple[str, Basis]] = Counter()
        """In nano-USD; of what has no price, calls."""

    def __repr__(self) -> str:
        return f"<AttemptTallies of {len(self._seconds)} providers>"

    def add(self, attempt: Attempt) -> None:
        """Count one."""
        provider = attempt.target.partition("/")[0]
        if provider not in self._seconds:
            provider = self._admit(provider)
        kind = provider, attempt.ending
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if attempt.basis == "unknown":
            self._costs[provider, "unknown"] += 1
        elif attempt.cost:
            self._costs[provider, attempt.basis] += attempt.cost
        if attempt.first_token_seconds:
            self._seconds[provider] += attempt.first_token_seconds
            self._first_tokens[provider][bisect_left(FIRST_TOKEN_BUCKETS, attempt.first_token_seconds)] += 1

    def _admit(self, provider: str) -> str:
        known = provider if len(self._seconds) < MAX_PROVIDERS else OTHER
        self._seconds.setdefault(known, 0.0)
        self._first_tokens.setdefault(known, [0] * (len(FIRST_TOKEN_BUCKETS) + 1))
        return known

    def families(self) -> Iterator[Metric]:
        """As metrics."""
        attempts = CounterMetricFamily(
            "sentinel_upstream_attempts_total", "Calls of providers, by how they ended.", labels=("provider", "outcome")
        )
        for (provider, ending), count in self._counts.items():
            attempts.add_metric((provider, ending), count)
        yield attempts
        spent = CounterMetricFamily("sentinel_cost_usd_total", "What providers took, in USD.", labels=("provider", "basis"))
        unpriced = CounterMetricFamily("sentinel_unpriced_calls_total", "Calls of models without a price.", labels=("provider",))
        for (provider, basis), amount in self._costs.items():
            if basis == "unknown":
                unpriced.add_metric((provider,), amount)
            else:
                spent.add_metric((provider, basis), amount / NANO_PER_USD)
        yield from (spent, unpriced)
        first = HistogramMetricFamily(
            "sentinel_first_token_seconds", "From a call of a provider to its stream's first chunk.", labels=("provider",)
        )
        bounds = (*map(str, FIRST_TOKEN_BUCKETS), "+Inf")
        for provider, counts in self._first_tokens.items():
            if any(counts):
                first.add_metric((provider,), list(zip(bounds, accumulate(counts), strict=True)), self._seconds[provider])
        yield first


def circuit_family(states: Mapping[str, State]) -> Metric:
    """Seed 001's gauge."""
    family = GaugeMetricFamily(
        "dspy_circuit_breaker_state", "Circuit breakers: 0 closed, 1 open, 2 half open.", labels=("model",)
    )
    for name, state in states.items():
        family.add_metric((name,), STATES[state])
    return family
