"""The last requests that were learned from, as numbers in blocks. A block that is full never changes: who has it may keep it."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel_gateway.core.confidence.features import NAMES

BLOCK: Final = 250
"""Rows of a block: 44 KB."""
WIDTH: Final = len(NAMES) + 1
"""Of the features, which end with the entry's standing then."""
ROW: Final = np.dtype(
    [
        ("features", "<f8", (WIDTH,)),
        ("confidence", "<f8"),
        ("right", "<f8"),
        ("weight", "<f8"),
        ("at", "<f8"),
        ("mark", "<u8"),
    ]
)
"""`right` is 1, 0, or NaN: nobody can tell. `mark` names the decision; 0: none."""

Block = NDArray[np.void]


class Row(NamedTuple):
    """A request as it is learned from."""

    features: Sequence[float]
    confidence: float
    right: float
    weight: float
    at: float
    mark: int = 0


class Window:
    """The last `most` rows, the oldest first. Not for several threads at a time."""

    def __init__(self, most: int, blocks: Iterable[Block] = ()) -> None:
        self._most = most
        self._blocks = deque(blocks)
        self._skipped = 0
        """Rows at the beginning of the first block that have left."""
        self._open: Block = np.zeros(0, ROW)
        self._filled = 0
        self._closed = sum(map(len, self._blocks))
        self._trim()

    def __len__(self) -> int:
        return self._closed - self._skipped + self._filled

    def __repr__(self) -> str:
        return f"<Window of {len(self)} rows>"

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return (self._closed + len(self._open)) * ROW.itemsize

    def append(self, row: Row) -> None:
        """The oldest goes for it, if there are too many."""
        if self._filled == len(self._open):
            self._close()
        self._open[self._filled] = row
        self._filled += 1
        self._trim()

    def blocks(self) -> tuple[Block, ...]:
        """All rows, in blocks that will not change."""
        first, *others = (*self._blocks, self._open[: self._filled].copy())
        rows = (first[self._skipped :], *others)
        return tuple(block for block in rows if len(block))

    def find(self, mark: int) -> list[Row]:
        """The rows of that name, the newest first."""
        found = [row for block in reversed(self.blocks()) for row in reversed(block[block["mark"] == mark].tolist())]
        return [Row(*row) for row in found]

    def tell(self, mark: int, before: float, right: float) -> None:
        """In the rows of that name, put `right` in place of `before`: in a copy of their block, for others may have that."""
        self._change(partial(_told, mark=mark, before=before, right=right))

    def void(self, mark: int) -> None:
        """The rows of that name are worth nothing from now on, and nameless; in a copy of their block, as above."""
        self._change(partial(_voided, mark=mark))

    def _change(self, changed: Callable[[Block], Block | None]) -> None:
        for place, block in enumerate(self._blocks):
            if (new := changed(block)) is not None:
                self._blocks[place] = new
        if (new := changed(self._open)) is not None:
            self._open = new

    def _close(self) -> None:
        """Begin a new block."""
        if self._filled:
            self._blocks.append(self._open)
            self._closed += self._filled
        self._open, self._filled = np.zeros(BLOCK, ROW), 0

    def _trim(self) -> None:
        self._skipped += max(0, len(self) - self._most)
        while self._blocks and self._skipped >= len(self._blocks[0]):
            gone = len(self._blocks.popleft())
            self._skipped -= gone
            self._closed -= gone


def _told(block: Block, mark: int, before: float, right: float) -> Block | None:
    """The block with that changed; None if there is nothing to change."""
    same = np.isnan(block["right"]) if np.isnan(before) else block["right"] == before
    found = (block["mark"] == mark) & same
    if not found.any():
        return None
    changed = block.copy()
    changed["right"][found] = right
    return changed


def _voided(block: Block, mark: int) -> Block | None:
    found = block["mark"] == mark
    if not found.any():
        return None
    changed = block.copy()
    changed["right"][found], changed["weight"][found], changed["mark"][found] = np.nan, 0.0, 0
    return changed
