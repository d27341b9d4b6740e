"""The database of keys under test, opened and closed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import Key, operator
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.audit import SqliteAudit
from sentinel_gateway.stores.keys import SqliteKeys
from tests.core.keys import PEPPER, minted

OPERATOR = operator("cli")


class State(NamedTuple):
    file: StateFile
    keys: SqliteKeys
    log: SqliteAudit

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
    return State(file, SqliteKeys(file), SqliteAudit(file))


@pytest.fixture
async def state(tmp_path, anyio_backend) -> AsyncIterator[State]:
    opened = await open_state(tmp_path)
    yield opened
    await opened.file.close()
