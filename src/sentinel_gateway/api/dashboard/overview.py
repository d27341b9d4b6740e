"""The first page: what comes in, what is answered from the cache, what that saves, and the requests as they come.

It moves (`live.py`): all its figures are in one frame. What was saved over time is a part of its own, since the ledger may have
to add up much for it; nothing waits for that but the chart.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from fastapi import Request

from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.explain import FAILED_FROM
from sentinel_gateway.api.dashboard.explain import PATH as EXPLAIN
from sentinel_gateway.api.dashboard.live import Frames
from sentinel_gateway.api.dashboard.pages import HOME, Context, Moving, Page, Part
from sentinel_gateway.api.monitoring_routes import HOUR
from sentinel_gateway.api.operations import Identity, Reports
from sentinel_gateway.api.traffic import MINUTE, Span, Traffic
from sentinel_gateway.core.access import ANYBODY, Caller
from sentinel_gateway.core.pricing import FALLBACK, Costs
from sentinel_gateway.core.windows import MICROS, MILLIS
from sentinel_gateway.errors import RequestError
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.ledger import Asked, Told

ROWS: Final = 12
RATE_OVER: Final = 10.0
"""Seconds over which requests a second are told."""
LOOK_AGAIN: Final = 5.0
"""Seconds between two looks at the dependencies, which others wait for, too."""
PROMPT: Final = 0.4
"""Seconds that a frame waits for what is not in memory; then it tells what was known before."""
REDRAWN: Final = 20.0
"""Seconds between two charts of the same."""
SPANS: Final[Mapping[Span, str]] = {
    "hour": "1 hour",
    "day": "24 hours",
    "week": "7 days",
    "month": "30 days",
    "quarter": "90 days",
}
STATES: Final = {"up": "good", "local": "warn", "down": "bad", "disabled": "off"}
"""As `/health` has them."""
WITHOUT: Final = {
    "redis": "Redis is away. Answers still come from memory and from providers; limits hold by this node's share. "
    "It is asked again by itself.",
    "qdrant": "Qdrant is away. Repeated questions are still answered from the cache; reworded ones go to the provider.",
    "vectors": "Redis' vector sets do not answer. Reworded questions go to the provider.",
    "embeddings": "The embedding model does not work. Repeated questions are still answered from the cache; "
    "reworded ones go to the provider.",
    "disk": "The disk cache is away. Answers still come from memory and from providers; what is new is lost at a restart.",
    "ledger": "The ledger's database is away. Rows wait in the journal, and nothing is lost; charts and the feed stand still.",
}
"""What still works."""
PLACES: Final = {"memory": "Memory", "disk": "Disk", "redis": "Redis", "vector": "Vectors", "provider": "Providers"}


class Seen(NamedTuple):
    """How many requests there were at a moment."""

    at: float
    total: float


class Overview(Moving):
    """The page. `providers` are the names of those that are configured."""

    page = Page(
        name="overview",
        title="Overview",
        path=HOME,
        access="read",
        reads=("/metrics", "/v1/metrics", "/costs", "/health", "/api/monitoring/requests", "/api/monitoring/savings"),
    )

    def __init__(self, reports: Reports, traffic: Traffic, providers: Sequence[str], *, identity: Identity, clock: Clock) -> None:
        self._reports = reports
        self._traffic = traffic
        self._providers = providers
        self._identity = identity
        self._clock = clock
        self._frames = Frames(clock)
        self._seen: deque[Seen] = deque()
        self._services: Mapping[str, str] = {}
        self._looked = float("-inf")

    def __repr__(self) -> str:
        return f"<Overview of {self._traffic!r}>"

    def parts(self) -> Sequence[Part]:
        return [Part(path=f"{HOME}/savings", template="savings.html", show=self.savings)]

    async def show(self, request: Request) -> Context:
        """What does not move."""
        costs = await self._reports.costs()
        by_model: dict[str, Costs] = {}
        for (model, _), one in costs.items():
            by_model.setdefault(model, Costs()).add(one)
        model = "demo" if "demo" in self._providers else f"{next(iter(self._providers), 'provider')}/MODEL"
        return {
            "spans": SPANS,
            "models": sorted(by_model.items(), key=lambda item: -(item[1].cost + item[1].saved)),
            "fallback": FALLBACK,
            "priced": self._reports.priced(),
            "base": f"{request.url.scheme}://{request.headers.get('host', '127.0.0.1:8080')}",
            "model": model,
            "asks_for_key": request.state.caller is not ANYBODY,
        }

    async def savings(self, request: Request) -> Context:
        """What was saved and spent over time."""
        asked = request.query_params.get("span", "")
        span: Span = next((known for known in get_args(Span) if known == asked), "day")
        try:
            frame = await self._frames.of(("savings", span), lambda: self._drawn(span), REDRAWN)
        except RequestError as error:
            return {"span": span, "spans": SPANS, "why": error.message, "chart": None}
        return {"span": span, "spans": SPANS, "why": "", "chart": frame.value, "json": frame.body.decode()}

    async def frame(self, caller: Caller) -> dict[str, Any]:
        """All that moves."""
        counters = await self._reports.counters()
        costs = Costs()
        for one in (await self._reports.costs()).values():
            costs.add(one)
        services = await self._look()
        down = [name for name, state in services.items() if state == "down"]
        return {
            "text": {
                **_requests(counters, self._rate(counters["total_requests"])),
                **_money(costs),
                "uptime": words.span(self._clock() - self._identity.started) if self._is_old else "less than a minute",
                "trouble": " ".join(WITHOUT.get(name, f"{name} is away.") for name in down),
                "ready": self._reports.ready() or "",
            },
            "attributes": {**_donut(counters), **_bars(costs)},
            "shown": {
                "empty": not counters["total_requests"],
                "traffic": bool(counters["total_requests"]),
                "trouble": bool(down),
                "unready": self._reports.ready() is not None,
                "estimated": bool(costs.estimated),
                "unpriced": bool(costs.unpriced),
            },
            "rows": {
                "feed": await self._feed(caller),
                "services": [[[STATES[state], f"{name} {state}"]] for name, state in services.items()],
                "tiers": self._tiers(),
                "circuits": [[["bad" if state == "open" else "warn", f"{model} {state}"]] for model, state in self._broken()],
            },
        }

    # --- what is known ---

    @property
    def _is_old(self) -> bool:
        return self._clock() - self._identity.started >= MINUTE

    def _rate(self, total: float) -> float | None:
        """Requests a second, by frames of the last seconds."""
        now = self._clock()
        while len(self._seen) > 1 and now - self._seen[1].at >= RATE_OVER:
            self._seen.popleft()
        first = next(iter(self._seen), None)
        self._seen.append(Seen(now, total))
        return None if first is None or now <= first.at else max(0.0, (total - first.total) / (now - first.at))

    def _broken(self) -> list[tuple[str, str]]:
        return sorted((model, state) for model, state in self._reports.circuits().items() if state != "closed")

    async def _look(self) -> Mapping[str, str]:
        """The state of each dependency; of one that does not say so in time, what it was."""
        if self._clock() - self._looked >= LOOK_AGAIN:
            self._looked = self._clock()
            try:
                async with asyncio.timeout(PROMPT):
                    self._services = await self._reports.services()
            except TimeoutError:
                self._looked += LOOK_AGAIN  # it takes long: a look less often
        return self._services

    async def _feed(self, caller: Caller) -> list[Any]:
        """The latest requests, in cells: those of its tenant for whoever is of one."""
        place = ("feed", caller.tenant)
        try:
            rows = await self._frames.soon(place, lambda: self._latest(caller.tenant or None), 0.5, within=PROMPT)
        except RequestError:
            rows = self._frames.last(place)
        return rows or []

    async def _latest(self, tenant: str | None) -> list[Any]:
        now = int(self._clock()) + 1
        found = await self._traffic.listed(Asked(since=now - 24 * HOUR, until=now, tenant=tenant, limit=ROWS))
        return [_row(one) for one in found]

    def _tiers(self) -> list[Any]:
        found = self._reports.tiers()
        whole = sum(requests for requests, _ in found.values())
        return [
            [
                ["", name],
                ["number", words.count(found[tier][0])],
                ["number", words.share(found[tier][0], whole)],
                ["number", words.millis(found[tier][1] / found[tier][0] * 1000)],
            ]
            for tier, name in PLACES.items()
            if tier in found
        ]

    async def _drawn(self, span: Span) -> dict[str, Any]:
        """What a chart is drawn of: moments in Unix seconds, US dollars."""
        seconds, found = await self._traffic.stretches(span)
        return {
            "seconds": seconds,
            "at": [one.start for one in found],
            "saved": [one.saved / 1e9 for one in found],
            "spent": [one.spent / 1e9 for one in found],
            "hits": [one.exact + one.semantic for one in found],
            "misses": [one.miss for one in found],
            "whole": {
                "saved": words.nano_usd(sum(one.saved for one in found)),
                "spent": words.nano_usd(sum(one.spent for one in found)),
                "requests": words.count(sum(one.total for one in found)),
                "hit_rate": words.share(sum(one.exact + one.semantic for one in found), sum(one.total for one in found)),
            },
            "rows": [
                [words.moment(one.start), words.count(one.total), words.nano_usd(one.saved), words.nano_usd(one.spent)]
                for one in found
                if one.total or one.spent
            ][-60:],
        }


def _requests(counters: Mapping[str, float], rate: float | None) -> dict[str, str]:
    total, exact, semantic = counters["total_requests"], counters["exact_hits"], counters["semantic_hits"]
    return {
        "total": words.count(total),
        "rate": words.NOTHING if rate is None else words.rate(rate),
        "hit_rate": words.share(exact + semantic, total),
        "hits": words.count(exact + semantic),
        "exact": words.count(exact),
        "semantic": words.count(semantic),
        "misses": words.count(counters["misses"]),
        "exact_share": words.share(exact, total),
        "semantic_share": words.share(semantic, total),
        "misses_share": words.share(counters["misses"], total),
    }


def _money(costs: Costs) -> dict[str, str]:
    used = costs.prompt_tokens + costs.completion_tokens
    return {
        "saved": words.nano_usd(costs.saved),
        "spent": words.nano_usd(costs.cost),
        "without": words.nano_usd(costs.saved + costs.cost),
        "savings": words.share(costs.saved, costs.saved + costs.cost),
        "tokens_saved": words.count(costs.saved_tokens),
        "tokens_used": words.count(used),
        "tokens_without": words.count(costs.saved_tokens + used),
        "tokens_share": words.share(costs.saved_tokens, costs.saved_tokens + used),
        "unpriced": words.count(costs.unpriced),
    }


def _donut(counters: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Arcs of a circle whose circumference is 100, one after the other, from the top on."""
    total, begun, arcs = counters["total_requests"], 0.0, {}
    for name in ("exact_hits", "semantic_hits", "misses"):
        length = 100 * counters[name] / total if total else 0.0
        arcs[f"arc_{name}"] = {"stroke-dasharray": f"{length:.2f} {100 - length:.2f}", "stroke-dashoffset": f"{25 - begun:.2f}"}
        begun += length
    return arcs


