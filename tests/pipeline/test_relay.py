"""A live stream on its way: what the caller gets, what is kept, and that the upstream is let go of."""

import asyncio
from contextlib import aclosing
from unittest.mock import AsyncMock, Mock

import msgspec
import pytest

from sentinel_gateway.core.caching import NotStorable, Store
from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.core.streaming import DEEPEST, stored_fields
from sentinel_gateway.errors import UpstreamBroken, UpstreamTimeout
from sentinel_gateway.pipeline.handle import Cached, Live
from tests.fakes import USAGE, FakeStream, chunk, delta, payloads, spoken, turns
from tests.pipeline.conftest import MAX_BYTES, Path, question

pytestmark = pytest.mark.anyio

ASKS_USAGE = {"stream_options": {"include_usage": True}}
ROLE, WORD, END, USED = spoken("Paris.")


async def stream(path: Path, *script: object, done: bool = True, **fields: object) -> FakeStream:
    """Ask, and read to the end, whatever that is."""
    upstream = FakeStream(*script, done=done)
    path.first.replies.append(upstream)
    await path.ask(question(stream=True, **fields), path.journey())
    return upstream


def raws(*batches: list) -> list[bytes]:
    return [one.raw for batch in batches for one in batch]


async def test_chunks_are_passed_on_as_they_are_in_their_batches(path):
    path.first.replies.append(FakeStream([*ROLE, *WORD], END, USED))
    journey = path.journey()
    live = await path.handle(question(stream=True, **ASKS_USAGE), journey)
    assert isinstance(live, Live)
    batches = [batch async for batch in payloads(live)]
    assert batches == [raws(ROLE, WORD), raws(END), raws(USED)]
    await path.pipeline.close(live, journey)


async def test_a_chunk_of_which_only_the_text_was_read_is_passed_on_and_kept(path):
    more = chunk(delta(content=" In France."))
    await stream(path, ROLE, WORD, [Chunk(more.raw, None, " In France.")], END, USED)
    assert path.said == raws(ROLE, WORD, [more], END)
    reply, _ = await path.ask(question())
    assert isinstance(reply, Cached)
    assert stored_fields(reply.hit.entry.body)["choices"][0]["message"]["content"] == "Paris. In France."


@pytest.mark.parametrize("limit", [{}, {"max_tokens": 100, "n": 2}], ids=["unbounded", "bounded"])
async def test_a_stream_that_is_left_is_recorded_with_what_was_asked_and_heard(path, limit):
    most = limit.get("max_tokens", 0) * limit.get("n", 1)
    journey = path.journey()
    journey.grant = Mock(
        reserved=7 + most, uncounted=False, enter=AsyncMock(), settle=AsyncMock(), settle_now=Mock(return_value=False)
    )
    path.first.replies.append(FakeStream(ROLE, WORD, asyncio.Event()))
    live = await path.handle(question(stream=True, **limit), journey)
    async with aclosing(payloads(live)) as batches:
        await anext(batches)
        await anext(batches)
    await path.pipeline.close(live, journey)
    (attempt,) = path.events.attempts
    assert (attempt.prompt_tokens, attempt.completion_tokens) == (journey.prompt_tokens, journey.completion_tokens) == (7, 2)


async def test_a_stream_that_is_left_after_its_last_word_is_billed_as_well(path):
    journey = path.journey()
    path.first.replies.append(FakeStream(ROLE, WORD, END, asyncio.Event(), USED))
    live = await path.handle(question(stream=True), journey)
    async with aclosing(payloads(live)) as batches:
        for _ in range(3):
            await anext(batches)
    await path.pipeline.close(live, journey)
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.completion_tokens, journey.completion_tokens) == ("answered", 3, 3)


@pytest.mark.parametrize(
    ("come", "ending", "tokens"),
    [([[*ROLE, *WORD]], "left", (7, 2)), ([[*ROLE, *WORD, *END, *USED]], "answered", (3, 5))],
    ids=["some of it", "all of it"],
)
async def test_who_leaves_before_reading_pays_for_what_had_come(path, come, ending, tokens):
    """A short stream may be here as a whole when its caller leaves: then it is paid as the provider counts it."""
    journey = path.journey()
    journey.grant = Mock(reserved=7, uncounted=False, enter=AsyncMock(), settle=AsyncMock(), settle_now=Mock(return_value=False))
    upstream = FakeStream(*come, asyncio.Event(), done=ending == "answered")
    upstream.finished = ending == "answered"
    path.first.replies.append(upstream)
    live = await path.handle(question(stream=True), journey)
    await path.pipeline.close(live, journey)
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.prompt_tokens, attempt.completion_tokens) == (ending, *tokens)
    assert (journey.prompt_tokens, journey.completion_tokens) == tokens
    assert upstream.closed == 1


