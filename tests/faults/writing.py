"""A process that keeps things and says which are kept: `python -m tests.faults.writing WHAT FOLDER SOCKET`.

It says so over the socket whose number it is given, by a system call that nobody breaks; a number for each, and `end` in the end.
Whatever fails meanwhile, it goes on, as a gateway does.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import time
from typing import TypeVar

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import Grant, Key, operator
from sentinel_gateway.core.issuance import Draw, Minter
from sentinel_gateway.errors import ConfigurationError, KeyNotFound, StoreDown
from sentinel_gateway.ledger.books import Books
from sentinel_gateway.ledger.copier import Habits
from sentinel_gateway.ledger.journal import Journal, JournalLimits
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.keys import SqlKeys
from sentinel_gateway.stores.secret import gateway_secret
from tests.ledger.rows import asked, handled, spent

OPERATOR = operator("cli")
PEPPER = b"the pepper of these tests, 32 bytes"
NOW = 1_800_000_000.0
ROWS = 8
T = TypeVar("T")
SMALL = JournalLimits(segment=1500, sync=0.01)
"""Segments that end after a few rows, and are put on the disk at once."""
PATIENCE = 40.0

Told = Callable[[object], None]


async def keys(folder: Path, told: Told) -> None:
    """Keys, one of which is revoked. What has failed may have been done, so it is not tried again; one of the last two works."""
    file = await StateFile.open(folder, secret=PEPPER)
    store = SqlKeys(file)
    for number in range(ROWS):
        await _make(store, number, told)
    with suppress(StoreDown, KeyNotFound):
        await store.update(key(0).id, partial(issuance.revoke, caller=OPERATOR, now=NOW))
        told("revoked")
    for number in (ROWS, ROWS + 1):
        await _make(store, number, told)
    await file.close()


async def journal(folder: Path, told: Told) -> None:
    """Calls of a provider, and what came of them."""
    journal = _started(lambda: Journal(folder / "journal", limits=SMALL, on_event=_unheard))
    for number in range(ROWS):
        await _book(journal, number, told)
    await _until(lambda: journal.fault is None)
    await journal.close()
    journal.release()


async def books(folder: Path, told: Told) -> None:
    """The same, copied into the database meanwhile."""
    habits = Habits(retention=0.0, first=0.0, every=0.02)
    books = _started(lambda: Books(folder, None, limits=SMALL, habits=habits, clock=time, on_event=_unheard))
    for number in range(ROWS):
        await _book(books.journal, number, told)
        await asyncio.sleep(0.03)
    await _until(lambda: books.fault is None)
    await books.close()


async def secret(folder: Path, told: Told) -> None:
    """The secret of a first start; who can't keep it starts again."""
    told(_started(lambda: gateway_secret(folder, None)).decode())


def key(number: int) -> Key:
    """Each number makes another one."""
    grant = Grant(name="app", tenant="acme", scopes=frozenset({"inference"}))
    return Minter(PEPPER).mint(grant, Draw(number.to_bytes(8), number.to_bytes(32)), NOW)[0]


async def _make(store: SqlKeys, number: int, told: Told) -> None:
    with suppress(StoreDown):
        await store.create(key(number), issuance.create(OPERATOR, key(number)))
        told(number)


async def _book(journal: Journal, number: int, told: Told) -> None:
    journal.intend(asked(number))
    told(f"intent {number}")
    journal.settle(spent(number))
    told(number)
    journal.handled(handled(number))
    await asyncio.sleep(0.01)


def _started(make: Callable[[], T]) -> T:
    """Where the start is refused, whoever runs it starts it again."""
    try:
        return make()
    except ConfigurationError:
        return make()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.02)


def _unheard(_event: str, **_fields: object) -> None:
    pass


WRITERS: dict[str, Callable[[Path, Told], Awaitable[None]]] = {
    "keys": keys,
    "journal": journal,
    "books": books,
    "secret": secret,
}


async def main(what: str, folder: str, number: str) -> None:
    with socket.socket(fileno=int(number)) as line:
        tell = lambda said: line.sendall(f"{said}\n".encode())  # noqa: E731 - a word for it
        await WRITERS[what](Path(folder), tell)
        tell("end")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
