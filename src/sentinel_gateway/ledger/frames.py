"""How rows stand in a segment: frames of a length, a checksum and the rows, one behind the other. No I/O.

A frame is written by one call. One that is cut short, or whose checksum is wrong, ends what can be read of a segment: what
follows it was never promised to anybody, or can't be trusted.
"""

import struct
import sys
from collections.abc import Sequence
from typing import Final, Generic, TypeVar
from zlib import crc32

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
    return HEAD.pack(len(payload), crc32(payload)) + payload


class Read(msgspec.Struct, Generic[RowT], frozen=True):
    """The rows of all whole frames, and how far these go. `rest` bytes follow that are none; they may be one some day."""

    rows: list[RowT]
    end: int
    rest: int
    damaged: bool = False
    """The rest is more than a frame that was cut short: something has changed it."""


def read(data: bytes, decoder: msgspec.msgpack.Decoder[list[RowT]], start: int = 0, *, limit: int = sys.maxsize) -> Read[RowT]:
    """What stands in `data` from `start` on: at most about `limit` rows, or all."""
    rows: list[RowT] = []
    view, size, at = memoryview(data), len(data), start
    while (begin := at + HEAD.size) <= size and len(rows) < limit:
        length, checksum = HEAD.unpack_from(data, at)
        end = begin + length
        if end > size and length <= LARGEST:
            break
        payload = view[begin:end]
        if length > LARGEST or crc32(payload) != checksum:
            return Read(rows, at, size - at, damaged=any(view[at:]))  # zeros are what a power cut leaves of a write
        try:
            rows += decoder.decode(payload)
        except msgspec.DecodeError:  # zeros again; or whole, and yet none of ours: of a newer Sentinel, perhaps
            return Read(rows, at, size - at, damaged=any(view[at:]))
        at = end
    return Read(rows, at, size - at)
