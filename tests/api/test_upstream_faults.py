"""What goes wrong behind the gateway: each fault has one documented answer, in time, and only what is complete is kept."""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass

import pytest

from bench.chaos import ChaosUpstream
from tests.gateway import CHAT, DEADLINE, Answer, chat, one_provider, running_gateway, until
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

TIMEOUTS = ", timeouts: {first_byte: 1.5, idle: 1.2, total: 3}"
LATEST = 15.0
"""Seconds: far from what `total` allows and from the minute that the provider would take."""


@dataclass(frozen=True)
class Ends:
    """How a request ends: with this status and error code, or, `within` the stream, with this error event."""

    status: int = 200
    code: str | None = None
    within: bool = False
    kept: bool = False


GOOD = Ends(kept=True)
NOT_KEPT = Ends()
BROKEN = Ends(502, "upstream_error")
CUT = Ends(200, "upstream_error", within=True)
LATE = Ends(504, "upstream_timeout")
SILENT = Ends(200, "upstream_timeout", within=True)
REFUSED = "upstream_refused"

OUTCOMES: dict[str, tuple[Ends, Ends]] = {
    # The first is how a whole answer ends, the second how a stream does.
    **{f"err={status}": (Ends(status, REFUSED),) * 2 for status in (400, 404, 405, 409, 410, 413, 415, 418, 422)},
    **{f"err={status}": (Ends(502, "upstream_unauthorized"),) * 2 for status in (401, 402, 403)},
    **{f"err={status}": (BROKEN,) * 2 for status in (500, 501, 502, 503, 504, 529, 599)},
    "err=408": (LATE, LATE),
    "err=429": (Ends(429, "rate_limit_exceeded"),) * 2,
    **{f"err=500;err_body={body}": (BROKEN,) * 2 for body in ("text", "empty", "html")},
    **{f"err=400;err_body={body}": (Ends(400, REFUSED),) * 2 for body in ("text", "empty", "html")},
    "latency_ms=100": (GOOD, GOOD),
    "latency_ms=60000": (LATE, LATE),
    "err=503;latency_ms=60000": (LATE, LATE),
    "first_token_ms=60000": (GOOD, LATE),
    "chunk_ms=60000": (GOOD, SILENT),
    "chunk_ms=200;chunks=200;tokens=200": (GOOD, SILENT),  # never silent for long, but too long in all
    "stall_after=-1": (LATE, LATE),
    "stall_after=0": (LATE, LATE),
    "stall_after=1": (LATE, SILENT),
    "stall_after=3": (LATE, SILENT),
    "cut_after=-1": (BROKEN, BROKEN),
    "cut_after=0": (BROKEN, BROKEN),
    "cut_after=1": (BROKEN, CUT),
    "cut_after=3": (BROKEN, CUT),
    "rst_after=-1": (BROKEN, BROKEN),
    "rst_after=0": (BROKEN, BROKEN),
    "rst_after=1": (BROKEN, CUT),
    "rst_after=3": (BROKEN, CUT),
    "sse_error_after=0": (GOOD, BROKEN),
    "sse_error_after=2": (GOOD, CUT),
    "no_done": (GOOD, NOT_KEPT),
    "no_finish": (NOT_KEPT, NOT_KEPT),
    "no_done;no_finish": (NOT_KEPT, CUT),
    "finish=length": (NOT_KEPT, NOT_KEPT),
    "finish=content_filter": (NOT_KEPT, NOT_KEPT),
    "finish=something_new": (NOT_KEPT, NOT_KEPT),
    "empty": (NOT_KEPT, NOT_KEPT),
    "bad_json": (BROKEN, BROKEN),
    "html": (BROKEN, BROKEN),
    "wrong_type": (GOOD, GOOD),
    "bad_sse": (GOOD, CUT),
    **{f"usage={usage}": (GOOD, GOOD) for usage in ("absent", "zero", "wrong", "late", "content")},
    "no_role": (GOOD, GOOD),
    "reasoning": (GOOD, GOOD),
    "split_utf8": (GOOD, GOOD),
    "trickle": (GOOD, GOOD),
    "huge=1100000": (NOT_KEPT, NOT_KEPT),
    "gzip_bomb=1": (BROKEN, BROKEN),
}
_ATTEMPTS = itertools.count()
SLOW = frozenset(fault for fault in OUTCOMES if "000" in fault or "stall" in fault or "chunk_ms" in fault) - {"huge=1100000"}


