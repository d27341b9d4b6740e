"""Errors outside the OpenAI routes: RFC 9457 problem documents that also carry the seeds' `error` string."""

from typing import Final

import msgspec

from sentinel_gateway.errors import RequestError

PROBLEM: Final = "application/problem+json"

TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


def problem_body(error: RequestError, *, errors: list[dict[str, str]] | None = None) -> bytes:
    """The document; `errors` are `{field, message}` for each wrong field."""
    status = error.http_status
    document = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": error.message,
        "error": error.message,
        "code": error.shown_code,
    }
    return msgspec.json.encode(document if errors is None else {**document, "errors": errors})
