"""Limits in headers: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.

What a refused caller is told besides (`Retry-After`, `retry-after-ms`) goes with every error that may be retried. Pure.
"""

import math
from typing import Final

from sentinel_gateway.core.limits import Standing

Header = tuple[bytes, bytes]

SECOND: Final = 1000
"""Milliseconds: what durations are cut to."""
WINDOW: Final = 60
"""Seconds: all such limits are a minute's."""


def limit_headers(requests: Standing | None, tokens: Standing | None) -> list[Header]:
    """How the tightest limits stand; nothing where there are none."""
    headers: list[Header] = []
    policies, rests = [], []
    for kind, standing in ((b"requests", requests), (b"tokens", tokens)):
        if standing is not None:
            limit, remaining, reset = standing.limit, standing.remaining, standing.reset
            headers += (
                (b"x-ratelimit-limit-" + kind, b"%d" % limit),
                (b"x-ratelimit-remaining-" + kind, b"%d" % remaining),
                (b"x-ratelimit-reset-" + kind, _duration(reset)),
            )
            policies.append(b'"%b";q=%d;w=%d' % (kind, limit, WINDOW))
            rests.append(b'"%b";r=%d;t=%d' % (kind, remaining, math.ceil(reset)))
    if headers:
        headers += (b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(rests))
    return headers


def _duration(seconds: float) -> bytes:
    """As Go writes it: 88ms, 1.5s, 6m0s, 1h0m2s."""
    milliseconds = round(seconds * SECOND)
    if milliseconds < SECOND:
        return b"%dms" % milliseconds if milliseconds else b"0s"
    minutes, milliseconds = divmod(milliseconds, WINDOW * SECOND)
    rest = (b"%d.%03d" % divmod(milliseconds, SECOND)).rstrip(b"0").rstrip(b".") + b"s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%b" % (hours, minutes, rest)
    return b"%dm%b" % (minutes, rest) if minutes else rest
