"""How providers do: scores, times, how calls end, circuits and their reset, what is out of the ordinary.

All of it is what the monitoring API's endpoints answer, asked here as they are; made once for all who look, every few seconds.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from fastapi import Request

from sentinel_gateway.api.analytics import Analytics
from sentinel_gateway.api.analytics_bodies import ErrorRatesResponse, ModelErrors
from sentinel_gateway.api.circuits import CircuitAdmin
from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.live import Frames
from sentinel_gateway.api.dashboard.pages import HOME, Action, Context, Page, Part, Screen
from sentinel_gateway.api.guard import OPERATOR
from sentinel_gateway.api.monitoring import Monitoring
from sentinel_gateway.api.monitoring_bodies import Percentages
from sentinel_gateway.core.record import Ending
from sentinel_gateway.errors import RequestError
from sentinel_gateway.ports import Clock

if TYPE_CHECKING:
    from sentinel_gateway.api.dashboard.door import Visit

PATH: Final = f"{HOME}/providers"
EVERY: Final = 4.0
"""Seconds; pages ask every 5."""
SELDOM: Final = 30.0
"""Seconds between two looks for what is out of the ordinary: that takes a walk over two days."""
HOURS: Final = {1: "1 hour", 24: "24 hours", 168: "7 days"}
MOST_MODELS: Final = 20
MOST_ERRORS: Final = 5
MOST_ANOMALIES: Final = 10
PERCENTILES: Final = ("p50", "p95", "p99")
STATES: Final = {"healthy": "good", "degraded": "warn", "unhealthy": "bad", "closed": "good", "half_open": "warn", "open": "bad"}
ENDINGS: Final = {
    "unauthorized": "key refused",
    "limited": "limited us",
    "timeout": "took too long",
    "unreachable": "could not be reached",
    "broken": "broke off",
    "refused": "called it wrong",
    "left": "left by the caller",
    "lost": "another was faster",
    "orphan": "unknown: the process died",
}
"""How calls end that bring no answer, for people."""

T = TypeVar("T")


class Providers(Screen):
    """The page."""

    page = Page(
        name="providers",
        title="Providers",
        path=PATH,
        access="read",
        reads=(
            "/api/monitoring/health",
            "/api/monitoring/providers/comparison",
            "/api/monitoring/error-rates",
            "/api/monitoring/latency/{provider}/{model}",
            "/api/monitoring/errors/{provider}",
            "/api/monitoring/circuit-breakers",
            "/api/monitoring/anomalies",
            "/admin/circuits",
            "/admin/circuits/reset",
        ),
    )

    def __init__(self, monitoring: Monitoring, analytics: Analytics, circuits: CircuitAdmin, clock: Clock) -> None:
        self._monitoring = monitoring
        self._analytics = analytics
        self._circuits = circuits
        self._frames = Frames(clock)

    def __repr__(self) -> str:
        return f"<Providers of {self._monitoring!r}>"

    def parts(self) -> Sequence[Part]:
        return [Part(path=f"{PATH}/now", template="providers_now.html", show=self.show)]

    def actions(self) -> Sequence[Action]:
        return [Action(path=f"{PATH}/reset", access=OPERATOR, act=self.reset)]

    async def show(self, request: Request) -> Context:
        """All of it. `hours`: how far back the comparison goes."""
        visit: Visit = request.state.visit
        asked = request.query_params.get("hours", "")
        hours = next((known for known in HOURS if str(known) == asked), 1)
        now = (await self._frames.of(("now", str(hours)), lambda: self._now(hours), EVERY)).value
        odd = (await self._frames.of(("odd", ""), self._odd, SELDOM)).value
        operates = visit.may(OPERATOR)
        return {
            "hours": hours,
            "spans": HOURS,
            "now": now,
            "odd": odd,
            "circuits": await (self._targets() if operates else self._open_circuits()),
            "may_reset": operates and visit.session is not None,
        }

    async def reset(self, request: Request, form: Form) -> str:
        """Close a circuit by hand, or all."""
        target = form.get("target") or None
        closed = await self._circuits.close(request.state.caller, target)
        return f"Closed: {', '.join(closed)}." if closed else "Nothing was open any more."

    # --- what is known ---

    async def _targets(self) -> list[dict[str, Any]]:
        """What this node knows of each target: for the operator."""
        return [
            {
                "target": one["target"],
                "state": one["state"],
                "kind": STATES[one["state"]],
                "failures": one["failures"],
                "besides": _besides(one["key_refused"], one["cooling"]),
            }
            for one in (await self._circuits.show())["targets"]
        ]

    async def _open_circuits(self) -> list[dict[str, Any]]:
        """Those that readers are told of."""
        return [
            {
                "target": f"{one.provider}/{one.model}",
                "state": one.state,
                "kind": STATES[one.state],
                "failures": one.failure_count,
                "besides": "",
            }
            for one in await self._monitoring.circuit_breakers()
        ]

    async def _now(self, hours: int) -> dict[str, Any]:
        """The figures of the last seconds to hours, in words."""
        health = {one.provider: one for one in await self._monitoring.health()}
        compared, why = await _told(lambda: self._monitoring.comparison(hours))
        rates, why_not = await _told(lambda: self._analytics.error_rates(24))
        errors = [
            {"provider": name, "at": words.clock(one.timestamp), "took": words.millis(one.latency_ms)}
            | {"model": one.model, "error": one.error}
            for name in health
            for one in await self._monitoring.errors(name, MOST_ERRORS)
        ]
        return {
            "why": why or why_not,
            "providers": [
                {
                    "name": one.provider,
                    "score": one.health_score,
                    "status": one.status,
                    "kind": STATES[one.status],
                    "predicted": f"{health[one.provider].predicted_score:.0f}" if one.provider in health else words.NOTHING,
                    "score_text": f"{one.health_score:.0f}",
                    "requests": words.count(one.total_requests),
                    "errors": words.NOTHING if one.error_rate is None else words.share(one.error_rate, 1),
                    "latency": words.millis(one.avg_latency_ms),
                    "tokens": words.count(one.tokens_input + one.tokens_output),
                    "cost": words.usd(one.total_cost),
                    "each": words.usd(one.cost_per_request),
                    "open": one.open_circuits,
                }
                for one in (compared.providers if compared is not None else ())
            ],
            "models": [await self._model(one) for one in (rates.models[:MOST_MODELS] if rates is not None else ())],
            "more_models": _more(rates),
            "errors": errors,
        }

    async def _model(self, one: ModelErrors) -> dict[str, Any]:
        times, _ = await _told(lambda: self._monitoring.latency(one.provider, one.model))  # one that is gone has none
        return {
            "name": f"{one.provider}/{one.model}",
            "requests": words.count(one.total_requests),
            "errors": words.NOTHING if one.error_rate is None else words.share(one.error_rate, 1),
            "latency": _percentiles(times),
            "first": _percentiles(times and times.first_token),
            "speed": words.NOTHING if not (speed := _of(times and times.tokens_per_second, "p50")) else words.count(speed),
            "endings": [
                {
                    "kind": "bad" if name in get_args(Ending)[2:7] else "",
                    "text": f"{ENDINGS.get(name, name)} {words.count(count)}",
                }
                for name, count in one.by_type.items()
            ],
        }

    async def _odd(self) -> dict[str, Any]:
        found, why = await _told(lambda: self._analytics.anomalies(24, limit=MOST_ANOMALIES))
        return {
            "why": why,
            "total": 0 if found is None else found.total_count,
            "anomalies": [
                {
                    "kind": "bad" if one.severity == "critical" else "warn",
                    "severity": one.severity,
                    "message": one.message,
                    "since": one.since.replace("T", " ").removesuffix("Z"),
                    "lasts": one.until is None,
                }
                for one in (found.anomalies if found is not None else ())
            ],
        }


async def _told(ask: Callable[[], Awaitable[T]]) -> tuple[T | None, str]:
    """What an endpoint answers, or why it does not."""
    try:
        return await ask(), ""
    except RequestError as error:
        return None, error.message


def _besides(refused: bool, cooling: float) -> str:  # noqa: FBT001 - one of two facts
    said = ["refuses our key"] if refused else []
    return ", ".join([*said, f"asked for a pause of {words.span(cooling)}"] if cooling else said)


def _percentiles(times: Percentages | None) -> list[str]:
    return [words.millis(_of(times, name)) for name in PERCENTILES]


def _of(times: Percentages | None, name: str) -> float | None:
    value: float | None = getattr(times, name, None)
    return value


def _more(rates: ErrorRatesResponse | None) -> int:
    return 0 if rates is None else max(0, len(rates.models) - MOST_MODELS)
