"""A log of one's own traffic: what was asked, when, and what was answered, request by request.

A line is the body of an OpenAI chat request, or `{"body": {...}}` around it, with what else is known: `timestamp`, `response`,
`seconds`, `tenant`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Answer, Fields, read_answer
from sentinel_gateway.evaluation.rows import Bad, Row

LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""No log is of a later time: one such line would move the clock, which never goes back, past all the others."""
FINER: Final = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""A Unix time above this is in so many parts of a second (nano, micro, milli): in the next coarser ones it would be later."""
LONGEST: Final = 86_400.0
"""Seconds that a request may have taken."""
NAME_CHARACTERS: Final = 256


_NO_TIME: Final = (
    "has a 'timestamp' that is neither a Unix time nor an ISO one of the years 1970 to 2199, or 'seconds' that are no number "
    f"from 0 to {LONGEST:,.0f}"
)


class Logged(msgspec.Struct, frozen=True):
    """One request. What is unknown is None. `at` in Unix seconds; `seconds` that the answer took. `failed`: it was an error."""

    line: int
    fields: Fields
    at: float | None = None
    answer: Answer | None = None
    failed: bool = False
    seconds: float | None = None
    tenant: str = ""


def read_log(rows: Iterable[Row | Bad]) -> Iterator[Logged | Bad]:
    """Each line as a request."""
    return (row if isinstance(row, Bad) else _read(row) for row in rows)


def _read(row: Row) -> Logged | Bad:
    members = row.fields if "body" in row.fields else {"body": row.fields}
    body = members["body"]
    if not isinstance(body, dict) or "messages" not in body:
        return Bad(row.line, "is no chat request: it has no 'messages', neither itself nor in a 'body'")
    try:
        at, seconds = _time(members.get("timestamp")), _seconds(members.get("seconds"))
    except (ValueError, OverflowError):
        return Bad(row.line, _NO_TIME)
    response = members.get("response")
    answer = read_answer(response)
    if response is not None and answer is None and not _is_error(response):
        return Bad(row.line, "has a 'response' that is neither a chat.completion nor an error")
    tenant = members.get("tenant") or ""
    if not isinstance(tenant, str) or len(tenant) > NAME_CHARACTERS:
        return Bad(row.line, f"has a 'tenant' that is no text of up to {NAME_CHARACTERS} characters")
    failed = response is not None and answer is None
    return Logged(row.line, body, at, answer, failed, seconds, tenant)


def _is_error(response: Any) -> bool:
    return isinstance(response, dict) and bool(response.get("error"))


def _time(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    else:
        number = _number(value)
        at = number / next((parts for above, parts in FINER if number > above), 1.0)
    if not 0 <= at < LATEST:
        raise ValueError(value)
    return at


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if _number(value) > LONGEST:
        raise ValueError(value)
    return _number(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(value)
    return float(value)
