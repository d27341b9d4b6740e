"""What callers and providers say is shown as text: of 200 ways to have a browser run it, none runs."""

import asyncio
import json
import time
from urllib.parse import urlencode

import pytest

from tests.dashboard.looking import looking
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

CALLS = ("alert(1)", "confirm`1`", "top[`al`+`ert`](1)", "window.ran=1;alert(2)", "print()")
SHAPES = (
    "<script>{0}</script>",
    "</script><script>{0}</script>",
    "<img src=x onerror={0}>",
    "<img src=x onerror='{0}'//",
    "<svg onload={0}>",
    "<svg><script>{0}</script></svg>",
    "<svg><animate onbegin={0} attributeName=x dur=1s>",
    "<body onload={0}>",
    "<iframe srcdoc='<script>parent.{0}</script>'>",
    "<iframe src=javascript:{0}>",
    "<a href=javascript:{0} autofocus onfocus={0}>x</a>",
    "<input autofocus onfocus={0}>",
    "<details open ontoggle={0}>",
    "<video><source onerror={0}></video>",
    "<math><mtext><script>{0}</script></mtext></math>",
    "<style>@import 'javascript:{0}'</style>",
    "<link rel=stylesheet href=javascript:{0}>",
    "<meta http-equiv=refresh content='0;url=javascript:{0}'>",
    "<object data=javascript:{0}>",
    "<embed src=javascript:{0}>",
    "<form action=javascript:{0}><button autofocus>x</button></form>",
    "<marquee onstart={0}>x</marquee>",
    '" onmouseover="{0}" autofocus onfocus="{0}" x="',
    "' onmouseover='{0}' autofocus onfocus='{0}' x='",
    "`-{0}-`",
    "${{{0}}}",
    "{{{{ {0} }}}}",
    "{{% raw %}}<script>{0}</script>",
    "javascript:{0}",
    "data:text/html,<script>{0}</script>",
    "--><script>{0}</script>",
    "]]><script>{0}</script>",
    "</textarea><script>{0}</script>",
    "</title><script>{0}</script>",
    "</noscript><img src=x onerror={0}>",
    "<x hx-on:load={0} hx-trigger=load hx-get=/dashboard>",
    "<div hx-get=/dashboard hx-trigger=load hx-vals='js:x:{0}'></div>",
    "<div data-chart='{{}}' onclick={0} data-text=total></div>",
    "\u202e<script>{0}</script>",
    "<scr\x00ipt>{0}</scr\x00ipt>",
)
PAYLOADS = [shape.format(call) for shape in SHAPES for call in CALLS]
STREAMS_AND_FILES = ("/events", "/frame", ".csv")
RULES = "".join(
    f"    evil-{number}: {{metric: error_rate, above: 0, description: {json.dumps(one).replace('$', '$$')}}}\n"
    for number, one in enumerate(PAYLOADS[::7])
)
CONFIG = f"keys: {{required: true}}\nadmin: {{show_text: true}}\nalerts:\n  rules:\n{RULES}"


def pages(gateway) -> list[str]:
    """Every page there is, and every part of one."""
    paths = {path for method, path in gateway.managed() if method == "GET" and path.startswith("/dashboard")}
    return sorted(path for path in paths if "{" not in path and not path.endswith(STREAMS_AND_FILES))


TABS = 5
LOADS = 400
"""Milliseconds for which a page is left open."""
PATIENCE = 20.0
"""Seconds until what a page loads by itself must be there."""
SHOWING = ("/dashboard", "/dashboard/keys", "/dashboard/config", "/dashboard/alerts", "/dashboard/money", "/dashboard/explain")
"""Where some of them stand in what is shown; elsewhere they are in forms, or nowhere."""


def printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable()).strip()


@pytest.fixture(scope="module")
async def poisoned(chaos, tmp_path_factory):
    """A gateway that was told each of them: as a model's name, a key's, an error's words, a user agent, an id, a namespace."""
    async with running_gateway(
        tmp_path_factory.mktemp("poisoned"), config=one_provider(chaos.base_url) + CONFIG, semantic=True
    ) as gateway:
        for number, payload in enumerate(PAYLOADS):
            named = {"name": printable(payload)[:100], "tenant": printable(payload)[:200]}
            key = await gateway.key(**named, scopes=["inference", "read"])
            if number % 10 == 0:
                await gateway.key(**named, budget={"day": 1})
            who = {"authorization": f"Bearer {key}", "user_agent": json.dumps(payload), "x_request_id": f"a{number}"}
            chaos.script("err=500")
            await gateway.ask(chat(payload, model=f"mock/{payload}"), **who)
            await gateway.ask(chat(payload, model="mock/mock-model"), **who, x_cache_tags="evil")
        yield gateway


def test_there_are_two_hundred():
    assert len(set(PAYLOADS)) == 200


async def test_none_of_them_runs(chromium, poisoned):
    every = pages(poisoned)
    assert {"/dashboard/config", "/dashboard/alerts", "/dashboard/playground", "/dashboard/money", "/dashboard/cache"} <= set(
        every
    )
    entries = (await poisoned.get("/admin/cache/entries?limit=100", headers=poisoned.admin)).json["data"]
    asked = urlencode({"words": PAYLOADS[5], "id": "a7", "to": PAYLOADS[0], "tag": PAYLOADS[3], "days": PAYLOADS[1]})
    every += [f"{path}?{asked}" for path in every]
    every += [f"/dashboard/explain?id=a{number}" for number in range(0, len(PAYLOADS), 50)]
    every += [f"/dashboard/cache?id={entry['id']}" for entry in entries[::30]]
    shown: dict[str, str] = {}
    async with looking(chromium, poisoned) as look:
        tabs = [look.page, *[await look.another() for _ in range(TABS - 1)]]
        await asyncio.gather(*(leaf(look, tab, every[number::TABS], shown) for number, tab in enumerate(tabs)))
        assert look.ran == []
        assert look.foreign == []
    assert shown.keys() == set(every)
    for path in SHOWING:
        assert stands_in(shown[path]), f"{path}: they were there to be run"


def stands_in(text):
    return any(payload[:20] in text for payload in PAYLOADS)


async def leaf(look, tab, paths, shown):
    """Open these one after the other in a tab, each for long enough that what is loaded by itself is there."""
    await tab.add_init_script("window.print = () => alert('print')")
    for path in paths:
        await tab.goto(look.base_url + path)
        await tab.wait_for_timeout(LOADS)
        shown[path] = await tab.inner_text("body")
        end = time.monotonic() + PATIENCE
        while path in SHOWING and not stands_in(shown[path]) and time.monotonic() < end:
            await tab.wait_for_timeout(LOADS)
            shown[path] = await tab.inner_text("body")
        assert await tab.evaluate("window.ran") is None, path


async def test_what_would_run_would_be_noticed(chromium, poisoned):
    """The same watch on a page without our policy sees what runs."""
    async with looking(chromium, poisoned) as look:
        await look.page.goto("about:blank")
        await look.page.set_content("<img src=x onerror=alert(1)>")
        await until(lambda: look.ran)
        assert look.ran == ["1"]