async def test_the_usage_chunk_is_only_for_those_who_asked(path):
    upstream = await stream(path, ROLE, WORD, END, USED)
    assert path.said == raws(ROLE, WORD, END)
    assert upstream.closed == 1
    _, journey = await path.ask(question(stream=True))
    assert (journey.prompt_tokens, journey.completion_tokens) == (3, 5)


async def test_a_batch_of_nothing_but_usage_is_no_batch(path):
    path.first.replies.append(FakeStream([*ROLE, *WORD, *END], USED))
    journey = path.journey()
    live = await path.handle(question(stream=True), journey)
    assert [batch async for batch in payloads(live)] == [raws(ROLE, WORD, END)]
    await path.pipeline.close(live, journey)


@pytest.mark.parametrize(
    "kept",
    [
        chunk(delta(content="x"), usage=USAGE),
        chunk(prompt_filter_results=[]),
        chunk(usage=None),
    ],
    ids=["usage beside words", "no choices", "usage null"],
)
async def test_only_the_usage_chunk_is_taken_out(path, kept):
    await stream(path, ROLE, [kept], WORD, END)
    assert path.said == raws(ROLE, [kept], WORD, END)


@pytest.mark.parametrize(
    ("script", "done", "kept"),
    [
        ((ROLE, WORD, END, USED), True, True),
        ((ROLE, WORD, END, USED), False, False),
        ((ROLE, WORD, USED), True, False),
    ],
    ids=["complete", "without [DONE]", "without an ending"],
)
async def test_what_is_kept_was_proven_twice(path, script, done, kept):
    """`[DONE]` and a finish reason: one of both is enough to pass a stream on, none but both is enough to keep it."""
    path.first.replies.append(FakeStream(*script, done=done))
    _, journey = await path.ask(question(stream=True, **ASKS_USAGE))
    assert path.said == raws(*script)
    assert isinstance(journey.kept, Store) is kept
    assert kept or journey.kept == NotStorable("unproven-end")
    assert (path.near.puts, path.far.puts) == (kept, kept)
    assert journey.completion_tokens == 5


async def test_every_choice_must_have_ended(path):
    await stream(path, [chunk(delta("stop", content="a"))], n=2)
    assert path.near.puts == 0
    await stream(path, [chunk(delta("stop", content="a"))], [chunk(delta("stop", index=1, content="b"))], n=2)
    assert path.near.puts == 1


@pytest.mark.parametrize("end", [None, UpstreamBroken("cut"), UpstreamTimeout("idle")], ids=["closed", "broken", "stalled"])
async def test_a_cut_stream_is_an_error_and_not_kept(path, end):
    script = (ROLE, WORD, end) if end else (ROLE, WORD)
    upstream, journey = FakeStream(*script, done=False), path.journey()
    path.first.replies.append(upstream)
    with pytest.raises(type(end) if end else UpstreamBroken) as caught:
        await path.ask(question(stream=True), journey)
    assert end or caught.value.kind == "io_error"
    assert path.said == raws(ROLE, WORD)
    assert journey.kept == NotStorable("unproven-end")
    assert path.near.puts == path.far.puts == 0
    assert upstream.closed == 1


def too_deep() -> Chunk:
    """More than can be put together."""
    inner: object = "x"
    for _ in range(DEEPEST + 2):
        inner = {"a": inner}
    return chunk(delta(content="deep", odd=inner))


async def test_what_is_wrong_behind_the_last_word_keeps_nothing(path):
    """All of it came at once: the stream was known to have ended well when what was wrong in it was seen."""
    upstream, journey = FakeStream([*ROLE, *WORD, *END, too_deep()]), path.journey()
    upstream.finished = True
    path.first.replies.append(upstream)
    with pytest.raises(UpstreamBroken, match="too deep"):
        await path.ask(question(stream=True), journey)
    assert journey.kept == NotStorable("unproven-end")
    assert path.near.puts == path.far.puts == 0
    assert [attempt.ending for attempt in path.events.attempts] == ["broken"]


