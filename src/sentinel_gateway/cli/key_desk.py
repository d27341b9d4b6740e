"""What `sentinel keys` does once it is understood: opens the place of the keys, makes the change, tells of it."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import Grant, Key, describe, is_key_text, key_digest, operator, standing
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.issuance import ID_BYTES, Draw, Minter
from sentinel_gateway.core.pricing import usd
from sentinel_gateway.errors import ConfigurationError, KeyNotFound, RequestError, StoreDown
from sentinel_gateway.ports import KeyStore
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.keys import SqlKeys
from sentinel_gateway.stores.secret import gateway_secret

if TYPE_CHECKING:
    from sentinel_gateway.stores._state import State

REFUSED: Final = 1
PAGE: Final = 200
FROM_INPUT: Final = "-"
KEY_FILE: Final = 0o640
"""Permissions: whoever reads it, such as Prometheus, is in the group of the user that makes it."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS: Final = ("id", "name", "tenant", "scopes", "status", "expires", "hint")


class Desk:
    """The keys, what is needed to make one, and how to tell what was done."""

    def __init__(self, keys: KeyStore, secret: bytes, *, as_json: bool) -> None:
        self.keys = keys
        self.minter = Minter(secret)
        self.secret = secret
        self.as_json = as_json
        self.now = time.time()
        self.operator = operator("cli")

    def tell(self, shown: dict[str, Any], *sentences: str) -> None:
        """As JSON, or the sentences."""
        print(json.dumps(shown, indent=2) if self.as_json else "\n".join(sentences))

    def shown(self, key: Key) -> dict[str, Any]:
        return describe(key) | {"status": standing(key, self.now) or "active"}


Errand = Callable[[Desk], Awaitable[None]]


def run(errand: Errand, config: Path | None, *, as_json: bool) -> int:
    """Carry it out; the exit code: 1 where it is refused, 2 where the configuration or the data folder can't be used."""
    try:
        asyncio.run(_run(errand, loader(config)().settings, as_json=as_json))
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    except (RequestError, StoreDown) as error:
        if as_json:
            code = error.shown_code if isinstance(error, RequestError) else "keys_unavailable"
            print(json.dumps({"ok": False, "code": code, "error": str(error)}, indent=2))
        else:
            print(f"sentinel keys: {error}", file=sys.stderr)
        return REFUSED
    return 0


async def _run(errand: Errand, settings: Settings, *, as_json: bool) -> None:
    configured = None if settings.secret is None else settings.secret.get_secret_value()
    secret = gateway_secret(settings.data_dir, configured)
    async with AsyncExitStack() as closing:
        file = await StateFile.open(settings.data_dir, secret=secret)
        closing.push_async_callback(file.close)
        place: State = file
        if settings.database_url is not None:
            from sentinel_gateway.adapters import open_server  # heavy, and most have none

            place = await open_server(settings, secret, file)
            closing.push_async_callback(place.close)
        await errand(Desk(SqlKeys(place), secret, as_json=as_json))


async def create(desk: Desk, *, grant: Grant, once: bool, to: Path | None) -> None:
    there = None if to is None else await _held(desk, to)
    if there is None and once:
        there = await _namesake(desk, grant)
    if there is not None:
        desk.tell(desk.shown(there), f"No key was made: {there.id} ({there.name}) is there, and good.")
        return
    key, text = desk.minter.mint(grant, _draw(), desk.now)
    if to is None:
        await desk.keys.create(key, issuance.create(desk.operator, key))
        desk.tell({"key": text} | desk.shown(key), f"Key, shown only this once: {text}", _summary(key))
        return
    with _draft(to) as put_in_place:
        await desk.keys.create(key, issuance.create(desk.operator, key))
        put_in_place(text)
    desk.tell(desk.shown(key), f"The key is in {to}, and nowhere else.", _summary(key))


async def _held(desk: Desk, file: Path) -> Key | None:
    """The key in the file, if it is one that still opens the door."""
    text = _text(file)
    key = await desk.keys.find(key_digest(desk.secret, text)) if is_key_text(text) else None
    return key if key is not None and standing(key, desk.now) is None else None


def _text(file: Path) -> str:
    """What stands there; nothing, where it can't be read."""
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text("utf-8").strip()
    return ""


async def _namesake(desk: Desk, grant: Grant) -> Key | None:
    found = (key async for key in _all(desk, grant.name, grant.tenant))
    return await anext((key async for key in found if key.name == grant.name and standing(key, desk.now) is None), None)


