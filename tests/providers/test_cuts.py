"""A stream means the same however its bytes are cut into reads, and however it is read: in every dialect, whole or broken.

The truth is each event in a read of its own, asked for one by one: there no event shares anything with another, so nothing can
hang on what stands beside it, or on who is given it. All else, over a real connection whose bytes are moved by hand, is compared
with that: what is said, how it ends, what is put together of it, what it has cost, and whether it may be kept.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from json import dumps
from typing import Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamError
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._connection import READ_SIZE, Connection
from sentinel_gateway.providers._http import ByteStream
from sentinel_gateway.providers._provider import EVENT_PARTS
from sentinel_gateway.providers._sse import MAX_EVENT_BYTES
from sentinel_gateway.providers._stream import AT_ONCE
from tests.native import event_message
from tests.providers.test_connection import ORIGIN, Transport, come
from tests.providers.test_odd_answers import AS_IT_CAME, KINDS, PLAIN, anthropic, bedrock, chunk, gemini, openai

TWO = msgspec.structs.replace(PLAIN, fields={**PLAIN.fields, "n": 2})
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
FUNCTION = {"name": "look_up", "arguments": "{}"}
Close = Literal["with it", "after it", "broken off", "never"]
"""When the answer ends: with the last bytes, in a later turn, with a connection that breaks off, or not at all."""


class Line:
    """A `ByteStream` of these reads, for the truth, or over a connection that is moved by hand; and who asks for it."""

    def __init__(self, kind: str, reads: list[bytes] | None = None, *, whole: bool = True) -> None:
        self.status, self.headers, self.whole = 200, {b"content-type": kind.encode()}, whole
        self._reads = reads or []
        self.connection = Connection(ORIGIN, lambda _: None, memoryview(bytearray(READ_SIZE)))

    async def send(self, endpoint: Any, body: bytes, **_: Any) -> Any:
        if self._reads:
            return self
        self.connection.connection_made(Transport())
        self.connection.ask(b"", b"")
        come(self.connection, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        started = asyncio.get_running_loop().time()
        stream = ByteStream(self.connection, endpoint, lambda _: None, started=started)
        stream.status, stream.headers = self.connection.status, self.headers
        return stream

    async def read(self) -> bytes:
        return self._reads.pop(0) if self._reads else b""


class Heard(NamedTuple):
    """All that may differ."""

    said: list[Any]
    ending: tuple[str, ...]
    finished: bool
    usage: Any
    answer: Any
    kept: bool


async def hear(stream: Any, choices: int, steps: list[bool], wants: list[bool]) -> Heard:
    """Read to the end, one batch for each of the first `steps`, then piped where a step says so, as long as it is `wants`."""
    chunks, steps, wants = [], steps[:], wants[:]

    def take(batch: list[Any]) -> bool:
        chunks.extend(batch)
        return wants.pop() if wants else True

    ending: tuple[str, ...] = ()
    for _ in range(2):  # who asks again is told the same
        try:
            while True:
                if steps and steps.pop(0):
                    await stream.pipe(take)
                elif steps:
                    chunks += await anext(stream)
                else:
                    await stream.pipe(take)
        except StopAsyncIteration:
            now = ("end",)
        except UpstreamError as exc:
            now = (type(exc).__name__, exc.kind, exc.message)
        assert ending in ((), now)
        ending = now
    fold = Fold(expected=choices, max_bytes=1 << 20)
    for one in chunks:
        fold.add(one.fields, len(one.raw)) if one.more is None else fold.add_text(one.more, len(one.raw))
    said = [{**one.fields, "created": 0} for one in chunks]
    kept = ending == ("end",) and stream.finished and fold.finished
    return Heard(said, ending, stream.finished, fold.usage, {**fold.answer().fields, "created": 0}, kept)


# what is said


def sse(*events: Any, end: bytes = b"\n") -> list[bytes]:
    return [b"data: " + dumps(event).encode() + end + end for event in events]


def named(*events: Any, end: bytes = b"\n") -> list[bytes]:
    """As Anthropic frames them."""
    return [b"event: " + event["type"].encode() + end + b"data: " + dumps(event).encode() + end + end for event in events]


def of_openai(texts: list[str], end: bytes = b"\n") -> list[bytes]:
    other = {"id": "c", "model": "m", "choices": [{"index": 1, "delta": {"content": "?"}, "finish_reason": "stop"}]}
    call = {"index": 0, "id": "t1", "type": "function", "function": FUNCTION}
    said = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": text}) for text in texts), other]
    last = [chunk({"tool_calls": [call]}), chunk({}, "stop"), chunk({}, usage=USAGE) | {"choices": []}]
    return [*sse(*said, *last, end=end), b"data: [DONE]" + end + end]


def of_anthropic(texts: list[str], end: bytes = b"\n") -> list[bytes]:
    use = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}
    return named(
        {"type": "message_start", "message": {"id": "c", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": use},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
        end=end,
    )


def of_gemini(texts: list[str], end: bytes = b"\n") -> list[bytes]:
    def event(part: Any, index: int = 0, **more: Any) -> Any:
        told = {"promptTokenCount": 5, "candidatesTokenCount": 3}
        return {"candidates": [{"content": {"parts": [part]}, "index": index, **more}], "usageMetadata": told, "responseId": "c"}

    call = event({"functionCall": {"name": "look_up", "args": {}}}, 1, finishReason="STOP")
    return sse(*(event({"text": text}) for text in texts), call, event({"text": ""}, finishReason="STOP"), end=end)


def of_bedrock(texts: list[str], _: bytes = b"") -> list[bytes]:
    use = {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "look_up"}}}
    events = [
        ("messageStart", {"role": "assistant"}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}) for text in texts),
        ("contentBlockStart", use),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": {"inputTokens": 5, "outputTokens": 3}}),
    ]
    return [event_message(name, fields) for name, fields in events]


class Dialect(NamedTuple):
    """`wrong` are pieces after which a stream is broken for good; `last` says how many pieces of a whole one prove its end."""

    make: Callable[[Any], Any]
    call: UpstreamCall
    choices: int
    pieces: Callable[..., list[bytes]]
    wrong: list[bytes]
    ends: bool = True
    """The last piece tells that it is the last: what comes behind it is not read."""


def wrong_in_sse(error: Any) -> list[bytes]:
    return [b"data: {\n\n", b"data: []\n\n", *sse(error)]


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
DAMAGED = event_message("contentBlockDelta", {})[:-1] + b"\0"
DIALECTS = {
    "openai": Dialect(openai, TWO, 2, of_openai, wrong_in_sse({"error": {"message": "No.", "code": 429}})),
    "anthropic": Dialect(anthropic, PLAIN, 1, of_anthropic, wrong_in_sse(OVERLOADED)),
    "anthropic as it came": Dialect(anthropic, AS_IT_CAME, 1, of_anthropic, wrong_in_sse(OVERLOADED)),
    "gemini": Dialect(gemini, TWO, 2, of_gemini, wrong_in_sse({"error": {"code": 503, "message": "Down."}}), ends=False),
    "bedrock": Dialect(
        bedrock,
        PLAIN,
        1,
        of_bedrock,
        [DAMAGED, event_message("throttlingException", {"message": "Slow."}, "exception"), b"x" * 12],
    ),
}


async def truth(dialect: Dialect, events: list[bytes], *, whole: bool = True) -> Heard:
    """Each event in a read of its own."""
    line = Line(KINDS.get(dialect.make, "text/event-stream"), events[:], whole=whole)
    stream = await dialect.make(line).open_stream(dialect.call)
    return await hear(stream, dialect.choices, [False] * (len(events) + 10), [])


def wire(pieces: list[bytes]) -> bytes:
    """As the chunks of a body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)


