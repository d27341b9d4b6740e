"""The load generator counts right, and measures from the right moment."""

import asyncio
import json
import math
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos import ChaosUpstream
from bench.client import Exchange
from bench.load import Clients, Message, OpenLoop, Quantiles, Turn, closed_loop, open_loop, summarise
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

CHAT = "/chat/completions"


def chat(number, **more):
    return Message(json.dumps({"model": "m", "messages": [{"role": "user", "content": f"number {number}"}], **more}).encode())


def stream(number):
    return chat(number, stream=True)


def test_quantiles_by_nearest_rank():
    assert Quantiles.of([]) == Quantiles(0, 0, 0, 0)
    assert Quantiles.of([3.0]) == Quantiles(3, 3, 3, 3)
    assert Quantiles.of([4.0, 1.0, 3.0, 2.0]) == Quantiles(p50=2, p95=4, p99=4, max=4)
    assert Quantiles.of(range(1, 1001)) == Quantiles(p50=500, p95=950, p99=990, max=1000)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_quantile_is_the_least_value_that_covers_its_share(sample):
    quantiles = Quantiles.of(sample)
    for share, value in ((0.5, quantiles.p50), (0.95, quantiles.p95), (0.99, quantiles.p99), (1.0, quantiles.max)):
        assert value in sample
        assert sum(each <= value for each in sample) >= share * len(sample)
        assert sum(each < value for each in sample) < share * len(sample)
    assert quantiles.p50 == statistics.median_low(sample)


def test_the_report_of_known_exchanges():
    done = [
        (Turn(0, 10.0), Exchange("", sent=10.5, first_byte=11.0, last_byte=12.0)),
        (Turn(1, 20.0), Exchange("", 20.0, 21.0, 30.0, events=5, first_event=21.0, last_event=29.0)),
        (Turn(2, 20.0), Exchange("503", 20.0, 20.1, 20.1)),
        (Turn(3, 20.0), Exchange("timeout", 24.0, 0.0, 99.0, events=2)),
        (Turn(4, 20.0), Exchange("503", 20.0, 20.1, 20.1)),
    ]
    report = summarise(done, 4.0)
    assert (report.requests, report.good, report.problems) == (5, 2, {"503": 2, "timeout": 1})
    assert (report.seconds, report.rate, report.events) == (4.0, 0.5, 5)
    assert report.latency == Quantiles(2, 10, 10, 10)
    assert report.first_byte == Quantiles(1, 1, 1, 1)
    assert report.per_event == Quantiles(2, 2, 2, 2)
    assert report.lateness == Quantiles(0, 4, 4, 4)


@undisturbed
async def test_so_many_requests_each_unlike_the_others(upstream):
    upstream.reset()
    report = await closed_loop(upstream.base_url + CHAT, chat, Clients(4), requests=50)
    assert (report.requests, report.good, report.problems) == (50, 50, {})
    asked = {call.body["messages"][0]["content"] for call in upstream.calls}
    assert asked == {f"number {number}" for number in range(50)}
    assert 0 < report.first_byte.p50 <= report.latency.p50 <= report.latency.p99 <= report.latency.max < 5


@undisturbed
async def test_so_many_seconds_and_so_many_at_a_time(upstream):
    upstream.reset()
    report = await closed_loop(upstream.url_with("latency_ms=40") + CHAT, chat, Clients(8), seconds=0.5)
    assert report.good == report.requests == len(upstream.calls)
    assert 8 < report.good <= 8 * 13, "each asks again, as long as there is time"
    assert 0.5 <= report.seconds < 5
    assert report.latency.p50 >= 0.038


@undisturbed
async def test_a_ramp_spreads_the_beginnings(upstream):
    upstream.reset()
    await closed_loop(upstream.url_with("latency_ms=700") + CHAT, chat, Clients(4, ramp=0.6), requests=4)
    first, *_, last = sorted(call.started for call in upstream.calls)
    assert last - first >= 0.2, "0.45, or less where the first was late"


async def test_headers_are_sent(upstream):
    def make(number):
        return Message(chat(number).body, (("Authorization", "Bearer sk-test"), ("x-number", str(number))))

    await closed_loop(upstream.base_url + CHAT, make, Clients(1), requests=2)
    assert [(call.headers["authorization"], call.headers["x-number"]) for call in upstream.calls] == [
        ("Bearer sk-test", "0"),
        ("Bearer sk-test", "1"),
    ]


