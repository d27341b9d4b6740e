"""The table of keys follows its store, and says what it can't know."""

import asyncio
import fcntl
from contextlib import nullcontext
from functools import partial
from statistics import median

import msgspec
import pytest

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import ANYBODY, Key, operator
from sentinel_gateway.core.bulletin import KeysChanged
from sentinel_gateway.core.issuance import Amendment
from sentinel_gateway.errors import KeysUnavailable, StoreDown
from sentinel_gateway.pipeline.keyring import CURRENT_SECONDS, POLL_SECONDS, TRUSTED_SECONDS, KeyRing
from sentinel_gateway.ports import KeyChanges, Mark
from sentinel_gateway.stores._state_file import READ_BUSY_SECONDS
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from tests.contract.keys.conftest import open_state
from tests.core.keys import NOW, RIGHTS_OF_LATER, minted
from tests.fakes import FakeBulletin, HandMovedLoop, turns
from tests.gateway import until

pytestmark = pytest.mark.anyio

OPERATOR = operator("cli")
ALONE = LoneBulletin()
SOON = 5.0
"""Seconds in which a change is known: in one, where nothing else holds the machine up."""


class Keys:
    """A key store as far as the ring asks it: each change has a number. It can be down, or answer late."""

    def __init__(self, *keys: Key) -> None:
        self.history = list(keys)
        self.down = False
        self.fault: Exception | None = None
        self.whole = False
        self.batch = 1000
        self.asked: list[Mark | None] = []
        self.hold: asyncio.Event | None = None

    async def changes(self, since: Mark | None) -> KeyChanges:
        self.asked.append(since)
        whole = since is None or self.whole
        self.whole = False
        begin = 0 if whole else since[1]
        end = min(begin + self.batch, len(self.history))
        answer = KeyChanges(tuple(self.history[begin:end]), (1, end), whole, more=end < len(self.history))
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise StoreDown("no answer")
        if self.fault is not None:
            raise self.fault
        return answer


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def told() -> list[str]:
    return []


def ring_of(keys: Keys, time: Time, told: list[str]) -> KeyRing:
    return KeyRing(keys, bulletin=ALONE, clock=time, on_event=lambda event, **_: told.append(event))


def revoked(key: Key) -> Key:
    return issuance.revoke(key, OPERATOR, NOW).key


A, B, C = (minted(number)[0] for number in range(3))


async def test_it_holds_what_the_store_holds(time, told):
    keys = Keys(A, B)
    ring = ring_of(keys, time, told)
    await ring.refresh()
    assert len(ring) == 2
    found = ring.find(A.digest, NOW)
    assert (found.key, found.actor, found.tenant) == (A, A.id, "acme")
    assert ring.find(C.digest, NOW) is None
    ring.check_current(NOW)
    keys.history += [C, revoked(A)]
    await ring.refresh()
    assert keys.asked == [None, (1, 2)]
    assert (ring.find(A.digest, NOW), ring.find(C.digest, NOW).key) == (None, C)
    assert repr(ring) == "<KeyRing 2 keys>"


async def test_everything_at_once_replaces_everything(time, told):
    """A store that was put back from a backup knows nothing of what came later."""
    keys = Keys(A, B)
    ring = ring_of(keys, time, told)
    await ring.refresh()
    keys.history, keys.whole = [C], True
    await ring.refresh()
    assert [ring.find(key.digest, NOW) is None for key in (A, B, C)] == [True, True, False]


async def test_a_table_that_is_filled_anew_is_never_seen_half_full(time, told):
    keys = Keys(A, B, C)
    ring = ring_of(keys, time, told)
    await ring.refresh()
    keys.whole, keys.batch, keys.hold = True, 1, asyncio.Event()
    keys.history = [A, C, revoked(A)]
    refreshing = asyncio.create_task(ring.refresh())
    for number in range(2, 5):
        await until(lambda number=number: len(keys.asked) == number)
        assert (len(ring), ring.find(B.digest, NOW).key) == (3, B)
        keys.hold.set()
        keys.hold = asyncio.Event()
    await refreshing
    assert keys.asked == [None, (1, 3), (1, 1), (1, 2)]
    assert [ring.find(key.digest, NOW) is None for key in (A, B, C)] == [True, True, False]


async def test_a_key_that_was_never_known_may_be_revoked(time, told):
    keys = Keys(A)
    ring = ring_of(keys, time, told)
    await ring.refresh()
    keys.history.append(revoked(B))
    await ring.refresh()
    assert len(ring) == 1


async def test_known_keys_go_on_for_a_minute_without_the_store(time, told):
    keys = Keys(A)
    ring = ring_of(keys, time, told)
    await ring.refresh()
    keys.down = True
    for age in (0.0, CURRENT_SECONDS, TRUSTED_SECONDS):
        time.now = NOW + age
        with pytest.raises(StoreDown):
            await ring.refresh()
        assert ring.find(A.digest, time.now).key == A
    assert ring.find(A.digest, NOW + TRUSTED_SECONDS + 0.1) is None
    assert told == ["keys_down"]
    assert repr(ring) == "<KeyRing 1 keys, without its store>"
    keys.down = False
    time.now = NOW + 1000
    await ring.refresh()
    assert ring.find(A.digest, time.now).key == A
    assert told == ["keys_down", "keys_up"]


