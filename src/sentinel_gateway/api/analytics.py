"""The analytics of `/api/monitoring`: what the ledger tells of the past, added up, compared and explained."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError

from sentinel_gateway.api.analytics_bodies import (
    AdviceBody,
    AnomaliesResponse,
    AnomalyBody,
    Bill,
    CostAnalysisResponse,
    Dimension,
    ErrorRatesResponse,
    Latency,
    LatencyTrendsResponse,
    ModelErrors,
    ModelTrend,
    ProviderBill,
    ReportBody,
    ReportResponse,
    TokenEfficiencyResponse,
    TrialAnalyticsResponse,
    TrialBody,
)
from sentinel_gateway.api.bodies import read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import HOUR, LONGEST_NAME, Model, Provider, not_found, reading, stamp
from sentinel_gateway.core.access import ANONYMOUS, Caller, Key
from sentinel_gateway.core.analytics import FIGURES, STAGES, Trial, Use, advise, funnel, group, trend, trials
from sentinel_gateway.core.anomalies import Anomaly, Severity, find_anomalies
from sentinel_gateway.core.windows import Window, total
from sentinel_gateway.errors import HistoryUnavailable, KeysUnavailable, StoreDown
from sentinel_gateway.ports import Clock, KeyStore
from sentinel_gateway.ports.ledger import Windows
from sentinel_gateway.ports.recent import hour_of

FIVE_MINUTES: Final = 300
DAY: Final = 86_400
MOST_HOURLY_DAYS: Final = 30
MOST_TRIALS: Final = 5000
"""The newest keys marked trial that are looked at."""
NO_LEDGER: Final = "There is no past to tell of: the ledger is off. Set ledger.enabled to true, and it begins."
NOT_NOW: Final = "The ledger can't be read now, or not so much of it at once: ask again (what was read is kept), or for less."

ERRORS: Final = ("total_requests", "successful_requests", "failed_requests", "error_rate")

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
        shown = [self._anomaly(one) for one in found if severity in {None, one.severity}]
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
        models = []
        for (name, model), whole in group(windows, lambda one: one.series).items():
            ended = {ending: count for ending, count in sorted(whole.endings.items()) if ending != "answered"}
            models.append(
                ModelErrors(provider=str(name), model=str(model), by_type=ended, **_figures(whole, *ERRORS, "refused_requests"))
            )
        models.sort(key=lambda one: (-(one.error_rate or 0.0), one.provider, one.model))
        return ErrorRatesResponse(timestamp=stamp(self._clock()), hours=hours, models=models, **_figures(total(windows), *ERRORS))

    async def latency_trends(self, provider: Provider, hours: Hours = 24) -> LatencyTrendsResponse:
        """How long a provider takes, by the hour, and where that is going."""
        windows = await self._found(provider, hours)
        by_hour = group(windows, lambda one: (one.start,))
        moving = trend(list(by_hour.values()))
        models: dict[str, list[Window]] = {}
        for window in windows:
            models.setdefault(window.model, []).append(window)
        return LatencyTrendsResponse(
            timestamp=stamp(self._clock()),
            provider=provider,
            hours=hours,
            trend=moving.direction,
            change=moving.change,
            data={hour_of(one.start): Latency(**latency_of(one)) for one in by_hour.values()},
            models={model: _model_trend(own) for model, own in sorted(models.items())},
        )

    async def token_efficiency(self, provider: Provider, model: Model, hours: Hours = 24) -> TokenEfficiencyResponse:
        """How many tokens a model of a provider takes and makes, how fast, and for how much."""
        own = total(window for window in await self._found(provider, hours) if window.model == model)
        tokens = own.prompt_tokens + own.completion_tokens
        names = "total_requests", "tokens_input", "tokens_output", "total_cost", "tokens_per_second"
        more = "first_token_avg_ms", "cost_per_request", "cost_per_million_tokens"
        return TokenEfficiencyResponse(
            timestamp=stamp(self._clock()),
            provider=provider,
            model=model,
            hours=hours,
            tokens_per_request=_ratio(tokens, own.decided),
            output_ratio=_ratio(own.completion_tokens, own.prompt_tokens),
            cached_ratio=_ratio(own.cached_tokens, own.prompt_tokens),
            reasoning_ratio=_ratio(own.reasoning_tokens, own.completion_tokens),
            **_figures(own, *names, *more),
        )

    async def cost_analysis(self, days: Days = 7) -> CostAnalysisResponse:
        """What providers took, by model and day, and where less might do. Days also have what the ledger keeps as sums only."""
        windows = await self._last_days(days)
        whole, totals = total(windows), group(windows, lambda one: one.series)
        by_provider = group(windows, lambda one: (one.provider,))
        daily = {_day(one.start): FIGURES["total_cost"](one) or 0.0 for one in group(windows, lambda one: (one.start,)).values()}
        advice = advise({(str(name), str(model)): one for (name, model), one in totals.items()})
        bills = {}
        for (name,), one in sorted(by_provider.items(), key=lambda item: -item[1].cost):
            models = {str(model): Bill(**_bill(own, one)) for (of, model), own in totals.items() if of == name}
            bills[str(name)] = ProviderBill(**_bill(one, whole), models=models)
        spent = FIGURES["total_cost"](whole) or 0.0
        return CostAnalysisResponse(
            timestamp=stamp(self._clock()),
            period_days=days,
            total_cost=spent,
            total_requests=whole.decided,
            avg_cost_per_day=round(spent / days, 9),
            providers=bills,
            daily=daily,
            advice=[AdviceBody(type=one.kind, **_members(one, "provider", "model", "at_stake", "message")) for one in advice],
        )

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
            rates={stage: _ratio(counts[stage], len(found)) for stage in STAGES},
            conversion_rate=_ratio(counts["converted"], len(found)),
            median_hours_to_first_request=round(max(median(waits), 0.0), 3) if waits else None,
            total_requests=sum(one.use.requests for one in found),
            trials=[self._trial(one) for one in found[:limit]],
        )

    async def report(self, request: Request) -> ReportResponse:
        """A table of what you ask for: which figures, by what, of which providers and models, of when."""
        asked = await read_body(request, ReportBody)
        seconds = _step(asked)
        now = int(self._clock())
        days = asked.window.days
        since = self._hours_ago(asked.window.hours or 24) if days is None else self._days_ago(days)
        windows = [one for one in await self._windows(since, now, seconds) if _is_asked(one, asked)]
        rows = group(windows, partial(_place, by=asked.group_by)) if asked.group_by else {(): total(windows)}
        grouped = sorted(rows.items())
        return ReportResponse(
            timestamp=stamp(self._clock()),
            since=stamp(since),
            until=stamp(self._clock()),
            group_by=list(asked.group_by),
            metrics=list(asked.metrics),
            rows=[
                dict(zip(asked.group_by, place, strict=True)) | _figures(one, *asked.metrics)
                for place, one in grouped[: asked.limit]
            ],
            total_rows=len(grouped),
        )

    # --- what is known ---

    def _hours_ago(self, hours: int) -> int:
        return int(self._clock()) // HOUR * HOUR - (hours - 1) * HOUR

    def _days_ago(self, days: int) -> int:
        return int(self._clock()) // DAY * DAY - (days - 1) * DAY

    async def _last_hours(self, hours: int, provider: str | None = None) -> list[Window]:
        return await self._windows(self._hours_ago(hours), int(self._clock()) + 1, HOUR, provider)

    async def _last_days(self, days: int) -> list[Window]:
        return await self._windows(self._days_ago(days), int(self._clock()) + 1, DAY)

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

    # --- how it is told ---

    def _anomaly(self, one: Anomaly) -> AnomalyBody:
        return AnomalyBody(
            type=one.kind,
            model=one.model or None,
            since=stamp(one.since),
            until=None if one.until is None else stamp(one.until),
            ratio=one.ratio or None,
            requests=one.calls,
            message=one.explanation,
            **_members(one, "severity", "provider", "metric", "value", "expected", "score"),
        )

    def _trial(self, one: Trial) -> TrialBody:
        first, last = (None if moment is None else stamp(moment) for moment in (one.use.first, one.use.last))
        return TrialBody(
            stage=one.stage,
            created=stamp(one.key.created),
            first_request=first,
            last_request=last,
            requests=one.use.requests,
            limited_requests=one.use.limited,
            active_days=one.use.days,
            **_members(one.key, "id", "name", "tenant", "hint"),
        )


@contextmanager
def past_told(not_now: str = NOT_NOW) -> Iterator[None]:
    """What the caller is told where the ledger does not answer."""
    try:
        yield
    except StoreDown as exc:
        raise HistoryUnavailable(not_now, retry_after=1.0) from exc


def _day(start: int) -> str:
    return f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d}"


def _figures(window: Window, *names: str) -> dict[str, Any]:
    return {name: FIGURES[name](window) for name in names}


def _members(struct: msgspec.Struct, *names: str) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in names}


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


def latency_of(window: Window) -> dict[str, Any]:
    """The members of `Latency`."""
    shown = {name: FIGURES[f"latency_{name}_ms"](window) for name in ("avg", "p50", "p95", "p99")}
    return {"count": window.timed} | shown


def _model_trend(windows: Sequence[Window]) -> ModelTrend:
    moving = trend(windows)
    return ModelTrend(trend=moving.direction, change=moving.change, **latency_of(total(windows)))


def _bill(window: Window, whole: Window) -> dict[str, Any]:
    names = "total_cost", "total_requests", "tokens_input", "tokens_output", "cost_per_request", "cost_per_million_tokens"
    return _figures(window, *names) | {"share": _ratio(window.cost, whole.cost)}


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


def _is_asked(window: Window, asked: ReportBody) -> bool:
    wanted: Iterable[tuple[list[str] | None, str]] = (
        (asked.filter.provider, window.provider),
        (asked.filter.model, window.model),
    )
    return all(names is None or name in names for names, name in wanted)


def _place(window: Window, by: Sequence[Dimension]) -> tuple[str | int, ...]:
    """The row that a window belongs to."""
    return tuple(DIMENSIONS[dimension](window) for dimension in by)


DIMENSIONS: Final[Mapping[Dimension, Callable[[Window], str]]] = {
    "provider": lambda window: window.provider,
    "model": lambda window: window.model,
    "hour": lambda window: hour_of(window.start),
    "day": lambda window: _day(window.start),
}
