"""deploy/nginx/sentinel.conf, run by a real nginx before a real gateway: TLS, streams, limits, who reaches what, whose words."""

import asyncio
import io
import json
import shutil
from collections import Counter
from secrets import token_hex

import pytest
from aiohttp import web

from bench.chaos import ChaosUpstream
from sentinel_gateway.settings.model import Server, Timeouts
from tests.deploy.fronts import INSIDE, NAME, NGINX, OUTSIDE, Front, altered, directive, first_and_last, nginx, operators
from tests.gateway import ADMIN_KEY, Answer, Gateway, Sse, chat, one_provider, running_gateway, until
from tests.servers import free_port
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

SECURE = {
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
OPERATORS = [
    "/admin/keys",
    "/admin/stats",
    "/config",
    "/costs",
    "/dashboard",
    "/docs",
    "/metrics",
    "/v1/metrics",
    "/openapi.json",
]
SPELLINGS = [
    "/admin/keys?x=/v1/chat/completions",
    "//admin/keys",
    "/%61dmin/keys",
    "/%61%64min%2Fkeys",
    "/./admin/keys",
    "/v1/../admin/keys",
    "/v1/%2e%2e/admin/keys",
    "/v1/chat/completions/../../../admin/keys",
    "/admin//keys",
    "/admin/./keys",
    "/admin%00/keys",
    "/admin;/keys",
    "/admin%3b/keys",
    "/Admin/keys",
    "/v1/models/..%2f..%2fadmin/keys",
    "/v1//admin/keys",
    "/v1/admin/keys",
]


@pytest.fixture(scope="module")
async def chaos(anyio_backend):
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    environ = {"SENTINEL_SERVER__ALLOWED_HOSTS": NAME, "SENTINEL_SERVER__HEARTBEAT": "0.3", "SENTINEL_KEYS__REQUIRED": "true"}
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path_factory.mktemp("gateway"), environ=environ, config=config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def key(gateway: Gateway) -> str:
    return await gateway.key()


@pytest.fixture(scope="module")
def binary(absent) -> None:
    if shutil.which("nginx") is None:
        absent("nginx (make test-deps installs it)")


@pytest.fixture(scope="module")
def front(gateway: Gateway, binary, tmp_path_factory):
    """As it is shipped."""
    with nginx(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{gateway.port}") as running:
        yield running


async def test_a_stream_is_here_before_the_provider_has_said_all(front: Front, chaos, key):
    chaos.reset()
    chaos.script("tokens=8;chunk_ms=60000")
    seen: list[bytes] = []
    async with front.caller() as caller:
        asking = asyncio.create_task(first_and_last(caller, _body("Live?", stream=True), seen, authorization=f"Bearer {key}"))
        await until(lambda: any(b'"content"' in piece for piece in seen) or asking.done())
        assert chaos.calls[-1].ended is None, "the first word was held back until the last was said"
        while not asking.done():
            chaos.go_on()
            await asyncio.sleep(0.01)
        status, whole = await asking
    assert status == 200
    assert Sse.read(whole).done
    assert len(seen) > 4, "pieces were put together"


@pytest.fixture
def impatient(gateway: Gateway, binary, tmp_path):
    """One that cuts a stream after two seconds of silence instead of ten minutes."""
    changes = {"proxy_read_timeout 600s;": "proxy_read_timeout 2s;"}
    with nginx(tmp_path, f"127.0.0.1:{gateway.port}", changes=changes) as running:
        yield running


@undisturbed
async def test_a_stream_that_is_silent_for_longer_than_nginx_waits_is_kept(impatient: Front, chaos, key):
    chaos.reset()
    chaos.script("first_token_ms=3500")
    seen: list[bytes] = []
    async with impatient.caller() as caller:
        body = _body(f"Slow, {token_hex(4)}?", stream=True)
        status, whole = await first_and_last(caller, body, seen, authorization=f"Bearer {key}")
    assert (status, Sse.read(whole).done) == (200, True)
    assert Sse.read(whole).comments >= 2, "nobody kept it alive"


async def test_headers_that_protect_stand_on_every_answer_once(front: Front, key):
    async with front.caller("127.0.1.1") as caller:
        served = await caller.request(
            "POST", "/v1/chat/completions", data=_body("Who?"), headers={"authorization": f"Bearer {key}"}
        )
        answers = [served, await caller.get("/livez"), await caller.get("/v1/models"), await caller.get("/nowhere")]
        answers += [await caller.get("/admin/keys")]
        answers += [await caller.request("POST", "/v1/chat/completions", data=io.BytesIO(bytes(4 * 2**20 + 1)))]
    assert [answer.status for answer in answers] == [200, 200, 401, 401, 403, 413]
    for answer in answers:
        assert SECURE.items() <= answer.headers.items(), answer.status
        assert answer.headers["server"] == "nginx", "it tells its version"
        assert "retry-after" not in answer.headers


async def test_the_dashboards_own_headers_stand(front: Front, gateway: Gateway):
    path = "/dashboard/sign-in"
    direct = await gateway.get(path)
    async with front.caller() as caller:
        page = await caller.get(path)
    assert page.status == direct.status == 200
    for name in ("content-security-policy", "x-frame-options", "x-content-type-options", "referrer-policy"):
        assert page.headers[name] == direct.headers[name]
    assert "; Secure" not in direct.headers["set-cookie"]
    assert "; Secure" in page.headers["set-cookie"], "the gateway was not told that the browser speaks TLS"


async def test_an_address_that_asks_too_much_is_told_so_as_openai_would(front: Front):
    async with front.caller("127.0.2.1") as caller, front.caller("127.0.2.2") as other:
        answers: list[Answer] = []
        while len(answers) < 1_000 and not any(answer.status == 429 for answer in answers):
            answers += await asyncio.gather(*(caller.get("/livez") for _ in range(90)))
        neighbour = await other.get("/livez")
    statuses = Counter(answer.status for answer in answers)
    assert statuses.keys() == {200, 429}
    assert statuses[200] >= 40, "a burst of forty goes through"
    assert neighbour.status == 200, "limits hold for each address"
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.error["code"] == "rate_limit_exceeded"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/json"
    assert SECURE.items() <= refused.headers.items()


async def test_the_gateways_own_refusal_passes_as_it_is(front: Front, gateway: Gateway):
    limited = await gateway.key(limits={"requests_per_minute": 1})
    headers = {"authorization": f"Bearer {limited}"}
    async with front.caller("127.0.3.1") as caller:
        answers = [await caller.request("POST", "/v1/chat/completions", data=_body("Once?"), headers=headers) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert "this key may make" in answers[1].error["message"]
    assert int(answers[1].headers["retry-after"]) > 1


async def test_what_a_caller_claims_of_its_address_is_overwritten(binary, tmp_path):
    async def echo(request: web.Request) -> web.Response:
        return web.json_response({name.lower(): value for name, value in request.headers.items()})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    claims = {"x-forwarded-for": "6.6.6.6", "x-real-ip": "6.6.6.6", "forwarded": "for=6.6.6.6", "x-forwarded-proto": "http"}
    try:
        with nginx(tmp_path, f"127.0.0.1:{port}") as front:
            async with front.caller("127.0.4.1") as caller:
                seen = (await caller.get("/v1/models", **claims)).json
    finally:
        await runner.cleanup()
    assert {name: seen.get(name) for name in claims} == {
        "x-forwarded-for": "127.0.4.1",
        "x-real-ip": "127.0.4.1",
        "forwarded": None,
        "x-forwarded-proto": "https",
    }
    assert seen["host"] == NAME


async def test_operators_paths_are_served_inside_alone(front: Front):
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with front.caller(OUTSIDE) as outside, front.caller(INSIDE) as inside:
        for path in OPERATORS:
            refused = await outside.get(path, **admin)
            assert (refused.status, refused.error["code"]) == (403, "not_from_outside"), path
            assert (await inside.get(path, **admin)).status in {200, 303}, path
            await asyncio.sleep(0.1)  # below what an address may ask
        assert (await outside.get("/v1/models", **admin)).status == 200


async def test_every_operators_path_that_there_is_is_kept_inside(front: Front, gateway: Gateway):
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    paths = operators((await gateway.get("/openapi.json", headers=admin)).json)
    assert {*OPERATORS, "/config/sources"} <= set(paths)
    for number, path in enumerate(paths):
        async with front.caller(f"127.0.7.{number // 20 + 1}") as caller:
            assert (await caller.get(path, **admin)).status == 403, path


async def test_no_other_spelling_leads_to_an_operators_path(front: Front):
    reached = {}
    for number, target in enumerate(SPELLINGS):
        async with front.caller(f"127.0.5.{number + 1}") as caller:
            reached[target] = (await caller.get(target, authorization=f"Bearer {ADMIN_KEY}")).status
    assert {target for target, status in reached.items() if status not in {400, 403, 404}} == set(), reached
    assert reached["/admin/keys?x=/v1/chat/completions"] == 403


async def test_without_tls_a_page_is_led_there_and_a_program_is_refused(front: Front):
    async with front.caller("127.0.6.1", plain=True) as caller:
        page, program = await caller.get("/dashboard?a=b"), await caller.request("POST", "/v1/chat/completions", data=b"{}")
    assert (page.status, page.headers["location"]) == (308, f"https://{NAME}/dashboard?a=b")
    assert program.status == 403


async def test_a_node_that_is_away_is_passed_over_and_none_at_all_is_said(front: Front, gateway: Gateway, key, tmp_path_factory):
    nobody = f"127.0.0.1:{free_port()}"
    with nginx(tmp_path_factory.mktemp("half"), nobody, f"127.0.0.1:{gateway.port}") as half:
        async with half.caller("127.0.7.1") as caller:
            asked = [
                await caller.request(
                    "POST", "/v1/chat/completions", data=_body(f"{n}?"), headers={"authorization": f"Bearer {key}"}
                )
                for n in range(6)
            ]
    assert [answer.status for answer in asked] == [200] * 6
    with nginx(tmp_path_factory.mktemp("none"), nobody) as none:
        async with none.caller("127.0.7.2") as caller:
            answer = await caller.get("/v1/models")
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")


def test_its_figures_are_the_gateways():
    text, server = NGINX.read_text(), Server()
    assert directive(text, "client_max_body_size") == f"{server.max_body_bytes // 2**20}m"
    assert float(directive(text, "proxy_read_timeout").split("s")[0]) >= Timeouts().total
    assert float(directive(text, "keepalive_timeout").removesuffix("ms")) < 1000 * server.drain_notice


def test_a_change_that_the_file_does_not_have_is_noticed():
    with pytest.raises(AssertionError, match="has no 'listen 81;'"):
        altered(NGINX.read_text(), {"listen 81;": "listen 82;"})


def _body(text: str, **fields: object) -> bytes:
    return json.dumps(chat(text, **fields)).encode()
