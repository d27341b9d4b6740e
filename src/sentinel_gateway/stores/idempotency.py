"""Where idempotency keys are kept: in SQLite, so that they outlive the process, or in memory."""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sentinel_gateway.core.idempotency import Answered, Claim, Held, Outcome, Quota, is_over
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores import _idempotency_rows as rows

BUSY_SECONDS: Final = 2.0

T = TypeVar("T")


def open_file(folder: Path) -> sqlite3.Connection:
    """`idempotency.db`, for one thread. Nobody else writes it, so it needs no lock of its own."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "idempotency.db"
    path.touch(mode=0o600)
    database = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(rows.CREATE)
    except sqlite3.Error:
        database.close()
        raise
    return database


class SqliteIdempotency:
    """An `IdempotencyStore` in a file that one gateway uses. All it does is done by one thread, in the order in which it came.

    `connect` is called on that thread, when it is first needed and again after it has failed.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, quota: Quota, deadline: float = 5.0) -> None:
        self._connect = connect
        self._quota = quota
        self._deadline = deadline
        self._database: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sentinel-idempotency")

    def __repr__(self) -> str:
        return f"<SqliteIdempotency {'closed' if self._database is None else 'open'}>"

    async def claim(self, wanted: Claim, now: float) -> Held | None:
        granted: list[bool] = []

        def ask(database: sqlite3.Connection) -> Held | None:
            found = rows.claim(database, wanted, now)
            granted.append(found is None)
            return found

        def undo(database: sqlite3.Connection) -> None:
            if any(granted):
                rows.release(database, wanted)

        try:
            return await self._do(ask)
        except (StoreDown, asyncio.CancelledError):
            self._thread.submit(self._run, undo)  # it may be granted yet, to nobody
            raise

    async def keep(self, held: Claim, outcome: Outcome) -> None:
        await self._do(lambda database: rows.keep(database, held, outcome, self._quota))

    async def release(self, held: Claim) -> None:
        await self._do(lambda database: rows.release(database, held))

    async def count(self) -> int:
        return await self._do(rows.count)

    async def close(self) -> None:
        """Once all that was asked for is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown()

    async def _do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        doing = asyncio.get_running_loop().run_in_executor(self._thread, self._run, job)
        try:
            async with asyncio.timeout(self._deadline):
                return await doing
        except TimeoutError as exc:
            raise StoreDown(f"no answer within {self._deadline:g} s") from exc
        except (sqlite3.Error, OSError, msgspec.DecodeError) as exc:
            raise StoreDown(str(exc)) from exc

    def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._database is None:
            self._database = self._connect()
        try:
            return job(self._database)
        except sqlite3.Error:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


class _Row(msgspec.Struct):
    fingerprint: bytes
    created: float
    outcome: Outcome | None = None

    @property
    def size(self) -> int:
        return len(self.outcome.body) if isinstance(self.outcome, Answered) else 0


class _Shelf:
    """The keys of one tenant, the oldest first, and the bytes that they keep."""

    def __init__(self) -> None:
        self.rows: dict[bytes, _Row] = {}
        self.size = 0

    def remove(self, mark: bytes) -> None:
        self.size -= self.rows.pop(mark).size

    def sweep(self, now: float) -> None:
        for mark in [*itertools.takewhile(lambda mark: is_over(self.rows[mark].created, now), self.rows)]:
            self.remove(mark)

    def make_room(self, quota: Quota, *, spare: bytes) -> None:
        finished = [mark for mark, row in self.rows.items() if row.outcome is not None and mark != spare]
        for mark in finished:
            if len(self.rows) <= quota.keys and self.size <= quota.bytes:
                return
            self.remove(mark)


class MemoryIdempotency:
    """An `IdempotencyStore` that ends with the process: for a gateway that keeps nothing on disk."""

    def __init__(self, *, quota: Quota) -> None:
        self._quota = quota
        self._shelves: dict[str, _Shelf] = {}

    def __repr__(self) -> str:
        return f"<MemoryIdempotency {sum(len(shelf.rows) for shelf in self._shelves.values())} keys>"

    async def claim(self, wanted: Claim, now: float) -> Held | None:
        shelf = self._shelves.setdefault(wanted.tenant, _Shelf())
        shelf.sweep(now)
        found = shelf.rows.get(wanted.mark)
        if found is not None:
            return Held(found.fingerprint, found.outcome)
        shelf.rows[wanted.mark] = _Row(wanted.fingerprint, now)
        return None

    async def keep(self, held: Claim, outcome: Outcome) -> None:
        shelf, row = self._find(held)
        if shelf is not None and row is not None:
            row.outcome = outcome
            shelf.size += row.size
            if len(shelf.rows) > self._quota.keys or shelf.size > self._quota.bytes:
                shelf.make_room(self._quota, spare=held.mark)

    async def release(self, held: Claim) -> None:
        shelf, row = self._find(held)
        if shelf is not None and row is not None:
            shelf.remove(held.mark)

    async def count(self) -> int:
        return sum(len(shelf.rows) for shelf in self._shelves.values())

    async def close(self) -> None:
        self._shelves.clear()

    def _find(self, held: Claim) -> tuple[_Shelf | None, _Row | None]:
        """The row that is still being worked on for this claim."""
        shelf = self._shelves.get(held.tenant)
        row = shelf.rows.get(held.mark) if shelf is not None else None
        return shelf, row if row is not None and row.outcome is None and row.fingerprint == held.fingerprint else None
