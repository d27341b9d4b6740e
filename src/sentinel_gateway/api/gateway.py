"""The outermost ASGI app: each face by its paths, everything else to management, CORS around all where it is on."""

from collections.abc import Awaitable
from typing import Final

from starlette.middleware.cors import CORSMiddleware

from sentinel_gateway.api.asgi import App, Receive, Scope, Send
from sentinel_gateway.api.browsers import Pages
from sentinel_gateway.api.eager import own_task
from sentinel_gateway.api.openai import is_openai
from sentinel_gateway.api.query import is_query
from sentinel_gateway.api.wire.limit_headers import LIMIT_HEADERS

EXPOSED: Final = (
    "x-request-id",
    "x-sentinel-id",
    "x-cache",
    "cache-status",
    "age",
    "x-cache-similarity",
    "x-cache-confidence",
    "x-cache-matched-id",
    "x-cache-explain",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "idempotent-replayed",
    *LIMIT_HEADERS,
)
"""Our headers, which browsers show to scripts of other origins only if told to."""


def build_gateway(openai: App, query: App, management: App, pages: Pages) -> App:
    """The app that the server runs."""

    async def manage(scope: Scope, receive: Receive, send: Send) -> None:
        await own_task()  # its libraries ask for the current one
        await management(scope, receive, send)

    def gateway(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        app = openai if is_openai(path) else query if is_query(path) else manage
        return app(scope, receive, send)

    if not pages.origins:
        return gateway
    return CORSMiddleware(
        gateway,
        allow_origins=pages.origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        allow_credentials=pages.credentials,
        expose_headers=EXPOSED,
    )
