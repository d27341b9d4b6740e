"""What is Redis' own in the tier that nodes share: its keys and their ends, its refusals, and what others keep beside ours."""

import random

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._redis_outbox import CALM_SECONDS, GRACE, QUEUE_ENTRIES, STALE
from sentinel_gateway.stores._redis_pages import HEAD_BYTES
from sentinel_gateway.stores._redis_values import VERSION, Values, head_end, read_head
from sentinel_gateway.stores.redis import SCANNED
from tests.contract.stores.conftest import NOW, SECRET, UNHURRIED, RedisReplies, make_entry, until
from tests.fakes import FakeClock
from tests.servers import REDIS8, RedisServer

pytestmark = pytest.mark.anyio

VALUES = Values(SECRET)


@pytest.fixture
def server(tmp_path):
    """One to be broken."""
    with RedisServer(REDIS8, tmp_path) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def clock():
    clock = FakeClock()
    clock.now = NOW
    return clock


@pytest.fixture
async def store(server, told, clock, anyio_backend):
    store = await RedisReplies.open(server.url, told, limits=UNHURRIED, clock=clock)
    yield store
    await store.close()


# --- values ---


@given(st.text(), st.binary(), st.text(), st.floats(allow_nan=False), st.integers(-(2**63), 2**64 - 1))
def test_what_is_packed_is_unpacked(key, body, text, created, tokens):
    entry = msgspec.structs.replace(make_entry("k", body=body, text=text, created=created, prompt_tokens=tokens), key=key)
    try:
        value = VALUES.pack(entry)
    except UnicodeEncodeError:
        assert any("\ud800" <= letter <= "\udfff" for letter in key + text)
    else:
        assert VALUES.unpack(value, key) == entry
        assert read_head(value[: head_end(value)]) == msgspec.structs.replace(entry.head(), text="")


def test_every_cut_and_every_flipped_bit_is_noticed():
    value = VALUES.pack(make_entry("k", tags=("a",), text="What?", scope="s"))
    chance = random.Random(0)
    assert VALUES.unpack(value, "k") is not None
    assert all(VALUES.unpack(value[:length], "k") is None for length in range(len(value)))
    assert VALUES.unpack(value + b"\x00", "k") is None
    for bit in chance.choices(range(8 * len(value)), k=10_000):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        assert VALUES.unpack(bytes(flipped), "k") is None
        read_head(bytes(flipped))  # whatever it makes of it, it doesn't fail


def test_another_version_key_or_secret_is_a_miss():
    entry = make_entry("k")
    value = VALUES.pack(entry)
    assert VALUES.unpack(b"\x02" + value[len(VERSION) :], "k") is None
    assert VALUES.unpack(value, "other") is None
    assert Values(b"another").unpack(value, "k") is None
    assert Values(b"another").owner != VALUES.owner


# --- keys ---


async def test_all_keys_are_below_one_prefix_and_end_by_themselves(store, client):
    store.put(make_entry("k", expires=NOW + 100))
    store.put(make_entry("long", expires=NOW + 5000))
    await store.flush()
    left = {name: client.pttl(name) / 1000 for name in client.scan_iter()}
    assert set(left) == {
        f"sentinel:cache:1:{VALUES.owner}:k".encode(),
        f"sentinel:cache:1:{VALUES.owner}:long".encode(),
        f"sentinel:cache:1-index:{VALUES.owner}".encode(),
    }
    ends = sorted(left.values())
    assert ends == pytest.approx([100 + GRACE, 5000 + GRACE, 5000 + GRACE], abs=30)


async def test_what_may_serve_when_it_has_expired_is_kept_for_longer(server, client, told, clock):
    store = await RedisReplies.open(server.url, told, limits=UNHURRIED, clock=clock, stale=1000.0)
    store.put(make_entry("k", expires=NOW + 100))
    await store.flush()
    left = [client.pttl(name) / 1000 for name in client.scan_iter()]
    await store.close()
    assert left == pytest.approx([1100 + GRACE] * 2, abs=30)


async def test_what_redis_has_forgotten_is_not_counted_and_leaves_the_index(store, client, clock):
    for n in range(STALE + 10):
        store.put(make_entry(f"old-{n}", expires=NOW + 1))
    store.put(make_entry("new", expires=NOW + 3600))
    await store.flush()
    assert await store.count() == STALE + 11
    clock.now += 2 + GRACE
    assert await store.count() == 1
    [index] = [name for name in client.scan_iter() if b"index" in name]
    for n in range(4):  # what a batch finds, the next removes
        store.put(make_entry("new", expires=NOW + 3600, prompt_tokens=n))
        await store.flush()
    assert client.zcard(index) == 1


async def test_an_entry_that_has_long_expired_is_not_there(store, client, clock):
    store.put(make_entry("k", expires=NOW - GRACE - 1))
    await store.flush()
    await until(lambda: not [name for name in client.scan_iter() if name.endswith(b":k")])
    assert await store.get("k") is None


