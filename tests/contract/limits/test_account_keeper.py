"""What was spent outlives the process: rows in `sentinel.db`, behind what changes."""

import asyncio
import sqlite3
import time

import pytest

from sentinel_gateway.core.budgets import AFTER, LEASE, Allowance, Hold
from sentinel_gateway.stores._redis_member import Member
from sentinel_gateway.stores._shared_accounts import SharedAccounts
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.account_keeper import AccountKeeper, restore
from sentinel_gateway.stores.memory_limits import MemoryLimits
from sentinel_gateway.stores.redis_limits import SharedLimits
from tests.contract.limits.conftest import OWNER, PATIENT, end_calm, open_link
from tests.fakes import START, FakeClock, FakeEvents
from tests.gateway import until

pytestmark = pytest.mark.anyio

ENDS = int(START) + 40_000


def budget(amount=0, *, name="day", ends=ENDS):
    return Hold((Allowance(f"{{t}}:budget:{name}", "key", "day", 100, ends),), amount)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def told():
    return FakeEvents()


@pytest.fixture
async def life(tmp_path, clock, told, anyio_backend):
    """await life("node") is a keeper as a process has it; `end` says how it ends, and all end at last."""
    lives = []

    async def life(node):
        file = await StateFile.open(tmp_path, secret=b"s" * 32)
        keeper = AccountKeeper(file, node=node, clock=clock, events=told)
        await keeper.open()
        lives.append((keeper, file))
        return keeper

    yield life
    for keeper, file in lives:
        await keeper.close()
        await file.close()


def store_of(keeper, clock):
    restore(keeper.table, keeper.left)
    return MemoryLimits(clock=clock, accounts=keeper.table)


async def standing(store):
    [(_, account)] = (await store.take([], budget())).accounts
    return account.settled, account.held


async def rows(tmp_path, expected):
    """Until that is what is written: (node, settled, held)."""
    for _ in range(3000):
        with sqlite3.connect(tmp_path / "sentinel.db") as database:
            found = database.execute("SELECT node, settled, held FROM accounts ORDER BY node").fetchall()
        database.close()
        if found == expected:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"written is {found}")


async def test_what_was_settled_is_there_after_a_restart_and_what_was_held_is_held_for_a_while(life, clock, tmp_path):
    first = store_of(await life("one"), clock)
    for amount, cost in ((30, 20), (5, 5)):
        await first.take([], budget(amount))
        await first.settle([], budget(amount), cost)
    await first.take([], budget(40))
    await rows(tmp_path, [("one", 25, 40)])
    second = store_of(await life("two"), clock)
    assert await standing(second) == (25, 40)
    assert (await second.take([], budget(36))).refused is not None
    clock.now += LEASE / 1000
    assert await standing(second) == (25, 0)
    assert (await second.take([], budget(36))).refused is None
    await second.settle([], budget(36), 36)
    await rows(tmp_path, [("one", 25, 40), ("two", 36, 0)])
    assert (await standing(store_of(await life("three"), clock)))[0] == 61


async def test_what_changes_at_once_is_written_together(life, clock, tmp_path):
    keeper = await life("one")
    store = store_of(keeper, clock)
    for _ in range(100):
        await store.take([], budget(1))
    await rows(tmp_path, [("one", 0, 100)])


async def test_a_window_that_is_over_is_forgotten(life, clock, tmp_path):
    store = store_of(await life("one"), clock)
    await store.take([], budget(7))
    await rows(tmp_path, [("one", 0, 7)])
    clock.now = ENDS + AFTER
    await store.take([], budget(3, name="next day", ends=ENDS + 86_400))
    await rows(tmp_path, [("one", 0, 3)])
    assert len((await life("two")).left) == 1


async def test_a_file_that_fails_holds_up_nobody_and_is_written_when_it_works_again(life, clock, told, tmp_path):
    store = store_of(await life("one"), clock)
    blocker = sqlite3.connect(tmp_path / "sentinel.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    assert (await store.take([], budget(9))).refused is None
    await until(lambda: told.notes)
    blocker.execute("ROLLBACK")
    blocker.close()
    await rows(tmp_path, [("one", 0, 9)])
    await until(lambda: [name for name, _ in told.notes] == ["budgets_unkept", "budgets_kept"])


async def test_what_was_spent_outlives_all_nodes_and_their_redis(life, told, redis8, clock):
    """Each part under the name of who has spent it: told twice, it counts once."""
    redis8.flush()
    clock.now = time.time()
    hold = budget(30, ends=int(clock.now) + 40_000)
    for number, name in enumerate(("one", "two", "three")):
        keeper = await life(name)
        link = open_link(redis8.url, name="limits", clock=time.monotonic, events=told, limits=PATIENT)
        accounts = SharedAccounts(time.time, keeper.table, keeper.left)
        store = SharedLimits(link, member=Member(OWNER, name), replicas=1, accounts=accounts, events=told)
        await store.open()
        refused = 0
        try:
            while (verdict := await store.take([], hold)).refused is not None:
                refused += 1
                assert refused < 3000, "what all have told is never drawn upon"
                end_calm(redis8, nodes=number)
                await asyncio.sleep(0.01)
            assert (refused > 0) == (name == "three"), "what is lost is not drawn upon before it is told again"
            await store.settle([], hold, 30)
        finally:
            await store.close()
            await link.close()
            await keeper.close()
        [(_, account)] = verdict.accounts
        assert (account.settled, account.held, verdict.refused) == (30 * number, 30, None)
        if name == "two":
            redis8.flush()
