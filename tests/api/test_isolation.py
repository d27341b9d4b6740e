"""I2: fifty tenants ask the same and nearly the same, again and again, on every path; nobody is ever told what another was."""

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.gateway import DEADLINE, Gateway, Sse, chat, one_provider, running_gateway
from tests.servers import PATIENT, RedisServer

pytestmark = pytest.mark.anyio

TENANTS = 50
NAMES = [f"tenant-{number}" for number in range(TENANTS)]
SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"
PROBES = 20_000
TEXTS = ["What is our secret word?", "What's our secret word?", "Please tell me: what is our secret word?", "Which word is ours?"]
MARK = re.compile(r"mock answer (\w+) to")
RUNS = [pytest.param(3_000, id="some"), pytest.param(1_000_000, id="a million", marks=pytest.mark.long)]


class Ask:
    """Requests straight to the gateway's app, without a socket: a million of them in minutes."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes, dict[bytes, bytes]]:
        sent: list[Any] = []
        received = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            message = next(received, None)
            if message is None:
                await asyncio.Event().wait()
            return message

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), *headers],
            "client": ("127.0.0.1", 1),
        }
        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent), dict(sent[0]["headers"])


def asked(number: int, chance: random.Random, texts: list[str]) -> tuple[dict[str, Any], list[tuple[bytes, bytes]]]:
    """One of all that a tenant may send: reworded, streamed, in a namespace, under an idempotency key that others use too."""
    more: dict[str, Any] = {"stream": True} if number % 7 == 0 else {}
    headers = [(b"x-cache-namespace", b"shared")] if number % 5 == 0 else []
    if number % 11 == 0:
        headers.append((b"idempotency-key", b"everybody-%d" % (number % 3)))
        return chat(texts[0], seed=number % 3), headers
    if number % 13 == 0:
        headers.append((b"x-similarity-threshold", b"0.7"))
    return chat(chance.choice(texts), **more), headers


class Node(NamedTuple):
    """A gateway, and the keys that the tenants have there."""

    ask: Ask
    keys: list[str]


async def with_keys(gateway: Gateway, tenants: list[str]) -> Node:
    return Node(Ask(gateway.process), [await gateway.key(tenant=name) for name in tenants])


async def ask_all(nodes: Sequence[Node], lookups: int) -> tuple[int, Counter[str]]:
    """How many answers were another tenant's, and how often each outcome and each tier was told.

    The mock marks its answer by all that it is sent, and it is sent who asks (`user`, which is no part of any key of ours): a
    mark that two tenants see has crossed.
    """
    chance, outcomes = random.Random(1), Counter[str]()
    owners: dict[str, int] = {}
    numbers, foreign = itertools.count(), 0

    async def worker() -> None:
        nonlocal foreign
        while (number := next(numbers)) < lookups:
            ask, keys = chance.choice(nodes)
            tenant = chance.randrange(len(keys))
            body, headers = asked(number, chance, TEXTS)
            raw = json.dumps(body | {"user": f"of-tenant-{tenant}"}).encode()
            status, answer, said = await ask(raw, [*headers, (b"authorization", f"Bearer {keys[tenant]}".encode())])
            assert status == 200, answer
            text = Sse.read(answer).text() if answer.startswith(b"data") else answer.decode()
            foreign += owners.setdefault(MARK.search(text)[1], tenant) != tenant
            outcomes[said.get(b"x-cache", b"").decode()] += 1
            tier, _, state = said.get(b"cache-status", b"").decode().partition(";")
            outcomes[tier] += state.startswith("hit")

    await asyncio.gather(*(worker() for _ in range(32)))
    return foreign, outcomes


@pytest.mark.parametrize("lookups", RUNS)
async def test_nobody_is_told_what_another_tenant_was(chaos, tmp_path, lookups):
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        foreign, outcomes = await ask_all([await with_keys(gateway, NAMES)], lookups)
    print(f"{lookups} look-ups of {TENANTS} tenants: {foreign} foreign answers; {dict(outcomes)}")
    assert foreign == 0
    assert outcomes["exact"] > lookups / 4
    assert outcomes["semantic"] > 0
    assert outcomes["miss"] >= TENANTS


@asynccontextmanager
async def two_nodes(folder: Path, redis: RedisServer, config: str) -> AsyncIterator[list[Gateway]]:
    """With one Redis, and little memory of their own."""
    environ = {"REDIS_URL": redis.url, "SENTINEL_SECRET": SECRET, "MEMORY_CACHE_SIZE": "20"} | PATIENT
    for name in ("one", "two"):
        (folder / name).mkdir()
    async with (
        running_gateway(folder / "one", config=config, environ=environ, semantic=True) as one,
        running_gateway(folder / "two", config=config, environ=environ, semantic=True, alone=False) as two,
    ):
        yield [one, two]


@pytest.mark.parametrize("lookups", RUNS)
async def test_nor_on_two_nodes_that_share_a_redis(chaos, tmp_path, redis8, lookups):
    redis8.flush()
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with two_nodes(tmp_path, redis8, config) as nodes:
        foreign, outcomes = await ask_all([await with_keys(node, NAMES) for node in nodes], lookups)
        for node in nodes:
            health = await node.request("GET", "/health", headers=node.admin)
            assert health.json["services"]["vectors"] == {"status": "up"}
    print(f"{lookups} look-ups of {TENANTS} tenants at two nodes: {foreign} foreign answers; {dict(outcomes)}")
    assert foreign == 0
    assert outcomes["sentinel-redis"] > lookups / 4
    assert outcomes["semantic"] > 0
    assert outcomes["miss"] >= TENANTS


LIKE_OTHERS = [
    "a",
    "a:b",
    "a:",
    ":a",
    "*",
    "a*",
    "?",
    "[a]",
    "{a}",
    "{a}b",
    "a}",
    "A",
    "\u0430",
    "ä",
    "a\u0308",
    "a" * 1023,
    "a" * 1024,
]
"""Names of tenants that a store could take for one another, or for a pattern, or for a cluster's hash tag."""


