"""Limits in headers: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.

What a refused caller is told besides (`Retry-After`, `retry-after-ms`) goes with every error that may be retried. Pure.
"""

from functools import lru_cache
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
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE


@lru_cache(maxsize=1024)
def limit_headers(requests: Standing | None, tokens: Standing | None) -> Lines:
    """How the tightest limits stand; nothing where there are none.

    Remembered: whoever asks no faster than its limit refills is told the same each time.
    """
    told = [_told(kind, standing) for kind, standing in (("requests", requests), ("tokens", tokens)) if standing is not None]
    if not told:
        return Lines(b"")
    lines, quotas, left = zip(*told, strict=True)
    text = f"{''.join(lines)}ratelimit-policy: {', '.join(quotas)}\r\nratelimit: {', '.join(left)}\r\n"
    return Lines(text.encode("ascii"))


def _told(kind: str, standing: Standing) -> tuple[str, str, str]:
    """OpenAI's three lines, and the members of the two structured headers."""
    limit, remaining, reset = standing.limit, standing.remaining, standing.reset
    lines = (
        f"x-ratelimit-limit-{kind}: {limit}\r\nx-ratelimit-remaining-{kind}: {remaining}\r\n"
        f"x-ratelimit-reset-{kind}: {_duration(reset)}\r\n"
    )
    return lines, f'"{kind}";q={limit};w=60', f'"{kind}";r={remaining};t={-(-reset // SECOND)}'


def _duration(milliseconds: int) -> str:
    """As Go writes it: 88ms, 1.5s, 6m0s, 1h0m2s."""
    if milliseconds < SECOND:
        return f"{milliseconds}ms" if milliseconds else "0s"
    if milliseconds < MINUTE:
        return f"{milliseconds / SECOND:g}s"
    minutes, rest = divmod(milliseconds, MINUTE)
    hours = f"{minutes // 60}h" if milliseconds >= HOUR else ""
    return f"{hours}{minutes % 60}m{rest / SECOND:g}s"
