"""What `/api/monitoring` answers: seed 004's members by their names, and ours beside them. Money in USD, hours in UTC."""

from pydantic import BaseModel, ConfigDict

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.health import Status


class HealthResponse(BaseModel):
    """`health_score` is 0 to 100; `predicted_score` is what it comes to in 10 minutes if it goes on as in the last 15."""

    provider: str
    health_score: float
    status: Status
    last_updated: str
    predicted_score: float


class ErrorResponse(BaseModel):
    """A call that failed. `timestamp` in Unix seconds."""

    model: str
    error: str
    timestamp: float
    latency_ms: int


class CircuitBreakerResponse(BaseModel):
    """`is_available`: the model is asked, if only now and then to see whether it works again (`half_open`)."""

    provider: str
    model: str
    state: State
    failure_count: int
    is_available: bool
    last_updated: str


class HourlyStats(BaseModel):
    """An hour of a provider's. `total_cost` in USD."""

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    total_cost: float = 0.0


class ProviderRealtime(BaseModel):
    total_requests: int
    total_cost: float
    health_score: float
    hourly_breakdown: dict[str, HourlyStats]


class RealtimeStatsResponse(BaseModel):
    """Providers with calls in the window, and all of them together."""

    timestamp: str
    providers: dict[str, ProviderRealtime]
    total_requests: int
    total_cost: float
    avg_health_score: float


class HourlyStatsResponse(BaseModel):
    """`data` by hours, such as `2026-01-31:14`, UTC; hours without calls are left out."""

    provider: str
    hours: int
    data: dict[str, HourlyStats]


class ProviderComparison(HourlyStats):
    """`error_rate` is 0 to 1; `avg_latency_ms` of calls that succeeded. Both are null where there were none."""

    provider: str
    health_score: float
    status: Status
    error_rate: float | None
    avg_latency_ms: float | None
    cost_per_request: float | None
    open_circuits: int


class ComparisonResponse(BaseModel):
    """All providers, the healthiest first."""

    timestamp: str
    providers: list[ProviderComparison]
    total_providers: int


class Percentages(BaseModel):
    """`count`, `avg` and a member for each percentile, named `p95` or `p99_9`; null of nothing."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    count: int
    avg: float | None


class LatencyPercentilesResponse(Percentages):
    """Milliseconds of the newest 10,000 calls that succeeded within two hours. Of streams also the times to the first token.

    `tokens_per_second` are those from the first token on.
    """

    provider: str
    model: str
    first_token: Percentages
    tokens_per_second: Percentages
