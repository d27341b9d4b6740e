"""Which keys the file surely lacks, known without asking the disk: most look-ups are for what was never stored.

A filter holds the hash of every row, so it is never wrong about a key that is committed: the writer's thread adds those of the
rows that it puts in before it commits them, and reads those that are there already once for each file. Until it has, nothing is
known, and every look-up asks the disk.
"""

import asyncio
import math
import sqlite3
from asyncio import Future
from typing import Final

from sentinel_gateway.stores import _sqlite_rows as rows
from sentinel_gateway.stores._bloom import BloomFilter
from sentinel_gateway.stores._sqlite_file import BrokenFile
from sentinel_gateway.stores._sqlite_writer import Writer

FILE_SHARE: Final = 512
"""Bytes of the file for one of the filter, which is 33 bits for an entry of 2 KiB."""
SMALLEST: Final = 1 << 10
LARGEST: Final = 1 << 22
"""Bytes of the filter. A larger one would hold up the event loop where it is made."""
PUTS_IN_BYTES: Final = 8
"""Made anew after one put for so many of its bytes: bits of rows that have left the file stay until then."""
SLICES: Final = 32
"""Read between two batches of puts: 8192 rows, some 8 ms."""


class Presence:
    """Asked on the event loop alone. `pause` is the time in seconds until hashes that could not be read are read again."""

    def __init__(self, writer: Writer, *, max_bytes: int, pause: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._size = 1 << min(max(max_bytes // FILE_SHARE, SMALLEST), LARGEST).bit_length() - 1
        self._pause = pause
        self._filter = BloomFilter(self._size)
        self._known: int | None = None  # the generation of the file whose rows are all in the filter
        self._enough = 0
        """The filter is made anew once more hashes than these were added to it."""
        self._scan: Scan | None = None
        self._resume_at = 0.0

    def lacks(self, hashed: int) -> bool:
        """Is surely no row of this hash committed? False also where that is not known."""
        known = self._known == self._writer.generation
        if not known or self._filter.added > self._enough:
            self.refresh()
        return known and hashed not in self._filter

    def refresh(self) -> None:
        """Have the hashes of the file read, unless they are being read, or there is no file, or it has just failed."""
        if self._scan is None and self._writer.generation and self._loop.time() >= self._resume_at:
            self._scan = Scan(self._writer.generation, self._size)
            self._writer.filters = (self._filter, self._scan.filter)
            self._go_on(self._scan)

    def __repr__(self) -> str:
        known = "unknown" if self._known is None else f"of file {self._known}"
        return f"<Presence {known}, {self._filter!r}, enough with {self._enough}>"

    def _go_on(self, scan: "Scan") -> None:
        future: Future[int] = self._loop.create_future()
        future.add_done_callback(lambda future: self._stepped(scan, future))
        self._writer.read(scan.step, future)

    def _stepped(self, scan: "Scan", future: Future[int]) -> None:
        if future.exception() is None and future.result():
            self._go_on(scan)
            return
        self._scan = None
        if future.exception() is None:
            self._filter, self._known = scan.filter, scan.generation
            self._enough = scan.filter.added + self._size // PUTS_IN_BYTES
        else:
            self._resume_at = self._loop.time() + self._pause
        self._writer.filters = (self._filter,)


class Scan:
    """Reads the hashes of the file of a generation into a filter of `size` bytes, in steps that the writer does between puts.

    Where the file is replaced meanwhile, what is read is of no use, and nobody uses it: generations never come back.
    What is put from its making on is added to its filter as well, so it is no matter whether a step finds that in the file.
    """

    def __init__(self, generation: int, size: int) -> None:
        self._after: float = -math.inf
        self.generation = generation
        self.filter = BloomFilter(size)

    def step(self, database: sqlite3.Connection) -> int:
        """By the writer: how many were read; 0 at the end."""
        return sum(self._read_slice(database) for _ in range(SLICES))

    def _read_slice(self, database: sqlite3.Connection) -> int:
        found = rows.hashes(database, self._after)
        if found:
            if found[0] <= self._after or found != sorted(found):
                raise BrokenFile("the hashes of the rows are out of order")
            self._after = found[-1]
            self.filter.add(found)
        return len(found)
