"""The OpenAI face: which paths it has, with and without `/v1`; every error in OpenAI's shape."""

from typing import Final

from sentinel_gateway.api.exchange import JSON, ErrorForm
from sentinel_gateway.api.paths import MODELS, spellings
from sentinel_gateway.api.wire.openai import error_body

ROUTES: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""Those that take a POST."""
POSTS: Final = frozenset(path for route in ROUTES for path in spellings(route))
PREFIXES: Final = ("/v1/", "/chat/", "/models/")
NOT_OURS: Final = ("/v1/query", "/v1/predict", "/v1/metrics", "/v1/feedback")
"""Sentinel's own, among OpenAI's."""
ERRORS: Final = ErrorForm(JSON, lambda error, _: error_body(error))


def is_openai(path: str) -> bool:
    """Does this path belong to the OpenAI face?"""
    return (path.startswith(PREFIXES) and not path.startswith(NOT_OURS)) or path in POSTS or path in MODELS
