"""A pipe ends with the stream, or with what is wrong in it, though the connection stays open and says nothing more."""

import asyncio

import pytest

from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.providers._errors import Source
from sentinel_gateway.providers._sse import MAX_EVENT_BYTES
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
