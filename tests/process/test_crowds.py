"""Crowds: names that callers make up cost no memory and no series (D10), and who asks too much is nobody else's trouble (L4)."""

import asyncio
import json
import random
from collections import Counter
from typing import Any

import aiohttp
import pytest

from bench.flood import Crowd, flood
from bench.load import Clients, Message, closed_loop, summarise

pytestmark = pytest.mark.anyio

ADMIN = "an-admin-key-of-the-tests-that-is-long-enough"
AT_ONCE = 8
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
UNSURE, AGAIN = 503, 500
"""After its machine stood still, a node does not know for a moment who has a key, and says that one should ask again."""


def made_up(kind: str, name: str, key: str) -> tuple[str, bytes | None, str]:
    """Path, body and key of a request of which one thing has this name."""
    match kind:
        case "path":
            return f"/v1/{name}", None, key
        case "model":
            return CHAT, chat("hello", model=name), key
        case "key":
            return CHAT, chat("hello"), f"sk-sn-{name}"
        case _:
            return CHAT, chat("hello", user=name), key


@pytest.mark.parametrize(
    ("names", "growth"), [(4_000, None), pytest.param(100_000, 0.02, marks=pytest.mark.long)], ids=["some", "100,000"]
)
async def test_names_that_callers_make_up_cost_nothing(serve, names, growth):
    """Random paths, models, keys and users in turn."""
    program = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_CACHE__SEMANTIC__ENABLED="false", LOG_LEVEL="error")
    key = make_key(program, user_limits={"requests_per_minute": 1_000_000})
    chance = random.Random(names)
    seen: Counter[tuple[str, int]] = Counter()
    again = iter(range(AGAIN))

    async with aiohttp.ClientSession(program.base_url, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def ask(kind: str, name: str) -> None:
            path, body, bearer = made_up(kind, name, key)
            headers = {"authorization": f"Bearer {bearer}", "cache-control": "no-store"}
            async with session.request("POST" if body else "GET", path, data=body, headers=headers) as answer:
                await answer.read()
            if answer.status == UNSURE and next(again, None) is not None:
                await asyncio.sleep(0.1)
                await ask(kind, name)
            else:
                seen[kind, answer.status] += 1

        async def crowd(count: int) -> None:
            turns = iter(range(count))

            async def one() -> None:
                for turn in turns:
                    await ask(("path", "model", "key", "user")[turn % 4], f"{chance.getrandbits(128):032x}")

            await asyncio.gather(*(one() for _ in range(AT_ONCE)))

        await crowd(WARM if growth else 1_000)
        before = program.resident()
        await crowd(names)
    after = program.resident()
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


# --- L4: the noisy neighbour ---

LIMIT = 3_000
"""Requests a minute of each tenant, so 50 a second."""
NOISE = {
    "asks too often": lambda number: chat(f"a question, {number % 50}"),
    "makes mistakes": lambda number: b'{"model": "demo", "messages": [], "number": %d}' % number,
}


OWN = LIMIT / 60 / 10
ROUNDS = 3
SECONDS = 13
"""Of each half of a round: alone, then beside the noise."""


@pytest.mark.long
@pytest.mark.parametrize("noise", NOISE)
async def test_a_noisy_neighbour_is_not_heard(serve, noise):
    """One tenant asks ten times as much as it may, another a tenth of it: nothing of the other's fails or takes longer.

    When an answer was there is asked of the kernel: who sends both would otherwise hear the noise itself.
    """
    program = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_CACHE__SEMANTIC__ENABLED="false", LOG_LEVEL="error")
    noisy, quiet = (make_key(program, tenant=name, limits={"requests_per_minute": LIMIT}) for name in ("noisy", "quiet"))
    url = f"{program.base_url}{CHAT}"
    own = Message(chat("my own question"), (("authorization", f"Bearer {quiet}"),))
    await closed_loop(url, lambda _: own, Clients(1), requests=2)
    times = round(LIMIT / 60 * 10 / OWN)

    def shout(number: int) -> Message:
        return own if number % times == 0 else Message(NOISE[noise](number), (("authorization", f"Bearer {noisy}"),))

    alone, beside, shouted = [], [], []
    for _ in range(ROUNDS):
        alone += (await asyncio.to_thread(flood, url, lambda _: own, [(OWN, SECONDS)], Crowd(4))).done
        loud = (await asyncio.to_thread(flood, url, shout, [(OWN * times, SECONDS)], Crowd(64))).done
        beside += [done for done in loud if done[0].number % times == 0]
        shouted += [done for done in loud if done[0].number % times]
    whole = ROUNDS * SECONDS
    told = {"alone": summarise(alone, whole), "beside": summarise(beside, whole), "shouted": summarise(shouted, whole)}
    p99 = [told[name].latency.p99 * 1000 for name in ("alone", "beside")]
    served = told["shouted"].good
    print(f"{noise}: {len(shouted)} asked, {served} served; the other's p99 {p99[0]:.2f} ms alone, {p99[1]:.2f} beside")
    assert len(shouted) > 0.9 * whole * 10 * LIMIT / 60, "the neighbour was not noisy"
    assert served < len(shouted) / 3, "the neighbour was not limited"
    assert (told["alone"].problems, told["beside"].problems) == ({}, {})
    assert p99[1] <= 1.3 * p99[0]
