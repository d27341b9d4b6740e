"""The playground: asked on the ordinary path as whoever is signed in, shown as text, kept in the browser alone."""

import asyncio
import re

import pytest

from tests.dashboard.looking import SIZES, THEMES, looking
from tests.dashboard.test_xss import PAYLOADS
from tests.dashboard.visitor import visiting
from tests.gateway import Answer, chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

ASK = "/dashboard/playground/ask"


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    config = one_provider(chaos.base_url) + "keys: {required: true}\nrouting: {default: mock/mock-model}\n"
    async with running_gateway(tmp_path_factory.mktemp("playground"), config=config, semantic=True, alone=False) as gateway:
        yield gateway


@pytest.fixture
def upstream(chaos):
    """With an empty log and no fault queued."""
    chaos.reset()
    return chaos


async def ask(visitor, body, **headers):
    sent = {"x-sentinel-token": visitor.token, "accept": "*/*"} | headers
    seen = await visitor.ask("POST", ASK, json=body, headers=sent)
    return Answer(seen.status, seen.headers, seen.text.encode())


async def asked_by(gateway, key, count):
    """The ledger's rows of this key, once there are so many."""
    for _ in range(600):
        told = (await gateway.get("/api/monitoring/requests?limit=1000", headers=gateway.admin)).json["requests"]
        found = [one for one in told if one["key"] == key and one["route"] == "/v1/chat/completions"]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"the ledger has {len(found)} requests of {key}")


# --- without a browser: whose request it is ---


async def test_it_is_an_ordinary_request_of_who_is_signed_in(gateway):
    key = await gateway.key(tenant="played", scopes=["read", "inference"], limits={"requests_per_minute": 3})
    async with visiting(gateway) as visitor:
        await visitor.sign_in(key)
        await visitor.look("/dashboard/playground")
        first, second = [await ask(visitor, chat("Whose request is it?")) for _ in range(2)]
        assert (first.status, first.cache, first.headers["x-sentinel-attempts"]) == (200, "miss", "1")
        assert (second.cache, second.headers["x-sentinel-attempts"]) == ("exact", "0")
        assert first.headers["x-sentinel-target"] == "mock/mock-model"
        assert second.headers["x-ratelimit-limit-requests"] == "3"
        own = await gateway.ask(chat("Whose request is it?"), authorization=f"Bearer {key}")
        assert own.cache == "exact", "the cache of its tenant is the one that it has everywhere"
        refused = await ask(visitor, chat("Once more"))
        assert refused.status == 429
    [made] = (await gateway.get("/admin/keys?tenant=played", headers=gateway.admin)).json["data"]
    rows = await asked_by(gateway, made["id"], 3)
    assert {row["tenant"] for row in rows} == {"played"}
    assert first.headers["x-sentinel-id"] in {row["id"] for row in rows}


async def test_a_stream_comes_as_it_comes(gateway):
    async with visiting(gateway) as visitor:
        await visitor.sign_in()
        await visitor.look("/dashboard/playground")
        answer = await ask(visitor, chat("A stream?", stream=True))
        assert answer.sse.done
        assert "x-sentinel-cost-usd" in answer.sse.told
        headers = {"x-bypass-cache": "true", "cache-control": "only-if-cached"}
        assert (await ask(visitor, chat("A stream?"), **headers)).cache == "bypass"
        not_kept = await ask(visitor, chat("Not to be kept"), **{"x-cache-ttl": "0"})
        assert (not_kept.cache, (await ask(visitor, chat("Not to be kept"))).cache) == ("miss", "miss")


async def test_no_foreign_page_and_no_reader_spends(gateway, upstream):
    reader, asker = (
        await gateway.key(scopes=["read"]),
        await gateway.key(scopes=["read", "inference"], models=["mock/mock-small"]),
    )
    async with visiting(gateway) as visitor:
        assert (await ask(visitor, chat("by nobody"))).status == 401
        await visitor.sign_in(reader)
        assert "/dashboard/playground" not in (await visitor.look()).text
        assert (await visitor.look("/dashboard/playground")).status == 403
        assert (await ask(visitor, chat("by a reader"))).status == 403
    async with visiting(gateway) as visitor:
        await visitor.sign_in(asker)
        page = await visitor.look("/dashboard/playground")
        assert '<option value="mock/mock-small">' in page.text
        assert "mock-large" not in page.text
        assert (await ask(visitor, chat("another model"))).status == 403
        for headers in ({"x-sentinel-token": ""}, {"x-sentinel-token": "x" * 43}, {"sec-fetch-site": "cross-site"}):
            refused = await ask(visitor, chat("foreign", model="mock/mock-small"), **headers)
            assert refused.status == 403, headers
        assert (await ask(visitor, {"model": 1})).status == 400
        assert (await ask(visitor, chat("x" * 70_000, model="mock/mock-small"))).status == 413
    assert upstream.calls == []


