"""The database: SQLite in the data folder, or PostgreSQL. One thread writes; every method blocks, and raises `StoreDown`.

Rows are put in with ON CONFLICT DO NOTHING: what was copied before is copied again without harm. Many go in by one statement,
because each statement gives up the interpreter, and a busy event loop is slow to give it back.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from sentinel_gateway.core.postgres import connecting
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger.migrations import HEAD
from sentinel_gateway.ledger.rollups import open_again, past, rows_taken
from sentinel_gateway.ledger.sums import add_up
from sentinel_gateway.ledger.tables import VALUES, attempts, requests, trials
from sentinel_gateway.ports.ledger import Enrolled, Handled, Past, Settled

SIZES: Final = (64, 16, 4, 1)
"""Rows in one statement."""
BATCH: Final = 500
"""Most rows that retention takes at a time, and that hold up whoever writes."""
BATCH_SECONDS: Final = 0.05
CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 30
LOCK_SECONDS: Final = 5.0
LOCK_STEP: Final = 0.01
MIGRATION_LOCK: Final = 5_063_287_144_197
"""Of PostgreSQL, by which nodes that start at once take turns."""
PRUNE_LOCK: Final = 5_063_287_144_198
"""Of PostgreSQL, by which one node at a time takes old rows."""
WRITES: Final = {"writes": True}
"""Says of a transaction that it is to change something."""
_HABITS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # what is committed is on the disk: its segment is deleted
    "PRAGMA trusted_schema = OFF",
)

sqlite3.register_adapter(bool, int)  # which it is; else the driver asks each of them what it could be adapted to, 0.3 us a row

Value = Enrolled | Handled | Settled


class Refused(StoreDown):
    """The database is there, and will never take this."""


class Database:
    """`url` as SQLAlchemy has it; of SQLite, `lock` is the file that whoever writes holds, also in another process."""

    def __init__(
        self, url: str | sa.URL, *, lock: Path | None = None, read_only: bool = False, patience: float = LOCK_SECONDS
    ) -> None:
        self._url = make_url(url)
        self._lock = lock
        self._patience = patience
        self._read_only = read_only
        self._engine: sa.Engine | None = None
        self._texts: dict[tuple[str, int], str] = {}
        self._batch = BATCH
        self.breathe: Callable[[], object] = bool
        """Called after each statement: somebody else may need the core."""

    def __repr__(self) -> str:
        return f"<Database {self._url.render_as_string()} {'open' if self._engine else 'closed'}>"

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    def open(self) -> None:
        """Connect, and bring the tables up to date."""
        with self._faults(), ExitStack() as undoing:
            engine = _postgres(self._url) if self._url.get_backend_name() == "postgresql" else self._sqlite()
            undoing.callback(engine.dispose)
            if not self._read_only:
                with self._alone():
                    self._migrate(engine)
            undoing.pop_all()
            self._engine = engine

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            with suppress(StoreDown), self._faults(), self._alone():  # of SQLite, who goes last tidies up
                engine.dispose()

    def copy(self, rows: Iterable[Value]) -> None:
        """Keep them: all, or none if it raises. Those that are kept already are left as they are."""
        handled: list[Handled] = []
        settled: list[Settled] = []
        by_kind: dict[type[Value], list[Any]] = {Handled: handled, Settled: settled, Enrolled: []}
        for row in rows:
            by_kind[type(row)].append(row)
        moments = [row.at for row in handled] + [row.intent.started for row in settled]
        with self.writing() as connection:
            for kind, of_kind in by_kind.items():
                self._insert(connection, *VALUES[kind], of_kind)
            if moments:
                open_again(connection, moments)

    def copy_each(self, rows: Iterable[Value]) -> list[Value]:
        """Keep those that can be kept, one by one; the others."""
        refused: list[Value] = []
        for row in rows:
            try:
                self.copy([row])
            except Refused:
                refused.append(row)
        return refused

    def prune(self, before: int) -> int:
        """Take some of the oldest rows from before that moment, added up by day; how many. None while another node does so."""
        began = time.monotonic()
        with self.writing() as connection:
            alone = sa.select(sa.func.pg_try_advisory_xact_lock(PRUNE_LOCK))
            if connection.dialect.name == "postgresql" and not connection.scalar(alone):
                return 0
            taken = _take(connection, attempts, before, self._batch) or _take(connection, requests, before, self._batch)
            taken = taken or _take_trials(connection, before, self._batch)
        seconds = time.monotonic() - began
        self._batch = max(1, self._batch // 2) if seconds > BATCH_SECONDS else min(BATCH, self._batch * 2)
        return taken

    def past(self, before: int) -> Past:
        """What everything before that moment (microseconds since 1970) came to."""
        with self.reading() as connection:
            return past(connection, before)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to ask. What all its questions see is of one moment, and nobody is kept from writing meanwhile.

        What is done with the answers meanwhile may fail in its own ways, a file that is full for one: that is not ours to tell.
        """
        if self._engine is None:
            self.open()
        assert self._engine is not None  # noqa: S101 - for the types' sake
        with self._database_faults(), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, each question of which sees what others have done by then."""
        with self._faults():
            if self._engine is None:
                self.open()
            assert self._engine is not None  # noqa: S101 - for the types' sake
            with self._alone(), self._engine.execution_options(**WRITES).begin() as connection:
                yield connection

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Of work that is all our own."""
        try:
            with self._database_faults():
                yield
        except (OverflowError, ValueError) as exc:
            raise Refused(f"{self._url.render_as_string()}: {_cause(exc)}") from exc
        except OSError as exc:
            raise StoreDown(f"{self._url.render_as_string()}: {_cause(exc)}") from exc

    @contextmanager
    def _database_faults(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DataError, sa.exc.IntegrityError) as exc:
            raise Refused(f"{self._url.render_as_string()}: {_cause(exc)}") from exc
        except sa.exc.SQLAlchemyError as exc:
            raise StoreDown(f"{self._url.render_as_string()}: {_cause(exc)}") from exc

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While nobody else writes to the file: SQLite before 3.51.3 can damage its log where two do at once."""
        if self._lock is None:
            yield
            return
        file = os.open(self._lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + self._patience
            while not _taken(file):
                if time.monotonic() > end:
                    raise StoreDown(f"{self._url.database}: another process has been writing to it for too long")
                time.sleep(LOCK_STEP)
            yield
        finally:
            os.close(file)

    def _sqlite(self) -> sa.Engine:
        path = Path(self._url.database or "")
        if self._read_only:
            url = self._url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
            engine = sa.create_engine(url, poolclass=NullPool)
            sa.event.listen(engine, "begin", _begin)  # the driver begins none for questions
            return engine
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        engine = sa.create_engine(self._url, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _migrate(self, engine: sa.Engine) -> None:
        """Up to date or as it was: all steps are one transaction."""
        with engine.execution_options(**WRITES).begin() as connection:
            if engine.dialect.name == "postgresql":
                if _revision(connection) == HEAD:
                    return  # who has nothing to do must not wait for one who holds the lock, and may be frozen
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if _revision(connection) != HEAD:
                from sentinel_gateway.ledger.migrate import upgrade  # noqa: PLC0415 - Alembic is heavy, and needed once

                upgrade(connection)

    def _insert(
        self, connection: sa.Connection, table: sa.TableClause, values_of: Callable[[Any], tuple[Any, ...]], rows: Sequence[Value]
    ) -> None:
        done = 0
        for size in SIZES:
            while len(rows) - done >= size:
                values = map(values_of, rows[done : done + size])
                connection.exec_driver_sql(self._text(table, size), tuple(chain.from_iterable(values)))
                done += size
                self.breathe()

    def _text(self, table: sa.TableClause, size: int) -> str:
        """The statement that puts in so many rows. Made once, and of one row: that of many takes SQLAlchemy milliseconds."""
        text = self._texts.get((table.name, size))
        if text is None:
            assert self._engine is not None  # noqa: S101 - for the types' sake
            one = sa.insert(table).values(dict.fromkeys(table.columns.keys()))
            into, values = str(one.compile(dialect=self._engine.dialect)).split(" VALUES ")
            rows = ", ".join([values] * size)
            text = self._texts[table.name, size] = f"{into} VALUES {rows} ON CONFLICT DO NOTHING"
        return text


def _postgres(url: sa.URL) -> sa.Engine:
    said = url.normalized_query.get("options")
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        paramstyle="format",
        pool_size=1,
        max_overflow=1,
        pool_pre_ping=True,
        connect_args=connecting(
            said[-1] if said else None, connect=CONNECT_SECONDS, statement=STATEMENT_SECONDS, lock=STATEMENT_SECONDS
        ),
    )


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, so that steps of a migration are one
    for habit in _HABITS:
        connection.execute(habit)


def _begin(connection: sa.Connection) -> None:
    """Who is going to write takes the file at once: who has read before could find it changed by then."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _cause(error: Exception) -> str:
    """The driver's own words, in one line: SQLAlchemy's repeat the statement and its values."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _take(connection: sa.Connection, table: sa.Table, before: int, limit: int) -> int:
    """Delete the first so many rows from before that moment, added up in `days`; how many."""
    key, found = list(table.primary_key.columns), _oldest(connection, table, before, limit)
    if not found:
        return 0
    last = sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(found[-1], key, strict=True)))
    # the range is for the index; those that were found are named, as another node may put in older ones meanwhile
    named: Any = [tuple(row) for row in found]
    if connection.dialect.name == "postgresql":  # which takes 300 ms to plan for a list of them, and 1 ms for a table
        lists = (
            sa.literal(list(values), postgresql.ARRAY(of.type)) for of, values in zip(key, zip(*found, strict=True), strict=True)
        )
        those = sa.func.unnest(*lists).table_valued(*(sa.column(of.name, of.type) for of in key), name="found")
        named = sa.select(*those.render_derived().c)
    some = (sa.tuple_(*key) <= last) & sa.tuple_(*key).in_(named)
    add_up(connection, table, some)
    connection.execute(sa.delete(table).where(some))
    rows_taken(connection, found[-1][0])
    return len(found)


def _take_trials(connection: sa.Connection, before: int, limit: int) -> int:
    """The same of those, of which nothing is added up: a late one that stands among them goes with them."""
    found = _oldest(connection, trials, before, limit)
    if found:
        connection.execute(sa.delete(trials).where(trials.c.at <= found[-1].at))
    return len(found)


def _oldest(connection: sa.Connection, table: sa.Table, before: int, limit: int) -> Sequence[Any]:
    key = list(table.primary_key.columns)
    return connection.execute(sa.select(*key).where(table.c.at < before).order_by(*key).limit(limit)).all()
