"""The pages Config and Alerts in Chromium: reloads looked at and done, drafts tried, channels tested, rules silenced."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.alerts.sinks import SECRET, http_sink
from tests.dashboard.looking import SIZES, THEMES, looking
from tests.dashboard.visitor import visiting
from tests.gateway import ADMIN_KEY, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

BRITTLE = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2", "CIRCUIT_BREAKER_TIMEOUT_SECS": "600", "MEMORY_CACHE_SIZE": "500"}
POISON = "<img src=x onerror=alert(1)> <script>alert(2)</script>"


def config(chaos, sink, *, more: str = "") -> str:
    places = {"ops": f"{sink.url}/h00k-path", "lost": "http://127.0.0.1:9/"}
    hooks = ", ".join(f"{name}: {{webhook: '{url}', secret: '{SECRET}'}}" for name, url in places.items())
    alerts = f"alerts: {{every: 1, group: 0, channels: {{{hooks}}}}}\n"
    return f"{one_provider(chaos.base_url)}{alerts}cache: {{ttl: 600}}\n{more}"


@pytest.fixture(scope="module")
async def sink(anyio_backend):
    async with http_sink() as sink:
        yield sink


@pytest.fixture(scope="module")
async def desk(chaos, sink, tmp_path_factory):
    """A gateway with an open circuit, which one channel was told of and another could not be."""
    folder = tmp_path_factory.mktemp("desk")
    async with running_gateway(folder, config=config(chaos, sink), environ=BRITTLE, alone=False) as gateway:
        chaos.script("err=503", times=2)
        for number in range(2):
            assert (await gateway.ask(chat(f"fails {number}"))).status >= 500
        for _ in range(600):
            kinds = {one["kind"] for one in await history(gateway)}
            if {"firing", "delivered"} <= kinds:
                break
            await asyncio.sleep(0.1)
        assert {"firing", "delivered"} <= kinds
        yield gateway


async def history(gateway):
    return (await gateway.get("/admin/alerts/history?limit=200", headers=gateway.admin)).json["data"]


async def actions(gateway, most=1):
    told = (await gateway.get(f"/admin/audit?limit={most}", headers=gateway.admin)).json["data"]
    return [(one["action"], one["object"]) for one in told]


@pytest.mark.parametrize("theme", THEMES)
async def test_the_pages_at_every_size(chromium, desk, chaos, sink, theme):
    desk.config.write_text(config(chaos, sink, more="limits: {requests_per_minute: 600}\nserver: {max_connections: 5000}\n"))
    async with looking(chromium, desk, theme=theme) as look:
        for name, path in {"config": "/dashboard/config", "alerts": "/dashboard/alerts"}.items():
            await look.open(path)
            for size, (width, height) in SIZES.items():
                await look.page.set_viewport_size({"width": width, "height": height})
                await look.keep(f"{name}-{size}-{theme}")
                assert await look.overflows() <= 0, (name, size)
                assert size == "tablet" or await look.axe() == [], (name, size)
        assert look.foreign == look.complaints == look.ran == []
    desk.config.write_text(config(chaos, sink))


async def test_a_reload_is_looked_at_and_done(chromium, desk, chaos, sink):
    async with looking(chromium, desk, size="phone") as look:
        await look.open("/dashboard/config")
        assert await look.page.is_visible("h2:text('say what is in force')")
        desk.config.write_text(config(chaos, sink).replace("600", "601"))
        await look.open("/dashboard/config")
        assert await look.page.is_visible("h2:text('A reload would change 1 setting')")
        assert (await look.page.inner_text(".diff tbody tr")).split("\t")[1:] == ["600", "601", "at once"]
        note = "text=What waits for the next start"
        assert not await look.page.is_visible(note)
        desk.config.write_text(config(chaos, sink, more="server: {keep_alive: 33}\n"))
        await look.open("/dashboard/config")
        assert (await look.page.inner_text(".diff tbody tr")).split("\t")[2:] == ["33", "next start"]
        assert await look.page.is_visible(note)
        desk.config.write_text(config(chaos, sink).replace("600", "602"))
        await look.page.click("button:text-is('Reload')")
        await look.page.wait_for_selector("text=not what was looked at any more")
        assert (await desk.get("/config", headers=desk.admin)).json["cache"]["ttl"] == 600
        await look.open("/dashboard/config")
        await look.page.click("button:text-is('Reload')")
        await look.page.wait_for_selector("[role=status]:has-text('is in force')")
        assert (await desk.get("/config", headers=desk.admin)).json["cache"]["ttl"] == 602
        assert await actions(desk) == [("configuration.reload", "")]
        desk.config.write_text("cache: {ttl: soon}")
        await look.open("/dashboard/config")
        assert await look.page.is_visible("h2:text('A reload would be refused')")
        assert await look.page.is_visible("text=sentinel.yaml:1 cache.ttl")
        assert await look.page.locator("button:text-is('Reload')").count() == 0
        assert look.foreign == look.ran == []
    assert (await desk.reload(config(chaos, sink))).status == 200


async def test_a_draft_is_tried_and_changes_nothing(chromium, desk, chaos, sink):
    async with looking(chromium, desk, size="tablet") as look:
        await look.open("/dashboard/config")
        await look.page.fill(
            "#yaml", config(chaos, sink, more="service: {name: '${SENTINEL_ADMIN_KEY}'}\n").replace("600", "603")
        )
        await look.page.click("button:text-is('Check')")
        await look.page.wait_for_selector("#drafted")
        rows = await look.page.inner_text("#drafted .diff tbody")
        assert "603" in rows
        assert ADMIN_KEY not in await look.page.inner_text("body"), "what a draft takes from the environment is not told"
        assert "603" in await look.page.input_value("#yaml"), "it is there to be gone on with"
        await look.keep("config-draft-wide-light")
        assert await look.axe() == []
        assert (await desk.get("/config", headers=desk.admin)).json["cache"]["ttl"] == 600
        await look.page.fill("#yaml", f"'{POISON}': 1\nserver: {{host: '{POISON}'}}")
        await look.page.click("button:text-is('Check')")
        await look.page.wait_for_selector("text=It would be refused")
        assert POISON[:12] in await look.page.inner_text("#drafted")
        await look.page.set_viewport_size({"width": 400, "height": 860})
        assert await look.overflows() <= 0
        await look.keep("config-faults-phone-light")
        assert look.ran == look.foreign == look.complaints == []


async def test_settings_are_found_by_words_and_tell_where_they_are(chromium, desk):
    async with looking(chromium, desk) as look:
        await look.open("/dashboard/config")
        shown = await look.page.inner_text(".settings >> nth=0")
        assert "cache.max_answer_bytes" not in await look.page.inner_text("main"), "defaults are not in the way"
        assert shown
        await look.page.fill("#words", "memory entries")
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_url(re.compile("words=memory"))
        assert await look.page.locator(".settings > div").count() == 1
        assert "env MEMORY_CACHE_SIZE" in await look.page.inner_text(".settings")
        await look.open("/dashboard/config?words=<script>alert(3)</script>")
        assert await look.page.is_visible("text=No setting has these words")
        await look.open("/dashboard/config?only=all")
        assert await look.page.locator(".settings > div").count() > 100
        assert look.ran == []


async def test_a_reader_sees_the_configuration_and_changes_nothing(desk):
    async with visiting(desk) as visitor:
        await visitor.sign_in(await desk.key(scopes=["read"]))
        page = await visitor.look("/dashboard/config")
        assert "env MEMORY_CACHE_SIZE" in page.words
        assert "Try a draft" not in page.words
        for path in ("config/reload", "config/check", "alerts/test", "alerts/silence"):
            assert (await visitor.send(f"/dashboard/{path}", yaml="a: b")).status == 403, path
        assert (await visitor.look("/dashboard/alerts")).status == 403
    async with visiting(desk) as visitor:
        await visitor.sign_in()
        for path in ("config/reload", "config/check", "alerts/test", "alerts/silence"):
            assert (await visitor.send(f"/dashboard/{path}", token="wrong")).status == 403, path


async def test_what_fires_is_told_and_what_has_not_arrived(chromium, desk):
    async with looking(chromium, desk) as look:
        await look.open("/dashboard/alerts")
        firing = await look.page.inner_text("section:has(#firing-title)")
        assert "circuit-open" in firing
        assert "mock/mock-model" in firing
        assert "told at" in firing
        late = await look.page.inner_text("section:has(#late-title)")
        assert "lost" in late
        text = await look.page.content()
        assert SECRET not in text
        assert "h00k-path" not in text
        assert str(Path.home()) not in text


async def test_a_channel_is_tested_by_its_button(chromium, desk, sink):
    async with looking(chromium, desk, size="tablet") as look:
        await look.open("/dashboard/alerts")
        before = len(sink.arrived)
        await look.page.click("button[aria-label='Send a test to ops']")
        await look.page.wait_for_selector("[role=status]:has-text('has arrived')")
        assert len(sink.arrived) > before
        await look.page.click("button[aria-label='Send a test to lost']")
        await look.page.wait_for_selector("[role=status]:has-text('has not arrived')")
        assert await actions(desk, 2) == [("alert.test", "lost"), ("alert.test", "ops")]
        assert look.complaints == []


async def test_a_rule_is_silenced_and_told_of_again(chromium, desk):
    async with looking(chromium, desk, size="phone") as look:
        await look.open("/dashboard/alerts")
        await look.page.click("summary[aria-label='Silence circuit-open']")
        await look.page.select_option("#quiet-circuit-open", "480")
        await look.keep("alerts-silencing-phone-light")
        await look.page.click("#rule-circuit-open button:text('Be quiet')")
        await look.page.wait_for_selector("[role=status]:has-text('Nobody is told')")
        rules = {one["name"]: one for one in (await desk.get("/admin/alerts", headers=desk.admin)).json["rules"]}
        assert rules["circuit-open"]["silenced_by"] == "admin-key"
        assert await look.page.is_visible("#rule-circuit-open :text('silent until')")
        await look.page.click("button[aria-label='Tell of circuit-open again']")
        await look.page.wait_for_selector("[role=status]:has-text('told of again')")
        assert await actions(desk, 2) == [("alert.silence", "circuit-open")] * 2
    async with visiting(desk) as visitor:
        await visitor.sign_in()
        for wrong in ({"rule": "circuit-open", "minutes": "1e9"}, {"rule": "circuit-open"}, {"minutes": "60", "rule": "none"}):
            assert (await visitor.send("/dashboard/alerts/silence", **wrong)).status in {400, 404}
        for channel in ("", "x" * 100, "none"):
            assert (await visitor.send("/dashboard/alerts/test", channel=channel)).status in {400, 404}


async def test_the_history_is_looked_through(chromium, desk):
    for _ in range(30):
        await desk.request("POST", "/admin/alerts/anomalies/silence", headers=desk.admin, json={"minutes": 0})
    whole = await history(desk)
    async with looking(chromium, desk) as look:
        await look.open("/dashboard/alerts")
        seen = await look.page.locator("section:has(#history-title) tbody tr").count()
        while await look.page.locator("#older").count():
            await look.page.click("#older")
            await look.page.wait_for_selector("text=The newest")
            seen += await look.page.locator("section:has(#history-title) tbody tr").count()
        assert len(whole) <= seen <= len(await history(desk)), "what comes meanwhile stands before all of it"
        for cursor in ("x", "0", "9" * 30, "%E2%91%A0"):
            await look.open(f"/dashboard/alerts?cursor={cursor}")
            assert await look.page.is_visible("#history-title")


async def test_where_nobody_is_told_the_page_says_how(chromium, chaos, tmp_path):
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as fresh,
        looking(chromium, fresh, size="phone") as look,
    ):
        await look.open("/dashboard/alerts")
        assert await look.page.is_visible("h2:text('Nobody is told yet')")
        assert await look.axe() == []
        await look.keep("alerts-empty-light")
