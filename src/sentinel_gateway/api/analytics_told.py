"""What the analytics of `/api/monitoring` answer, made of windows. Pure.

There may be a hundred thousand of them: that takes seconds, so it is done on a thread, beside the event loop.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec

from sentinel_gateway.api.analytics_bodies import (
    AdviceBody,
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
    TrialBody,
)
from sentinel_gateway.api.monitoring_routes import stamp
from sentinel_gateway.core.analytics import FIGURES, Trial, advise, group, trend
from sentinel_gateway.core.anomalies import Anomaly
from sentinel_gateway.core.windows import Window, total
from sentinel_gateway.ports.recent import hour_of

ERRORS: Final = ("total_requests", "successful_requests", "failed_requests", "error_rate")


def error_rates(windows: Sequence[Window], at: float, *, hours: int) -> ErrorRatesResponse:
    """Those of each model, the worst first. `at`: it is now, in Unix seconds."""
    models = []
    for (name, model), whole in group(windows, lambda one: one.series).items():
        ended = {ending: count for ending, count in sorted(whole.endings.items()) if ending != "answered"}
        models.append(
            ModelErrors(provider=str(name), model=str(model), by_type=ended, **figures(whole, *ERRORS, "refused_requests"))
        )
    models.sort(key=lambda one: (-(one.error_rate or 0.0), one.provider, one.model))
    return ErrorRatesResponse(timestamp=stamp(at), hours=hours, models=models, **figures(total(windows), *ERRORS))


def latency_trends(windows: Sequence[Window], at: float, *, provider: str, hours: int) -> LatencyTrendsResponse:
    """A provider's, by the hour and by model."""
    by_hour = group(windows, lambda one: (one.start,))
    moving = trend(list(by_hour.values()))
    models: dict[str, list[Window]] = {}
    for window in windows:
        models.setdefault(window.model, []).append(window)
    return LatencyTrendsResponse(
        timestamp=stamp(at),
        provider=provider,
        hours=hours,
        trend=moving.direction,
        change=moving.change,
        data={hour_of(one.start): Latency(**latency_of(one)) for one in by_hour.values()},
        models={model: _model_trend(own) for model, own in sorted(models.items())},
    )


def token_efficiency(windows: Iterable[Window], at: float, *, provider: str, model: str, hours: int) -> TokenEfficiencyResponse:
    """That of one model of a provider."""
    own = total(window for window in windows if window.model == model)
    names = "total_requests", "tokens_input", "tokens_output", "total_cost", "tokens_per_second"
    more = "first_token_avg_ms", "cost_per_request", "cost_per_million_tokens"
    return TokenEfficiencyResponse(
        timestamp=stamp(at),
        provider=provider,
        model=model,
        hours=hours,
        tokens_per_request=ratio(own.prompt_tokens + own.completion_tokens, own.decided),
        output_ratio=ratio(own.completion_tokens, own.prompt_tokens),
        cached_ratio=ratio(own.cached_tokens, own.prompt_tokens),
        reasoning_ratio=ratio(own.reasoning_tokens, own.completion_tokens),
        **figures(own, *names, *more),
    )


def cost_analysis(windows: Sequence[Window], at: float, *, days: int) -> CostAnalysisResponse:
    """By provider, model and day, the dearest provider first."""
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
        timestamp=stamp(at),
        period_days=days,
        total_cost=spent,
        total_requests=whole.decided,
        avg_cost_per_day=round(spent / days, 9),
        providers=bills,
        daily=daily,
        advice=[AdviceBody(type=one.kind, **_members(one, "provider", "model", "at_stake", "message")) for one in advice],
    )


def report(windows: Iterable[Window], at: float, *, asked: ReportBody, since: int) -> ReportResponse:
    """The table that was asked for."""
    chosen = [one for one in windows if _is_asked(one, asked)]
    rows = group(chosen, partial(_place, by=asked.group_by)) if asked.group_by else {(): total(chosen)}
    grouped = sorted(rows.items())
    return ReportResponse(
        timestamp=stamp(at),
        since=stamp(since),
        until=stamp(at),
        group_by=list(asked.group_by),
        metrics=list(asked.metrics),
        rows=[
            dict(zip(asked.group_by, place, strict=True)) | figures(one, *asked.metrics) for place, one in grouped[: asked.limit]
        ],
        total_rows=len(grouped),
    )


def anomaly(one: Anomaly) -> AnomalyBody:
    """One of them."""
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


def trial(one: Trial) -> TrialBody:
    """One of them."""
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


def figures(window: Window, *names: str) -> dict[str, Any]:
    """These figures by their names."""
    return {name: FIGURES[name](window) for name in names}


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
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
    return figures(window, *names) | {"share": ratio(window.cost, whole.cost)}


def _day(start: int) -> str:
    return f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d}"


def _members(struct: msgspec.Struct, *names: str) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in names}


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
