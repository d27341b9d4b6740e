"""The database, on SQLite and on PostgreSQL: rows once however often they are copied, sums that stay when rows go, one writer."""

import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from msgspec.structs import astuple

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger import sql
from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.migrations import HEAD
from sentinel_gateway.ledger.tables import DAY, METADATA, attempts
from sentinel_gateway.ports.ledger import Enrolled, Handled
from tests.ledger.rows import SECOND, START, asked, handled, spent

COSTS = "SELECT count(*), sum(cost), sum(prompt_tokens), sum(reserved) FROM attempts"
SAVED = "SELECT count(*), sum(saved) FROM requests"
REQUEST = Handled(
    *("1" * 32, START, "acme", "key_1", "/v1/messages", 201, "semantic", "vector", "small", "mock", "mock-small", 2, True),
    *(3, 4, 5, 0.75, 6, 7, 8, "broken", "mine"),
)
TRIAL = Enrolled("2" * 32, START, "cheaper", "small", 9, 202, "miss", 10, 11, 12, 13)


def test_rows_are_there_as_they_were_given(place, database):
    database.copy([spent(1, cost=2**62), handled(1)])
    who = ("acme", "key_1", "/v1/chat/completions", "small", "mock", "mock-small")
    took = (12, 2, 3, 5, 1, 2**62, "2026-11-22", "price", 900, 1200, 0)
    kept = place.ask("SELECT * FROM attempts")
    assert kept == [(START + SECOND, f"{1:032x}", 1, *who, False, "answered", "", *took)]
    assert place.ask("SELECT id, tenant, outcome, saved, status FROM requests") == [(f"{1:032x}", "acme", "exact", 17, 200)]


@pytest.mark.parametrize(("row", "table"), [(REQUEST, "requests"), (TRIAL, "trials")])
def test_each_member_of_a_row_is_in_the_column_of_its_name(place, database, row, table):
    database.copy([row])
    assert place.ask(f"SELECT {', '.join(row.__struct_fields__)} FROM {table}") == [astuple(row)]


