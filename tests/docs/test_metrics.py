"""docs/metrics.md is made from the code, and what it says is so.

After changing a metric or an alert: `python -m tests.docs.test_metrics` writes the tables anew.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.errors import UpstreamLimited
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.catalogue import Family
from sentinel_gateway.telemetry.metrics import Metrics
from tests.servers import PROMETHEUS, PrometheusServer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
PARTS = {
    "Of seed 002": catalogue.SEED_002,
    "Requests": catalogue.REQUEST_METRICS,
    "Providers": catalogue.PROVIDER_METRICS,
    "Models": catalogue.MODEL_METRICS,
    "How it is": catalogue.STATE_METRICS,
    "Alerts, where they are on": catalogue.ALERT_METRICS,
    "Reworded questions, where the semantic tier is on": catalogue.SEMANTIC_METRICS,
    "Of seed 001: but for the circuits they move with predictions only": catalogue.SEED_001,
}
FAMILIES = [family for part in PARTS.values() for family in part]


def metrics_tables() -> str:
    return (
        "".join(
            f"### {title}\n\n| metric | type | labels | |\n|---|---|---|---|\n{''.join(map(row, part))}\n"
            for title, part in PARTS.items()
        )
        + labels_table()
    )


def row(family: Family) -> str:
    buckets = f" Buckets: {', '.join(f'{bound:g}' for bound in family.buckets)} s." if family.buckets else ""
    labels = ", ".join(f"`{name}`" for name in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels} | {family.text}{buckets} |\n"


def labels_table() -> str:
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in catalogue.LABELS.items())
    return (
        "### The process\n\n`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`, "
        "`process_open_fds`, `process_max_fds`, `process_start_time_seconds`, as Prometheus' libraries name them (on Linux).\n\n"
        f"### Labels\n\n| label | values |\n|---|---|\n{rows}"
    )


def alerts_table() -> str:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    rows = (
        f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', '')} | {rule['annotations']['description']} |\n"
        for rule in rules
    )
    return f"| alert | severity | after | |\n|---|---|---|---|\n{''.join(rows)}"


MADE = {"alerts": alerts_table, "metrics": metrics_tables}


def parts(page: str, name: str) -> tuple[str, str, str]:
    before, begin, rest = re.split(rf"(<!-- {name}: [^\n]*-->\n)", page)
    table, end, after = re.split(rf"(<!-- /{name} -->)", rest)
    return before + begin, table, end + after


@pytest.mark.parametrize("name", MADE)
def test_the_tables_equal_the_code(name):
    assert parts(PAGE.read_text(), name)[1] == MADE[name]()


def all_families() -> Iterator[Family]:
    for value in vars(catalogue).values():
        if isinstance(value, Family):
            yield value


def test_every_metric_of_the_catalogue_is_on_the_page_once():
    assert len(FAMILIES) == len({family.name for family in FAMILIES})
    assert {family.name for family in FAMILIES} == {family.name for family in all_families()}
    assert {label for family in FAMILIES for label in family.labels} | {"quantile"} == catalogue.LABELS.keys()


def test_every_label_that_is_served_is_in_the_catalogue():
    metrics = Metrics("1")
    record = Record(5.0, "", "", "/v1/chat/completions", "POST", 200, 0.1, outcome="miss", model="m", target="a/b", saved=1)
    with metrics.predictions.track(record, lambda: 6.0):
        metrics.observe(record)
    with pytest.raises(UpstreamLimited), metrics.predictions.track(record, lambda: 6.0):
        raise UpstreamLimited("slow down")
    for basis in ("price", "unknown"):
        metrics.attempted(
            Attempt(
                "", "a/b", 1, 5.0, stream=True, ending="broken", error="io_error", first_token_seconds=1.0, cost=1, basis=basis
            )
        )
    metrics.update_circuits({"m": "open"})
    metrics.update_dependencies({"disk": "up"})
    metrics.event("draining")
    known = {family.name.removesuffix("_total").removesuffix("_info"): {*family.labels} for family in FAMILIES}
    for family in text_string_to_metric_families(metrics.render().decode()):
        if not family.name.startswith("process_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le", "quantile"}
            assert labels == known[family.name.removesuffix("_info")], family.name


def examples() -> list[str]:
    [block] = re.findall(r"```promql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_every_example_names_metrics_that_are_there():
    served = {family.name for family in FAMILIES} | {f"{f.name}_bucket" for f in FAMILIES if f.kind == "histogram"}
    for query in examples():
        names = re.findall(r"\b(?:sentinel|request|requests)_[a-z_]+\b", query)
        assert names, query
        assert set(names) <= served


def test_prometheus_understands_every_example(tmp_path, absent):
    binary = PROMETHEUS or absent("prometheus: make test-deps installs it")
    with PrometheusServer(binary, tmp_path, "global: {}\n") as prometheus:
        for query in examples():
            assert prometheus.ask(query) == []
        with pytest.raises(AssertionError):
            prometheus.ask("rate(")


if __name__ == "__main__":
    for name, made in MADE.items():
        before, _, after = parts(PAGE.read_text(), name)
        PAGE.write_text(before + made() + after)
