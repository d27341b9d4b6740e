"""docs/tracing.md names what is sent, and its settings are there."""

import re
from pathlib import Path

from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.tracing import Tracing
from sentinel_gateway.telemetry.tracing import conventions, export, measures

PAGE = (Path(__file__).parents[2] / "docs" / "tracing.md").read_text()


def test_metrics_settings_and_limits_are_those_of_the_code():
    metrics = {value for name, value in vars(measures.gen_ai_metrics).items() if name.startswith("GEN_AI_CLIENT")}
    named = set(re.findall(r"^\| `(gen_ai\.client[\w.]+)`", PAGE, re.MULTILINE))
    assert metrics == named
    for name in Tracing.model_fields:
        assert f"tracing.{name}" in PAGE or f"{{{name}:" in PAGE
    for attribute in (conventions.TIER, conventions.FOUND, conventions.WHY):
        assert f"`{attribute}`" in PAGE
    assert f"waits {export.FLUSH:g} s for it at most" in PAGE
    kept = BatchSpanProcessor._default_max_queue_size()  # noqa: SLF001 - the SDK tells it nowhere else
    assert f"{kept:,} spans" in PAGE


def test_its_configuration_holds(tmp_path):
    [yaml] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "sentinel.yaml"
    file.write_text(yaml)
    [endpoint] = re.findall(r"export OTEL_EXPORTER_OTLP_ENDPOINT=(\S+)", PAGE)
    tracing = load({"HOME": "/h", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, cwd=tmp_path, config=file).settings.tracing
    assert (tracing.pass_to, tracing.address("traces")) == (("vllm",), f"{endpoint}/v1/traces")
