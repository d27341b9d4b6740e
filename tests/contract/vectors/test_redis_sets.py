"""The index in Redis: its keys, what 8 bits get wrong, what dies and is swept, what damage does, and that it holds nobody up."""

import asyncio
import hashlib
import time

import msgspec
import numpy as np
import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import ScopeView
from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.vectors._records import Records
from tests.contract.vectors.conftest import DIMENSION, MODEL, RECORDS, PatientLink, keys, make_head, open_redis, unit
from tests.fakes import FakeClock, FakeEvents
from tests.servers import REDIS8, RedisServer

pytestmark = pytest.mark.anyio

HOUR = 3600


@pytest.fixture
def client(redis8):
    redis8.flush()
    with redis8.client() as client:
        yield client


@pytest.fixture
async def opened(redis8, clock, client, anyio_backend):
    """To be called: an index over the server, emptied before the test."""
    indexes = []

    def open_one(records=RECORDS, **most):
        indexes.append(open_redis(clock, PatientLink(redis8.url), records, **most))
        return indexes[-1]

    yield open_one
    for index in indexes:
        await index.close()


async def add(index, *heads):
    for head in heads:
        index.add(head)
    await index.flush()


async def learn(index, *heads):
    """Number `n` of these has `unit(n)`."""
    await add(index, *heads)
    await index.attach([(head, unit(number)) for number, head in enumerate(heads)])


def set_of(client, scope="scope"):
    (key,) = client.keys(f"*{{{scope}}}:set")
    return key


async def test_each_scope_has_a_set_of_its_own_in_a_slot_of_its_own(opened, client):
    index = opened()
    await learn(index, make_head("a", "one"), make_head("b", "other"))
    await add(index, make_head("c", "one"))
    names = sorted(key.decode().partition("{")[2] for key in client.scan_iter())
    assert names == [f"one}}:{name}" for name in ("ends", "heads", "set", "waiting")] + ["other}:ends", "other}:set"]
    assert all(key.startswith(b"sentinel:vectors:1:") for key in client.scan_iter())
    assert [client.execute_command("VCARD", set_of(client, scope)) for scope in ("one", "other")] == [1, 1]


async def test_nothing_is_kept_longer_than_its_longest_question(opened, client, clock):
    index = opened()
    heads = [make_head(str(n), expires=clock.now + seconds) for n, seconds in enumerate((500, HOUR, 100))]
    await learn(index, *heads)
    await add(index, make_head("waits", expires=clock.now + 50), make_head("waits too", expires=clock.now + 200))
    lifetimes = {key.rpartition(b":")[2]: client.ttl(key) for key in client.scan_iter()}
    assert lifetimes == {
        b"set": pytest.approx(HOUR, abs=2),
        b"ends": pytest.approx(HOUR, abs=2),
        b"heads": pytest.approx(200, abs=2),
        b"waiting": pytest.approx(200, abs=2),
    }


async def test_what_eight_bits_get_wrong_is_put_right(opened, client):
    """The negative control: Redis' own scores are off by more than a thousandth."""
    index = opened()
    await learn(index, *(make_head(str(number)) for number in range(200)))
    worst = worst_of_redis = 0.0
    for number in range(0, 200, 7):
        asked = unit(number, away=0.3)
        scores = client.execute_command("VSIM", set_of(client), "FP32", asked.tobytes(), "COUNT", 10, "WITHSCORES")
        for key, score in dict(scores).items():
            worst_of_redis = max(worst_of_redis, abs(2 * score - 1 - float(unit(int(key)) @ asked)))
        for near in await index.nearest("scope", asked, limit=10):
            worst = max(worst, abs(near.similarity - float(unit(int(near.head.key)) @ asked)))
    assert worst_of_redis > 1e-3
    assert worst < 1e-4


async def test_near_neighbours_are_put_in_their_true_order(opened):
    index = opened()
    heads = [make_head(f"{number:02}") for number in range(10)]
    await add(index, *heads)
    await index.attach([(head, unit(1, away=0.2 + number / 2000)) for number, head in enumerate(heads)])
    truth = sorted(range(10), key=lambda number: -float(unit(1, away=0.2 + number / 2000) @ unit(1)))
    assert await keys(index, unit(1), limit=5) == [f"{number:02}" for number in truth[:5]]


