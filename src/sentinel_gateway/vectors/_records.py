"""A question as bytes that can't lie, for an index beyond this process: its head, and its vector once it has one.

    stamp (16 bytes), proof of the numbers (8), their size (2), the numbers, the head as MessagePack

Stamp and proof are made with the gateway's secret: neither a flipped bit nor a value that somebody else has written is ever a
neighbour. The stamp is the head's, so it also tells an answer from the next one under the same key. Never pickle: reading one
runs code.
"""

import hashlib
from typing import Final

import msgspec

from sentinel_gateway.core.caching import Head

STAMP_BYTES: Final = 16
PROOF_BYTES: Final = 8
PERSON: Final = b"sentinel vectors"
_SIZE_AT: Final = STAMP_BYTES + PROOF_BYTES
_NUMBERS_AT: Final = _SIZE_AT + 2

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


class Record(msgspec.Struct, frozen=True):
    """What was kept. `numbers` is empty while the question waits for its vector."""

    head: Head
    numbers: bytes


class Records:
    """Packs questions, and proves what it unpacks. The vectors are made by `model`, of `dimension` numbers."""

    def __init__(self, secret: bytes, *, model: str, dimension: int) -> None:
        self._key = hashlib.blake2b(secret, digest_size=32, person=PERSON).digest()
        self.owner = hashlib.blake2b(self._key, digest_size=4).hexdigest()
        """Part of all names: gateways that don't share a secret can't read each other's, and stay out of their way."""
        self.model = model
        self.dimension = dimension

    def stamp_of(self, head: Head) -> bytes:
        """What tells this answer from all others. Raises as `pack`."""
        return self._digest(_encode(head), STAMP_BYTES)

    def pack(self, head: Head, numbers: bytes = b"") -> bytes:
        """Both as bytes. ValueError or OverflowError if the head holds what MessagePack can't (a lone surrogate, 2**64)."""
        payload = _encode(head)
        stamp = self._digest(payload, STAMP_BYTES)
        return stamp + self._digest(stamp + numbers, PROOF_BYTES) + len(numbers).to_bytes(2, "big") + numbers + payload

    def unpack(self, value: bytes | None) -> Record | None:
        """What was packed; None if these are not exactly its bytes."""
        if value is None or len(value) < _NUMBERS_AT:
            return None
        payload_at = _NUMBERS_AT + int.from_bytes(value[_SIZE_AT:_NUMBERS_AT], "big")
        stamp, numbers, payload = value[:STAMP_BYTES], value[_NUMBERS_AT:payload_at], value[payload_at:]
        if self._digest(stamp + numbers, PROOF_BYTES) != value[STAMP_BYTES:_SIZE_AT]:
            return None
        if self._digest(payload, STAMP_BYTES) != stamp:
            return None
        try:
            return Record(_decode(payload), numbers)
        except msgspec.DecodeError:
            return None

    def _digest(self, data: bytes, size: int) -> bytes:
        return hashlib.blake2b(data, digest_size=size, key=self._key).digest()
