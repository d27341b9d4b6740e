"""Writes deploy/grafana/dashboards: what stands here in a few lines a panel, as the JSON that Grafana reads.

`python scripts/dashboards.py`; a test holds the files equal to this.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
NODES: Final = 'job="$job", instance=~"$instance"'
WIDTH: Final = 24


class Panel(NamedTuple):
    """`queries` by the legend of their series. `wide` and `high` in Grafana's grid, of which 24 are a row."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    wide: int = 8
    high: int = 8
    text: str = ""
    stack: bool = False
    most: float | None = None


def _sum(metric: str, labels: str, over: str, by: str) -> str:
    chosen = f"{metric}{{{NODES}{f', {labels}' if labels else ''}}}"
    return f"sum{f' by ({by}) ' if by else ''}({over.format(chosen)})"


def rate(metric: str, labels: str = "", *, by: str = "") -> str:
    """What was added to a counter, by the second."""
    return _sum(metric, labels, "rate({}[$__rate_interval])", by)


def grown(metric: str, labels: str = "", *, by: str = "") -> str:
    """What was added to a counter in the time that is shown."""
    return _sum(metric, labels, "increase({}[$__range])", by)


def now(metric: str, labels: str = "", *, by: str = "") -> str:
    """A gauge, summed over the nodes."""
    return _sum(metric, labels, "{}", by)


