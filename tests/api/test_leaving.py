"""Clients that leave: the provider is let go within a second, nothing is kept, every place is given back."""

import asyncio
import itertools
import random
import time
from typing import Any

import pytest

from bench.chaos.call import Call
from tests.gateway import chat, header_lines, post, running_tasks, until

pytestmark = pytest.mark.anyio

CLIENTS = 20
GONE_WITHIN = 5.0
"""Seconds: far from the moment that it takes and from the minute that the provider would."""
LEFT = 'requests_total{method="POST",route="/v1/chat/completions",status="499"}'


async def base(gateway, upstream) -> tuple[Any, float]:
    """What is held while nobody asks for anything."""
    await until(lambda: gateway.places() == 0)
    return running_tasks(), gateway.metric("active_connections")


async def check_back(gateway, upstream, before) -> None:
    tasks, connections = before
    await until(lambda: gateway.places() == 0)
    await until(lambda: gateway.metric("active_connections") == connections)
    await until(lambda: not running_tasks() - tasks)


def asked(call: Call) -> str:
    return call.body["messages"][0]["content"]


async def leave_at_random(gateway, upstream, bodies, *, latest: float, polite: bool) -> dict[str, float]:
    """Each body on a connection of its own, left at some moment; when, by question. Every second one is asked upstream first."""
    chance = random.Random(latest)
    left: dict[str, float] = {}

    async def one(number: int, body: dict[str, Any]) -> None:
        wire = await gateway.connect()
        wire.send(post(body))
        if number % 2:
            await until(lambda: any(asked(call) == body["messages"][0]["content"] for call in upstream.calls))
        await asyncio.sleep(chance.uniform(0, latest))
        left[body["messages"][0]["content"]] = time.monotonic()
        if polite:
            await wire.close()
        else:
            wire.abort()

    await asyncio.gather(*map(one, itertools.count(), bodies))
    return left


@pytest.mark.parametrize("polite", [True, False])
@pytest.mark.parametrize(
    ("how", "fault", "latest"),
    [
        ({}, "latency_ms=60000", 0.5),
        ({}, "stall_after=1", 0.5),
        ({"stream": True}, "latency_ms=60000", 0.5),
        ({"stream": True}, "first_token_ms=60000", 0.5),
        ({"stream": True}, "chunk_ms=20;chunks=2000;tokens=2000", 0.6),
        ({"stream": True}, "stall_after=3", 0.5),
        ({"stream": True}, "chunks=3000;tokens=3000", 0.6),
    ],
    ids=["whole", "half", "before the head", "before the first word", "mid-stream", "in a pause", "in a flood"],
)
async def test_clients_leave(gateway, upstream, text, how, fault, latest, polite):
    before = await base(gateway, upstream)
    recorded = gateway.metric(LEFT)
    bodies = [chat(f"{number} {text}", **how) for number in range(CLIENTS)]
    upstream.script(fault, times=CLIENTS)

    left = await leave_at_random(gateway, upstream, bodies, latest=latest, polite=polite)

    await upstream.settle()
    assert CLIENTS // 4 < upstream.count <= CLIENTS, "many left after the provider had been asked"
    for call in upstream.calls:
        assert str(call.fault) == fault
        if call.completed:  # of the flood, a client that stayed long enough got all of it
            assert "3000" in fault
            continue
        assert call.closed_by_peer_at is not None
        assert call.closed_by_peer_at - left[asked(call)] < GONE_WITHIN
    await check_back(gateway, upstream, before)
    incomplete = {asked(call) for call in upstream.calls if not call.completed}
    assert gateway.metric(LEFT) - recorded >= len(incomplete)
    upstream.reset()
    for body in bodies:
        if body["messages"][0]["content"] in incomplete:
            assert (await gateway.ask(body, cache_control="only-if-cached")).status == 504, "it was not kept"


@pytest.mark.parametrize("how", [{}, {"stream": True}], ids=["whole", "stream"])
async def test_a_client_that_closes_its_half(gateway, upstream, text, how):
    """HTTP/1.1 knows no half-closed client: who says that no more will come has left."""
    before = await base(gateway, upstream)
    upstream.script("latency_ms=60000")
    wire = await gateway.connect()
    wire.send(post(chat(text, **how)))
    await until(lambda: upstream.count == 1)
    wire.writer.write_eof()
    left = time.monotonic()
    assert await wire.ended()
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at - left < GONE_WITHIN
    await wire.close()
    await check_back(gateway, upstream, before)


