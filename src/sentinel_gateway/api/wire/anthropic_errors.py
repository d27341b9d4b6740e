"""Anthropic's errors, and the headers that its clients look for. Pure."""

import math
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.api.wire.anthropic_answer import WHEN
from sentinel_gateway.core.limits import Standing
from sentinel_gateway.errors import Overloaded, RequestError, UpstreamOverloaded

OVERLOADED: Final = 529
TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
"""By status. Others: `invalid_request_error` where the request is at fault, else `api_error`."""
TOO_LONG: Final = "context_length_exceeded"
TOO_LONG_WORDS: Final = "prompt is too long"
"""Anthropic has no code for it: its clients know it by these words, and shorten the conversation."""
LIMIT_HEADERS: Final = tuple(
    f"anthropic-ratelimit-{kind}-{what}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")
)
HEADERS: Final = ("request-id", *LIMIT_HEADERS)
"""All names, for whoever must list them."""
_NAMED: Final = re.compile(r"[\w.\[\]-]+")

_encode = msgspec.json.Encoder().encode


def status_of(error: RequestError) -> int:
    """As Anthropic answers it: it has a status of its own for too much to do, here or at a provider."""
    return OVERLOADED if isinstance(error, Overloaded | UpstreamOverloaded) else error.http_status


def error_body(error: RequestError, request_id: str) -> bytes:
    """Anthropic's error object. The field that is wrong stands in the message: there is no other place for it."""
    status = status_of(error)
    kind = TYPES.get(status) or ("invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error")
    return _encode({"type": "error", "error": {"type": kind, "message": _message(error)}, "request_id": request_id})


def error_event(error: RequestError, request_id: str) -> bytes:
    """The same as the last event of a stream."""
    return b"event: error\ndata: %b\n\n" % error_body(error, request_id)


def _message(error: RequestError) -> str:
    if error.shown_code == TOO_LONG and TOO_LONG_WORDS not in error.message.lower():
        return f"{TOO_LONG_WORDS}: {error.message}"
    param = error.param or ""
    return error.message if not _NAMED.fullmatch(param) or param in error.message else f"{param}: {error.message}"


def id_header(request_id: str) -> Lines:
    """The request's id, under the name that Anthropic's clients know."""
    return Lines(b"request-id: %b\r\n" % request_id.encode("ascii"))


def limit_headers(requests: Standing | None, tokens: Standing | None, *, now: float) -> Lines:
    """How the tightest limits stand; nothing where there are none. `now` in Unix seconds: Anthropic tells when, not how long."""
    standings = (("requests", requests), ("tokens", tokens))
    told = [_told(kind, standing, now) for kind, standing in standings if standing is not None]
    return Lines("".join(told).encode("ascii"))


def _told(kind: str, standing: Standing, now: float) -> str:
    whole = datetime.fromtimestamp(math.ceil(now + standing.reset / 1000), UTC)
    name = f"anthropic-ratelimit-{kind}"
    return f"{name}-limit: {standing.limit}\r\n{name}-remaining: {standing.remaining}\r\n{name}-reset: {whole:{WHEN}}\r\n"
