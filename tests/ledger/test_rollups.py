"""What hours and days that are over came to is at any time what their rows come to, however rows come and go meanwhile."""

import asyncio
import random
import threading
import time
from contextlib import contextmanager
from typing import get_args

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger import rollups
from sentinel_gateway.ledger.books import make_database, make_history
from sentinel_gateway.ledger.closing import Closer
from sentinel_gateway.ledger.copier import Copier, Habits
from sentinel_gateway.ledger.tables import DAY as DAY_MICROS
from sentinel_gateway.ledger.tables import VALUES
from sentinel_gateway.ports.ledger import By, Settled
from tests.gateway import until
from tests.ledger.conftest import Place
from tests.ledger.rows import START, handled, spent

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600, 86_400
FIRST = START // DAY_MICROS * DAY_MICROS // MICROS
NOW = FIRST + 2 * DAY + 5 * HOUR
"""Two days and five hours later: the last hour is over for longer than it takes to be closed."""
LAST = FIRST + 3 * DAY
OUTCOMES = ("exact", "semantic", "miss", "bypass", "none")
KEYS = {"acme": ("key_1", "key_2"), "other": ("key_3",)}


def rows_between(chance: random.Random, since: int, until: int, count: int, *, first: int = 0):
    """Requests and the calls for those that were no hits, drawn by chance."""
    found = []
    for number in range(first, first + count):
        at = chance.randrange(since * MICROS, until * MICROS)
        tenant = chance.choice(list(KEYS))
        who = {"tenant": tenant, "key": chance.choice(KEYS[tenant]), "model": chance.choice(["small", "large"])}
        outcome, failed = chance.choice(OUTCOMES), chance.random() < 0.1
        hit = outcome in {"exact", "semantic"} and not failed
        told = {"outcome": outcome, "status": 502 if failed else 200, "saved": number if hit else 0, "prompt_tokens": 7}
        found.append(replace(handled(number, at=at), **who, **told))
        if not hit:
            call = spent(number, at=at + 5, cost=chance.randrange(10**9))
            ending = chance.choice(["answered", "broken", "left"])
            found.append(replace(call, intent=replace(call.intent, **who), ending=ending, duration=chance.randrange(10**7)))
    return found


def moment(row) -> int:
    return row.intent.started if hasattr(row, "intent") else row.at


async def seen(place, *, since: int = FIRST, kept_since: int = FIRST) -> dict:
    """All that is told of the past; hours and less from `kept_since` on, as retention takes them elsewhere."""
    past = make_history(place.folder, place.url, lambda: NOW)
    found: dict = {}
    for seconds in (900, HOUR, DAY):
        begin = since if seconds == DAY else kept_since
        found["stretches", seconds] = [
            one for one in await past.stretches(begin, LAST, seconds=seconds) if one.total or one.spent
        ]
    for seconds in (300, HOUR):
        windows = await past.windows(kept_since, LAST, seconds=seconds)
        found["windows", seconds] = sorted(windows, key=lambda one: (one.start, one.series))
    found["days"] = sorted(
        (one.start, one.series, one.requests, one.cost, one.prompt_tokens, one.completion_tokens, sorted(one.endings.items()))
        for one in await past.windows(since, LAST, seconds=DAY)
    )
    for by in get_args(By):
        for tenant in (None, "acme"):
            shares = await past.shares(since, LAST, by=by, tenant=tenant)
            found["shares", by, tenant] = sorted(shares, key=lambda one: (one.day, one.name))
    await past.close()
    reader = make_database(place.folder, place.url, read_only=True)
    for before in (FIRST + 13 * HOUR, FIRST + DAY + 11 * HOUR, FIRST + 2 * DAY, NOW - HOUR, LAST):
        if before >= kept_since:  # of a day that retention has begun with, what it took is told as a whole
            found["past", before] = reader.past(before * MICROS)
    reader.close()
    return found


