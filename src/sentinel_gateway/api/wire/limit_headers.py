"""Limits in headers: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.

What a refused caller is told besides (`Retry-After`, `retry-after-ms`) goes with every error that may be retried. Pure.
"""

import math
from functools import lru_cache
from typing import Final

from sentinel_gateway.core.limits import Standing

Header = tuple[bytes, bytes]

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
"""Seconds: all such limits are a minute's."""
HOUR: Final = 3600


def limit_headers(requests: Standing | None, tokens: Standing | None) -> list[Header]:
    """How the tightest limits stand; nothing where there are none."""
    if requests is None:
        return [] if tokens is None else _told(b"tokens", tokens, _policies(None, tokens.limit))
    if tokens is None:
        return _told(b"requests", requests, _policies(requests.limit, None))
    return [
        *_policies(requests.limit, tokens.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % requests.remaining),
        (b"x-ratelimit-reset-requests", _duration(requests.reset)),
        (b"x-ratelimit-remaining-tokens", b"%d" % tokens.remaining),
        (b"x-ratelimit-reset-tokens", _duration(tokens.reset)),
        (
            b"ratelimit",
            b'"requests";r=%d;t=%d, "tokens";r=%d;t=%d'
            % (requests.remaining, math.ceil(requests.reset), tokens.remaining, math.ceil(tokens.reset)),
        ),
    ]


def _told(kind: bytes, standing: Standing, policies: tuple[Header, ...]) -> list[Header]:
    return [
        *policies,
        (b"x-ratelimit-remaining-" + kind, b"%d" % standing.remaining),
        (b"x-ratelimit-reset-" + kind, _duration(standing.reset)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (kind, standing.remaining, math.ceil(standing.reset))),
    ]


@lru_cache(maxsize=1024)
def _policies(requests: int | None, tokens: int | None) -> tuple[Header, ...]:
    """What stays the same from answer to answer."""
    limits = [(kind, limit) for kind, limit in ((b"requests", requests), (b"tokens", tokens)) if limit is not None]
    policy = b", ".join(b'"%b";q=%d;w=%d' % (kind, limit, WINDOW) for kind, limit in limits)
    return *((b"x-ratelimit-limit-" + kind, b"%d" % limit) for kind, limit in limits), (b"ratelimit-policy", policy)


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
