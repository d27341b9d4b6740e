"""Money: spent and saved, by tenant, key, model and day, budgets, what the month will come to, and where less might do."""

from collections.abc import Sequence
from typing import Any, Final, get_args

from fastapi import Request

from sentinel_gateway.api.analytics import Analytics
from sentinel_gateway.api.budgets import BudgetBody, Budgets
from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.live import Frames
from sentinel_gateway.api.dashboard.pages import HOME, Context, Download, Page, Part, Screen
from sentinel_gateway.api.dashboard.spreadsheet import CSV, as_csv
from sentinel_gateway.api.traffic import ShareBody, Traffic
from sentinel_gateway.errors import RequestError
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.ledger import By

PATH: Final = f"{HOME}/money"
DAYS: Final = {1: "Today", 7: "7 days", 30: "30 days", 90: "90 days"}
NAMES: Final[dict[By, str]] = {"tenant": "Tenants", "key": "Keys", "model": "Models", "day": "Days"}
NOBODY: Final[dict[By, str]] = {"tenant": "without a key", "key": "anybody", "model": "no model", "day": ""}
ROWS: Final = 50
NEARLY: Final = 90
"""Per cent of a budget."""
EXPORTED: Final = 1000
KEPT: Final = 5.0
"""Seconds: adding up may take the ledger a second or more."""


class Money(Screen):
    """The page."""

    page = Page(
        name="money",
        title="Money",
        path=PATH,
        access="read",
        reads=("/api/monitoring/spending", "/api/monitoring/budgets", "/api/monitoring/cost-analysis", "/costs"),
    )

    def __init__(self, traffic: Traffic, analytics: Analytics, budgets: Budgets, clock: Clock) -> None:
        self._traffic = traffic
        self._analytics = analytics
        self._budgets = budgets
        self._frames = Frames(clock)

    def __repr__(self) -> str:
        return f"<Money of {self._traffic!r}>"

    def parts(self) -> Sequence[Part]:
        return [Part(path=f"{PATH}/shares", template="money_shares.html", show=self.shares)]

    def downloads(self) -> Sequence[Download]:
        return [Download(path=f"{PATH}/export.csv", media_type=CSV, make=self.export)]

    async def show(self, request: Request) -> Context:
        """What does not wait for the ledger."""
        by, days = _asked(request)
        found = await self._budgets.budgets(request, ROWS)
        shown = [_budget(one) for one in found.budgets]
        return {"by": by, "days": days, "budgets": shown, "beyond": found.total - len(shown)}

    async def shares(self, request: Request) -> Context:
        """All that does."""
        by, days = _asked(request)
        context: dict[str, Any] = {"by": by, "days": days, "names": NAMES, "spans": DAYS, "why": "", "told": None}
        place = (f"{by} {days}", request.state.caller.tenant)
        try:
            return context | {"told": (await self._frames.of(place, lambda: self._told(request, by, days), KEPT)).value}
        except RequestError as error:
            return context | {"why": error.message}

    async def export(self, request: Request) -> bytes:
        """The same as a table for spreadsheets."""
        by, days = _asked(request)
        found = await self._traffic.spending(request, by, days, EXPORTED)
        return as_csv(ShareBody.model_fields, (one.model_dump().values() for one in found.shares))

    async def _told(self, request: Request, by: By, days: int) -> dict[str, Any]:
        found = await self._traffic.spending(request, by, days, days if by == "day" else ROWS)
        dearest = max((one.spent for one in found.shares), default=0.0)
        return {
            "spent": words.usd(found.total_spent),
            "saved": words.usd(found.total_saved),
            "savings": words.share(found.total_saved, found.total_saved + found.total_spent),
            "month": words.usd(found.month_spent),
            "forecast": words.usd(found.forecast),
            "rows": [
                {
                    "name": one.label or one.name or NOBODY[by],
                    "id": one.name if one.label else "",
                    "requests": words.count(one.requests),
                    "hit_rate": words.share(one.hits, one.requests),
                    "tokens": words.count(one.tokens),
                    "spent": words.usd(one.spent),
                    "saved": words.usd(one.saved),
                    "width": f"{100 * one.spent / dearest:.1f}%" if dearest else "0%",
                }
                for one in found.shares
            ],
            "more": found.total_shares - len(found.shares),
            "advice": [] if request.state.caller.tenant else await self._advice(max(days, 7)),  # it is of all tenants together
        }

    async def _advice(self, days: int) -> list[dict[str, str]]:
        found = await self._analytics.cost_analysis(days)
        return [{"message": one.message, "at_stake": words.usd(one.at_stake)} for one in found.advice]


def _budget(one: BudgetBody) -> dict[str, Any]:
    """A budget in words; bars are cut off where it ends."""
    used, held = (min(100.0, 100 * amount / one.limit) for amount in (one.spent, one.held))
    ahead = one.forecast is not None and one.forecast > one.limit
    return {
        "whose": f"tenant {one.owner}" if one.scope == "tenant" else one.label or one.owner,
        "of": "" if one.scope == "tenant" else one.tenant,
        "span": one.span,
        "limit": words.usd(one.limit),
        "spent": words.usd(one.spent),
        "share": words.share(one.spent, one.limit),
        "held": words.usd(one.held) if one.held else words.NOTHING,
        "left": words.usd(one.remaining),
        "forecast": words.NOTHING if one.forecast is None else words.usd(one.forecast),
        "kind": "bad" if one.spent >= one.limit else "warn" if ahead or used >= NEARLY else "",
        "reset": one.reset.replace("T", " ")[:16],
        "used_width": f"{used:.1f}%",
        "held_width": f"{min(100.0, used + held):.1f}%",
    }


def _asked(request: Request) -> tuple[By, int]:
    by, days = request.query_params.get("by", ""), request.query_params.get("days", "")
    chosen: By = next((known for known in get_args(By) if known == by), "tenant")
    return chosen, next((known for known in DAYS if str(known) == days), 30)
