"""`/api/monitoring`: what providers did lately, as seed 004's clients ask for it. Two hours are at hand; the ledger has the rest.

Where Redis is configured but away, providers are told of as if nothing were known of them: 100.0, [] and {}.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query

from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_bodies import (
    CircuitBreakerResponse,
    ComparisonResponse,
    ErrorResponse,
    HealthResponse,
    HourlyStats,
    HourlyStatsResponse,
    LatencyPercentilesResponse,
    Percentages,
    ProviderComparison,
    ProviderRealtime,
    RealtimeStatsResponse,
)
from sentinel_gateway.api.monitoring_hours import Hours as ByHour
from sentinel_gateway.api.monitoring_hours import ProviderHours
from sentinel_gateway.api.monitoring_routes import Model, Provider, not_found, reading, stamp
from sentinel_gateway.core.health import BEST, Sample, predicted, status
from sentinel_gateway.core.percentiles import percentile_name
from sentinel_gateway.errors import InvalidField
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.recent import CircuitBreaker, HourStats, RecentMetrics, Series

MOST_HOURS: Final = 720
MOST_PERCENTILES: Final = 20
ALL: Final = 100.0

Hours = Annotated[int, Query(ge=1, le=MOST_HOURS, description="So many hours (UTC); the one under way is the last.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most errors to tell of; 100 are kept.")]
Percentiles = Annotated[
    str, Query(max_length=200, description="Separated by commas, each above 0 and up to 100, of at most 4 decimals: 50,95,99.9.")
]


class Monitoring:
    """The endpoints. `providers` are those that are configured."""

    def __init__(
        self,
        recent: RecentMetrics,
        hours: ProviderHours,
        circuits: Circuits,
        providers: Collection[str],
        *,
        guard: Guard,
        clock: Clock,
    ) -> None:
        self._recent = recent
        self._hours = hours
        self._circuits = circuits
        self._providers = providers
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Monitoring {self._recent!r}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints."""
        return reading(
            self._guard,
            (
                ("/health", self.health),
                ("/health/{provider}", self.provider_health),
                ("/errors/{provider}", self.errors),
                ("/stats/realtime", self.realtime),
                ("/stats/hourly/{provider}", self.hourly),
                ("/circuit-breakers", self.circuit_breakers),
                ("/circuit-breakers/{provider}", self.provider_circuit_breakers),
                ("/providers/comparison", self.comparison),
                ("/latency/{provider}/{model:path}", self.latency),
            ),
        )

    async def health(self) -> list[HealthResponse]:
        """The health of every provider that is configured, or was ever called."""
        scores = await self._scores()
        history = await self._recent.get_health_history(list(scores))
        return [self._health(name, score, history.get(name, ())) for name, score in scores.items()]

    async def provider_health(self, provider: Provider) -> HealthResponse:
        """The health of one provider."""
        await self._find(provider)
        score = await self._recent.get_provider_health(provider)
        history = await self._recent.get_health_history([provider])
        return self._health(provider, score, history.get(provider, ()))

    async def errors(self, provider: Provider, limit: Limit = 10) -> list[ErrorResponse]:
        """The last failures of a provider, newest first; of the last hour with failures."""
        await self._find(provider)
        found = await self._recent.get_recent_errors(provider, limit)
        return [
            ErrorResponse(model=one.model, error=one.error, timestamp=one.timestamp, latency_ms=one.latency_ms) for one in found
        ]

    async def realtime(self, hours: Hours = 1) -> RealtimeStatsResponse:
        """What was asked of each provider in the last hours, and what it took."""
        known = await self._scores()
        found = await self._hours.of_all(known, hours)
        return await asyncio.to_thread(_realtime, known, found, self._clock())  # there may be thousands of hours

    async def hourly(self, provider: Provider, hours: Hours = 1) -> HourlyStatsResponse:
        """The last hours of a provider, also of one that only the ledger remembers."""
        found = await self._hours.of(provider, hours)
        if not found:
            await self._find(provider)
        return HourlyStatsResponse(provider=provider, hours=hours, data={hour: _shown(one) for hour, one in found.items()})

    async def circuit_breakers(self) -> list[CircuitBreakerResponse]:
        """Circuits that are not closed on some node, or were not a moment ago, and those of targets that stand beside others."""
        return [self._circuit(one) for one in await self._all_circuits()]

    async def provider_circuit_breakers(self, provider: Provider) -> list[CircuitBreakerResponse]:
        """Those of a provider. A model that is not among them has a closed circuit."""
        await self._find(provider)
        return [self._circuit(one) for one in await self._all_circuits() if one.provider == provider]

    async def comparison(self, hours: Hours = 1) -> ComparisonResponse:
        """All providers side by side, the healthiest first."""
        circuits, scores = await self._all_circuits(), await self._scores()
        found = await self._hours.of_all(scores, hours)
        compared = []
        for name in dict.fromkeys([*scores, *found]):
            score, whole = scores.get(name, BEST), _sum(found.get(name, {}))
            calls, good = whole.total_requests, whole.successful_requests
            compared.append(
                ProviderComparison(
                    **_shown(whole).model_dump(),
                    provider=name,
                    health_score=_rounded(score),
                    status=status(score),
                    error_rate=round(whole.failed_requests / calls, 6) if calls else None,
                    avg_latency_ms=round(whole.latency_ms / good, 3) if good else None,
                    cost_per_request=round(whole.total_cost / calls, 9) if calls else None,
                    open_circuits=sum(one.provider == name and one.state == "open" for one in circuits),
                )
            )
        compared.sort(key=lambda one: one.health_score, reverse=True)
        return ComparisonResponse(timestamp=stamp(self._clock()), providers=compared, total_providers=len(compared))

    async def latency(
        self, provider: Provider, model: Model, percentiles: Percentiles = "50,95,99"
    ) -> LatencyPercentilesResponse:
        """How long a provider's model takes."""
        await self._find(provider)
        asked = _percentiles(percentiles)
        first, speed = [await self._figures(provider, model, asked, series) for series in ("first_token", "speed")]
        whole = await self._figures(provider, model, asked, "latency")
        return LatencyPercentilesResponse(
            provider=provider, model=model, first_token=first, tokens_per_second=speed, **whole.model_dump()
        )

    # --- what is known ---

    async def _scores(self) -> Mapping[str, float]:
        """Of those that are configured, in their order, and then of all others that were ever called."""
        return {**dict.fromkeys(self._providers, BEST), **await self._recent.get_all_provider_health()}

    async def _find(self, provider: str) -> None:
        if provider not in self._providers and provider not in await self._recent.get_all_provider_health():
            raise not_found(provider, self._providers)

    async def _figures(self, provider: str, model: str, percentiles: Sequence[float], series: Series) -> Percentages:
        found = await self._recent.get_latency_percentiles(provider, model, percentiles, series)
        nothing = dict.fromkeys(("avg", *map(percentile_name, percentiles)))
        return Percentages.model_validate(found or {"count": 0, **nothing})

    async def _all_circuits(self) -> list[CircuitBreaker]:
        """As other nodes have told of them; what this one knows itself it knows better."""
        told = {(one.provider, one.model): one for one in await self._recent.get_circuit_breakers()}
        now, standings = self._clock(), self._circuits.standings
        for target, state in self._circuits.states().items():
            provider, _, model = target.partition("/")
            failures = standings.of(target).circuit.failures
            told[provider, model] = CircuitBreaker(provider, model, state, failures, now)
        return [told[name] for name in sorted(told)]

    # --- how it is told ---

    def _health(self, provider: str, score: float, history: Sequence[Sample]) -> HealthResponse:
        return HealthResponse(
            provider=provider,
            health_score=_rounded(score),
            status=status(score),
            last_updated=stamp(history[-1][0] if history else self._clock()),
            predicted_score=_rounded(predicted(history, score, now=self._clock())),
        )

    def _circuit(self, one: CircuitBreaker) -> CircuitBreakerResponse:
        return CircuitBreakerResponse(
            provider=one.provider,
            model=one.model,
            state=one.state,
            failure_count=one.failure_count,
            is_available=one.state != "open",
            last_updated=stamp(one.updated),
        )


