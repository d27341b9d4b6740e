"""The demo's vectors: the same text has the same one, and texts that share words are near each other. They mean nothing more."""

import base64
import hashlib
import math
import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from sentinel_gateway.core.embeddings import Item

DIMENSIONS: Final = 256
"""Where none are asked for."""
MOST_DIMENSIONS: Final = 4096
WORDS: Final = 4096
"""So many words of an item count, at most."""
_BYTES: Final = 2
_MIDDLE: Final = 1 << 15

_encode = msgspec.json.Encoder().encode


def make_vector(item: Item, dimensions: int, *, in_base64: bool) -> bytes:
    """As it is written in JSON: 32-bit floats, of length 1."""
    sums = [0.0] * dimensions
    for word in set(_words(item)):
        drawn = hashlib.shake_256(word.encode()).digest(dimensions * _BYTES)
        sums = [held + number - _MIDDLE for held, number in zip(sums, struct.unpack(f"<{dimensions}H", drawn), strict=True)]
    length = math.hypot(*sums) or 1.0
    packed = struct.pack(f"<{dimensions}f", *(number / length for number in sums))
    if in_base64:
        return b'"%b"' % base64.b64encode(packed)
    return _encode(struct.unpack(f"<{dimensions}f", packed))


def _words(item: Item) -> Iterable[str]:
    words = item.lower().split() or [item] if isinstance(item, str) else map(str, item)
    return list(words)[:WORDS]
