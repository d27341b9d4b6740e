"""The vectors of one scope, a row each, and the search through them.

A number of a vector is kept as an integer of 16 bits in units of 1/32767: as exact as a half float where vectors of unit length
have their numbers, and many times faster to read. Beside each vector stand the signs of its first 256 numbers, a bit each: how
many of them differ tells roughly how far apart two vectors are, at a tenth of the cost.

Rows change on the event loop only. A search may run in a thread meanwhile: it reads a `Snapshot`, whose arrays may be written to
under its hands, so it only names rows that are worth a look; `Rows.score` says on the loop who stands there now, and how near.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sentinel_gateway.core.caching import Head
from sentinel_gateway.core.matching import Neighbour

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

Numbers = NDArray[np.int16]
"""Vectors, a row each."""
Signs = NDArray[np.uint64]
"""Their signs, 64 to a word; a column each, so that a search goes through memory in order."""

Word = TypeVar("Word", np.int16, np.uint64)

SCALE: Final = 32_767.0
SIGNED: Final = 256
"""So many signs find the same neighbours as all 384 (measured), in two thirds of the time."""
FIRST: Final = 4
"""Rows of a new scope: most stay small."""
NUMBERS_BLOCK: Final = 512
SIGNS_BLOCK: Final = 16_384
"""Rows of a block. The first one doubles by being copied until it is full; then others are added, so growing never takes long."""
SHORTLIST: Final = 128
"""So many that are near by their signs are compared exactly. The nearest was among the first 12 (measured)."""


class Snapshot(NamedTuple):
    """What a search goes through."""

    numbers: tuple[Numbers, ...]
    signs: tuple[Signs, ...]
    rows: int


class Rows:
    """The questions of a scope that have a vector, without a gap."""

    __slots__ = ("_heads", "_numbers", "_places", "_signs")

    def __init__(self, dimension: int) -> None:
        self._numbers = [np.empty((FIRST, dimension), np.int16)]
        self._signs = [np.empty((-(-min(dimension, SIGNED) // 64), FIRST), np.uint64)]
        self._heads: list[Head] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def put(self, head: Head, numbers: Numbers, signs: Signs) -> None:
        """Add a row, or write over the one of the same key."""
        place = self._places.get(head.key)
        if place is None:
            place = self._places[head.key] = len(self._heads)
            self._heads.append(head)
            _make_room(self._numbers, place, NUMBERS_BLOCK, axis=0)
            _make_room(self._signs, place, SIGNS_BLOCK, axis=1)
        self._heads[place] = head
        self._write(place, numbers, signs)

    def remove(self, key: str) -> None:
        """The last row takes the place."""
        place = self._places.pop(key)
        last = self._heads.pop()
        end = len(self._heads)
        if place < end:
            numbers = self._numbers[end // NUMBERS_BLOCK][end % NUMBERS_BLOCK]
            self._write(place, numbers, self._signs[end // SIGNS_BLOCK][:, end % SIGNS_BLOCK])
            self._heads[place] = last
            self._places[last.key] = place
        _give_back(self._numbers, end, NUMBERS_BLOCK)
        _give_back(self._signs, end, SIGNS_BLOCK)

    def at(self, place: int) -> tuple[Head, Numbers]:
        """Who stands in a row, and what is written there now."""
        return self._heads[place], self._numbers[place // NUMBERS_BLOCK][place % NUMBERS_BLOCK]

    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(self._numbers), tuple(self._signs), len(self._heads))

    def score(self, places: Sequence[int], vector: "Vector") -> list[Neighbour]:
        """Who stands in these rows, the most similar first. Rows that are no more are left out."""
        places = [place for place in places if place < len(self._heads)]
        if not places:
            return []
        near = cosines(_gather(self._numbers, places), vector).tolist()
        scored = [Neighbour(self._heads[place], cosine) for place, cosine in zip(places, near, strict=True)]
        scored.sort(key=lambda neighbour: -neighbour.similarity)
        return scored

    def nearest(self, vector: "Vector", limit: int) -> list[Neighbour]:
        """Of few rows, on the event loop: `search` and `score` in one."""
        rows = len(self._heads)
        near = cosines(self._numbers[0][:rows], vector)
        return [Neighbour(self._heads[place], float(near[place])) for place in _order(near)[:limit]]

    def _write(self, place: int, numbers: Numbers, signs: Signs) -> None:
        self._numbers[place // NUMBERS_BLOCK][place % NUMBERS_BLOCK] = numbers
        self._signs[place // SIGNS_BLOCK][:, place % SIGNS_BLOCK] = signs


def encode(vectors: "Sequence[Vector]") -> Numbers:
    """As they are kept."""
    numbers: Numbers = np.rint(np.asarray(vectors) * SCALE).astype(np.int16)
    return numbers


def decode(numbers: Numbers) -> "Vector":
    """The vector that was kept as these, of nearly unit length."""
    return numbers.astype(np.float32) / np.float32(SCALE)


def cosines(numbers: Numbers, vector: "Vector") -> "NDArray[np.float32]":
    """Of each row with a vector of unit length."""
    products = np.vecdot(numbers.astype(np.float32), vector) / np.float32(SCALE)
    true: NDArray[np.float32] = np.minimum(products, np.float32(1.0))
    return true


def signs_of(numbers: Numbers) -> Signs:
    """The signs of each row, 64 to a word."""
    packed = np.packbits(numbers[:, :SIGNED] > 0, axis=1)
    if rest := -packed.shape[1] % 8:
        packed = np.pad(packed, ((0, 0), (0, rest)))
    words: Signs = packed.view(np.uint64)
    return words


def search(snapshot: Snapshot, vector: "Vector", limit: int) -> list[int]:
    """The rows of the nearest. Any thread may do it."""
    if snapshot.rows <= NUMBERS_BLOCK:
        return _nearest(snapshot.numbers[0][: snapshot.rows], vector, limit)
    places = _shortlist(snapshot, vector, max(SHORTLIST, limit))
    return [places[row] for row in _nearest(_gather(snapshot.numbers, places), vector, limit)]


def _shortlist(snapshot: Snapshot, vector: "Vector", size: int) -> list[int]:
    """The rows whose signs differ least."""
    if snapshot.rows <= size:
        return list(range(snapshot.rows))
    asked = signs_of(encode([vector]))[0][:, None]
    distances = np.empty(snapshot.rows, np.int32)
    for start, signs in zip(range(0, snapshot.rows, SIGNS_BLOCK), snapshot.signs, strict=False):  # the last may be a reserve
        differing = np.bitwise_count(signs[:, : snapshot.rows - start] ^ asked)
        distances[start : start + SIGNS_BLOCK] = np.add.reduce(differing, axis=0, dtype=np.uint16)
    bound = np.partition(distances, size - 1)[size - 1]  # of 32 bits: numpy is slow at it with 16
    nearer = np.flatnonzero(distances < bound)
    # Among many copies of one vector a bound alone would let all of them in.
    level = np.flatnonzero(distances == bound)[: size - len(nearer)]
    return [*nearer.tolist(), *level.tolist()]


def _nearest(numbers: Numbers, vector: "Vector", limit: int) -> list[int]:
    return _order(cosines(numbers, vector))[:limit]


def _order(near: "NDArray[np.float32]") -> list[int]:
    """The nearest first."""
    places: list[int] = np.argsort(-near, kind="stable").tolist()
    return places


def _gather(blocks: Sequence[Numbers], places: Sequence[int]) -> Numbers:
    rows = [blocks[place // NUMBERS_BLOCK][place % NUMBERS_BLOCK] for place in places]
    return np.concatenate(rows).reshape(len(rows), -1)


def _make_room(blocks: list[NDArray[Word]], place: int, size: int, *, axis: int) -> None:
    """So that `place`, the next one, has its row."""
    first = blocks[0]
    shape = list(first.shape)
    if place == len(blocks) * size:
        blocks.append(np.empty(shape, first.dtype))
    elif place == shape[axis]:
        shape[axis] *= 2
        larger = np.empty(shape, first.dtype)
        larger[: first.shape[0], : first.shape[1]] = first
        blocks[0] = larger


def _give_back(blocks: list[NDArray[Word]], rows: int, size: int) -> None:
    """Half a block stays as a reserve, so that a row that comes and goes costs nothing."""
    if len(blocks) > 1 and rows + size // 2 <= (len(blocks) - 1) * size:
        blocks.pop()
