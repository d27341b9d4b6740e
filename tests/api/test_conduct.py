"""How a route asks its targets, over HTTP: deadlines, care with what may have been done, hedges, answers read to their end."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import pytest

from tests.gateway import chat, post, provider, running_gateway, until
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

MODELS = """
models:
  careful: {targets: [first/mock-model, second/mock-small], retry_uncertain: false}
  hurried: {targets: [first/mock-model], timeouts: {first_byte: 0.3}}
  lively: {targets: [{target: first/mock-model, timeouts: {idle: 1}}]}
  brief: {targets: [first/mock-model, second/mock-small], timeouts: {total: 0.5}}
  together: {targets: [first/mock-model, second/mock-small], timeouts: {total: 2}}
  hedged: {targets: [first/mock-model, second/mock-small], hedge: {after: 0.25, max_cost_share: 1}}
  drained: {targets: [first/mock-model], on_disconnect: drain}
  left: {targets: [first/mock-model]}
"""

SOON = 5.0
"""Seconds: far from the moment that it takes and from the minute that the provider would."""
PAUSING = "chunk_ms=60000;chunks=2"
"""One word, and the rest a minute later, or when the mock is told to go on."""


@asynccontextmanager
async def running(chaos, folder, **environ):
    config = f"providers:\n{provider('first', chaos.base_url)}{provider('second', chaos.base_url)}{MODELS}"
    async with running_gateway(folder, config=config, environ=environ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    async with running(chaos, tmp_path_factory.mktemp("conduct")) as gateway:
        yield gateway


def attempts(gateway, outcome, name="first"):
    return gateway.metric(f'sentinel_upstream_attempts_total{{outcome="{outcome}",provider="{name}"}}')


# --- care ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "calls"),
    [("err=500", 502, 1), ("err=408", 504, 1), ("rst_after=-1", 502, 1), ("err=503", 200, 2), ("err=429", 200, 2)],
)
async def test_what_may_have_been_done_is_not_done_again(gateway, upstream, text, stream, fault, status, calls):
    upstream.script(fault)
    answer = await gateway.ask(chat(text, "careful", stream=stream))
    assert (answer.status, upstream.count) == (status, calls)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_that_is_longer_than_any_answer_goes_to_the_next_target(chaos, upstream, text, tmp_path, stream):
    asked = 0

    async def fail(reader, writer):
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 40000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()

    failing = await asyncio.start_server(fail, "127.0.0.1", 0)
    port = failing.sockets[0].getsockname()[1]
    providers = provider("first", f"http://127.0.0.1:{port}/v1") + provider("second", chaos.base_url)
    config = f"providers:\n{providers}\nmodels: {{both: [first/mock-model, second/mock-small]}}"
    async with failing, running_gateway(tmp_path, config=config) as gateway:
        answer = await gateway.ask(chat(text, "both", stream=stream))
        assert (answer.status, asked, upstream.count) == (200, 1, 1)
        assert attempts(gateway, "broken") == 1


# --- deadlines ---


@pytest.mark.parametrize(
    ("model", "stream", "fault", "said"),
    [
        ("hurried", False, "latency_ms=60000", "0.3 s (timeouts.first_byte)"),
        ("hurried", True, "latency_ms=60000", "0.3 s (timeouts.first_byte)"),
        ("hurried", True, "first_token_ms=60000", "0.3 s (timeouts.first_byte)"),
        ("brief", False, "latency_ms=60000", "0.5 s (timeouts.total)"),
        ("brief", True, "latency_ms=60000", "0.5 s (timeouts.total)"),
    ],
)
async def test_a_route_s_deadline_is_a_timeout(gateway, upstream, text, model, stream, fault, said):
    upstream.script(fault)
    answer = await gateway.ask(chat(text, model, stream=stream))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (504, "upstream_timeout", "timeout_error")
    assert f" {said}" in answer.error["message"]
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at is not None


@pytest.mark.parametrize(
    ("model", "fault", "said"),
    [
        ("lively", "stall_after=2", "1 s (timeouts.idle)"),
        ("together", "chunk_ms=50;chunks=1000;tokens=1000", "2 s (timeouts.total)"),
    ],
)
@undisturbed
async def test_a_stream_that_is_late_in_its_middle_ends_in_the_error(gateway, upstream, text, model, fault, said):
    upstream.script(fault)
    answer = await gateway.ask(chat(text, model, stream=True))
    await upstream.settle()
    assert answer.status == 200
    assert answer.sse.error["code"] == "upstream_timeout"
    assert f" {said}" in answer.sse.error["message"]
    assert not answer.sse.done


@undisturbed
async def test_the_total_is_of_all_calls_together(gateway, upstream, text):
    upstream.reset()
    upstream.script("err=503;latency_ms=1000")
    upstream.script("latency_ms=60000")
    answer = await gateway.ask(chat(text, "together"))
    await upstream.settle()
    assert (answer.status, answer.error["code"], upstream.count) == (504, "upstream_timeout", 2)
    assert upstream.calls[1].closed_by_peer_at - upstream.calls[1].started < 1.8, "it had what the first one had left"


# --- hedges ---


async def spend(gateway, upstream, text):
    """Until calls that lose may cost something."""
    for number in range(4):
        assert (await gateway.ask(chat(f"{number} {text}", "hedged"))).status == 200
    upstream.script("latency_ms=500", times=2)
    await gateway.ask(chat(f"slow {text}", "hedged"))
    upstream.reset()


@pytest.mark.parametrize(
    ("stream", "fault"), [(False, "latency_ms=60000"), (True, "latency_ms=60000"), (True, "first_token_ms=60000")]
)
async def test_a_second_target_is_heard_and_the_first_closed(gateway, upstream, text, stream, fault):
    await spend(gateway, upstream, text)
    lost = attempts(gateway, "lost")
    upstream.script(fault)
    answer = await gateway.ask(chat(text, "hedged", stream=stream))
    assert answer.status == 200
    assert [call.body["model"] for call in upstream.calls] == ["mock-model", "mock-small"]
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at - upstream.calls[1].ended < SOON
    assert upstream.calls[1].completed
    assert attempts(gateway, "lost") == lost + 1
    assert not stream or answer.sse.done
    assert (await gateway.ask(chat(text, "hedged"))).cache == "exact"


async def test_who_leaves_lets_both_go(gateway, upstream, text):
    await spend(gateway, upstream, text)
    upstream.script("latency_ms=60000", times=2)
    wire = await gateway.connect()
    wire.send(post(chat(text, "hedged", stream=True)))
    await until(lambda: upstream.count == 2)
    wire.abort()
    await upstream.settle()
    assert all(call.closed_by_peer_at is not None for call in upstream.calls)


# --- answers that nobody waits for any more ---


async def leave(gateway, upstream, body):
    """Ask, and leave when the provider has begun."""
    wire = await gateway.connect()
    wire.send(post(body))
    await until(lambda: upstream.count == 1)
    if body["stream"]:
        await wire.read_until(b'"content":"mock')
    wire.abort()


@pytest.mark.parametrize(("stream", "fault"), [(False, "latency_ms=60000"), (True, PAUSING)])
async def test_one_is_read_to_its_end_and_is_a_hit(gateway, upstream, text, stream, fault):
    upstream.script(fault)
    drained = gateway.metric('sentinel_events_total{event="answer_drained"}')
    await leave(gateway, upstream, chat(text, "drained", stream=stream))
    await until(lambda: gateway.places() == 0)
    assert not upstream.calls[0].completed
    upstream.go_on()
    await until(lambda: gateway.metric('sentinel_events_total{event="answer_drained"}') == drained + 1)
    assert upstream.calls[0].completed
    assert (await gateway.ask(chat(text, "drained"))).cache == "exact"
    assert upstream.count == 1


@pytest.mark.parametrize(("stream", "fault"), [(False, "latency_ms=60000"), (True, PAUSING)])
async def test_elsewhere_it_is_closed(gateway, upstream, text, stream, fault):
    upstream.script(fault)
    await leave(gateway, upstream, chat(text, "left", stream=stream))
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at is not None


async def test_beyond_the_bound_it_is_closed(chaos, upstream, text, tmp_path):
    async with running(chaos, tmp_path, SENTINEL_ROUTING__MAX_DRAINS="1") as gateway:
        for number in range(2):
            upstream.script(PAUSING)
            wire = await gateway.connect()
            wire.send(post(chat(f"{number} {text}", "drained", stream=True)))
            await wire.read_until(b'"content":"mock')
            wire.abort()
            await until(lambda: gateway.places() == 0)
        await until(lambda: upstream.calls[1].closed_by_peer_at is not None)
        assert upstream.calls[0].ended is None
    assert upstream.calls[0].closed_by_peer_at is not None, "a stop ends it"


async def test_one_that_takes_too_long_is_given_up(chaos, upstream, text, tmp_path):
    model = "{targets: first/mock-model, on_disconnect: drain, timeouts: {total: 2}}"
    config = f"providers:\n{provider('first', chaos.base_url)}\nmodels: {{drained: {model}}}"
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script(PAUSING)
        await leave(gateway, upstream, chat(text, "drained", stream=True))
        await until(lambda: upstream.calls[0].closed_by_peer_at is not None)
        await until(lambda: attempts(gateway, "timeout") == 1)
