"""`/api/monitoring/latency-regions`: how long requests took, by where they came from, as a proxy of the operator's says."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from sentinel_gateway.api.analytics_bodies import Latency
from sentinel_gateway.api.analytics_told import latency_of
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import HOUR, reading, stamp
from sentinel_gateway.core.analytics import group
from sentinel_gateway.core.windows import Window
from sentinel_gateway.ports import Clock

Hours = Annotated[int, Query(ge=1, le=24, description="So many hours (UTC); the one under way is the last.")]


class RegionLatency(Latency):
    """Latencies are of requests that were answered well; `total_requests` are all."""

    total_requests: int
    error_rate: float


class RegionsResponse(BaseModel):
    """`header` is where the region is read; None: `server.region_header` is not set, and nothing is counted."""

    timestamp: str
    hours: int
    header: str | None
    regions: dict[str, RegionLatency]


class LatencyRegions:
    """The endpoint. `since` gives what was counted in the hours from a moment on, by region."""

    def __init__(self, since: Callable[[int], Sequence[Window]], header: str | None, *, guard: Guard, clock: Clock) -> None:
        self._since = since
        self._header = header
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return f"<LatencyRegions by {self._header}>"

    def routes(self) -> APIRouter:
        """The router of it."""
        return reading(self._guard, [("/latency-regions", self.regions)])

    async def regions(self, hours: Hours = 24) -> RegionsResponse:
        """How long this node's requests took, by region, the busiest first, but for what memory answers at once."""
        now = self._clock()
        found = group(self._since(int(now) // HOUR * HOUR - (hours - 1) * HOUR), lambda window: (window.model,))
        return RegionsResponse(
            timestamp=stamp(now),
            hours=hours,
            header=self._header,
            regions={
                str(region): RegionLatency(
                    total_requests=one.requests, error_rate=round(1 - one.successes / one.requests, 6), **latency_of(one)
                )
                for (region,), one in sorted(found.items(), key=lambda item: -item[1].requests)
            },
        )
