"""What was learned, as bytes and back: on a thread, in pieces, with pauses in which the event loop has its turn.

A thread that works in the interpreter holds up all others: for 5 ms where it runs Python, as long as it likes where it encodes.
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np

from sentinel_gateway.core.confidence.learner import VERSION, Fit, State
from sentinel_gateway.core.confidence.rarity import Counts
from sentinel_gateway.core.confidence.window import ROW

PIECE: Final = 100
"""Entries that are encoded, or decoded, at a time: some 0.1 ms."""
BEGINNING: Final = 1 << 16
"""Bytes at the beginning of what is kept, in which its fit is."""
PAUSE: Final = 1e-4

breathe = partial(time.sleep, PAUSE)
"""Gives the interpreter away for a moment."""

_encode = msgspec.msgpack.Encoder().encode


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int
    fit: Fit
    questions: int
    lots: tuple[int, ...]
    """How many pieces there are of each of `_KINDS`; blocks of rows follow."""
    lesson: int = 0


_KINDS: Final[tuple[Any, ...]] = (
    dict[str, tuple[float, float]],
    dict[str, dict[str, bool]],
    dict[str, float],
    dict[int, int],
)
_pieces = msgspec.msgpack.Decoder(list[memoryview]).decode
_head = msgspec.msgpack.Decoder(_Head).decode
_decoders: Final = tuple(msgspec.msgpack.Decoder(kind).decode for kind in _KINDS)


def written(state: State) -> bytes:
    """For `read`."""
    mappings: tuple[dict[Any, Any], ...] = (state.standings, state.kinship, state.arounds, state.counts.words)
    lots = [[_briefly(piece) for piece in _cut(mapping)] for mapping in mappings]
    head = _Head(state.version, state.fit, state.counts.questions, tuple(map(len, lots)), state.lesson)
    return _encode([_encode(head), *(piece for lot in lots for piece in lot), *(block.tobytes() for block in state.blocks)])


def fitted(kept: bytes) -> Fit | None:
    """Its fit alone, in next to no time, and also of its beginning (`BEGINNING`); None if it is of another version."""
    try:
        head = _head(_first(kept))
    except (msgspec.DecodeError, IndexError):
        return None
    return head.fit if head.version == VERSION else None


def read(kept: bytes) -> State | None:
    """As it was; None if it is of another version, or damaged."""
    try:
        first, *pieces = _pieces(kept)
        head = _head(first)
        rest = iter(pieces)
        mappings = [_joined(islice(rest, lot), decode) for lot, decode in zip(head.lots, _decoders, strict=True)]
        blocks = tuple(np.frombuffer(piece, ROW) for piece in rest)
    except (msgspec.DecodeError, ValueError):
        return None
    standings, kinship, arounds, words = mappings
    return State(head.fit, blocks, standings, kinship, arounds, Counts(head.questions, words), head.version, head.lesson)


def _first(kept: bytes) -> bytes:
    """The first of the pieces, as MessagePack has them: an array of byte strings, each with its length before it."""
    start = {0xDC: 3, 0xDD: 5}.get(kept[0], 1)
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(kept[start], 0)
    begins = start + 1 + width
    return kept[begins : begins + int.from_bytes(kept[start + 1 : begins])]


def _cut(mapping: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
    items = iter(list(mapping.items()))  # in one step of the interpreter: its owner goes on changing it
    while piece := dict(islice(items, PIECE)):
        yield piece


def _briefly(piece: dict[Any, Any]) -> bytes:
    breathe()
    return _encode(piece)


def _joined(pieces: Iterator[memoryview], decode: Any) -> dict[Any, Any]:
    whole: dict[Any, Any] = {}
    for piece in pieces:
        whole |= decode(piece)
        breathe()
    return whole