def quantile(share: float, metric: str, labels: str = "", *, by: str = "") -> str:
    """Of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, by=f'{by}, le' if by else 'le')})"


DECIDED: Final = 'outcome=~"exact|semantic|miss"'
HITS: Final = 'outcome=~"exact|semantic"'
MODEL_ROUTES: Final = 'route=~"/v1/.+"'
ERRORS: Final = f'{MODEL_ROUTES}, status=~"5.."'
FOUND: Final = 'operation="hit"'
CACHE: Final = "sentinel_cache_requests_total"
ATTEMPTS: Final = "sentinel_upstream_attempts_total"
FAILED: Final = 'outcome=~"unauthorized|limited|timeout|unreachable|broken"'
CALLS: Final = rate(ATTEMPTS, by="provider")

OVERVIEW: Final = [
    Panel("Requests a second", {"": rate("sentinel_inference_requests_total")}, "reqps", "stat", 4, 4),
    Panel("Hit rate", {"": f"{rate(CACHE, HITS)} / {rate(CACHE, DECIDED)}"}, "percentunit", "stat", 4, 4, most=1.0),
    Panel(
        "Server errors",
        {
            "": f"clamp_min(({rate('requests_total', ERRORS)} or vector(0)) - {rate('sentinel_not_cached_total')}, 0)"
            f" / {rate('requests_total', MODEL_ROUTES)}"
        },
        "percentunit",
        "stat",
        4,
        4,
        "But for 504s to only-if-cached, which nothing stored answered.",
        most=1.0,
    ),
    Panel("Spent", {"": grown("sentinel_cost_usd_total")}, "currencyUSD", "stat", 4, 4, "In the time that is shown."),
    Panel("Saved", {"": grown("sentinel_saved_usd_total")}, "currencyUSD", "stat", 4, 4, "What stored answers had cost."),
    Panel("Nodes that are ready", {"": now("sentinel_ready")}, "short", "stat", 4, 4),
    Panel("Requests by route", {"{{route}}": rate("sentinel_inference_requests_total", by="route")}, "reqps", stack=True),
    Panel("Requests by what the cache did", {"{{outcome}}": rate(CACHE, by="outcome")}, "reqps", stack=True),
    Panel("Answers by status", {"{{status}}": rate("requests_total", MODEL_ROUTES, by="status")}, "reqps", stack=True),
    Panel(
        "Latency by route, 95 %",
        {"{{route}}": quantile(0.95, "request_latency_seconds", MODEL_ROUTES, by="route")},
        "s",
        text="From a request's first byte to its end; with an OpenMetrics scrape, points link to requests.",
    ),
    Panel(
        "Percentiles of the last five minutes",
        {"{{route}} {{outcome}} {{quantile}}": f"max by (route, outcome, quantile) (sentinel_latency_seconds{{{NODES}}})"},
        "s",
        text="Those of metrics.percentiles. The slowest node's: percentiles of nodes can't be added up.",
    ),
    Panel(
        "Time of our own, 99 %",
        {"{{outcome}}": quantile(0.99, "sentinel_own_seconds", by="outcome")},
        "s",
        text="A request's time but for the wait for providers.",
    ),
    Panel("Streaming or not", {"stream: {{stream}}": rate("sentinel_inference_requests_total", by="stream")}, "reqps"),
    Panel("Requests in flight", {"{{instance}}": now("sentinel_in_flight", by="instance")}),
    Panel("Connections", {"{{instance}}": now("active_connections", by="instance")}),
    Panel("Dependencies", {"{{dependency}}": f"min by (dependency) (sentinel_dependency_up{{{NODES}}})"}, text="0: down."),
    Panel("What the log told", {"{{event}}": grown("sentinel_events_total", by="event")}, kind="table"),
    Panel("Limiter buckets in use", {"{{instance}}": now("rate_limiter_buckets", by="instance")}),
    Panel("CPU", {"{{instance}}": rate("process_cpu_seconds_total", by="instance")}, "percentunit"),
    Panel("Memory", {"{{instance}}": now("process_resident_memory_bytes", by="instance")}, "bytes"),
    Panel("Open files", {"{{instance}}": now("process_open_fds", by="instance")}),
]

PROVIDERS: Final = [
    Panel("Calls by how they ended", {"{{provider}} {{outcome}}": rate(ATTEMPTS, by="provider, outcome")}, "reqps", stack=True),
    Panel(
        "Calls that failed",
        {"{{provider}}": f"({rate(ATTEMPTS, FAILED, by='provider')} or 0 * {CALLS}) / {CALLS}"},
        "percentunit",
        most=1.0,
    ),
    Panel("What failed", {"{{error_type}}": rate("upstream_errors_total", by="error_type")}, "reqps", stack=True),
    Panel("A call takes, 95 %", {"{{provider}}": quantile(0.95, "sentinel_upstream_seconds", by="provider")}, "s"),
    Panel("To the first token, 50 %", {"{{provider}}": quantile(0.5, "sentinel_first_token_seconds", by="provider")}, "s"),
    Panel("To the first token, 99 %", {"{{provider}}": quantile(0.99, "sentinel_first_token_seconds", by="provider")}, "s"),
    Panel(
        "Circuits",
        {"{{model}}": f"max by (model) (dspy_circuit_breaker_state{{{NODES}}})"},
        text="0 closed, 1 open, 2 half open.",
    ),
    Panel(
        "Spent an hour", {"{{provider}}": f"3600 * {rate('sentinel_cost_usd_total', by='provider')}"}, "currencyUSD", stack=True
    ),
    Panel("Calls without a price", {"{{provider}}": grown("sentinel_unpriced_calls_total", by="provider")}, kind="table"),
    Panel(
        "Answers by model", {"{{model}} {{cache}}": rate("sentinel_model_requests_total", by="model, cache")}, "reqps", stack=True
    ),
    Panel(
        "A model's calls take, mean",
        {
            "{{model}}": f"{rate('sentinel_model_upstream_seconds_sum', by='model')} / "
            f"{rate('sentinel_model_upstream_seconds_count', by='model')}"
        },
        "s",
    ),
    Panel("Calls of models that failed", {"{{model}}": rate("sentinel_model_failures_total", by="model")}, "reqps"),
    Panel("Paid tokens a second", {"{{model}} {{type}}": rate("sentinel_model_tokens_total", by="model, type")}, stack=True),
    Panel("Spent, by model", {"{{model}}": grown("sentinel_model_cost_usd_total", by="model")}, "currencyUSD", "table"),
    Panel("Saved, by model", {"{{model}}": grown("sentinel_model_saved_usd_total", by="model")}, "currencyUSD", "table"),
]

KEPT: Final = [
    Panel("Hit rate", {"": f"{rate(CACHE, HITS)} / {rate(CACHE, DECIDED)}"}, "percentunit", most=1.0),
    Panel("Hits by tier", {"{{outcome}} {{tier}}": rate(CACHE, HITS, by="outcome, tier")}, "reqps", stack=True),
    Panel("Answers kept", {"": rate("sentinel_stored_total")}, "reqps"),
    Panel("Tokens a second", {"{{source}} {{type}}": rate("sentinel_tokens_total", by="source, type")}, stack=True),
    Panel("Saved an hour", {"{{face}}": f"3600 * {rate('sentinel_saved_usd_total', by='face')}"}, "currencyUSD", stack=True),
    Panel("Answers in memory", {"{{instance}}": now("sentinel_memory_entries", by="instance")}),
    Panel("Bytes in memory", {"{{instance}}": now("sentinel_memory_bytes", by="instance")}, "bytes"),
    Panel("A hit takes, 99 %", {"{{outcome}}": quantile(0.99, "sentinel_own_seconds", HITS, by="outcome")}, "s"),
    Panel(
        "Wrong answers, of the questions compared",
        {"{{bound}}": f'max by (bound) (sentinel_semantic_wrong_rate{{{NODES}, scope="all"}})'},
        "percentunit",
        text="Estimated, with its 95 % interval; the error budget is cache.max_wrong_hit_rate.",
        most=1.0,
    ),
    Panel(
        "Wrong answers, of the semantic hits",
        {"{{bound}}": f'max by (bound) (sentinel_semantic_wrong_hit_rate{{{NODES}, scope="all"}})'},
        "percentunit",
        most=1.0,
    ),
    Panel("Labels behind the estimates", {"{{scope}}": f"max by (scope) (sentinel_semantic_evidence_labels{{{NODES}}})"}),
    Panel("Feedback", {"{{verdict}}": grown("sentinel_semantic_feedback_total", by="verdict")}, kind="table"),
    Panel("Comparisons", {"{{verdict}}": grown("sentinel_semantic_comparisons_total", by="verdict")}, kind="table"),
    Panel(
        "Confidence of what was served, mean",
        {"": f"{rate('sentinel_semantic_confidence_sum')} / {rate('sentinel_semantic_confidence_count')}"},
        "percentunit",
        most=1.0,
    ),
    Panel(
        "Labels that namespaces have learned from",
        {"{{namespace}}": f"max by (namespace) (sentinel_semantic_learned_labels{{{NODES}}})"},
    ),
    Panel(
        "Least confidence that serves",
        {"{{namespace}}": f"max by (namespace) (sentinel_semantic_confidence_threshold{{{NODES}}})"},
        "percentunit",
    ),
]

PREDICTIONS: Final = [
    Panel(
        "Predictions a second", {"{{model}} {{variant}} {{status}}": rate("dspy_predictions_total", by="model, variant, status")}
    ),
    Panel("Predictions under way", {"{{instance}}": now("dspy_active_predictions", by="instance")}),
    Panel("Predictions that failed", {"{{error_type}}": rate("dspy_errors_total", by="error_type")}, stack=True),
    Panel(
        "A prediction takes, 95 %",
        {"{{model}} {{variant}}": quantile(0.95, "dspy_prediction_duration_seconds", by="model, variant")},
        "s",
    ),
    Panel(
        "Found in the cache",
        {"": f"{rate('dspy_cache_operations_total', FOUND)} / {rate('dspy_cache_operations_total')}"},
        "percentunit",
        most=1.0,
    ),
    Panel("Found, by level", {"{{level}}": rate("dspy_cache_operations_total", by="level")}, "reqps", stack=True),
    Panel("Cost", {"{{model}} {{variant}}": f"sum by (model, variant) (dspy_prediction_cost_total{{{NODES}}})"}, "currencyUSD"),
    Panel("Tokens a second", {"{{model}} {{type}}": rate("dspy_token_usage_total", by="model, type")}, stack=True),
]

DASHBOARDS: Final = {
    "sentinel-overview": ("Sentinel: overview", OVERVIEW),
    "sentinel-providers": ("Sentinel: providers and models", PROVIDERS),
    "sentinel-cache": ("Sentinel: cache and semantic hits", KEPT),
    "sentinel-predictions": ("Sentinel: predictions", PREDICTIONS),
}


def dashboard(uid: str) -> dict[str, Any]:
    """One dashboard as Grafana's JSON model has it."""
    title, panels = DASHBOARDS[uid]
    return {
        "uid": uid,
        "title": title,
        "tags": ["sentinel"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [{"type": "dashboards", "tags": ["sentinel"], "title": "Sentinel", "asDropdown": True}],
        "templating": {"list": list(_variables())},
        "panels": list(_placed(panels)),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}
    for name, label, query, several in (
        ("job", "Job", "label_values(sentinel_build_info, job)", False),
        ("instance", "Node", 'label_values(sentinel_build_info{job="$job"}, instance)', True),
    ):
        yield {
            "name": name,
            "type": "query",
            "label": label,
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": several,
            "includeAll": several,
            **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {}),
        }


def _placed(panels: list[Panel]) -> Iterator[dict[str, Any]]:
    across, down, highest = 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if across + panel.wide > WIDTH:
            across, down, highest = 0, down + highest, 0
        yield _panel(number, panel, {"x": across, "y": down, "w": panel.wide, "h": panel.high})
        across, highest = across + panel.wide, max(highest, panel.high)


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none"},
        }
    instant = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend or panel.title,
                "instant": instant,
                "range": not instant,
                "exemplar": not instant and "_bucket" in query,
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def as_text(uid: str) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(uid), indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for uid in DASHBOARDS:
        (FOLDER / f"{uid}.json").write_text(as_text(uid))
