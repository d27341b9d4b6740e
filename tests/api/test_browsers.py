"""Browsers and compression: CORS where the operator wants it, gzip where it helps."""

import gzip
import json

import pytest

from sentinel_gateway.api.gateway import EXPOSED
from tests.gateway import CHAT, chat, one_provider, post, running_gateway

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"
OTHER = "https://evil.example.com"


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """One page may call it."""
    config = f"{one_provider(chaos.base_url)}\nserver: {{cors: {{origins: ['{PAGE}'], credentials: true}}}}\n"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


async def preflight(gateway, path, method, *, origin=PAGE, wanted="authorization, content-type, x-cache-ttl"):
    headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": wanted}
    return await gateway.request("OPTIONS", path, headers=headers)


def cors_headers(answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


# --- CORS ---


@pytest.mark.parametrize(
    ("path", "method"),
    [(CHAT, "POST"), ("/chat/completions", "POST"), ("/v1/models", "GET"), ("/admin/cache/clear", "POST"), ("/health", "GET")],
)
async def test_cors_preflight_on_chat_and_admin(gateway, path, method):
    """It needs no key: browsers send none with it."""
    answer = await preflight(gateway, path, method)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert method in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type", "x-cache-ttl"} <= {name.strip() for name in allowed.split(",")}
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]


async def test_a_preflight_of_another_page_is_refused(gateway):
    answer = await preflight(gateway, CHAT, "POST", origin=OTHER)
    assert answer.status == 400
    assert "access-control-allow-origin" not in answer.headers
    assert (await preflight(gateway, CHAT, "DELETE")).status == 400


@pytest.mark.parametrize("stream", [False, True])
async def test_our_headers_are_shown_to_the_page(gateway, upstream, text, stream):
    for _ in range(2):
        answer = await gateway.ask(chat(text, stream=stream), origin=PAGE)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert exposed == set(EXPOSED)
        assert {"x-cache", "cache-status", "x-request-id", "age", "retry-after-ms", "x-should-retry"} <= exposed
        assert {"Origin", "Authorization"} <= {name.strip() for name in answer.headers["vary"].split(",")}


async def test_errors_reach_the_page_too(gateway, upstream, text):
    for answer in (
        await gateway.ask(b"{", origin=PAGE),
        await gateway.get("/nowhere", headers={"origin": PAGE}),
        await gateway.get("/admin/stats", headers={"origin": PAGE}),
    ):
        assert answer.status in {400, 401, 404}
        assert answer.headers["access-control-allow-origin"] == PAGE


async def test_another_page_is_told_nothing(gateway, upstream, text):
    answer = await gateway.ask(chat(text), origin=OTHER)
    assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers
    assert upstream.count == 0


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example:80", "http://localhost.evil.example", "http://127.0.0.1.evil.example"]
)
async def test_a_page_of_elsewhere_can_spend_nothing(gateway, upstream, text, origin):
    """A simple POST needs no preflight, and a name that resolves to this machine makes a page same-origin."""
    host = origin.removeprefix("http://")
    headers = {"origin": origin, "host": host, "content-type": "text/plain"}
    answer = await gateway.request("POST", CHAT, data=json.dumps(chat(text)).encode(), headers=headers)
    assert answer.status == 403
    assert upstream.count == 0
    assert (
        (await gateway.request("POST", "/admin/cache/clear", headers=headers)).json["error"].startswith("This gateway takes no")
    )


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8080", "https://[::1]:1"])
async def test_a_page_of_this_machine_may_call(gateway, upstream, text, origin):
    assert (await gateway.ask(chat(text), origin=origin)).status == 200


async def test_who_is_no_page_sees_no_cors(gateway, upstream, text):
    assert cors_headers(await gateway.ask(chat(text))) == set()


async def test_cors_is_off_by_default(chaos, upstream, text, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as plain:
        for path in (CHAT, "/admin/cache/clear", "/health"):
            answer = await preflight(plain, path, "POST")
            assert answer.status == 403
            assert cors_headers(answer) == set()
        assert cors_headers(await plain.ask(chat(text), origin=PAGE)) == set()


async def test_every_page_may_call(chaos, upstream, text, tmp_path):
    environ = {"SENTINEL_SERVER__CORS__ORIGINS": "*"}
    async with running_gateway(tmp_path, environ=environ, config=one_provider(chaos.base_url)) as open_to_all:
        answer = await open_to_all.ask(chat(text), origin=OTHER)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert (await preflight(open_to_all, CHAT, "POST", origin=OTHER)).headers["access-control-allow-origin"] == "*"


# --- compression ---


async def raw(gateway, request: bytes):
    """The answer as it came over the wire."""
    wire = await gateway.connect()
    wire.send(request)
    answer = await wire.answer()
    await wire.close()
    return answer


@pytest.mark.parametrize(
    ("accepts", "compressed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("deflate,gzip;q=1", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("gzip;q=0.000, br", False),
        ("gzip;Q=0", False),
        ("br, deflate", False),
        ("identity", False),
        ("x-gzipped", False),
        ("", False),
    ],
)
async def test_gzip_json_not_sse(gateway, upstream, accepts, compressed):
    """Long answers, by Accept-Encoding; a miss and a hit alike; never a stream."""
    long = {"max_tokens": 500, "accepts": accepts}
    said = []
    for expected in ("miss", "exact"):
        upstream.script("tokens=500")
        answer = await raw(gateway, post(chat("gzip?", **long), headers=f"Accept-Encoding: {accepts}\r\n"))
        assert (answer.status, answer.headers["x-cache"]) == (200, expected)
        assert answer.headers.get("content-encoding") == ("gzip" if compressed else None)
        assert "Accept-Encoding" in answer.headers["vary"]
        body = gzip.decompress(answer.body) if compressed else answer.body
        assert len(body) > 1024
        said.append(json.loads(body)["choices"])
    assert said[0] == said[1]
    for namespace in ("", "x-cache-namespace: another\r\n"):
        stream = await raw(
            gateway, post(chat("gzip?", stream=True, **long), headers=f"Accept-Encoding: {accepts}\r\n{namespace}")
        )
        assert "content-encoding" not in stream.headers
        assert stream.sse.done
    upstream.reset()


async def test_short_answers_are_not_compressed(gateway, upstream, text):
    answer = await raw(gateway, post(chat(text), headers="Accept-Encoding: gzip\r\n"))
    assert len(answer.body) < 1024
    assert "content-encoding" not in answer.headers
    assert "Accept-Encoding" in answer.headers["vary"]


@pytest.mark.parametrize(("path", "long"), [("/metrics", True), ("/v1/models", False), ("/livez", False)])
async def test_compression_elsewhere(gateway, path, long):
    plain = await raw(gateway, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    packed = await raw(gateway, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n".encode())
    assert "content-encoding" not in plain.headers
    assert (len(plain.body) >= 1024) == long
    assert packed.headers.get("content-encoding") == ("gzip" if long else None)
    unwanted = await raw(gateway, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip;q=0, br\r\n\r\n".encode())
    assert "content-encoding" not in unwanted.headers
    if long:
        assert "Accept-Encoding" in packed.headers["vary"]
        assert len(gzip.decompress(packed.body)) >= 1024
