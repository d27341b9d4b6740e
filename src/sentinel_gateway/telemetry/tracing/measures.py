"""The metrics that the GenAI conventions have for whoever calls a model. Only what was billed counts: hits are none of them."""

from collections.abc import Callable
from functools import partial
from typing import Final

from opentelemetry.metrics import Histogram, Meter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from sentinel_gateway.core.record import Attempt
from sentinel_gateway.telemetry.tracing.conventions import of_call

SECONDS: Final = [0.01 * 2**step for step in range(14)]
"""Boundaries that the conventions advise, up to 81.92 s."""
TOKENS: Final = [float(4**step) for step in range(14)]
"""The same, up to 67,108,864 tokens."""


class Measures:
    """Of the calls of providers."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, unit: str, bounds: list[float]) -> Histogram:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION, "s", SECONDS)
        self._first = histogram(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, "s", SECONDS)
        self._chunks = histogram(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK, "s", SECONDS)
        self._tokens = histogram(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE, "{token}", TOKENS)

    def chunks(self, attempt: Attempt) -> Callable[[float], None]:
        """To be told of each chunk of its stream but the first: the seconds since the one before."""
        return partial(self._chunks.record, attributes=of_call(attempt))

    def add(self, attempt: Attempt) -> None:
        """Count a call that has ended."""
        shown = of_call(attempt)
        self._duration.record(attempt.seconds, shown)
        if attempt.first_token_seconds:
            self._first.record(attempt.first_token_seconds, shown)
        for kind, tokens in (("input", attempt.prompt_tokens), ("output", attempt.completion_tokens)):
            if tokens:
                self._tokens.record(tokens, shown | {gen_ai.GEN_AI_TOKEN_TYPE: kind})
