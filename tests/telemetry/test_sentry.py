"""Sentry is told of faults of our own: type and place, and nothing that a caller wrote. A sink reads what is sent."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sentinel_gateway.telemetry.events import Telemetry
from sentinel_gateway.telemetry.logs import LogWriter
from sentinel_gateway.telemetry.metrics import Metrics
from sentinel_gateway.telemetry.sentry import SentryReports
from tests.telemetry.conftest import DEADLINE

CANARY = "canary-of-a-prompt"


class Sink(ThreadingHTTPServer):
    """Takes reports as Sentry does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Envelopes)
        self.raw: list[bytes] = []
        self.heads: list[str] = []
        self.status = 200

    @property
    def dsn(self) -> str:
        return f"http://public@127.0.0.1:{self.server_port}/7"

    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(raw.splitlines()[2]) for raw in self.raw]


class _Envelopes(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.raw.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        self.server.heads.append(f"{self.path} {self.headers}")
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def telemetry(sink: Sink, open_log: Callable[..., LogWriter]) -> Iterator[tuple[Telemetry, SentryReports]]:
    reports = SentryReports(sink.dsn)
    events = Telemetry(Metrics("1"), open_log("error"), time.time)
    events.report = reports.report
    yield events, reports
    reports.close()


def fail(events: Telemetry, prompt: str) -> None:
    local = {"messages": prompt}
    try:
        try:
            local[prompt]
        except KeyError as exc:
            raise ValueError(f"no such prompt: {prompt}") from exc
    except ValueError:
        events.note("internal_error", error="ValueError", at="rows.py:7", sentinel_id="0af7")


def test_a_fault_of_ours_is_told_by_its_place(sink: Sink, telemetry: tuple[Telemetry, SentryReports]) -> None:
    events, reports = telemetry
    fail(events, CANARY)
    reports.close()
    [report] = sink.reports()
    errors = report["exception"]["values"]
    assert [error["type"] for error in errors] == ["KeyError", "ValueError"]
    assert [error["value"] for error in errors] == ["", ""]
    frame = errors[-1]["stacktrace"]["frames"][-1]
    assert (frame["function"], "vars" in frame) == ("fail", False)
    assert report["extra"] == {"error": "ValueError", "at": "rows.py:7", "sentinel_id": "0af7"}
    assert report["release"].startswith("sentinel-gateway@")
    assert not report.keys() & {"request", "user", "breadcrumbs"}
    assert CANARY not in repr(sink.raw) + repr(sink.heads)


def test_other_events_are_not_told(sink: Sink, telemetry: tuple[Telemetry, SentryReports]) -> None:
    events, reports = telemetry
    events.note("target_failed", error="upstream_error", target="a/b")
    events.note("draining")
    reports.close()
    assert sink.raw == []


def test_one_fault_that_comes_again_and_again_is_told_once(sink: Sink, telemetry: tuple[Telemetry, SentryReports]) -> None:
    events, reports = telemetry
    for number in range(500):
        fail(events, f"{CANARY}-{number}")
    events.note("internal_error", error="KeyError", at="rows.py:8")
    reports.close()
    assert [report["extra"]["at"] for report in sink.reports()] == ["rows.py:7", "rows.py:8"]


def test_a_sentry_that_is_away_or_fails_holds_nobody_up(sink: Sink, telemetry: tuple[Telemetry, SentryReports]) -> None:
    events, _ = telemetry
    sink.status = 500
    away = SentryReports("http://public@127.0.0.1:1/7")
    for report in (events.report, away.report):
        events.report = report
        started = time.monotonic()
        fail(events, CANARY)
        assert time.monotonic() - started < DEADLINE / 2
    started = time.monotonic()
    away.close()
    assert time.monotonic() - started < DEADLINE
