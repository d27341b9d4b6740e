"""Every metric that Prometheus reads: its name, what it says, its labels and its buckets. docs/metrics.md is made of this.

Names without a prefix are those of seed 002, `dspy_*` those of seed 001. Values of labels come from closed sets; what is not in
them, or beyond a number, is `other`, so that nobody who sends requests can make metrics grow.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
from prometheus_client.samples import Exemplar

Labels = tuple[str, ...]
"""The values of a family's labels, in their order."""

LATENCY_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, as seed 002 has them."""
OWN_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
FIRST_TOKEN_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
UPSTREAM_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 300.0)
PREDICTION_BUCKETS: Final = (*LATENCY_BUCKETS, 30.0, 60.0)


class Bars(NamedTuple):
    """One series of a histogram. `counts` are those of each bucket alone, the last of what is above all bounds."""

    labels: Labels
    counts: Sequence[int]
    seconds: float
    exemplars: Sequence[Exemplar | None] = ()


class Family(NamedTuple):
    """One metric. Counters are named as their samples are, with `_total`; `text` is a sentence for operators."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "summary"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def of(self, values: Iterable[tuple[Labels, float]]) -> Metric:
        """A counter or a gauge with these values."""
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(self.name, self.text, labels=self.labels)
        for labels, value in values:
            family.add_metric(labels, value)
        return family

    def one(self, value: float) -> Metric:
        """The same without labels."""
        return self.of([((), value)])

    def drawn(self, series: Iterable[Bars]) -> Metric:
        """A histogram."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        bounds = (*map(str, self.buckets), "+Inf")
        for bars in series:
            exemplars: Sequence[Any] = bars.exemplars or (None,) * len(bounds)
            family.add_metric(bars.labels, list(zip(bounds, accumulate(bars.counts), exemplars, strict=True)), bars.seconds)
        return family

    def summed(self, series: Iterable[tuple[Labels, float, int]]) -> SummaryMetricFamily:
        """A summary of these sums and counts."""
        family = SummaryMetricFamily(self.name, self.text, labels=self.labels)
        for labels, whole, count in series:
            family.add_metric(labels, count_value=count, sum_value=whole)
        return family


REQUESTS: Final = Family("requests_total", "counter", "HTTP requests.", ("route", "method", "status"))
UPSTREAM_ERRORS: Final = Family("upstream_errors_total", "counter", "Failed provider attempts.", ("error_type",))
LATENCY: Final = Family(
    "request_latency_seconds", "histogram", "From a request's first byte to its end.", ("route",), LATENCY_BUCKETS
)
CONNECTIONS: Final = Family("active_connections", "gauge", "Open client connections, idle ones too.")
LIMITER_BUCKETS: Final = Family("rate_limiter_buckets", "gauge", "Rate limiter buckets in use.")

PREDICTIONS: Final = Family("dspy_predictions_total", "counter", "Predictions.", ("model", "variant", "status"))
PREDICTION_SECONDS: Final = Family(
    "dspy_prediction_duration_seconds", "histogram", "How long predictions took.", ("model", "variant"), PREDICTION_BUCKETS
)
PREDICTION_CACHE: Final = Family(
    "dspy_cache_operations_total", "counter", "Predictions looked up, by where they were found.", ("operation", "level")
)
CIRCUITS: Final = Family("dspy_circuit_breaker_state", "gauge", "Circuit breakers: 0 closed, 1 open, 2 half open.", ("model",))
PREDICTION_COST: Final = Family("dspy_prediction_cost_total", "counter", "What predictions cost, in USD.", ("model", "variant"))
PREDICTION_TOKENS: Final = Family("dspy_token_usage_total", "counter", "Tokens of predictions.", ("model", "type"))
ACTIVE_PREDICTIONS: Final = Family("dspy_active_predictions", "gauge", "Predictions under way.")
PREDICTION_ERRORS: Final = Family("dspy_errors_total", "counter", "Predictions that failed.", ("error_type",))

INFERENCE: Final = Family(
    "sentinel_inference_requests_total",
    "counter",
    "Requests to models, by how the cache took part, streaming or not.",
    ("route", "outcome", "stream"),
)
CACHE: Final = Family(
    "sentinel_cache_requests_total", "counter", "Requests by how the cache took part; failed ones apart.", ("outcome", "tier")
)
NOT_CACHED: Final = Family(
    "sentinel_not_cached_total", "counter", "Requests with only-if-cached for which nothing was stored: 504, as was asked for."
)
STORED: Final = Family("sentinel_stored_total", "counter", "Answers taken into the cache.")
TOKENS: Final = Family("sentinel_tokens_total", "counter", "Tokens answered with, by where they came from.", ("type", "source"))
SAVED: Final = Family("sentinel_saved_usd_total", "counter", "What stored answers had cost, in USD.", ("face",))
OWN: Final = Family(
    "sentinel_own_seconds", "histogram", "A request's time but for the wait for providers.", ("outcome",), OWN_BUCKETS
)
QUANTILES: Final = Family(
    "sentinel_latency_seconds",
    "summary",
    "Percentiles of the last five minutes, as configured, from a request's first byte to its end.",
    ("route", "outcome"),
)

ATTEMPTS: Final = Family(
    "sentinel_upstream_attempts_total", "counter", "Calls of providers, by how they ended.", ("provider", "outcome")
)
UPSTREAM: Final = Family(
    "sentinel_upstream_seconds", "histogram", "How long calls of providers took.", ("provider",), UPSTREAM_BUCKETS
)
FIRST_TOKEN: Final = Family(
    "sentinel_first_token_seconds",
    "histogram",
    "From a call of a provider to its stream's first chunk.",
    ("provider",),
    FIRST_TOKEN_BUCKETS,
)
COST: Final = Family("sentinel_cost_usd_total", "counter", "What providers took, in USD.", ("provider", "basis"))
UNPRICED: Final = Family("sentinel_unpriced_calls_total", "counter", "Calls of models without a price.", ("provider",))

MODEL_REQUESTS: Final = Family("sentinel_model_requests_total", "counter", "Answered requests.", ("model", "cache"))
MODEL_FAILURES: Final = Family("sentinel_model_failures_total", "counter", "Calls of providers that failed.", ("model",))
MODEL_SECONDS: Final = Family("sentinel_model_upstream_seconds", "summary", "How long calls of providers took.", ("model",))
MODEL_TOKENS: Final = Family("sentinel_model_tokens_total", "counter", "Tokens that providers were paid for.", ("model", "type"))
MODEL_COST: Final = Family("sentinel_model_cost_usd_total", "counter", "What providers took, in USD.", ("model",))
MODEL_SAVED: Final = Family("sentinel_model_saved_usd_total", "counter", "What stored answers had cost, in USD.", ("model",))

IN_FLIGHT: Final = Family("sentinel_in_flight", "gauge", "Requests that hold a place now.")
READY: Final = Family("sentinel_ready", "gauge", "1 if this node can serve requests.")
DEPENDENCY: Final = Family("sentinel_dependency_up", "gauge", "1 if a dependency in use answers, asked now.", ("dependency",))
MEMORY_ENTRIES: Final = Family("sentinel_memory_entries", "gauge", "Answers in the memory tier.")
MEMORY_BYTES: Final = Family("sentinel_memory_bytes", "gauge", "Bytes of the answers in the memory tier.")
EVENTS: Final = Family("sentinel_events_total", "counter", "Changes of state that were logged.", ("event",))
BUILD: Final = Family("sentinel_build_info", "gauge", "The running version.", ("version",))

ALERTS_FIRING: Final = Family(
    "sentinel_alerts_firing", "gauge", "Alerts that fire now, on the node that looks.", ("rule", "severity")
)
ALERT_MESSAGES: Final = Family(
    "sentinel_alert_messages_total",
    "counter",
    "Messages of alerts that this node has sent, by how that ended: one that `failed` is tried again.",
    ("channel", "outcome"),
)

FEEDBACK: Final = Family("sentinel_semantic_feedback_total", "counter", "Feedback on semantic hits.", ("verdict",))
COMPARISONS: Final = Family(
    "sentinel_semantic_comparisons_total", "counter", "Stored answers compared with a provider's.", ("verdict",)
)
WRONG: Final = Family(
    "sentinel_semantic_wrong_rate",
    "gauge",
    "Wrong semantic hits by requests that reached the decision, estimated, with its 95 % interval.",
    ("scope", "bound"),
)
WRONG_HITS: Final = Family("sentinel_semantic_wrong_hit_rate", "gauge", "The same by semantic hits.", ("scope", "bound"))
EVIDENCE: Final = Family("sentinel_semantic_evidence_labels", "gauge", "Labels that the estimates are made of.", ("scope",))
CONFIDENCE: Final = Family("sentinel_semantic_confidence", "summary", "Confidence with which semantic hits were served.")
LEARNED: Final = Family("sentinel_semantic_learned_labels", "gauge", "Labels that a namespace has learned from.", ("namespace",))
LEAST_CONFIDENCE: Final = Family(
    "sentinel_semantic_confidence_threshold", "gauge", "Least confidence that serves; +Inf: none does.", ("namespace",)
)

SEED_002: Final = (REQUESTS, UPSTREAM_ERRORS, LATENCY, CONNECTIONS, LIMITER_BUCKETS)
SEED_001: Final = (
    PREDICTIONS,
    PREDICTION_SECONDS,
    PREDICTION_CACHE,
    CIRCUITS,
    PREDICTION_COST,
    PREDICTION_TOKENS,
    ACTIVE_PREDICTIONS,
    PREDICTION_ERRORS,
)
REQUEST_METRICS: Final = (INFERENCE, CACHE, NOT_CACHED, STORED, TOKENS, SAVED, OWN, QUANTILES)
PROVIDER_METRICS: Final = (ATTEMPTS, UPSTREAM, FIRST_TOKEN, COST, UNPRICED)
MODEL_METRICS: Final = (MODEL_REQUESTS, MODEL_FAILURES, MODEL_SECONDS, MODEL_TOKENS, MODEL_COST, MODEL_SAVED)
STATE_METRICS: Final = (IN_FLIGHT, READY, DEPENDENCY, MEMORY_ENTRIES, MEMORY_BYTES, EVENTS, BUILD)
ALERT_METRICS: Final = (ALERTS_FIRING, ALERT_MESSAGES)
"""There where alerts are on."""
SEMANTIC_METRICS: Final = (FEEDBACK, COMPARISONS, WRONG, WRONG_HITS, EVIDENCE, CONFIDENCE, LEARNED, LEAST_CONFIDENCE)
"""There where the semantic tier is on."""

LABELS: Final[Mapping[str, str]] = {
    "basis": "what the amount goes by: `price`, or `estimated`",
    "bound": "`estimate`, `low` or `high`",
    "cache": "`hit` or `miss`",
    "channel": "by its name under `alerts.channels`",
    "dependency": "as in `/health`",
    "error_type": "what failed, as [operations](operations.md#is-it-alive-is-it-ready-is-it-well) lists it",
    "event": "the name of a line of the log",
    "face": "the last word of a route: `chat`, `messages`, `query`, ...",
    "level": "`memory`, `redis` or `disk`; `none` of what was not found",
    "method": "of HTTP",
    "model": "as asked for, if it is an alias or one that a provider lists; at most 40",
    "namespace": "how its digest begins",
    "operation": "`hit` or `miss`",
    "outcome": "of a request: `exact`, `semantic`, `miss`, `coalesced` (shared another's call), `bypass`, `failed` "
    "(in `sentinel_cache_requests_total`, whatever the cache did); "
    "of a call: `answered`, `refused`, `unauthorized`, `limited`, `timeout`, `unreachable`, `broken`, `left`, `lost`; "
    "of a message: `delivered`, `failed`, `undelivered`",
    "provider": "by its name in the configuration; at most 32",
    "quantile": "of `metrics.percentiles`, 0 to 1",
    "route": "the template of a path, `unmatched` for all others",
    "rule": "by its name under `alerts.rules`, or of a default rule",
    "scope": "`all`, or how the digest of one of the busiest begins",
    "severity": "`page` or `ticket`",
    "source": "`provider` or `cache`",
    "status": "of HTTP; of a prediction `success` or `error`",
    "stream": "`true` or `false`",
    "tier": "`memory`, `disk`, `redis` or `vector`; `none` of what was not found",
    "type": "`prompt` or `completion`; of predictions `input` or `output`",
    "variant": "the program that predicted, else the face",
    "verdict": "`right`, `wrong` or `unresolved`",
    "version": "of Sentinel",
}
"""What each label says."""
