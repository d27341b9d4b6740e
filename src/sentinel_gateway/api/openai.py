"""The OpenAI face: which paths it has, with and without `/v1`, and whose they are; every error in OpenAI's shape.

No path is ever redirected: a redirected POST loses its body.
"""

from collections.abc import Awaitable
from typing import Final

from sentinel_gateway.api.chat import ChatCompletions
from sentinel_gateway.api.exchange import JSON, ErrorForm, Exchange
from sentinel_gateway.api.models import Models
from sentinel_gateway.api.wire.openai import error_body
from sentinel_gateway.errors import RouteNotFound

CHAT: Final = frozenset({"/v1/chat/completions", "/chat/completions", "/v1/chat/completions/", "/chat/completions/"})
MODELS: Final = frozenset({"/v1/models", "/models", "/v1/models/", "/models/"})
ONE_MODEL: Final = ("/v1/models/", "/models/")
PREFIXES: Final = ("/v1/", "/chat/", "/models/")
NOT_OURS: Final = ("/v1/query", "/v1/metrics")
"""Sentinel's own, among OpenAI's."""
ERRORS: Final = ErrorForm(JSON, error_body)


def is_openai(path: str) -> bool:
    """Does this path belong to the OpenAI face?"""
    return path in CHAT or path in MODELS or (path.startswith(PREFIXES) and not path.startswith(NOT_OURS))


class OpenAIPaths:
    """From paths to endpoints."""

    def __init__(self, chat: ChatCompletions, models: Models) -> None:
        self._chat = chat
        self._models = models

    def route(self, exchange: Exchange) -> Awaitable[None]:
        """Have a request answered; raises `RequestError`s."""
        path = exchange.path
        if path in CHAT:
            exchange.journey.route = self._chat.route
            return self._chat.handle(exchange)
        if path in MODELS:
            return self._models.handle(exchange, None)
        if path.startswith(ONE_MODEL):
            return self._models.handle(exchange, path[path.index("/models/") + len("/models/") :].removesuffix("/"))
        raise RouteNotFound(
            f"Unknown path '{path[:200]}'. Served here: POST /v1/chat/completions, GET /v1/models, GET /v1/models/MODEL."
        )
