"""I6: behind an nginx that keeps what it may by its URL alone, nothing of a tenant's is kept, and so none is given to another."""

import json
import re
import shutil

import aiohttp
import pytest
from yarl import URL

from bench.chaos import ChaosUpstream
from tests.gateway import ADMIN_KEY, Gateway, chat, one_provider, running_gateway
from tests.server.nginx import MAIN, nginx_with
from tests.servers import free_port

pytestmark = pytest.mark.anyio

SITE = """
    proxy_cache_path kept keys_zone=kept:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{node};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache kept;
            proxy_cache_key $uri;
            proxy_cache_methods GET HEAD POST;
            proxy_cache_valid any 10m;
            {more}
            add_header X-Kept $upstream_cache_status always;
        }}
    }}
"""
"""By default it heeds what an answer says of being kept; `more` may have it heed nothing."""
ONCE = 4
"""Who ask first: each of them is somebody else."""
HEEDLESS = "proxy_ignore_headers Cache-Control Expires Vary Set-Cookie X-Accel-Expires;"
READ = ["/v1/models", "/v1/models/mock/mock-model", "/v1/models/x.css", "/v1/metrics", "/metrics", "/costs", "/config", "/health"]
READ += [
    "/admin/keys",
    "/admin/keys/x.js",
    "/admin/audit",
    "/api/monitoring/providers",
    "/dashboard",
    "/dashboard/x.css",
    "/docs",
]
READ += ["/openapi.json", "/nowhere", "/nowhere.png", "//v1/models", "/v1/%6dodels", "/livez", "/ready"]
ENDINGS = ("", "/x.css", ".css", "%2ecss", ";x.css", "%00.css", "%3Fx.css")
"""What makes a path look like a file's, to a proxy that goes by that."""


def every_path(gateway: Gateway) -> list[str]:
    """Every route that can be read, and its likes that end as a file does."""
    routes = sorted(re.sub(r"\{[^}]*\}", "x", path) for method, path in gateway.managed() if method == "GET")
    return [path + ENDINGS[number % len(ENDINGS)] for number, path in enumerate(routes)] + routes


@pytest.fixture
async def gateway(anyio_backend, tmp_path, absent):
    if shutil.which("nginx") is None:
        absent("nginx (make test-deps installs it)")
    async with (
        ChaosUpstream() as upstream,
        running_gateway(tmp_path, environ={"SENTINEL_KEYS__REQUIRED": "true"}, config=one_provider(upstream.base_url)) as gateway,
    ):
        yield gateway


async def kept_by_nginx(gateway: Gateway, folder, more: str, paths: list[str]) -> tuple[set[str], list[str]]:
    """What nginx gave again from what it had kept, by method and path, and what two tenants got for the same question.

    `paths` are looked at beside those of `READ`, once by each who asks.
    """
    keys = [await gateway.key(tenant=name, scopes=["inference", "read", "admin"]) for name in ("one", "two")]
    port = free_port()
    folder.mkdir()
    again: set[str] = set()
    marks: list[str] = []
    with nginx_with(folder, MAIN.format(site=SITE.format(port=port, node=gateway.port, more=more)), port):
        front = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            for turn, key in enumerate([*keys, ADMIN_KEY, "", *keys]):
                headers = {"authorization": f"Bearer {key}"} if key else {}
                for path in (*READ, *paths) if turn < ONCE else READ:
                    async with session.get(URL(front + path, encoded=True), headers=headers, allow_redirects=False) as answer:
                        if answer.headers.get("x-kept") == "HIT":
                            again.add(f"GET {path}")
                for path, body in (("/v1/chat/completions", chat("Who?", user=key)), ("/v1/messages", {}), ("/v1/query", {})):
                    async with session.post(front + path, data=json.dumps(body), headers=headers) as answer:
                        if answer.headers.get("x-kept") == "HIT":
                            again.add(f"POST {path}")
                        if key in keys and answer.status == 200:
                            marks.append((await answer.json())["choices"][0]["message"]["content"])
    return again, marks


async def test_nothing_of_a_tenants_is_kept_or_given_to_another(gateway: Gateway, tmp_path):
    again, marks = await kept_by_nginx(gateway, tmp_path / "heeds", "", every_path(gateway))
    assert again == set()
    first, second, *later = marks
    assert first != second, "the provider answers each tenant differently"
    assert later == [first, second]


async def test_the_same_proxy_keeps_answers_where_it_heeds_nothing(gateway: Gateway, tmp_path):
    """Else the test above would pass behind a proxy that keeps nothing at all."""
    again, _ = await kept_by_nginx(gateway, tmp_path / "heedless", HEEDLESS, [])
    assert {"GET /v1/models", "POST /v1/chat/completions"} <= again