async def test_who_meets_a_dead_one_has_it_taken_away(opened, client, clock):
    index = opened()
    dies, lives = make_head("dies", expires=clock.now + 10), make_head("lives")
    await learn(index, dies, lives)
    clock.now += 11
    assert await keys(index, unit(0), limit=3) == ["lives"]
    await index.flush()
    assert client.execute_command("VCARD", set_of(client)) == 1


async def test_more_dead_ones_go_than_new_ones_come(opened, client, clock):
    index = opened()
    await learn(index, *(make_head(f"old {number}", expires=clock.now + 10) for number in range(100)))
    clock.now += 11
    for number in range(15):
        head = make_head(f"new {number}")
        await add(index, head)
        await index.attach([(head, unit(1000 + number))])
    assert client.execute_command("VCARD", set_of(client)) == 15


async def test_a_scope_holds_only_so_many(opened, client, clock):
    """Of those with a vector the first to expire make room, of those that wait the oldest."""
    index = opened(most=10)
    heads = [make_head(f"{number:02}", expires=clock.now + HOUR + number) for number in range(15)]
    await learn(index, *heads[:10])
    await learn(index, *heads[10:])
    assert client.execute_command("VCARD", set_of(client)) == 10
    assert await keys(index, unit(0), limit=20) != ["00"]
    await add(index, *(make_head(f"waits {number:02}") for number in range(15)))
    waiting = (await index.view("scope", waiting=100)).waiting
    assert [head.key for head in waiting] == [f"waits {number:02}" for number in range(5, 15)]


async def test_a_view_is_one_round_trip_and_one_command(redis8, clock, client):
    link = PatientLink(redis8.url)
    index = open_redis(clock, link)
    await learn(index, make_head("a"))
    await add(index, *(make_head(f"waits {number}") for number in range(20)))
    calls = link.calls
    client.config_resetstat()
    view = await index.view("scope", waiting=9)
    assert (view.vectors, len(view.waiting)) == (1, 9)
    assert link.calls == calls + 1
    asked_from_outside = {name for name in client.info("commandstats") if name in {"cmdstat_evalsha", "cmdstat_eval"}}
    assert asked_from_outside == {"cmdstat_evalsha"}
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    await index.close()


async def test_a_server_that_has_forgotten_the_script_is_given_it_again(opened, client):
    index = opened()
    await add(index, make_head("a"))
    client.script_flush()
    assert (await index.view("scope", waiting=1)).waiting == (make_head("a"),)


@pytest.mark.parametrize("numbers", [b"", bytes(range(200))])
def test_not_one_flipped_bit_goes_unnoticed(numbers):
    value = RECORDS.pack(make_head("a", tags=("t",)), numbers)
    assert RECORDS.unpack(value).numbers == numbers
    assert RECORDS.unpack(value).head == make_head("a", tags=("t",))
    for bit in range(8 * len(value)):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        assert RECORDS.unpack(bytes(damaged)) is None
    for size in range(len(value)):
        assert RECORDS.unpack(value[:size]) is None


def test_what_is_whole_but_no_head_is_none():
    """As from a version whose heads are others."""
    key = hashlib.blake2b(b"secret", digest_size=32, person=b"sentinel vectors").digest()
    foreign = msgspec.msgpack.encode({"key": 1})
    stamp = hashlib.blake2b(foreign, digest_size=16, key=key).digest()
    proof = hashlib.blake2b(stamp, digest_size=8, key=key).digest()
    assert RECORDS.unpack(stamp + proof + b"\x00\x00" + foreign) is None
    own = msgspec.msgpack.encode(make_head("a"))
    stamp = hashlib.blake2b(own, digest_size=16, key=key).digest()
    proof = hashlib.blake2b(stamp, digest_size=8, key=key).digest()
    assert RECORDS.unpack(stamp + proof + b"\x00\x00" + own).head == make_head("a")


