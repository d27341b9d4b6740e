"""Every page in a real Chromium: at three sizes, light and dark, by keyboard, without a script of anybody's, from one origin."""

import asyncio
import json
import re
import time

import pytest

from tests.dashboard.looking import SIZES, THEMES, looking
from tests.gateway import ADMIN_KEY, chat, one_provider, provider, running_gateway, until

pytestmark = pytest.mark.anyio

PAGES = {
    "overview": "/dashboard",
    "providers": "/dashboard/providers",
    "money": "/dashboard/money",
    "keys": "/dashboard/keys",
    "explain": "/dashboard/explain",
    "audit": "/dashboard/audit",
}
BRITTLE = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2", "CIRCUIT_BREAKER_TIMEOUT_SECS": "600"}


@pytest.fixture(scope="module")
async def busy(chaos, tmp_path_factory):
    """A gateway with something of everything: hits and misses, failures, an open circuit, two providers."""
    config = f"providers:\n{provider('mock', chaos.base_url)}{provider('spare', chaos.base_url)}"
    async with running_gateway(tmp_path_factory.mktemp("busy"), config=config, environ=BRITTLE, semantic=True) as gateway:
        for number in range(6):
            for _ in range(3):
                assert (
                    await gateway.ask(chat(f"What is the capital of country {number}?", model="mock/mock-model"))
                ).status == 200
        assert (await gateway.ask(chat("What is the capital of France?", model="mock/mock-small"))).status == 200
        assert (await gateway.ask(chat("Please tell me: what is the capital of France?", model="mock/mock-small"))).status == 200
        await gateway.ask(chat("A stream?", model="spare/mock-model", stream=True))
        chaos.script("err=503", times=2)
        for number in range(2):
            assert (await gateway.ask(chat(f"Fails {number}", model="spare/mock-large"))).status >= 500
        key = await gateway.key(name="mobile app", tenant="acme", models=["mock/*"], limits={"requests_per_minute": 60})
        answer = await gateway.ask(chat("With a key?", model="mock/mock-model"), authorization=f"Bearer {key}")
        assert answer.status == 200
        await told(gateway)
        yield gateway


async def told(gateway):
    """The ledger has it all: it comes there a second or two later."""
    for _ in range(600):
        answer = await gateway.get("/api/monitoring/requests?limit=1", headers=gateway.admin)
        if [one["tenant"] for one in answer.json["requests"]] == ["acme"]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the ledger is late")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PAGES)
async def test_a_page_at_every_size(chromium, busy, name, theme):
    async with looking(chromium, busy, theme=theme) as look:
        for size, (width, height) in SIZES.items():
            await look.page.set_viewport_size({"width": width, "height": height})
            await look.open(PAGES[name])
            await look.keep(f"{name}-{size}-{theme}")
            assert await look.overflows() <= 0, size
            assert await look.axe() == [], size
            if name == "overview":
                beyond = "t => t.scrollWidth - t.parentElement.clientWidth"
                assert await look.page.eval_on_selector(".feed", beyond) <= 0, f"{size}: what it cost is out of sight"
        assert look.foreign == []
        assert look.complaints == []


@pytest.mark.parametrize("theme", THEMES)
async def test_signing_in(chromium, busy, theme):
    async with looking(chromium, busy, theme=theme, size="phone", key=None) as look:
        await look.page.goto(f"{look.base_url}/dashboard/sign-in")
        await look.page.keyboard.type("wrong")
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_selector("[role=alert]")
        assert await look.axe() == []
        assert await look.overflows() <= 0
        await look.keep(f"sign-in-phone-{theme}")
        await look.page.keyboard.type(ADMIN_KEY)
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_selector("h1:text('Overview')")
        assert look.foreign == []


