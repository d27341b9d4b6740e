"""Where idempotency keys are kept: in SQLite, so that they outlive the process."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sentinel_gateway.core.idempotency import Claim, Held, Outcome, Quota
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