async def test_one_who_leaves_takes_nobody_along(gateway, upstream, text):
    """The same request of two clients shares one call, which outlasts the first of them."""
    upstream.script("latency_ms=60000")
    leaving, staying = await gateway.connect(), await gateway.connect()
    leaving.send(post(chat(text)))
    await until(lambda: upstream.count == 1)
    staying.send(post(chat(text)))
    await until(lambda: gateway.places() == 2)
    leaving.abort()
    await until(lambda: gateway.places() == 1)
    upstream.go_on()
    answer = await staying.answer()
    assert (answer.status, answer.cache) == (200, "miss")
    await staying.close()


async def test_a_client_that_leaves_after_its_answer_is_no_loss(gateway, upstream, text):
    wire = await gateway.connect()
    wire.send(post(chat(text, stream=True)))
    assert (await wire.answer()).sse.done
    wire.abort()
    assert (await gateway.ask(chat(text))).cache == "exact"


async def test_a_pipelined_request_of_a_client_that_leaves_is_dropped(gateway, upstream, text):
    before = await base(gateway, upstream)
    upstream.script("latency_ms=60000")
    wire = await gateway.connect()
    wire.send(post(chat(f"0 {text}")) + post(chat(f"1 {text}")))
    await until(lambda: upstream.count == 1)
    wire.abort()
    await upstream.settle()
    await check_back(gateway, upstream, before)
    assert upstream.count == 1


async def test_the_usage_of_what_was_sent_is_recorded(gateway, upstream, text):
    """A stream that nobody reads to its end is an error of the client's, not of the provider's."""
    failures = gateway.metric('upstream_errors_total{error_type="upstream_error"}')
    upstream.script("chunk_ms=20;chunks=2000;tokens=2000")
    wire = await gateway.connect()
    wire.send(post(chat(text, stream=True)))
    await wire.read_until(b'"content":"mock')
    wire.abort()
    await upstream.settle()
    await until(lambda: gateway.places() == 0)
    assert upstream.calls[0].chunks_sent > 0
    assert gateway.metric('upstream_errors_total{error_type="upstream_error"}') == failures


async def test_the_provider_is_made_to_wait_for_a_client_that_does_not_read(gateway, upstream, text):
    """What is read ahead is bounded, however much the provider has to say."""
    before = await base(gateway, upstream)
    upstream.script("huge=60000000")
    wire = await gateway.connect()
    wire.writer.transport.pause_reading()
    wire.send(post(chat(text, stream=True)))
    await until(lambda: upstream.calls and upstream.calls[0].chunks_sent > 10)
    sent = 0
    while sent != upstream.calls[0].chunks_sent:  # until nothing more is taken
        sent = upstream.calls[0].chunks_sent
        await asyncio.sleep(0.3)
    assert sent * 16_384 < 20_000_000
    assert not upstream.calls[0].completed, "it waits"
    wire.abort()
    await upstream.settle()
    await check_back(gateway, upstream, before)


async def test_a_client_that_leaves_in_the_body_of_an_administrative_request(gateway):
    path = "/admin/cache/clear"
    left = f'requests_total{{method="POST",route="{path}",status="499"}}'
    before = gateway.metric(left)
    wire = await gateway.connect()
    headers = header_lines(gateway.admin.items())
    wire.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 100\r\n\r\n{{".encode())
    await asyncio.sleep(0.05)
    wire.abort()
    await until(lambda: gateway.metric(left) == before + 1)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/admin/cache/clear"])
async def test_a_body_that_makes_no_sense_is_recorded_as_what_was_answered(gateway, path):
    refused = f'requests_total{{method="POST",route="{path}",status="400"}}'
    before = gateway.metric(refused)
    wire = await gateway.connect()
    headers = header_lines(gateway.admin.items())
    wire.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode())
    await asyncio.sleep(0.02)
    wire.send(b"zz\r\n")
    answer = await wire.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert {"x-request-id", "x-sentinel-id"} <= answer.headers.keys()
    assert await wire.ended()
    await wire.close()
    await until(lambda: gateway.metric(refused) == before + 1)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_a_client_whose_body_was_large_is_seen_to_leave(gateway, upstream, text, size):
    """Its body has paused the reading, and only who reads sees the end."""
    upstream.script("latency_ms=60000")
    wire = await gateway.connect()
    wire.send(post(chat(text + "x" * size)))
    await until(lambda: upstream.calls)
    await wire.close()
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at is not None
    await until(lambda: gateway.places() == 0)