async def test_what_is_wrong_holds_though_who_drew_it_leaves_in_that_moment(path):
    """Between a connection that has given what came and whoever waits for it lies a turn of the loop."""
    moment = asyncio.Event()

    class Connected(FakeStream):
        async def pipe(self, into):
            await super().pipe(into)
            await moment.wait()

    upstream, journeys = Connected(ROLE, [*WORD, too_deep()], END, USED), [path.journey(), path.journey()]
    path.first.replies.append(upstream)
    leaving, staying = [await path.handle(question(stream=True), journey) for journey in journeys]
    assert isinstance(leaving, Live)
    assert isinstance(staying, Live)
    drawing = asyncio.create_task(leaving.reader().pipe(lambda _: True))
    await turns()
    drawing.cancel()
    await turns()
    moment.set()
    came: list[bytes] = []
    with pytest.raises(UpstreamBroken, match="too deep"):
        await staying.reader().pipe(lambda payloads: came.extend(payloads) or True)
    assert came == [one.raw for one in (*ROLE, *WORD)]
    for live, journey in zip((leaving, staying), journeys, strict=True):
        await path.pipeline.close(live, journey)
    assert path.near.puts == 0
    assert [attempt.ending for attempt in path.events.attempts] == ["broken"]


async def test_who_leaves_before_reading_what_is_wrong_lets_go_of_it_all_the_same(path):
    upstream, journey = FakeStream([*ROLE, too_deep(), *END]), path.journey()
    upstream.finished = True
    path.first.replies.append(upstream)
    live = await path.handle(question(stream=True), journey)
    await path.pipeline.close(live, journey)
    assert upstream.closed == 1
    assert [attempt.ending for attempt in path.events.attempts] == ["broken"]
    assert path.near.puts == 0


async def test_a_stream_too_large_to_remember_is_passed_on(path):
    words = [[chunk(delta(content="w" * 100))] for _ in range(MAX_BYTES // 100 + 1)]
    upstream = await stream(path, ROLE, *words, END, USED)
    assert path.said == raws(ROLE, *words, END)
    assert path.near.puts == path.far.puts == 0
    assert upstream.closed == 1


async def test_a_caller_who_leaves_closes_the_upstream_once(path):
    upstream, journey = FakeStream(ROLE, WORD, asyncio.Event()), path.journey()
    path.first.replies.append(upstream)
    asking = asyncio.create_task(path.ask(question(stream=True), journey))
    await turns()
    assert (path.said, upstream.closed) == (raws(ROLE, WORD), 0)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert upstream.closed == 1
    assert journey.kept == NotStorable("unproven-end")
    assert path.near.puts == 0


async def test_a_caller_who_leaves_while_the_upstream_is_being_closed(path):
    """The answer was complete by then: it is kept although the closing was cut short."""
    upstream, journey, closing = SlowToClose(ROLE, WORD, END, USED), path.journey(), asyncio.Event()
    upstream.closing = closing
    path.first.replies.append(upstream)
    asking = asyncio.create_task(path.ask(question(stream=True), journey))
    await closing.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert upstream.closed == 1
    assert isinstance(journey.kept, Store)


class SlowToClose(FakeStream):
    closing: asyncio.Event

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1
        self.closing.set()
        await asyncio.Event().wait()


async def test_reading_only_a_part_closes_the_upstream_once(path):
    upstream, journey = FakeStream(ROLE, WORD, END), path.journey()
    path.first.replies.append(upstream)
    live = await path.handle(question(stream=True), journey)
    async with aclosing(payloads(live)) as batches:
        assert await anext(batches) == raws(ROLE)
    await path.pipeline.close(live, journey)
    assert upstream.closed == 1
    assert path.near.puts == 0


async def test_an_upstream_that_fails_to_close_is_settled_all_the_same(path):
    class FailsToClose(FakeStream):
        async def __aexit__(self, *_: object) -> None:
            raise UpstreamBroken("could not close")

    path.first.replies.append(FailsToClose(ROLE, WORD, END))
    journey = path.journey()
    with pytest.raises(UpstreamBroken):
        await path.ask(question(stream=True), journey)
    assert isinstance(journey.kept, Store)


async def test_an_upstream_is_let_go_of_though_its_answer_cannot_be_kept(path):
    class Tripping(dict):
        def __setitem__(self, key, entry):
            raise LookupError(key)

    upstream, journey = FakeStream([*ROLE, *WORD, *END], asyncio.Event()), path.journey()
    upstream.finished = True
    path.near.entries = Tripping()
    path.first.replies.append(upstream)
    live = await path.handle(question(stream=True), journey)
    with pytest.raises(LookupError):
        await path.pipeline.close(live, journey)
    assert upstream.closed == 1


async def test_a_kept_stream_is_the_folded_answer(path):
    await stream(path, ROLE, WORD, END, USED)
    (entry,) = path.far.entries.values()
    assert msgspec.json.decode(b"{" + entry.body) == {
        "object": "chat.completion",
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
