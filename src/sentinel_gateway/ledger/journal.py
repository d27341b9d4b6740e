"""The journal: rows are appended to a file by one system call, before anything that depends on them goes on.

What the system has taken outlives the process, however that ends; a power cut costs what was written since the last `fsync`,
which is made beside the path, once for all that came meanwhile. Files are segments of a few MiB; those that are full wait until
they are copied into SQL (`copier.py`), and are deleted there. A segment that begins carries the intents that are still open, so
that each earlier one can go.

Where the disk takes nothing, rows wait in memory, as many as `spill` bytes hold, and are written as soon as there is room again.
"""

import asyncio
import fcntl
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.ledger.frames import MAGIC, framed
from sentinel_gateway.ports.ledger import Enrolled, Handled, Intent, Row, Settled

MIB: Final = 1 << 20
GATHERED: Final = 0.05
"""Seconds within which rows of requests are written."""
GATHERED_ROWS: Final = 512
RETRY: Final = 0.25
"""Seconds between two attempts to write to a disk that takes nothing."""
LOCK: Final = "lock"
SUFFIX: Final = ".segment"

OnEvent = Callable[..., None]


class JournalLimits(msgspec.Struct, frozen=True):
    """`segment`, `most` of all segments, and `spill` of what waits in memory in bytes; `sync` in seconds, 0: never."""

    segment: int = 4 * MIB
    most: int = 1024 * MIB
    spill: int = 16 * MIB
    sync: float = 1.0


