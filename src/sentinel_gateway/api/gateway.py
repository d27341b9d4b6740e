"""The outermost ASGI app: the OpenAI face by its paths, everything else to management, CORS around both where it is on."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.middleware.cors import CORSMiddleware

from sentinel_gateway.api.exchange import Receive, Scope, Send
from sentinel_gateway.api.openai import is_openai

App = Callable[[Scope, Receive, Send], Awaitable[None]]

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
)
"""Our headers, which browsers show to scripts of other origins only if told to."""


class CorsPolicy(msgspec.Struct, frozen=True):
    """Origins that may call from a browser; `credentials` never together with `*`."""

    origins: tuple[str, ...]
    credentials: bool


def build_gateway(openai: App, management: App, cors: CorsPolicy | None) -> App:
    """The app that the server runs."""

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        await (openai if is_openai(scope["path"]) else management)(scope, receive, send)

    if cors is None:
        return gateway
    return CORSMiddleware(
        gateway,
        allow_origins=cors.origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        allow_credentials=cors.credentials,
        expose_headers=EXPOSED,
    )