async def test_that_no_key_was_ever_made_is_known_no_longer_than_keys_are(time, told):
    """Or else a gateway that asks for no key would go on without one while its store is away, and one was made there."""
    keys = Keys()
    ring = ring_of(keys, time, told)
    assert not ring.is_virgin, "nobody has looked yet"
    await ring.refresh()
    assert ring.is_virgin
    ring.check_made()
    time.now = NOW + TRUSTED_SECONDS + 0.1
    assert not ring.is_virgin
    with pytest.raises(KeysUnavailable):
        ring.check_made()
    await ring.refresh()
    assert ring.is_virgin
    keys.history.append(A)
    await ring.refresh()
    assert not ring.is_virgin
    ring.check_made()
    keys.history.append(msgspec.structs.replace(A, revoked=NOW))
    await ring.refresh()
    assert (len(ring), ring.is_virgin) == (0, False)


async def test_an_empty_table_that_was_never_filled_says_why(time, told):
    keys = Keys()
    keys.down = True
    ring = ring_of(keys, time, told)
    with pytest.raises(StoreDown):
        await ring.refresh()
    assert (len(ring), ring.why_unread) == (0, "no answer")
    keys.down = False
    await ring.refresh()
    assert (len(ring), ring.why_unread) == (0, None)
    keys.down = True
    with pytest.raises(StoreDown):
        await ring.refresh()
    assert ring.why_unread is None, "it is as old as it is, but it was read"


async def test_a_node_that_cannot_know_says_so(time, told):
    ring = ring_of(Keys(A), time, told)
    with pytest.raises(KeysUnavailable) as unknown:
        ring.check_current(NOW)
    assert (unknown.value.http_status, unknown.value.retry, unknown.value.retry_after) == (503, True, 1.0)
    await ring.refresh()
    ring.check_current(NOW + CURRENT_SECONDS)
    with pytest.raises(KeysUnavailable):
        ring.check_current(NOW + CURRENT_SECONDS + 0.1)


async def test_the_age_is_that_of_the_question(time, told):
    """What was revoked while the store took its time to answer is not in the answer."""
    keys = Keys(A)
    keys.hold = asyncio.Event()
    ring = ring_of(keys, time, told)
    asking = asyncio.create_task(ring.refresh())
    await until(lambda: keys.asked)
    time.now = NOW + 50
    keys.hold.set()
    await asking
    assert ring.find(A.digest, NOW + TRUSTED_SECONDS + 0.1) is None


async def test_an_older_answer_never_undoes_a_newer_one(time, told):
    """A poll that is under way has read the key as good; then the key is revoked here."""
    keys = Keys(A)
    keys.hold = asyncio.Event()
    ring = ring_of(keys, time, told)
    poll = asyncio.create_task(ring.refresh())
    await until(lambda: keys.asked)
    keys.history.append(revoked(A))
    after_the_change = asyncio.create_task(ring.refresh())
    await asyncio.sleep(0)
    keys.hold.set()
    await asyncio.gather(poll, after_the_change)
    assert keys.asked == [None, (1, 1)]
    assert ring.find(A.digest, NOW) is None


async def test_it_watches_until_it_is_closed(time, told):
    keys = Keys(A)
    keys.down = True
    ring = await KeyRing.open(keys, bulletin=ALONE, clock=time, on_event=lambda event, **_: told.append(event))
    assert len(ring) == 0
    keys.down = False
    await until(lambda: len(ring))
    await ring.close()
    count = len(keys.asked)
    await asyncio.sleep(2 * POLL_SECONDS)
    assert len(keys.asked) == count
    await ring_of(keys, time, told).close()


def test_a_revocation_elsewhere_is_known_within_a_second_of_the_rings_own_time(time):
    """By the ring's own time, whatever the machine does: when it looks again, and how long that may wait for the file."""

    async def revoke(loop: HandMovedLoop) -> None:
        keys = Keys(A, B)
        ring = await KeyRing.open(keys, bulletin=ALONE, clock=time, on_event=lambda *_, **__: None)
        for key in (A, B):
            keys.hold = asyncio.Event()
            await turns()
            looked = len(keys.asked)
            keys.history.append(revoked(key))
            loop.now += 1.0 - READ_BUSY_SECONDS
            await turns()
            assert len(keys.asked) == looked + 1, "it looks again in time"
            loop.now += READ_BUSY_SECONDS
            keys.hold.set()
            await turns()
            assert ring.find(key.digest, NOW) is None
        await ring.close()

    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        runner.run(revoke(runner.get_loop()))


async def test_it_watches_on_whatever_a_store_raises(time):
    """A fault of ours, too: otherwise a minute later every key would be refused, until somebody restarts the node."""
    keys, reasons = Keys(A), []
    ring = await KeyRing.open(keys, bulletin=ALONE, clock=time, on_event=lambda event, **fields: reasons.append((event, fields)))
    keys.fault = TypeError("the words of such a fault may hold anything")
    asked = len(keys.asked)
    await until(lambda: len(keys.asked) > asked + 2)
    assert reasons == [("keys_down", {"reason": "TypeError"})]
    keys.fault = None
    keys.history.append(B)
    await until(lambda: len(ring) == 2)
    assert reasons[1:] == [("keys_up", {})]
    await ring.close()


