"""Where traces and metrics are sent by OpenTelemetry's protocol. All else is read by its SDK, from `OTEL_*`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from sentinel_gateway.settings.network import check_otlp
from sentinel_gateway.settings.room import Room, Texts

Address = Annotated[str, AfterValidator(check_otlp)]


class Tracing(Room):
    endpoint: Address | None = Field(
        default=None,
        description="OTLP endpoint (HTTP) for traces and metrics, such as http://localhost:4318. Unset: none are made.",
    )
    traces_endpoint: Address | None = Field(default=None, description="The whole address for traces, where it is another.")
    metrics_endpoint: Address | None = Field(default=None, description="The whole address for metrics, where it is another.")
    pass_to: Texts = Field(default=(), description="Providers that are told of the trace (traceparent): servers of your own.")

    def address(self, signal: str) -> str:
        """Where `traces` or `metrics` are sent; empty if nowhere."""
        own = self.traces_endpoint if signal == "traces" else self.metrics_endpoint
        return own or (f"{self.endpoint.rstrip('/')}/v1/{signal}" if self.endpoint else "")
