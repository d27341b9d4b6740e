"""Probes, health and metrics: what load balancers, Prometheus and operators ask."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from sentinel_gateway.api.accepting import Exposition, preferred
from sentinel_gateway.api.costs import Use, costs_body, snapshot
from sentinel_gateway.api.guard import Guard, anybody
from sentinel_gateway.core.pricing import NANO_PER_USD, Costs
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock

READ: Final = ["GET", "HEAD"]


class Identity(msgspec.Struct, frozen=True):
    """Who answers: `service` and `version`; `started` in clock seconds."""

    service: str
    version: str
    started: float


class Reports(msgspec.Struct, frozen=True):
    """What the gateway tells of itself, asked each time anew."""

    ready: Callable[[], str | None]
    """Why this node can't serve requests now, or None."""
    metrics: Callable[[Exposition], Awaitable[tuple[bytes, str]]]
    """What Prometheus reads, and its content type."""
    counters: Callable[[], Awaitable[Mapping[str, float]]]
    """Seed 000's cache statistics."""
    services: Callable[[], Awaitable[Mapping[str, str]]]
    """`up`, `down` or `disabled` of each dependency."""
    costs: Callable[[], Awaitable[Mapping[Use, Costs]]]
    """What was spent and saved, by model and variant."""
    priced: Callable[[], Sequence[str]]
    """The models in use whose own price is known."""
    circuits: Callable[[], Mapping[str, str]]
    """`closed`, `open` or `half_open` of each circuit breaker, by model."""
    tiers: Callable[[], Mapping[str, tuple[int, float]]]
    """Where answers came from since the start: how many from each tier and from providers, and the seconds that those took."""
    config: Callable[[], Mapping[str, Any]]
    """The configuration in force, secrets masked."""


class Operations:
    """The endpoints."""

    def __init__(self, tiers: Tiers, identity: Identity, reports: Reports, *, guard: Guard, clock: Clock) -> None:
        self._tiers = tiers
        self._identity = identity
        self._reports = reports
        self._guard = guard
        self._clock = clock

    def routes(self) -> APIRouter:
        """The router of these endpoints."""
        router = APIRouter(tags=["operations"])
        public, readers = [Depends(anybody())], [Depends(self._guard.needs("read"))]
        for paths, endpoint, access in (
            (("/livez", "/healthz"), self.livez, public),
            (("/ready", "/readyz"), self.ready, public),
            (("/health",), self.health, public),
            (("/metrics",), self.metrics, readers),
            (("/v1/metrics",), self.cache_metrics, readers),
            (("/costs",), self.costs, readers),
            (("/config",), self.config, readers),
        ):
            for path in paths:
                name = f"{endpoint.__name__}_{path[1:]}"
                router.add_api_route(path, endpoint, methods=READ, operation_id=name, dependencies=access)
        return router

    async def livez(self) -> dict[str, str]:
        """The process answers. Use it for liveness probes: an outage of a dependency restarts nothing."""
        return {"status": "alive"}

    async def ready(self) -> Response:
        """200 if this node can serve a request; 503 while it drains or has no usable provider."""
        why = self._reports.ready()
        body = {"status": "ready"} if why is None else {"status": "not ready", "error": why}
        return _json(body, 200 if why is None else 503)

    async def health(self, request: Request) -> Response:
        """Every dependency, probed now; 503 if one that is in use is down. Strangers are told no more than that."""
        services = {name: {"status": state} for name, state in (await self._reports.services()).items()}
        healthy = all(service["status"] != "down" for service in services.values())
        now = self._clock()
        body: dict[str, Any] = {
            "status": "healthy" if healthy else "unhealthy",
            "services": services,
            "timestamp": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if not self._guard.knows(request):
            return _json(body, 200 if healthy else 503)
        body |= {
            "service": self._identity.service,
            "version": self._identity.version,
            "uptime_secs": int(now - self._identity.started),
            "redis_connected": services.get("redis") == {"status": "up"},
            "python_initialized": True,
            "cache_size": self._tiers.size()[0],
            "circuit_breakers": self._reports.circuits(),
        }
        return _json(body, 200 if healthy else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text or OpenMetrics, or seed 000's snapshot, by what is accepted."""
        form = preferred(request.headers.get("accept", ""))
        if form == "json":
            return _json(snapshot(await self._reports.counters(), await self._total(), self._reports.priced()), 200)
        body, content_type = await self._reports.metrics(form)
        return Response(body, headers={"content-type": content_type})

    async def cache_metrics(self) -> Response:
        """Seed 003's figures: what the cache decided, on all faces, and how much is kept. `hit_rate_percent` is 0 to 100."""
        counters, costs = await self._reports.counters(), await self._total()
        body: dict[str, Any] = {
            "total_requests": counters["total_requests"],
            "cache_hits": counters["exact_hits"] + counters["semantic_hits"],
            "cache_misses": counters["misses"],
            "hit_rate_percent": counters["hit_rate"],
            "stored_items": await self._tiers.count(),
            "cost_usd": costs.cost / NANO_PER_USD,
            "saved_usd": costs.saved / NANO_PER_USD,
        }
        return _json(body, 200)

    async def costs(self) -> Response:
        """Seed 001's figures: requests, tokens and money by `model:variant`, and what stored answers have saved."""
        return _json(costs_body(await self._reports.costs()), 200)

    async def config(self) -> Response:
        """The configuration in force, as its file has it, every default filled in and every secret masked."""
        return _json({**self._reports.config()}, 200)

    async def _total(self) -> Costs:
        whole = Costs()
        for one in (await self._reports.costs()).values():
            whole.add(one)
        return whole


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json", headers={"cache-control": "no-store"})
