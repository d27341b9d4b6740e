"""The outermost ASGI app: each face by its paths, everything else to management, CORS around all where it is on."""

from collections.abc import Awaitable
from typing import Final, NamedTuple

from starlette.middleware.cors import CORSMiddleware

from sentinel_gateway.api.anthropic import is_anthropic
from sentinel_gateway.api.asgi import DIRECT, App, Direct, Receive, Scope, Send
from sentinel_gateway.api.browsers import Pages
from sentinel_gateway.api.eager import own_task
from sentinel_gateway.api.openai import POSTS, is_openai
from sentinel_gateway.api.predict import is_predict
from sentinel_gateway.api.query import is_query
from sentinel_gateway.api.wire.anthropic_errors import HEADERS as ANTHROPIC_HEADERS
from sentinel_gateway.api.wire.budget_headers import BUDGET_HEADERS
from sentinel_gateway.api.wire.limit_headers import LIMIT_HEADERS

EXPOSED: Final = (
    "x-request-id",
    "x-sentinel-id",
    "x-cache",
    "cache-status",
    "age",
    "x-cache-similarity",
    "x-cache-stale",
    "x-cache-confidence",
    "x-cache-matched-id",
    "x-cache-explain",
    "x-cache-items",
    "x-sentinel-experiment",
    "x-sentinel-cost-usd",
    "x-sentinel-saved-usd",
    "x-sentinel-cost-basis",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "idempotent-replayed",
    *LIMIT_HEADERS,
    *BUDGET_HEADERS,
    *ANTHROPIC_HEADERS,
)
"""Our headers, which browsers show to scripts of other origins only if told to."""


class Faces(NamedTuple):
    """The apps of the dialects."""

    openai: App
    anthropic: App
    query: App
    predict: App


def build_gateway(faces: Faces, management: App, pages: Pages) -> App:
    """The app that the server runs."""

    async def manage(scope: Scope, receive: Receive, send: Send) -> None:
        await own_task()  # its libraries ask for the current one
        await management(scope, receive, send)

    def gateway(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        if path in POSTS:  # as most are
            return faces.openai(scope, receive, send)
        if is_anthropic(scope):
            return faces.anthropic(scope, receive, send)
        if is_openai(path):
            return faces.openai(scope, receive, send)
        app = faces.query if is_query(path) else faces.predict if is_predict(path) else manage
        return app(scope, receive, send)

    def within_cors(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        direct: Direct | None = scope.get("extensions", {}).get(DIRECT)
        if direct is not None:  # CORS adds to every answer
            direct.keep_to_messages()
        return gateway(scope, receive, send)

    if not pages.origins:
        return gateway
    return CORSMiddleware(
        within_cors,
        allow_origins=pages.origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        allow_credentials=pages.credentials,
        expose_headers=EXPOSED,
    )
