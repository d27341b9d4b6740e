"""Attempts and circuits as Prometheus reads them. Providers are named by the configuration; beyond a number they are `other`."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from prometheus_client import Metric

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.pricing import NANO_PER_USD, Basis
from sentinel_gateway.core.record import Attempt, Ending
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.catalogue import FIRST_TOKEN_BUCKETS, UPSTREAM_BUCKETS, Bars
from sentinel_gateway.telemetry.models import Models
from sentinel_gateway.telemetry.tallies import OTHER, Latest, exemplar

MAX_PROVIDERS: Final = 32
MAX_CIRCUITS: Final = 64
REMEMBERED: Final = 1024
"""Models whose label is not looked up again at each call."""
STATES: Final[Mapping[State, int]] = {"closed": 0, "open": 1, "half_open": 2}
"""Seed 001's numbers."""


class Calls:
    """Those of one provider: how they ended, what they cost, and in seconds how long they took, and their first tokens.

    `costs` are in nano-USD; of what has no price, calls. `latest` has the last one of each bucket.
    """

    __slots__ = ("costs", "durations", "endings", "first_seconds", "first_tokens", "latest", "seconds")

    def __init__(self) -> None:
        self.endings: dict[Ending, int] = {}
        self.costs: dict[Basis, int] = {}
        self.seconds = 0.0
        self.durations = [0] * (len(UPSTREAM_BUCKETS) + 1)
        self.latest: list[Latest | None] = [None] * len(self.durations)
        self.first_seconds = 0.0
        self.first_tokens = [0] * (len(FIRST_TOKEN_BUCKETS) + 1)


class OfModel:
    """The calls of what has one label: how many, their seconds, and how many failed."""

    __slots__ = ("count", "failures", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.failures = 0


class AttemptTallies:
    """Calls of providers, counted. Belongs to the event loop's thread."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._providers: dict[str, Calls] = {}
        self._by_label: dict[str, OfModel] = {}
        self._by_model: dict[str, OfModel] = {}
        """The same by the names that callers gave, as far as they are remembered."""

    def __repr__(self) -> str:
        return f"<AttemptTallies of {len(self._providers)} providers>"

    def add(self, attempt: Attempt) -> None:
        """Count one."""
        provider = attempt.target.partition("/")[0]
        calls = self._providers.get(provider) or self._admit(provider)
        calls.endings[attempt.ending] = calls.endings.get(attempt.ending, 0) + 1
        basis, cost = attempt.basis, 1 if attempt.basis == "unknown" else attempt.cost
        if cost:
            calls.costs[basis] = calls.costs.get(basis, 0) + cost
        seconds = attempt.seconds
        place = bisect_left(UPSTREAM_BUCKETS, seconds)
        calls.seconds += seconds
        calls.durations[place] += 1
        trace = attempt.trace
        trace_id = None if trace is None or not trace.sampled else trace.trace_id
        calls.latest[place] = (attempt.sentinel_id, seconds, attempt.at, trace_id)
        if attempt.first_token_seconds:
            calls.first_seconds += attempt.first_token_seconds
            calls.first_tokens[bisect_left(FIRST_TOKEN_BUCKETS, attempt.first_token_seconds)] += 1
        of_model = self._by_model.get(attempt.model) or self._meet(attempt.model)
        of_model.count += 1
        of_model.seconds += seconds
        if attempt.error:
            of_model.failures += 1

    def _meet(self, model: str) -> OfModel:
        of_model = self._by_label.setdefault(self._models.label(model), OfModel())
        if len(self._by_model) < REMEMBERED:
            self._by_model[model] = of_model
        return of_model

    def _forget_those_known_by_now(self) -> None:
        """Calls of a model that has become known count under its own label from now on."""
        other = self._by_label.get(OTHER)
        for model in [model for model, one in self._by_model.items() if one is other and self._models.label(model) != OTHER]:
            del self._by_model[model]

    def _admit(self, provider: str) -> Calls:
        return self._providers.setdefault(provider if len(self._providers) < MAX_PROVIDERS else OTHER, Calls())

    def families(self) -> Iterator[Metric]:
        """As metrics."""
        yield catalogue.ATTEMPTS.of(
            ((name, ending), count) for name, calls in self._providers.items() for ending, count in calls.endings.items()
        )
        yield catalogue.UPSTREAM.drawn(
            Bars((name,), calls.durations, calls.seconds, [exemplar(one) for one in calls.latest])
            for name, calls in self._providers.items()
        )
        yield catalogue.FIRST_TOKEN.drawn(
            Bars((name,), calls.first_tokens, calls.first_seconds)
            for name, calls in self._providers.items()
            if any(calls.first_tokens)
        )
        costs = [(name, basis, cost) for name, calls in self._providers.items() for basis, cost in calls.costs.items()]
        yield catalogue.COST.of(((name, basis), cost / NANO_PER_USD) for name, basis, cost in costs if basis != "unknown")
        yield catalogue.UNPRICED.of(((name,), cost) for name, basis, cost in costs if basis == "unknown")
        yield catalogue.MODEL_SECONDS.summed(((label,), one.seconds, one.count) for label, one in self._by_label.items())
        yield catalogue.MODEL_FAILURES.of(((label,), one.failures) for label, one in self._by_label.items())
        self._forget_those_known_by_now()


def circuit_family(states: Mapping[str, State]) -> Metric:
    """Seed 001's gauge. Those of aliases come first; what callers may have named is told as far as there is room."""
    return catalogue.CIRCUITS.of(((name,), STATES[state]) for name, state in islice(states.items(), MAX_CIRCUITS))