async def test_names_that_look_like_others_are_others(chaos, tmp_path, redis_cluster):
    """I3: each is answered from its own only, and clearing one takes nothing from another."""
    redis_cluster.flush()
    environ = {"REDIS_URL": redis_cluster.url, "MEMORY_CACHE_SIZE": "1"} | PATIENT
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
        keys = {name: await gateway.key(tenant=name) for name in LIKE_OTHERS}

        async def outcome(name: str) -> str:
            """What is only looked for is not stored. Asked again where Redis was late."""
            for _ in range(50):
                wish = {"authorization": f"Bearer {keys[name]}", "cache_control": "no-store"}
                said = await gateway.ask(chat("Whose are you?"), **wish)
                if "tier-down" not in said.headers["cache-status"]:
                    return said.cache
            raise AssertionError("Redis is always late")

        async def outcomes() -> dict[str, str]:
            return {name: await outcome(name) for name in keys}

        async def store(name: str) -> None:
            """Asked again: an answer that was under way when something was cleared is not kept."""
            async with asyncio.timeout(DEADLINE):
                while await outcome(name) == "miss":
                    await gateway.ask(chat("Whose are you?"), authorization=f"Bearer {keys[name]}")
                    await asyncio.sleep(0.02)

        for number, name in enumerate(LIKE_OTHERS):
            others = dict.fromkeys(LIKE_OTHERS[:number], "exact") | dict.fromkeys(LIKE_OTHERS[number:], "miss")
            assert await outcomes() == others, name
            await store(name)
        for name in LIKE_OTHERS:
            cleared = await gateway.request("POST", "/admin/cache/clear", json={"tenant": name}, headers=gateway.admin)
            assert cleared.json["cleared"] == 1, name
            assert await outcomes() == dict.fromkeys(LIKE_OTHERS, "exact") | {name: "miss"}, name
            await store(name)


@pytest.mark.long
async def test_time_does_not_tell_what_another_tenant_asked(chaos, tmp_path):
    """I5: one tenant has asked every second question; how long they take tells another nothing. Its own hits, much."""
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        keys = {tenant: await gateway.key(tenant=tenant) for tenant in ("asker", "prober")}
        ask = Ask(gateway.process)

        async def take(tenant: str, number: int) -> float:
            headers = [(b"authorization", f"Bearer {keys[tenant]}".encode())]
            start = time.perf_counter()
            status, _, _ = await ask(json.dumps(chat(f"Probe {number:06}?", model="demo")).encode(), headers)
            assert status == 200
            return time.perf_counter() - start

        seen, unseen, own = [], [], []
        for number in range(0, 2 * PROBES, 2):
            await take("asker", number)
            for probe in (number, number + 1) if number % 4 else (number + 1, number):
                (unseen if probe % 2 else seen).append(await take("prober", probe))
            own.append(await take("prober", number))
    told, own_told = auc(seen, unseen), auc(own, unseen)
    print(f"{PROBES} probes each: AUC {told:.4f} for what another tenant asked, {own_told:.4f} for what it asked itself")
    assert abs(told - 0.5) <= 0.02
    assert abs(own_told - 0.5) > 0.3, "a classifier that sees nothing shows nothing"


def auc(ones: list[float], others: list[float]) -> float:
    """The chance that one of the first is larger than one of the others."""
    ranked = sorted([(value, 1) for value in ones] + [(value, 0) for value in others])
    ranks = sum(rank for rank, (_, is_one) in enumerate(ranked, 1) if is_one)
    return (ranks - len(ones) * (len(ones) + 1) / 2) / (len(ones) * len(others))


async def test_the_test_sees_what_crosses(chaos, tmp_path):
    """Tenants of one cache group do answer each other's requests."""
    tenants = [f"tenant-{number}" for number in range(5)]
    groups = "".join(f"  {name}: {{cache_group: all}}\n" for name in tenants)
    config = f"{one_provider(chaos.base_url)}tenants:\n{groups}"
    async with running_gateway(tmp_path, config=config) as gateway:
        foreign, _ = await ask_all([await with_keys(gateway, tenants)], 300)
    assert foreign > 100