def test_a_value_that_others_have_written_is_none():
    stranger = Records(b"another", model=MODEL, dimension=DIMENSION)
    assert RECORDS.unpack(stranger.pack(make_head("a"), bytes(10))) is None


async def test_what_is_damaged_is_never_found_and_is_taken_away(opened, client):
    index = opened()
    await learn(index, make_head("a"), make_head("b"))
    await add(index, make_head("c"), make_head("d"))
    value = client.execute_command("VGETATTR", set_of(client), "a")
    client.execute_command("VSETATTR", set_of(client), "a", value[:-1] + bytes([value[-1] ^ 1]))
    (heads,) = client.keys("*:heads")
    client.hset(heads, "c", b"rubbish of some length, so that it looks like one")
    assert await keys(index, unit(0), limit=3) == ["b"]
    assert (await index.view("scope", waiting=8)).waiting == (make_head("d"),)
    await index.flush()
    assert client.execute_command("VCARD", set_of(client)) == 1
    assert client.hkeys(heads) == [b"d"]


async def test_a_value_that_stands_elsewhere_is_not_found(opened, client):
    """Neither in another scope, nor under another key: whatever was put where, scopes stay apart."""
    index = opened()
    await learn(index, make_head("a", "mine"), make_head("b", "yours"))
    value = client.execute_command("VGETATTR", set_of(client, "mine"), "a")
    vector = unit(0).astype("<f4").tobytes()
    client.execute_command("VADD", set_of(client, "yours"), "FP32", vector, "a", "Q8", "SETATTR", value)
    client.execute_command("VADD", set_of(client, "mine"), "FP32", vector, "other key", "Q8", "SETATTR", value)
    assert await keys(index, unit(0), "yours") == ["b"]
    assert await keys(index, unit(0), "mine") == ["a"]


@pytest.mark.parametrize("evicted", ["heads", "set"])
async def test_what_redis_evicts_leaves_nothing_behind(opened, client, evicted):
    """It evicts whole keys: places in a row without a head, times of expiry without a vector. Those must not block the way."""
    index = opened()
    await learn(index, *(make_head(f"{number}") for number in range(3)))
    await add(index, *(make_head(f"waits {number}") for number in range(12)))
    (key,) = client.keys(f"*:{evicted}")
    client.delete(key)
    await add(index, late := make_head("late"))
    for _ in range(4):
        await index.view("scope", waiting=8)
        await index.flush()
    if evicted == "heads":
        assert await index.view("scope", waiting=8) == ScopeView(3, (late,))
        assert client.zcard(client.keys("*:waiting")[0]) == 1
    else:
        assert (await index.view("scope", waiting=1)).vectors == 0
        assert await index.clear(Selector(tenant="nobody"), 0.0) == 0
        assert client.keys("*:ends") == []


async def test_an_element_without_a_value_is_none(opened, client):
    index = opened()
    await learn(index, make_head("a"))
    client.execute_command("VADD", set_of(client), "FP32", unit(5).astype("<f4").tobytes(), "stranger", "Q8")
    assert await keys(index, unit(5)) == ["a"]


@pytest.mark.parametrize("selector", [Selector(), Selector(tenant="t")])
async def test_clearing_leaves_what_is_not_ours(opened, client, selector):
    """Replies, metrics, other programs' data: Redis may be shared."""
    index = opened()
    foreign = {b"sentinel:cache:1:x": b"1", b"metrics:requests": b"2", b"vectors:heads": b"3"}
    client.mset(foreign)
    await learn(index, *(make_head(str(n), f"scope-{n}", tenant="t") for n in range(30)))
    await add(index, *(make_head(f"waits {n}", f"scope-{n}", tenant="t") for n in range(30)))
    assert await index.clear(selector, FakeClock().now) == 60
    assert {key: client.get(key) for key in client.scan_iter()} == foreign


class BusyLink(PatientLink):
    """Nothing is answered in the time that a request has."""

    async def call(self, work):
        raise StoreDown("late")

    async def call_patiently(self, work):
        return await super().call(work)


