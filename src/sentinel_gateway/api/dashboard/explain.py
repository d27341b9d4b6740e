"""One request: how it was decided, as far as that is remembered, whom it asked, how long that took, what it cost and saved."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from fastapi import Request

from sentinel_gateway.api.analytics_bodies import CallCosts
from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.pages import HOME, Context, Page, Screen
from sentinel_gateway.api.decided import BarBody, DecisionResponse, RequestDecisions, TierBody
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
UNFIT: Final = {
    "choices": "it wants several answers",
    "logprobs": "it wants log probabilities",
    "media": "it has an image, a recording or a file",
    "last-turn": "its last message is not a plain one of its user",
    "long": "it is too long",
    "language": "it is in letters that the model of meaning does not read",
    "time-bound": "it is bound to its moment",
    "personal": "it is bound to who asks",
}
SAID: Final = {
    "empty-scope": "no other question is known under the same conditions",
    "no-neighbour": "no question stood near",
    "below-threshold": "the nearest was not near enough",
    "tier-down": "it did not answer in time",
}
FORWARDS: Final = {
    "uri-miss": "never seen",
    "stale": "seen, and expired",
    "request": "passed over, as the request asked for",
    "bypass": "bypassed, as the request asked for",
    "miss": "nothing that fits",
}
"""As `Cache-Status` has it."""
TIERS: Final = {"memory": "memory", "disk": "the disk", "redis": "Redis", "vector": "the vectors"}


class Explain(Screen):
    """The page."""

    page = Page(
        name="explain",
        title="Explain",
        path=PATH,
        access="read",
        reads=(
            "/api/monitoring/requests",
            "/api/monitoring/requests/{id}/decision",
            "/api/monitoring/cost-analysis/requests",
        ),
    )

    def __init__(self, traffic: Traffic, costs: RequestCosts, decisions: RequestDecisions) -> None:
        self._traffic = traffic
        self._costs = costs
        self._decisions = decisions

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
        began = datetime.fromisoformat(one.timestamp).timestamp()
        calls = await self._costs.of_request(request, one.id, began, one.latency_ms / 1000)
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
            "first": words.millis(one.first_byte_ms) if one.first_byte_ms else "",
            "own_width": f"{100 * own / one.latency_ms:.1f}%" if one.latency_ms else "0%",
            "cost": words.usd(one.cost),
            "saved": words.usd(one.saved),
            "calls": [_call(call) for call in calls],
            "decision": _decision(await self._decisions.decision(request, one.id)),
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


def _decision(told: DecisionResponse) -> dict[str, Any]:
    """How it was decided, in words."""
    bar, normalised = told.bar, told.normalised
    return {
        "why": told.why,
        "normalised": normalised,
        "unfit": "" if normalised is None or normalised.why_not is None else UNFIT.get(normalised.why_not, normalised.why_not),
        "tiers": [_tier(tier) for tier in told.tiers],
        "bar": None if bar is None else _bar(bar),
        "candidates": [
            {
                "entry": near.entry[:16],
                "similarity": f"{near.similarity:.3f}",
                "objections": near.objections,
                "weighed": near.weighed,
                "doubts": near.doubts,
                "question": near.question,
            }
            for near in told.candidates
        ],
        "explored": told.explored,
        "not_stored": told.not_stored,
        "limits": list(_limits(told)),
        "waited": words.millis(told.waited_for_node_ms) if told.waited_for_node_ms else "",
    }


def _tier(tier: TierBody) -> dict[str, Any]:
    name = "meaning" if tier.tier == "vector" else tier.tier
    said = SAID.get(tier.detail or "", tier.detail) or FORWARDS.get(tier.forward, tier.forward)
    return {"name": name, "said": said, "stored": tier.stored}


def _bar(bar: BarBody) -> dict[str, str]:
    is_sure = bar.basis == "probability"
    return {
        "asked": "nothing may serve" if bar.threshold is None else f"{bar.threshold:.3f}",
        "of": "probability that the answer is right" if is_sure else "similarity",
        "least": f"{bar.least_similarity:.3f}" if is_sure and bar.least_similarity is not None else "",
        "allowed": "" if bar.max_wrong_hit_rate is None else f"{100 * bar.max_wrong_hit_rate:g}%",
        "confidence": "" if bar.confidence is None else f"{bar.confidence:.3f}",
    }


def _limits(told: DecisionResponse) -> Iterator[str]:
    for name, standing in (("requests", told.requests), ("tokens", told.tokens)):
        if standing is not None:
            yield f"{words.count(standing.remaining)} of {words.count(standing.limit)} {name} a minute were left"
    for budget in told.budgets:
        yield f"{words.usd(budget.remaining)} of the {budget.scope}'s {words.usd(budget.limit)} a {budget.span} were left"