async def test_a_key_that_ends_asks_nothing_more(gateway, upstream):
    key = await gateway.key(tenant="ending", scopes=["read", "inference"])
    async with visiting(gateway) as visitor:
        await visitor.sign_in(key)
        await visitor.look("/dashboard/playground")
        [made] = (await gateway.get("/admin/keys?tenant=ending", headers=gateway.admin)).json["data"]
        await gateway.request("POST", f"/admin/keys/{made['id']}/revoke", headers=gateway.admin)
        assert (await ask(visitor, chat("too late"))).status == 401
    assert upstream.calls == []


async def test_where_no_key_is_needed_anybody_plays(chaos, tmp_path):
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as free,
        visiting(free) as visitor,
    ):
        assert "Asked as anybody" in (await visitor.look("/dashboard/playground")).words
        assert (await ask(visitor, chat("free"))).status == 200
        assert (await ask(visitor, chat("foreign"), **{"sec-fetch-site": "cross-site"})).status == 403
        assert (await ask(visitor, chat("foreign"), origin="https://evil.example")).status == 403


async def test_whoever_leaves_ends_the_call(gateway, upstream):
    async with visiting(gateway) as visitor:
        await visitor.sign_in()
        await visitor.look("/dashboard/playground")
        upstream.script("latency_ms=60000")
        asking = asyncio.create_task(ask(visitor, chat("Leaving soon", stream=True)))
        await until(lambda: upstream.count == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: gateway.places() == 0)


# --- in Chromium ---


async def say(look, text, answers=1):
    """Send a message, and wait until so many turns stand there."""
    await look.page.fill("#prompt", text)
    await look.page.keyboard.press("Enter")
    await look.page.wait_for_function("n => document.querySelectorAll('.turn > .about, .turn .notice').length >= n", arg=answers)
    await look.settle()


async def chips(look, column=0):
    return await look.page.locator(".column").nth(column).locator(".told .chip").all_inner_texts()


@pytest.mark.parametrize("theme", THEMES)
async def test_the_page_at_every_size(chromium, gateway, theme):
    async with looking(chromium, gateway, theme=theme) as look:
        await look.open("/dashboard/playground")
        await look.page.click("#add-model")
        for number, model in enumerate(("mock/mock-model", "demo"), 1):
            await look.page.fill(f"#model-{number}", model)
        await look.page.check("#alone")
        await say(look, "What is the capital of France?", 2)
        await say(look, "Please tell me: what is the capital of France?", 4)
        for size, (width, height) in SIZES.items():
            await look.page.set_viewport_size({"width": width, "height": height})
            await look.keep(f"playground-{size}-{theme}")
            assert await look.overflows() <= 0, size
            assert size == "tablet" or await look.axe() == [], size
        assert look.foreign == look.complaints == look.ran == []


async def test_each_answer_tells_where_it_is_from_and_what_it_cost(chromium, gateway):
    async with looking(chromium, gateway) as look:
        await look.open("/dashboard/playground")
        assert await look.page.input_value("#model-1") == "mock/mock-model"
        await say(look, "How high is the Zugspitze?")
        assert await chips(look) == ["miss"]
        about = await look.page.inner_text(".about")
        for said in ("1 attempt", r"cost \$", "tokens", r"\d m?s$"):
            assert re.search(said, about, re.MULTILINE), about
        await look.page.check("#alone")
        await say(look, "How high is the Zugspitze?", 2)
        assert await chips(look) == ["miss", "exact · memory"]
        assert "saved $" in await look.page.inner_text(".turn:last-child .about")
        await look.page.click("#start-anew")
        await say(look, "Please tell me: how high is the Zugspitze?")
        [chip] = await chips(look)
        assert chip == "semantic · vectors"
        assert "similarity 0.9" in await look.page.inner_text(".about")
        await look.page.click("#start-anew")
        await look.page.check("#bypass")
        await say(look, "How high is the Zugspitze?")
        assert await chips(look) == ["bypass"]
        await look.page.click(".about summary")
        assert "mock/mock-model" in await look.page.inner_text(".about details")
        link = await look.page.get_attribute(".about details a", "href")
        assert link.startswith("/dashboard/explain?id=")
        assert look.complaints == look.foreign == []