@pytest.mark.parametrize("selector", [Selector(), Selector(tenant="t")])
async def test_a_clear_takes_its_time_and_few_round_trips(opened, redis8, clock, selector):
    """No request waits for it: one late answer is no reason to give up, nor is each scope worth a question of its own."""
    index = opened()
    await learn(index, *(make_head(str(n), f"scope-{n}", tenant="t") for n in range(200)))
    await add(index, *(make_head(f"waits {n}", f"scope-{n}", tenant="t") for n in range(200)))
    link = BusyLink(redis8.url)
    late = open_redis(clock, link)
    told = [head.key async for page in late.questions(selector, clock.now) for head, _ in page]
    assert len(told) == 400
    assert link.calls < 60
    assert await late.clear(selector, clock.now) == 400
    assert link.calls < 150
    await late.close()


async def test_others_have_their_turn_during_a_clear(opened, redis8, clock):
    """It asks for a few questions at a time. How many searches fit between is the machine's affair; that some do is ours."""
    index, link = opened(), PatientLink(redis8.url)
    clearing_index = open_redis(clock, link)
    await learn(index, *(make_head(str(number)) for number in range(20000)))
    await learn(index, *(make_head(f"other-{number}", "other") for number in range(10)))
    searches = 0
    clearing = asyncio.create_task(clearing_index.clear(Selector(tag="none"), 0.0))
    while not clearing.done():
        assert await keys_now(index, unit(3), "other") == ["other-3"]
        searches += not clearing.done()
    assert await clearing == 0
    await clearing_index.close()
    assert link.calls > 20000 / 200, "a call holds the server for as long as it takes to read all that it asks for"
    assert searches > 2


async def keys_now(index, vector, scope):
    return [near.head.key for near in await index.nearest(scope, vector, limit=1)]


async def test_what_waits_to_be_sent_is_cleared_too(opened, clock):
    index = opened()
    index.add(make_head("a", tags=("t",)))
    index.add(make_head("b"))
    assert await index.clear(Selector(tag="t"), clock.now) == 1
    await index.flush()
    assert (await index.view("scope", waiting=8)).waiting == (make_head("b"),)


async def test_a_frozen_server_holds_nobody_up_and_nothing_is_lost(tmp_path, clock):
    """The fault happened: a look-up ran into its deadline. Then the server thaws, and what was added meanwhile is there."""
    with RedisServer(REDIS8, tmp_path) as server:
        limits = RedisLimits(call=0.5, connect=0.5, place=0.5, slow=0.5)  # no machine that is busy is a frozen server
        link = open_link(server.url, name="vectors", clock=time.monotonic, events=FakeEvents(), limits=limits)
        index = open_redis(clock, link)
        await index.view("scope", waiting=1)
        server.freeze()
        try:
            for number in range(100):
                index.add(make_head(str(number)))
            for _ in range(8):
                with pytest.raises(StoreDown):
                    await index.view("scope", waiting=1)
            assert not link.works
            assert await index.status() == {"vectors": "down"}
            with pytest.raises(StoreDown, match="left alone"):
                await index.nearest("scope", unit(1), limit=1)
        finally:
            server.thaw()
        await asyncio.wait_for(index.flush(), 60)
        assert len((await index.view("scope", waiting=200)).waiting) == 100
        assert await index.status() == {"vectors": "up"}
        await index.close()


async def test_vectors_of_another_length_are_not_compared(opened, client):
    """As a set that another version has left behind under the same name."""
    index = opened()
    await learn(index, make_head("a"))
    wrong = opened(Records(b"secret", model=MODEL, dimension=DIMENSION // 2))
    with pytest.raises(StoreDown, match="dimension"):
        await wrong.nearest("scope", np.ones(DIMENSION // 2, np.float32), limit=1)


async def test_it_tells_its_state(opened):
    index = opened()
    index.add(make_head("a"))
    assert "RedisIndex model" in repr(index)
    assert "1 steps to take" in repr(index)
