"""The adapters under test, all in the shape of `RecentMetrics`, and a clock that is moved by hand."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from sentinel_gateway.ports.recent import RecentMetrics, RequestMetrics
from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.telemetry.recent.memory import MemoryMetrics
from sentinel_gateway.telemetry.recent.redis import RedisMetrics
from tests.contract.stores.conftest import Told
from tests.fakes import FakeClock

NOON = 1_764_253_800.0
"""2025-11-27T14:30:00Z, as in seed 004's examples."""
UNHURRIED = RedisLimits(place=5.0, call=5.0, connect=5.0, slow=5.0, patient=5.0)
CALL = RequestMetrics(
    provider="openrouter", model="gpt-4", latency_ms=1250.5, success=True, cost=12_500, timestamp=NOON, id="a.1"
)


@pytest.fixture
def clock() -> FakeClock:
    """It stands at 14:30."""
    clock = FakeClock()
    clock.now = NOON
    return clock


@pytest.fixture
def call(clock) -> Callable[..., RequestMetrics]:
    """A call that succeeds now, but for what is given; each with an id of its own."""
    made = 0

    def make(**changes: Any) -> RequestMetrics:
        nonlocal made
        made += 1
        return msgspec.structs.replace(CALL, **{"id": f"{made:x}.1", "timestamp": clock.now} | changes)

    return make


@pytest.fixture
def redis_metrics(clock) -> Callable[..., Any]:
    """redis_metrics(url) is the adapter of that Redis, in a context."""

    @asynccontextmanager
    async def open_one(url: str, limits: RedisLimits = UNHURRIED, **how: Any) -> AsyncIterator[RedisMetrics]:
        link = open_link(url, name="monitoring", clock=clock, events=Told(), limits=limits)
        try:
            yield RedisMetrics(link, clock, **how)
        finally:
            await link.close()

    return open_one


@pytest.fixture(params=["memory", "redis8", "redis8 that decodes", "redis_cluster"])
async def metrics(request, clock, redis_metrics) -> AsyncIterator[RecentMetrics]:
    """Each adapter, empty; Redis' client gives bytes, or text."""
    if request.param == "memory":
        yield MemoryMetrics(clock)
        return
    server = request.getfixturevalue(request.param.split()[0])
    server.flush()
    decodes = "?decode_responses=yes" if request.param.endswith("decodes") else ""
    async with redis_metrics(server.url + decodes) as adapter:
        yield adapter