class Journal:
    """One process' segments, in a folder of their own below `parent`. The port `Ledger`; belongs to the event loop's thread.

    The folder is locked as long as its process lives: whoever can lock it finds the rows of one that has died.
    """

    def __init__(self, parent: Path, *, limits: JournalLimits, on_event: OnEvent) -> None:
        self.folder, self._lock = _own_folder(parent)
        self._limits = limits
        self._on_event = on_event
        self._file: int | None = None
        self._good = 0
        """Bytes of the segment that are whole frames."""
        self._full = 0
        """So many of them, and the next segment begins."""
        self._ended = 0
        """Bytes of all segments before it."""
        self._number = 0
        self._open: dict[tuple[str, int], Intent] = {}
        self._gathered: list[Row] = []
        self._waiting: asyncio.TimerHandle | None = None
        self._spill: deque[bytes] = deque()
        self._spilled = 0
        self._retry: asyncio.TimerHandle | None = None
        self._sync: asyncio.TimerHandle | None = None
        self._syncing: set[asyncio.Future[None]] = set()
        self.when_full: Callable[[bool], None] = _nobody
        """Told when memory holds no more, and when it does again."""
        self.freed = 0
        """Bytes of segments that were deleted: counted by whoever deletes them."""
        self.lost = 0
        """Rows for which there was no room."""
        self.syncs = 0
        """Times that the system was asked to put rows on the disk."""

    def __repr__(self) -> str:
        return f"<Journal {self.folder.name} segment={self._number} open={len(self._open)} spilled={self._spilled}>"

    @property
    def is_full(self) -> bool:
        """Has the disk refused so much that memory holds no more?"""
        return self._spilled >= self._limits.spill

    @property
    def fault(self) -> str | None:
        """What keeps it from the disk."""
        return f"{self._spilled} bytes wait for room on the disk" if self._spill else None

    @property
    def current(self) -> int:
        """The number of the segment that is being written, or will be: those below it are complete."""
        return self._number + (self._file is None)

    def _path_of(self, number: int) -> Path:
        return self.folder / f"{number:08}{SUFFIX}"

    def intend(self, intent: Intent) -> None:
        self._gathered.append(intent)
        self._write_gathered()
        self._open[intent.request, intent.number] = intent

    def settle(self, settled: Settled) -> None:
        intent = settled.intent
        self._open.pop((intent.request, intent.number), None)
        self._gathered.append(settled)
        self._write_gathered()

    def handled(self, request: Handled | Enrolled) -> None:
        gathered = self._gathered
        gathered.append(request)
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(GATHERED, self._stop_waiting)
        elif len(gathered) >= GATHERED_ROWS:
            self._write_gathered()

    def _stop_waiting(self) -> None:
        """At the end of a time that is not moved along: what came before may have been written meanwhile, with other rows."""
        self._waiting = None
        self._write_gathered()

    def _write_gathered(self) -> None:
        """Write what there is, in the order in which it came."""
        rows = self._gathered
        if not rows:
            return
        self._gathered = []
        frame = framed(rows)
        if self._spill or not self._put(frame):
            self._spill_over(frame, len(rows))

    def _spill_over(self, frame: bytes, rows: int) -> None:
        """Have a frame of so many rows wait for room on the disk, as far as there is room for that."""
        if (
            self._spilled >= self._limits.spill + self._limits.spill // 8
        ):  # what was under way when it became full has had its room
            self.lost += rows
            return
        was_full = self.is_full
        self._spill.append(frame)
        self._spilled += len(frame)
        if self.is_full and not was_full:
            self.when_full(True)  # noqa: FBT003 - as it is told
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY, self._write_spilled)

    def _write_spilled(self) -> None:
        self._retry, was_full = None, self.is_full
        while self._spill and self._put(self._spill[0]):
            self._spilled -= len(self._spill.popleft())
        if was_full and not self.is_full:
            self.when_full(False)  # noqa: FBT003 - as above
        if self._spill:
            self._retry = asyncio.get_running_loop().call_later(RETRY, self._write_spilled)
        else:
            self._on_event("ledger_journal_recovered", lost=self.lost)

    def _put(self, frame: bytes) -> bool:
        """Append a frame to the segment, a new one if need be. False, and a segment without half a frame, if it can't be."""
        try:
            file = self._file
            if file is None or self._good >= self._full:
                file = self._begin_segment()
            self._write(file, frame)
        except OSError as exc:
            if not self._spill:
                self._on_event("ledger_journal_refused", reason=str(exc))
            self._give_up_segment()
            return False
        if self._sync is None and (seconds := self._limits.sync):
            self._sync = asyncio.get_running_loop().call_later(seconds, self._start_sync)
        return True

    def _write(self, file: int, frame: bytes) -> None:
        size = os.write(file, frame)
        if size != len(frame):
            raise OSError("the disk took a part of it only")
        self._good += size

    def _begin_segment(self) -> int:
        """Its file; raises `OSError`, and then there is none.

        The number goes up last: until then nobody takes the new file for complete.
        """
        self._end_segment()
        most = self._limits.most
        room = most - (self._ended - self.freed)
        if room <= 0:
            raise OSError(f"the journal has as much as it may have ({most} bytes): the database takes nothing")
        number = self._number + 1
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._file = file = os.open(self._path_of(number), flags, 0o600)
        self._good, self._full = 0, min(self._limits.segment, room)
        self._number = number
        carried = framed(list(self._open.values())) if self._open else b""
        self._write(file, MAGIC + carried)
        return file

    def _give_up_segment(self) -> None:
        """After a write that failed: what was written of it goes, and the next one begins a segment."""
        if self._file is None:
            return
        with suppress(OSError):  # else it is read as cut short
            os.ftruncate(self._file, self._good)
        if not self._good:
            with suppress(OSError):
                self._path_of(self._number).unlink()
        self._end_segment()

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._ended += self._good
            self._to_disk(file)

    def _start_sync(self) -> None:
        self._sync = None
        if self._file is not None and not self._syncing:
            self._to_disk(os.dup(self._file))

    def _to_disk(self, file: int) -> None:
        """Have the system put a file on the disk, in a thread, and close it."""
        if not self._limits.sync:
            os.close(file)
            return
        syncing = asyncio.get_running_loop().run_in_executor(None, _sync, file)
        self._syncing.add(syncing)
        syncing.add_done_callback(self._synced)

    def _synced(self, done: "asyncio.Future[None]") -> None:
        self._syncing.discard(done)
        self.syncs += 1
        if (error := done.exception()) is not None:
            self._on_event("ledger_sync_failed", reason=str(error))

    async def close(self) -> None:
        """Write what is left; the folder stays locked, as its rows are not copied yet."""
        waiting, self._waiting = self._waiting, None
        self._write_gathered()
        for timer in (waiting, self._retry, self._sync):
            if timer is not None:
                timer.cancel()
        if self._spill:
            self._write_spilled()
        if self._retry is not None:
            self._retry.cancel()
            self._on_event("ledger_rows_lost", reason="the disk takes nothing, and the process ends", bytes=self._spilled)
        self._end_segment()
        await asyncio.gather(*self._syncing, return_exceptions=True)

    def release(self) -> None:
        """Let go of the folder, and of it all if nothing is left in it: then whoever starts next need not look."""
        if not any(segments(self.folder)):
            with suppress(OSError):
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        os.close(self._lock)


def _nobody(_: bool) -> None:  # noqa: FBT001 - as it is told
    """Nobody is told."""


def _sync(file: int) -> None:
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def _own_folder(parent: Path) -> tuple[Path, int]:
    """A new folder, and its lock; raises `ConfigurationError`. Named when it is locked: nobody takes it for a dead one's."""
    name = secrets.token_hex(8)
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden = parent / f".{name}"
        hidden.mkdir(mode=0o700)
        lock = os.open(hidden / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return hidden.rename(parent / name), lock
    except OSError as exc:
        raise ConfigurationError([(str(parent), f"{exc}: make the folder writable for this user, and room on its disk")]) from exc


def segments(folder: Path) -> list[Path]:
    """The segments of a folder, the oldest first."""
    return sorted(folder.glob(f"[0-9]*{SUFFIX}"))


def adopted(parent: Path) -> Iterator[tuple[Path, int]]:
    """The folders whose processes have died, each with its lock: close it when nothing is left to do there."""
    for folder in sorted(parent.glob("[0-9a-f]*")):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # it goes just now, or is none of ours
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            yield folder, lock
