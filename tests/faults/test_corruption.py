"""C8: what Redis holds may be damaged, exchanged or made up: it is a miss, is counted, and goes away."""

import random
import time
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.caching import Entry
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.stores.redis import RedisStore
from tests.contract.stores.conftest import NOW, Told, make_entry, until
from tests.faults.proxy import Fault

pytestmark = pytest.mark.anyio

FLIPS = 10_000
SECRET = b"the same on all nodes, by chance"
PATIENT = RedisLimits(call=5.0, connect=5.0, place=5.0, slow=5.0, pause=0.1)
"""A machine that is busy meanwhile is no Redis that is slow."""
IMPATIENT = replace(PATIENT, slow=0.02)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def store(redis, told, anyio_backend) -> AsyncIterator[RedisStore]:
    link = open_link(redis.url, name="test", clock=time.monotonic, events=told, limits=PATIENT)
    await link.check()
    store = RedisStore(link, secret=SECRET, clock=lambda: NOW, on_event=told)
    yield store
    await store.close()
    await link.close()


async def fill(store: RedisStore, count: int) -> list[Entry]:
    entries = [make_entry(f"key-{number}", text=f"Question {number}?", scope="s") for number in range(count)]
    for number, entry in enumerate(entries):
        assert store.put(entry)
        if number % 1000 == 999:  # fewer than the queue takes
            await store.flush()
    await store.flush()
    return entries


def values_of(client) -> dict[bytes, bytes]:
    names = [name for name in client.scan_iter(match="sentinel:cache:*", count=1000) if client.type(name) == b"string"]
    return dict(zip(names, client.mget(names), strict=True))


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def test_no_value_with_a_flipped_bit_is_served(store, redis, told):
    entries = await fill(store, FLIPS)
    chance = random.Random(8)
    with redis.client() as client:
        values = values_of(client)
        assert len(values) == FLIPS
        client.mset({name: flipped(value, chance.randrange(8 * len(value))) for name, value in values.items()})
        served = [entry.key for entry in entries if await store.get(entry.key) is not None]
        await until(lambda: values_of(client) == {})
    assert served == []
    assert store.corrupt == FLIPS
    assert told.names == ["store_entry_corrupt"], "one line is enough"


async def test_nor_is_one_that_stands_under_another_key(store, redis):
    entries = await fill(store, 100)
    with redis.client() as client:
        values = values_of(client)
        client.mset(dict(zip(values, [*list(values.values())[1:], next(iter(values.values()))], strict=True)))
    assert [entry.key for entry in entries if await store.get(entry.key) is not None] == []
    assert store.corrupt == 100


@pytest.mark.parametrize(
    "made_up",
    [b"", b"\x01", b"\x80\x04\x95.", b'{"key": "key-0"}', b"\xff" * 1000, bytes(1 << 20)],
    ids=["empty", "a version", "a pickle", "JSON", "all ones", "a MiB of zeros"],
)
async def test_nor_is_what_somebody_made_up(store, redis, made_up):
    await fill(store, 1)
    with redis.client() as client:
        [name] = values_of(client)
        client.set(name, made_up)
        assert await store.get("key-0") is None
        assert store.corrupt == 1
        await until(lambda: not client.exists(name))


async def test_nor_is_what_a_gateway_with_another_secret_wrote(store, redis, told):
    await fill(store, 1)
    link = open_link(redis.url, name="other", clock=time.monotonic, events=told, limits=PATIENT)
    other = RedisStore(link, secret=b"another secret, drawn by chance!", clock=lambda: NOW, on_event=told)
    try:
        assert await other.get("key-0") is None
    finally:
        await other.close()
        await link.close()
    assert await store.get("key-0") is not None


async def test_another_kind_of_value_is_a_miss(store, redis):
    await fill(store, 1)
    with redis.client() as client:
        [name] = values_of(client)
        client.delete(name)
        client.rpush(name, "a", "b")
        assert await store.get("key-0") is None
        await until(lambda: not client.exists(name))


async def test_damage_met_just_when_redis_is_left_alone_holds_up_nobody(store, redis, proxy, told):
    """The answer that shows it is the one by which Redis is found too slow: nothing can be removed any more."""
    entries = await fill(store, 100)
    with redis.client() as client:
        client.mset(dict.fromkeys(values_of(client), b"damaged"))
    link = open_link(f"redis://127.0.0.1:{proxy.port}", name="slow", clock=time.monotonic, events=told, limits=IMPATIENT)
    slow = RedisStore(link, secret=SECRET, clock=lambda: NOW, on_event=told)
    try:
        assert await slow.get("nobody's") is None
        proxy.answers.fault = Fault(delay=0.06)
        damaged = iter(entries)
        while link.works:
            assert await slow.get(next(damaged).key) is None
        await until(lambda: link.is_down)
        await slow.flush()
        with pytest.raises(StoreDown):
            await slow.get("key-0")
    finally:
        proxy.heal()
        await slow.close()
        await link.close()


async def test_damage_met_at_the_very_end_does_not_hold_up_the_end(redis, told):
    link = open_link(redis.url, name="test", clock=time.monotonic, events=told, limits=PATIENT)
    store = RedisStore(link, secret=SECRET, clock=lambda: NOW, on_event=told)
    await fill(store, 1)
    with redis.client() as client:
        client.mset(dict.fromkeys(values_of(client), b"damaged"))
    assert await store.get("key-0") is None
    await store.close()
    await link.close()
