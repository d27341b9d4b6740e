"""The file under the disk tier: how it is made, opened, recognised, and set aside when it is broken.

It is a cache, so a file that can't be trusted is replaced, never repaired. Only one process may write it: SQLite before 3.51.3
can corrupt a WAL that several connections checkpoint, so a lock beside the file keeps every other writer out.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from sentinel_gateway.errors import ConfigurationError

SCHEMA: Final = 4
APPLICATION: Final = 1397184323
"""Written into the file's header ("SGWC"), so that a database of somebody else is never taken for ours."""
BUSY_SECONDS: Final = 1.0
CORRUPT_KEPT: Final = 3
"""So many broken files are kept to be looked at; then the last one is overwritten."""

_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SIDE_FILES: Final = ("", "-wal", "-shm")

_HABITS: Final = (
    "PRAGMA synchronous = NORMAL",  # kill -9 loses nothing; a power cut at most the last commits
    "PRAGMA wal_autocheckpoint = 4000",  # pages, 16 MB: every fourth of the default's checkpoints, 4 us less a put
    "PRAGMA cache_size = -8192",  # KiB: pages of a whole batch, which would else be written twice
    "PRAGMA journal_size_limit = 16777216",
    # For a statement of many rows the pages as they were are kept until its end: else in a file, and who knows on which disk.
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = FAST",  # zeroes what it touches anyway: 4 us less a deleted row than Debian's default
    "PRAGMA cell_size_check = ON",
    "PRAGMA foreign_keys = ON",  # a question goes with its reply, whatever takes that away
)

# A hash instead of the key itself halves its index, and pages touched are what a put costs. A row is found by it and then proven:
# the key is inside the sealed entry. `labels` are digests of whose and what it is, one behind the other, by which a clear and a
# list choose. `due` is the expiry in steps, so rows that expire together lie together. `by_age` covers all that a clear asks
# about: it reads 1/20 of the file. Questions stand apart from the replies that they belong to, so that all of them can be read
# without any body.
_CREATE: Final = """
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS questions;
DROP TABLE IF EXISTS replies;
CREATE TABLE replies (
    id INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL UNIQUE,
    due REAL,
    created REAL,
    labels BLOB,
    sealed BLOB
);
CREATE TABLE questions (
    id INTEGER PRIMARY KEY REFERENCES replies ON DELETE CASCADE,
    head BLOB,
    vector BLOB
);
CREATE INDEX by_age ON replies (created, labels);
CREATE INDEX by_due ON replies (due);
PRAGMA application_id = 1397184323;
PRAGMA user_version = 4;
COMMIT;
"""


class BrokenFile(sqlite3.DatabaseError):
    """Damaged, or a database that Sentinel did not make."""


def is_broken(error: Exception) -> bool:
    """Does this error mean that the file itself is bad, rather than the disk full, slow or locked?"""
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python's module raised the error by itself
    return isinstance(error, BrokenFile) or (code is not None and code & 0xFF in _BROKEN)


class CacheFile:
    """`cache.db` in `folder`, held by at most one process. Used by the writer's thread alone."""

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute() / "cache.db"
        self._lock: int | None = None
        self._opened: os.stat_result | None = None

    def open(self) -> sqlite3.Connection:
        """The only connection that writes and checkpoints.

        Raises ConfigurationError if a newer Sentinel wrote the file, OSError and sqlite3.Error if it can't be used; `is_broken`
        tells which of these are the file's own fault.
        """
        self._take()
        database = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            self._prepare(database)
            self._opened = self.path.stat()
        except BaseException:  # broad: whatever it is, the connection must not stay open
            database.close()
            raise
        return database

    def is_lost(self) -> bool:
        """Was the file deleted or replaced since it was opened? SQLite itself goes on writing to the old one unawares."""
        if self._opened is None:
            return False
        try:
            return not os.path.samestat(self._opened, self.path.stat())
        except OSError:
            return True

    def set_aside(self) -> Path:
        """Rename the broken file to `cache.db.corrupt-<n>`, so that `open` makes a new one. Its connections must be closed."""
        names = [self.path.with_name(f"{self.path.name}.corrupt-{n}") for n in range(1, CORRUPT_KEPT + 1)]
        aside = next((name for name in names if not name.exists()), names[-1])
        for suffix in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).replace(aside.with_name(aside.name + suffix))
        return aside

    def delete(self) -> None:
        """So that `open` makes a new one. Its connections must be closed, but for readers, who keep the old one."""
        for suffix in _SIDE_FILES:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def release(self) -> None:
        """Let another process have the folder."""
        self._opened = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = _lock(self.path.with_name("cache.lock"))
        with contextlib.suppress(FileExistsError):
            # Never opened by us when it exists: closing any descriptor of a file drops the locks that SQLite has on it.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self.path.chmod(0o600)

    def _prepare(self, database: sqlite3.Connection) -> None:
        version, application, tables = (
            _ask(database, question)
            for question in ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_schema")
        )
        if tables and application != APPLICATION:
            raise BrokenFile("a database that Sentinel did not make")
        if version > SCHEMA:
            raise ConfigurationError([(str(self.path), _newer(version))])
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heeded only before the first table and the journal's mode
        if _ask(database, "PRAGMA journal_mode = WAL") != "wal":
            raise sqlite3.OperationalError("the file system can't hold a write-ahead log")
        for habit in _HABITS:
            database.execute(habit).fetchall()
        if not tables or version < SCHEMA:
            database.executescript(_CREATE)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        if exc.errno == errno.EWOULDBLOCK:
            raise BlockingIOError(exc.errno, "another process uses this folder", str(path)) from exc
        raise
    return descriptor


def _ask(database: sqlite3.Connection, question: str) -> Any:
    (answer,) = database.execute(question).fetchone()
    return answer


def _newer(version: int) -> str:
    return (
        f"was written by a newer Sentinel (schema {version}; this one knows {SCHEMA}). "
        "Run that Sentinel, name another data folder, or delete the file: it is only a cache."
    )