async def heard(
    dialect: Dialect, close: Close, reads: list[bytes], steps: list[bool], wants: list[bool], rests: list[int]
) -> Heard:
    """The same over a connection, in these reads, with so many turns of the loop before each."""
    line = Line(KINDS.get(dialect.make, "text/event-stream"))
    stream = await dialect.make(line).open_stream(dialect.call)
    hearing = asyncio.ensure_future(hear(stream, dialect.choices, steps, wants))
    for number, read in enumerate(reads):
        for _ in range(rests[number % len(rests)]):
            await asyncio.sleep(0)
        come(line.connection, read + (b"0\r\n\r\n" if close == "with it" and number == len(reads) - 1 else b""))
    if close == "after it":
        await asyncio.sleep(0)
        come(line.connection, b"0\r\n\r\n")
    if close == "broken off":
        line.connection.eof_received()
        line.connection.connection_lost(None)
    for _ in range(9 + sum(map(len, reads)) // AT_ONCE):
        await asyncio.sleep(0)
    assert hearing.done(), "it waits, though all is told"
    if close != "broken off":
        line.connection.connection_lost(None)
    return hearing.result()


@pytest.mark.anyio
@pytest.mark.parametrize("name", DIALECTS)
async def test_events_that_come_together_are_read_as_if_each_came_alone(name):
    """Every grouping of a short stream into reads, its fault in every place, begun in both ways, and interrupted or not.

    Found in the wild: a fault came with a stream's first bytes, its end with the next, and it passed for whole.
    """
    dialect = DIALECTS[name]
    good = dialect.pieces(["a"])[-4:]
    streams = [good, *([*good[:place], dialect.wrong[0], *good[place:]] for place in range(len(good) + 1))]
    for events in streams:
        expected = await truth(dialect, events)
        assert expected.finished is (events[: len(good)] == good and (dialect.ends or events == good))
        closes: list[Close] = ["with it"] if expected.ending == ("end",) and not dialect.ends else ["with it", "never"]
        for together in product([False, True], repeat=len(events) - 1):
            reads = [wire([first]) for first in events[:1]]
            for event, joined in zip(events[1:], together, strict=True):
                reads = [*reads[:-1], reads[-1] + wire([event])] if joined else [*reads, wire([event])]
            for begun, wanted in product([True, False], [[], [False] * 9]):
                for close in closes:
                    found = await heard(dialect, close, reads, [begun, True], wanted, [3])
                    assert found == expected, (together, begun, wanted, close)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_what_came_before_an_endless_event_is_told(name):
    dialect = DIALECTS[name]
    good = dialect.pieces(["a", "b"])
    events = [*good[:-2], b"data: " + b"x" * MAX_EVENT_BYTES, *good[-2:]]
    expected = await truth(dialect, events)
    assert (expected.ending[0], expected.finished, len(expected.said) > 1) == ("UpstreamBroken", False, True)
    for reads in ([wire([b"".join(events)])], [wire(good[:1]), wire([b"".join(events[1:])])]):
        assert await heard(dialect, "never", reads, [], [], [3]) == expected
    assert await truth(dialect, [b"".join(events)]) == expected


@pytest.mark.anyio
@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("parts", [EVENT_PARTS, EVENT_PARTS + 1])
async def test_an_event_of_more_parts_than_anybody_s_ends_a_stream(name, parts):
    """A megabyte of empty objects had everybody else wait for 150 ms. Signs in a text are no parts."""
    dialect = DIALECTS[name]
    good = dialect.pieces(["a" + "{[:," * (EVENT_PARTS // 4)])
    wide = {"x": [1] * (parts - 4), "type": "ping"}  # itself, two names and the list are parts as well
    own = [event_message("ping", wide)] if name == "bedrock" else sse(wide)
    heard = await truth(dialect, [*good[:2], *own, *good[2:]])
    if parts == EVENT_PARTS:
        assert heard.ending == (await truth(dialect, good)).ending
    else:
        assert heard.ending[0] == "UpstreamBroken"
        assert "100,000 keys and values" in heard.ending[2]


@pytest.mark.anyio
async def test_that_the_connection_breaks_is_no_end_where_only_its_end_is_one():
    events = DIALECTS["gemini"].pieces(["a"])
    whole, broken = [await heard(DIALECTS["gemini"], close, [wire(events)], [], [], [3]) for close in ("after it", "broken off")]
    assert (whole.kept, broken.kept) == (True, False)
    assert [one["choices"][0]["delta"].get("content") for one in broken.said] == ["a", ""]


class Case(NamedTuple):
    """What comes, in which reads, and who reads it how."""

    events: list[bytes]
    close: Close
    reads: list[bytes]
    steps: list[bool]
    wants: list[bool]
    rests: list[int]


@st.composite
def cases(draw: st.DrawFn, dialect: Dialect) -> Case:
    """Of a stream that is whole or cut, with pieces that are wrong, said twice, out of order, or behind its end."""
    texts = draw(st.lists(st.sampled_from(["a", "b", "\u00fc\u2603", 'x"\n']), max_size=4))
    events = dialect.pieces(texts, draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])))
    others = [
        *dialect.wrong,
        events[-1],
        events[len(events) // 2],
        *([] if dialect.make is bedrock else [b": a sign of life\n\n"]),
    ]
    for other in draw(st.lists(st.sampled_from(others), max_size=2)):
        events.insert(draw(st.integers(0, len(events))), other)
    events = draw(st.one_of(st.just(events), st.integers(1, 600).map(lambda size: list(cut(events, size)))))
    raw = wire(events)
    cuts = sorted({0, len(raw), *(at % len(raw) for at in draw(st.lists(st.integers(0, 2000), max_size=8)))})
    reads = [raw[start:end] for start, end in pairwise(cuts)]
    booleans, rests = st.lists(st.booleans(), max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=4)
    close: Close = draw(st.sampled_from(["with it", "after it", "broken off"]))
    return Case(events, close, reads, draw(booleans), draw(booleans), draw(rests))


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_is_the_same_however_its_bytes_are_cut(name):
    dialect = DIALECTS[name]

    async def compare(case: Case) -> None:
        expected = await truth(dialect, case.events, whole=case.close != "broken off")
        assert await heard(dialect, *case[1:]) == expected
        assert not expected.kept or dialect.ends or case.close != "broken off"

    with asyncio.Runner() as runner:

        @settings(max_examples=50)
        @given(cases(dialect))
        def holds(case: Case) -> None:
            runner.run(compare(case))

        holds()


def cut(events: list[bytes], size: int) -> Iterator[bytes]:
    """As many bytes of them; at least one."""
    for event in events:
        if size > 0:
            yield event[:size]
            size -= len(event)