@contextmanager
def _draft(file: Path) -> Iterator[Callable[[str], None]]:
    """What puts a text into the file, whole or not at all; the file is known to be writable before a key is made for it."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE)
    except OSError as error:
        raise ConfigurationError([(str(file), f"the key can't be written there: {error.strerror}")]) from error

    def put_in_place(text: str) -> None:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
        draft.replace(file)

    try:
        yield put_in_place
    finally:
        os.close(descriptor)
        draft.unlink(missing_ok=True)


async def list_keys(desk: Desk, *, search: str, tenant: str | None) -> None:
    found = [desk.shown(key) async for key in _all(desk, search, tenant)]
    desk.tell({"data": found}, *_table(found))


async def _all(desk: Desk, prefix: str, tenant: str | None) -> AsyncIterator[Key]:
    cursor: str | None = None
    while True:
        page = await desk.keys.page(prefix=prefix, tenant=tenant, limit=PAGE, cursor=cursor)
        for key in page.keys:
            yield key
        cursor = page.next
        if cursor is None:
            return


async def revoke(desk: Desk, *, wanted: str) -> None:
    key = await _find(desk, wanted)
    key = (await desk.keys.update(key.id, partial(issuance.revoke, caller=desk.operator, now=desk.now))).key
    desk.tell(desk.shown(key), f"Revoked {key.id} ({key.name}). A running gateway refuses it within a second.")


async def rotate(desk: Desk, *, wanted: str, overlap: float) -> None:
    key = await _find(desk, wanted)
    successor, text = desk.minter.mint(key, _draw(), desk.now)
    rule = partial(issuance.rotate, caller=desk.operator, successor=successor, overlap=overlap)
    old = (await desk.keys.update(key.id, rule)).key
    sentences = (f"Key, shown only this once: {text}", _summary(successor), f"{old.id} lives on until {_date(old.expires)}.")
    desk.tell({"key": text} | desk.shown(successor) | {"rotated": desk.shown(old)}, *sentences)


async def rebudget(desk: Desk, *, wanted: str, budget: Budget) -> None:
    key = await _find(desk, wanted)
    rule = partial(issuance.rebudget, caller=desk.operator, budget=budget, now=desk.now)
    key = (await desk.keys.update(key.id, rule)).key
    desk.tell(desk.shown(key), f"{key.id} ({key.name}) may spend {_amounts(budget) or 'any amount'}: in force within a second.")


async def _find(desk: Desk, wanted: str) -> Key:
    if wanted != FROM_INPUT:
        return issuance.find(await desk.keys.get(wanted), desk.operator)
    text = sys.stdin.read().strip()
    if not is_key_text(text):
        raise KeyNotFound("That is no key of Sentinel, or not a whole one: it begins with 'sk-sn-' and has 55 characters.")
    return issuance.find(await desk.keys.find(key_digest(desk.secret, text)), desk.operator)


def _draw() -> Draw:
    return Draw(secrets.token_bytes(ID_BYTES), secrets.token_bytes(32))


def _summary(key: Key) -> str:
    """What it is, line by line, without what is not limited."""
    shown = describe(key)
    lines = {name: shown[name] for name in ("id", "name", "tenant")}
    lines |= {"scopes": ", ".join(shown["scopes"]), "models": ", ".join(shown["models"]) or "all", "expires": _date(key.expires)}
    if key.max_wrong_hit_rate is not None:
        lines["wrong hits"] = f"{key.max_wrong_hit_rate:g} at most"
    if amounts := _amounts(key.budget):
        lines["budget"] = amounts
    for place in ("limits", "user_limits"):
        given = [f"{name} {limit}" for name, limit in shown[place].items() if limit is not None]
        lines |= {place.replace("_", " "): ", ".join(given)} if given else {}
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def _amounts(budget: Budget) -> str:
    return ", ".join(f"{usd(limit)} USD a {span}" for span, limit in budget.spans())


def _table(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["No keys."]
    rows = [COLUMNS, *(tuple(_cell(name, row[name]) for name in COLUMNS) for row in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(name: str, value: Any) -> str:
    if name == "expires":
        return _date(value)
    return ",".join(value) if name == "scopes" else str(value)


def _date(at: float | None) -> str:
    if at is None:
        return "never"
    with suppress(OverflowError):
        return (EPOCH + timedelta(seconds=at)).strftime("%Y-%m-%d %H:%M UTC")
    return "after 9999"
