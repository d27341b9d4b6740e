"""Which keys the file surely lacks, known without asking the disk: most look-ups are for what was never stored.

A filter holds the hash of every row and of every put, so it is never wrong about a key that is committed. Those of the rows are
read on the writer's thread, once for each file; until then nothing is known, and every look-up asks the disk.
"""

import asyncio
import math
import sqlite3
from asyncio import Future
from collections import deque
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
    """Used on the event loop alone. `pause` is the time in seconds until hashes that could not be read are read again."""

    def __init__(self, writer: Writer, *, max_bytes: int, pause: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._size = 1 << min(max(max_bytes // FILE_SHARE, SMALLEST), LARGEST).bit_length() - 1
        self._pause = pause
        self._filter = BloomFilter(self._size)
        self._known: int | None = None  # the generation of the file whose rows are all in the filter
        self._puts = 0
        self._scan: Scan | None = None
        self._resume_at = 0.0

    def lacks(self, hashed: int) -> bool:
        """Is surely no row of this hash committed? False also where that is not known."""
        if self._known != self._writer.generation:
            self.refresh()
            return False
        return hashed not in self._filter

    def add(self, hashed: int) -> None:
        """An entry of this hash was given to the writer, in this very turn of the event loop."""
        self._filter.add((hashed,))
        self._puts += 1
        if self._scan is not None:
            self._scan.added.append(hashed)
        elif self._puts > self._size // PUTS_IN_BYTES:
            self.refresh()

    def refresh(self) -> None:
        """Have the hashes of the file read, unless they are being read, or there is no file, or it has just failed."""
        if self._scan is None and self._writer.generation and self._loop.time() >= self._resume_at:
            self._puts = 0
            self._scan = Scan(self._writer.generation, self._size)
            self._go_on(self._scan)

    def __repr__(self) -> str:
        known = "unknown" if self._known is None else f"of file {self._known}"
        return f"<Presence {known}, {self._puts} puts since it was read, {self._filter!r}>"

    def _go_on(self, scan: "Scan") -> None:
        future: Future[int] = self._loop.create_future()
        future.add_done_callback(lambda future: self._stepped(scan, future))
        self._writer.read(scan.step, future)

    def _stepped(self, scan: "Scan", future: Future[int]) -> None:
        if future.exception() is None and future.result():
            self._go_on(scan)
            return
        self._scan = None
        if future.exception() is not None:
            self._resume_at = self._loop.time() + self._pause
            return
        scan.add_puts()  # those of the last moment
        self._filter, self._known = scan.filter, scan.generation


class Scan:
    """Reads the hashes of the file of a generation into a filter of `size` bytes, in steps that the writer does between puts.

    Where the file is replaced meanwhile, what is read is of no use, and nobody uses it: generations never come back.
    Its first step comes after all that was put before it, so a row is in the file by then, or it is one of those in `added`.
    """

    def __init__(self, generation: int, size: int) -> None:
        self._after: float = -math.inf
        self.generation = generation
        self.filter = BloomFilter(size)
        self.added: deque[int] = deque()
        """Put since it began: the event loop appends, whoever is at work takes."""

    def step(self, database: sqlite3.Connection) -> int:
        """By the writer: how many were read; 0 at the end."""
        self.add_puts()
        return sum(self._read_slice(database) for _ in range(SLICES))

    def add_puts(self) -> None:
        while self.added:
            self.filter.add((self.added.popleft(),))

    def _read_slice(self, database: sqlite3.Connection) -> int:
        found = rows.hashes(database, self._after)
        if found:
            if found[0] <= self._after or found != sorted(found):
                raise BrokenFile("the hashes of the rows are out of order")
            self._after = found[-1]
            self.filter.add(found)
        return len(found)
