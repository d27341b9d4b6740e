"""One request, as the ledger knows it: why it was a hit or a miss, whom it asked, how long that took, what it cost and saved."""

from typing import Any, Final

from fastapi import Request

from sentinel_gateway.api.analytics_bodies import CallCosts
from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.pages import HOME, Context, Page, Screen
from sentinel_gateway.api.request_costs import RequestCosts
from sentinel_gateway.api.traffic import LONGEST_ID, RequestRow, Traffic
from sentinel_gateway.errors import RequestError

PATH: Final = f"{HOME}/explain"
FAILED_FROM: Final = 400
WEEK: Final = 168
"""Hours that are looked through."""
OUTCOMES: Final = {
    "exact": "The very same was asked before: its stored answer was sent.",
    "semantic": "The same was asked in other words: that stored answer was sent.",
    "miss": "Nothing that is stored answers this: a provider was asked.",
    "coalesced": "The same was under way for somebody else: this shared the answer.",
    "bypass": "It was to bypass the cache: a provider was asked, and nothing was stored.",
    "none": "The cache was never asked.",
}
TIERS: Final = {"memory": "memory", "disk": "the disk", "redis": "Redis", "vector": "the vectors"}


class Explain(Screen):
    """The page."""

    page = Page(
        name="explain",
        title="Explain",
        path=PATH,
        access="read",
        reads=("/api/monitoring/requests", "/api/monitoring/cost-analysis/requests"),
    )

    def __init__(self, traffic: Traffic, costs: RequestCosts) -> None:
        self._traffic = traffic
        self._costs = costs

    def __repr__(self) -> str:
        return f"<Explain of {self._traffic!r}>"

    async def show(self, request: Request) -> Context:
        """Those that have this id; without one, the latest."""
        asked = request.query_params.get("id", "").strip()[:LONGEST_ID]
        try:
            found = (await self._traffic.requests(request, hours=WEEK, id=asked or None, limit=10)).requests
            shown = [await self._explained(request, one) for one in found] if asked else []
        except RequestError as error:
            return {"asked": asked, "why": error.message, "found": [], "latest": []}
        return {"asked": asked, "why": "", "found": shown, "latest": [] if asked else found}

    async def _explained(self, request: Request, one: RequestRow) -> dict[str, Any]:
        calls = (await self._costs.request_costs(request, hours=WEEK, order="latest", limit=50, id=one.id)).calls
        own = max(0.0, one.latency_ms - one.upstream_ms)
        failed = one.status >= FAILED_FROM or one.error != ""
        return {
            "row": one,
            "kind": "error" if failed else one.outcome,
            "why": OUTCOMES[one.outcome],
            "from": TIERS.get(one.tier, ""),
            "similarity": f"{one.similarity:.3f}" if one.similarity else "",
            "took": words.millis(one.latency_ms),
            "own": words.millis(own),
            "upstream": words.millis(one.upstream_ms),
            "first": words.millis(one.first_byte_ms),
            "own_width": f"{100 * own / one.latency_ms:.1f}%" if one.latency_ms else "0%",
            "cost": words.usd(one.cost),
            "saved": words.usd(one.saved),
            "calls": [_call(call) for call in sorted(calls, key=lambda call: call.attempt)],
        }


def _call(call: CallCosts) -> dict[str, Any]:
    return {
        "number": call.attempt,
        "target": f"{call.provider}/{call.model}",
        "ending": call.ending,
        "kind": "good" if call.ending == "answered" else "bad",
        "took": words.millis(call.latency_ms),
        "tokens": f"{words.count(call.tokens_input)} in, {words.count(call.tokens_output)} out",
        "cost": words.usd(call.cost),
        "basis": call.basis,
    }
