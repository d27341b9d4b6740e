"""U5: what another version left in Redis is never taken for ours, whether its names or its values differ."""

import random

import pytest

from bench.chaos import ChaosUpstream
from sentinel_gateway.stores import redis, redis_flights, redis_limits
from sentinel_gateway.vectors import _redis_calls
from tests.gateway import chat, one_provider, running_gateway
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"
PREFIXES = (redis.PREFIX, redis_limits.PREFIX, redis_limits.NODES, redis_flights.PREFIX, _redis_calls.PREFIX)
QUESTIONS = ("What is the capital of France?", "Please tell me: what is the capital of France?")


def test_every_name_has_its_version():
    assert all(prefix.rpartition(":")[2].isdigit() for prefix in PREFIXES)


@pytest.fixture(scope="module")
async def upstream(anyio_backend):
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def node(redis8, tmp_path_factory, upstream):
    """node() is a running gateway that shares the Redis, with limits and reworded questions."""

    def node():
        variables = {"REDIS_URL": redis8.url, "SENTINEL_SECRET": SECRET, "SENTINEL_REPLICAS": "2"} | PATIENT
        config = one_provider(upstream.base_url) + "limits: {requests_per_minute: 1000}\n"
        return running_gateway(tmp_path_factory.mktemp("node"), config=config, environ=variables, semantic=True)

    return node


@pytest.fixture(scope="module")
async def ours(node, redis8) -> dict[bytes, bytes]:
    """What a gateway leaves in Redis, by name, as DUMP has it."""
    redis8.flush()
    async with node() as gateway:
        for question in QUESTIONS:
            assert (await gateway.ask(chat(question))).status == 200
        assert (await gateway.ask_in_time(chat("And another?")))[1].cache == "miss"
    with redis8.client() as client:
        return {name: client.dump(name) for name in client.scan_iter("sentinel:*")}


def restore(redis8, values: dict[bytes, bytes]) -> None:
    redis8.flush()
    with redis8.client() as client:
        for name, value in values.items():
            client.restore(name, 0, value)


async def outcome(node) -> str:
    """How another node answers what was asked before; whatever it finds, the answer is right."""
    async with node() as gateway:
        answer = await gateway.ask(chat(QUESTIONS[0]))
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"].endswith(f" to: {QUESTIONS[0]}")
    return answer.cache


async def test_what_this_version_left_is_a_hit(node, redis8, ours):
    """Else the tests below would show nothing."""
    restore(redis8, ours)
    assert await outcome(node) == "exact"


@pytest.mark.parametrize("version", [b"0", b"2"])
async def test_names_of_another_version_are_passed_over_and_left(node, redis8, ours, version):
    theirs = {}
    for name, value in ours.items():
        for prefix in map(str.encode, PREFIXES):
            if name.startswith(prefix):
                theirs[prefix.rpartition(b":")[0] + b":" + version + name.removeprefix(prefix)] = value
    assert len(theirs) > 3
    restore(redis8, theirs)
    assert await outcome(node) == "miss"
    with redis8.client() as client:
        assert {name: client.dump(name) for name in theirs} == theirs


@pytest.mark.parametrize("first", [b"\x00", b"\x02"])
async def test_values_of_another_version_under_our_names_are_misses(node, redis8, ours, first):
    restore(redis8, ours)
    changed = 0
    with redis8.client() as client:
        for name in list(client.scan_iter(f"{redis.PREFIX}:*")):
            if client.type(name) == b"string":
                client.set(name, first + client.get(name)[1:])
                changed += 1
    assert changed
    assert await outcome(node) == "miss"


async def test_values_of_any_other_kind_are_misses_and_harm_nothing(node, redis8, ours):
    """A later version may keep lists where we keep strings."""
    redis8.flush()
    chance = random.Random(5)
    with redis8.client() as client:
        for name in ours:
            kind = chance.randrange(3)
            if kind == 0:
                client.rpush(name, b"x")
            elif kind == 1:
                client.set(name, b"another version's")
            else:
                client.hset(name, b"a", b"b")
    assert await outcome(node) == "miss"
