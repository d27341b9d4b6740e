"""What is over leaves nothing for the garbage collector, which comes seldom: what it held is free at once."""

import gc
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
from tests.gateway import PATIENCE, chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

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
                await until(lambda: all(number <= 1 for number in held().values()))  # a connection that is kept holds the last


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
