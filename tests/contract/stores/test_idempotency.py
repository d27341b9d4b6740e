"""Every `IdempotencyStore` gives a key to one, keeps what came of it for a day, and no tenant's keys at another's expense."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from functools import partial

import msgspec
import pytest

from sentinel_gateway.core.idempotency import LIFETIME, Answered, Claim, Held, Quota, Refused, TooLong
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores.idempotency import SqliteIdempotency, open_file
from tests.contract.stores import idempotency_worker
from tests.contract.stores.idempotency_worker import NOW, claim_of, outcome_of

pytestmark = pytest.mark.anyio

SMALL = Quota(keys=3, bytes=1000)


def sqlite_in(folder, **options):
    return SqliteIdempotency(partial(open_file, folder), quota=SMALL, **options)


@pytest.fixture
async def store(tmp_path):
    made = sqlite_in(tmp_path)
    yield made
    await made.close()


def keys_in(folder):
    """How many are held."""
    database = sqlite3.connect(folder / "idempotency.db")
    [(number,)] = database.execute("SELECT count(*) FROM idempotency").fetchall()
    database.close()
    return number


async def test_one_of_many_gets_the_claim(store, tmp_path):
    held = await asyncio.gather(*(store.claim(claim_of(1), NOW) for _ in range(100)))
    assert held.count(None) == 1
    assert held.count(Held(claim_of(1).fingerprint, None)) == 99
    assert keys_in(tmp_path) == 1


@pytest.mark.parametrize("outcome", [Answered(b'{"choices":[]}'), Refused(400, "too_long", "Too long.", None), TooLong()])
async def test_what_came_of_it_is_kept_as_it_was(store, outcome):
    await store.claim(claim_of(1), NOW)
    await store.keep(claim_of(1), outcome)
    assert await store.claim(claim_of(1), NOW + 1) == Held(claim_of(1).fingerprint, outcome)


async def test_another_request_is_told_whose_key_it_is(store):
    await store.claim(claim_of(1), NOW)
    other = msgspec.structs.replace(claim_of(1), fingerprint=b"x" * 32)
    assert await store.claim(other, NOW) == Held(claim_of(1).fingerprint, None)
    await store.keep(other, TooLong())
    await store.release(other)
    assert await store.claim(claim_of(1), NOW) == Held(claim_of(1).fingerprint, None)


async def test_a_released_key_is_free(store, tmp_path):
    await store.claim(claim_of(1), NOW)
    await store.release(claim_of(1))
    assert keys_in(tmp_path) == 0
    assert await store.claim(claim_of(1), NOW) is None


async def test_what_has_an_outcome_is_released_and_changed_no_more(store):
    await store.claim(claim_of(1), NOW)
    await store.keep(claim_of(1), outcome_of(1))
    await store.release(claim_of(1))
    await store.keep(claim_of(1), TooLong())
    held = await store.claim(claim_of(1), NOW)
    assert held is not None
    assert held.outcome == outcome_of(1)


async def test_nothing_happens_to_what_nobody_claimed(store, tmp_path):
    await store.keep(claim_of(1), TooLong())
    await store.release(claim_of(1))
    assert keys_in(tmp_path) == 0


@pytest.mark.parametrize("finished", [True, False])
async def test_a_key_is_free_after_a_day(store, finished):
    await store.claim(claim_of(1), NOW)
    if finished:
        await store.keep(claim_of(1), outcome_of(1))
    assert await store.claim(claim_of(1), NOW + LIFETIME - 1) is not None
    assert await store.claim(claim_of(1), NOW + LIFETIME) is None


async def test_expired_keys_are_swept_away_by_the_next(store, tmp_path):
    for number in range(3):
        await store.claim(claim_of(number), NOW + number)
    await store.claim(claim_of(9), NOW + LIFETIME + 1)
    assert keys_in(tmp_path) == 2


async def test_a_tenant_has_so_many_keys_and_loses_its_oldest(store, tmp_path):
    await store.claim(claim_of(0, "b"), NOW - 1)
    await store.keep(claim_of(0, "b"), outcome_of(0))
    for number in range(5):
        await store.claim(claim_of(number), NOW + number)
        await store.keep(claim_of(number), outcome_of(number))
    assert keys_in(tmp_path) == 3 + 1
    assert await store.claim(claim_of(2), NOW + 9) is not None
    assert await store.claim(claim_of(0, "b"), NOW + 9) is not None
    assert await store.claim(claim_of(1), NOW + 9) is None


async def test_a_tenant_has_so_many_bytes(store, tmp_path):
    for number in range(3):
        await store.claim(claim_of(number), NOW + number)
        await store.keep(claim_of(number), Answered(b"x" * 450))
    assert keys_in(tmp_path) == 2


async def test_what_is_worked_on_is_never_lost_to_a_quota(store, tmp_path):
    for number in range(5):
        await store.claim(claim_of(number), NOW + number)
    await store.keep(claim_of(4), Answered(b"x" * 2000))
    assert keys_in(tmp_path) == 5
    assert [await store.claim(claim_of(number), NOW + 9) is None for number in range(5)] == [False] * 5


@pytest.fixture
def reported(tmp_path):
    """What a process said before it was killed."""
    command = [sys.executable, idempotency_worker.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said = ""
        while "kept 9\n" not in said:
            said += process.stdout.readline()
            assert process.poll() is None, "the worker has ended"
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return said + rest


async def test_keys_outlive_a_process_that_is_killed(tmp_path, reported):
    done = [line.split() for line in reported.splitlines(keepends=True) if line.endswith("\n")]
    last = max(int(number) for _, number in done)
    kept = {int(number) for word, number in done if word == "kept"}
    store = sqlite_in(tmp_path)
    for number in range(last):
        outcome = outcome_of(number) if number in kept else None
        assert await store.claim(claim_of(number), NOW + 1) == Held(claim_of(number).fingerprint, outcome)
    await store.close()


async def test_the_file_is_the_owners_alone(tmp_path):
    store = sqlite_in(tmp_path / "data")
    assert "closed" in repr(store)
    await store.release(claim_of(1))
    assert "open" in repr(store)
    assert (tmp_path / "data" / "idempotency.db").stat().st_mode & 0o777 == 0o600
    await store.close()


async def test_another_writer_keeps_it_waiting_no_longer_than_its_deadline_and_nothing_is_held_afterwards(tmp_path):
    store = sqlite_in(tmp_path, deadline=1.0)
    await store.release(claim_of(1))
    other = sqlite3.connect(tmp_path / "idempotency.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreDown, match="within"):
        await store.claim(claim_of(1), NOW)
    other.execute("ROLLBACK")
    other.close()
    await store.close()
    assert keys_in(tmp_path) == 0


async def test_who_leaves_while_asking_holds_nothing(tmp_path):
    store = sqlite_in(tmp_path)
    await store.release(claim_of(1))
    asking = asyncio.create_task(store.claim(claim_of(1), NOW))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await store.close()
    assert keys_in(tmp_path) == 0


async def test_a_file_that_fails_is_opened_anew(tmp_path):
    (tmp_path / "idempotency.db").write_bytes(b"this is no database" * 100)
    store = sqlite_in(tmp_path)
    with pytest.raises(StoreDown):
        await store.claim(claim_of(1), NOW)
    (tmp_path / "idempotency.db").unlink()
    assert await store.claim(claim_of(1), NOW) is None
    await store.close()


async def test_a_folder_that_cannot_be_made_is_a_store_that_is_down(tmp_path):
    (tmp_path / "file").touch()
    store = sqlite_in(tmp_path / "file")
    with pytest.raises(StoreDown):
        await store.release(claim_of(1))
    await store.close()


async def test_a_failed_transaction_leaves_the_row_as_it_was(tmp_path):
    store = sqlite_in(tmp_path)
    assert await store.claim(claim_of(1), NOW) is None
    with pytest.raises(StoreDown):
        await store.claim(Claim(claim_of(2).mark, claim_of(2).fingerprint, None), NOW)  # type: ignore[arg-type]
    assert keys_in(tmp_path) == 1
    await store.close()
