"""What must not be lost, as the stores of it see it: statements that SQLite and PostgreSQL read alike, and jobs that ask them.

A place is `sentinel.db` (`_state_file.py`) or a database that several nodes share (`_state_server.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Rows(Protocol):
    """What a statement has found."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Statements(Protocol):
    """A connection, within a transaction; `?` stands for each value."""

    def execute(self, statement: str, values: tuple[Any, ...] = ..., /) -> Rows: ...

    def executemany(self, statement: str, lots: Sequence[tuple[Any, ...]], /) -> object:
        """The same for each of these values; a server is not waited for in between."""
        ...


class State(Protocol):
    """Coroutines raise `StoreDown`, within their deadline. Jobs run on a thread of the place's own, one after another."""

    async def read(self, job: Callable[[Statements], T]) -> T:
        """Have `job` ask: what it sees is of one moment.

        It decodes what it finds, so that a row which can't be read is `StoreDown` as well.
        """
        ...

    async def write(self, job: Callable[[Statements], T]) -> T:
        """Have `job` change something: all of it or, if it raises, nothing. It is on the disk when this returns.

        After `StoreDown` for lack of time it may or may not have happened.
        """
        ...

    def history(self, statements: Statements) -> int:
        """Which database this is. Another number: it may have been replaced, and what was seen of it may never have been."""
        ...

    async def close(self) -> None: ...
