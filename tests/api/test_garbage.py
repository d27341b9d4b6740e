"""What is over leaves nothing for the garbage collector, which comes seldom: what it held is free at once."""

import gc
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sentinel_gateway.api.connection import GatewayProtocol
from sentinel_gateway.api.cycle import Cycle
from sentinel_gateway.api.exchange import Exchange
from sentinel_gateway.embedders.local import _Batch
from sentinel_gateway.pipeline.flight import Flight
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.providers._http import ByteStream
from sentinel_gateway.serving import COLLECT_AFTER
from sentinel_gateway.settings.model import Server
from tests.gateway import PATIENCE, chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

CROWD = 100
OF_A_REQUEST, LOADED_LATER = 160, 80_000
"""Objects of a request under way, and of the libraries that are loaded when they are needed (both measured)."""
KINDS = (ByteStream, Cycle, Exchange, Flight, GatewayProtocol, Journey, _Batch)


def held() -> Counter[str]:
    """Of all kinds, since the last `uncollected`."""
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in KINDS)


@contextmanager
def uncollected() -> Iterator[None]:
    """What is made from now on is not collected, and alone counts as held."""
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


async def test_a_request_that_is_over_is_gone(upstream, tmp_path):
    async with running_gateway(tmp_path, semantic=True, config=one_provider(upstream.base_url)) as gateway:
        for stream in (False, True):
            assert (await gateway.ask(chat(f"What is the capital of Peru? {stream}", stream=stream))).status == 200
            with uncollected():
                for country in ("Spain", "Italy", "Malta"):
                    answer = await gateway.ask(chat(f"What is the capital of {country}? {stream}", stream=stream))
                    assert (answer.status, answer.headers["x-cache"]) == (200, "miss")
                await until(lambda: not held(), PATIENCE)


async def test_a_request_that_is_answered_before_its_body_has_come_is_gone_with_that(gateway):
    with uncollected():
        wire = await gateway.connect()
        wire.send(b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n")
        assert (await wire.answer()).status == 404
        wire.send(b"{}")
        await until(lambda: held() == {"GatewayProtocol": 1}, PATIENCE)
        await wire.close()


async def test_no_crowd_calls_for_a_collection(gateway):
    """Not as many connections as there may be, with a request in each place: they hold the loop up enough as it is."""
    server = Server()
    with uncollected():
        crowd = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(CROWD)]
        await until(lambda: held()["GatewayProtocol"] == CROWD)
        of_a_connection = len(gc.get_objects()) / CROWD
        for one in crowd:
            one.close()
    in_crowd = server.max_connections * of_a_connection + (server.max_in_flight + server.queue) * OF_A_REQUEST
    assert in_crowd + LOADED_LATER < COLLECT_AFTER[0]


@pytest.mark.parametrize(
    ("fault", "stream", "status"),
    [
        ("", False, 200),
        ("", True, 200),
        ("err=500", False, 502),
        ("err=500", True, 502),
        ("err=400", False, 400),
        ("bad_json", False, 502),
        ("chunks=5;cut_after=2", True, 200),
    ],
)
async def test_a_connection_that_ends_is_gone_with_what_failed_on_it(gateway, upstream, text, fault, stream, status):
    assert (await gateway.ask(chat(f"{text} first"))).status == 200
    upstream.script(fault, 3)
    with uncollected():
        wire = await gateway.connect()
        wire.send(post(chat(text, stream=stream)))
        assert (await wire.answer()).status == status
        await wire.close()
        await until(lambda: not held(), PATIENCE)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves_takes_all_along(gateway, upstream, text, stream):
    assert (await gateway.ask(chat(f"{text} first"))).status == 200
    upstream.script("latency_ms=60000" if not stream else "chunks=5;stall_after=2")
    with uncollected():
        wire = await gateway.connect()
        wire.send(post(chat(text, stream=stream)))
        if stream:
            await wire.read_until(b"data: ")
        await until(lambda: upstream.count == 2)
        wire.abort()
        await until(lambda: not held(), PATIENCE)
