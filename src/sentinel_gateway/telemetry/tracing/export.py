"""Where spans and metrics go: to OTLP endpoints over HTTP, by the SDK's own threads.

All else is the SDK's to read from the environment: samplers, batches, headers, certificates, timeouts (`OTEL_*`).
"""

import threading
from collections.abc import Callable, Collection
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sentinel_gateway import __version__
from sentinel_gateway.telemetry.tracing.measures import Measures
from sentinel_gateway.telemetry.tracing.spans import Tracing

SCOPE: Final = "sentinel_gateway"
FLUSH: Final = 5.0
"""Seconds that closing waits for an endpoint."""


class Exports:
    """The SDK's providers. Each endpoint is the whole address; an empty one is none."""

    def __init__(self, *, traces: str, metrics: str, service: str, version: str) -> None:
        resource = Resource.create({"service.version": version}).merge(_named(service))
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        if traces:
            self.tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(traces)))
        readers = [PeriodicExportingMetricReader(OTLPMetricExporter(metrics))] if metrics else []
        self.meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._measured = bool(metrics)

    def __repr__(self) -> str:
        return "<Exports>"

    def tracing(self, pass_to: Collection[str], clock: Callable[[], float]) -> Tracing:
        """What makes spans of what the path tells."""
        measures = Measures(self.meters.get_meter(SCOPE, __version__)) if self._measured else None
        return Tracing(self.tracers.get_tracer(SCOPE, __version__), measures, pass_to=pass_to, clock=clock)

    def close(self) -> None:
        """Send what is left, and give up on an endpoint that does not take it."""
        closing = threading.Thread(target=self._shut_down, name="sentinel-otlp", daemon=True)
        closing.start()
        closing.join(FLUSH)

    def _shut_down(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


def _named(service: str) -> Resource:
    """`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which the SDK has read, stand above our own name."""
    named = Resource.create().attributes.get("service.name", "")
    return Resource({"service.name": service} if str(named).startswith("unknown_service") else {})
