"""Chunks that are not parsed mean what they would have meant parsed, whatever a provider sends."""

import json
from itertools import islice

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.providers._anthropic_answer import AnthropicReader, speaking
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._errors import Source
from sentinel_gateway.providers._pattern import More
from sentinel_gateway.providers._translated import JsonEvents
from sentinel_gateway.providers.openai import OpenAIStream

pytestmark = pytest.mark.anyio

TEXTS = st.text(st.sampled_from('ab"\\{}[]:,\n\r\x7fé☃\U0001f30d '), max_size=6) | st.sampled_from(
    ["content", '","content":"', "a"]
)
DELTAS = st.one_of(
    *[
        TEXTS.map(lambda text, more=more: {"content": text, **more})
        for more in ({}, {}, {"role": "assistant"}, {"refusal": "no"})
    ],
    TEXTS.map(lambda text: {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
    st.just({}),
)
CHOICES = st.builds(
    lambda delta, index, more: {"index": index, "delta": delta, **more},
    DELTAS,
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([{}, {}, {"finish_reason": None}, {"finish_reason": "stop"}, {"logprobs": {"content": [{"token": "a"}]}}]),
)
CHUNKS = st.builds(
    lambda choices, more: {"id": "x", "choices": choices, **more},
    st.lists(CHOICES, min_size=1, max_size=1) | st.lists(CHOICES, max_size=2),
    st.sampled_from(
        [
            {},
            {"usage": None},
            {"usage": {"prompt_tokens": 1, "completion_tokens": 2}},
            {"model": "a"},
            {"choice": {"delta": {"content": "a"}}},
        ]
    ),
)
SPEAKING = st.builds(
    lambda delta, choice, chunk: {"id": "x", "choices": [{"index": 0, "delta": {"content": "", **delta}, **choice}], **chunk},
    st.sampled_from([{}, {"role": "assistant"}]),
    st.sampled_from([{}, {"logprobs": None}, {"finish_reason": "stop"}]),
    st.sampled_from([{}, {"usage": None}, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}, {"model": "a"}]),
)
SPELLINGS = (msgspec.json.encode, msgspec.json.encode, lambda chunk: json.dumps(chunk).encode())


class Bytes:
    """A `ByteStream` of these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


async def heard(*pieces: bytes) -> list[Chunk]:
    stream = OpenAIStream(Bytes(*pieces), Source("x", "", ()))
    return [chunk async for batch in stream for chunk in batch]


def framed(*events: bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % event for event in events)


def spoken(text: str, **more: object) -> bytes:
    return msgspec.json.encode({"id": "x", "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None}], **more})


def saying(chunk: dict, text: str) -> dict:
    """The same chunk with another text, if it says one."""
    match chunk["choices"]:
        case [{"delta": {"content": _}} as first, *others]:
            return {**chunk, "choices": [{**first, "delta": {**first["delta"], "content": text}}, *others]}
        case _:
            return chunk


@given(
    st.tuples(SPEAKING, CHUNKS),
    st.sampled_from(SPELLINGS),
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 0]), TEXTS), min_size=3, max_size=20),
    st.lists(st.integers(1, 3), min_size=20, max_size=20),
    st.sampled_from([200, 5000]),
)
async def test_what_is_not_parsed_is_told_and_folded_as_if_it_were(kinds, spell, said, sizes, room):
    events = iter([spell(saying(kinds[number == 0], text)) for number, text in said])
    pieces = [framed(*taken) for size in sizes if (taken := list(islice(events, size)))]
    found = await heard(*pieces)
    assert b"".join(framed(chunk.raw) for chunk in found) == b"".join(pieces)
    told, parsed = Fold(expected=1, max_bytes=room), Fold(expected=1, max_bytes=room)
    for chunk in found:
        fields = msgspec.json.decode(chunk.raw)
        assert chunk.fields == fields
        parsed.add(fields, len(chunk.raw))
        if chunk.more is None:
            told.add(fields, len(chunk.raw))
        else:
            told.add_text(chunk.more, len(chunk.raw))
    assert (told.overflown, told.finished, told.usage) == (parsed.overflown, parsed.finished, parsed.usage)
    assert told.overflown or told.answer() == parsed.answer()
    event(f"some were not parsed: {any(chunk.more is not None for chunk in found)}")


async def test_from_the_second_on_only_texts_are_read():
    texts = ["one", "two", "", 'a "quote"', "line\n", "☃"]
    found = await heard(*(framed(spoken(text)) for text in texts))
    assert [chunk.more for chunk in found] == [None, *texts[1:]]
    assert [chunk.parsed is None for chunk in found] == [False] + [True] * 5


async def test_events_that_come_together_are_read_so_as_well():
    found = await heard(framed(spoken("one")), framed(spoken("two"), spoken("three")))
    assert [chunk.more for chunk in found] == [None, "two", "three"]


async def test_an_event_in_two_pieces_is_one():
    whole = framed(spoken("two"))
    found = await heard(framed(spoken("one")), whole[:30], whole[30:], framed(spoken("three")))
    assert [chunk.more for chunk in found] == [None, "two", "three"]


async def test_of_events_that_come_together_those_are_parsed_that_are_different():
    found = await heard(framed(spoken("one"), spoken("two"), spoken("", usage={}), spoken("three"), spoken("four")))
    assert [chunk.more for chunk in found] == [None, "two", None, None, "four"]


@pytest.mark.parametrize(
    "other",
    [
        spoken("b", model="m"),
        spoken("b").replace(b"null}", b"true}"),
        spoken("b").replace(b'"b"', b'"b","refusal":"no"'),
        spoken("b").replace(b'"b"', b'"b"},"delta":{"content":"c"'),
        spoken("b").replace(b'"b"', b"null"),
        spoken("b").replace(b'"b"', b"7"),
    ],
)
async def test_more_than_a_text_is_different(other):
    found = await heard(framed(spoken("a")), framed(other))
    assert [chunk.more for chunk in found] == [None, None]
    assert found[1].fields == msgspec.json.decode(other)


@pytest.mark.parametrize("blank", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("place", [b'%b"b"', b'"b"%b'])
async def test_a_line_break_beside_the_text_ends_the_line_as_everywhere(blank, place):
    broken = spoken("b").replace(b'"b"', place % blank)
    with pytest.raises(UpstreamBroken, match="isn't JSON"):
        await heard(framed(spoken("a")), framed(broken))


async def test_an_event_in_several_lines_is_passed_on_in_one():
    """Its lines would be lost on callers: they are sent what came as one line of data."""
    events = [json.dumps({"choices": [{"delta": {"content": text}}]}, indent=1).encode() for text in ("a", "b\n")]
    found = await heard(*(framed(event).replace(b"\n ", b"\ndata:  ").replace(b"\n}", b"\ndata: }") for event in events))
    assert [chunk.raw for chunk in found] == [event.replace(b"\n", b" ") for event in events]
    assert [chunk.fields for chunk in found] == [json.loads(event) for event in events]


async def test_what_was_learned_from_two_lines_is_not_looked_for_in_one():
    event = spoken("a").replace(b',"choices"', b',\n"choices"')
    in_lines = framed(event).replace(b'\n"', b'\ndata: "')
    assert [chunk.more for chunk in await heard(in_lines, in_lines)] == [None, "a"]
    with pytest.raises(UpstreamBroken, match="isn't JSON"):
        await heard(in_lines, framed(event))


@pytest.mark.parametrize(
    "like",
    [
        b'{"choices":[{"delta":{"content":"a","x":"a"}}]}',
        b'{"choices":[{"delta":{"content":"a"}}],"choices":[{"delta":{"content":"a"}}]}',
    ],
)
async def test_a_text_whose_place_is_in_doubt_is_not_looked_for(like):
    found = await heard(framed(like), framed(like))
    assert [chunk.more for chunk in found] == [None, None]


async def test_where_each_chunk_has_a_random_member_nothing_more_is_learned():
    random = [framed(spoken("a", obfuscation=f"{number}")) for number in range(4)]
    same = [framed(spoken("a"))] * 3
    found = await heard(*random, *same)
    assert [chunk.more for chunk in found] == [None] * 7


# events of another dialect

DELTA = {"type": "text_delta", "text": ""}
EVENTS = st.sampled_from(
    [
        {"type": "content_block_delta", "index": 0, "delta": DELTA},
        {"type": "content_block_delta", "index": 0, "delta": DELTA},
        {"type": "content_block_delta", "index": 1, "delta": DELTA},
        {"type": "content_block_delta", "index": 0, "delta": {**DELTA, "more": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": DELTA, "more": "a"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}},
        {"type": "ping"},
        {"type": "message_start", "message": {"id": "x", "model": "m", "usage": {"input_tokens": 1}}},
    ]
)


def telling(event: dict, text: str) -> bytes:
    """One event as it comes, with this text if it has one."""
    said = {**event, "delta": {**event["delta"], "text": text}} if "delta" in event else event
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(said))


@given(st.lists(st.tuples(EVENTS, TEXTS), max_size=20), st.booleans())
def test_events_that_are_not_parsed_are_translated_as_if_they_were(told, as_told):
    found = []
    for frames in (JsonEvents(speaking), JsonEvents()):
        reader = AnthropicReader(Writer(created=1, model="m", answer_id="y", as_told=as_told))
        found.append([chunk for one in told for event in frames.feed(telling(*one)) for chunk in reader.read(event)])
    for skipping, parsing in zip(*found, strict=True):
        assert (skipping.raw, skipping.fields, skipping.more) == (parsing.raw, parsing.fields, parsing.more)


def test_of_events_that_are_translated_only_texts_are_read():
    frames = JsonEvents(speaking)
    event = {"type": "content_block_delta", "index": 0, "delta": DELTA}
    found = [one for text in ("one", "two", "", "t\n") for one in frames.feed(telling(event, text))]
    assert found[1:] == [More("two"), More(""), More("t\n")]
    assert found[0] == {**event, "delta": {**DELTA, "text": "one"}}, "as it was before it was learned from"
    assert list(frames.feed(telling({"type": "ping"}, ""))) == [{"type": "ping"}]
    (after,) = frames.feed(telling(event, "three"))
    assert after["delta"]["text"] == "three"
