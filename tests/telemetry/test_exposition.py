"""Metrics are written as Prometheus' library writes them."""

import pytest
from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
    UntypedMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar

from sentinel_gateway.telemetry.exposition import written
from sentinel_gateway.telemetry.metrics import Metrics

ODD = 'a "b"\\n\nc\\ é {}'
NUMBERS = [0, 1, -1, 3.0, 0.1, 1e-9, 123456.5, 1234567, 12345678.9, 1e21, 2**63, float("inf"), float("-inf"), float("nan")]


class Registry:
    """As the library asks one."""

    def __init__(self, families):
        self.families = families

    def collect(self):
        return self.families


@pytest.fixture
def families():
    """Of all types that there are here."""
    counter = CounterMetricFamily("things", ODD, labels=["z", "a"])
    counter.add_metric([ODD, "x"], 3)
    gauge = GaugeMetricFamily("level", "How high.", labels=["n"])
    for number in NUMBERS:
        gauge.add_metric([str(number)], number)
    times = HistogramMetricFamily("seconds", "How long.", labels=["route"])
    exemplars = Exemplar({"trace_id": "abc"}, 0.25, 1700000000.125), Exemplar({"z": ODD, "a": "b"}, 3.5, None)
    buckets = list(zip(("0.5", "5.0", "+Inf"), (1, 2, 2), (*exemplars, None), strict=True))
    times.add_metric(["/a"], buckets, sum_value=3.75)
    info = InfoMetricFamily("build", "What it is.", value={"version": "1.0"})
    summary = SummaryMetricFamily("bytes", "How large.", count_value=2, sum_value=7)
    return [
        counter,
        gauge,
        times,
        info,
        summary,
        UntypedMetricFamily("odd", "", value=1),
        *ProcessCollector(registry=None).collect(),
    ]


def test_both_forms_are_those_of_the_library(families):
    assert written(families, "text") == exposition.generate_latest(Registry(families))
    assert written(families, "openmetrics") == openmetrics.generate_latest(Registry(families))


def test_all_that_a_process_tells_is_of_a_kind_that_is_written_so():
    """No family has a unit, a moment or the moment of its making, which are left out."""
    families = list(Metrics("1.0").families())
    test_both_forms_are_those_of_the_library(families)
    assert len(families) > 20
