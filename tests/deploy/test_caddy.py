"""deploy/caddy/Caddyfile, run by a real Caddy before a real gateway."""

import asyncio
import io
import json
import shutil
import subprocess

import pytest

from bench.chaos import ChaosUpstream
from tests.deploy.fronts import CADDY, INSIDE, NAME, OUTSIDE, Front, caddy, first_and_last, operators
from tests.gateway import ADMIN_KEY, Gateway, Sse, chat, one_provider, running_gateway, until
from tests.servers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def binary(absent) -> str:
    return shutil.which("caddy") or absent("caddy (make test-deps installs it)")


@pytest.fixture(scope="module")
async def chaos(anyio_backend):
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def gateway(chaos, binary, tmp_path_factory):
    environ = {"SENTINEL_SERVER__ALLOWED_HOSTS": NAME, "SENTINEL_KEYS__REQUIRED": "true"}
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path_factory.mktemp("gateway"), environ=environ, config=config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def front(gateway: Gateway, binary, tmp_path_factory):
    with caddy(tmp_path_factory.mktemp("caddy"), binary, f"127.0.0.1:{gateway.port}") as running:
        yield running


def test_the_file_as_it_is_is_valid(binary, tmp_path):
    command = [binary, "validate", "--config", str(CADDY), "--adapter", "caddyfile"]
    judged = subprocess.run(command, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr
    assert "not formatted" not in judged.stderr


async def test_a_stream_is_here_before_the_provider_has_said_all(front: Front, gateway: Gateway, chaos):
    key = await gateway.key()
    chaos.reset()
    chaos.script("tokens=8;chunk_ms=60000")
    seen: list[bytes] = []
    body = json.dumps(chat("Live?", stream=True)).encode()
    async with front.caller() as caller:
        asking = asyncio.create_task(first_and_last(caller, body, seen, authorization=f"Bearer {key}"))
        await until(lambda: any(b'"content"' in piece for piece in seen) or asking.done())
        assert chaos.calls[-1].ended is None, "the first word was held back until the last was said"
        while not asking.done():
            chaos.go_on()
            await asyncio.sleep(0.01)
        status, whole = await asking
        page = await caller.get("/dashboard/sign-in")
    assert (status, Sse.read(whole).done) == (200, True)
    assert page.headers["strict-transport-security"]
    assert page.headers["x-frame-options"] == (await gateway.get("/dashboard/sign-in")).headers["x-frame-options"]
    assert "; Secure" in page.headers["set-cookie"], "the gateway was not told that the browser speaks TLS"
    assert "server" not in page.headers


async def test_a_body_without_a_length_that_is_too_large_is_refused_in_the_gateway_s_words(front: Front, gateway: Gateway):
    too_large, bearer = bytes(4 * 2**20 + 1), {"authorization": f"Bearer {await gateway.key()}"}
    async with front.caller() as caller:
        told = [
            await caller.request("POST", "/v1/chat/completions", data=io.BytesIO(too_large), headers=bearer) for _ in range(20)
        ]
    assert {(answer.status, answer.error["code"]) for answer in told} == {(413, "request_too_large")}


async def test_operators_paths_are_served_inside_alone(front: Front, gateway: Gateway):
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    paths = operators((await gateway.get("/openapi.json", headers=admin)).json)
    assert "/config/sources" in paths
    async with front.caller(OUTSIDE) as outside, front.caller(INSIDE) as inside:
        for path in (*paths, "//admin/keys", "/%61dmin/keys"):
            refused = await outside.get(path, **admin)
            assert refused.status == 403, path
            assert refused.error["code"] == "not_from_outside"
            assert refused.headers["strict-transport-security"]
        claimed = await outside.get("/admin/keys", **admin, **{"x-forwarded-for": INSIDE})
        assert claimed.status == 403
        assert (await inside.get("/admin/keys", **admin)).status == 200
        assert (await outside.get("/v1/models", **admin)).status == 200


async def test_a_gateway_that_is_away_is_told_as_openai_would(binary, tmp_path):
    with caddy(tmp_path, binary, f"127.0.0.1:{free_port()}") as front:
        async with front.caller() as caller:
            nobody = await caller.get("/v1/models")
    assert (nobody.status, nobody.error["code"]) == (502, "upstream_error")
    assert "server" not in nobody.headers