def _realtime(known: Mapping[str, float], found: Mapping[str, ByHour], at: float) -> RealtimeStatsResponse:
    providers = {}
    for name, hours in found.items():
        whole = _sum(hours)
        providers[name] = ProviderRealtime(
            total_requests=whole.total_requests,
            total_cost=whole.total_cost,
            health_score=_rounded(known.get(name, BEST)),
            hourly_breakdown={hour: _shown(stats) for hour, stats in hours.items()},
        )
    scores = [one.health_score for one in providers.values()]
    return RealtimeStatsResponse(
        timestamp=stamp(at),
        providers=providers,
        total_requests=sum(one.total_requests for one in providers.values()),
        total_cost=round(sum(one.total_cost for one in providers.values()), 9),
        avg_health_score=_rounded(sum(scores) / len(scores)) if scores else BEST,
    )


def _rounded(score: float) -> float:
    return round(score, 2)


def _shown(stats: HourStats) -> HourlyStats:
    return HourlyStats(**{name: getattr(stats, name) for name in HourlyStats.model_fields})


def _sum(hours: ByHour) -> HourStats:
    whole = HourStats()
    for stats in hours.values():
        for name in HourStats.__struct_fields__:
            setattr(whole, name, getattr(whole, name) + getattr(stats, name))
    whole.total_cost = round(whole.total_cost, 9)
    return whole


def _percentiles(said: str) -> list[float]:
    """The percentiles that were asked for, each once."""
    try:
        asked = list(dict.fromkeys(float(part) for part in said.split(",")))
    except ValueError:
        asked = []
    if not asked or len(asked) > MOST_PERCENTILES or not all(0.0 < rank <= ALL and rank == round(rank, 4) for rank in asked):
        sentence = (
            f"it must be 1 to {MOST_PERCENTILES} numbers above 0 and up to 100, of at most 4 decimals, separated by commas, "
            "such as 50,95,99.9."
        )
        raise InvalidField(f"Invalid value for 'percentiles': {sentence}", param="percentiles")
    return asked
