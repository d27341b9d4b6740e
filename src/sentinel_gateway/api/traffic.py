"""`/api/monitoring/requests` and `/savings`: requests one by one, and what they saved and took over time, by the ledger."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from sentinel_gateway.api.analytics import DAY, NO_LEDGER, past_told
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import HOUR
from sentinel_gateway.api.operations import READ
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.record import Outcome
from sentinel_gateway.core.stretches import Share, Stretch, by_name, filled
from sentinel_gateway.core.windows import MICROS, MILLIS
from sentinel_gateway.errors import HistoryUnavailable
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.ledger import Asked, By, Told, Windows

if TYPE_CHECKING:
    from sentinel_gateway.core.access import Caller

Span = Literal["hour", "day", "week", "month", "quarter"]
MINUTE: Final = 60
QUARTER: Final = 900
STEPS: Final[dict[Span, tuple[int, int]]] = {
    "hour": (HOUR, MINUTE),
    "day": (DAY, QUARTER),
    "week": (7 * DAY, HOUR),
    "month": (30 * DAY, DAY),
    "quarter": (90 * DAY, DAY),
}
"""How far each goes back, and how long its stretches are, in seconds."""
LONGEST_ID: Final = 128

Spans = Annotated[
    Span, Query(description="By minutes, quarters of an hour, hours, days, days. The stretch under way is the last.")
]
Hours = Annotated[int, Query(ge=1, le=168, description="Requests of the last so many hours.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most requests to tell of.")]
ByOutcome = Annotated[Outcome | None, Query(description="Only those in which the cache took part like this.")]
ByWhat = Annotated[By, Query(description="What money is told apart by.")]
Days = Annotated[int, Query(ge=1, le=90, description="So many days (UTC); the one under way is the last.")]
Failed = Annotated[bool, Query(description="Only those that ended in an error.")]
Id = Annotated[str | None, Query(min_length=1, max_length=LONGEST_ID, description="Its x-sentinel-id or x-request-id.")]


class RequestRow(BaseModel):
    """A request that has ended. No prompt, no answer. Money in USD; `saved` is what the stored answer had cost.

    `key` is the id of the key that asked, `admin-key` or `anybody`.
    """

    id: str
    request_id: str
    timestamp: str
    route: str
    model: str
    provider: str
    target: str
    tenant: str
    key: str
    status: int
    outcome: Outcome
    tier: str
    error: str
    stream: bool
    attempts: int
    similarity: float
    latency_ms: float
    upstream_ms: float
    first_byte_ms: float
    tokens_input: int
    tokens_output: int
    cost: float
    saved: float


class RequestsResponse(BaseModel):
    """The latest first."""

    timestamp: str
    requests: list[RequestRow]


class Savings(BaseModel):
    """Money in USD. `other_requests`: failed, bypassed, or given what another was."""

    exact_hits: int
    semantic_hits: int
    misses: int
    other_requests: int
    tokens_saved: int
    tokens_used: int
    saved: float
    spent: float


class SavingsStretch(Savings):
    start: str


class SavingsResponse(Savings):
    """All of them together, and by stretches of `seconds`, the oldest first."""

    timestamp: str
    span: Span
    seconds: int
    data: list[SavingsStretch]


class ShareBody(BaseModel):
    """`name`: a tenant, the id of a key, a model by its public name, or a date (UTC). Money in USD; `calls` are to providers.

    `label` is a key's name, as long as it is not revoked.
    """

    name: str
    label: str
    requests: int
    hits: int
    calls: int
    tokens: int
    spent: float
    saved: float


class SpendingResponse(BaseModel):
    """The dearest first, of days the latest. `forecast` is what this month comes to if it goes on as in the last 7 days."""

    timestamp: str
    by: By
    days: int
    total_spent: float
    total_saved: float
    month_spent: float
    forecast: float
    shares: list[ShareBody]
    total_shares: int


class Traffic:
    """The endpoints. `history` is None without a ledger. A tenant's reader sees the requests of its tenant alone.

    `holders` are all who have a key.
    """

    def __init__(self, history: Windows | None, holders: Callable[[], Iterable["Caller"]], *, guard: Guard, clock: Clock) -> None:
        self._history = history
        self._holders = holders
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Traffic {self._history!r}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints, each for readers."""
        router = APIRouter(prefix="/api/monitoring", tags=["monitoring"], dependencies=[Depends(self._guard.needs("read"))])
        for path, endpoint in (
            ("/requests", self.requests),
            ("/savings", self.savings),
            ("/spending", self.spending),
        ):
            for method in READ:
                name = f"{endpoint.__name__}_{method.lower()}"
                router.add_api_route(path, endpoint, methods=[method], operation_id=name, include_in_schema=method != "HEAD")
        return router

    async def requests(  # noqa: PLR0917 - they come by name
        self,
        request: Request,
        hours: Hours = 24,
        outcome: ByOutcome = None,
        failed: Failed = False,  # noqa: FBT002 - a parameter of the query
        id: Id = None,  # noqa: A002 - its name
        limit: Limit = 50,
    ) -> RequestsResponse:
        """The latest requests to models, a second or two after they ended; where many are gone through, a minute at most."""
        now = int(self._clock()) + 1
        caller: Caller = request.state.caller
        asked = Asked(
            since=now - hours * HOUR,
            until=now,
            tenant=caller.tenant or None,
            outcome=outcome,
            failed=failed,
            id=id,
            limit=limit,
        )
        return RequestsResponse(timestamp=_stamp(self._clock()), requests=[shown(one) for one in await self.listed(asked)])

    async def savings(self, span: Spans = "day") -> SavingsResponse:
        """What stored answers saved and what providers took, over time."""
        seconds, stretches = await self.stretches(span)
        whole = Stretch(0)
        for one in stretches:
            whole.add(one)
        return SavingsResponse(
            timestamp=_stamp(self._clock()),
            span=span,
            seconds=seconds,
            data=[SavingsStretch(start=_stamp(one.start), **_figures(one)) for one in stretches],
            **_figures(whole),
        )

    async def spending(self, request: Request, by: ByWhat = "tenant", days: Days = 30, limit: Limit = 50) -> SpendingResponse:
        """Who spent what and saved what, and what the month will come to."""
        caller: Caller = request.state.caller
        tenant = caller.tenant or None
        now = int(self._clock())
        with past_told():
            shares = await self._known().shares(min(_begins(now, days)), now + 1, by=by, tenant=tenant)
        holders = list(self._holders()) if by == "key" else []
        made = partial(_spending, shares, holders, now, by=by, days=days, limit=limit)
        return await asyncio.to_thread(made)  # each key on each day is one

    def _known(self) -> Windows:
        if self._history is None:
            raise HistoryUnavailable(NO_LEDGER)
        return self._history

    async def listed(self, asked: Asked) -> list[Told]:
        """Requests as the ledger has them. Raises `HistoryUnavailable`."""
        with past_told():
            return await self._known().requests(asked)

    async def stretches(self, span: Span) -> tuple[int, list[Stretch]]:
        """How long each is, in seconds, and all of a span, the oldest first. Raises `HistoryUnavailable`."""
        back, seconds = STEPS[span]
        now = int(self._clock())
        since = now // seconds * seconds - back + seconds
        with past_told():
            found = await self._known().stretches(since, now + 1, seconds=seconds)
        return seconds, filled(found, since, now + 1, seconds)