@undisturbed
async def test_streams_are_counted_by_event(upstream):
    upstream.reset()
    report = await closed_loop(upstream.url_with("chunks=20;chunk_ms=5") + CHAT, stream, Clients(2), requests=4)
    assert (report.good, report.events) == (4, 4 * (1 + 20 + 1 + 1))
    assert report.latency.p50 >= 0.09
    assert report.first_byte.p50 < report.latency.p50 / 2
    assert 0.003 < report.per_event.p50 < report.latency.p50 / 8


async def test_events_are_counted_over_the_borders_of_reads(upstream):
    """Each byte in a read of its own."""
    report = await closed_loop(upstream.url_with("trickle;chunks=2") + CHAT, stream, Clients(1), requests=1)
    assert (report.good, report.events) == (1, 5)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("err=503", "503"),
        ("err=404", "404"),
        ("cut_after=2", "connection lost"),
        ("rst_after=2", "connection lost"),
        ("cut_after=-1", "connection lost"),
        ("no_done", "no [DONE]"),
        ("sse_error_after=1", "no [DONE]"),
        ("stall_after=1", "timeout"),
    ],
)
@undisturbed
async def test_a_bad_answer_is_a_problem(upstream, fault, problem):
    upstream.reset()
    upstream.script(fault, times=2)
    report = await closed_loop(upstream.base_url + CHAT, stream, Clients(1, patience=0.6), requests=3)
    assert (report.requests, report.good, report.problems) == (3, 1, {problem: 2})


@undisturbed
async def test_a_server_that_goes_away_is_a_problem():
    async with ChaosUpstream() as upstream:
        leaving = asyncio.create_task(closed_loop(upstream.url_with("latency_ms=50") + CHAT, chat, Clients(1), seconds=1.0))
        while upstream.count < 2:  # noqa: ASYNC110 - the mock counts; it doesn't tell
            await asyncio.sleep(0.01)
    report = await leaving
    assert report.good >= 1
    assert report.problems.keys() == {"connection lost", "no connection"}


async def test_no_server_at_all_is_an_error():
    with pytest.raises(OSError, match="onnect"):
        await closed_loop("http://127.0.0.1:1/v1/chat/completions", chat, Clients(1), requests=1)


async def test_a_closed_loop_without_an_end_is_refused():
    with pytest.raises(ValueError, match="number of requests or of seconds"):
        await closed_loop("http://127.0.0.1:1/", chat, Clients(1))


@undisturbed
async def test_an_open_loop_sends_at_its_rate(upstream):
    upstream.reset()
    report = await open_loop(upstream.base_url + CHAT, chat, Clients(64), rate=100, seconds=0.5)
    assert report.good == report.requests == 50
    starts = sorted(call.started for call in upstream.calls)
    assert starts[-1] - starts[0] > 0.25
    assert report.latency.p50 < 1


async def test_an_open_loop_gives_no_turn_before_its_moment():
    schedule = OpenLoop(rate=333, seconds=0.3)
    while (turn := await schedule.next()) is not None:
        assert time.perf_counter() >= turn.planned


async def test_an_open_loop_counts_the_wait_for_a_free_connection(upstream):
    """Answers take 30 ms, requests come each 10 ms: the last of 20 waits for all before it, though its own exchange is short."""
    report = await open_loop(upstream.url_with("latency_ms=30") + CHAT, chat, Clients(1), rate=100, seconds=0.2)
    assert report.good == 20
    assert report.latency.max >= 20 * 0.029 - 19 * 0.01
    assert report.lateness.max >= report.latency.max - 0.2
    assert report.latency.p50 >= 10 * 0.029 - 10 * 0.01


@pytest.mark.parametrize("more", [["--requests", "20"], ["--rate", "100", "--seconds", "0.2"], ["--requests", "20", "--stream"]])
def test_as_a_program(more):
    root = Path(__file__).parents[2]
    mock = [sys.executable, "-m", "bench.chaos"]
    with subprocess.Popen(mock, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() + CHAT
            load = [sys.executable, "-m", "bench.load", url, "--header", "x-chaos: chunks=3", *more]
            text = subprocess.run(load, cwd=root, capture_output=True, text=True, check=True, timeout=20).stdout
        finally:
            process.terminate()
    assert re.match(r"20 requests, 20 good, ", text)
    row = next(line.split() for line in text.splitlines() if line.startswith("latency"))
    assert all(math.isfinite(float(number)) and float(number) > 0 for number in row[1:])
