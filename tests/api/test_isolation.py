"""I2: fifty tenants ask the same and nearly the same, again and again, on every path; nobody is ever told what another was."""

import asyncio
import itertools
import json
import random
import re
import time
from typing import Any

import pytest

from tests.gateway import Sse, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

TENANTS = 50
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


async def ask_all(gateway: Any, keys: list[str], lookups: int) -> tuple[int, dict[bytes, int]]:
    """How many answers were another tenant's, and how often each tier answered.

    The mock marks its answer by all that it is sent, and it is sent who asks (`user`, which is no part of any key of ours): a
    mark that two tenants see has crossed.
    """
    ask, chance, outcomes = Ask(gateway.process), random.Random(1), dict[bytes, int]()
    owners: dict[str, int] = {}
    numbers, foreign = itertools.count(), 0

    async def worker() -> None:
        nonlocal foreign
        while (number := next(numbers)) < lookups:
            tenant = chance.randrange(len(keys))
            body, headers = asked(number, chance, TEXTS)
            raw = json.dumps(body | {"user": f"of-tenant-{tenant}"}).encode()
            status, answer, said = await ask(raw, [*headers, (b"authorization", f"Bearer {keys[tenant]}".encode())])
            assert status == 200, answer
            text = Sse.read(answer).text() if answer.startswith(b"data") else answer.decode()
            foreign += owners.setdefault(MARK.search(text)[1], tenant) != tenant
            outcomes[said.get(b"x-cache", b"")] = outcomes.get(said.get(b"x-cache", b""), 0) + 1

    await asyncio.gather(*(worker() for _ in range(32)))
    return foreign, outcomes


@pytest.mark.parametrize("lookups", RUNS)
async def test_nobody_is_told_what_another_tenant_was(chaos, tmp_path, lookups):
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        keys = [await gateway.key(tenant=f"tenant-{number}") for number in range(TENANTS)]
        foreign, outcomes = await ask_all(gateway, keys, lookups)
    print(f"{lookups} look-ups of {TENANTS} tenants: {foreign} foreign answers; {outcomes}")
    assert foreign == 0
    assert outcomes[b"exact"] > lookups / 4
    assert outcomes[b"semantic"] > 0
    assert outcomes[b"miss"] >= TENANTS


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
        foreign, _ = await ask_all(gateway, [await gateway.key(tenant=name) for name in tenants], 300)
    assert foreign > 100
