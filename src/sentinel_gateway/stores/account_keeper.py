"""Where accounts outlive the process: in `sentinel.db`, each node's part in a row of its own, written behind what changes.

Who reserves does not wait for the disk. What changes is written at once, and what changes meanwhile together after it: so a
process that is killed leaves behind all but the last moments of what was in flight. What it held stands there beside what it has
settled; the next one counts that as held until nobody can be waiting for it any more.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from sentinel_gateway.core.budgets import AFTER
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Events
from sentinel_gateway.stores._accounts import Accounts
from sentinel_gateway.stores._state_file import StateFile

PAUSE: Final = 0.02
"""Seconds between two writes: others write this file as well."""
RETRY: Final = 1.0
"""Seconds after one that failed."""
_READ: Final = "SELECT account, node, ends, settled, held FROM accounts WHERE ends > ?"
_END: Final = "DELETE FROM accounts WHERE ends <= ?"
_KEEP: Final = """
INSERT INTO accounts (account, node, ends, settled, held) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (account, node) DO UPDATE SET settled = excluded.settled, held = excluded.held
"""


class Left(NamedTuple):
    """What a node has left behind in an account, in nano-USD. `ends` in Unix seconds."""

    account: str
    node: str
    ends: int
    settled: int
    held: int


class AccountKeeper:
    """Keeps the parts of one node. `left` is what earlier nodes have left behind, or others on this machine are at."""

    def __init__(self, file: StateFile, *, node: str, clock: Callable[[], float], events: Events) -> None:
        self.table = Accounts(clock, self._change)
        self.left: Sequence[Left] = ()
        self._file = file
        self._node = node
        self._clock = clock
        self._events = events
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        self._failing = False
        self._writing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<AccountKeeper {self.table!r}, {len(self._dirty)} unwritten>"

    async def open(self) -> None:
        """Read what was left behind, and keep from now on. Tells budgets_unread where it can't be read: then all begins anew."""
        try:
            self.left = await self._file.read(partial(_read, after=int(self._clock()) - AFTER))
        except StoreDown as exc:
            self._events.note("budgets_unread", reason=str(exc))
        self._writing = asyncio.create_task(self._write_on())

    async def close(self) -> None:
        """Write what is unwritten."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing
        with suppress(StoreDown):
            await self._write()

    def _change(self, accounts: Iterable[str]) -> None:
        if not self._dirty:
            self._changed.set()
        self._dirty.update(accounts)

    async def _write_on(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write()
            except StoreDown as exc:
                if not self._failing:
                    self._failing = True
                    self._events.note("budgets_unkept", reason=str(exc))
                await asyncio.sleep(RETRY)
                self._changed.set()
            else:
                if self._failing:
                    self._failing = False
                    self._events.note("budgets_kept")
                await asyncio.sleep(PAUSE)

    async def _write(self) -> None:
        accounts, self._dirty = self._dirty, set()
        known = [(account, own) for account in accounts if (own := self.table.find(account)) is not None]
        rows = [Left(account, self._node, own.ends, own.settled, own.held) for account, own in known]
        if not rows:
            return
        try:
            await self._file.write(partial(_keep, rows=rows, before=int(self._clock()) - AFTER))
        except (StoreDown, asyncio.CancelledError):
            self._dirty |= accounts
            raise


def _read(database: sqlite3.Connection, *, after: int) -> list[Left]:
    return [Left(*row) for row in database.execute(_READ, (after,)).fetchall()]


def _keep(database: sqlite3.Connection, *, rows: Sequence[Left], before: int) -> None:
    database.executemany(_KEEP, rows)
    database.execute(_END, (before,))


def restore(table: Accounts, left: Sequence[Left]) -> None:
    """Count what was left behind: what is held in it until nobody can be waiting for it any more."""
    for row in left:
        table.restore(row.account, row.ends, settled=row.settled, held=row.held)
