"""Flights in the air, below HTTP: who boards, who draws, who is cut off."""

import asyncio

import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline import flight
from sentinel_gateway.pipeline.handle import Live, Whole
from tests.fakes import FakeStream, chunk, completion, delta, payloads, spoken, turns
from tests.pipeline.conftest import MAX_BYTES, question

pytestmark = pytest.mark.anyio


async def test_nobody_boards_a_flight_that_its_last_passenger_has_just_left(path):
    path.first.replies += [asyncio.Event(), completion()]
    leaving = asyncio.create_task(path.ask(question()))
    await turns()
    leaving.cancel()
    coming = asyncio.create_task(path.ask(question()))
    reply, journey = await coming
    assert isinstance(reply, Whole)
    assert (journey.outcome, path.calls) == ("miss", 2)
    assert leaving.cancelled()


async def test_two_readers_draw_one_stream_and_who_draws_may_leave(path):
    go_on = asyncio.Event()
    first, *rest = spoken("Par", "is.")
    path.first.replies.append(FakeStream(first, go_on, *rest))
    lives = [await path.handle(question(stream=True), path.journey()) for _ in range(2)]
    assert all(isinstance(live, Live) for live in lives)
    drawing, waiting = (asyncio.create_task(_all(live)) for live in lives)
    await turns()
    drawing.cancel()
    await turns()
    await path.pipeline.close(lives[0], path.journey())
    go_on.set()
    assert len(await waiting) > 1
    await path.pipeline.close(lives[1], path.journey())
    assert path.calls == 1
    assert "ended, 0 aboard" in repr(lives[1].flight)


async def test_a_fault_of_one_reader_is_nothing_to_the_others(path):
    go_on = asyncio.Event()
    first, *rest = spoken("Par", "is.")
    path.first.replies.append(FakeStream(first, go_on, *rest))
    lives = [await path.handle(question(stream=True), path.journey()) for _ in range(2)]
    came = []

    def trip(payloads):
        came.extend(payloads)
        if len(came) > 1:
            raise LookupError("it can't be told")
        return True

    tripping, reading = asyncio.create_task(lives[0].reader().pipe(trip)), asyncio.create_task(_all(lives[1]))
    await turns()
    go_on.set()
    with pytest.raises(LookupError):
        await tripping
    await path.pipeline.close(lives[0], path.journey())
    assert [payload for batch in await reading for payload in batch][:2] == came
    await path.pipeline.close(lives[1], path.journey())
    assert path.near.puts == 1, "it came to its end"


async def test_what_a_broken_stream_has_cost_waits_for_no_slow_reader(path):
    """Nor does the standing of its target, nor what was reserved for it."""
    path.first.replies.append(FakeStream(*list(spoken("Par", "is."))[:3], UpstreamBroken("told to")))
    journeys = [path.journey(), path.journey()]
    leading, slow = [await path.handle(question(stream=True), journey) for journey in journeys]
    with pytest.raises(UpstreamBroken):
        await _all(leading)
    assert [(attempt.ending, attempt.completion_tokens) for attempt in path.events.attempts] == [("broken", 3)]
    await path.pipeline.close(leading, journeys[0])
    assert journeys[0].completion_tokens == 3
    with pytest.raises(UpstreamBroken):
        await _all(slow)
    await path.pipeline.close(slow, journeys[1])
    assert len(path.events.attempts) == 1


async def test_who_does_not_draw_is_told_of_each_batch_as_it_comes(path):
    go_on = [asyncio.Event(), asyncio.Event()]
    first, second, *rest = spoken("Par", "is.")
    path.first.replies.append(FakeStream(first, go_on[0], second, go_on[1], *rest))
    lives = [await path.handle(question(stream=True), path.journey()) for _ in range(2)]
    came = [], []
    readers = [asyncio.create_task(_read(live, into)) for live, into in zip(lives, came, strict=True)]
    await turns()
    go_on[0].set()
    await turns()
    assert came[0] == came[1]
    assert len(came[1]) == 2
    go_on[1].set()
    await asyncio.gather(*readers)
    assert came[0] == came[1]
    for live in lives:
        await path.pipeline.close(live, path.journey())


async def test_a_reader_that_wants_no_more_now_has_nobody_draw(path):
    batches = list(spoken("Par", "is."))
    path.first.replies.append(FakeStream(*batches))
    live = await path.handle(question(stream=True), path.journey())
    reader, came = live.reader(), []

    def take(payloads):
        came.append(payloads)
        return False

    for number in range(1, len(batches)):
        assert await reader.pipe(take)
        assert len(came) == number
        assert repr(reader).endswith(f"at {number}>")
    assert not await reader.pipe(take), "the chunk of its usage is not for who has not asked for it"
    assert len(came) == len(batches) - 1
    await path.pipeline.close(live, path.journey())


async def test_who_reads_too_slowly_is_cut_off_and_nobody_joins_any_more(path):
    piece = [chunk(delta(content="x" * (flight.KEPT_BYTES // 3)))]
    path.first.replies += [FakeStream(*[piece] * 5, [chunk(delta("stop"))]), completion()]
    fast, slow = [await path.handle(question(stream=True), path.journey()) for _ in range(2)]
    assert len(await _all(fast)) == 6
    with pytest.raises(UpstreamBroken, match="so slowly"):
        await _all(slow)
    for live in (fast, slow):
        await path.pipeline.close(live, path.journey())
    assert path.calls == 1


async def test_a_joined_stream_too_long_to_be_put_together_is_asked_for_anew(path):
    path.first.replies += [FakeStream(*spoken("x" * MAX_BYTES)), completion()]
    live = await path.handle(question(stream=True), path.journey())
    whole = asyncio.create_task(path.ask(question()))
    await turns()
    reply, _ = await whole
    assert isinstance(reply, Whole)
    assert path.calls == 2
    await path.pipeline.close(live, path.journey())


async def test_who_comes_after_a_clear_does_not_join_what_was_asked_for_before(path):
    hold = asyncio.Event()
    path.first.replies += [hold, completion("of after"), completion("of before")]  # in the order in which they are given
    before = asyncio.create_task(path.ask(question()))
    await path.first.reached.wait()
    joined = asyncio.create_task(path.ask(question()))
    await turns()
    await path.tiers.clear(Selector(tenant="somebody else"))
    assert path.calls == 1
    await path.tiers.clear(Selector())
    after = asyncio.create_task(path.ask(question()))
    await turns()
    assert path.calls == 2
    hold.set()
    for task, said in ((before, "of before"), (joined, "of before"), (after, "of after")):
        reply, _ = await task
        assert reply.completion.answer.fields["choices"][0]["message"]["content"] == said


async def _read(live: Live, into: list[list[bytes]]) -> None:
    def take(payloads: list[bytes]) -> bool:
        into.append(payloads)
        return True

    await live.reader().pipe(take)


async def _all(live: Live) -> list[list[bytes]]:
    return [batch async for batch in payloads(live)]


def test_the_flights_tell_how_many_they_are():
    flights = flight.Flights()
    assert repr(flights) == "<Flights 0 in the air>"
