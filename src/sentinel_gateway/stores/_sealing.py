"""What is stored as bytes that can't lie: version, checksum, MessagePack.

The checksum covers key, metadata and body alike, so a flipped bit, or a blob that stands under another entry's key, is a miss
and never an answer. Never pickle: reading one runs code.
"""

import zlib
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from sentinel_gateway.core.caching import Entry, Head

VERSION: Final = b"\x02"
"""Changes with the layout below; a blob of another version is unreadable, so it is a miss."""
CHECKSUM_BYTES: Final = 4

T = TypeVar("T")


class KeptVector(msgspec.Struct, frozen=True):
    """What `model` made of the question under `key`."""

    key: str
    model: str
    vector: bytes


_encode_into = msgspec.msgpack.Encoder().encode_into
_decode_entry = msgspec.msgpack.Decoder(Entry).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_vector = msgspec.msgpack.Decoder(KeptVector).decode


def seal(value: Head | KeptVector) -> bytearray:
    """The value as bytes. Raises ValueError or OverflowError if it holds what MessagePack can't (a lone surrogate, 2**64)."""
    sealed = bytearray(VERSION)
    _encode_into(value, sealed, len(VERSION))
    sealed += _checksum(sealed)
    return sealed


def unseal(blob: bytes | None, key: str) -> Entry | None:
    """The entry that was sealed under this key; None if these are not exactly its bytes."""
    entry = unseal_any(blob)
    return entry if entry is not None and entry.key == key else None


def unseal_any(blob: bytes | None) -> Entry | None:
    """The entry that was sealed, under whichever key; None if these are not exactly its bytes."""
    return _open(blob, _decode_entry)


def unseal_head(blob: bytes | None) -> Head | None:
    """The head that was sealed; None if these are not exactly its bytes."""
    return _open(blob, _decode_head)


def unseal_vector(blob: bytes | None, key: str) -> KeptVector | None:
    """The vector that was sealed under this key; None if these are not exactly its bytes."""
    kept = _open(blob, _decode_vector)
    return kept if kept is not None and kept.key == key else None


def _open(blob: bytes | None, decode: Callable[[memoryview], T]) -> T | None:
    if blob is None or not blob.startswith(VERSION):
        return None
    content, checksum = memoryview(blob)[:-CHECKSUM_BYTES], blob[-CHECKSUM_BYTES:]
    if _checksum(content) != checksum:
        return None
    try:
        return decode(content[len(VERSION) :])
    except msgspec.DecodeError:
        return None


def _checksum(content: bytearray | memoryview) -> bytes:
    # Against disks, not against forgers: whoever can write the file could make any digest. 0.5 us for 1.6 KB, BLAKE2b takes 2.8.
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES)
