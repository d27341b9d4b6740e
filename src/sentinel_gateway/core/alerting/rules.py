"""What a rule of an alert is, and which rules there are where nobody wrote others. Pure."""

from typing import Final, Literal, get_args

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.health import DEGRADED

Kind = Literal["threshold", "change", "burn_rate", "forecast", "anomaly"]
Severity = Literal["page", "ticket"]
"""`page` is for now, `ticket` for today."""
By = Literal["all", "provider", "model"]
CallMetric = Literal[
    "total_cost",
    "cost_per_request",
    "total_requests",
    "error_rate",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "first_token_avg_ms",
]
"""Of calls of providers, as reports have them (`core.analytics.FIGURES`)."""
ServedMetric = Literal["request_error_rate", "hit_rate"]
"""Of what callers asked: the share that got 5xx; the share of those that the cache decided which it answered."""
StateMetric = Literal["provider_health", "circuit_open", "budget_used", "wrong_hit_rate"]
"""As it is now: a score of 0 to 100; 1 of a circuit that is open; a share of each budget; the lower bound of the estimate."""
Metric = CallMetric | ServedMetric | StateMetric
Unit = Literal["share", "usd", "ms", "score", "count"]

CALL_METRICS: Final[frozenset[str]] = frozenset(get_args(CallMetric))
SERVED_METRICS: Final[frozenset[str]] = frozenset(get_args(ServedMetric))
STATE_METRICS: Final[frozenset[str]] = frozenset(get_args(StateMetric))
BURNT: Final = frozenset({"error_rate", "request_error_rate"})
"""What has an error budget that can burn."""
FORECAST: Final = frozenset({"total_cost", "budget_used"})
SUMS: Final = frozenset({"total_cost", "total_requests"})
UNITS: Final[dict[str, Unit]] = {
    "total_cost": "usd",
    "cost_per_request": "usd",
    "total_requests": "count",
    "error_rate": "share",
    "first_token_avg_ms": "ms",
    "request_error_rate": "share",
    "hit_rate": "share",
    "provider_health": "score",
    "circuit_open": "count",
    "budget_used": "share",
    "wrong_hit_rate": "share",
    "latency_p50_ms": "ms",
    "latency_p90_ms": "ms",
    "latency_p95_ms": "ms",
    "latency_p99_ms": "ms",
}

HOUR: Final = 3600
DAY: Final = 86_400


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """When there is something to tell. Times in seconds; `limit` in the metric's unit, USD and milliseconds among them.

    A `threshold` is crossed by the metric itself, over the last `window`; a `change` by how many times it is what it was
    `against` seconds before, at least `floor` of it. `burn_rate` has `limit` for the share of failures that is allowed.
    `forecast` is of the end of a budget's window; of `total_cost`, of the month. `anomaly` has no metric: it tells of those that
    last, at least as severe as `anomalies` says. `below`: crossed downwards. Of fewer than `least` calls or requests nothing is
    told. It must hold for `after` seconds. `channels` empty: all.
    """

    name: str
    kind: Kind = "threshold"
    metric: str = ""
    limit: float = 0.0
    below: bool = False
    window: int = 300
    against: int = 0
    floor: float = 0.0
    by: By = "all"
    provider: str = ""
    model: str = ""
    anomalies: Literal["warning", "critical"] = "critical"
    least: int = 20
    after: float = 0.0
    severity: Severity = "ticket"
    channels: tuple[str, ...] = ()
    description: str = ""


DEFAULTS: Final = (
    Rule(
        name="request-errors",
        metric="request_error_rate",
        limit=0.05,
        after=300,
        severity="page",
        description="Callers get 5xx.",
    ),
    Rule(
        name="error-budget",
        kind="burn_rate",
        metric="request_error_rate",
        limit=0.01,
        severity="page",
        description="At this pace the errors that a month may have are spent within days.",
    ),
    Rule(
        name="provider-failing",
        metric="error_rate",
        limit=0.2,
        by="provider",
        after=300,
        description="Its calls fail. Where an alias has other targets, they answer instead.",
    ),
    Rule(
        name="provider-health",
        metric="provider_health",
        limit=DEGRADED,
        below=True,
        after=120,
        description="GET /api/monitoring/errors/{provider} says why.",
    ),
    Rule(
        name="circuit-open",
        metric="circuit_open",
        limit=1.0,
        description="It failed too often and is left alone; it is tried again by itself.",
    ),
    Rule(name="anomalies", kind="anomaly", description="Out of the ordinary. GET /api/monitoring/anomalies has them all."),
    Rule(
        name="hit-rate-dropped",
        kind="change",
        metric="hit_rate",
        limit=0.5,
        below=True,
        window=HOUR,
        against=DAY,
        least=100,
        after=1800,
        description="Was the cache cleared, did a prompt or a model change, is a tier down?",
    ),
    Rule(
        name="cost-jump",
        kind="change",
        metric="total_cost",
        limit=3.0,
        window=HOUR,
        against=DAY,
        floor=1.0,
        after=900,
        description="GET /costs says for which model, the ledger for whom.",
    ),
    Rule(
        name="budget-used",
        metric="budget_used",
        limit=0.9,
        description="Once it is spent, requests are refused with 429 until the next day or month of UTC.",
    ),
    Rule(
        name="budget-forecast",
        kind="forecast",
        metric="budget_used",
        limit=1.0,
        after=900,
        description="At this pace it is spent before its day or month ends.",
    ),
    Rule(
        name="wrong-answers",
        metric="wrong_hit_rate",
        limit=0.01,
        after=600,
        severity="page",
        description="Even the lower bound is above cache.max_wrong_hit_rate. GET /admin/semantic shows where.",
    ),
)
"""Those that are right for most. The limit of wrong answers is the configuration's."""


def default_rules(*, most_wrong: float) -> tuple[Rule, ...]:
    """`most_wrong` is the error budget of answers to reworded questions."""
    return tuple(replace(rule, limit=most_wrong) if rule.metric == "wrong_hit_rate" else rule for rule in DEFAULTS)
