"""What looking costs: 200 open dashboards take no more than a twentieth of a core, and a long past holds no page up."""

import asyncio
import random
import time

import aiohttp
import pytest

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ports.ledger import Handled, Intent, Settled, Spent
from tests.dashboard.visitor import visiting
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = [pytest.mark.anyio, pytest.mark.long]

LOOKING = 200
SECONDS = 10
ROWS = 1_000_000
PAGES = ("/dashboard", "/dashboard/providers", "/dashboard/money", "/dashboard/keys", "/dashboard/explain")


async def cpu_of_a_second(gateway) -> float:
    """CPU seconds of this process, in which the gateway and its callers are, for each second, at 20 requests a second."""
    start, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < SECONDS:
        await gateway.ask(chat(f"{random.random()}"))
        await asyncio.sleep(0.05)
    return (time.process_time() - start) / (time.monotonic() - began)


async def test_two_hundred_who_look_cost_the_path_less_than_a_twentieth_of_a_core(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as gateway:
        await cpu_of_a_second(gateway)
        alone = await cpu_of_a_second(gateway)
        frames = [0]

        async def look(session: aiohttp.ClientSession) -> None:
            async with session.get("/dashboard/events?page=overview") as answer:
                async for line in answer.content:
                    frames[0] += line.startswith(b"data: {")

        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(gateway.base_url, connector=connector) as session:
            looking = [asyncio.create_task(look(session)) for _ in range(LOOKING)]
            await until(lambda: frames[0] >= LOOKING)
            before = frames[0]
            crowded = await cpu_of_a_second(gateway)
            sent = (frames[0] - before) / SECONDS
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
        print(f"\nCPU of a second: {alone:.3f} alone, {crowded:.3f} with {LOOKING} dashboards; {sent:.0f} frames")
        assert sent > LOOKING / 4, "they were sent what is new"
        assert crowded - alone < 0.1, "both ends are in this process: half of it is the browsers'"


async def test_a_million_rows_hold_no_page_up(chaos, tmp_path):
    (tmp_path / "data").mkdir()
    database = make_database(tmp_path / "data", None)
    now, chance = time.time(), random.Random(1)
    for batch in range(ROWS // 2 // 10_000):
        rows = []
        for number in range(10_000):
            id_, at = f"{batch * 10_000 + number:032x}", int((now - 86_400 * 7 * chance.random()) * 1e6)
            who = "acme", f"key_{number % 50:016x}", "/v1/chat/completions"
            rows.append(Handled(id_, at, *who, 200, "miss", "", "mock/m", "mock", "m", attempts=1, duration=900_000))
            rows.append(
                Settled(Intent(id_, 1, at, *who, "mock/m", "mock", "m"), "answered", Spent(9, 0, 0, 9, 0, 900), duration=9)
            )
        database.copy(rows)
    database.close()
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as gateway,
        visiting(gateway) as visitor,
    ):
        await visitor.sign_in()
        for path in PAGES:
            await visitor.look(path)
            began = time.monotonic()
            seen = await visitor.look(path)
            took = time.monotonic() - began
            print(f"{path}: {1000 * took:.0f} ms")
            assert seen.status == 200
            assert took < 0.3, path
        for path in ("/dashboard/savings?span=week", "/dashboard/money/shares?by=key&days=30"):
            for attempt in ("first", "second"):
                began = time.monotonic()
                assert (await visitor.look(path)).status == 200
                print(f"{path}, {attempt}: {1000 * (time.monotonic() - began):.0f} ms")