@pytest.fixture(scope="module")
async def hurried(chaos, tmp_path_factory):
    """Its provider has little time."""
    config = one_provider(chaos.base_url, more=TIMEOUTS)
    async with running_gateway(tmp_path_factory.mktemp("hurried"), config=config, alone=False) as gateway:
        yield gateway


async def is_kept(gateway, body) -> bool:
    answer = await gateway.ask(body, cache_control="only-if-cached")
    assert answer.status in {200, 504}
    return answer.status == 200


def check_answer(answer, ends: Ends, *, stream: bool) -> None:
    assert answer.status == ends.status, answer.body[:300]
    if answer.status != 200:
        assert answer.error["code"] == ends.code
        assert answer.headers["content-type"] == "application/json"
        assert "cache-status" not in answer.headers
    elif stream:
        events = answer.sse
        assert events.done != ends.within, "[DONE] stands at the end of a complete stream only"
        if ends.within:
            assert events.error == {
                "message": events.error["message"],
                "type": events.error["type"],
                "param": None,
                "code": ends.code,
            }
            assert events.error["message"].startswith(("mock ", "The provider's stream was cut"))
            assert len(events.chunks) > 1, "what came is passed on"
        else:
            assert events.error is None
    else:
        assert answer.json["choices"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", [fault for fault in OUTCOMES if fault not in SLOW])
async def test_each_fault_has_one_answer(gateway, upstream, text, fault, stream):
    ends = OUTCOMES[fault][stream]
    body = chat(text, stream=stream)
    upstream.script(fault, times=2)  # a pooled connection that is closed at once is tried again, once

    answer = await gateway.ask(body)

    check_answer(answer, ends, stream=stream)
    assert upstream.calls, "it was asked"
    assert {str(call.fault) for call in upstream.calls} == {fault}, "and failed as it was told to"
    assert upstream.count == 1 or fault in {"cut_after=-1", "rst_after=-1"}
    assert await is_kept(gateway, body) == ends.kept
    await upstream.settle()
    await until(lambda: gateway.places() == 0)


@undisturbed
async def test_each_fault_that_takes_time_has_one_answer_in_time(hurried, upstream, text):
    """All at once, so that the test takes no longer than the slowest of them."""
    upstream.reset()
    attempt = next(_ATTEMPTS)

    async def ask(fault: str, stream: bool) -> None:
        start = time.monotonic()
        body = chat(f"{fault} {stream} {attempt} {text}", stream=stream)
        answer = await hurried.ask(body)
        assert time.monotonic() - start < LATEST
        check_answer(answer, OUTCOMES[fault][stream], stream=stream)
        assert await is_kept(hurried, body) == OUTCOMES[fault][stream].kept

    async with asyncio.TaskGroup() as asking:
        for number, (fault, stream) in enumerate(itertools.product(sorted(SLOW), (False, True)), 1):
            upstream.script(fault)
            asking.create_task(ask(fault, stream))
            await until(lambda number=number: upstream.count == number)
            assert str(upstream.calls[-1].fault) == fault
    await upstream.settle()
    for call in upstream.calls:
        if not call.completed:
            assert call.closed_by_peer_at is not None, "an upstream that holds its connection open does not hold ours"
    await until(lambda: hurried.places() == 0)


async def test_nothing_is_kept_of_what_failed(chaos, upstream, text, tmp_path):
    """C3, over HTTP: after every fault there is not one entry in the store."""
    faults = [(fault, bool(stream)) for fault, both in OUTCOMES.items() for stream in (0, 1) if not both[stream].kept]
    quick = [(fault, stream) for fault, stream in faults if fault not in SLOW]
    assert len(quick) > 70
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        for fault, stream in quick:
            upstream.script(fault, times=2)
            await gateway.ask(chat(f"{fault} {text}", stream=stream))
            upstream.reset()
        await gateway.ask(chat(text), cache_control="no-store")
        await gateway.ask(chat(text, stream=True), x_bypass_cache="true")
        await gateway.ask(chat(text), x_cache_ttl="0")
        assert (await gateway.get("/health")).json["cache_size"] == 0
        assert await gateway.stored() == 0
        assert gateway.metric("sentinel_stored_total") == 0
        await gateway.ask(chat(text))
        assert await gateway.stored() == 1, "and the store does keep what is good"


# --- what is told of an error ---


@pytest.mark.parametrize(
    ("fault", "status", "seconds", "should_retry"),
    [
        ("err=429;retry_after=7", 429, 7, None),
        ("err=429;retry_after=1000000000", 429, 30, None),
        ("err=429;retry_after=0", 429, 0, None),
        ("err=429", 429, 1, None),
        ("err=503;retry_after=5", 502, None, None),
        ("err=500", 502, None, None),
        ("err=408", 504, None, None),
        ("err=401", 502, None, "false"),
        ("err=402", 502, None, "false"),
        ("err=403", 502, None, "false"),
        ("err=400", 400, None, "false"),
        ("err=422", 422, None, "false"),
    ],
)
async def test_whether_and_when_to_try_again(gateway, upstream, text, fault, status, seconds, should_retry):
    upstream.script(fault)
    answer = await gateway.ask(chat(text))
    assert answer.status == status
    assert answer.headers.get("x-should-retry") == should_retry
    assert answer.headers.get("retry-after") == (None if seconds is None else str(seconds))
    assert answer.headers.get("retry-after-ms") == (None if seconds is None else str(1000 * seconds))
    assert answer.headers["cache-control"] == "private, no-store"
    assert {"x-request-id", "x-sentinel-id"} <= answer.headers.keys()


@pytest.mark.parametrize("status", [401, 403])
async def test_our_key_is_not_the_client_s(gateway, upstream, text, status):
    """The caller's key is fine: it must not be told otherwise, and not be told ours."""
    upstream.script(f"err={status}")
    answer = await gateway.ask(chat(text), authorization="Bearer sk-of-the-client")
    assert (answer.status, answer.error["code"]) == (502, "upstream_unauthorized")
    assert "key-of-mock" not in answer.body.decode()
    assert "mock refused our key" in answer.error["message"]


async def test_the_provider_s_words_about_the_request_are_passed_on(gateway, upstream, text):
    upstream.script("err=400")
    assert (await gateway.ask(chat(text))).error["message"] == "mock error 400"
    upstream.script("err=500")
    assert "mock error" not in (await gateway.ask(chat(text))).error["message"], "those about its inside are not"


async def test_a_provider_that_is_not_there(upstream, text, tmp_path):
    config = one_provider("http://127.0.0.1:1/v1", more=TIMEOUTS)
    async with running_gateway(tmp_path, config=config) as gateway:
        for stream in (False, True):
            answer = await gateway.ask(chat(text, stream=stream))
            assert (answer.status, answer.error["code"]) == (502, "upstream_error")
            assert "mock can't be reached" in answer.error["message"]
            assert "x-should-retry" not in answer.headers
        assert await gateway.stored() == 0


async def test_failures_are_counted(gateway, upstream, text):
    names = ("upstream_error", "io_error", "rate_limit_exceeded", "upstream_timeout", "upstream_unauthorized", "upstream_refused")
    samples = [f'upstream_errors_total{{error_type="{name}"}}' for name in names]
    before = [gateway.metric(sample) for sample in samples]
    for fault in ("err=500", "cut_after=2", "err=429", "err=408", "err=401", "err=400"):
        upstream.script(fault)
        await gateway.ask(chat(f"{fault} {text}", stream=True))
    assert [gateway.metric(sample) - was for sample, was in zip(samples, before, strict=True)] == [1, 1, 1, 1, 1, 1]


# --- heartbeats ---


async def beaten(gateway, upstream, body, fault) -> tuple[Answer, float]:
    """An answer whose provider goes on after two comments; and how many there may be in the time that it took."""
    upstream.script(fault)
    start, comments, data = time.monotonic(), 0, b""
    async with asyncio.timeout(DEADLINE), gateway.session.post(CHAT, json=body) as response:
        while comments < 2:
            line = await response.content.readline()
            comments, data = comments + line.startswith(b": "), data + line
        upstream.go_on()
        data += await response.read()
        headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, data), (time.monotonic() - start) / 0.1


