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

NOTHING: Final = Lines(b"")


def limit_headers(requests: Standing | None, tokens: Standing | None) -> Lines:
    """How the tightest limits stand; nothing where there are none."""
    if requests is not None and tokens is not None:
        lines, quota, left = _told("requests", requests)
        more, second_quota, second_left = _told_again("tokens", tokens)
        text = f"{lines}{more}ratelimit-policy: {quota}, {second_quota}\r\nratelimit: {left}, {second_left}\r\n"
        return Lines(text.encode("ascii"))
    if requests is not None:
        return _alone(*_told("requests", requests))
    return _alone(*_told("tokens", tokens)) if tokens is not None else NOTHING


def _alone(told: str, quota: str, left: str) -> Lines:
    return Lines(f"{told}ratelimit-policy: {quota}\r\nratelimit: {left}\r\n".encode("ascii"))


def _told(kind: str, standing: Standing) -> tuple[str, str, str]:
    """OpenAI's three lines, and the members of the two structured headers."""
    remaining, reset = f"{standing.remaining}", standing.reset
    head, quota = _granted(kind, standing.limit)
    lines = f"{head}{remaining}\r\nx-ratelimit-reset-{kind}: {_duration(reset)}\r\n"
    return lines, quota, f'"{kind}";r={remaining};t={-(-reset // 1000)}'


@lru_cache(maxsize=256)
def _granted(kind: str, limit: int) -> tuple[str, str]:
    """What a limit says of itself, up to what remains of it."""
    return f"x-ratelimit-limit-{kind}: {limit}\r\nx-ratelimit-remaining-{kind}: ", f'"{kind}";q={limit};w=60'


_told_again: Final = lru_cache(maxsize=256)(_told)
"""Hits cost no tokens, so these mostly stand as they stood."""


def _duration(milliseconds: int) -> str:
    """As Go writes it: 88ms, 1.5s, 6m0s, 1h0m2s."""
    if milliseconds < SECOND:
        return f"{milliseconds}ms" if milliseconds else "0s"
    if milliseconds < MINUTE:
        return f"{milliseconds / 1000:g}s"
    minutes, rest = divmod(milliseconds, MINUTE)
    hours = f"{minutes // 60}h" if milliseconds >= HOUR else ""
    return f"{hours}{minutes % 60}m{rest / 1000:g}s"
