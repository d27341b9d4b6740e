"""deploy/caddy/Caddyfile, run by a real Caddy before a real gateway."""

import asyncio
import io
import json
import shutil
import subprocess

import pytest

from bench.chaos import ChaosUpstream
from tests.deploy.fronts import CADDY, INSIDE, NAME, OUTSIDE, Front, caddy, first_and_last
from tests.gateway import ADMIN_KEY, Gateway, Sse, chat, one_provider, running_gateway, until

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
        refused = await caller.request("POST", "/v1/chat/completions", data=io.BytesIO(bytes(4 * 2**20 + 1)))
        page = await caller.get("/dashboard/sign-in")
    assert (status, Sse.read(whole).done) == (200, True)
    assert refused.status in {401, 413}
    assert page.headers["strict-transport-security"]
    assert page.headers["x-frame-options"] == (await gateway.get("/dashboard/sign-in")).headers["x-frame-options"]
    assert "; Secure" in page.headers["set-cookie"], "the gateway was not told that the browser speaks TLS"
    assert "server" not in page.headers


async def test_operators_paths_are_served_inside_alone(front: Front):
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with front.caller(OUTSIDE) as outside, front.caller(INSIDE) as inside:
        for path in ("/admin/keys", "/metrics", "/v1/metrics", "/config", "/dashboard", "//admin/keys", "/%61dmin/keys"):
            assert (await outside.get(path, **admin)).status in {403, 404}, path
        claimed = await outside.get("/admin/keys", **admin, **{"x-forwarded-for": INSIDE})
        assert claimed.status == 403
        assert (await inside.get("/admin/keys", **admin)).status == 200
        assert (await outside.get("/v1/models", **admin)).status == 200
