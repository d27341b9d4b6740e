"""From the journal into SQL: all of it, once, whatever dies or goes away in between."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger.copier import PIECE, Copier, Habits, Reading, copy_left_behind
from sentinel_gateway.ledger.journal import LOCK, SUFFIX, segments
from tests.gateway import until
from tests.ledger.conftest import Place
from tests.ledger.dying import UNKNOWN
from tests.ledger.rows import SECOND, START, asked, handled, spent

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
COSTS = "SELECT count(*), sum(cost) FROM attempts"
ENDINGS = "SELECT ending, count(*) FROM attempts GROUP BY ending ORDER BY ending"
QUICK = Habits(0.0, first=0.01, every=0.02)


@pytest.fixture
def copying(place, heard):
    """copying(journal) copies into the database of the test, quickly; all are closed in the end."""
    made: list[Copier] = []

    def make(journal, habits=QUICK):
        made.append(Copier(journal, place.database, habits, clock=lambda: (START + 50 * SECOND) / SECOND, on_event=heard))
        return made[-1]

    yield make
    for one in made:
        assert one.close()


def die(where: Path | str, how: str) -> str:
    """Have a process do so, and die by SIGKILL; what it said."""
    command = [sys.executable, "-m", "tests.ledger.dying", str(where), how]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stdout


async def test_rows_are_copied_while_they_come_and_full_segments_go(journal, copying, place):
    one = journal(segment=1500, sync=0.0)
    copier = copying(one)
    for number in range(200):
        one.intend(asked(number))
        one.settle(spent(number))
        one.handled(handled(number))
        if number % 40 == 0:
            await asyncio.sleep(0.03)
    await until(lambda: copier.copied == 400)
    await until(lambda: len(segments(one.folder)) == 1)
    assert place.ask(COSTS) == [(200, 3400)]
    assert place.ask("SELECT count(*) FROM requests") == [(200,)]
    assert one.freed > 0


async def test_nothing_is_loaded_or_opened_before_there_is_a_row(journal, copying, tmp_path, place):
    copying(journal())
    await asyncio.sleep(0.3)
    if place.url is None:
        assert not (tmp_path / "ledger.db").exists()
    else:
        assert place.ask("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == [(0,)]


async def test_closed_it_has_copied_everything_and_nothing_is_left(journal, copying, place):
    one = journal()
    copier = copying(one)
    one.settle(spent(1))
    await until(lambda: copier.copied)
    one.settle(spent(2))
    one.handled(handled(2))
    await one.close()
    assert await asyncio.to_thread(copier.close)
    assert place.ask(COSTS) == [(2, 34)]
    assert place.ask("SELECT count(*) FROM requests") == [(1,)], "what was still being gathered is written at the end"
    assert segments(one.folder) == []


async def test_it_lets_the_event_loop_have_the_core_in_between_until_it_is_closed(journal, copying, place, monkeypatch):
    loaded, waits = threading.Event(), threading.Event()

    def breath(_):  # one that is not cut short is none that this waits for
        if not loaded.is_set():
            return 0.0
        waits.set()
        return 600.0

    monkeypatch.setattr("sentinel_gateway.ledger.copier.breath", breath)
    one = journal(sync=0.0)
    copier = copying(one)
    one.settle(spent(0))
    await until(lambda: copier.copied == 1)
    loaded.set()
    for number in range(1, 300):
        one.settle(spent(number))
    await until(waits.is_set)
    await asyncio.sleep(0.1)  # more than it takes who does not wait
    assert copier.copied == 1
    await one.close()
    assert await asyncio.to_thread(copier.close)
    assert place.ask(COSTS) == [(300, 300 * 17)]


async def test_what_is_copied_at_once_is_read_in_pieces(journal):
    one, breaths = journal(sync=0.0), []
    for number in range(3 * PIECE):
        one.settle(spent(number))
    (path,) = segments(one.folder)
    (rows,) = Reading(path).batches(lambda: breaths.append(1))
    assert (len(rows), len(breaths)) == (3 * PIECE, 3)


async def test_after_kill_9_a_call_without_an_outcome_is_an_orphan_and_all_else_as_it_was(tmp_path, place, heard):
    await asyncio.to_thread(die, tmp_path / "journal", "calls")
    (folder,) = (tmp_path / "journal").glob("[0-9a-f]*")
    assert len(segments(folder)) > 2, "all of it stands in one segment"
    database = place.database()
    copied = await asyncio.to_thread(copy_left_behind, tmp_path / "journal", database, heard)
    database.close()
    assert place.ask(ENDINGS) == [("answered", 8), ("orphan", 2)]
    unknown = place.ask("SELECT id, cost, basis, reserved FROM attempts WHERE ending = 'orphan' ORDER BY id")
    assert unknown == [(f"{number:032x}", 0, "unknown", 900) for number in UNKNOWN]
    assert list((tmp_path / "journal").iterdir()) == []
    assert heard.names == ["ledger_orphans"]
    assert copied >= 10


class Reluctant:
    """A database that takes so many batches, and then is away."""

    def __init__(self, inner, batches):
        self._inner = inner
        self.breathe = inner.breathe
        self.left = batches

    def copy(self, rows):
        if not self.left:
            raise StoreDown("away")
        self.left -= 1
        self._inner.copy(rows)


@pytest.mark.parametrize("batches", range(3))
async def test_wherever_the_copying_breaks_off_all_is_there_once_in_the_end(tmp_path, place, heard, batches):
    await asyncio.to_thread(die, tmp_path / "journal", "calls")
    database = place.database()
    reluctant = Reluctant(database, batches)
    with pytest.raises(StoreDown, match="away"):
        copy_left_behind(tmp_path / "journal", reluctant, heard)
    copy_left_behind(tmp_path / "journal", database, heard)
    database.close()
    assert place.ask(ENDINGS) == [("answered", 8), ("orphan", 2)]


async def test_a_torn_tail_is_told_and_costs_nothing_before_it(tmp_path, heard):
    await asyncio.to_thread(die, tmp_path / "journal", "calls")
    (folder,) = (tmp_path / "journal").glob("[0-9a-f]*")
    last = segments(folder)[-1]
    with last.open("ab") as file:
        file.write(last.read_bytes()[8:40])
    place = Place(tmp_path, None)
    database = place.database()
    copy_left_behind(tmp_path / "journal", database, heard)
    database.close()
    assert place.ask(ENDINGS) == [("answered", 8), ("orphan", 2)]
    assert "ledger_tail_torn" in heard.names
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_segment_that_something_changed_is_kept_aside(tmp_path, heard):
    await asyncio.to_thread(die, tmp_path / "journal", "calls")
    (folder,) = (tmp_path / "journal").glob("[0-9a-f]*")
    last = segments(folder)[-1]
    last.write_bytes(last.read_bytes() + b"\x10\0\0\0 this is no frame, and it is long enough")
    place = Place(tmp_path, None)
    database = place.database()
    copy_left_behind(tmp_path / "journal", database, heard)
    database.close()
    assert place.ask(ENDINGS) == [("answered", 8), ("orphan", 2)]
    assert "ledger_segment_damaged" in heard.names
    assert [path.suffix for path in folder.iterdir()] == [".damaged"]


async def test_while_the_database_is_away_segments_wait(journal, heard, postgres, tmp_path):
    place = Place(tmp_path, postgres.fresh())
    one = journal(segment=1500, sync=0.0)
    copier = Copier(one, place.database, Habits(0.0, eager=True, every=0.02), clock=lambda: 0.0, on_event=heard)
    one.settle(spent(1))
    await until(lambda: copier.copied == 1)
    await asyncio.to_thread(postgres.stop)
    try:
        for number in range(2, 60):
            one.settle(spent(number))
        await until(lambda: copier.fault)
        assert len(segments(one.folder)) > 2
    finally:
        await asyncio.to_thread(postgres.start)
    await until(lambda: copier.fault is None)
    await until(lambda: copier.copied >= 59)
    assert place.ask(COSTS) == [(59, 59 * 17)]
    told = [name for name in heard.names if name != "ledger_not_added_up"]  # that may have been what met it first
    assert told == ["ledger_database_down", "ledger_database_up"]
    assert await asyncio.to_thread(copier.close)


async def test_what_the_database_will_never_take_is_put_into_a_file(journal, copying, place, heard, tmp_path):
    one = journal()
    copier = copying(one)
    one.settle(spent(1))
    one.settle(spent(2, cost=2**63))
    one.settle(spent(3))
    await until(lambda: copier.copied == 3)
    assert place.ask(COSTS) == [(2, 34)]
    assert str(2**63) in (tmp_path / "journal" / "refused.jsonl").read_text()
    assert heard.names == ["ledger_rows_refused"]


async def test_what_the_data_folder_takes_not_is_a_fault_that_ends(journal, copying, place, heard, tmp_path):
    one = journal()
    refused = tmp_path / "journal" / "refused.jsonl"
    refused.mkdir()
    copier = copying(one)
    one.settle(spent(1, cost=2**63))
    await until(lambda: copier.fault)
    assert "refused.jsonl" in copier.fault
    refused.rmdir()
    one.settle(spent(2))
    await until(lambda: copier.fault is None)
    await until(lambda: place.ask(COSTS) == [(1, 17)])
    assert refused.read_text().count("\n") == 1


async def test_what_another_left_and_nobody_can_read_keeps_no_row_waiting(journal, copying, place, heard):
    one = journal(sync=0.0)
    left = one.folder.parent / "0bad"
    unreadable = left / f"00000001{SUFFIX}"
    unreadable.mkdir(parents=True)
    (left / LOCK).touch()
    copier = copying(one)
    for number in range(3):
        one.settle(spent(number))
        await until(lambda number=number: copier.copied == number + 1)
    assert "0bad" in copier.fault
    assert place.ask(COSTS)[0][0] == 3
    unreadable.rmdir()
    await until(lambda: copier.fault is None)


async def test_a_segment_that_goes_while_it_is_looked_at_holds_up_no_other(journal, copying, place, tmp_path):
    one = journal()
    (one.folder / "00000000.segment").symlink_to(tmp_path / "gone")
    copier = copying(one)
    one.settle(spent(1))
    await until(lambda: copier.copied == 1)
    assert copier.fault is None
    (one.folder / "00000000.segment").unlink()


async def test_a_database_that_can_not_add_up_the_past_takes_rows_all_the_same(journal, heard, tmp_path):
    one, inner = journal(), Place(tmp_path, None).database()

    def past(_):
        asked_for.append(1)
        raise StoreDown("canceling statement due to statement timeout")

    asked_for, inner.past = [], past
    copier = Copier(one, lambda: inner, QUICK, clock=lambda: START / SECOND, on_event=heard)
    copier.past()
    await until(lambda: asked_for)
    for number in range(3):
        one.settle(spent(number))
        await until(lambda: copier.copied == number + 1)  # noqa: B023 - awaited here
    assert (copier.fault, asked_for, heard.names) == (None, [1], ["ledger_past_unknown"])
    assert await asyncio.to_thread(copier.close)


async def test_old_rows_go_by_themselves(journal, copying, place):
    one = journal()
    one.settle(spent(1, at=START - 3 * 86_400 * SECOND))
    one.settle(spent(2))
    database = place.database()
    database.copy([spent(1, at=START - 3 * 86_400 * SECOND)])
    database.close()
    copying(one, Habits(2.0, first=0.01, every=0.02))
    await until(lambda: place.ask("SELECT sum(count) FROM days") == [(1,)])


async def test_who_reads_meanwhile_sees_whole_batches_and_holds_nobody_up(journal, copying, place):
    one, seen, stop = journal(sync=0.0), [], threading.Event()
    copier = copying(one)

    def look():
        database = place.database()
        while not stop.is_set():
            with database.reading() as connection:
                seen.append(connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar())
        database.close()

    one.settle(spent(0))
    await until(lambda: copier.copied)
    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 1500):
        one.settle(spent(number))
        if number % 300 == 0:
            await until(lambda number=number: number + 1 in seen)
    try:
        await until(lambda: copier.copied == 1500)
    finally:
        stop.set()
        for reader in readers:
            await asyncio.to_thread(reader.join)
    assert copier.fault is None
    assert len(set(seen)) > 2, "they have looked before or after it all"
    assert place.ask(COSTS) == [(1500, 1500 * 17)]


async def test_killed_in_the_midst_of_its_steps_a_database_is_as_it_was(place, tmp_path):
    where = place.url or str(tmp_path)
    assert "dying" in await asyncio.to_thread(die, where, "steps")
    kind = "sqlite_schema WHERE type = 'table'" if place.url is None else "pg_tables WHERE schemaname = 'public'"
    assert place.ask(f"SELECT count(*) FROM {kind}") == [(0,)]
    database = place.database()
    database.copy([spent(1)])
    database.close()
    assert place.ask(COSTS) == [(1, 17)]
