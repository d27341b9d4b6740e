"""What experiments came to, by their rows: told the same by both databases, and by adding up oneself."""

import random
import sqlite3

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.experiments import Sums, Tally
from sentinel_gateway.core.windows import MICROS, bucket_of
from sentinel_gateway.ledger import frames, trials
from sentinel_gateway.ledger.books import make_history
from sentinel_gateway.ports.ledger import Enrolled, Tried
from tests.ledger.rows import SECOND, START, handled, spent

pytestmark = pytest.mark.anyio

FIRST = START // MICROS
LAST = FIRST + 1000


def enrolled(number: int, **fields) -> Enrolled:
    row = Enrolled(f"{number:032x}", START + number * SECOND, "cheaper", "small", 7, 200, "exact", 0, 17, 1200, 0)
    return replace(row, **fields)


@pytest.fixture
def rows() -> list[Enrolled]:
    chance = random.Random(5)
    found = []
    for number in range(600):
        hit = chance.random() < 0.4
        found.append(
            enrolled(
                number,
                arm=chance.choice(["usual", "small"]),
                unit=chance.choice([3, 2**63 - 1, 99, 1000]),
                outcome=chance.choice(["exact", "semantic"]) if hit else chance.choice(["miss", "bypass"]),
                status=chance.choice([200, 200, 200, 400, 499, 502]),
                cost=0 if hit else chance.randrange(2**40),
                saved=chance.randrange(2**40) if hit else 0,
                duration=chance.randrange(1, 400_000_000),
                first_byte=chance.choice([0, chance.randrange(1, 10_000_000)]),
            )
        )
    return found


def added_up(rows: list[Enrolled], arm: str) -> Tally:
    """By hand."""
    own = [row for row in rows if row.arm == arm]
    units = [[row for row in own if row.unit == unit] for unit in {row.unit for row in own}]

    def sums(figure) -> Sums:
        each = [(float(sum(map(figure, unit))), len(unit)) for unit in units]
        return Sums(sum(a for a, _ in each), sum(a * a for a, _ in each), sum(a * n for a, n in each))

    def counts(values) -> dict:
        found: dict = {}
        for value in values:
            found[value] = found.get(value, 0) + 1
        return found

    return Tally(
        arm=arm,
        units=len(units),
        requests=len(own),
        size=float(sum(len(unit) ** 2 for unit in units)),
        outcomes=counts(row.outcome for row in own),
        hits=sums(lambda row: row.outcome in {"exact", "semantic"}),
        errors=sums(lambda row: row.status in {400, 502}),
        cost=sums(lambda row: row.cost),
        latency=sums(lambda row: row.duration),
        saved=sum(row.saved for row in own),
        latencies=counts(bucket_of(row.duration) for row in own),
        first_tokens=counts(bucket_of(row.first_byte) for row in own if row.first_byte),
    )


def same(one: Tally, other: Tally) -> None:
    for name in Tally.__struct_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, Sums):
            assert (a.total, a.squares, a.products) == pytest.approx((b.total, b.squares, b.products), rel=1e-9), name
        else:
            assert a == b, name


async def test_arms_come_to_what_their_rows_do(place, database, rows):
    beside = [enrolled(1000, at=START - 1), enrolled(1001, at=LAST * MICROS), enrolled(1002, experiment="other")]
    database.copy([handled(0), *rows, *beside])
    database.copy(rows[:50])  # again, as after a crash
    history = make_history(place.folder, place.url, lambda: LAST)
    try:
        found = await history.tallies("cheaper", FIRST, LAST)
        assert [one.arm for one in found] == ["small", "usual"]
        for one in found:
            same(one, added_up(rows, one.arm))
        tried = await history.tried(FIRST, LAST + 500)
        assert tried == [Tried("cheaper", 601, FIRST, LAST), Tried("other", 1, FIRST + 1002, FIRST + 1002)]
        assert await history.tallies("nothing", FIRST, LAST) == []
    finally:
        await history.close()


def test_retention_takes_them_and_nothing_else_with_them(place, database, rows):
    database.copy([*rows, handled(599), spent(599)])
    taken = 0
    while some := database.prune(START + 500 * SECOND):
        taken += some
    assert taken == 500
    assert place.ask("SELECT min(at), count(*) FROM trials") == [(START + 500 * SECOND, 100)]
    assert place.ask("SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM attempts)") == [(1, 1)]


def test_a_row_comes_through_the_journal_as_it_was():
    rows = [enrolled(1), handled(1)]
    assert frames.read(bytes(frames.framed(rows)), frames.ALL).rows == rows


def test_a_database_that_nobody_has_brought_up_to_date_tells_of_none(place, database):
    database.copy([handled(1)])
    database.close()
    if place.url is None:
        connection = sqlite3.connect(place.folder / "ledger.db")
        connection.execute("DROP TABLE trials")
        connection.close()
        with place.database().reading() as reading:
            assert trials.tallies(reading, "cheaper", FIRST, LAST) == []
            assert trials.tried(reading, FIRST, LAST) == []


def test_rows_of_other_experiments_are_not_walked(place, database, rows):
    """An experiment is looked at from its first request on, among all the rows of others."""
    database.copy(rows[:1])
    index = [("trials_of_experiment",)]
    if place.url is not None:
        assert place.ask("SELECT indexname FROM pg_indexes WHERE tablename = 'trials' AND indexname LIKE '%experiment'") == index
        return
    with place.database().reading() as reading:
        asked = "EXPLAIN QUERY PLAN SELECT count(*) FROM trials WHERE experiment = 'cheaper' AND at >= 0 AND at < 9"
        [(*_, plan)] = reading.exec_driver_sql(asked).all()
    assert plan.startswith("SEARCH trials USING")
    assert "trials_of_experiment (experiment=?" in plan