async def test_models_side_by_side_each_with_its_own_conversation(chromium, gateway, upstream):
    async with looking(chromium, gateway) as look:
        await look.open("/dashboard/playground")
        await look.page.click("#add-model")
        await look.page.fill("#model-2", "mock/mock-small")
        await say(look, "Side by side?", 2)
        await look.page.fill("#model-2", "groq/none")
        await say(look, "And then?", 4)
        assert "GROQ_API_KEY" in await look.page.inner_text(".column >> nth=1 >> .notice.bad")
        await look.page.click(".about summary")
        await look.keep("playground-refused-wide-light")
        asked = [call.body["messages"] for call in upstream.calls if call.body["messages"][-1]["content"] == "And then?"]
        assert [[one["role"] for one in messages] for messages in asked] == [["user", "assistant", "user"]]
        for _ in range(4):
            if await look.page.is_enabled("#add-model"):
                await look.page.click("#add-model")
        assert await look.page.locator(".column").count() == 4
        await look.page.click("button[aria-label='Take away model 2']")
        assert await look.page.locator(".column").count() == 3
        await look.open("/dashboard/playground")
        assert await look.page.locator(".turn").count() == 0, "nothing of it is kept"
        kept = await look.page.evaluate("JSON.stringify([localStorage, sessionStorage])")
        assert "Side by side" not in kept
        assert "answer" not in kept


async def test_a_stream_is_stopped_and_a_whole_answer_is_shown(chromium, gateway):
    async with looking(chromium, gateway) as look:
        await look.open("/dashboard/playground")
        await look.page.fill("#model-1", "demo-slow")
        await look.page.fill("#prompt", "Slowly, please")
        await look.page.keyboard.press("Enter")
        await look.page.click("#stop")
        await look.page.wait_for_selector(".turn .notice:text('Stopped.')")
        await until(lambda: gateway.places() == 0)
        await look.page.uncheck("#stream")
        await look.page.fill("#model-1", "demo")
        await say(look, "A whole answer?", 2)
        assert "A whole answer?" in await look.page.inner_text(".turn:last-child .says")
        assert await look.page.evaluate("document.activeElement.id") == "prompt", "one goes on where one was"


async def test_a_model_that_is_taken_away_is_asked_no_longer_and_what_nobody_answered_can_be_asked_again(chromium, gateway):
    async with looking(chromium, gateway) as look:
        await look.open("/dashboard/playground")
        await look.page.click("#add-model")
        await look.page.fill("#model-1", "demo")
        await look.page.fill("#model-2", "demo-slow")
        await look.page.fill("#prompt", "Slowly, beside another")
        await look.page.press("#prompt", "Enter")
        await look.page.wait_for_selector(".about")
        await look.page.click("button[aria-label='Take away model 2']")
        await until(lambda: gateway.places() == 0)
        await look.page.wait_for_selector("#send:not([disabled])")
        assert await look.page.input_value("#prompt") == ""
        await look.page.fill("#model-1", "groq/none")
        await look.page.fill("#prompt", "Who answers?")
        await look.page.press("#prompt", "Enter")
        await look.page.wait_for_selector(".notice.bad")
        await look.page.wait_for_selector("#send:not([disabled])")
        assert await look.page.input_value("#prompt") == "Who answers?"


async def test_what_models_say_is_shown_and_never_run(chromium, gateway):
    """The demo repeats what it is asked: each payload stands there twice, as a question and as an answer."""
    async with looking(chromium, gateway) as look:
        await look.page.add_init_script("window.print = () => alert('print')")
        await look.open("/dashboard/playground")
        await look.page.fill("#model-1", "demo")
        shown = 0
        for number in range(0, len(PAYLOADS), 20):
            await look.page.click("#start-anew")
            await say(look, "\n".join(PAYLOADS[number : number + 20]).replace("\x00", ""))
            shown += (await look.page.inner_text(".says")).count("alert") > 0
            assert await look.page.locator(".asks > *, .says > *").count() == 0, "it is text, and no element"
        assert shown == 10, "they were there to be run"
        await look.page.fill("#model-1", PAYLOADS[0])
        await say(look, "Who?", 2)
        assert await look.page.evaluate("window.ran") is None
        assert look.ran == []
        assert look.foreign == []


async def test_who_is_signed_out_is_led_to_the_form(chromium, gateway):
    async with looking(chromium, gateway) as look:
        await look.open("/dashboard/playground")
        gateway.process.sessions._alive.clear()  # noqa: SLF001 - as if the gateway had started anew
        await look.page.fill("#prompt", "Still there?")
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_url("**/dashboard/sign-in?to=**")
