"""OpenAI's list of embeddings as a provider sends it: each vector as it is written, in the order of what was asked."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from sentinel_gateway.core.chat import MAX_TOKENS
from sentinel_gateway.ports import Embedded


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Reply(msgspec.Struct):
    data: list[_Vector]
    usage: Any = None


_decode = msgspec.json.Decoder(_Reply).decode
_numbers = msgspec.json.Decoder(list[float]).decode


def read_embeddings(body: bytes, *, count: int, in_base64: bool) -> Embedded | None:
    """So many vectors; None if that is not what the body holds.

    Some servers send numbers whatever was asked for: as base64 holds them, they are 32-bit floats, lowest byte first.
    """
    try:
        reply = _decode(body)
        vectors = _in_order(reply.data, count)
        if vectors is None or not all(vector[:1] in {b"[", b'"'} and vector not in {b"[]", b'""'} for vector in vectors):
            return None
        if in_base64:
            vectors = [_packed(vector) if vector.startswith(b"[") else vector for vector in vectors]
    except (ValueError, RecursionError, struct.error, OverflowError):
        return None
    return Embedded(tuple(vectors), _tokens(reply.usage))


def _in_order(data: Sequence[_Vector], count: int) -> list[bytes] | None:
    """By their numbers; those without come in the order of what was asked."""
    places = [place if vector.index is None else vector.index for place, vector in enumerate(data)]
    if sorted(places) != list(range(count)):
        return None
    by_place = dict(zip(places, data, strict=True))
    return [bytes(by_place[place].embedding) for place in range(count)]


def _packed(written: bytes) -> bytes:
    numbers = _numbers(written)
    return b'"%b"' % base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers))


def _tokens(usage: Any) -> int | None:
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and 0 <= tokens <= MAX_TOKENS else None
