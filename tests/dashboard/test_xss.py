"""What callers and providers say is shown as text: of 200 ways to have a browser run it, none runs."""

import json

import pytest

from tests.dashboard.looking import looking
from tests.gateway import chat, one_provider, running_gateway

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
PAGES = ("/dashboard", "/dashboard/providers", "/dashboard?x=", "/dashboard/sign-in?to=")


def printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable()).strip()


@pytest.fixture
async def poisoned(chaos, tmp_path):
    """A gateway that was told each of them: as a model's name, a key's, an error's words, a user agent, an id, a namespace."""
    config = one_provider(chaos.base_url, more="").replace("models: [", "models: [")
    async with running_gateway(tmp_path, config=config) as gateway:
        for payload in PAYLOADS:
            key = await gateway.key(name=printable(payload)[:100], tenant=printable(payload)[:200], scopes=["inference", "read"])
            who = {"authorization": f"Bearer {key}", "user_agent": json.dumps(payload), "x_request_id": "a"}
            chaos.script("err=500")
            await gateway.ask(chat(payload, model=f"mock/{payload}"), **who)
            await gateway.ask(chat(payload, model="mock/mock-model"), **who)
        yield gateway


def test_there_are_two_hundred():
    assert len(set(PAYLOADS)) == 200


async def test_none_of_them_runs(chromium, poisoned):
    async with looking(chromium, poisoned) as look:
        await look.page.add_init_script("window.print = () => alert('print')")
        for path in PAGES:
            await look.open(path)
            await look.page.wait_for_timeout(1500)
            assert await look.page.evaluate("window.ran") is None
        assert look.ran == []
        assert look.foreign == []
        await look.open("/dashboard")
        await look.page.wait_for_selector("#live.good")
        shown = await look.page.inner_text("body")
        assert any(payload[:20] in shown for payload in PAYLOADS), "they were there to be run"


async def test_what_would_run_would_be_noticed(chromium, poisoned):
    """The same watch on a page without our policy sees what runs."""
    async with looking(chromium, poisoned) as look:
        await look.page.goto("about:blank")
        await look.page.set_content("<img src=x onerror=alert(1)>")
        await look.page.wait_for_timeout(300)
        assert look.ran == ["1"]
