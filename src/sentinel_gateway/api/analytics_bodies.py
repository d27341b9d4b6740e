"""What the analytics of `/api/monitoring` are asked and answer.

Money is in USD, times in milliseconds, shares are 0 to 1, hours and days UTC. None stands where there is nothing to tell it of.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field

from sentinel_gateway.api.bodies import StrictBody
from sentinel_gateway.core.analytics import FIGURES, Stage
from sentinel_gateway.core.anomalies import Kind, Severity

MOST_GROUPS: Final = 3
NAME: Final = 1024


def _known_figure(name: str) -> str:
    if name not in FIGURES:
        raise ValueError(f"must be one of {', '.join(FIGURES)}")
    return name


Metric = Annotated[str, AfterValidator(_known_figure), Field(json_schema_extra={"enum": list(FIGURES)})]
Dimension = Literal["provider", "model", "hour", "day"]
Name = Annotated[str, Field(min_length=1, max_length=NAME)]


class AnomalyBody(BaseModel):
    """`expected` is what is usual of `metric`, `score` how sure that is no chance (standard deviations). No `until`: it lasts."""

    type: Kind
    severity: Severity
    provider: str
    model: str | None
    metric: str
    value: float
    expected: float
    ratio: float | None
    score: float
    since: str
    until: str | None
    requests: int
    message: str


class AnomaliesResponse(BaseModel):
    timestamp: str
    anomalies: list[AnomalyBody]
    total_count: int
    critical_count: int
    warning_count: int


class Figures(BaseModel):
    total_requests: int
    successful_requests: int
    failed_requests: int
    error_rate: float | None


class ModelErrors(Figures):
    """What the provider refused, as the request was wrong, is told apart. `by_type` is how calls ended that brought no answer."""

    provider: str
    model: str
    refused_requests: int
    by_type: dict[str, int]


class ErrorRatesResponse(Figures):
    timestamp: str
    hours: int
    models: list[ModelErrors]


class Latency(BaseModel):
    """Of answered calls; percentiles to within a tenth."""

    count: int
    avg: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class ModelTrend(Latency):
    """`change` of the median, from the earlier half of the hours to the later: 0.5 is half as much again."""

    trend: Literal["rising", "falling", "steady", "unknown"]
    change: float | None


class LatencyTrendsResponse(BaseModel):
    """`data` by hour (`2026-01-31:14`)."""

    timestamp: str
    provider: str
    hours: int
    trend: Literal["rising", "falling", "steady", "unknown"]
    change: float | None
    data: dict[str, Latency]
    models: dict[str, ModelTrend]


class TokenEfficiencyResponse(BaseModel):
    """`output_ratio` is output for a token of input, `cached_ratio` of the input what the provider's prompt cache had."""

    timestamp: str
    provider: str
    model: str
    hours: int
    total_requests: int
    tokens_input: int
    tokens_output: int
    total_cost: float
    tokens_per_request: float | None
    output_ratio: float | None
    cached_ratio: float | None
    reasoning_ratio: float | None
    tokens_per_second: float | None
    first_token_avg_ms: float | None
    cost_per_request: float | None
    cost_per_million_tokens: float | None


class Bill(BaseModel):
    total_cost: float
    total_requests: int
    tokens_input: int
    tokens_output: int
    cost_per_request: float | None
    cost_per_million_tokens: float | None
    share: float | None


class ProviderBill(Bill):
    models: dict[str, Bill]


class AdviceBody(BaseModel):
    """`at_stake` is what that took in the period."""

    type: Literal["cheaper_model", "prompt_cache", "reasoning"]
    provider: str
    model: str
    at_stake: float
    message: str


class CostAnalysisResponse(BaseModel):
    """Days are UTC; the one under way is the last."""

    timestamp: str
    period_days: int
    total_cost: float
    total_requests: int
    avg_cost_per_day: float
    providers: dict[str, ProviderBill]
    daily: dict[str, float]
    advice: list[AdviceBody]


class CallCosts(BaseModel):
    """A call of a provider. `parts` is what each kind of tokens took: None if they don't add up to what was booked.

    `model` is the provider's name. `basis` is what the cost goes by: the price, an estimate, or nothing (`unknown`).
    """

    request: str
    attempt: int
    timestamp: str
    provider: str
    model: str
    ending: str
    latency_ms: float
    tokens_input: int
    tokens_cached: int
    tokens_output: int
    tokens_reasoning: int
    cost: float
    basis: Literal["price", "estimated", "unknown"]
    priced: str
    parts: dict[str, float] | None


class CallCostsResponse(BaseModel):
    timestamp: str
    hours: int
    calls: list[CallCosts]
    total_cost: float


class TrialBody(BaseModel):
    """`stage` is the farthest that was reached."""

    id: str
    name: str
    tenant: str
    hint: str
    stage: Stage
    created: str
    first_request: str | None
    last_request: str | None
    requests: int
    limited_requests: int
    active_days: int


class TrialAnalyticsResponse(BaseModel):
    """`funnel`: how many trials have come so far or farther; `rates` are their shares of all."""

    timestamp: str
    period_days: int
    funnel: dict[Stage, int]
    rates: dict[Stage, float | None]
    conversion_rate: float | None
    median_hours_to_first_request: float | None
    total_requests: int
    trials: list[TrialBody]


class ReportFilter(StrictBody):
    """Only these; no list is all."""

    provider: list[Name] | None = None
    model: list[Name] | None = None


class ReportWindow(StrictBody):
    """The last so many hours or days; the one under way counts as the last."""

    hours: Annotated[int, Field(ge=1, le=720)] | None = None
    days: Annotated[int, Field(ge=1, le=90)] | None = None


class ReportBody(StrictBody):
    """What is to be told, by what, of what, and of when."""

    metrics: Annotated[list[Metric], Field(min_length=1, max_length=len(FIGURES))]
    group_by: list[Dimension] = Field(default=[], max_length=MOST_GROUPS)
    filter: ReportFilter = ReportFilter()
    window: ReportWindow = ReportWindow(hours=24)
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000


class ReportResponse(BaseModel):
    """Rows have the members of `group_by` and of `metrics`, in that order; `total_rows` may be more than are shown."""

    timestamp: str
    since: str
    until: str
    group_by: list[str]
    metrics: list[str]
    rows: list[dict[str, Any]]
    total_rows: int
