"""The mock's embeddings: each item's vector is made of its text alone, so that it is the same in any batch."""

import base64
import hashlib
import struct
from typing import Any, Final

import msgspec

DIMENSIONS: Final = 8
TOKEN_LENGTH: Final = 4

_encode = msgspec.json.Encoder(order="deterministic").encode


def embeddings_body(fields: dict[str, Any]) -> tuple[bytes, int]:
    """The answer to a request, and its tokens. Raises where the fields are none of such a request."""
    asked = fields["input"]
    items = [asked] if isinstance(asked, str) or isinstance(asked[0], int) else asked
    dimensions, in_base64 = fields.get("dimensions") or DIMENSIONS, fields.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(item, fields["model"], dimensions, in_base64=in_base64)}
        for index, item in enumerate(items)
    ]
    tokens = sum(len(item) if isinstance(item, list) else -(-len(item) // TOKEN_LENGTH) for item in items)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _encode({"object": "list", "data": data[::-1], "model": fields["model"], "usage": usage}), tokens


def _vector(item: str | list[int], model: str, dimensions: int, *, in_base64: bool) -> str | list[float]:
    drawn = hashlib.shake_256(_encode([model, item])).digest(2 * dimensions)
    numbers = [number / 32768 - 1 for number in struct.unpack(f"<{dimensions}H", drawn)]
    return base64.b64encode(struct.pack(f"<{dimensions}f", *numbers)).decode() if in_base64 else numbers
