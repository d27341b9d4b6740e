"""Errors outside the OpenAI routes: RFC 9457 problem documents that also carry the seeds' `error` string."""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from sentinel_gateway.api.exchange import ErrorForm
from sentinel_gateway.errors import RequestError, Unprocessable

PROBLEM: Final = "application/problem+json"


def problem_body(error: RequestError, *, errors: list[dict[str, Any]] | None = None) -> bytes:
    """The document; `errors` are `{field, message}` for each wrong field, or `{loc, msg}` as the seeds have them."""
    if isinstance(error, Unprocessable):
        errors = [{"loc": place, "msg": sentence} for place, sentence in error.faults]
    status = error.http_status
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "error": error.message,
        "code": error.shown_code,
    }
    return msgspec.json.encode(document if errors is None else {**document, "errors": errors})


PROBLEMS: Final = ErrorForm(PROBLEM.encode(), lambda error, _: problem_body(error))
