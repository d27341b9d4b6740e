#!/usr/bin/env bash
# Does a running gateway serve the metrics it promises? Usage: scripts/test_metrics.sh [PORT]
set -euo pipefail

promised=(
    requests_total upstream_errors_total request_latency_seconds active_connections rate_limiter_buckets
    dspy_predictions_total dspy_prediction_duration_seconds dspy_cache_operations_total dspy_circuit_breaker_state
    dspy_prediction_cost_total dspy_token_usage_total dspy_active_predictions dspy_errors_total
)
url="http://127.0.0.1:${1:-8080}/metrics"

text=$("${PYTHON:-python3}" "$(dirname "$0")/get.py" "$url")
missing=0
for name in "${promised[@]}"; do
    if grep -q "^# TYPE $name " <<<"$text"; then
        echo "ok       $name"
    else
        echo "missing  $name"
        missing=$((missing + 1))
    fi
done
if [ "$missing" -gt 0 ]; then
    echo "$url lacks $missing of ${#promised[@]} metrics." >&2
    exit 1
fi
echo "$url serves all ${#promised[@]} metrics."