@pytest.mark.parametrize("count", [1, 3, 4, 31, 32, 33, 500])
def test_however_often_rows_are_copied_they_are_there_once(place, database, count):
    rows = [row for number in range(count) for row in (spent(number, cost=number), handled(number))]
    database.copy(rows)
    database.copy(rows[: count // 2])
    database.copy(rows)
    assert place.ask(COSTS) == [(count, sum(range(count)), 12 * count, 900 * count)]
    assert place.ask(SAVED) == [(count, 17 * count)]


def test_whoever_copies_many_beside_others_lets_them_have_the_core_in_between(database):
    breaths = []
    database.breathe = lambda: breaths.append(1)
    database.copy([handled(number) for number in range(10 * sql.SIZES[0] + 5)])
    assert len(breaths) == 12


def test_several_attempts_of_one_request_are_several_rows(place, database):
    database.copy([spent(1, attempt=1, at=START), spent(1, attempt=2, at=START)])
    assert place.ask(COSTS)[0][:2] == (2, 34)


def test_all_rows_or_none(place, database):
    database.copy([spent(1)])
    with pytest.raises(StoreDown):
        database.copy([spent(2), spent(3, cost=2**63)])
    assert place.ask(COSTS)[0][0] == 1


def test_what_no_database_holds_is_refused_and_holds_up_nobody(place, database):
    refused = database.copy_each([spent(1), spent(2, cost=2**63), spent(3)])
    assert refused == [spent(2, cost=2**63)]
    assert place.ask(COSTS)[0][0] == 2


def test_retention_takes_what_is_old_in_small_batches_and_keeps_the_sums(place, database):
    rows = [spent(number, cost=number) for number in range(1200)] + [handled(number) for number in range(700)]
    late = START + 40 * DAY
    database.copy([*rows, spent(9999, cost=5, at=late), handled(9999, at=late)])
    taken = []
    while took := database.prune(START + 30 * DAY):
        taken.append(took)
    assert sum(taken) == 1900
    assert max(taken) <= 500
    assert (place.ask(COSTS)[0][:2], place.ask(SAVED)[0]) == ((1, 5), (1, 17))
    kept = place.ask("SELECT kind, sum(count), sum(prompt_tokens), sum(cost), sum(saved) FROM days GROUP BY kind ORDER BY kind")
    assert [tuple(map(int, row[1:])) for row in kept] == [(1200, 14400, sum(range(1200)), 0), (700, 0, 0, 11900)]
    assert {row[0] for row in place.ask("SELECT day FROM days")} == {START - START % DAY}
    assert database.prune(START + 30 * DAY) == 0


def test_rows_of_several_days_are_added_up_by_day(place, database):
    database.copy([spent(day * 10 + n, at=START + day * DAY + n) for day in range(3) for n in range(4)])
    while database.prune(START + 10 * DAY):
        pass
    assert [(int(count), int(cost)) for count, cost in place.ask("SELECT count, cost FROM days ORDER BY day")] == [(4, 68)] * 3


def test_however_many_nodes_take_old_rows_at_once_each_row_is_counted_once(place, database):
    database.copy([spent(number, cost=1) for number in range(4000)])
    nodes, together = [place.database() for _ in range(3)], threading.Barrier(4)
    for one in (database, *nodes):
        one._patience = 120.0  # noqa: SLF001 - each takes its turn here; who has waited too long is asked elsewhere

    def prune(node):
        together.wait()
        while node.prune(START + 30 * DAY):
            pass

    pruning = [threading.Thread(target=prune, args=(node,)) for node in nodes]
    for one in pruning:
        one.start()
    together.wait()
    for number in range(4000, 4200):  # of a node that was without its database: as old as those that go
        database.copy([spent(number, cost=1, at=START + number)])
    for one in pruning:
        one.join()
    while database.prune(START + 30 * DAY):
        pass
    for node in nodes:
        node.close()
    assert [tuple(map(int, row)) for row in place.ask("SELECT sum(count), sum(cost) FROM days")] == [(4200, 4200)]
    assert place.ask(COSTS)[0][0] == 0


def test_who_reads_keeps_nobody_from_writing(place, database):
    """An export into a pager that nobody scrolls would else hold up the ledger of the gateway beside it."""
    database.copy([spent(1), spent(2)])
    with database.reading() as connection:
        found = connection.execution_options(yield_per=1).execute(sa.select(attempts.c.id).order_by(attempts.c.at))
        assert next(found)
        other = place.database()
        other.copy([spent(3)])
        other.close()
        assert len(found.all()) == 1
    assert len(place.ask("SELECT id FROM attempts")) == 3


@pytest.mark.parametrize("read_only", [False, True])
def test_what_several_questions_see_is_of_one_moment(place, database, read_only):
    """What retention takes between two of them would else be told twice, or not at all."""
    database.copy([spent(1), spent(2)])
    reader = make_database(place.folder, place.url, read_only=read_only)
    counts = [sa.text(f"SELECT count(*) FROM {table}") for table in ("attempts", "days")]
    with reader.reading() as connection:
        seen = [connection.scalar(counts[0])]
        assert database.prune(START + 30 * DAY) == 2
        seen += [connection.scalar(count) for count in counts]
    with reader.reading() as connection:
        seen += [connection.scalar(count) for count in counts]
    reader.close()
    assert seen == [2, 2, 0, 0, 1]


@pytest.mark.parametrize("name", ["a b", "a?mode=memory", "a#b", "100%41", "ümläut", "a&b=c"])
def test_a_data_folder_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    database = make_database(folder, None)
    database.copy([spent(1)])
    database.close()
    assert (folder / "ledger.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    reader = make_database(folder, None, read_only=True)
    with reader.reading() as connection:
        assert len(connection.execute(sa.select(attempts)).all()) == 1
    reader.close()


def test_what_the_steps_make_is_what_the_code_reads(place, database):
    database.open()
    with database.reading() as connection:
        found = sa.inspect(connection)
        for table in METADATA.sorted_tables:
            assert [column["name"] for column in found.get_columns(table.name)] == list(table.columns.keys())
            assert found.get_pk_constraint(table.name)["constrained_columns"] == list(table.primary_key.columns.keys())
    assert place.ask("SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_several_are_made_at_once(tmp_path):
    """By threads of one process, as each gateway in it has its own: Alembic has one connection in mind, whoever asks."""
    together = threading.Barrier(4)

    def make(number):
        database = sql.Database(f"sqlite:///{tmp_path / str(number)}.db", lock=tmp_path / f"{number}.lock")
        together.wait()
        database.open()
        database.close()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(make, range(4))) == [None] * 4


def test_opened_again_nothing_is_done(place, database):
    database.copy([spent(1)])
    again = place.database()
    again.open()
    again.close()
    assert place.ask(COSTS)[0][0] == 1


def test_a_database_of_a_newer_sentinel_is_refused_and_left_alone(place, database):
    database.open()
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StoreDown, match="newer Sentinel"):
        place.database().open()
    assert place.ask("SELECT version_num FROM alembic_version") == [("9999",)]


def test_while_another_process_writes_to_the_file_it_waits_and_then_says_so(tmp_path):
    database = sql.Database(f"sqlite:///{tmp_path / 'ledger.db'}", lock=tmp_path / "ledger.lock", patience=0.1)
    database.copy([spent(1)])
    other = os.open(tmp_path / "ledger.lock", os.O_RDWR)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreDown, match="another process"):
            database.copy([spent(2)])
    finally:
        os.close(other)
    database.copy([spent(2)])
    database.close()


def test_no_fault_tells_the_password(tmp_path):
    database = sql.Database("postgresql://sentinel:hunter2@127.0.0.1:1/none")
    with pytest.raises(StoreDown) as failed:
        database.open()
    assert "hunter2" not in str(failed.value)
    assert "hunter2" not in repr(database)


def test_the_file_is_nobody_elses(tmp_path):
    database = sql.Database(f"sqlite:///{tmp_path / 'ledger.db'}", lock=tmp_path / "ledger.lock")
    database.open()
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0
    database.close()


def test_a_row_without_an_outcome_is_no_row_of_the_database():
    assert type(asked(1)) not in sql.VALUES
