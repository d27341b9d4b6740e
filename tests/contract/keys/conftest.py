"""The databases of keys under test, opened and closed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import Key, operator
from sentinel_gateway.ledger.books import bring_up_to_date
from sentinel_gateway.stores._adoption import adopt
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores._state_server import StateServer
from sentinel_gateway.stores.audit import SqlAudit
from sentinel_gateway.stores.keys import SqlKeys
from tests.core.keys import PEPPER, minted

Opening = Callable[..., Awaitable["State"]]

OPERATOR = operator("cli")


class State(NamedTuple):
    file: StateFile | StateServer
    keys: SqlKeys
    log: SqlAudit

    async def create(self, number: int, **changes) -> Key:
        key, _ = minted(number, **changes)
        await self.keys.create(key, issuance.create(OPERATOR, key))
        return key

    async def ids(self) -> set[str]:
        """Of all keys."""
        found, mark, more = set(), None, True
        while more:
            changes = await self.keys.changes(mark)
            found |= {key.id for key in changes.keys}
            mark, more = changes.mark, changes.more
        return found

    async def names(self, **asked) -> list[str]:
        """Of all pages."""
        names, cursor = [], None
        while True:
            page = await self.keys.page(**{"prefix": "", "tenant": None, "limit": 3} | asked, cursor=cursor)
            assert len(page.keys) <= 3
            names += [key.name for key in page.keys]
            cursor = page.next
            if cursor is None:
                return names


async def open_state(folder: Path, secret: bytes = PEPPER) -> State:
    file = await StateFile.open(folder, secret=secret)
    return State(file, SqlKeys(file), SqlAudit(file))


async def open_shared(url: str, secret: bytes = PEPPER, found: Sequence[Key] = ()) -> State:
    """On a PostgreSQL; `found` are the keys of a data folder that come along."""
    prepare, welcome = partial(bring_up_to_date, Path("/nowhere"), url), partial(adopt, found=list(found))
    server = await StateServer(url, secret=secret, prepare=prepare, welcome=welcome).reached()
    return State(server, SqlKeys(server), SqlAudit(server))


@pytest.fixture(params=["sqlite", "postgres"])
def opening(request, tmp_path) -> Opening:
    """await opening() is the database under test, opened by one more."""
    if request.param == "sqlite":
        return partial(open_state, tmp_path)
    return partial(open_shared, request.getfixturevalue("postgres").fresh())


@pytest.fixture
async def state(opening, anyio_backend) -> AsyncIterator[State]:
    opened = await opening()
    yield opened
    await opened.file.close()
