"""Amazon's binary event stream, read from bytes as they arrive. No I/O: bytes in, whole events out, every checksum checked.

A message is its length, the length of its headers, a CRC-32 of these two, the headers, a payload of JSON, and a CRC-32 of all
before it; numbers are big-endian. Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.parts import has_more_parts
from sentinel_gateway.providers._provider import EVENT_PARTS
from sentinel_gateway.providers._reported import Garbled

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes; a longer message is a provider out of its mind, or an attack on our memory."""
LEAST: Final = 16
"""Bytes of a message without headers and payload."""

_PRELUDE: Final = struct.Struct(">III")
_STRING: Final = 7
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Of a header's value, by its type. Types 6 and 7, bytes and text, tell their size."""
_TOLD: Final = frozenset({6, _STRING})


class Event(msgspec.Struct, frozen=True):
    """One message. `kind` is `event`, `exception` or `error`; `name` is its type, or what failed."""

    kind: str
    name: str
    fields: Fields


class EventStreamReader:
    """Reads one stream; `feed` raises `Garbled`, and the reader is useless from then on."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<EventStreamReader holds {len(self._held)} bytes>"

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that these bytes complete, in order."""
        held = self._held
        held += data
        while len(held) >= _PRELUDE.size:
            size, headers_size, checksum = _PRELUDE.unpack_from(held)
            if crc32(held[:8]) != checksum or not LEAST + headers_size <= size <= MAX_MESSAGE:
                raise Garbled("a message whose beginning is damaged")
            if len(held) < size:
                return
            message = bytes(held[:size])
            del held[:size]
            yield _read(message, headers_size)


def _read(message: bytes, headers_size: int) -> Event:
    if crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
        raise Garbled("a damaged message")
    end = _PRELUDE.size + headers_size
    headers, payload = _headers(message[_PRELUDE.size : end]), message[end:-4] or b"{}"
    if has_more_parts(payload, EVENT_PARTS):
        raise Garbled(f"an event of more than {EVENT_PARTS:,} keys and values")
    try:
        fields = msgspec.json.decode(payload, type=Fields)
    except (ValueError, RecursionError):
        raise Garbled("a message that isn't a JSON object") from None
    kind = headers.get(":message-type", "")
    name = next((value for part in ("event", "exception") if (value := headers.get(f":{part}-type"))), "")
    return Event(kind, name or headers.get(":error-code", ""), fields)


def _headers(data: bytes) -> dict[str, str]:
    """Those that are text."""
    headers, at = {}, 0
    try:
        while at < len(data):
            start = at + 1
            at = start + data[at]
            name, kind = data[start:at].decode(), data[at]
            at += 1
            if kind in _TOLD:
                size = int.from_bytes(data[at : at + 2], "big")
                at += 2
            else:
                size = _SIZES[kind]
            value = data[at : at + size]
            at += size
            if kind == _STRING:
                headers[name] = value.decode()
    except (IndexError, KeyError, UnicodeDecodeError):
        at = -1
    if at != len(data):
        raise Garbled("a message whose headers are damaged")
    return headers
