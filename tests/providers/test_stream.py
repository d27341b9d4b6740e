"""A pipe ends with the stream, or with what is wrong in it, though the connection stays open and says nothing more."""

import asyncio
from itertools import pairwise

import pytest

from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.providers._errors import Source
from sentinel_gateway.providers._sse import MAX_EVENT_BYTES
from sentinel_gateway.providers._stream import AT_ONCE
from sentinel_gateway.providers.openai import OpenAIStream

pytestmark = pytest.mark.anyio

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


class OpenConnection:
    """A `ByteStream` of these pieces that does not end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        if not self.pieces:
            await asyncio.Event().wait()
        return self.pieces.pop(0)

    async def pipe(self, into):
        while self.pieces:
            if not into(self.pieces.pop(0)):
                return
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("last", "ending"), [(b"data: [DONE]\n\n", StopAsyncIteration), (CHUNK + b"data: {\n\n", UpstreamBroken)]
)
async def test_a_pipe_ends_with_what_the_stream_says(last, ending):
    stream, came = OpenAIStream(OpenConnection(CHUNK, CHUNK, last), Source("x", "", ())), []
    async with asyncio.timeout(5):
        with pytest.raises(ending):
            await stream.pipe(lambda batch: came.extend(batch) or True)
    assert len(came) == 2 + last.startswith(CHUNK)
    assert stream.finished is (ending is StopAsyncIteration)


async def test_what_comes_behind_a_fault_makes_nothing_good():
    """Found in the wild: the fault came with the stream's first bytes, its end with the next, and it passed for whole."""
    stream, came = OpenAIStream(OpenConnection(CHUNK + b"data: {\n\n", CHUNK + b"data: [DONE]\n\n"), Source("x", "", ())), []
    async with asyncio.timeout(5):
        with pytest.raises(UpstreamBroken):
            await stream.pipe(lambda batch: came.extend(batch) or True)
    assert len(came) == 1
    assert not stream.finished


async def test_an_end_that_comes_at_once_is_waited_for_no_longer():
    stream, came = OpenAIStream(OpenConnection(CHUNK + b"data: [DONE]\n\n"), Source("x", "", ())), []
    async with asyncio.timeout(5):
        with pytest.raises(StopAsyncIteration):
            await stream.pipe(lambda batch: came.extend(batch) or True)
    assert len(came) == 1
    assert stream.finished


@pytest.mark.parametrize(("before", "ending"), [(b"data: [DONE]\n\n", StopAsyncIteration), (b"data: {\n\n", UpstreamBroken)])
async def test_an_endless_event_behind_the_end_changes_nothing_of_it(before, ending):
    pieces = OpenConnection(CHUNK, CHUNK + before + b"data: " + b"a" * MAX_EVENT_BYTES)
    stream, came = OpenAIStream(pieces, Source("x", "", ())), []
    async with asyncio.timeout(5):
        with pytest.raises(ending) as told:
            await stream.pipe(lambda batch: came.extend(batch) or True)
    assert len(came) == 2
    assert "endless" not in str(told.value)


@pytest.mark.parametrize("place", [0, 1], ids=["what waits", "what is heard"])
async def test_of_much_that_comes_together_a_turn_of_the_loop_reads_little(place):
    """As over TLS, where a read brings a quarter of a megabyte: tiny events in it would hold the loop for 40 ms."""
    number = 256 * 1024 // len(CHUNK)
    pieces = [CHUNK * number, CHUNK, b"data: [DONE]\n\n"]
    if place:
        pieces.insert(0, CHUNK)
    stream, came, turns = OpenAIStream(OpenConnection(*pieces), Source("x", "", ())), [], [0]

    async def count():
        while True:
            turns.append(len(came))
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    with pytest.raises(StopAsyncIteration):
        await stream.pipe(lambda batch: came.extend(batch) or True)
    counting.cancel()
    assert [chunk.more or chunk.fields["choices"][0]["delta"]["content"] for chunk in came] == ["a"] * (number + 1 + place)
    most = max(after - before for before, after in pairwise([*turns, len(came)]))
    assert most <= 2 * AT_ONCE // len(CHUNK)


async def test_who_is_cancelled_between_two_portions_has_lost_nothing():
    number = 3 * AT_ONCE // len(CHUNK)
    stream = OpenAIStream(OpenConnection(CHUNK * number, b"data: [DONE]\n\n"), Source("x", "", ()))
    came = await anext(stream)
    reading = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(StopAsyncIteration):
        await stream.pipe(lambda batch: came.extend(batch) or True)
    assert len(came) == number
