"""Seed 001's metrics: they move with predictions, and with nothing else."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.errors import ClientLeft, UpstreamLimited
from sentinel_gateway.telemetry.metrics import Metrics

Make = Callable[..., Record]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics("1")
    metrics.models.knows = {"gpt-4", "fast"}.__contains__
    return metrics


def dspy(metrics: Metrics) -> Iterator[tuple[str, str, float]]:
    for family in text_string_to_metric_families(metrics.render().decode()):
        if family.name.startswith("dspy_"):
            for sample in family.samples:
                yield sample.name, " ".join(value for _, value in sorted(sample.labels.items())), sample.value


def told(metrics: Metrics, name: str) -> dict[str, float]:
    return {labels: value for found, labels, value in dspy(metrics) if found == name}


def test_dspy_labels_model_variant_status(metrics: Metrics, make_record: Make) -> None:
    baseline = {"at": 5.0, "model": "gpt-4", "route": "/v1/predict/baseline"}
    used = {"prompt_tokens": 7, "completion_tokens": 8, "cost": 31_000, **baseline}
    with metrics.predictions.track(make_record(outcome="miss", tier="", **used), lambda: 5.25):
        assert told(metrics, "dspy_active_predictions") == {"": 1}
        assert told(metrics, "dspy_predictions_total") == {}
    for tier in ("memory", "memory", "redis"):
        with metrics.predictions.track(make_record(tier=tier, **used), lambda: 5.001):
            pass
    made_up = make_record(at=5.0, model="made up", route="/v1/predict")
    with pytest.raises(UpstreamLimited), metrics.predictions.track(made_up, lambda: 75.0):
        raise UpstreamLimited("slow down")
    assert told(metrics, "dspy_predictions_total") == {"gpt-4 success baseline": 4, "other error predict": 1}
    assert told(metrics, "dspy_cache_operations_total") == {"none miss": 1, "memory hit": 2, "redis hit": 1}
    assert told(metrics, "dspy_prediction_cost_total") == {"gpt-4 baseline": 0.000031}
    assert told(metrics, "dspy_token_usage_total") == {"gpt-4 input": 7, "gpt-4 output": 8}
    assert told(metrics, "dspy_errors_total") == {"rate_limit_exceeded": 1}
    assert told(metrics, "dspy_active_predictions") == {"": 0}
    durations = told(metrics, "dspy_prediction_duration_seconds_bucket")
    assert (durations["0.1 gpt-4 baseline"], durations["0.25 gpt-4 baseline"]) == (3, 4)
    assert (durations["60.0 other predict"], durations["+Inf other predict"]) == (0, 1)
    text = metrics.render().decode()
    assert 'dspy_predictions_total{model="gpt-4",status="success",variant="baseline"} 4.0' in text
    assert 'dspy_cache_operations_total{level="memory",operation="hit"} 2.0' in text
    assert 'dspy_token_usage_total{model="gpt-4",type="input"} 7.0' in text


@pytest.mark.parametrize(
    ("fault", "called"),
    [
        (ZeroDivisionError(), "internal_error"),
        (ClientLeft("gone"), "client_left"),
        (asyncio.CancelledError(), "client_left"),
    ],
)
def test_whatever_ends_a_prediction_is_an_error_of_a_known_type(
    metrics: Metrics, make_record: Make, fault: BaseException, called: str
) -> None:
    with pytest.raises(type(fault)), metrics.predictions.track(make_record(), lambda: 7.0):
        raise fault
    assert told(metrics, "dspy_errors_total") == {called: 1}
    assert told(metrics, "dspy_active_predictions") == {"": 0}


def test_what_a_prediction_had_used_when_it_failed_is_paid_as_well(metrics: Metrics, make_record: Make) -> None:
    used = make_record(model="gpt-4", route="/v1/predict/react", outcome="miss", tier="", cost=31_000)
    with pytest.raises(UpstreamLimited), metrics.predictions.track(used, lambda: 7.0):
        raise UpstreamLimited("slow down")
    assert told(metrics, "dspy_prediction_cost_total") == {"gpt-4 react": 0.000031}
    assert told(metrics, "dspy_token_usage_total") == {"gpt-4 input": 9, "gpt-4 output": 12}
    assert told(metrics, "dspy_cache_operations_total") == {}, "nothing was found"


def test_other_requests_move_none_of_them(metrics: Metrics, make_record: Make) -> None:
    before = sorted(dspy(metrics))
    metrics.observe(make_record(model="gpt-4"))
    metrics.observe(make_record(model="gpt-4", outcome="miss", tier="", status=502, error="upstream_error"))
    metrics.attempted(Attempt("s", "groq/x", 1, 0.0, stream=False, ending="broken", error="io_error", cost=9, model="gpt-4"))
    assert sorted(dspy(metrics)) == before == [("dspy_active_predictions", "", 0)]


def test_programs_beyond_a_number_are_counted_together(metrics: Metrics, make_record: Make) -> None:
    for number in range(40):
        with metrics.predictions.track(make_record(model="fast", route=f"/v1/predict/program-{number}"), lambda: 7.0):
            pass
    counted = told(metrics, "dspy_predictions_total")
    assert counted["fast success program-15"] == 1
    assert counted["other success other"] == 24
    assert len(counted) == 17
