"""How rows stand in a segment: frames of a length, a checksum and the rows, one behind the other. No I/O.

A frame is written by one call. One that is cut short, or whose checksum is wrong, ends what can be read of a segment: what
follows it was never promised to anybody, or can't be trusted.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from sentinel_gateway.ports.ledger import Row

MAGIC: Final = b"SNTLEDG1"
"""At the beginning of a segment."""
HEAD: Final = struct.Struct("<II")
LARGEST: Final = 1 << 24
"""Bytes of a frame: a longer one is no frame."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Row])


def framed(rows: Sequence[Row]) -> bytes:
    """Rows as one frame."""
    payload = _encoder.encode(rows)
    return HEAD.pack(len(payload), zlib.crc32(payload)) + payload


class Read(msgspec.Struct, frozen=True):
    """The rows of all whole frames, and how far these go. `rest` bytes follow that are none; they may be one some day."""

    rows: list[Row]
    end: int
    rest: int
    damaged: bool = False
    """The rest is more than a frame that was cut short: something has changed it."""


def read(data: bytes, start: int = 0, *, limit: int | None = None) -> Read:
    """What stands in `data` from `start` on: at most about `limit` rows, or all."""
    rows: list[Row] = []
    view, at = memoryview(data), start
    while len(data) - at >= HEAD.size and (limit is None or len(rows) < limit):
        length, checksum = HEAD.unpack_from(data, at)
        payload = view[at + HEAD.size : at + HEAD.size + length]
        if not 0 < length <= LARGEST or (len(payload) == length and zlib.crc32(payload) != checksum):
            return Read(rows, at, len(data) - at, damaged=any(view[at:]))  # zeros are what a power cut leaves of a write
        if len(payload) < length:
            break
        try:
            rows += _decoder.decode(payload)
        except msgspec.DecodeError:  # whole, and yet none of ours: of a newer Sentinel, perhaps
            return Read(rows, at, len(data) - at, damaged=True)
        at += HEAD.size + length
    return Read(rows, at, len(data) - at)
