"""The pages Cache and Semantic in Chromium: entries are found, changed and cleared, decisions marked, thresholds tried."""

import re

import pytest

from tests.dashboard.looking import SIZES, THEMES, looking
from tests.dashboard.visitor import visiting
from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

FRANCE, REWORDED, CITY = (
    "What is the capital of France?",
    "What's the capital of France?",
    "Which city is the capital of France?",
)
SOUP = "How long does an onion soup have to cook?"
POISON = "Is <img src=x onerror=alert(1)> a <script>alert(2)</script> question?"


@pytest.fixture
async def gateway(chaos, tmp_path):
    """With three answers, and three decisions."""
    config = one_provider(chaos.base_url) + "admin: {show_text: true}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        await gateway.ask(chat(FRANCE), x_cache_tags="geo")
        await gateway.ask(chat(SOUP), x_cache_namespace="kitchen")
        await gateway.ask(chat(POISON))
        for text in (REWORDED, CITY):
            await gateway.ask(chat(text))
        await gateway.process.tiers._far.flush()  # noqa: SLF001 - a test need not wait for 50 ms
        yield gateway


async def entries(gateway, query=""):
    return (await gateway.get(f"/admin/cache/entries{query}", headers=gateway.admin)).json["data"]


async def id_of(gateway, question):
    return next(entry["id"] for entry in await entries(gateway, "?state=all") if entry["question"] == question)


@pytest.mark.parametrize("theme", THEMES)
async def test_the_pages_at_every_size(chromium, gateway, theme):
    paths = {
        "cache": "/dashboard/cache",
        "cache-entry": f"/dashboard/cache?id={await id_of(gateway, FRANCE)}",
        "cache-preview": "/dashboard/cache?preview=1&tag=geo",
        "semantic": "/dashboard/semantic?threshold=0.9",
    }
    async with looking(chromium, gateway, theme=theme) as look:
        for name, path in paths.items():
            for size, (width, height) in SIZES.items():
                await look.page.set_viewport_size({"width": width, "height": height})
                await look.open(path)
                await look.keep(f"{name}-{size}-{theme}")
                assert await look.overflows() <= 0, (name, size)
                assert await look.axe() == [], (name, size)
        assert look.foreign == []
        assert look.complaints == []
        assert look.ran == []


async def test_what_is_stored_is_found_by_words_and_by_meaning(chromium, gateway):
    async with looking(chromium, gateway) as look:
        await look.open("/dashboard/cache")
        assert await look.page.locator("tbody tr").count() == 4
        await look.page.fill("#words", "onion")
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_url(re.compile("words=onion"))
        assert await look.page.inner_text("tbody th") == SOUP
        assert await look.page.input_value("#words") == "onion", "what was asked for stands there still"
        await look.open("/dashboard/cache?like=capital+city+of+France%3F")
        while await look.page.is_visible("text=look again"):
            await look.page.click("text=look again")
        assert "France" in await look.page.inner_text("tbody tr:first-child th")
        await look.open("/dashboard/cache?words=zebra")
        assert await look.page.is_visible("text=Nothing fits.")


async def test_an_entry_is_pinned_unpinned_expired_and_removed(chromium, gateway):
    async with looking(chromium, gateway, size="phone") as look:
        await look.open("/dashboard/cache")
        await look.page.click(f"a:text('{FRANCE}')")
        await look.page.wait_for_selector("pre.answer")
        await look.page.click("button:text('Pin')")
        await look.page.wait_for_selector("[role=status]:has-text('Pinned')")
        assert [entry["question"] for entry in await entries(gateway, "?state=pinned")] == [FRANCE]
        await look.page.click(f"a:text('{FRANCE}')")
        await look.page.select_option("#ttl", "3600")
        await look.page.click("button:text('Unpin')")
        await look.page.wait_for_selector("[role=status]:has-text('it ends in 1 h')")
        assert await entries(gateway, "?state=pinned") == []
        await look.page.click(f"a:text('{FRANCE}')")
        await look.page.click("button:text('Expire now')")
        await look.page.wait_for_selector("[role=status]:has-text('Ended')")
        assert FRANCE in {entry["question"] for entry in await entries(gateway, "?state=expired")}
        await look.page.click(f"a:text('{SOUP}')")
        await look.page.click("summary:text('Remove')")
        await look.page.click("button:text('Remove it')")
        await look.page.wait_for_selector("[role=status]:has-text('Removed')")
        assert SOUP not in {entry["question"] for entry in await entries(gateway, "?state=all")}
        assert look.complaints == []


