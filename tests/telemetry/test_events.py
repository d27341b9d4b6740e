"""One word from the path reaches both the metrics and the log."""

import weakref
from collections.abc import Callable
from typing import get_args

import msgspec
import pytest

from sentinel_gateway.core.record import Attempt, Ending, Record, bare
from sentinel_gateway.telemetry.events import Telemetry
from sentinel_gateway.telemetry.logs import LogWriter
from sentinel_gateway.telemetry.metrics import Metrics
from tests.telemetry.conftest import Output, decoded, wait_until

Make = Callable[..., Record]
Open = Callable[..., LogWriter]


class Prompt:
    """What only the path needs."""


class UnderWay(Record, kw_only=True):
    """As the path's own journey."""

    prompt: Prompt


class Followed:
    """A `Trace`."""

    trace_id, span_id, sampled = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True


def test_a_request_is_counted_and_logged(output: Output, open_log: Open, make_record: Make) -> None:
    metrics, log = Metrics("1"), open_log()
    telemetry = Telemetry(metrics, log, lambda: 7.0)
    telemetry.finished(make_record())
    log.close()
    assert metrics.totals().exact_hits == 1
    assert decoded(output.rest().splitlines())[0]["status"] == 200


def test_a_change_of_state_is_counted_and_logged(output: Output, open_log: Open) -> None:
    metrics, log = Metrics("1"), open_log()
    telemetry = Telemetry(metrics, log, lambda: 7.0)
    telemetry.note("entry_dropped", queue=5.0, full=True)
    telemetry.note("store_down", tier="disk", error="OSError")
    log.close()
    dropped, down = decoded(output.rest().splitlines())
    assert (dropped["level"], dropped["event"], dropped["queue"], dropped["full"]) == ("info", "entry_dropped", 5.0, True)
    assert (down["level"], down["event"], down["tier"], down["error"]) == ("warning", "store_down", "disk", "OSError")
    assert b'sentinel_events_total{event="store_down"} 1.0' in metrics.render()


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, "info"),
        ({"text": "x"}, "info"),
        ({"error": "x"}, "warning"),
        ({"reason": "x"}, "warning"),
        ({"faults": "x"}, "warning"),
    ],
)
def test_what_says_what_went_wrong_is_a_warning(output: Output, open_log: Open, fields: dict[str, str], level: str) -> None:
    log = open_log()
    Telemetry(Metrics("1"), log, lambda: 7.0).note("something", **fields)
    log.close()
    (line,) = decoded(output.rest().splitlines())
    assert line["level"] == level


def test_a_fault_of_ours_is_an_error_with_its_place(output: Output, open_log: Open) -> None:
    log = open_log(level="error")
    Telemetry(Metrics("1"), log, lambda: 7.0).note("internal_error", error="KeyError", at="rows.py:7")
    log.close()
    (line,) = decoded(output.rest().splitlines())
    assert (line["level"], line["at"]) == ("error", "rows.py:7")


def test_a_target_that_another_stood_in_for_has_failed_all_the_same(output: Output, open_log: Open, make_record: Make) -> None:
    metrics = Metrics("1")
    telemetry = Telemetry(metrics, open_log(), lambda: 7.0)
    telemetry.attempted(Attempt("s", "a/b", 1, 7.0, stream=False, ending="timeout", error="upstream_timeout"))
    telemetry.finished(make_record(outcome="miss", tier="", target="c/d"))
    assert b'upstream_errors_total{error_type="upstream_timeout"} 1.0' in metrics.render()


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_attempt_leaves_a_line_where_the_provider_failed_us_or_was_paid_for_nothing(
    output: Output, open_log: Open, ending: Ending
) -> None:
    """What a request asked for wrongly, and who left, is told on the line of the request."""
    metrics, log = Metrics("1"), open_log()
    error = "" if ending in {"answered", "left", "lost"} else "what_it_was"
    attempt = Attempt("s-1", "a/b", 2, 7.0, True, False, ending, error, seconds=0.25, completion_tokens=3)
    Telemetry(metrics, log, lambda: 7.0).attempted(attempt)
    log.close()
    lines = decoded(output.rest().splitlines())
    assert f'sentinel_upstream_attempts_total{{outcome="{ending}",provider="a"}} 1.0'.encode() in metrics.render()
    if ending in {"answered", "refused", "left"}:
        assert lines == []
    elif ending == "lost":
        (line,) = lines
        told = {name: line[name] for name in ("level", "event", "target", "attempt", "seconds", "tokens", "sentinel_id")}
        assert list(told.values()) == ["info", "target_lost", "a/b", 2, 0.25, 3, "s-1"]
    else:
        (line,) = lines
        names = ("level", "event", "target", "error", "outcome", "attempt", "seconds", "tokens", "sentinel_id")
        assert [line[name] for name in names] == ["warning", "target_failed", "a/b", error, ending, 2, 0.25, 3, "s-1"]


def test_a_refused_request_is_counted_and_logged_as_of_now(output: Output, open_log: Open) -> None:
    metrics, log = Metrics("1"), open_log()
    telemetry = Telemetry(metrics, log, lambda: 7.0)
    telemetry.opened()
    telemetry.refused(Record(0.0, "r", "s", "unmatched", "", status=431, error="request_header_fields_too_large"))
    log.close()
    (line,) = decoded(output.rest().splitlines())
    assert (line["status"], line["error"], line["timestamp"]) == (431, "request_header_fields_too_large", "1970-01-01T00:00:07Z")
    assert b'requests_total{method="other",route="unmatched",status="431"} 1.0' in metrics.render()
    assert b"active_connections 1.0" in metrics.render()
    telemetry.closed()
    assert b"active_connections 0.0" in metrics.render()


def test_what_waits_to_be_written_is_the_record_alone(output: Output, open_log: Open, make_record: Make) -> None:
    """A request that has ended may hold its prompt, and what it is traced by; a log that is stuck must not."""
    metrics, log = Metrics("1"), open_log()
    waiting: list[Record] = []
    telemetry = Telemetry(metrics, log, lambda: 7.0)
    telemetry.also_write(waiting.append)
    for _ in range(400):  # more than the pipe takes
        telemetry.finished(make_record())
    wait_until(lambda: output.stuck)
    under_way = UnderWay(**msgspec.structs.asdict(make_record(status=201, trace=Followed())), prompt=Prompt())
    prompt, trace = weakref.ref(under_way.prompt), weakref.ref(under_way.trace)
    telemetry.finished(under_way)
    del under_way
    assert (prompt(), trace()) == (None, None)
    line = decoded(output.lines(401))[-1]
    assert (line["status"], line["trace_id"], line["span_id"]) == (201, Followed.trace_id, Followed.span_id)
    assert waiting[-1] == make_record(status=201, trace_id=Followed.trace_id, span_id=Followed.span_id, sampled=True)
    assert type(waiting[-1]) is Record


def test_a_record_that_is_bare_already_is_not_copied(make_record: Make) -> None:
    record = make_record()
    assert bare(record) is record