def closed(place) -> int:
    return place.ask("SELECT count(*) FROM rollups WHERE items IS NOT NULL")[0][0]


def close_all(database, *, now: int = NOW) -> None:
    closer = Closer(database, lambda: now)
    while closer.work(0.0):
        pass


def change(database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text(statement))


def after(calls: int):
    """What says no so many times, and then yes."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


@pytest.fixture
def plain(tmp_path):
    """A ledger in which nothing is ever closed or taken."""
    place = Place(tmp_path / "plain", None)
    database = place.database()
    yield place, database
    database.close()


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_comes_late_and_goes_early_sums_are_those_of_the_rows(place, database, plain, seed):
    chance = random.Random(seed)
    kept_since, number = FIRST, 0
    closer, most = Closer(database, lambda: NOW), 0
    for step in range(4):
        new = rows_between(chance, kept_since, NOW, chance.randrange(1, 4) if step else 80, first=number)
        database.copy(new)
        database.copy(new[:5])  # once more: they are there
        plain[1].copy(new)
        number += 1000
        for _ in range(chance.randrange(160)):
            closer.work(0.0)
        most = max(most, closed(place))
        if chance.random() < 0.5 and kept_since < FIRST + DAY:
            kept_since += chance.choice([7 * HOUR, DAY])
            while database.prune(kept_since * MICROS):
                pass
        assert await seen(place, kept_since=kept_since) == await seen(plain[0], kept_since=kept_since)
        if chance.random() < 0.7:
            closer = Closer(database, lambda: NOW)  # it looks again
    assert most > 50


async def test_what_is_closed_is_told_without_its_rows(place, database):
    """Otherwise a page would take seconds where a million rows are."""
    database.copy(rows_between(random.Random(5), FIRST, FIRST + 2 * DAY, 80))
    close_all(database)
    told = await seen(place)
    change(database, "DELETE FROM attempts")
    change(database, "DELETE FROM requests")
    database.copy([replace(handled(1, at=(LAST + DAY) * MICROS), outcome="none")])  # so that there is a past at all
    change(database, f"UPDATE requests SET at = {FIRST * MICROS}")
    for what, found in (await seen(place)).items():
        assert found == told[what], what
    assert any(told.values())


@pytest.mark.parametrize("before", [FIRST + 12 * HOUR + 1800, FIRST + DAY, FIRST + DAY + 1, NOW - 1])
async def test_what_a_process_counts_itself_is_not_of_its_past_however_late_it_asks(place, database, plain, before):
    """It began in the midst of a day that is closed by the time that somebody looks at the first page."""
    rows = rows_between(random.Random(9), FIRST, NOW, 300)
    database.copy(rows)
    plain[1].copy([row for row in rows if moment(row) < before * MICROS])
    close_all(database)
    told, expected = database.past(before * MICROS), plain[1].past(LAST * MICROS)
    assert told == expected
    assert sum(told.outcomes.values()) > 10


async def test_no_day_is_told_in_part(database):
    database.open()
    for span in (rollups.Span(FIRST + HOUR, FIRST + DAY, DAY), rollups.Span(FIRST, FIRST + HOUR, DAY)):
        with database.reading() as connection, pytest.raises(ValueError, match="cuts a day"):
            rollups.told(connection, rollups.TALLIES, span)


async def test_rows_that_come_while_a_stretch_is_being_closed_undo_that(place, database):
    database.copy(rows_between(random.Random(6), FIRST, FIRST + DAY, 20))
    level = rollups.LEVELS[0]
    with database.writing() as connection:
        begun = rollups.begin(connection, level, FIRST, NOW)
    assert begun is not None
    with database.writing() as connection:
        assert rollups.begin(connection, level, FIRST, NOW + 1) is None, "somebody is about it"
    database.copy([spent(5000, at=FIRST * MICROS + 1)])
    with database.writing() as connection:
        assert not rollups.close(connection, level, FIRST, begun, [])
    assert closed(place) == 0


async def test_rows_of_another_hour_undo_nothing(place, database):
    database.copy([spent(1, at=FIRST * MICROS)])
    close_all(database)
    before = closed(place)
    database.copy([spent(2, at=NOW * MICROS)])
    assert closed(place) == before
    database.copy([spent(3, at=FIRST * MICROS + 7)])
    assert closed(place) == before - len(rollups.LEVELS), "its hour, and its day"


async def test_retention_takes_hours_and_leaves_days(place, database):
    rows = rows_between(random.Random(7), FIRST, FIRST + DAY, 50)
    database.copy(rows)
    close_all(database)
    before = (await seen(place))["days"]
    while database.prune((FIRST + DAY) * MICROS):
        pass
    kinds = {kind for start, kind in place.ask("SELECT start, kind FROM rollups") if start == FIRST * MICROS}
    assert kinds == {level.kind for level in rollups.LEVELS if level.length == DAY}
    assert (await seen(place))["days"] == before


async def test_hours_that_retention_has_taken_are_not_closed_again(place, database):
    """It would take them again each minute, as long as they are younger than what is kept."""
    database.copy(rows_between(random.Random(8), FIRST, NOW - 2 * HOUR, 80))
    while database.prune((FIRST + DAY + HOUR) * MICROS):
        pass
    close_all(database)
    starts = place.ask("SELECT start, kind FROM rollups")
    first = {length: min(start for start, kind in starts if kind.endswith(f" of {length}")) for length in (HOUR, DAY)}
    assert first[DAY] == FIRST * MICROS
    assert first[HOUR] >= (FIRST + DAY + HOUR) * MICROS


async def test_one_who_died_while_closing_holds_nobody_up(database):
    database.copy([spent(1, at=FIRST * MICROS)])
    level = rollups.LEVELS[0]
    with database.writing() as connection:
        assert rollups.begin(connection, level, FIRST, NOW) is not None
    with database.writing() as connection:
        assert rollups.begin(connection, level, FIRST, NOW + rollups.ABANDONED + 2) is not None


async def test_what_nobody_asks_for_any_more_goes(place, database):
    database.copy([spent(1, at=FIRST * MICROS)])
    close_all(database)
    assert closed(place) > 24
    close_all(database, now=NOW + 4 * DAY)
    starts = place.ask("SELECT start, kind FROM rollups")
    oldest = {length: min(start for start, kind in starts if kind.endswith(f" of {length}")) for length in (HOUR, DAY)}
    assert oldest[DAY] == FIRST * MICROS
    assert oldest[HOUR] > (FIRST + DAY) * MICROS


async def test_the_copier_closes_what_is_over(place, journal, heard):
    journal = journal()
    journal.settle(spent(1, at=(NOW - 2 * HOUR) * MICROS))
    habits = Habits(90, first=0.0, every=0.02)
    copier = Copier(journal, place.database, habits, clock=lambda: NOW, on_event=heard)
    await until(lambda: copier.copied == 1 and closed(place) >= 3)
    copier.close()
    assert heard.events == []


async def test_stopped_wherever_it_is_a_stretch_is_closed_as_a_whole_or_not_at_all(place, database, plain):
    rows = rows_between(random.Random(10), FIRST, FIRST + DAY, 60)
    database.copy(rows)
    plain[1].copy(rows)
    close_all(database)
    change(database, "DELETE FROM rollups WHERE kind LIKE '% of 86400'")
    hours = closed(place)
    for asked in range(2, 12):  # five times for each day
        Closer(database, lambda: NOW, after(asked)).work(60.0)
        change(database, "DELETE FROM rollups WHERE items IS NULL")  # as it is held to be abandoned later
    assert 2 < closed(place) - hours < 13
    assert await seen(place) == await seen(plain[0])


async def test_a_stop_while_rows_are_added_up_still_copies_what_is_left(place, journal, heard):
    """On a machine that goes with its disk, rows that are not copied by then are lost."""
    journal, inner, reading = journal(), place.database(), threading.Event()
    fast = inner.reading

    @contextmanager
    def slow():
        reading.set()
        time.sleep(1.5)  # seven of them are longer than a stop takes
        with fast() as connection:
            yield connection

    inner.reading = slow
    journal.settle(spent(1, at=FIRST * MICROS))
    copier = Copier(journal, lambda: inner, Habits(90, first=0.0, every=0.02), clock=lambda: NOW, on_event=heard)
    await until(reading.is_set)
    journal.settle(spent(2, at=NOW * MICROS))
    await journal.close()
    assert await asyncio.to_thread(copier.close)
    assert place.ask("SELECT count(*) FROM attempts") == [(2,)]


async def test_what_can_not_be_added_up_keeps_nothing_else_open(place, database):
    """A day that is too long for the database would else be tried first for ever."""
    database.copy(rows_between(random.Random(11), FIRST, FIRST + DAY, 20))
    fast, asked = database.reading, []

    @contextmanager
    def failing():
        asked.append(1)
        if len(asked) in {3, 5}:  # the first looks what is due
            raise StoreDown("canceling statement due to statement timeout")
        with fast() as connection:
            yield connection

    database.reading = failing
    closer, failed = Closer(database, lambda: NOW), 0
    while True:
        try:
            if not closer.work(60.0):
                break
        except StoreDown:
            failed += 1
    database.reading = fast
    assert failed == 2
    with database.reading() as connection:
        assert len(rollups.missing(connection, NOW)) == 2


@pytest.fixture
def nodes(postgres, tmp_path):
    """Several that write to one database, and where that is."""
    place = Place(tmp_path, postgres.fresh())
    made = [place.database() for _ in range(3)]
    yield place, *made
    for one in made:
        one.close()


@pytest.mark.parametrize("looked", [False, True], ids=["before it looks what is closed", "after it has looked"])
async def test_what_one_node_copies_while_another_closes_is_told(nodes, plain, looked):
    """Its transaction is held open there. Without the lock, the second would close the hour without a row that is there."""
    place, one, other, _ = nodes
    late = spent(2, at=FIRST * MICROS + 7)
    one.copy([spent(1, at=FIRST * MICROS)])
    plain[1].copy([spent(1, at=FIRST * MICROS), late])
    with one.writing() as connection:
        table, values = VALUES[Settled]
        connection.execute(sa.insert(table).values(values(late)))
        if looked:
            rollups.open_again(connection, [moment(late)])
        close_all(other)
        assert bool(closed(place)) != looked
        if not looked:
            rollups.open_again(connection, [moment(late)])
    assert await seen(place) == await seen(plain[0])
    close_all(other)
    assert await seen(place) == await seen(plain[0])


async def test_a_node_that_is_frozen_while_it_copies_holds_nobody_up(nodes):
    place, frozen, closing, copying = nodes
    copying.copy([spent(1, at=FIRST * MICROS)])
    with frozen.writing() as connection:
        rollups.open_again(connection, [NOW * MICROS])
        with closing.writing() as another:
            assert rollups.begin(another, rollups.LEVELS[0], FIRST, NOW) is None
            copying.copy([spent(2, at=FIRST * MICROS)])
    assert place.ask("SELECT count(*) FROM attempts") == [(2,)]


async def test_a_node_that_is_frozen_while_it_begins_is_given_up_by_the_database(nodes):
    _, frozen, _, _ = nodes
    frozen.open()
    limit = sa.text("SELECT current_setting('idle_in_transaction_session_timeout')")
    with frozen.writing() as connection:
        assert rollups.begin(connection, rollups.LEVELS[0], FIRST, NOW) is not None
        assert connection.scalar(limit) == rollups.FROZEN
    with frozen.reading() as connection:
        assert connection.scalar(limit) == "0", "who reads may take as long as he likes"
