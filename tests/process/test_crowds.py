"""Crowds: names that callers make up cost no memory and no series (D10), and who asks too much is nobody else's trouble (L4)."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.load import Clients, Message, Report, closed_loop, open_loop

pytestmark = pytest.mark.anyio

ADMIN = "an-admin-key-of-the-tests-that-is-long-enough"
AT_ONCE = 32
CHAT = "/v1/chat/completions"


def make_key(program, **fields: Any) -> str:
    made = program.request("POST", "/admin/keys", {"name": "crowd"} | fields, authorization=f"Bearer {ADMIN}")
    assert made.status == 201, made.body
    key: str = made.json["key"]
    return key


def chat(text: str, **fields: Any) -> bytes:
    return json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]} | fields).encode()


# --- D10: names that callers make up ---

WARM = 20_000
"""So many names fill all that is bounded: what is remembered of addresses, users and plans."""
SERIES = 2_000


@pytest.mark.parametrize(
    ("names", "growth"), [(4_000, None), pytest.param(100_000, 0.02, marks=pytest.mark.long)], ids=["some", "100,000"]
)
async def test_names_that_callers_make_up_cost_nothing(serve, names, growth):
    """Random paths, models, keys and users in turn."""
    program = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_CACHE__SEMANTIC__ENABLED="false", LOG_LEVEL="error")
    key = make_key(program, user_limits={"requests_per_minute": 1_000_000})
    chance = random.Random(names)
    seen: Counter[tuple[str, int]] = Counter()

    async with aiohttp.ClientSession(program.base_url, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def ask(kind: str, name: str) -> None:
            good = {"authorization": f"Bearer {key}", "cache-control": "no-store"}
            match kind:
                case "path":
                    asked = session.get(f"/v1/{name}", headers=good)
                case "model":
                    asked = session.post(CHAT, data=chat("hello", model=name), headers=good)
                case "key":
                    asked = session.post(CHAT, data=chat("hello"), headers={"authorization": f"Bearer sk-sn-{name}"})
                case _:
                    asked = session.post(CHAT, data=chat("hello", user=name), headers=good)
            async with asked as answer:
                await answer.read()
                seen[kind, answer.status] += 1

        async def crowd(count: int) -> None:
            turns = iter(range(count))

            async def one() -> None:
                for turn in turns:
                    await ask(("path", "model", "key", "user")[turn % 4], f"{chance.getrandbits(128):032x}")

            await asyncio.gather(*(one() for _ in range(AT_ONCE)))

        await crowd(WARM if growth else 1_000)
        before = resident(program)
        await crowd(names)
    after = resident(program)
    metrics = program.request("GET", "/metrics", authorization=f"Bearer {ADMIN}").body.decode()
    series = [line for line in metrics.splitlines() if line and not line.startswith("#")]
    print(f"{names} names: {len(series)} series; {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after; {dict(seen)}")
    assert {kind: {status for of, status in seen if of == kind} for kind in ("path", "model", "key", "user")} == {
        "path": {404},
        "model": {404},
        "key": {401, 429},
        "user": {200},
    }
    assert len(series) <= SERIES
    if growth:
        assert after <= before * (1 + growth)


def resident(program) -> int:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


# --- L4: the noisy neighbour ---

LIMIT = 3_000
"""Requests a minute of each tenant, so 50 a second."""
NOISE = {
    "asks too often": lambda number: chat(f"a question, {number % 50}"),
    "makes mistakes": lambda number: b'{"model": "demo", "messages": [], "number": %d}' % number,
}


@pytest.mark.long
@pytest.mark.parametrize("noise", NOISE)
async def test_a_noisy_neighbour_is_not_heard(serve, noise):
    """One tenant asks ten times as much as it may, another a tenth of it: nothing of the other's fails or takes longer."""
    program = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_CACHE__SEMANTIC__ENABLED="false", LOG_LEVEL="error")
    noisy, quiet = (make_key(program, tenant=name, limits={"requests_per_minute": LIMIT}) for name in ("noisy", "quiet"))
    url = f"{program.base_url}{CHAT}"
    own = Message(chat("my own question"), (("authorization", f"Bearer {quiet}"),))
    await closed_loop(url, lambda _: own, Clients(1), requests=2)

    async def a_tenth() -> Report:
        return await open_loop(url, lambda _: own, Clients(4), rate=LIMIT / 60 / 10, seconds=40)

    def shout(number: int) -> Message:
        return Message(NOISE[noise](number), (("authorization", f"Bearer {noisy}"),))

    alone = await a_tenth()
    shouting = asyncio.create_task(open_loop(url, shout, Clients(16), rate=LIMIT / 60 * 10, seconds=42))
    await asyncio.sleep(1)
    beside = await a_tenth()
    shouted = await shouting
    p99 = alone.latency.p99 * 1000, beside.latency.p99 * 1000
    print(
        f"{noise}: {shouted.requests} asked, {shouted.good} served; the other's p99 {p99[0]:.2f} ms alone, {p99[1]:.2f} ms beside"
    )
    assert shouted.requests > 10 * 20 * LIMIT / 60, "the neighbour was not noisy"
    assert shouted.good < shouted.requests / 3, "the neighbour was not limited"
    assert (alone.problems, beside.problems) == ({}, {})
    assert p99[1] <= 1.3 * p99[0]
