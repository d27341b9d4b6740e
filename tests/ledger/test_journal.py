"""The journal: on the disk when it says so, in order, in whole frames, and what a disk that takes nothing costs."""

import asyncio
import os
import resource
import threading
from contextlib import contextmanager

import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.ledger.copier import Reading
from sentinel_gateway.ledger.frames import ALL
from sentinel_gateway.ledger.journal import Journal, JournalLimits, adopted, segments
from sentinel_gateway.ports.ledger import Intent
from tests.gateway import until
from tests.ledger.rows import asked, handled, spent
from tests.still import undisturbed

pytestmark = pytest.mark.anyio
QUICK = {"sync": 0.0}


@contextmanager
def files_of_at_most(size):
    """From here on no file of this process can grow beyond `size`: a write is cut short there, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def rows_of(path):
    reading = Reading(path)
    rows = [row for some in reading.rows(ALL) for row in some]
    assert (reading.rest, reading.damaged) == (0, False)
    return rows


def all_rows(journal):
    return [row for path in segments(journal.folder) for row in rows_of(path)]


async def test_an_intent_is_in_the_file_when_its_call_returns(journal):
    one = journal(**QUICK)
    one.intend(asked(1))
    assert all_rows(one) == [asked(1)]
    one.settle(spent(1))
    assert all_rows(one) == [asked(1), spent(1)]


async def test_requests_are_gathered_for_a_moment_and_written_together(journal):
    one = journal(**QUICK)
    for number in range(10):
        one.handled(handled(number))
    assert all_rows(one) == []
    await until(lambda: all_rows(one))
    assert all_rows(one) == [handled(number) for number in range(10)]


async def test_what_was_gathered_goes_before_what_must_be_written_at_once(journal):
    one = journal(**QUICK)
    one.handled(handled(1))
    one.intend(asked(2))
    assert all_rows(one) == [handled(1), asked(2)]


async def test_very_many_requests_do_not_wait_for_the_moment(journal):
    one = journal(**QUICK)
    for number in range(600):
        one.handled(handled(number))
    assert len(all_rows(one)) >= 512


async def test_a_new_segment_carries_the_calls_that_are_under_way_and_no_others(journal):
    one = journal(segment=2000, **QUICK)
    one.intend(asked(1))
    one.intend(asked(2))
    one.settle(spent(1))
    number = 10
    while len(segments(one.folder)) < 3:
        one.intend(asked(number))
        one.settle(spent(number))
        number += 1
    last = rows_of(segments(one.folder)[-1])
    assert [row for row in last if isinstance(row, Intent) and row.request in {asked(1).request, asked(2).request}] == [asked(2)]
    assert one.current == int(segments(one.folder)[-1].stem)


async def test_a_segment_that_just_begins_is_never_taken_for_a_complete_one(journal):
    one, stop, found = journal(segment=100, **QUICK), threading.Event(), []

    def copy():
        while not stop.is_set():
            for path in segments(one.folder):
                if int(path.stem) < one.current:
                    found.extend(rows_of(path))
                    path.unlink()

    copier = threading.Thread(target=copy)
    copier.start()
    number = 0
    while number < 3000 or (len(found) <= 100 and number < 300_000):
        number += 1
        one.settle(spent(number))
    stop.set()
    await asyncio.to_thread(copier.join)
    assert len(found) > 100, "there was no copying meanwhile"
    assert [*found, *all_rows(one)] == [spent(count) for count in range(1, number + 1)]


async def test_a_write_that_is_cut_short_leaves_no_half_frame_and_loses_no_row(journal, heard):
    one = journal(**QUICK)
    numbers = range(1, 60)
    with files_of_at_most(2000):
        for number in numbers:
            one.settle(spent(number))
        assert one.fault
        sizes = [path.stat().st_size for path in segments(one.folder)]
        assert max(sizes) > 1500, "nothing was cut"
        assert heard.names == ["ledger_journal_refused"]
    await until(lambda: one.fault is None)
    assert all_rows(one) == [spent(number) for number in numbers]
    assert heard.names[-1] == "ledger_journal_recovered"
    assert one.lost == 0


async def test_beyond_what_memory_holds_it_is_full_and_says_so_and_counts_what_it_loses(journal):
    one, told = journal(spill=2000, **QUICK), []
    one.when_full = told.append
    with files_of_at_most(100):
        number = 0
        while not one.is_full:
            number += 1
            one.settle(spent(number))
        assert told == [True]
        for more in range(number + 1, number + 40):
            one.settle(spent(more))
        lost = one.lost
        assert 20 < lost < 39, "a little room is left for what was under way"
    await until(lambda: not one.is_full)
    await until(lambda: one.fault is None)
    assert told == [True, False]
    assert len(all_rows(one)) + lost == number + 39


async def test_a_journal_that_nobody_copies_takes_no_more_of_the_disk_than_it_may(journal):
    one = journal(segment=1000, most=5000, **QUICK)
    number = 0
    while one.fault is None:
        number += 1
        one.settle(spent(number))
    assert sum(path.stat().st_size for path in segments(one.folder)) <= 5500
    first = segments(one.folder)[0]
    one.freed += first.stat().st_size
    first.unlink()
    await until(lambda: one.fault is None)


@undisturbed
async def test_rows_are_put_on_the_disk_once_for_all_that_came_meanwhile(journal):
    one = journal(sync=0.1)
    for number in range(20):
        one.intend(asked(number))
    assert one.syncs == 0
    await until(lambda: one.syncs)
    await asyncio.sleep(0.3)
    assert one.syncs == 1, "there was nothing more to put there"
    one.intend(asked(99))
    await until(lambda: one.syncs == 2)


async def test_nobody_adopts_what_a_living_process_writes(tmp_path, heard):
    one = Journal(tmp_path / "journal", limits=JournalLimits(**QUICK), on_event=heard)
    one.intend(asked(1))
    assert list(adopted(tmp_path / "journal")) == []
    await one.close()
    assert list(adopted(tmp_path / "journal")) == []
    one.release()
    ((folder, lock),) = adopted(tmp_path / "journal")
    os.close(lock)
    assert folder == one.folder
    assert all_rows(one) == [asked(1)]


async def test_closed_without_a_row_it_leaves_nothing(tmp_path, heard):
    one = Journal(tmp_path / "journal", limits=JournalLimits(), on_event=heard)
    await one.close()
    one.release()
    assert list((tmp_path / "journal").iterdir()) == []


async def test_closed_while_the_disk_takes_nothing_it_says_what_is_lost(tmp_path, heard):
    one = Journal(tmp_path / "journal", limits=JournalLimits(**QUICK), on_event=heard)
    with files_of_at_most(0):
        one.intend(asked(1))
        await one.close()
    one.release()
    assert heard.names == ["ledger_journal_refused", "ledger_rows_lost"]


async def test_where_no_journal_can_be_kept_it_says_so_at_the_start(tmp_path, heard):
    (tmp_path / "journal").write_text("")
    with pytest.raises(ConfigurationError, match="writable"):
        Journal(tmp_path / "journal", limits=JournalLimits(), on_event=heard)


async def test_its_files_are_nobody_elses(journal):
    one = journal(**QUICK)
    one.intend(asked(1))
    for path in (one.folder, *one.folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
