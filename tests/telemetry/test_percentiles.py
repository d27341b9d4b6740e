"""Percentiles of the last minutes: how near they are to the truth, and what they are of."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.catalogue import LATENCY_BUCKETS, OWN_BUCKETS
from sentinel_gateway.telemetry.metrics import Metrics
from sentinel_gateway.telemetry.percentiles import EVERY, FINE, KEPT, coarse, percentile

START = 1_800_000_000.0


def told(metrics: Metrics, outcome: str = "exact") -> dict[str, float]:
    family = next(f for f in text_string_to_metric_families(metrics.render().decode()) if f.name == "sentinel_latency_seconds")
    return {s.labels["quantile"]: s.value for s in family.samples if "quantile" in s.labels and s.labels["outcome"] == outcome}


def counted(durations: list[float]) -> list[int]:
    counts = [0] * (len(FINE) + 1)
    for seconds in durations:
        counts[next((place for place, bound in enumerate(FINE) if seconds <= bound), len(FINE))] += 1
    return counts


@given(
    durations=st.lists(st.floats(min_value=0.0001, max_value=500.0), min_size=1, max_size=60),
    share=st.sampled_from((0.01, 0.5, 0.9, 0.99, 0.999)),
)
def test_a_percentile_is_within_a_tenth_of_the_exact_one(durations: list[float], share: float) -> None:
    exact = sorted(durations)[max(math.ceil(share * len(durations)) - 1, 0)]
    assert exact / 1.1001 <= percentile(counted(durations), share) <= exact * 1.1001


@pytest.mark.parametrize("buckets", [LATENCY_BUCKETS, OWN_BUCKETS])
def test_the_buckets_of_histograms_are_sums_of_the_fine_ones(buckets: tuple[float, ...]) -> None:
    chance = random.Random(3)
    durations = [
        *buckets,
        *(math.nextafter(bound, 9e9) for bound in buckets),
        *(chance.lognormvariate(-4, 3) for _ in range(999)),
    ]
    bounds = [0.0, *buckets, math.inf]
    expected = [sum(low < one <= high for one in durations) for low, high in pairwise(bounds)]
    assert coarse(counted(durations), buckets) == expected


def test_nothing_came(make_record: Callable[..., Record]) -> None:
    metrics = Metrics("1")
    assert told(metrics) == {}
    metrics.observe(make_record(at=START))
    metrics.update_time(START + KEPT * EVERY + 1)
    assert list(map(math.isnan, told(metrics).values())) == [True] * 3
    assert b'sentinel_latency_seconds_count{outcome="exact",route="/v1/chat/completions"} 1.0' in metrics.render()


def test_percentiles_are_of_the_last_minutes(make_record: Callable[..., Record]) -> None:
    metrics = Metrics("1")
    now = START
    for minute in range(20):
        for number in range(100):
            slow = minute < 10
            metrics.observe(make_record(at=now + number / 2, seconds=1.0 if slow else 0.01))
        now += EVERY
        p50 = told(metrics)["0.5"]
        if minute < 10:
            assert math.isclose(p50, 1.0, rel_tol=0.1)
        if minute > 10 + KEPT:
            assert math.isclose(told(metrics)["0.99"], 0.01, rel_tol=0.1), minute
    metrics.update_time(now)
    metrics.update_time(now + 3 * EVERY)
    assert math.isclose(told(metrics)["0.5"], 0.01, rel_tol=0.1), "four minutes ago is within the window"
    metrics.update_time(now + (KEPT + 1) * EVERY)
    assert math.isnan(told(metrics)["0.5"])


def test_hits_and_misses_are_told_apart_and_probes_left_out(make_record: Callable[..., Record]) -> None:
    metrics = Metrics("1")
    metrics.percentiles = (50.0, 99.9)
    for number in range(1000):
        metrics.observe(make_record(at=START, seconds=0.0002 if number else 0.5))
        metrics.observe(make_record(at=START, outcome="miss", tier="", seconds=2.0))
        metrics.observe(make_record(at=START, outcome="none", tier="", route="/health", seconds=9.0))
    assert told(metrics).keys() == {"0.5", "0.999"}
    assert math.isclose(told(metrics)["0.5"], 0.0002, rel_tol=0.1)
    assert math.isclose(told(metrics, "miss")["0.5"], 2.0, rel_tol=0.1)
    assert told(metrics, "none") == {}
