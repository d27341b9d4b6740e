"""PostgreSQL, where nodes keep together what must not be lost. It is asked as `sentinel.db` is, by the same statements.

Who writes takes turns with all others. So changes are seen in the order of their numbers: a node that has been told the seventh
never missed the sixth, and no key that was revoked stays good unseen.
"""

import asyncio
import hmac
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final, Literal, Self, TypeVar

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from sentinel_gateway.core.postgres import WRONG_ENCODING, connecting, holds_every_name
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores._state import Rows, Statements
from sentinel_gateway.stores._worker import Worker

T = TypeVar("T")
Job = Callable[[Statements], T]

DEADLINE: Final = 5.0
OPEN_DEADLINE: Final = 30.0
"""Tables may have to be brought up to date first, or another node does so."""
STATEMENT_SECONDS: Final = 4
TURN_SECONDS: Final = 2
"""Whoever has the turn and asks nothing for so long is frozen, and loses it: those who wait for it wait twice as long."""
TURNS: Final = {"keys": 5_063_287_144_199, "evidence": 5_063_287_144_200}
"""The locks by which those who write take turns, by what they write: a key is revoked at once, however much is learned."""
CONNECT_SECONDS: Final = 3
_TAKE_TURN: Final = "SELECT set_config('idle_in_transaction_session_timeout', ?, true), pg_advisory_xact_lock(?)"
_KEEP_SEAL: Final = "INSERT INTO facts VALUES ('secret', ?) ON CONFLICT DO NOTHING"
_SEAL: Final = "SELECT value FROM facts WHERE name = 'secret'"
_HISTORY: Final = """
SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint # pg_relation_filenode('keys')::bigint
"""
"""Another server has started at another moment; a table that was made anew, as a backup is put back, is another file."""

_MOMENT: Final = "SELECT extract(epoch FROM clock_timestamp())"


class StateServer:
    """A connection to read and one to write, each with its thread: who waits to write holds up nobody who reads.

    `prepare` brings the tables up to date before a connection is opened, and blocks. `welcome` is called at the first one, as a
    job that writes, and again at the next if it was not all kept. `of` is what is kept there: what is slow in one holds up nobody
    who asks for the other.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: bytes,
        prepare: Callable[[], None],
        welcome: Job[None],
        of: Literal["keys", "evidence"] = "keys",
    ) -> None:
        self.name = _name(url)
        self._turn = f"{TURN_SECONDS}s", TURNS[of]
        self._seal = hmac.digest(secret, b"sentinel: the secret of this database", "sha256")
        self._welcome = welcome
        self._welcomed = False
        self._reading = _Connection(url, prepare, self._greet, name=f"sentinel-{of}-read", turn=None)
        self._writing = _Connection(url, prepare, self._greet, name=f"sentinel-{of}-write", turn=self._turn)

    async def reached(self) -> Self:
        """Itself, with or without the server, which may be away now and is tried again at each use.

        Raises `ConfigurationError` for a database whose keys were made with another secret.
        """
        try:
            await self._reading.run(lambda _: None, OPEN_DEADLINE)
        except ConfigurationError:
            await self.close()
            raise
        except StoreDown:
            pass
        return self

    def __repr__(self) -> str:
        return f"<StateServer {self.name} {'open' if self._reading.is_open else 'away'}>"

    @property
    def is_open(self) -> bool:
        """Was it there when it was last asked?"""
        return self._reading.is_open

    async def moment(self) -> float:
        """What time it has, in Unix seconds."""
        (seconds,) = await self.read(lambda statements: statements.execute(_MOMENT).fetchone())
        return float(seconds)

    async def read(self, job: Job[T]) -> T:
        return await self._reading.use(job)

    async def write(self, job: Job[T]) -> T:
        return await self._writing.use(job)

    def history(self, statements: Statements) -> int:
        (number,) = statements.execute(_HISTORY).fetchone()
        return int(number)

    async def close(self) -> None:
        await asyncio.gather(self._reading.close(), self._writing.close())

    def _greet(self, connection: "psycopg.Connection[Any]") -> None:
        """Is it ours? `ConfigurationError` if it is not. Once it was, who reads again waits for nobody who writes."""
        with connection.transaction(), connection.pipeline():  # there may be many keys to bring along
            statements = _Statements(connection)
            found = statements.execute(_SEAL).fetchone()
            if found is None or not self._welcomed:
                statements.execute(_TAKE_TURN, self._turn)
            if found is None:
                statements.execute(_KEEP_SEAL, (self._seal,))
                found = statements.execute(_SEAL).fetchone()
            if not hmac.compare_digest(found[0], self._seal):
                fix = "set SENTINEL_SECRET to that of the nodes that made them, the same on all"
                raise ConfigurationError([("database_url", f"its keys were made with another secret, so none would work: {fix}")])
            if not self._welcomed:
                self._welcome(statements)
        self._welcomed = True


class _Statements:
    """Statements as SQLite has them, for PostgreSQL."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, statement: str, values: tuple[Any, ...] = (), /) -> Rows:
        return self._connection.execute(_translated(statement), tuple(map(_storable, values)))

    def executemany(self, statement: str, lots: Sequence[tuple[Any, ...]], /) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(statement), [tuple(map(_storable, values)) for values in lots])