async def test_an_emptied_redis_is_empty_and_goes_on(store, client, told):
    store.put(make_entry("k"))
    await store.flush()
    client.flushall()
    assert await store.get("k") is None
    assert await store.count() == 0
    store.put(make_entry("k"))
    await store.flush()
    assert await store.get("k") == make_entry("k")
    assert told.events == []


# --- clear ---


async def test_a_head_of_any_length_is_read(store):
    tags = tuple(f"tag-{n}-{'x' * 90}" for n in range(60))
    assert len(VALUES.pack(make_entry("k", tags=tags))) > 2 * HEAD_BYTES
    store.put(make_entry("long", tenant="t" * 1000, tags=tags))
    store.put(make_entry("short", tags=("tag",)))
    assert await store.clear(Selector(tag=tags[-1]), NOW) == 1
    assert await store.get("long") is None
    assert await store.get("short") is not None


async def test_a_value_that_is_none_is_cleared_with_whatever_is_cleared(store, client):
    for value in (b"", b"\x01", b"x" * 5000):
        client.set(f"sentinel:cache:1:{VALUES.owner}:{len(value)}", value)
    client.lpush(f"sentinel:cache:1:{VALUES.owner}:list", "a")
    assert await store.clear(Selector(tenant="somebody"), NOW) == 4
    assert list(client.scan_iter()) == []


async def test_nobody_waits_for_a_clear(store, client):
    """It is made of commands that take Redis a moment each: none goes through everything, and many are few keys each."""
    for start in range(0, 6000, 1000):
        for n in range(start, start + 1000):
            store.put(make_entry(f"{n:064x}", body=bytes(3000), tags=("odd",) if n % 2 else ()))
        await store.flush()
    client.config_resetstat()
    assert await store.clear(Selector(tag="odd"), NOW) == 3000
    assert await store.clear(Selector(), NOW) == 3000
    asked = {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in client.info("commandstats").items()}
    assert asked.keys() - {"config|resetstat", "client|setinfo", "hello", "info"} == {"scan", "getrange", "unlink", "zrem"}
    assert asked["scan"] > 6000 / SCANNED
    assert asked["getrange"] == asked["unlink"] == 6000
    assert list(client.scan_iter()) == []


async def test_what_others_keep_stays(store, client, server, told):
    theirs = await RedisReplies.open(server.url, told, limits=UNHURRIED, secret=b"another")
    theirs.put(make_entry("k"))
    await theirs.flush()
    client.set("sentinel:cache:mine", "1")
    store.put(make_entry("k"))
    assert await store.clear(Selector(), NOW) == 1
    assert client.get("sentinel:cache:mine") == b"1"
    assert await theirs.get("k") == make_entry("k")
    assert await theirs.count() == 1
    await theirs.close()


# --- refusals ---


@pytest.mark.parametrize(
    ("refuse", "allow", "reason"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OutOfMemoryError"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "ReadOnlyError"),
    ],
)
async def test_a_redis_that_takes_nothing_still_answers(store, client, told, refuse, allow, reason):
    store.put(make_entry("before"))
    await store.flush()
    client.execute_command(*refuse.split())
    for n in range(10):
        store.put(make_entry(f"refused-{n}"))
        await store.flush()
    assert not store.put(make_entry("refused")), "it may not be kept"
    await store.flush()
    assert await store.get("before") == make_entry("before")
    assert store.dropped == 11
    assert told.events == [("store_writes_failed", {"tier": "redis", "reason": reason})]
    client.execute_command(*allow.split())

    with anyio.fail_after(4 * CALM_SECONDS):
        while not store.put(make_entry("again")):  # noqa: ASYNC110 - what is waited for happens in Redis
            await anyio.sleep(0.1)
    await store.flush()
    assert told.names == ["store_writes_failed", "store_writes_resumed"]
    assert await store.get("again") == make_entry("again")


async def test_what_waits_is_bounded_and_told_once(store, server, told):
    server.freeze()
    taken = [store.put(make_entry(f"k{n}")) for n in range(QUEUE_ENTRIES + 500)]
    assert sum(taken) == QUEUE_ENTRIES
    assert not any(taken[QUEUE_ENTRIES:])
    assert store.dropped == 500
    assert told.names == ["store_queue_full"]
    server.thaw()
    await store.flush()
    assert await store.count() == QUEUE_ENTRIES
    big = [store.put(make_entry(f"big-{n}", body=bytes(1 << 20))) for n in range(40)]
    assert 25 < sum(big) < 40, "by bytes as well"


async def test_nothing_is_taken_for_a_redis_that_is_down(store, server):
    server.stop()
    with pytest.raises(StoreDown):
        await store.ping()
    await until(lambda: store.link.is_down)
    assert not store.put(make_entry("k"))
    assert store.dropped == 1
