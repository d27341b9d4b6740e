"""The writer: lines in order and whole, and an output that is slow, stuck or gone touches nobody."""

import fcntl
import os
import threading
import time
from collections.abc import Callable

import pytest

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.logs import LogWriter
from tests.telemetry.conftest import DEADLINE, Output, decoded, wait_until

Make = Callable[..., Record]
Open = Callable[..., LogWriter]


def test_lines_come_in_order(output: Output, open_log: Open, make_record: Make) -> None:
    log = open_log()
    for number in range(1, 1201):
        log.request(make_record(status=number))
    log.event("store_down", {"tier": "disk"}, level="warning")
    *requests, event = decoded(output.lines(1201))
    assert [line["status"] for line in requests] == list(range(1, 1201))
    assert event == {"timestamp": "2027-01-15T08:00:00Z", "level": "warning", "event": "store_down", "tier": "disk"}


def test_nothing_is_missed_between_two_naps(output: Output, open_log: Open, make_record: Make) -> None:
    log = open_log()
    for number in range(1, 4):
        log.request(make_record(status=number))
        assert decoded(output.lines(1))[0]["status"] == number


def test_all_threads_are_heard(output: Output, open_log: Open) -> None:
    log = open_log()
    threads = [threading.Thread(target=lambda: [log.event("tick", {"n": n}) for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    lines = decoded(output.lines(2000))
    for thread in threads:
        thread.join()
    assert sorted(line["n"] for line in lines) == sorted([*range(500)] * 4)


@pytest.mark.parametrize(("level", "kept"), [("trace", 4), ("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_level_filters(output: Output, open_log: Open, make_record: Make, level: str, kept: int) -> None:
    log = open_log(level)
    for changes in ({"route": "/livez"}, {}, {"status": 502}, {"status": 500}):
        log.request(make_record(**changes))
    log.close()
    assert len(output.rest().splitlines()) == kept


def test_closing_writes_what_is_queued_and_ends_the_thread(output: Output, open_log: Open, make_record: Make) -> None:
    before = set(threading.enumerate())
    log = open_log()
    for _ in range(100):
        log.request(make_record())
    log.close()
    assert len(output.rest().splitlines()) == 100
    assert set(threading.enumerate()) <= before, "those that were here may have ended"


def test_frozen_output_does_not_block_and_drops_are_reported_once(output: Output, open_log: Open, make_record: Make) -> None:
    log = open_log(capacity=1000)
    for _ in range(400):  # more than the pipe takes
        log.request(make_record())
    wait_until(lambda: output.stuck)  # nobody reads: the writer hangs in its write
    assert repr(log).endswith(" 0 lost>")
    started = time.monotonic()
    for _ in range(20_000):
        log.request(make_record())
    assert time.monotonic() - started < DEADLINE
    assert output.stuck
    lines = decoded(output.lines(1001))
    while lines[-1]["event"] == "request":
        lines += decoded(output.lines(1))
    *requests, report = lines
    assert report["event"] == "log_lines_lost"
    assert report["level"] == "warning"
    assert report["count"] >= 19_000
    assert len(requests) + report["count"] == 20_400
    log.request(make_record(status=201))
    log.close()
    assert [line["event"] for line in decoded(output.rest().splitlines())] == ["request"]


def test_closing_gives_up_on_a_frozen_output(output: Output, open_log: Open, make_record: Make) -> None:
    log = open_log(flush=0.1)
    for _ in range(1000):
        log.request(make_record())
    wait_until(lambda: output.stuck)
    started = time.monotonic()
    log.close()
    assert time.monotonic() - started < DEADLINE


def test_a_closed_output_raises_nothing_and_the_log_goes_on_when_it_is_back(
    output: Output, open_log: Open, make_record: Make
) -> None:
    log = open_log()
    output.close_reader()
    for _ in range(5):
        log.request(make_record())
    wait_until(lambda: "5 lost" in repr(log))
    again = Output()
    os.dup2(again.written, output.written)
    log.request(make_record(status=201))
    request, report = decoded(again.lines(2))
    assert (request["status"], report["event"], report["count"]) == (201, "log_lines_lost", 5)
    again.close()


def test_an_output_that_somebody_made_non_blocking_loses_nothing(output: Output, open_log: Open, make_record: Make) -> None:
    fcntl.fcntl(output.written, fcntl.F_SETFL, os.O_NONBLOCK)
    log = open_log()
    for _ in range(1000):
        log.request(make_record())
    wait_until(lambda: output.stuck)
    assert {line["event"] for line in decoded(output.lines(1000))} == {"request"}


def test_closing_on_a_stuck_non_blocking_output_ends_the_thread(output: Output, open_log: Open, make_record: Make) -> None:
    fcntl.fcntl(output.written, fcntl.F_SETFL, os.O_NONBLOCK)
    before = set(threading.enumerate())
    log = open_log(flush=0.1)
    for _ in range(1000):
        log.request(make_record())
    wait_until(lambda: output.stuck)
    log.close()
    wait_until(lambda: set(threading.enumerate()) <= before)
