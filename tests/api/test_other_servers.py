"""The app is plain ASGI: behind a server that knows nothing of us, uvicorn as it is, it does the same."""

import asyncio
import time
from dataclasses import replace

import pytest
import uvicorn

from tests.gateway import chat, post, until

pytestmark = pytest.mark.anyio

SOON = 5.0
"""Seconds: far from the moment that it takes and from the minute that the provider would."""


@pytest.fixture
async def elsewhere(gateway):
    """The same gateway behind a server that is not ours."""
    config = uvicorn.Config(gateway.process, port=0, http="httptools", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())  # noqa: SLF001 - without its handlers of signals
    await until(lambda: server.started)
    yield replace(gateway, port=server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await serving


async def ask(gateway, body, *, path="/v1/chat/completions"):
    wire = await gateway.connect()
    wire.send(post(body, path))
    answer = await wire.answer()
    await wire.close()
    return answer


@pytest.mark.parametrize("stream", [False, True])
async def test_a_miss_and_a_hit(elsewhere, gateway, upstream, text, stream):
    first = await ask(elsewhere, chat(text, stream=stream))
    second = await ask(elsewhere, chat(text, stream=stream))
    assert (first.cache, second.cache, upstream.count) == ("miss", "exact", 1)
    ours = await gateway.ask(chat(text, stream=stream))
    assert ours.headers.keys() - second.headers.keys() == set()
    told = [answer.sse.text() if stream else answer.json["choices"] for answer in (first, second, ours)]
    assert told[0] == told[1] == told[2]


async def test_errors_and_the_rest(elsewhere):
    assert (await ask(elsewhere, b"{")).error["type"] == "invalid_request_error"
    assert (await ask(elsewhere, b"", path="/nothing")).status == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves(elsewhere, gateway, upstream, text, stream):
    upstream.script("latency_ms=60000")
    wire = await elsewhere.connect()
    wire.send(post(chat(text, stream=stream)))
    await until(lambda: upstream.count == 1)
    left = time.monotonic()
    wire.abort()
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at - left < SOON
    await until(lambda: gateway.places() == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_batch_and_one_whose_client_leaves(elsewhere, gateway, upstream, text, stream):
    body = {"queries": [f"{number} {text}" for number in range(40)] * 2, "model": "mock-model", "stream": stream}
    answer = await ask(elsewhere, body, path="/v1/query/batch")
    assert answer.body.count(b'"status":200') == 80
    assert upstream.count == 40
    upstream.script("latency_ms=60000", times=40)
    wire = await elsewhere.connect()
    wire.send(post(body | {"temperature": 0.1}, "/v1/query/batch"))
    await until(lambda: upstream.count == 72)
    left = time.monotonic()
    wire.abort()
    await upstream.settle()
    assert max(call.closed_by_peer_at or 0.0 for call in upstream.calls) - left < SOON
    await until(lambda: gateway.places() == 0)
