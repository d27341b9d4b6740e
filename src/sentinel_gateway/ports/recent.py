"""What providers have done in the last two hours: seed 004's service, by the names of its methods.

Answers are those of one Redis for all nodes, or of this process alone. Nothing here raises: where Redis is configured but away,
what is recorded is lost, a health is 100.0, and lists and dictionaries are empty; who must tell that from "there is nothing" asks
`find_health` and `find_circuits`. Names of models are at most as many as
providers answer to, and no text here holds a prompt, an answer, a header or a key.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, Protocol

import msgspec

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.health import Sample

Series = Literal["latency", "first_token", "speed"]
"""Milliseconds of whole calls, milliseconds to a stream's first chunk, and tokens a second from there on."""
HOUR: Final = 3600
USUAL: Final = (50.0, 95.0, 99.0)


def hour_of(at: float) -> str:
    """The name of the hour (UTC) of a moment: `2026-01-31:14`."""
    return _hour_name(int(at // HOUR))


@lru_cache(maxsize=64)
def _hour_name(number: int) -> str:
    """Of the hours since 1970. Remembered, as every call asks for that of now."""
    return f"{datetime.fromtimestamp(number * HOUR, UTC):%Y-%m-%d:%H}"


class RequestMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a provider, ended. `cost` in nano-USD, `timestamp` in Unix seconds: when it ended.

    `success` is None where the call says nothing of the provider: nobody waited for its end, or the request was wrong. Then its
    tokens, its cost and its error count, and the call itself does not. `first_token_ms` and `tokens_per_second` are of streams,
    0.0 where nothing is known. `id` tells it from all others.
    """

    provider: str
    model: str
    latency_ms: float
    success: bool | None
    cost: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    error_message: str = ""
    timestamp: float
    id: str
    first_token_ms: float = 0.0
    tokens_per_second: float = 0.0


class HourStats(msgspec.Struct):
    """An hour of a provider's. `total_cost` in USD; `latency_ms` is the sum over the calls that succeeded."""

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    total_cost: float = 0.0
    latency_ms: float = 0.0


class RecentError(msgspec.Struct, frozen=True):
    """A call that failed: at most 500 characters of why, when (Unix seconds), and after how many milliseconds."""

    model: str
    error: str
    timestamp: float
    latency_ms: int


class CircuitBreaker(msgspec.Struct, frozen=True):
    """The circuit of a provider's model as it was told last, at `updated` (Unix seconds)."""

    provider: str
    model: str
    state: State
    failure_count: int
    updated: float


class RecentMetrics(Protocol):
    """The service."""

    async def record_request(self, request: RequestMetrics) -> None:
        """Record one call."""
        ...

    async def record_requests(self, requests: Sequence[RequestMetrics]) -> bool:
        """Record several at once; False if they, or some of them, are lost."""
        ...

    async def get_provider_health(self, provider: str) -> float:
        """The score, 0 to 100; 100.0 where nothing is known."""
        ...

    async def get_all_provider_health(self) -> Mapping[str, float]:
        """The scores of all providers that were ever called."""
        ...

    async def find_health(self) -> Mapping[str, float] | None:
        """The same; None where that can't be known now."""
        ...

    async def get_health_history(self, providers: Collection[str]) -> Mapping[str, Sequence[Sample]]:
        """Their scores in the course of time, oldest first, at most one a minute and 60 in all; of those that have any."""
        ...

    async def get_recent_errors(self, provider: str, limit: int = 100) -> Sequence[RecentError]:
        """The last failures, newest first: at most 100, and none once an hour has brought no more."""
        ...

    async def get_hourly_stats(self, provider: str, hours: int = 1) -> Mapping[str, HourStats]:
        """The hours with calls among the last ones, 1 to 2, by their names (`2026-01-31:14`, UTC), oldest first.

        The hour under way counts as the first.
        """
        ...

    async def get_latency_percentiles(
        self, provider: str, model: str, percentiles: Sequence[float] = USUAL, series: Series = "latency"
    ) -> Mapping[str, float]:
        """`count`, `avg` and the percentiles by name, of the newest 10,000 successes in two hours; empty if there are none."""
        ...

    async def update_circuit_breaker(self, provider: str, model: str, state: State, failure_count: int) -> None:
        """Say how a circuit stands. It is forgotten after 5 minutes."""
        ...

    async def get_circuit_breakers(self) -> Sequence[CircuitBreaker]:
        """The circuits that were told of in the last 5 minutes. One that is not among them is closed."""
        ...

    async def find_circuits(self) -> Sequence[CircuitBreaker] | None:
        """The same; None where that can't be known now."""
        ...

    async def cleanup_old_data(self, hours: int = 2) -> int:
        """Remove what is older; how many hours and measured calls that were. Needed by nobody: all of it ends by itself."""
        ...
