"""Amazon's binary event stream: cut anywhere, damaged anywhere."""

from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.providers._event_stream import MAX_MESSAGE, Event, EventStreamReader
from sentinel_gateway.providers._reported import Garbled
from tests.native import event_message

STREAM = event_message("messageStart", {"role": "assistant"}) + event_message("x", {"a": "\u00fc" * 40}) + event_message("y", {})
EVENTS = [
    Event("event", "messageStart", {"role": "assistant"}),
    Event("event", "x", {"a": "\u00fc" * 40}),
    Event("event", "y", {}),
]


def message(headers, payload):
    """With any bytes for headers."""
    prelude = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    whole = prelude + crc32(prelude).to_bytes(4, "big") + headers + payload
    return whole + crc32(whole).to_bytes(4, "big")


def read(*pieces):
    reader = EventStreamReader()
    return [event for piece in pieces for event in reader.feed(piece)]


def test_the_vector_of_the_published_format():
    """An empty message, with the checksums that the format's own tests give it."""
    assert read(bytes.fromhex("000000100000000005c248eb7d98c8ff")) == [Event("", "", {})]


@given(st.lists(st.integers(0, len(STREAM)), max_size=6).map(sorted))
def test_pieces_of_any_size_make_the_same_events(cuts):
    places = [0, *cuts, len(STREAM)]
    assert read(*(STREAM[start:end] for start, end in pairwise(places))) == EVENTS


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_no_damage_goes_unseen(place, change):
    damaged = bytearray(STREAM)
    damaged[place] ^= change
    try:
        events = read(bytes(damaged))
    except Garbled:
        return
    assert events == EVENTS[: len(events)]
    assert len(events) < len(EVENTS)


def test_what_came_before_the_damage_is_told():
    reader = EventStreamReader()
    events = reader.feed(STREAM[:-1] + b"\0")
    assert [next(events), next(events)] == EVENTS[:2]
    with pytest.raises(Garbled, match="damaged"):
        next(events)


def test_every_type_of_header_is_passed_over_but_text():
    values = [
        (0, b""),
        (1, b""),
        (2, b"1"),
        (3, b"12"),
        (4, b"1234"),
        (5, b"8" * 8),
        (6, b"\0\2ab"),
        (8, b"8" * 8),
        (9, b"u" * 16),
    ]
    others = b"".join(b"\1n" + bytes([kind]) + value for kind, value in values)
    named = b"\x0d:message-type\7\0\x05error" + b"\x0b:error-code\7\0\x08Internal"
    assert read(message(others + named, b'{"a":1}')) == [Event("error", "Internal", {"a": 1})]


@pytest.mark.parametrize("headers", [b"\5ab", b"\1n", b"\1n\x0a", b"\1n\7\0", b"\1n\7\0\5ab", b"\1n\7\0\1\xff", b"\1\xff\0"])
def test_headers_that_are_none(headers):
    with pytest.raises(Garbled, match="headers"):
        read(message(headers, b"{}"))


@pytest.mark.parametrize("payload", [b"{", b"[]", b"7", b"\xff"])
def test_a_payload_that_is_no_object(payload):
    with pytest.raises(Garbled, match="JSON object"):
        read(message(b"", payload))


def test_a_damaged_length_is_not_waited_for():
    damaged = bytearray(STREAM[:12])
    damaged[2] ^= 1
    with pytest.raises(Garbled, match="beginning"):
        read(bytes(damaged))


@pytest.mark.parametrize(("size", "headers"), [(15, 0), (0, 0), (MAX_MESSAGE + 1, 0), (20, 5), (2**32 - 1, 2**32 - 1)])
def test_sizes_that_cannot_be(size, headers):
    prelude = size.to_bytes(4, "big") + headers.to_bytes(4, "big")
    with pytest.raises(Garbled, match="beginning"):
        read(prelude + crc32(prelude).to_bytes(4, "big"))