async def test_what_another_process_changes_is_known_within_a_second(tmp_path, told):
    """The other one is another connection to the same file; that it may be another process is held by the store's contract."""
    mine, theirs = await open_state(tmp_path), await open_state(tmp_path)
    ring = await KeyRing.open(mine.keys, bulletin=ALONE, clock=lambda: NOW, on_event=lambda event, **_: told.append(event))
    key = await theirs.create(1)
    took = [await until(lambda: ring.find(key.digest, NOW))]
    rule = partial(issuance.revoke, caller=OPERATOR, now=NOW)
    assert isinstance(await theirs.keys.update(key.id, rule), Amendment)
    took.append(await until(lambda: not ring.find(key.digest, NOW)))
    assert max(took) < SOON
    await ring.close()
    for state in (mine, theirs):
        await state.file.close()
    assert told == []


async def test_a_revocation_elsewhere_is_known_while_a_change_of_our_own_waits_for_the_file(tmp_path, told):
    mine, theirs = await open_state(tmp_path), await open_state(tmp_path)
    key = await theirs.create(1)
    ring = await KeyRing.open(mine.keys, bulletin=ALONE, clock=lambda: NOW, on_event=lambda event, **_: told.append(event))
    with (tmp_path / "sentinel.lock").open() as lock:
        await theirs.keys.update(key.id, partial(issuance.revoke, caller=OPERATOR, now=NOW))
        fcntl.flock(lock, fcntl.LOCK_EX)  # as if others had more and more to write
        waiting = asyncio.create_task(mine.create(2))
        assert await until(lambda: not ring.find(key.digest, NOW)) < SOON
        assert not waiting.done()
    await waiting
    await ring.close()
    for state in (mine, theirs):
        await state.file.close()
    assert told == []


async def test_a_key_that_it_cannot_read_is_a_store_that_is_away_and_ends_nothing(tmp_path, time, told):
    """What such a row hides may be a revocation: known keys go on for a minute, and it is read as soon as it can be."""
    state = await open_state(tmp_path)
    known = await state.create(1)
    ring = await KeyRing.open(state.keys, bulletin=ALONE, clock=time, on_event=lambda event, **_: told.append(event))
    later = await state.create(2)
    change = "UPDATE keys SET rights = ? WHERE id = ?"
    [(rights,)] = await state.file.read(lambda database: database.execute("SELECT rights FROM keys LIMIT 1").fetchall())
    await state.file.write(lambda database: database.execute(change, (RIGHTS_OF_LATER, later.id)))
    await until(lambda: told)
    time.now = NOW + TRUSTED_SECONDS
    assert ring.find(known.digest, time.now).key == known
    time.now += 0.1
    assert ring.find(known.digest, time.now) is None
    with pytest.raises(KeysUnavailable):
        ring.check_current(time.now)
    await state.file.write(lambda database: database.execute(change, (rights, later.id)))
    await until(lambda: len(ring) == 2)
    assert told == ["keys_down", "keys_up"]
    await ring.close()
    await state.file.close()


async def test_a_ring_that_is_told_to_hurry_looks_at_once(time):
    keys = Keys()
    ring = await KeyRing.open(keys, bulletin=ALONE, clock=time, on_event=lambda *_, **__: None)
    took = []
    for _ in range(11):
        asked = len(keys.asked)
        ring.hurry()
        took.append(await until(lambda asked=asked: len(keys.asked) > asked))
    assert median(took) < POLL_SECONDS / 2
    await ring.close()


@pytest.mark.parametrize("down", ["", "store", "bulletin"])
async def test_what_this_process_changes_other_nodes_are_told(time, down):
    keys, bulletin = Keys(A), FakeBulletin()
    ring = KeyRing(keys, bulletin=bulletin, clock=time, on_event=lambda *_, **__: None)
    keys.down, bulletin.down = down == "store", down == "bulletin"
    with pytest.raises(StoreDown) if keys.down else nullcontext():
        await ring.changed()
    assert bulletin.notices == ([] if bulletin.down else [KeysChanged()])
    assert len(ring) == (not keys.down)


async def test_what_a_key_stood_for_holds_until_it_changes_or_ends(time, told):
    ends, _ = minted(7, expires=NOW + 10)
    keys = Keys(A, ends)
    ring = ring_of(keys, time, told)
    await ring.refresh()
    first, second = sorted(ring.holders(), key=lambda holder: holder.key.id != A.id)
    assert (first.key, second.key) == (A, ends)
    assert ring.knows(first, NOW)
    assert ring.knows(second, NOW + 9)
    assert not ring.knows(second, NOW + 10)
    assert not ring.knows(ANYBODY, NOW)
    keys.history.append(revoked(A))
    await ring.refresh()
    assert not ring.knows(first, NOW)
    assert list(ring.holders()) == [second]