async def test_heartbeats(chaos, upstream, text, tmp_path):
    """Comments before the first word and in pauses; an error after them is the stream's last event."""
    environ = {"SENTINEL_SERVER__HEARTBEAT": "0.1"}
    hurried = "models: {hurried: {targets: [mock/mock-model], timeouts: {first_byte: 0.5}}}\n"
    async with running_gateway(tmp_path, environ=environ, config=one_provider(chaos.base_url) + hurried) as gateway:
        late, most = await beaten(gateway, upstream, chat(f"late {text}", stream=True), "latency_ms=60000")
        assert (late.status, late.sse.done, late.sse.error) == (200, True, None)
        assert 2 <= late.sse.comments <= most
        assert late.body.startswith(b": ")
        assert late.cache == "miss"
        assert late.headers["cache-status"].startswith("sentinel-disk;fwd=uri-miss")
        again = await gateway.ask(chat(f"late {text}", stream=True))
        assert (again.cache, again.sse.comments, again.sse.text()) == ("exact", 0, late.sse.text())

        slow, most = await beaten(gateway, upstream, chat(f"slow {text}", stream=True), "chunk_ms=60000;chunks=2")
        assert slow.sse.done
        assert 2 <= slow.sse.comments <= most
        assert slow.sse.text().startswith("mock answer")

        for fault in ("latency_ms=250;err=500", "latency_ms=250;bad_json", "latency_ms=60000", "latency_ms=250;cut_after=0"):
            upstream.script(fault)
            body = chat(f"{fault} {text}", "hurried" if "60000" in fault else "mock-model", stream=True)
            failed = await gateway.ask(body)
            assert failed.status == 200, "it was too late for another"
            assert failed.sse.comments >= 1
            assert not failed.sse.done
            assert failed.sse.error["code"] in {"upstream_error", "upstream_timeout"}
            assert len(failed.sse.chunks) == 1
            assert not await is_kept(gateway, body)

        upstream.script("latency_ms=250")
        whole = await gateway.ask(chat(f"whole {text}"))
        assert whole.body.startswith(b"{"), "an answer that is no stream has no heart"


