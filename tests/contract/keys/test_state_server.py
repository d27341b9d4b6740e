"""PostgreSQL as the place of the keys: nodes that share it, and what goes wrong with it."""

import asyncio
import os
import signal
import threading
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import psycopg
import pytest

from sentinel_gateway import adapters
from sentinel_gateway.core import issuance
from sentinel_gateway.core.issuance import Draw, Minter
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.ledger.books import bring_up_to_date
from sentinel_gateway.ledger.sql import MIGRATION_LOCK
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.stores import _state_server
from sentinel_gateway.stores._adoption import adopt
from sentinel_gateway.stores._state_server import StateServer
from sentinel_gateway.stores.clock import SteadyClock
from sentinel_gateway.stores.keys import SqlKeys
from tests.contract.keys.conftest import OPERATOR, open_shared, open_state
from tests.core.keys import GRANT, NOW, PEPPER, minted
from tests.fakes import FakeBulletin, FakeEvents

pytestmark = pytest.mark.anyio

revoking = partial(issuance.revoke, caller=OPERATOR, now=NOW)


@pytest.fixture
def url(postgres) -> str:
    return postgres.fresh()


@pytest.fixture
async def state(url, anyio_backend):
    opened = await open_shared(url)
    yield opened
    await opened.file.close()


def ask(url: str, question: str) -> list[tuple]:
    """By a client of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(question)
        return found.fetchall() if found.description else []


async def until_held(url: str, lock: int) -> None:
    """Until somebody holds an advisory lock."""
    parts = (lock >> 32, lock & 0xFFFFFFFF)
    for _ in range(3000):
        if parts in ask(url, "SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody took it")


async def lose(server: StateServer, url: str) -> None:
    """Have the server end the connection that reads."""
    [pid] = await server.read(lambda statements: statements.execute("SELECT pg_backend_pid()").fetchone())
    assert ask(url, f"SELECT pg_terminate_backend({pid})") == [(True,)]


# --- several nodes ---


async def test_nodes_that_start_at_once_on_an_empty_database(url):
    nodes = await asyncio.gather(*(open_shared(url) for _ in range(6)))
    for number, node in enumerate(nodes):
        await node.create(number)
    assert [await node.ids() for node in nodes] == [{minted(number)[0].id for number in range(6)}] * 6
    for node in nodes:
        await node.file.close()


async def test_who_follows_misses_no_change_however_many_write_at_once(url):
    """A change whose number is lower than one that was seen before it would never be asked for again."""
    reader, *writers = [await open_shared(url) for _ in range(5)]
    seen, mark, done = {}, None, False

    async def write(node, first):
        for number in range(first, first + 40):
            key = await node.create(number)
            if number % 2:
                await node.keys.update(key.id, revoking)

    async def follow():
        nonlocal mark
        while True:
            last = done
            changes = await reader.keys.changes(mark)
            assert changes.whole == (mark is None)
            seen.update((key.id, key) for key in changes.keys)
            mark = changes.mark
            if last and not changes.keys:
                return

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(node, 100 * place) for place, node in enumerate(writers)))
    done = True
    await following
    assert seen == {key.id: key for key in (await reader.keys.changes(None)).keys}
    assert (len(seen), mark[1]) == (160, 240)
    for node in (reader, *writers):
        await node.file.close()


async def test_what_is_numbered_later_is_not_seen_earlier(state, url):
    """One who is slow to commit keeps the others from being seen before it; who reads waits for nobody."""
    await state.create(1)
    holding, may_end = threading.Event(), threading.Event()

    def slow(statements):
        statements.execute("UPDATE keys SET sequence = sequence + 1")
        holding.set()
        may_end.wait(10)

    other = await open_shared(url)
    first = asyncio.create_task(other.file.write(slow))
    await asyncio.to_thread(holding.wait, 10)
    second = asyncio.create_task(state.create(2))
    await asyncio.sleep(0.3)
    assert not second.done()
    assert (await state.keys.changes(None)).mark[1] == 1
    may_end.set()
    await asyncio.gather(first, second)
    assert [key.id for key in (await state.keys.changes(None)).keys] == [minted(1)[0].id, minted(2)[0].id]
    await other.file.close()


async def test_a_table_that_was_put_back_from_a_backup_is_another_history(state, url):
    """The same numbers stand for other changes in it."""
    key = await state.create(1)
    mark = (await state.keys.changes(None)).mark
    for statement in ("CREATE TABLE aside AS SELECT * FROM keys", "DROP TABLE keys", "ALTER TABLE aside RENAME TO keys"):
        ask(url, statement)
    changes = await state.keys.changes(mark)
    assert (changes.keys, changes.whole) == ((key,), True)


# --- outages ---


async def test_a_server_that_is_away_at_the_start_is_used_when_it_is_there(postgres, url):
    postgres.stop()
    try:
        state = await open_shared(url)
        with pytest.raises(StoreDown, match=r"127\.0\.0\.1"):
            await state.keys.changes(None)
    finally:
        postgres.start()
    key = await state.create(1)
    assert (await state.keys.changes(None)).keys == (key,)
    await state.file.close()


async def test_a_server_that_was_restarted_costs_no_change(state, postgres):
    key = await state.create(1)
    mark = (await state.keys.changes(None)).mark
    postgres.stop()
    for attempt in (state.keys.changes(mark), state.create(2)):
        with pytest.raises(StoreDown):
            await attempt
    postgres.start()
    other = await state.create(3)
    changes = await state.keys.changes(mark)
    assert (changes.keys, changes.whole) == ((key, other), True)


@asynccontextmanager
async def frozen_server(state, monkeypatch):
    """What answers its reads is stopped meanwhile; gives its process id."""
    monkeypatch.setattr(_state_server, "DEADLINE", 1.5)
    [pid] = await state.file.read(lambda statements: statements.execute("SELECT pg_backend_pid()").fetchone())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_a_server_that_is_frozen_is_down_within_the_deadline_and_left_for_one_that_is_not(state, url, monkeypatch):
    await state.create(1)
    async with frozen_server(state, monkeypatch) as pid:
        began = time.monotonic()
        with pytest.raises(StoreDown, match="did not answer within"):
            await state.keys.changes(None)
        assert time.monotonic() - began < 15
        assert len((await state.keys.changes(None)).keys) == 1
        assert ask(url, f"SELECT state FROM pg_stat_activity WHERE pid = {pid}")


async def test_who_waits_behind_one_whom_nobody_waits_for_any_more_ends_it(state, monkeypatch):
    """As a reload does with what it has begun: nobody else would."""
    await state.create(1)
    async with frozen_server(state, monkeypatch):
        left = asyncio.create_task(state.keys.changes(None))
        await asyncio.sleep(0.3)  # in which its thread begins to wait
        left.cancel()
        with pytest.raises(StoreDown, match="did not answer within"):
            await state.keys.changes(None)
        assert len((await state.keys.changes(None)).keys) == 1


async def test_who_waits_in_vain_for_others_takes_no_time_from_them(state, monkeypatch):
    """Its own deadline is over, and theirs is not."""
    await state.create(1)
    holding, may_end = threading.Event(), threading.Event()

    def slow(statements):
        holding.set()
        may_end.wait(10)
        return statements.execute("SELECT 7").fetchone()

    first = asyncio.create_task(state.file.read(slow))
    await asyncio.to_thread(holding.wait, 10)
    monkeypatch.setattr(_state_server, "DEADLINE", 0.05)
    with pytest.raises(StoreDown, match="did not answer within"):
        await state.keys.changes(None)
    may_end.set()
    assert await first == (7,)


@pytest.mark.parametrize("does", ["read", "write"])
async def test_what_is_slow_in_evidence_holds_up_nobody_who_asks_for_keys(url, tmp_path, does):
    settings = Settings(database_url=url, data_dir=tmp_path)
    opened = await adapters.open_state(settings, PEPPER, FakeBulletin(), SteadyClock(), FakeEvents(), node="n")
    holding, may_end = threading.Event(), threading.Event()

    def slow(_):
        holding.set()
        may_end.wait(10)

    learning = asyncio.create_task(getattr(opened.evidence, does)(slow))
    await asyncio.to_thread(holding.wait, 10)
    key, _ = minted(1)
    await opened.keys.create(key, issuance.create(OPERATOR, key))
    assert (await opened.keys.changes(None)).keys == (key,)
    assert not learning.done()
    may_end.set()
    await asyncio.gather(learning, return_exceptions=True)  # where this machine is busy its turn may be over
    await opened.close()


async def test_a_key_is_changed_whoever_has_the_turn_in_evidence(state, url):
    """On whatever node, and however long."""
    with psycopg.connect(url) as holder:
        holder.execute(f"SELECT pg_advisory_xact_lock({_state_server.TURNS['evidence']})")
        await state.create(1)
        assert len((await state.keys.changes(None)).keys) == 1


async def test_a_change_that_waits_for_too_long_is_not_made_later(state, url):
    await state.create(1)
    with psycopg.connect(url) as holder:
        holder.execute(f"SELECT pg_advisory_xact_lock({_state_server.TURNS['keys']})")
        with pytest.raises(StoreDown):
            await state.create(2)
        assert len((await state.keys.changes(None)).keys) == 1
    await state.create(3)
    assert await state.ids() == {minted(number)[0].id for number in (1, 3)}


async def test_a_node_that_freezes_while_it_writes_keeps_nobody_from_writing_for_long(state, url):
    """Nothing of its change is kept: the turn was taken from it."""
    frozen, may_go_on = await open_shared(url), threading.Event()
    writing = asyncio.create_task(frozen.file.write(lambda _: may_go_on.wait(10)))
    await until_held(url, _state_server.TURNS["keys"])
    await state.create(1)
    may_go_on.set()
    with pytest.raises(StoreDown):
        await writing
    await frozen.file.close()


async def test_who_reads_again_waits_for_nobody_who_writes_or_makes_tables(state, url):
    """However long they take: a node that is frozen may hold its locks until somebody kills it."""
    key = await state.create(1)
    with psycopg.connect(url) as holder:
        for lock in (_state_server.TURNS["keys"], MIGRATION_LOCK):
            holder.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        await lose(state.file, url)
        assert (await state.keys.changes(None)).keys == (key,)


async def test_a_server_that_was_there_once_is_waited_for_no_longer_than_others(url, monkeypatch):
    """However long its tables may take to be made at the start."""
    monkeypatch.setattr(_state_server, "DEADLINE", 0.5)
    hanging = threading.Event()
    hanging.set()

    def prepare():
        hanging.wait(10)
        bring_up_to_date(Path("/nowhere"), url)

    server = await StateServer(url, secret=PEPPER, prepare=prepare, welcome=lambda _: None).reached()
    await lose(server, url)
    hanging.clear()
    began = time.monotonic()
    with pytest.raises(StoreDown, match=r"did not answer within 0\.5 s"):
        await SqlKeys(server).changes(None)
    assert time.monotonic() - began < 8
    hanging.set()
    await server.close()


async def test_no_fault_tells_the_password():
    state = await open_shared("postgresql://sentinel:hunter2@127.0.0.1:1/none")
    with pytest.raises(StoreDown) as failed:
        await state.keys.changes(None)
    await state.file.close()
    assert "hunter2" not in f"{failed.value} {state!r}"


# --- whose it is ---


async def test_another_secret_stops_the_start(state, url):
    key = await state.create(1)
    with pytest.raises(ConfigurationError) as refused:
        await open_shared(url, secret=b"another secret, as long as the first")
    [(place, sentence)] = refused.value.faults
    assert place == "database_url"
    assert "made with another secret" in sentence
    assert await state.keys.get(key.id) == key


async def test_a_database_of_a_newer_sentinel_is_left_alone(state, url):
    ask(url, "UPDATE alembic_version SET version_num = '9999'")
    other = await open_shared(url)
    with pytest.raises(StoreDown, match="newer Sentinel"):
        await other.create(1)
    await other.file.close()
    assert await state.ids() == set()


async def test_no_key_stands_in_the_database(state, url):
    draws = Draw(os.urandom(8), os.urandom(32)), Draw(os.urandom(8), os.urandom(32))
    (key, text), (successor, other) = (Minter(PEPPER).mint(GRANT, draw, NOW) for draw in draws)
    await state.keys.create(key, issuance.create(OPERATOR, key))
    await state.keys.update(key.id, partial(issuance.rotate, caller=OPERATOR, successor=successor, overlap=5.0))
    rows = [str(row) for table in ("keys", "audit", "facts") for row in ask(url, f"SELECT * FROM {table}")]
    assert any(key.id in row for row in rows)
    for secret in (text, other):
        for start in range(6, len(secret) - 12):
            assert not any(secret[start : start + 12] in row for row in rows)


async def test_options_of_the_address_hold_and_ours_join_them(postgres, url):
    """Of the keys, and of the tables of the ledger that are made with them."""
    ask(url, "CREATE SCHEMA apart")
    state = await open_shared(f"{url}?options=-csearch_path%3Dapart")
    await state.create(1)
    assert ask(url, "SELECT count(*) FROM apart.keys, apart.requests") == [(0,)]
    assert ask(url, "SELECT count(*) FROM apart.keys") == [(1,)]
    [timeout] = await state.file.read(lambda statements: statements.execute("SHOW statement_timeout").fetchone())
    assert timeout == f"{_state_server.STATEMENT_SECONDS}s"
    await state.file.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_name_stops_the_start(postgres, encoding):
    refused = postgres.fresh(encoding=encoding)
    with pytest.raises(ConfigurationError, match="make it with ENCODING 'UTF8'"):
        await open_shared(refused)
    assert ask(refused, "SELECT to_regclass('keys')") == [(None,)]


async def test_names_are_what_they_are_whatever_encoding_a_client_is_told_to_use(url, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    state = await open_shared(url)
    key = await state.create(1, name="日本")
    assert (await state.keys.changes(None)).keys == (key,)
    await state.file.close()


async def test_keys_are_read_where_nothing_can_be_written(state, postgres, url):
    """On a standby, and where the operator has said so for a while."""
    key = await state.create(1)
    name = url.rsplit("/", 1)[1]
    ask(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    other = await open_shared(url, found=[key])
    assert (await other.keys.changes(None)).keys == (key,)
    with pytest.raises(StoreDown, match="read-only"):
        await other.create(2)
    await other.file.close()


# --- its clock ---


@pytest.mark.parametrize(("ahead", "told"), [(0.0, []), (60.0, ["database_clock_differs"]), (-60.0, ["database_clock_differs"])])
async def test_a_node_whose_clock_is_another_goes_by_the_databases_and_says_so(url, tmp_path, ahead, told):
    events, settings, clock = FakeEvents(), Settings(database_url=url, data_dir=tmp_path), SteadyClock()
    clock.put_forward(ahead)
    opened = await adapters.open_state(settings, PEPPER, FakeBulletin(), clock, events, node="n")
    await opened.close()
    assert [event for event, _ in events.notes] == told
    assert all(abs(fields["seconds"] - 60) < 30 for _, fields in events.notes)
    assert abs(clock() - time.time()) < 30


# --- keys of a data folder ---


async def test_keys_of_a_folder_come_along_and_are_revoked_where_they_were_revoked(url, tmp_path):
    """Two nodes had copies of one file. Each revoked a key of its own; what one has revoked is revoked."""
    found = {name: [] for name in ("one", "two")}
    for name, revoked in (("one", 1), ("two", 2)):
        own = await open_state(tmp_path / name)
        for number in range(3):
            await own.create(number)
        await own.keys.update(minted(revoked)[0].id, revoking)
        found[name] = (await own.keys.changes(None)).keys
        await own.file.close()
    for name in ("one", "two", "one"):
        state = await open_shared(url, found=found[name])
        kept = {key.id: key.revoked for key in (await state.keys.changes(None)).keys}
        await state.file.close()
    assert kept == {minted(0)[0].id: None, minted(1)[0].id: NOW, minted(2)[0].id: NOW}
    state = await open_shared(url)
    log = (await state.log.page(tenant=None, limit=100, cursor=None)).entries
    told = [(entry.action, entry.actor, entry.object) for entry in reversed(log)]
    adopted = [("key.adopt", "start", key.id) for key in found["one"]]
    assert told == [*adopted, ("key.revoke", "start", minted(2)[0].id)]
    await state.file.close()


async def test_many_keys_come_along_at_once(url):
    found = [msgspec.structs.replace(minted(number)[0], name=f"n{number}") for number in range(3000)]
    state = await open_shared(url, found=found)
    assert await state.ids() == {key.id for key in found}
    await state.file.close()


async def test_keys_whose_coming_along_was_not_kept_come_along_at_the_next_try(url):
    """The server, or the way to it, may die in the middle."""
    key, tries = minted(1)[0], []

    def welcome(statements):
        adopt(statements, found=[key])
        tries.append(statements.execute("SELECT pg_backend_pid()").fetchone()[0])
        if len(tries) == 1:
            assert ask(url, f"SELECT pg_terminate_backend({tries[0]})") == [(True,)]

    prepare = partial(bring_up_to_date, Path("/nowhere"), url)
    server = await StateServer(url, secret=PEPPER, prepare=prepare, welcome=welcome).reached()
    assert (await SqlKeys(server).changes(None)).keys == (key,)
    assert len(set(tries)) == 2
    await server.close()
