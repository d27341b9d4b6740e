"""What looking costs: 200 open dashboards take no more than a twentieth of a core, a long past holds no page up, nor does a slow
browser.
"""

import asyncio
import random
import time

import aiohttp
import pytest

from bench.dashboard import ENTRIES, PAGE_BAR, PAGES, ROWS, add_up, fill
from tests.dashboard.looking import looking
from tests.dashboard.test_screens import PAGES as WHOLE
from tests.dashboard.visitor import visiting
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = [pytest.mark.anyio, pytest.mark.long]

LOOKING = 200
SECONDS = 10
SLOWER = 6
"""How many times slower the browser is made."""
DRAWN = """
new Promise((done) => new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (one.name === "first-contentful-paint") done(one.startTime);
}).observe({ type: "paint", buffered: true }))
"""
USEFUL = 1000.0
"""Milliseconds until a page is drawn with what it has to say."""


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


@pytest.mark.parametrize("days", [7, 90])
async def test_a_million_rows_and_ten_thousand_entries_hold_no_page_up(chaos, tmp_path, days):
    """Neither a page nor a part of one, the first time that anybody asks for it. `python -m bench.dashboard` has the figures."""
    asked = fill(tmp_path / "data", ROWS, days)
    print(f"\n{ROWS:,} rows of {days} days, added up in {add_up(tmp_path / 'data'):.0f} s of CPU")
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as gateway,
        visiting(gateway) as visitor,
    ):
        await visitor.sign_in()
        for first in range(0, ENTRIES, 100):
            await asyncio.gather(*(gateway.ask(chat(f"What is the {n}th word?")) for n in range(first, first + 100)))
        found = {}
        for path in (*PAGES, f"/dashboard/explain?id={asked}"):
            began = time.process_time()
            assert (await visitor.look(path)).status == 200, path
            found[path] = 1000 * (time.process_time() - began)
            print(f"{found[path]:6.0f} ms of CPU  {path}")
        assert max(found.values()) < 2 * PAGE_BAR, "the gateway and who asks it are one process, and others have the machine"


async def test_every_page_is_useful_within_a_second_in_a_slow_browser(chromium, chaos, tmp_path):
    """All figures but those of charts and sums stand in the page itself, so they are there when it is drawn first."""
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as gateway,
        looking(chromium, gateway) as look,
    ):
        browser = await look.page.context.new_cdp_session(look.page)
        await browser.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        least = {}
        for path in WHOLE:
            took = []
            for _ in range(3):  # others have the machine as well
                await look.page.goto(look.base_url + path)
                took.append(await look.page.evaluate(DRAWN))
            least[path] = min(took)
            print(f"{least[path]:6.0f} ms  {path}")
    assert max(least.values()) < USEFUL
