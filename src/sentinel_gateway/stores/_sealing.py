"""What is stored as bytes that can't lie: version, checksum, MessagePack.

The checksum covers key, metadata and body alike, so a flipped bit, or a blob that stands under another entry's key, is a miss
and never an answer. Never pickle: reading one runs code.
"""

import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from sentinel_gateway.core.caching import Entry, Head

VERSION: Final = b"\x01"
"""Changes with the layout below; a blob of another version is unreadable, so it is a miss."""
DIGEST_BYTES: Final = 16
_PAYLOAD_AT: Final = len(VERSION) + DIGEST_BYTES

T = TypeVar("T")


class KeptVector(msgspec.Struct, frozen=True):
    """What `model` made of the question under `key`."""

    key: str
    model: str
    vector: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(Entry).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_vector = msgspec.msgpack.Decoder(KeptVector).decode


def seal(value: Head | KeptVector) -> bytes:
    """The value as bytes. Raises ValueError or OverflowError if it holds what MessagePack can't (a lone surrogate, 2**64)."""
    payload = _encode(value)
    return VERSION + _digest(payload) + payload


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
    payload = memoryview(blob)[_PAYLOAD_AT:]
    if _digest(payload) != blob[len(VERSION) : _PAYLOAD_AT]:
        return None
    try:
        return decode(payload)
    except msgspec.DecodeError:
        return None


def _digest(payload: bytes | memoryview) -> bytes:
    # 2.8 us for 1.6 KB on any processor; SHA-256 takes 1.3 or 4.8, as the processor knows it or not.
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()
