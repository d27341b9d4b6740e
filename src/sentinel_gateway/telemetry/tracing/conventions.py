"""What OpenTelemetry's semantic conventions call what we know: attributes of requests, calls of providers, and cache tiers.

Ours begin with `sentinel.`. None holds a prompt, an answer, a header or a key; what a caller chose is cut and made harmless.
"""

from typing import Final

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import client_attributes, error_attributes, http_attributes

from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.telemetry.lines import clean

Attributes = dict[str, str | bool | int | float]
PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Whose name is another there than here."""
EMBEDDINGS: Final = "/v1/embeddings"
TIER: Final = "sentinel.cache.tier"
FOUND: Final = "sentinel.cache.result"
WHY: Final = "sentinel.cache.detail"


def operation(route: str) -> str:
    """What a provider is asked to do for a route: all that is no embedding is a chat there."""
    return "embeddings" if route == EMBEDDINGS else "chat"


def of_request(record: Record) -> Attributes:
    """Of the span of a whole request."""
    shown: Attributes = {
        http_attributes.HTTP_REQUEST_METHOD: clean(record.method),
        http_attributes.HTTP_ROUTE: record.route,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: record.status,
        client_attributes.CLIENT_ADDRESS: clean(record.client),
        "sentinel.id": record.sentinel_id,
    }
    if record.error:
        shown[error_attributes.ERROR_TYPE] = clean(record.error)
    if record.model:
        shown |= {
            gen_ai.GEN_AI_OPERATION_NAME: operation(record.route),
            gen_ai.GEN_AI_REQUEST_MODEL: clean(record.model),
            gen_ai.GEN_AI_REQUEST_STREAM: record.stream,
            gen_ai.GEN_AI_USAGE_INPUT_TOKENS: record.prompt_tokens,
            gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: record.completion_tokens,
            "sentinel.cache.outcome": record.outcome,
            TIER: record.tier,
            "sentinel.target": clean(record.target),
            "sentinel.attempts": record.attempts,
            "sentinel.cost.usd": record.cost / NANO_PER_USD,
            "sentinel.saved.usd": record.saved / NANO_PER_USD,
        }
    return shown


def of_call(attempt: Attempt) -> Attributes:
    """What a call of a provider is told apart by, for metrics: closed words, and the model as the provider calls it."""
    provider, _, model = attempt.target.partition("/")
    shown: Attributes = {
        gen_ai.GEN_AI_OPERATION_NAME: operation(attempt.route),
        gen_ai.GEN_AI_PROVIDER_NAME: PROVIDERS.get(provider, provider),
        gen_ai.GEN_AI_REQUEST_MODEL: clean(model),
    }
    if attempt.error:
        shown[error_attributes.ERROR_TYPE] = clean(attempt.error)
    return shown


def of_attempt(attempt: Attempt) -> Attributes:
    """Of the span of such a call."""
    shown = of_call(attempt) | {
        gen_ai.GEN_AI_REQUEST_STREAM: attempt.stream,
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: attempt.prompt_tokens,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: attempt.completion_tokens,
        "sentinel.attempt": attempt.number,
        "sentinel.attempt.ending": attempt.ending,
        "sentinel.attempt.hedge": attempt.hedge,
        "sentinel.cost.usd": attempt.cost / NANO_PER_USD,
    }
    if attempt.first_token_seconds:
        shown[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = attempt.first_token_seconds
    return shown
