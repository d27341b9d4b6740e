"""OpenTelemetry: traces and metrics by the semantic conventions. Loaded only where an OTLP endpoint is set."""
