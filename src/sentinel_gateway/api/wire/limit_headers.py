"""Limits in headers: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.

What a refused caller is told besides (`Retry-After`, `retry-after-ms`) goes with every error that may be retried. Pure.
"""

import math
from typing import Final

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.core.limits import Standing

LIMIT_HEADERS: Final = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "ratelimit-policy",
    "ratelimit",
)
"""All names, for whoever must list them."""
WINDOW: Final = 60
"""Seconds in a minute, which all such limits are for."""
HOUR: Final = 3600

_TELLS: Final = b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
_ONE: Final = _TELLS + b'ratelimit-policy: "%b";q=%%d;w=60\r\nratelimit: "%b";r=%%d;t=%%d\r\n'
_REQUESTS: Final = _ONE % ((b"requests",) * 5)
_TOKENS: Final = _ONE % ((b"tokens",) * 5)
_BOTH: Final = (
    _TELLS % ((b"requests",) * 3)
    + _TELLS % ((b"tokens",) * 3)
    + b'ratelimit-policy: "requests";q=%d;w=60, "tokens";q=%d;w=60\r\nratelimit: "requests";r=%d;t=%d, "tokens";r=%d;t=%d\r\n'
)


def limit_headers(requests: Standing | None, tokens: Standing | None) -> Lines:
    """How the tightest limits stand; nothing where there are none."""
    if requests is not None and tokens is not None:
        numbers = (requests.limit, tokens.limit, *_rest(requests), *_rest(tokens))
        return Lines(_BOTH % (*_told(requests), *_told(tokens), *numbers))
    if requests is not None:
        return Lines(_REQUESTS % (*_told(requests), requests.limit, *_rest(requests)))
    return Lines(_TOKENS % (*_told(tokens), tokens.limit, *_rest(tokens))) if tokens is not None else Lines(b"")


def _told(standing: Standing) -> tuple[int, int, bytes]:
    return standing.limit, standing.remaining, _duration(standing.reset)


def _rest(standing: Standing) -> tuple[int, int]:
    return standing.remaining, math.ceil(standing.reset)


def _duration(seconds: float) -> bytes:
    """As Go writes it, in milliseconds: 88ms, 1.5s, 6m0s, 1h0m2s."""
    if 1 <= seconds < WINDOW:
        return b"%gs" % seconds
    if seconds < 1:
        return b"%dms" % round(seconds * 1000) if seconds else b"0s"
    minutes, rest = divmod(seconds, WINDOW)
    if seconds < HOUR:
        return b"%dm%gs" % (minutes, round(rest, 3))
    return b"%dh%dm%gs" % (*divmod(minutes, 60), round(rest, 3))
