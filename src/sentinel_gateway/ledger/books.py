"""The ledger as a process has it: a journal that takes rows at once, and a copier that brings them to SQL."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinel_gateway.ledger.copier import Copier, Habits
from sentinel_gateway.ledger.journal import Journal, JournalLimits, OnEvent
from sentinel_gateway.ledger.windows import MOST_KEPT, History
from sentinel_gateway.ledger.windows import PATIENCE as LOOKING_BACK
from sentinel_gateway.ports.ledger import Past

if TYPE_CHECKING:
    from sentinel_gateway.ledger.sql import Database

FOLDER: Final = "journal"
FILE: Final = "ledger.db"
LOCK: Final = "ledger.lock"
NOTHING: Final = Past({}, {})
NO_ROOM: Final = (
    "The gateway has no room left to write down what requests cost: its operator has to make room on the disk "
    "of its data folder, or bring its database back."
)
PATIENCE: Final = 5.0
"""Seconds that somebody who asks for sums waits for those of the past."""


class Books:
    """`journal` is the port `Ledger`, `history` is `Windows`. Opened on the event loop's thread, and used there."""

    def __init__(
        self, data: Path, url: str | None, *, limits: JournalLimits, habits: Habits, clock: Callable[[], float], on_event: OnEvent
    ) -> None:
        self._has_past = url is not None or (data / FILE).exists() or any((data / FOLDER).glob("[0-9a-f]*"))
        self.journal = Journal(data / FOLDER, limits=limits, on_event=on_event)
        self.history = make_history(data, url, clock)
        self._copier = Copier(self.journal, lambda: make_database(data, url), habits, clock=clock, on_event=on_event)

    def __repr__(self) -> str:
        return f"<Books {self.journal!r} {self._copier!r}>"

    @property
    def fault(self) -> str | None:
        """What keeps rows from the disk or from the database, where something does; nothing is lost by that yet."""
        return self.journal.fault or self._copier.fault

    def when_full(self, shut: Callable[[str], None]) -> None:
        """Tell `shut` why nothing more can be written down, as soon as that is so, and an empty text when it no longer is."""
        self.journal.when_full = lambda full: shut(NO_ROOM if full else "")

    async def past(self, patience: float = PATIENCE) -> Past | None:
        """What all requests before this process came to; None where the database does not tell that in time."""
        if not self._has_past:  # then nothing has to be loaded to say so
            return NOTHING
        asked = self._copier.past()
        unknown = self._copier.fault is not None or self._copier.is_past_unknown
        if unknown and not asked.done():  # nobody waits for a database that is away, or that has just failed to add it up
            return None
        telling = asyncio.wrap_future(asked)
        done, _ = await asyncio.wait([telling], timeout=patience)
        return telling.result() if done and not telling.cancelled() else None

    async def close(self) -> None:
        """Write and copy what is left. What the database does not take waits on the disk for the next start."""
        await self.journal.close()
        await self.history.close()
        await asyncio.to_thread(self._copier.close)
        self.journal.release()


def make_history(
    data: Path,
    url: str | None,
    clock: Callable[[], float],
    *,
    most_kept: int = MOST_KEPT,
    patience: float = LOOKING_BACK,
    worked: Callable[[], float] = time.thread_time,
) -> History:
    """What tells of the past, for a data folder, by a connection of its own; to who waits for `patience` seconds at most."""

    def open_database() -> "Database | None":
        return None if url is None and not (data / FILE).exists() else make_database(data, url, read_only=True)

    return History(open_database, clock, most_kept=most_kept, patience=patience, worked=worked)


def make_database(data: Path, url: str | None, *, read_only: bool = False) -> "Database":
    """The database that belongs to a data folder, not yet open: that of `url`, else SQLite in the folder."""
    from sqlalchemy import URL  # noqa: PLC0415 - heavy: not before there is something to copy

    from sentinel_gateway.ledger.sql import Database  # noqa: PLC0415 - as above

    if url is not None:
        return Database(url, read_only=read_only)
    return Database(URL.create("sqlite", database=str(data / FILE)), lock=data / LOCK, read_only=read_only)


def bring_up_to_date(data: Path, url: str) -> None:
    """Have a database's tables be those that this Sentinel knows. Blocks; raises `StoreDown`."""
    database = make_database(data, url)
    database.open()
    database.close()


def lacks_postgres(error: ModuleNotFoundError) -> str:
    """What to do where PostgreSQL's client is not installed."""
    return f"needs the package {error.name}, which is not installed: pip install 'sentinel-gateway[postgres]'"
