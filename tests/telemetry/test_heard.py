"""Chunks are timed as they come, and whoever gives up waiting for one loses none."""

import asyncio
from collections.abc import Callable

import pytest

from sentinel_gateway.telemetry.tracing.spans import Heard

pytestmark = pytest.mark.anyio


class Stream:
    """Batches that are put here; a wait that is cancelled loses none of them."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[list[str]] = asyncio.Queue()

    async def __anext__(self) -> list[str]:
        batch = await self.batches.get()
        if not batch:
            raise StopAsyncIteration
        return batch

    async def pipe(self, into: Callable[[list[str]], bool]) -> None:
        while into(await self.__anext__()):
            pass


async def test_each_chunk_but_the_first_is_timed_and_a_wait_that_is_given_up_loses_none() -> None:
    stream, told, now = Stream(), [], 100.0
    heard = Heard(stream, told.append, lambda: now)
    for number, batch in enumerate((["a", "b"], ["c"], ["d", "e"])):
        now = 100.0 + number
        waiting = asyncio.ensure_future(anext(heard))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        stream.batches.put_nowait(batch)
        assert await anext(heard) == batch
    stream.batches.put_nowait([])
    with pytest.raises(StopAsyncIteration):
        await anext(heard)
    assert told == [0.0, 1.0, 1.0, 0.0]


async def test_chunks_that_are_piped_are_timed_as_well() -> None:
    stream, told, came, now = Stream(), [], [], 100.0
    heard = Heard(stream, told.append, lambda: now)

    def take(batch: list[str]) -> bool:
        nonlocal now
        came.append(batch)
        now += 1.0
        return len(came) < 2

    for batch in (["a", "b"], ["c"], ["d"], []):
        stream.batches.put_nowait(batch)
    await heard.pipe(take)
    assert (came, told) == ([["a", "b"], ["c"]], [0.0, 1.0])
    with pytest.raises(StopAsyncIteration):
        await heard.pipe(lambda _: True)
    assert told == [0.0, 1.0, 1.0]
