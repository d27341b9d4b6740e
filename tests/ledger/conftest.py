"""A database of each kind, and a journal that is written on the test's own loop."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.journal import Journal, JournalLimits


class Heard:
    """What was told of it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class Place:
    """Where a database is, and its rows as its own client has them: no code is shared with what wrote them."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.url = url

    def database(self) -> Any:
        return make_database(self.folder, self.url)

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        if self.url is not None:
            with psycopg.connect(self.url) as connection:
                return connection.execute(question).fetchall()
        connection = sqlite3.connect(self.folder / "ledger.db")
        try:
            return connection.execute(question).fetchall()
        finally:
            connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path) -> Place:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").fresh()
    return Place(tmp_path, url)


@pytest.fixture
def database(place) -> Iterator[Any]:
    database = place.database()
    yield database
    database.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def journal(tmp_path, heard, anyio_backend):
    """journal(segment=1000) is one in the test's folder."""
    opened: list[Journal] = []

    def make(**limits: Any) -> Journal:
        opened.append(Journal(tmp_path / "journal", limits=JournalLimits(**limits), on_event=heard))
        return opened[-1]

    yield make
    for one in opened:
        await one.close()
        one.release()
