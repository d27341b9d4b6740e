"""How rows stand in a segment: frames of a length, a checksum and the rows, one behind the other. No I/O.

A frame is written by one call. One that is cut short, or whose checksum is wrong, ends what can be read of a segment: what
follows it was never promised to anybody, or can't be trusted.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import msgspec

from sentinel_gateway.ports.ledger import Enrolled, Handled, Row, Settled

MAGIC: Final = b"SNTLEDG1"
"""At the beginning of a segment."""
HEAD: Final = struct.Struct("<II")
LARGEST: Final = 1 << 24
"""Bytes of a frame: a longer one is no frame."""

RowT = TypeVar("RowT")


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """An `Intent` as it is read by whoever looks for outcomes: there is one, and no member of it is made."""


ALL: Final = msgspec.msgpack.Decoder(list[Row])
OUTCOMES: Final = msgspec.msgpack.Decoder(list[Begun | Settled | Handled | Enrolled])
_encoder: Final = msgspec.msgpack.Encoder()


def framed(rows: Sequence[Row]) -> bytes:
    """Rows as one frame."""
    payload = _encoder.encode(rows)
    return HEAD.pack(len(payload), zlib.crc32(payload)) + payload


class Read(msgspec.Struct, Generic[RowT], frozen=True):
    """The rows of all whole frames, and how far these go. `rest` bytes follow that are none; they may be one some day."""

    rows: list[RowT]
    end: int
    rest: int
    damaged: bool = False
    """The rest is more than a frame that was cut short: something has changed it."""


def read(data: bytes, decoder: msgspec.msgpack.Decoder[list[RowT]], start: int = 0, *, limit: int | None = None) -> Read[RowT]:
    """What stands in `data` from `start` on: at most about `limit` rows, or all."""
    rows: list[RowT] = []
    view, at = memoryview(data), start
    while len(data) - at >= HEAD.size and (limit is None or len(rows) < limit):
        length, checksum = HEAD.unpack_from(data, at)
        payload = view[at + HEAD.size : at + HEAD.size + length]
        if not 0 < length <= LARGEST or (len(payload) == length and zlib.crc32(payload) != checksum):
            return Read(rows, at, len(data) - at, damaged=any(view[at:]))  # zeros are what a power cut leaves of a write
        if len(payload) < length:
            break
        try:
            rows += decoder.decode(payload)
        except msgspec.DecodeError:  # whole, and yet none of ours: of a newer Sentinel, perhaps
            return Read(rows, at, len(data) - at, damaged=True)
        at += HEAD.size + length
    return Read(rows, at, len(data) - at)
