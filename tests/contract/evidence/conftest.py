"""Where evidence is kept: a file of one's own, or a PostgreSQL that nodes share."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from sentinel_gateway.ledger.books import bring_up_to_date
from sentinel_gateway.stores._state import State
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores._state_server import StateServer
from tests.core.keys import PEPPER

TABLES = ("decisions", "labels", "hours", "stances", "learners", "lessons", "leases")
Opening = Callable[[], Awaitable[State]]


@pytest.fixture
async def file(tmp_path, anyio_backend) -> AsyncIterator[StateFile]:
    opened = await StateFile.open(tmp_path, secret=PEPPER)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def database(postgres) -> str:
    """The URL of one that has the tables."""
    url = postgres.fresh()
    bring_up_to_date(Path("/nowhere"), url)
    return url


def serve(url: str) -> Awaitable[StateServer]:
    return StateServer(url, secret=PEPPER, prepare=lambda: None, welcome=lambda _: None).reached()


@pytest.fixture(params=["sqlite", "postgres"])
def opening(request, tmp_path) -> Opening:
    """await opening() is the place under test."""
    if request.param == "sqlite":
        return partial(StateFile.open, tmp_path, secret=PEPPER)
    return partial(serve, request.getfixturevalue("database"))


@pytest.fixture
async def place(opening, anyio_backend) -> AsyncIterator[State]:
    opened = await opening()
    if isinstance(opened, StateServer):
        await opened.write(lambda database: database.execute(f"TRUNCATE {', '.join(TABLES)}, facts"))
    yield opened
    await opened.close()