class _Connection:
    """Opened when it is first used, and again when it was lost."""

    def __init__(
        self,
        url: str,
        prepare: Callable[[], None],
        greet: Callable[["psycopg.Connection[Any]"], None],
        *,
        name: str,
        turn: tuple[str, int] | None,
    ) -> None:
        self._url = url
        self._name = _name(url)
        self._prepare = prepare
        self._greet = greet
        self._turn = turn
        """What each job takes before it writes; None: it reads."""
        self._was_open = False
        self._until: float | None = None
        """By when the job that is on the thread now has to be done, in seconds of `time.monotonic`."""
        self._connection: psycopg.Connection[Any] | None = None
        self._socket: socket.socket | None = None
        self._worker = Worker(name)

    def __repr__(self) -> str:
        return f"<_Connection {self._name} {'open' if self.is_open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def use(self, job: Job[T]) -> T:
        try:
            return await self.run(job, DEADLINE if self._was_open else OPEN_DEADLINE)
        except ConfigurationError as exc:  # another database has taken its place since the start
            raise StoreDown(str(exc)) from exc

    async def run(self, job: Job[T], deadline: float) -> T:
        """Raises `StoreDown` within so many seconds, and `ConfigurationError` where trying again would not help."""
        until = time.monotonic() + deadline
        try:
            async with asyncio.timeout(deadline):
                return await self._worker.run(lambda: self._do(job, until))
        except TimeoutError as exc:
            if self._until is not None and self._until <= until:  # it, or who waits no more; others still have time
                self._cut()
            raise StoreDown(f"{self._name} did not answer within {deadline:g} s") from exc
        except (psycopg.Error, OSError) as exc:
            raise StoreDown(f"{self._name}: {(str(exc).splitlines() or [type(exc).__name__])[0]}") from exc
        except msgspec.DecodeError as exc:
            raise StoreDown(f"{self._name} holds what this Sentinel can't read ({exc}): run the one that wrote it") from exc

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await self._worker.run(self._close)
        self._cut()
        self._worker.stop()

    def _cut(self) -> None:
        """Whoever waits for an answer on the thread is told at once that there is none: a server that is frozen never says so."""
        if (mine := self._socket) is not None:  # the thread may close it meanwhile
            with suppress(OSError):  # it is closed already
                mine.shutdown(socket.SHUT_RDWR)

    # On the worker's thread.

    def _do(self, job: Job[T], until: float) -> T:
        self._until = until
        try:
            connection = self._living()
            with connection.transaction():
                statements = _Statements(connection)
                if self._turn is not None:
                    statements.execute(_TAKE_TURN, self._turn)
                return job(statements)
        finally:
            self._until = None

    def _living(self) -> "psycopg.Connection[Any]":
        if self._connection is not None:
            try:
                self._connection.execute("")  # as a pool asks: a server that has restarted must cost no change
            except psycopg.Error:
                self._close()
        if self._connection is None:
            self._connection = self._open()
            self._was_open = True
        return self._connection

    def _open(self) -> "psycopg.Connection[Any]":
        said = conninfo_to_dict(self._url).get("options")
        how = connecting(said if said is None else str(said), connect=CONNECT_SECONDS, statement=STATEMENT_SECONDS)
        connection = psycopg.connect(self._url, autocommit=True, **how)
        try:
            _check_encoding(connection)
            self._prepare()
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))  # our own, so that its number is nobody else's
            self._greet(connection)
            if self._turn is None:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
        except BaseException:  # broad: whatever it is, the connection must not stay open
            connection.close()
            self._forget_socket()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._forget_socket()

    def _forget_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _check_encoding(connection: "psycopg.Connection[Any]") -> None:
    if not holds_every_name(connection.info.parameter_status("server_encoding")):
        raise ConfigurationError([("database_url", f"the database {WRONG_ENCODING}")])


@cache
def _translated(statement: str) -> bytes:
    return statement.replace("%", "%%").replace("?", "%s").encode()


def _storable(value: Any) -> Any:
    """PostgreSQL refuses NUL in a text. No name, id or tenant holds one, or a tab: nothing is found either way."""
    return value.replace("\0", "\t") if isinstance(value, str) else value


def _name(url: str) -> str:
    """Where it is, without the password."""
    said = conninfo_to_dict(url)
    return f"postgresql://{said.get('host', 'localhost')}:{said.get('port', 5432)}/{said.get('dbname', '')}"