def _bars(costs: Costs) -> dict[str, dict[str, str]]:
    """Tokens saved and tokens used, the longer one as long as there is room."""
    used = costs.prompt_tokens + costs.completion_tokens
    longest = max(costs.saved_tokens, used, 1)
    return {
        "bar_saved": {"width": f"{100 * costs.saved_tokens / longest:.1f}%"},
        "bar_used": {"width": f"{100 * used / longest:.1f}%"},
    }


def _row(told: Told) -> list[list[str]]:
    """A request in cells: how each looks, what it says, and where it leads."""
    one = told.request
    failed = one.status >= FAILED_FROM or one.error != ""
    outcome = "error" if failed else one.outcome
    hit = one.outcome in {"exact", "semantic"} and not failed
    money = f"+{words.nano_usd(one.saved)}" if hit else words.nano_usd(told.cost)
    return [
        ["clock", words.clock((one.at + one.duration) / MICROS), f"{EXPLAIN}?id={one.id}"],
        [f"chip {outcome}", outcome],
        ["model", one.model or one.target or words.NOTHING],
        ["number wide", str(one.status)],
        ["number wide", words.millis(one.duration / MILLIS)],
        ["number wide", words.count(one.prompt_tokens + one.completion_tokens)],
        ["number saved" if hit else "number", money],
        ["error wide", one.error],
    ]
