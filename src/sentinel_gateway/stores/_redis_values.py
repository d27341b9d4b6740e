"""An entry as the value of a Redis key: version, proof, what is known without the body, the rest; MessagePack, never pickle.

The proof is made with the gateway's secret: neither a flipped bit nor a value that somebody else has written is ever an answer.
"""

import hashlib
from typing import Final

import msgspec

from sentinel_gateway.core.caching import Entry, Head

VERSION: Final = b"\x01"
"""Changes with the layout below; a value of another version is unreadable, so it is a miss."""
PROOF_BYTES: Final = 16
_LENGTH_AT: Final = len(VERSION) + PROOF_BYTES
_HEAD_AT: Final = _LENGTH_AT + 4
PERSON: Final = b"sentinel replies"

_LENGTHS: Final = {b"\xd9": 1, b"\xda": 2, b"\xdb": 4}
"""Of MessagePack's longer texts: how many bytes tell how long they are."""

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_rest = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


class Values:
    """Packs entries and proves what it unpacks."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=32, person=PERSON).digest()
        self.owner = hashlib.blake2b(self._key, digest_size=4).hexdigest()
        """Part of every key's name: gateways that don't share a secret can't read each other's, and stay out of their way."""

    def pack(self, entry: Entry) -> bytes:
        """Raises ValueError or OverflowError if it holds what MessagePack can't (a lone surrogate, 2**64)."""
        head = _encode(msgspec.structs.replace(entry.head(), text=""))
        payload = len(head).to_bytes(4) + head + _encode((entry.text, entry.body))
        return self.seal(payload)

    def seal(self, payload: bytes) -> bytes:
        """With its version and its proof before it."""
        return VERSION + self._prove(payload) + payload

    def unseal(self, value: bytes) -> memoryview | None:
        """What was sealed; None if these are not exactly its bytes."""
        payload = memoryview(value)[_LENGTH_AT:]
        proven = value.startswith(VERSION) and self._prove(payload) == value[len(VERSION) : _LENGTH_AT]
        return payload if proven else None

    def unpack(self, value: bytes, key: str) -> Entry | None:
        """The entry that was packed under this key; None if these are not exactly its bytes."""
        if self.unseal(value) is None:
            return None
        end = _HEAD_AT + head_length(value)
        try:
            head = _decode_head(memoryview(value)[_HEAD_AT:end])
            text, body = _decode_rest(memoryview(value)[end:])
        except msgspec.DecodeError:
            return None
        if head.key != key:
            return None
        known = {name: getattr(head, name) for name in Head.__struct_fields__}
        return Entry(**known | {"text": text}, body=body)

    def _prove(self, payload: bytes | memoryview) -> bytes:
        return hashlib.blake2b(payload, digest_size=PROOF_BYTES, key=self._key).digest()


def head_length(value: bytes) -> int:
    """Of what is known without the body."""
    return int.from_bytes(value[_LENGTH_AT:_HEAD_AT])


def head_end(value: bytes) -> int:
    """As many bytes of a value tell whose it is."""
    return _HEAD_AT + head_length(value)


def read_text(value: bytes) -> str | None:
    """The question, without proof, by the first bytes of a value; None if it does not stand within them."""
    start = head_end(value) + 1
    opened = value[start - 1 : start + 5]
    if not opened.startswith(b"\x92"):  # MessagePack: of two, the question and the body
        return None
    kind, more = opened[1:2], opened[2:]
    if b"\xa0" <= kind <= b"\xbf":
        length, start = kind[0] - 0xA0, start + 1
    elif kind in _LENGTHS:
        size = _LENGTHS[kind]
        length, start = int.from_bytes(more[:size]), start + 1 + size
    else:
        return None
    text = value[start : start + length]
    try:
        return text.decode() if len(text) == length else None
    except UnicodeDecodeError:
        return None


def read_head(value: bytes) -> Head | None:
    """What is known of an entry by the first bytes of its value, without proof and without its text; None if that is not it."""
    try:
        return _decode_head(value[_HEAD_AT : head_end(value)]) if value.startswith(VERSION) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
