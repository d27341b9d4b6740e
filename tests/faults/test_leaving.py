"""F9, F10: streams that fall silent, and callers who leave. The provider is let go, and what was said is paid for, no more."""

import asyncio
import math
import random
import time

import pytest

from tests.gateway import chat, post, provider, running_gateway, running_tasks, until

pytestmark = pytest.mark.anyio

BILLED = 'sentinel_tokens_total{source="provider",type="completion"}'
IDLE = 1.0


def billed(gateway) -> float:
    """Tokens of answers that were paid for."""
    return gateway.metric(BILLED)


@pytest.mark.parametrize("chunks", [1, 40])
async def test_a_stream_that_falls_silent(upstream, tmp_path, chunks):
    """F9."""
    hasty = f", timeouts: {{idle: {IDLE}}}"
    config = f"""
providers:
{provider("first", upstream.base_url, more=hasty)}{provider("second", upstream.base_url)}
models: {{chain: [first/mock-model, second/mock-small]}}
"""
    upstream.script(f"stall_after={chunks};chunks=50;tokens=50")
    async with running_gateway(tmp_path, config=config) as gateway:
        answer = await gateway.ask(chat("Silent?", "chain", stream=True))
        assert answer.sse.error["code"] == "upstream_timeout"
        assert not answer.sse.done
        await upstream.settle()
        (call,) = upstream.calls
        assert (call.chunks_sent, call.completed) == (chunks, False), "it fell silent, and nobody else was asked"
        assert call.closed_by_peer_at is not None
        assert chunks <= billed(gateway) <= chunks + 1, "a chunk for the role"
        assert (await gateway.ask(chat("Silent?", "chain"), cache_control="only-if-cached")).status == 504


FAULTS = (
    ({"stream": True}, "latency_ms=60000"),
    ({"stream": True}, "chunk_ms=4;chunks=2000;tokens=2000"),
    ({}, "latency_ms=60001"),
)
"""Before the first byte, mid-stream, and in the middle of a whole answer."""
SPEAKS = 1
"""The number of the one that says something: who asks it leaves by what was heard, so that it was heard on a slow machine too."""
AT_ONCE = 50
MANY = 2_000
GONE_WITHIN = 1.0
A_SECOND = 250
"""Tokens of a stream."""
ON_THE_WAY = 5
"""Tokens of one that may be sent and not read yet as its caller leaves: one in each turn of the loop that all of them share."""


@pytest.mark.parametrize(
    ("callers", "latest"), [pytest.param(90, 1.2, id="some"), pytest.param(MANY, 3.0, marks=pytest.mark.long, id="2,000")]
)
async def test_a_storm_of_callers_who_leave(upstream, tmp_path, callers, latest):
    """F10. What is under way when a caller leaves is sent and not billed: the longer they stay, the less it is of the whole."""
    chance, left = random.Random(callers), {}
    numbers, kinds = iter(range(callers)), [(f"how{number}", *fault) for number, fault in enumerate(FAULTS)]
    config = "providers:\n" + "".join(provider(name, upstream.url_with(fault)) for name, _, fault in kinds)
    async with running_gateway(tmp_path, config=config) as gateway:
        before = running_tasks(), gateway.metric("active_connections"), upstream.open_connections

        async def come_and_go() -> None:
            for number in numbers:
                name, how, _ = kinds[number % len(kinds)]
                wire = await gateway.connect()
                wire.send(post(chat(f"Question {number}?", f"{name}/mock-model", **how)))
                heard = Heard()
                reading = asyncio.create_task(heard.drain(wire))
                stays = chance.uniform(0.02, latest)
                if number % len(kinds) == SPEAKS:
                    await heard.so_many(stays * A_SECOND)
                else:
                    await asyncio.sleep(stays)
                left[f"Question {number}?"] = time.monotonic()
                wire.abort()
                await reading

        await asyncio.gather(*(come_and_go() for _ in range(AT_ONCE)))
        await upstream.settle()
        await until(lambda: gateway.places() == 0)
        await until(lambda: gateway.metric("active_connections") == before[1])
        await until(lambda: not running_tasks() - before[0])
        await until(lambda: upstream.open_connections <= before[2] + 1)
        assert upstream.count > 0.25 * callers
        assert not any(call.completed for call in upstream.calls)
        gone = [(call.closed_by_peer_at or math.inf) - left[call.body["messages"][0]["content"]] for call in upstream.calls]
        assert max(gone) < math.inf, "none goes on"
        late = [seconds for seconds in gone if seconds > GONE_WITHIN]
        sent, paid = sum(call.tokens_sent for call in upstream.calls), billed(gateway)
        print(f"{upstream.count} of {callers} were asked; {len(late)} let go late; {sent} tokens sent, {paid:.0f} billed")
        assert sent > 10 * callers, "much was said before they left"
        if callers >= MANY:
            assert len(late) <= upstream.count / 1000
        streams = [seconds for call, seconds in zip(upstream.calls, gone, strict=True) if call.chunks_sent]
        under_way = sum(seconds * A_SECOND + ON_THE_WAY for seconds in streams)
        assert sent - paid <= under_way, "it was said, and is not billed"
        assert paid - sent <= len(streams), "a chunk for the role"
        if callers >= MANY:
            assert paid == pytest.approx(sent, rel=0.02)


class Heard:
    """What a caller has read, so that nothing is held back."""

    def __init__(self) -> None:
        self.chunks = 0
        self.ended = False

    async def so_many(self, chunks: float) -> None:
        """Returns once they were read, or the answer has ended: of a machine that can't keep up some are refused."""
        await until(lambda: self.chunks >= chunks or self.ended)

    async def drain(self, wire) -> None:
        while some := await wire.read():
            self.chunks += some.count(b"data: ")
        self.ended = True
