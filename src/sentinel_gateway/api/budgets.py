"""`/api/monitoring/budgets`: what keys and tenants may spend, and how much of that they have."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import reading, stamp
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.alerting.conditions import EARLY, elapsed
from sentinel_gateway.core.budgets import BudgetUse, Span, Whose
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.pipeline.allowances import Part, uses
from sentinel_gateway.pipeline.budgeting import BudgetRules
from sentinel_gateway.ports import Clock

Limit = Annotated[int, Query(ge=1, le=1000, description="Most budgets to tell of.")]
DIGITS: Final = 9


class BudgetBody(BaseModel):
    """A budget in the day or month (UTC) that is under way. Money in USD.

    `owner` is the id of a key, `guest` for all who need none, or a tenant; `label` is the key's name. `held` is what requests
    under way may cost at most, `remaining` what neither is spent nor held. `forecast` is what the window comes to at the pace so
    far; null while less than a tenth of it is over.
    """

    scope: Whose
    owner: str
    label: str
    tenant: str
    span: Span
    limit: float
    spent: float
    held: float
    remaining: float
    forecast: float | None
    reset: str


class BudgetsResponse(BaseModel):
    """The most used first. `total` budgets there are in all."""

    timestamp: str
    budgets: list[BudgetBody]
    total: int


class Budgets:
    """The endpoint. A tenant's reader sees its tenant's budget and those of its keys.

    `accounts` are those of this process by their names, `holders` all who have a key.
    """

    def __init__(
        self,
        accounts: Callable[[], Iterable[tuple[str, Part]]],
        holders: Callable[[], Iterable[Caller]],
        rules: BudgetRules,
        *,
        guard: Guard,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._holders = holders
        self._rules = rules
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return "<Budgets>"

    def routes(self) -> APIRouter:
        """The router of it."""
        return reading(self._guard, [("/budgets", self.budgets)])

    async def budgets(self, request: Request, limit: Limit = 100) -> BudgetsResponse:
        """What each key and tenant that has a budget has spent of it, by what this node knows."""
        now = self._clock()
        tenant = request.state.caller.tenant or None
        parts, holders = list(self._accounts()), list(self._holders())
        found = await asyncio.to_thread(self._found, parts, holders, tenant, now)  # there may be a hundred thousand keys
        return BudgetsResponse(timestamp=stamp(now), budgets=[_shown(one, now) for one in found[:limit]], total=len(found))

    def _found(
        self, parts: Sequence[tuple[str, Part]], holders: Sequence[Caller], tenant: str | None, now: float
    ) -> list[BudgetUse]:
        every = uses(parts, holders, self._rules, now)
        wanted = (one for one in every if tenant is None or one.tenant == tenant)
        return sorted(wanted, key=lambda one: (-(one.settled + one.held) / one.limit, one.scope, one.owner, one.span))


def _shown(one: BudgetUse, now: float) -> BudgetBody:
    gone = elapsed(one.span, now)
    return BudgetBody(
        scope=one.scope,
        owner=one.owner,
        label=one.label,
        tenant=one.tenant,
        span=one.span,
        limit=one.limit / NANO_PER_USD,
        spent=one.settled / NANO_PER_USD,
        held=one.held / NANO_PER_USD,
        remaining=one.left / NANO_PER_USD,
        forecast=round(one.settled / gone / NANO_PER_USD, DIGITS) if gone >= EARLY else None,
        reset=stamp(one.ends),
    )