async def test_the_next_target_is_asked_behind_a_heartbeat(chaos, upstream, text, tmp_path):
    """A comment commits the status, not the provider."""
    config = f"{one_provider(chaos.base_url)}\nmodels:\n  chain: [mock/mock-model, mock/mock-small]\n"
    async with running_gateway(tmp_path, environ={"SENTINEL_SERVER__HEARTBEAT": "0.1"}, config=config) as gateway:
        upstream.script("latency_ms=250;err=503")
        answer = await gateway.ask(chat(text, "chain", stream=True))
        assert answer.sse.done
        assert answer.sse.comments >= 1
        assert [call.body["model"] for call in upstream.calls] == ["mock-model", "mock-small"]


async def test_a_heart_that_beats_at_every_moment(chaos, upstream, text, tmp_path):
    """However the beats fall, they stand between events, and none comes after the end."""
    environ = {"SENTINEL_SERVER__HEARTBEAT": "0.001"}
    async with running_gateway(tmp_path, environ=environ, config=one_provider(chaos.base_url)) as gateway:

        async def one(number: int) -> None:
            fault = ("latency_ms=5", "chunk_ms=2;chunks=5", "cut_after=2", "latency_ms=3;err=500", "no_done", "split_utf8")[
                number % 6
            ]
            answer = await gateway.ask(chat(f"{number} {text}", stream=True), x_bypass_cache="true")
            assert answer.status in {200, 502}
            if answer.status == 200:
                assert answer.sse.done or answer.sse.error
            upstream.script(fault)

        for start in range(0, 60, 10):
            await asyncio.gather(*map(one, range(start, start + 10)))


# --- the end of a stream ---


async def _hold_on(reader, writer) -> None:
    """A provider that says all it has to say, and never that this was all."""
    await reader.readuntil(b"\r\n\r\n")
    said = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
    events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(said).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    writer.write(b"%b%x\r\n%b\r\n" % (head, len(events), events))
    await reader.read()
    writer.close()


async def test_a_complete_stream_is_a_success_when_the_provider_holds_on(text, tmp_path):
    """Nobody waits for it after `[DONE]`: neither is the caller taken for one who left, nor does the heart go on."""
    server = await asyncio.start_server(_hold_on, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    environ = {"SENTINEL_SERVER__HEARTBEAT": "0.005"}
    async with server, running_gateway(tmp_path, environ=environ, config=one_provider(url)) as gateway:
        answer = await gateway.ask(chat(text, stream=True))
        assert answer.sse.done
        assert (await gateway.ask(chat(text, stream=True))).cache == "exact"
        await until(lambda: gateway.places() == 0)
        recorded = 'requests_total{method="POST",route="/v1/chat/completions",status="%d"}'
        assert (gateway.metric(recorded % 200), gateway.metric(recorded % 499)) == (2, 0)


async def test_the_connection_of_a_complete_stream_is_used_again(text, tmp_path):
    async with ChaosUpstream() as upstream, running_gateway(tmp_path, config=one_provider(upstream.base_url)) as gateway:
        for number in range(20):
            upstream.script("split_utf8" if number % 10 == 9 else "chunks=5")
            assert (await gateway.ask(chat(f"{number} {text}", stream=True))).sse.done
            await until(lambda: gateway.places() == 0)
            assert upstream.open_connections == 1
        assert gateway.metric('requests_total{method="POST",route="/v1/chat/completions",status="200"}') == 20
