"""The SSE reader against the standard, spelled out slowly, on streams cut anywhere."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel_gateway.providers._sse import SseReader

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
LINES = [
    b"data: {}",
    b'data: {"a":"\xf0\x9f\x99\x82"}',
    b"data:x",
    b"data:  two spaces",
    b"data",
    b"data:",
    b"data: ",
    b"data: [DONE]",
    b"database: no",
    b" data: no",
    b": comment",
    b":",
    b"event: error",
    b"id: 7",
    b"retry: 10",
    b"\xef\xbb\xbfdata: marked",
    b"",
    b"",
    b"",
]
pieces = st.one_of(
    st.tuples(st.sampled_from(LINES), st.sampled_from(LINE_ENDS)).map(b"".join),
    st.just(b"data: {}\n\n"),
    st.just(b"event: a\ndata: {}\n\n"),
    st.binary(max_size=6),
)
streams = st.lists(pieces, max_size=30).map(b"".join)


def standard(stream: bytes) -> list[bytes]:
    """The HTML standard's event stream interpretation, one byte after the other; events without data left out."""
    events, data, line = [], [], bytearray()
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    position = 0
    while position < len(stream):
        byte = stream[position : position + 1]
        position += 1
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        if byte == b"\r" and stream[position : position + 1] == b"\n":
            position += 1
        if not line:
            if b"\n".join(data):
                events.append(b"\n".join(data))
            data = []
        else:
            field, colon, value = bytes(line).partition(b":")
            if field == b"data":
                data.append(value[1:] if colon and value.startswith(b" ") else value)
        line.clear()
    return events


def read_in_pieces(stream: bytes, cuts: list[int], reader: SseReader) -> list[bytes]:
    events, places = [], sorted({cut % (len(stream) + 1) for cut in cuts})
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        events += reader.feed(stream[start:end])
    return events


@given(streams, st.lists(st.integers(0, 1000), max_size=12))
@example(b"data: a\n\ndata: b\n\n", [])
@example(b"data: a\n\n\ndata: b\n\n", [])
@example(b"data: a\n\ndata: \n\n", [])
@example(b"data: a\ndata: b\n\n", [])
@example(b"data: a\rdata: b\n\n", [])
@example(b"data: a\r\n\r\n", [8])
@example(b"\rdata: a\n\n", [1])
@example(b"data: a\r", [8])
@example(b"event: a\ndata: b\n\n", [])
@example(b"event: a\ndata: b\n\nevent: c\ndata: d\n\n", [])
@example(b"event: a\ndata: b\n\ndata: c\n\n", [])
@example(b"event: a\ndata: b\n\nevent: c\n\nevent: d\ndata: e\ndata: f\n\n", [])
@example(b"event: a\ndata: b\n\nevent: c\nid: d\ndata: e\n\n", [])
@example(b"event: a\ndata: b\n\nevent: c\ndata: \n\n", [])
@example(b"event: a\ndata: b\n\n\nevent: c\ndata: d\n\n", [])
@example(b"event: a\ndata: b\n\nretry: 1\ndata: c\n\n", [])
@example(b"event: a\ndata: b\ndata: c\n\n", [])
@example(b"event: a\ndata: \n\n", [])
@example(b"event: a\ndata: b\rdata: c\n\n", [])
@example(b"data: a\nevent: b\ndata: c\n\n", [8])
def test_however_a_stream_is_cut_its_events_are_those_of_the_standard(stream, cuts):
    assert read_in_pieces(stream, cuts, SseReader()) == standard(stream)


@given(streams)
def test_byte_by_byte(stream):
    reader = SseReader()
    assert [event for index in range(len(stream)) for event in reader.feed(stream[index : index + 1])] == standard(stream)


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda data: not set(data) & set(b"\r\n")), max_size=8))
def test_the_usual_stream_in_one_read(payloads):
    stream = b"".join(b"data: %b\n\n" % payload for payload in payloads)
    assert SseReader().feed(stream) == payloads


@pytest.mark.parametrize(
    ("stream", "rest"),
    [
        (b"data: [DONE]", b"[DONE]"),
        (b"data: [DONE]\n", b"[DONE]"),
        (b"data: [DONE]\n\n", b""),
        (b"data: a\n\ndata: {", b"{"),
        (b"data: a\ndata: b", b"a\nb"),
        (b": comment", b""),
        (b"", b""),
    ],
)
def test_what_an_unended_event_holds(stream, rest):
    reader = SseReader()
    reader.feed(stream)
    assert reader.rest() == rest


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 200 + b"\n\n",
        b"data: " + b"x" * 200,
        b"x" * 200,
        b": " + b"x" * 200,
        b"data: xxxxxxxxx\n" * 20,
        b"data:\n" * 200,
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_endless_event_is_an_error_however_it_comes(stream, size):
    reader = SseReader(max_event_bytes=100)
    assert [event for start in range(0, len(stream), size) for event in reader.feed(stream[start : start + size])] == []
    assert reader.endless
    assert reader.feed(b"\n\ndata: a\n\n") == [], "nothing that comes behind it makes it good"


@given(streams, st.lists(st.integers(0, 1000), max_size=12), st.integers(4, 20))
@example(b"data: a\n\ndata: bbbbbb", [], 10)
@example(b": a comment\n", [9], 10)
@example(b"data: bbbbb\n", [11], 10)
@example(b"\xef\xbb\xbfdata: bbbb\n\n", [], 10)
def test_where_a_stream_is_endless_hangs_on_no_cut(stream, cuts, most):
    """Byte by byte no line is longer than what is held of it."""
    slow, reader = SseReader(max_event_bytes=most), SseReader(max_event_bytes=most)
    events = [event for index in range(len(stream)) for event in slow.feed(stream[index : index + 1])]
    assert read_in_pieces(stream, cuts, reader) == events
    assert reader.endless is slow.endless


def test_short_events_are_never_too_long():
    reader = SseReader(max_event_bytes=100)
    assert sum(len(reader.feed(b"data: xxxxxxxxx\n\n" * count)) for count in range(1, 40)) == sum(range(1, 40))
    assert repr(reader) == "<SseReader holds 0 bytes>"
