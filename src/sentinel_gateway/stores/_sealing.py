"""An entry as bytes that can't lie: version, checksum, MessagePack.

The checksum covers key, metadata and body alike, so a flipped bit, or a blob that stands under another entry's key, is a miss
and never an answer. Never pickle: reading one runs code.
"""

import hashlib
from typing import Final

import msgspec

from sentinel_gateway.core.caching import Entry

VERSION: Final = b"\x01"
"""Changes with the layout below; a blob of another version is unreadable, so it is a miss."""
DIGEST_BYTES: Final = 16
_PAYLOAD_AT: Final = len(VERSION) + DIGEST_BYTES

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def seal(entry: Entry) -> bytes:
    """The entry as bytes. Raises ValueError or OverflowError if it holds what MessagePack can't (a lone surrogate, 2**64)."""
    payload = _encode(entry)
    return VERSION + _digest(payload) + payload


def unseal(blob: bytes | None, key: str) -> Entry | None:
    """The entry that was sealed under this key; None if these are not exactly its bytes."""
    if blob is None or not blob.startswith(VERSION):
        return None
    payload = memoryview(blob)[_PAYLOAD_AT:]
    if _digest(payload) != blob[len(VERSION) : _PAYLOAD_AT]:
        return None
    try:
        entry = _decode(payload)
    except msgspec.DecodeError:
        return None
    return entry if entry.key == key else None


def _digest(payload: bytes | memoryview) -> bytes:
    # 2.8 us for 1.6 KB on any processor; SHA-256 takes 1.3 or 4.8, as the processor knows it or not.
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()
