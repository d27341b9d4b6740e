"""Alerts beside the keys: who looks, how they stand, what is on its way, and what has been."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sentinel_gateway.core.alerting.board import Board
from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.ports.alerts import Entry, EntryPage, Led, Letter, Silence, Waiting
from sentinel_gateway.stores._state import State, Statements

NEWEST: Final = (1 << 63) - 1
MOST_WAITING: Final = 50
"""Letters to a channel: of more the oldest go, and are in the history as dropped."""
SWEPT: Final = 500
"""Old lines of the history that go with each look: more than come."""

_LEAD: Final = """
INSERT INTO leases (name, holder, ends) VALUES ('alerts', ?, ?)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends = excluded.ends
WHERE leases.ends <= ? OR leases.holder = excluded.holder
RETURNING holder
"""
_RESIGN: Final = "DELETE FROM leases WHERE name = 'alerts' AND holder = ?"
_LEADS: Final = "SELECT 1 FROM leases WHERE name = 'alerts' AND holder = ?"
_BOARD: Final = "SELECT state FROM alert_board WHERE name = 'board'"
_KEEP_BOARD: Final = """
INSERT INTO alert_board (name, state) VALUES ('board', ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state
"""
_SILENCES: Final = "SELECT rule, ends, actor FROM alert_silences ORDER BY rule"
_SILENCE: Final = """
INSERT INTO alert_silences (rule, ends, actor) VALUES (?, ?, ?)
ON CONFLICT (rule) DO UPDATE SET ends = excluded.ends, actor = excluded.actor
"""
_END_SILENCES: Final = "DELETE FROM alert_silences WHERE ends <= ?"
_NOTE: Final = """
INSERT INTO alert_history (id, at, kind, rule, subject, channel, text)
VALUES ((SELECT coalesce(max(id), 0) + 1 FROM alert_history), ?, ?, ?, ?, ?, ?)
"""
_HISTORY: Final = """
SELECT id, at, kind, rule, subject, channel, text FROM alert_history WHERE id < ? ORDER BY id DESC LIMIT ?
"""
_SWEEP: Final = """
DELETE FROM alert_history WHERE id IN (SELECT id FROM alert_history WHERE at < ? ORDER BY at LIMIT ?)
AND id < (SELECT max(id) FROM alert_history)
"""
"""The last stays, so that its number is never given again."""
_SEND: Final = "INSERT INTO alert_letters (id, channel, at, due, tries, message) VALUES (?, ?, ?, ?, 0, ?)"
_CROWDED: Final = """
DELETE FROM alert_letters WHERE id IN (SELECT id FROM alert_letters WHERE channel = ? ORDER BY at DESC, id LIMIT ? OFFSET ?)
RETURNING id
"""
_CLAIM: Final = """
UPDATE alert_letters SET due = ?, tries = tries + 1
WHERE id = (SELECT id FROM alert_letters WHERE channel = ? ORDER BY at, id LIMIT 1) AND due <= ?
RETURNING id, channel, at, tries, message
"""
"""Only ever the oldest, due or not: were "firing" overtaken by "recovered", it would come last and be believed."""
_DUE: Final = "SELECT due FROM alert_letters WHERE channel = ? ORDER BY at, id LIMIT 1"
_WAITING: Final = "SELECT channel, count(*), min(at), max(tries) FROM alert_letters GROUP BY channel ORDER BY channel"
_AGAIN: Final = "UPDATE alert_letters SET due = ? WHERE id = ?"
_DONE: Final = "DELETE FROM alert_letters WHERE id = ?"


class SqlAlerts:
    """Behind `AlertStore`."""

    def __init__(self, place: State) -> None:
        self._place = place

    def __repr__(self) -> str:
        return f"<SqlAlerts {self._place!r}>"

    async def lead(self, node: str, now: float, seconds: float) -> Led | None:
        """The turn of a node that has died ends by itself."""
        return await self._place.write(partial(_lead, node=node, now=now, ends=now + seconds))

    async def resign(self, node: str) -> None:
        await self._place.write(partial(_run, statement=_RESIGN, values=(node,)))

    async def keep(self, node: str, board: Board, entries: Sequence[Entry], letters: Sequence[Letter], *, oldest: float) -> bool:
        """Whether this node still leads is asked in the same transaction."""
        job = partial(_keep, node=node, board=board, entries=entries, letters=letters, oldest=oldest)
        return await self._place.write(job)

    async def claim(self, channel: str, now: float, seconds: float) -> Letter | None:
        return await self._place.write(partial(_claim, channel=channel, now=now, due=now + seconds))

    async def due(self, channel: str) -> float | None:
        return await self._place.read(partial(_due, channel=channel))

    async def waiting(self) -> Sequence[Waiting]:
        return await self._place.read(_waiting)

    async def settle(self, letter: Letter, entry: Entry | None, *, due: float | None = None) -> None:
        await self._place.write(partial(_settle, letter=letter, entry=entry, due=due))

    async def silence(self, silence: Silence, entry: Entry) -> None:
        await self._place.write(partial(_silence, silence=silence, entry=entry))

    async def look(self) -> tuple[Board, Sequence[Silence]]:
        return await self._place.read(_look)

    async def note(self, entry: Entry) -> None:
        await self._place.write(partial(_note, entry=entry))

    async def history(self, *, limit: int, cursor: int | None) -> EntryPage:
        return await self._place.read(partial(_page, limit=limit, before=NEWEST if cursor is None else cursor))


def _run(database: Statements, *, statement: str, values: tuple[Any, ...]) -> None:
    database.execute(statement, values)


def _lead(database: Statements, *, node: str, now: float, ends: float) -> Led | None:
    if database.execute(_LEAD, (node, ends, now)).fetchone() is None:
        return None
    board, silences = _look(database)
    return Led(board, _in_force(silences, now))


def _in_force(silences: Sequence[Silence], now: float) -> Mapping[str, float]:
    return {one.rule: one.until for one in silences if one.until > now}


def _look(database: Statements) -> tuple[Board, Sequence[Silence]]:
    row = database.execute(_BOARD).fetchone()
    board = Board() if row is None else msgspec.json.decode(row[0], type=Board)
    return board, [Silence(*found) for found in database.execute(_SILENCES).fetchall()]


def _keep(
    database: Statements, *, node: str, board: Board, entries: Sequence[Entry], letters: Sequence[Letter], oldest: float
) -> bool:
    if database.execute(_LEADS, (node,)).fetchone() is None:
        return False
    database.execute(_KEEP_BOARD, (msgspec.json.encode(board),))
    for entry in entries:
        _note(database, entry)
    for letter in letters:
        database.execute(_SEND, (letter.id, letter.channel, letter.at, letter.at, msgspec.json.encode(letter.message)))
        dropped = database.execute(_CROWDED, (letter.channel, NEWEST, MOST_WAITING)).fetchall()
        for (lost,) in dropped:
            _note(database, Entry(at=letter.at, kind="dropped", channel=letter.channel, text=f"{lost}: too many wait"))
    database.execute(_SWEEP, (oldest, SWEPT))
    return True


def _claim(database: Statements, *, channel: str, now: float, due: float) -> Letter | None:
    row = database.execute(_CLAIM, (due, channel, now)).fetchone()
    if row is None:
        return None
    id_, channel, at, tries, message = row
    return Letter(id_, channel, at, tries, msgspec.json.decode(message, type=Message))


def _due(database: Statements, *, channel: str) -> float | None:
    row = database.execute(_DUE, (channel,)).fetchone()
    return None if row is None else float(row[0])


def _waiting(database: Statements) -> Sequence[Waiting]:
    found = database.execute(_WAITING).fetchall()
    return [Waiting(channel, int(letters), float(oldest), int(tries)) for channel, letters, oldest, tries in found]


def _settle(database: Statements, *, letter: Letter, entry: Entry | None, due: float | None) -> None:
    if due is None:
        database.execute(_DONE, (letter.id,))
    else:
        database.execute(_AGAIN, (due, letter.id))
    if entry is not None:
        _note(database, entry)


def _silence(database: Statements, *, silence: Silence, entry: Entry) -> None:
    database.execute(_SILENCE, (silence.rule, silence.until, silence.actor))
    database.execute(_END_SILENCES, (entry.at,))
    _note(database, entry)


def _note(database: Statements, entry: Entry) -> None:
    database.execute(_NOTE, (entry.at, entry.kind, entry.rule, entry.subject, entry.channel, entry.text))


def _page(database: Statements, *, limit: int, before: int) -> EntryPage:
    rows = database.execute(_HISTORY, (before, limit + 1)).fetchall()
    entries = [
        Entry(id=number, at=at, kind=kind, rule=rule, subject=subject, channel=channel, text=text)
        for number, at, kind, rule, subject, channel, text in rows[:limit]
    ]
    return EntryPage(entries, entries[-1].id if len(rows) > limit else None)
