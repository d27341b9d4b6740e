"""The disk tier's writing side: one thread, and the one connection that writes and checkpoints.

All that changes the file stands in one queue and is done in its order, so a clear is never undone by a put that came before it.
What the disk does not take is dropped and counted; the traffic goes on, and writing resumes by itself.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from asyncio import Future
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Final

from sentinel_gateway.core.breathing import breath
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.ports import Clock
from sentinel_gateway.stores import _sqlite_rows as rows
from sentinel_gateway.stores._inbox import Inbox
from sentinel_gateway.stores._sqlite_backlog import Backlog, Errand, Item, Job
from sentinel_gateway.stores._sqlite_file import BrokenFile, CacheFile, is_broken
from sentinel_gateway.stores._sqlite_limits import SqliteLimits

if TYPE_CHECKING:
    from sentinel_gateway.stores._bloom import BloomFilter

IDLE_SECONDS: Final = 1.0
"""How often an idle writer looks after its file, and how often it tries to open one that it could not."""


class Writer:
    """Keeps the file: opens it, writes what the backlog holds, bounds it, replaces it when it is broken or gone.

    `note` is called on the event loop, once for each change of state. `generation` counts the files opened; 0 means none is open.
    While `renewing`, all entries are being cleared, and a look-up that fails has just met that.
    """

    def __init__(
        self, file: CacheFile, *, backlog: Backlog, limits: SqliteLimits, clock: Clock, inbox: Inbox, note: Callable[..., None]
    ) -> None:
        self._file = file
        self._backlog = backlog
        self._limits = limits
        self._clock = clock
        self._inbox = inbox
        self._note = note
        self._database: sqlite3.Connection | None = None
        self._files_opened = 0
        self._open_after = 0.0
        self._checked = False
        self._failed_at: float | None = None
        self._refuses = False
        self._unconfirmed_losses = 0
        self._stopping = False
        self._breathed_at = 0.0  # of this thread's work
        self.generation = 0
        self.renewing = False
        self.lost = 0
        self.corrupt = 0
        self.filters: tuple[BloomFilter, ...] = ()
        """These are given the hash of each row before it is committed. Replaced on the event loop, filled on the thread."""
        self.refusal: ConfigurationError | None = None
        self.ended = asyncio.Event()
        threading.Thread(target=self._run, name="sentinel-cache-writer", daemon=True).start()

    @property
    def works(self) -> bool:
        """Is a file open, and did it take what was last given to it?"""
        return self.generation > 0 and not self._refuses

    # Called on the event loop; each future is settled there, with StoreDown if it could not be done.

    def clear(self, selector: Selector, now: float, future: Future[int]) -> None:
        job = self._renew if selector.everything else partial(rows.clear, selector=selector, now=now)
        self._backlog.add(Errand(job, future))

    def count(self, future: Future[int]) -> None:
        self.read(rows.count, future)

    def read(self, job: Job, future: Future[int]) -> None:
        """Have `job` ask the file, once all that was put before is committed or lost."""
        self._backlog.add(Errand(job, future))

    def confirm(self, future: Future[int]) -> None:
        """Settled once all that was put before is committed; StoreDown if some of it was lost since the last time."""
        self._backlog.add(Errand(self._confirm, future))

    def stop(self) -> None:
        """Write what was taken, then end: `ended` is set."""
        self._stopping = True
        self._backlog.hurry()

    # Called on the reader's thread.

    def discard(self, job: Job) -> None:
        """Something stored can't be read: have `job` take it away."""
        self.corrupt += 1
        if self.corrupt == 1:
            self._tell("store_entry_corrupt")
        if not self._backlog.is_full:
            self._backlog.add(Errand(job))

    def distrust(self, generation: int, reason: str) -> None:
        """The file of this generation is broken: replace it."""
        self._backlog.add(Errand(partial(self._condemn, generation=generation, reason=reason)))

    # The thread itself.

    def _run(self) -> None:
        busy = False
        while not self._stopping or len(self._backlog):
            if not busy:
                self._backlog.wait(IDLE_SECONDS)
            self._hold()
            self._work_off()
            busy = self._look_after()
        self._let_go()
        self._file.release()
        self._inbox.send(self.ended.set)

    def _hold(self) -> None:
        """Have the file open, and the right one."""
        if self._database is not None and self._file.is_lost():
            self._tell("store_file_lost")
            self._let_go()
            self._file.release()
        for _ in range(2):  # the second time, if the first found a broken one and set it aside
            if self._database is None and time.monotonic() >= self._open_after:
                self._open()

    def _open(self) -> None:
        self._open_after = time.monotonic() + IDLE_SECONDS
        try:
            self._database = self._file.open()
        except (ConfigurationError, sqlite3.Error, OSError) as exc:
            self.generation = 0
            self.refusal = exc if isinstance(exc, ConfigurationError) else None
            self._failed(exc)
        else:
            self._checked = self._refuses = False
            self._files_opened += 1
            self.generation = self._files_opened

    def _work_off(self) -> None:
        for work in self._backlog.drain():
            self._hold()  # again: what was done before may have cost the file
            if isinstance(work, Errand):
                self._run_errand(work)
            else:
                self._write(work)

    def _write(self, items: list[Item]) -> None:
        self._breathed_at = time.thread_time()  # for what was done before, nothing has to wait
        try:
            lost = rows.put(self._connection(), items, self._breathe, self._learn)
        except sqlite3.Error as exc:
            lost = len(items)
            self._failed(exc)
        else:
            self._worked()
        self.lost += lost
        self._unconfirmed_losses += lost

    def _learn(self, hashes: Collection[int]) -> None:
        for known in self.filters:
            known.add(hashes)

    def _breathe(self) -> None:
        """Leave the core to the event loop for a while; at the end nobody is served."""
        worked = time.thread_time()
        if not self._stopping and (seconds := breath(worked - self._breathed_at)):
            time.sleep(seconds)
            self._breathed_at = worked

    def _run_errand(self, errand: Errand) -> None:
        outcome: int | StoreDown
        try:
            outcome = errand.job(self._connection())
        except StoreDown as exc:
            outcome = exc
        except sqlite3.Error as exc:
            self._failed(exc)
            outcome = StoreDown(str(exc))
        if errand.future is not None:
            self._inbox.send(_settle, errand.future, outcome)

    def _look_after(self) -> bool:
        """One small step of upkeep; True if another is due at once."""
        if self._database is None:
            return time.monotonic() >= self._open_after
        try:
            self._check(self._database)
            now = self._clock()
            shrinking = rows.shrink(self._database, self._limits.max_bytes, now)
            return rows.sweep(self._database, now - self._limits.stale) or shrinking
        except sqlite3.Error as exc:
            self._failed(exc)
            return False

    def _check(self, database: sqlite3.Connection) -> None:
        """Once for each file, and not before it serves: this reads all of it (0.8 s a GiB), and entries are proven when read."""
        if not self._checked:
            if ahead := rows.count_ahead(database, self._clock()):
                self._tell("store_clock_behind", entries=ahead)
            self._checked = True
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise BrokenFile(verdict)

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.OperationalError("the cache file is not open")
        return self._database

    def _confirm(self, _: sqlite3.Connection) -> int:
        lost, self._unconfirmed_losses = self._unconfirmed_losses, 0
        if lost:
            raise StoreDown(f"{lost} entries or vectors could not be written")
        return 0

    def _condemn(self, _: sqlite3.Connection, *, generation: int, reason: str) -> int:
        if generation == self.generation:
            raise BrokenFile(reason)
        return 0

    def _renew(self, database: sqlite3.Connection) -> int:
        """Clear everything: a new file. It works on a full disk too, and gives the space back at once."""
        entries = rows.count(database)
        self.renewing = True
        self._close()
        try:
            self._file.delete()
        except OSError as exc:
            raise sqlite3.OperationalError(str(exc)) from exc
        finally:
            self._open()
            self.renewing = False
        return entries

    def _failed(self, error: Exception) -> None:
        if is_broken(error):
            self._set_aside(error)
            return
        self._roll_back()
        self._refuses = True
        if self._failed_at is None:
            self._tell("store_writes_failed", reason=str(error))
        self._failed_at = time.monotonic()

    def _roll_back(self) -> None:
        if self._database is None:
            return
        with contextlib.suppress(sqlite3.Error):  # some failures have rolled back already
            self._database.execute("ROLLBACK")
        with contextlib.suppress(sqlite3.Error):  # on a full disk the log itself may be what takes the room
            self._database.execute("PRAGMA wal_checkpoint").fetchall()

    def _worked(self) -> None:
        self._refuses = False
        if self._failed_at is not None and time.monotonic() - self._failed_at > self._limits.pause:
            self._failed_at = None
            self._tell("store_writes_resumed", lost=self.lost)

    def _set_aside(self, error: Exception) -> None:
        self._let_go()
        try:
            aside = self._file.set_aside()
        except OSError as exc:
            self._failed(exc)
        else:
            self._open_after = 0.0
            self._tell("store_file_corrupt", reason=str(error), kept_as=aside.name)

    def _let_go(self) -> None:
        self.generation = 0
        self._close()

    def _close(self) -> None:
        """The last connection to go moves the log into the file, and deletes it."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):  # it goes either way; what was committed is in its log
                self._database.close()
            self._database = None

    def _tell(self, event: str, **fields: str | float) -> None:
        self._inbox.send(partial(self._note, event, **fields))


def _settle(future: Future[int], outcome: int | StoreDown) -> None:
    if future.done():
        return
    if isinstance(outcome, StoreDown):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