async def test_figures_move_while_one_looks(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.open("/dashboard")
        await look.page.wait_for_selector("#live.good")
        before = int(await look.page.inner_text("[data-text=total]"))
        assert (await busy.ask(chat("Does it move?", model="mock/mock-model"), **busy.admin)).status == 200
        await look.page.wait_for_selector(f"[data-text=total]:text-is('{before + 1}')")
        await look.page.wait_for_selector("tbody[data-rows=feed] tr:first-child td:has-text('mock-model')")
        assert look.complaints == []


async def test_without_streams_it_asks_every_five_seconds(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.page.add_init_script("delete window.EventSource")
        await look.open("/dashboard")
        await look.page.wait_for_selector("#live.warn:has-text('Every 5 s')")
        asked = []
        look.page.on("request", lambda request: asked.append(request.url) if "/dashboard/frame" in request.url else None)
        before, began = int(await look.page.inner_text("[data-text=total]")), time.monotonic()
        assert (await busy.ask(chat("Is it asked for?", model="mock/mock-model"), **busy.admin)).status == 200
        await look.page.wait_for_selector(f"[data-text=total]:text-is('{before + 1}')")
        assert 1 <= len(asked) <= 2 + (time.monotonic() - began) / 5


async def test_a_stream_that_something_keeps_back_is_done_without_until_it_comes(chromium, busy):
    held = []

    async def keep_back(route):
        held.append(route)

    async with looking(chromium, busy) as look:
        await look.page.route("**/dashboard/events?*", keep_back)
        await look.open("/dashboard")
        await look.page.wait_for_selector("#live.warn:has-text('Every 5 s')")
        before = int(await look.page.inner_text("[data-text=total]"))
        assert (await busy.ask(chat("Is it kept back?", model="mock/mock-model"), **busy.admin)).status == 200
        await look.page.wait_for_selector(f"[data-text=total]:text-is('{before + 1}')")
        assert len(held) == 1
        await held[0].continue_()
        await look.page.wait_for_selector("#live.good:has-text('Live')")


async def test_a_gateway_that_does_not_answer_in_time_is_told_of(chromium, busy):
    free = asyncio.Event()

    async def keep_back(route):
        await free.wait()
        await route.continue_()

    async with looking(chromium, busy) as look:
        await look.page.add_init_script("delete window.EventSource")
        await look.page.route("**/dashboard/frame?*", keep_back)
        await look.open("/dashboard")
        await look.page.wait_for_selector("#live.bad:has-text('The gateway does not answer')")
        free.set()
        await look.page.wait_for_selector("#live.warn:has-text('Every 5 s')")


async def test_what_nobody_sees_is_not_loaded_anew(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => Boolean(window.away)})")
        await look.page.clock.install()
        await look.open("/dashboard/providers")
        await look.page.evaluate("window.away = true")
        asked = []
        look.page.on("request", lambda request: asked.append(request.url))
        await look.page.clock.run_for(20_000)
        assert asked == []
        await look.page.evaluate("window.away = false")
        async with look.page.expect_request("**/dashboard/providers/now?*"):
            await look.page.clock.run_for(20_000)


async def test_the_first_minute(chromium, chaos, tmp_path):
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as fresh,
        looking(chromium, fresh, key=None) as look,
    ):
        await look.open("/dashboard")
        assert await look.axe() == []
        await look.keep("overview-empty-light")
        command = await look.page.inner_text("#first-request")
        assert command.startswith(f"curl {fresh.base_url}/v1/chat/completions")
        assert await look.page.is_visible("text=No request has come yet")
        await look.page.click("[data-copy=first-request]")
        await look.page.wait_for_selector("[data-copy=first-request]:text-matches('Copied|Chosen')")
        assert (await fresh.ask(chat("first"))).status == 200
        await look.page.wait_for_selector("text=No request has come yet", state="hidden")