def shown(told: Told) -> RequestRow:
    """A request as it is told."""
    one = told.request
    same = "id", "request_id", "route", "model", "provider", "target", "tenant", "key", "status", "outcome", "tier"
    more = "error", "stream", "attempts", "similarity"
    return RequestRow(
        **{name: getattr(one, name) for name in (*same, *more)},
        timestamp=f"{datetime.fromtimestamp(one.at / MICROS, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        latency_ms=one.duration / MILLIS,
        upstream_ms=one.upstream / MILLIS,
        first_byte_ms=one.first_byte / MILLIS,
        tokens_input=one.prompt_tokens,
        tokens_output=one.completion_tokens,
        cost=told.cost / NANO_PER_USD,
        saved=one.saved / NANO_PER_USD,
    )


def _begins(now: int, days: int) -> tuple[int, int, int]:
    """So many days, this month, and the last 7 days: where each begins."""
    today = now // DAY * DAY
    month = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0)
    return today - (days - 1) * DAY, int(month.timestamp()), today - 6 * DAY


def _spending(
    shares: Sequence[Share], holders: Sequence["Caller"], now: int, *, by: By, days: int, limit: int
) -> SpendingResponse:
    since, begun, week = _begins(now, days)
    found = by_name(one for one in shares if one.day >= since)
    if by == "day":
        found.sort(key=lambda one: one.day, reverse=True)
    so_far, lately = (sum(one.spent for one in shares if one.day >= first) for first in (begun, week))
    left = (datetime.fromtimestamp(begun, UTC) + timedelta(days=32)).replace(day=1).timestamp() - now
    labels = {caller.key.id: caller.key.name for caller in holders if caller.key is not None}
    return SpendingResponse(
        timestamp=_stamp(now),
        by=by,
        days=days,
        total_spent=sum(one.spent for one in found) / NANO_PER_USD,
        total_saved=sum(one.saved for one in found) / NANO_PER_USD,
        month_spent=so_far / NANO_PER_USD,
        forecast=round((so_far + lately * left / (now - week)) / NANO_PER_USD, 9),
        shares=[_share(one, labels) for one in found[:limit]],
        total_shares=len(found),
    )


def _share(one: Share, labels: Mapping[str, str]) -> ShareBody:
    counts = {name: getattr(one, name) for name in ("name", "requests", "hits", "calls", "tokens")}
    label, spent, saved = labels.get(one.name, ""), one.spent / NANO_PER_USD, one.saved / NANO_PER_USD
    return ShareBody(**counts, label=label, spent=spent, saved=saved)


def _figures(one: Stretch) -> dict[str, Any]:
    return {
        "exact_hits": one.exact,
        "semantic_hits": one.semantic,
        "misses": one.miss,
        "other_requests": one.other,
        "tokens_saved": one.tokens_saved,
        "tokens_used": one.tokens_used,
        "saved": one.saved / NANO_PER_USD,
        "spent": one.spent / NANO_PER_USD,
    }


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
