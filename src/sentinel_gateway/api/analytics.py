"""The analytics of `/api/monitoring`: what the ledger tells of the past, added up, compared and explained.

What is told of it is made in `analytics_told.py`.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError

from sentinel_gateway.api import analytics_told as told
from sentinel_gateway.api.analytics_bodies import (
    AnomaliesResponse,
    CostAnalysisResponse,
    ErrorRatesResponse,
    LatencyTrendsResponse,
    ReportBody,
    ReportResponse,
    TokenEfficiencyResponse,
    TrialAnalyticsResponse,
)
from sentinel_gateway.api.bodies import read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import HOUR, LONGEST_NAME, Model, Provider, not_found, reading, stamp
from sentinel_gateway.core.access import ANONYMOUS, Caller, Key
from sentinel_gateway.core.analytics import STAGES, Use, funnel, trials
from sentinel_gateway.core.anomalies import Severity, find_anomalies
from sentinel_gateway.core.windows import Window
from sentinel_gateway.errors import HistoryUnavailable, KeysUnavailable, StoreDown
from sentinel_gateway.ports import Clock, KeyStore
from sentinel_gateway.ports.ledger import Windows

FIVE_MINUTES: Final = 300
DAY: Final = 86_400
MOST_HOURLY_DAYS: Final = 30
MOST_TRIALS: Final = 5000
"""The newest keys marked trial that are looked at."""
NO_LEDGER: Final = "There is no past to tell of: the ledger is off. Set ledger.enabled to true, and it begins."
NOT_NOW: Final = "The ledger can't be read now, or not so much of it at once: ask again (what was read is kept), or for less."

Hours = Annotated[int, Query(ge=1, le=720, description="So many hours (UTC); the one under way is the last.")]
Lately = Annotated[
    int, Query(ge=1, le=72, description="What began or lasted in so many hours; the day before is held beside it.")
]
Days = Annotated[int, Query(ge=1, le=90, description="So many days (UTC); the one under way is the last.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most of them to tell of.")]
Of = Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME, description="Of this provider only.")]


class Analytics:
    """The endpoints. `history` is None without a ledger; `providers` are those that are configured."""

    def __init__(
        self, history: Windows | None, keys: KeyStore, providers: Collection[str], *, guard: Guard, clock: Clock
    ) -> None:
        self._history = history
        self._keys = keys
        self._providers = providers
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Analytics {self._history!r}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints."""
        router = reading(
            self._guard,
            (
                ("/anomalies", self.anomalies),
                ("/trial-analytics", self.trial_analytics),
                ("/cost-analysis", self.cost_analysis),
                ("/latency-trends/{provider}", self.latency_trends),
                ("/error-rates", self.error_rates),
                ("/token-efficiency/{provider}/{model:path}", self.token_efficiency),
            ),
        )
        body = takes(ReportBody)
        router.add_api_route("/report", self.report, methods=["POST"], operation_id="monitoring_report", openapi_extra=body)
        return router

    async def anomalies(
        self, hours: Lately = 24, severity: Severity | None = None, provider: Of = None, limit: Limit = 100
    ) -> AnomaliesResponse:
        """What is out of the ordinary, the newest first: slower, wrong more often, dearer, dead. Each says how far."""
        now = int(self._clock())
        since = now - hours * HOUR
        windows = await self._windows(since - DAY, now, FIVE_MINUTES)
        found = await asyncio.to_thread(find_anomalies, windows, now)
        found = [one for one in found if (one.until or now) > since and provider in {None, one.provider}]
        counts = {level: sum(one.severity == level for one in found) for level in ("critical", "warning")}
        shown = [told.anomaly(one) for one in found if severity in {None, one.severity}]
        return AnomaliesResponse(
            timestamp=stamp(self._clock()),
            anomalies=shown[:limit],
            total_count=len(found),
            critical_count=counts["critical"],
            warning_count=counts["warning"],
        )

    async def error_rates(self, hours: Hours = 24, provider: Of = None) -> ErrorRatesResponse:
        """How often calls fail, by model, the worst first."""
        windows = await self._last_hours(hours, provider)
        return await asyncio.to_thread(told.error_rates, windows, self._clock(), hours=hours)

    async def latency_trends(self, provider: Provider, hours: Hours = 24) -> LatencyTrendsResponse:
        """How long a provider takes, by the hour, and where that is going."""
        windows = await self._found(provider, hours)
        return await asyncio.to_thread(told.latency_trends, windows, self._clock(), provider=provider, hours=hours)

    async def token_efficiency(self, provider: Provider, model: Model, hours: Hours = 24) -> TokenEfficiencyResponse:
        """How many tokens a model of a provider takes and makes, how fast, and for how much."""
        windows = await self._found(provider, hours)
        return await asyncio.to_thread(told.token_efficiency, windows, self._clock(), provider=provider, model=model, hours=hours)

    async def cost_analysis(self, days: Days = 7) -> CostAnalysisResponse:
        """What providers took, by model and day, and where less might do. Days also have what the ledger keeps as sums only."""
        windows = await self._windows(self._days_ago(days), int(self._clock()) + 1, DAY)
        return await asyncio.to_thread(told.cost_analysis, windows, self._clock(), days=days)

    async def trial_analytics(self, request: Request, days: Days = 30, limit: Limit = 100) -> TrialAnalyticsResponse:
        """How far keys marked trial have come: made, used, used on several days, at a limit, followed by a full key."""
        caller: Caller = request.state.caller
        since = self._days_ago(days)
        keys = await self._all_keys()
        trying = [key.id for key in sorted(keys, key=lambda key: -key.created) if key.trial][:MOST_TRIALS]
        uses = await self._uses(since, trying)
        own = [key for key in keys if caller.tenant in {None, ANONYMOUS, key.tenant}]
        found = await asyncio.to_thread(trials, own, uses, since=since)  # there may be a hundred thousand keys
        counts = funnel(found)
        waits = [(one.use.first - one.key.created) / HOUR for one in found if one.use.first is not None]
        return TrialAnalyticsResponse(
            timestamp=stamp(self._clock()),
            period_days=days,
            funnel=counts,
            rates={stage: told.ratio(counts[stage], len(found)) for stage in STAGES},
            conversion_rate=told.ratio(counts["converted"], len(found)),
            median_hours_to_first_request=round(max(median(waits), 0.0), 3) if waits else None,
            total_requests=sum(one.use.requests for one in found),
            trials=[told.trial(one) for one in found[:limit]],
        )

    async def report(self, request: Request) -> ReportResponse:
        """A table of what you ask for: which figures, by what, of which providers and models, of when."""
        asked = await read_body(request, ReportBody)
        seconds = _step(asked)
        days = asked.window.days
        since = self._hours_ago(asked.window.hours or 24) if days is None else self._days_ago(days)
        windows = await self._windows(since, int(self._clock()) + 1, seconds)
        return await asyncio.to_thread(told.report, windows, self._clock(), asked=asked, since=since)

    # --- what is known ---

    def _hours_ago(self, hours: int) -> int:
        return int(self._clock()) // HOUR * HOUR - (hours - 1) * HOUR

    def _days_ago(self, days: int) -> int:
        return int(self._clock()) // DAY * DAY - (days - 1) * DAY

    async def _last_hours(self, hours: int, provider: str | None = None) -> list[Window]:
        return await self._windows(self._hours_ago(hours), int(self._clock()) + 1, HOUR, provider)

    async def _windows(self, since: int, until: int, seconds: int, provider: str | None = None) -> list[Window]:
        with past_told():
            return await self._known().windows(since, until, seconds=seconds, provider=provider)

    def _known(self) -> Windows:
        if self._history is None:
            raise HistoryUnavailable(NO_LEDGER)
        return self._history

    async def _found(self, provider: str, hours: int) -> list[Window]:
        """The hours of a provider; raises `ProviderNotFound` if it is neither configured nor was called in them."""
        windows = await self._last_hours(hours, provider)
        if not windows and provider not in self._providers:
            raise not_found(provider, self._providers)
        return windows

    async def _uses(self, since: int, keys: Sequence[str]) -> Mapping[str, Use]:
        with past_told():
            found = await self._known().key_days(since, int(self._clock()) + 1, keys)
        uses: dict[str, Use] = {}
        for one in found:
            use = uses.setdefault(one.key, Use())
            use.add(requests=one.requests, limited=one.limited, first=one.first, last=one.last)
        return uses

    async def _all_keys(self) -> list[Key]:
        keys: dict[str, Key] = {}
        mark, more = None, True
        try:
            while more:
                changes = await self._keys.changes(mark)
                mark, more = changes.mark, changes.more
                keys |= {key.id: key for key in changes.keys}
        except StoreDown as exc:
            raise KeysUnavailable("The keys can't be read now. Ask again in a moment.", retry_after=1.0) from exc
        return list(keys.values())


@contextmanager
def past_told(not_now: str = NOT_NOW) -> Iterator[None]:
    """What the caller is told where the ledger does not answer."""
    try:
        yield
    except StoreDown as exc:
        raise HistoryUnavailable(not_now, retry_after=1.0) from exc


def _step(asked: ReportBody) -> int:
    """The seconds of the windows that a report is made of. Raises `RequestValidationError` for a window that is none."""
    if asked.window.hours is not None and asked.window.days is not None:
        raise RequestValidationError([{"loc": ("body", "window"), "msg": "say hours or days, not both"}])
    if asked.window.days is None or (asked.window.days <= MOST_HOURLY_DAYS and "hour" in asked.group_by):
        return HOUR
    if "hour" in asked.group_by:
        raise RequestValidationError(
            [{"loc": ("body", "group_by"), "msg": f"hours are told of {MOST_HOURLY_DAYS} days at most: group by day"}]
        )
    return DAY
