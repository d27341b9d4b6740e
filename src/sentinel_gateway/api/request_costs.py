"""`/api/monitoring/cost-analysis/requests`: what single calls of providers took, and for which of their tokens."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request

from sentinel_gateway.api.analytics import NO_LEDGER, past_told
from sentinel_gateway.api.analytics_bodies import CallCosts, CallCostsResponse
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import HOUR, reading, stamp
from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.pricing import NANO_PER_USD, booked_parts
from sentinel_gateway.core.windows import MICROS, MILLIS
from sentinel_gateway.errors import HistoryUnavailable
from sentinel_gateway.ports import Clock, Prices
from sentinel_gateway.ports.ledger import Settled, Wanted, Windows

Order = Annotated[Literal["dearest", "latest"], Query(description="Which of them come first.")]
Id = Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="Of this request only: its x-sentinel-id.")]
Hours = Annotated[int, Query(ge=1, le=168, description="Calls of the last so many hours.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most calls to tell of.")]

MOST_CALLS: Final = 50
NOT_NOW: Final = "The ledger can't be read now, or not so much of it in one go: ask for fewer hours, or again in a moment."


class RequestCosts:
    """The endpoint. A tenant's reader sees the calls of its tenant, the operator all."""

    def __init__(self, history: Windows | None, prices: Prices, *, guard: Guard, clock: Clock) -> None:
        self._history = history
        self._prices = prices
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RequestCosts {self._history!r}>"

    def routes(self) -> APIRouter:
        """The router of it."""
        return reading(self._guard, [("/cost-analysis/requests", self.request_costs)])

    async def request_costs(
        self,
        request: Request,
        hours: Hours = 24,
        order: Order = "dearest",
        limit: Limit = 20,
        id: Id = None,  # noqa: A002 - its name
    ) -> CallCostsResponse:
        """What calls of providers took, for which tokens: the dearest of the last hours, the latest, or those of one request."""
        now = int(self._clock()) + 1
        tenant, dearest = request.state.caller.tenant or None, order == "dearest"
        asked = Wanted(since=now - hours * HOUR, until=now, request=id, tenant=tenant, dearest=dearest, limit=limit)
        found = await self._found(asked)
        return CallCostsResponse(
            timestamp=stamp(self._clock()),
            hours=hours,
            calls=[self._shown(one) for one in found],
            total_cost=round(sum(one.spent.cost for one in found) / NANO_PER_USD, 9),
        )

    async def of_request(self, request: Request, id_: str, began: float, seconds: float) -> list[CallCosts]:
        """Those of one request, in their order, of which it is known when it was (Unix seconds): nothing else is gone through."""
        tenant = request.state.caller.tenant or None
        since, until = int(began), int(began + seconds) + 2
        found = await self._found(Wanted(since=since, until=until, request=id_, tenant=tenant, limit=MOST_CALLS))
        return sorted(map(self._shown, found), key=lambda call: call.attempt)

    async def _found(self, asked: Wanted) -> list[Settled]:
        if self._history is None:
            raise HistoryUnavailable(NO_LEDGER)
        with past_told(NOT_NOW):
            return await self._history.calls(asked)

    def _shown(self, call: Settled) -> CallCosts:
        asked, spent = call.intent, call.spent
        return CallCosts(
            request=asked.request,
            attempt=asked.number,
            timestamp=stamp(asked.started / MICROS),
            provider=asked.provider,
            model=asked.target,
            ending=call.ending,
            latency_ms=call.duration / MILLIS,
            tokens_input=spent.prompt_tokens,
            tokens_cached=spent.cached_tokens,
            tokens_output=spent.completion_tokens,
            tokens_reasoning=spent.reasoning_tokens,
            cost=spent.cost / NANO_PER_USD,
            basis=spent.basis,
            priced=spent.priced,
            parts=booked_parts(self._prices(f"{asked.provider}/{asked.target}"), _usage(call), spent.cost),
        )


def _usage(call: Settled) -> Usage:
    spent = call.spent
    return Usage(
        spent.prompt_tokens,
        spent.completion_tokens,
        cached_tokens=spent.cached_tokens,
        cache_write_tokens=spent.cache_write_tokens,
        reasoning_tokens=spent.reasoning_tokens,
    )