async def test_a_clear_is_looked_at_before_it_is_done(chromium, gateway):
    async with looking(chromium, gateway, size="tablet") as look:
        await look.open("/dashboard/cache")
        await look.page.fill("#clear-tag", "geo")
        await look.page.click("button:text('See what would go')")
        await look.page.wait_for_selector("h2:text('What a clear would remove: 1')")
        assert await look.page.inner_text("tbody th") == FRANCE
        assert len(await entries(gateway)) == 4
        await look.page.click("button:text('Clear 1')")
        await look.page.wait_for_selector("[role=status]:has-text('Matching entries cleared: 1.')")
        assert FRANCE not in {entry["question"] for entry in await entries(gateway)}


async def test_decisions_stand_side_by_side_and_are_marked(chromium, gateway):
    async with looking(chromium, gateway, size="phone") as look:
        await look.open("/dashboard/semantic")
        refused, hit = look.page.locator(".decision").nth(0), look.page.locator(".decision").nth(1)
        assert CITY in await refused.inner_text()
        assert "below-threshold" in await refused.inner_text()
        assert await refused.locator("button").count() == 0, "there was no answer to be judged"
        assert {REWORDED, FRANCE} <= set((await hit.inner_text()).splitlines())
        await hit.locator("button:text('Wrong')").click()
        await look.page.wait_for_selector("[role=status]:has-text('nobody gets it again')")
        assert FRANCE not in {entry["question"] for entry in await entries(gateway)}
        assert await look.page.is_visible("text=wrong, says you")
        await look.page.fill("#threshold", "0.9")
        await look.page.fill("#rate", "2")
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_url(re.compile("threshold=0.9"))
        assert await look.page.is_visible("caption:has-text('2.0% wrong at most')") or await look.page.is_visible(
            "text=Nothing was recorded"
        )
        await look.open("/dashboard/semantic?threshold=nonsense")
        assert await look.page.is_visible("[role=alert]")


async def test_what_others_wrote_is_shown_and_never_run(chromium, gateway):
    async with looking(chromium, gateway) as look:
        for path in ("/dashboard/cache", f"/dashboard/cache?id={await id_of(gateway, POISON)}", "/dashboard/semantic"):
            await look.open(path)
            assert look.ran == []
        await look.open("/dashboard/cache?words=script&tag=%3Cscript%3Ealert(3)%3C/script%3E")
        assert look.ran == look.complaints == look.foreign == []


async def test_a_clear_that_makes_no_sense_is_told(gateway):
    async with visiting(gateway) as visitor:
        await visitor.sign_in()
        for wrong in ({"older_than": "abc"}, {"older_than": "-1"}, {"min_similarity": "7"}, {"older_than": "9" * 5000}):
            seen = await visitor.send("/dashboard/cache/clear", **wrong)
            assert (seen.status, next(iter(wrong)) in seen.words) == (400, True), wrong
    assert len(await entries(gateway)) == 4


async def test_who_may_and_who_may_not(gateway):
    reader = await gateway.key(scopes=["read"])
    own = await gateway.key(tenant="a", scopes=["inference", "read", "admin"])
    async with visiting(gateway) as visitor:
        await visitor.sign_in(reader)
        for path in ("/dashboard/cache", "/dashboard/semantic"):
            assert (await visitor.look(path)).status == 403
        assert (await visitor.send("/dashboard/cache/clear")).status == 403
    async with visiting(gateway) as visitor:
        await visitor.sign_in(own)
        seen = await visitor.look("/dashboard/cache")
        assert (seen.status, FRANCE in seen.words) == (200, False)
        assert (await visitor.look("/dashboard/semantic")).status == 403
        id_ = await id_of(gateway, FRANCE)
        assert (await visitor.send("/dashboard/cache/pin", id=id_)).status == 403
        assert (await visitor.send("/dashboard/cache/remove", id=id_)).status == 404
    async with visiting(gateway) as visitor:
        await visitor.sign_in()
        assert (await visitor.send("/dashboard/cache/remove", id=id_, token="wrong")).status == 403
        assert FRANCE in {entry["question"] for entry in await entries(gateway)}


@pytest.mark.parametrize("shown", [True, False])
async def test_hidden_questions_are_not_searched_from_the_page(chaos, tmp_path, shown):
    config = one_provider(chaos.base_url) + f"admin: {{show_text: {str(shown).lower()}}}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway, visiting(gateway) as visitor:
        await visitor.sign_in()
        seen = await visitor.look("/dashboard/cache")
        assert seen.status == 200
        assert 'name="namespace"' in seen.text
        for name in ("words", "like", "similar_to", "min_similarity"):
            assert (f'name="{name}"' in seen.text) == shown, name
        seen = await visitor.look("/dashboard/cache?preview=1&similar_to=onions")
        assert ("admin.show_text" in seen.words) != shown