async def test_a_chart_of_every_span(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.open("/dashboard")
        for span in ("hour", "week", "month", "quarter", "day"):
            await look.page.click(f"#span-{span}")
            await look.page.wait_for_selector(f"#span-{span}[aria-pressed=true]")
            await look.page.wait_for_selector("#savings canvas")
        assert await look.page.evaluate("document.activeElement.id") == "span-day", "whoever uses a keyboard is where they were"
        await look.page.click("#savings summary")
        assert await look.page.is_visible("#savings tbody tr")
        for most, marks in ((0.16, ["$0", "$0.05", "$0.10", "$0.15"]), (1600, ["$0", "$500", "$1,000", "$1,500"])):
            chart = {"at": [0, 900], "saved": [0, most], "spent": [0, 0]}
            await look.page.evaluate("told => document.querySelector('[data-chart]').dataset.chart = told", json.dumps(chart))
            await look.page.click("#theme")  # draws it anew
            assert await look.page.evaluate("document.querySelector('[data-chart]').plot.axes[1]._values") == marks
        assert look.complaints == []


async def test_a_part_that_fails_once_is_told_and_loaded_again(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.open("/dashboard")
        await look.page.wait_for_selector("#savings canvas")
        await look.page.route("**/dashboard/savings?*", lambda route: route.fulfill(status=503, body="<p>away</p>"))
        await look.page.click("#span-hour")
        await look.page.wait_for_selector("#savings [role=alert]:has-text('503')")
        async with look.page.expect_response("**/dashboard/savings?*"):
            await look.page.click("#span-week")
        assert await look.page.locator("#savings [role=alert]").count() == 1
        assert await look.page.is_visible("#savings canvas"), "what was there is there still"
        await look.page.unroute("**/dashboard/savings?*")
        await look.page.click("#span-week")
        await look.page.wait_for_selector("#span-week[aria-pressed=true]")
        assert await look.page.locator("#savings [role=alert]").count() == 0


async def test_an_open_circuit_is_closed_by_its_button(chromium, busy):
    async with looking(chromium, busy, size="phone") as look:
        await look.open("/dashboard/providers")
        row = look.page.locator("tr", has_text="spare/mock-large").filter(has=look.page.locator("button"))
        await row.locator("button").click()
        await look.page.wait_for_selector("text=Closed: spare/mock-large.")
        states = {one["target"]: one["state"] for one in (await busy.get("/admin/circuits", headers=busy.admin)).json["targets"]}
        assert states["spare/mock-large"] == "closed"
        told = (await busy.get("/admin/audit?limit=1", headers=busy.admin)).json["data"]
        assert (told[0]["action"], told[0]["object"]) == ("circuit.reset", "spare/mock-large")


async def test_all_of_it_by_keyboard(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.open("/dashboard")
        await look.page.keyboard.press("Tab")
        assert await look.page.evaluate("document.activeElement.className") == "skip"
        seen = []
        for _ in range(60):
            await look.page.keyboard.press("Tab")
            seen.append(
                await look.page.evaluate("(document.activeElement.id || document.activeElement.textContent.trim()).slice(0, 40)")
            )
        for reached in ("Providers", "theme", "Sign out", "span-hour", "Tiers", "Prices"):
            assert any(reached in one for one in seen), (reached, seen)
        await look.page.focus("#theme")
        await look.page.keyboard.press("Enter")
        assert await look.page.evaluate("document.documentElement.dataset.theme") == "light"
        await look.page.keyboard.press("Enter")
        await look.open("/dashboard/providers")
        assert await look.page.evaluate("document.documentElement.dataset.theme") == "dark", "it is remembered"


async def test_signed_out_elsewhere(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.open("/dashboard")
        await look.page.wait_for_selector("#live.good")
        busy.process.sessions._alive.clear()  # noqa: SLF001 - as if the gateway had started anew
        await look.page.wait_for_url(re.compile(r"/dashboard/sign-in\?to="))
        assert await look.page.is_visible("#key")


async def test_nobody_can_frame_it(chromium, busy):
    async with looking(chromium, busy) as look:
        await look.page.set_content(f'<iframe src="{look.base_url}/dashboard"></iframe>')
        frame = await (await look.page.query_selector("iframe")).content_frame()
        await until(lambda: any("frame-ancestors" in line or "X-Frame-Options" in line for line in look.complaints))
        assert await frame.evaluate("document.body ? document.body.innerText.includes('Requests') : false") is False
