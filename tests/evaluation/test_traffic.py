"""A log's lines become requests, with what else is known of them; what isn't clear is told."""

import pytest

from sentinel_gateway.evaluation.rows import Bad, Row
from sentinel_gateway.evaluation.traffic import Logged, read_log

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


def one(fields) -> Logged | Bad:
    (found,) = read_log([Row(3, fields)])
    return found


def test_a_body_alone_is_a_request():
    assert one(BODY) == Logged(3, BODY)
    assert one({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": BODY}) == Logged(3, BODY)


def test_what_stands_around_a_body_is_read():
    found = one({"body": BODY, "timestamp": 1772359200, "response": ANSWER, "seconds": 0.5, "tenant": "acme"})
    assert (found.fields, found.at, found.seconds, found.tenant, found.failed) == (BODY, 1772359200.0, 0.5, "acme", False)
    assert found.answer.finish_reasons == ("stop",)
    failed = one({"body": BODY, "response": {"error": {"message": "no"}}})
    assert (failed.failed, failed.answer) == (True, None)


@pytest.mark.parametrize(
    "timestamp",
    [
        1772359200,
        1772359200.0,
        1772359200_000,
        1772359200_000_000,
        1772359200_000_000_000,
        "2026-03-01T10:00:00Z",
        "2026-03-01T10:00:00",
        "2026-03-01T11:00:00+01:00",
    ],
)
def test_a_time_may_be_written_in_many_ways(timestamp):
    assert one({"body": BODY, "timestamp": timestamp}).at == 1772359200.0


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"prompt": "Hi"}, "is no chat request"),
        ({"body": "Hi"}, "is no chat request"),
        ({"body": {"model": "m", "input": "Hi"}}, "is no chat request"),
        ({"body": BODY, "timestamp": "yesterday"}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "timestamp": True}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "timestamp": -1}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "timestamp": 1e10}, "has a 'timestamp' that is neither a Unix time nor an ISO one of the years 1970 to"),
        ({"body": BODY, "timestamp": 1e300}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "timestamp": 10**400}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "timestamp": "9999-12-31T23:59:59-12:00"}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "timestamp": "0001-01-01T00:00:00"}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "seconds": 1e9}, "has a 'timestamp' that is neither"),
        ({"body": BODY, "response": "Hello"}, "has a 'response' that is neither"),
        ({"body": BODY, "response": {"choices": []}}, "has a 'response' that is neither"),
        ({"body": BODY, "tenant": 7}, "has a 'tenant' that is no text"),
        ({"body": BODY, "tenant": "x" * 257}, "has a 'tenant' that is no text"),
    ],
)
def test_what_is_not_clear_is_told_by_its_line(fields, fault):
    found = one(fields)
    assert (found.line, found.fault.startswith(fault)) == (3, True)
    assert list(read_log([Bad(9, "is not JSON")])) == [Bad(9, "is not JSON")]
