"""What stands in front of gateways, as `deploy` has it: on this machine's own ports, with a certificate of the tests'."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from tests.gateway import DEADLINE, Answer
from tests.server.nginx import MAIN, nginx_with, wait_for
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
NGINX = ROOT / "deploy" / "nginx" / "sentinel.conf"
CADDY = ROOT / "deploy" / "caddy" / "Caddyfile"
CERTIFICATE = ROOT / "tests" / "providers" / "self_signed.pem"
"""Of localhost and 127.0.0.1, with its key."""
NAME = "ai.example.com"
"""Of the gateway, in every file."""
INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
"""Addresses to call from: one that the files let reach everything, and one that they don't."""


def altered(text: str, changes: Mapping[str, str]) -> str:
    """The text with each of these changed, which must be there."""
    for old, new in changes.items():
        assert old in text, f"the file has no {old!r} any more"
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Front:
    """One that runs: its ports for TLS and for plain HTTP, on `host`."""

    port: int
    plain: int
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @asynccontextmanager
    async def caller(self, address: str = INSIDE, *, plain: bool = False) -> AsyncIterator["Caller"]:
        """Somebody at this address of the machine, who believes in the tests' certificate and no other."""
        tls = ssl.create_default_context(cafile=CERTIFICATE)
        connector = aiohttp.TCPConnector(local_addr=(address, 0), ssl=tls, limit=0)
        url = f"http://{self.host}:{self.plain}" if plain else self.url
        timeout = aiohttp.ClientTimeout(total=3 * DEADLINE)
        async with aiohttp.ClientSession(url, connector=connector, headers={"host": NAME}, timeout=timeout) as session:
            yield Caller(session, url)


@dataclass(frozen=True)
class Caller:
    session: aiohttp.ClientSession
    base_url: str

    async def request(self, method: str, path: str, **how: Any) -> Answer:
        """Any request, its path as it stands, redirects not followed. Header names in lower case; none may come twice."""
        url = URL(f"{self.base_url}{path}", encoded=True)
        async with self.session.request(method, url, allow_redirects=False, **how) as response:
            body = await response.read()
        names = [name.lower() for name in response.headers]
        assert len(names) == len(set(names)), f"a header came twice: {sorted(names)}"
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, body)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, headers=headers)


def nginx_site(front: Front, nodes: Sequence[str], changes: Mapping[str, str]) -> str:
    """deploy/nginx/sentinel.conf on these ports, before nodes at these addresses."""
    node = "    server 127.0.0.1:8080 max_fails=0;\n"
    return altered(
        NGINX.read_text(),
        {
            node: "".join(node.replace("127.0.0.1:8080", address) for address in nodes),
            "listen 80;": f"listen {front.host}:{front.plain};",
            "listen 443 ssl http2;": f"listen {front.host}:{front.port} ssl http2;",
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "/etc/letsencrypt/live/ai.example.com/fullchain.pem": str(CERTIFICATE),
            "/etc/letsencrypt/live/ai.example.com/privkey.pem": str(CERTIFICATE),
            **changes,
        },
    )


@contextmanager
def nginx(folder: Path, *nodes: str, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """nginx before nodes at these addresses (`host:port`), with more `changes` to the file."""
    front = Front(free_port(), free_port())
    site = nginx_site(front, nodes, changes or {})
    with nginx_with(folder, MAIN.format(site=site), front.port):
        yield front


@contextmanager
def caddy(folder: Path, binary: str, node: str) -> Iterator[Front]:
    """Caddy before one node, with the tests' certificate: nobody would give it one here."""
    port = free_port()
    here = f"\nhttps://:{port} {{\n\ttls {CERTIFICATE} {CERTIFICATE}"
    site = altered(CADDY.read_text(), {f"\n{NAME} {{": here, "127.0.0.1:8080": node})
    config = folder / "Caddyfile"
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    environ = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [binary, "run", "--config", str(config), "--adapter", "caddyfile"]
    with (folder / "caddy.log").open("wb") as log, subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process:
        try:
            wait_for(port, process)
            yield Front(port, port)
        finally:
            process.terminate()
            process.wait(DEADLINE)


async def first_and_last(caller: Caller, body: bytes, seen: list[bytes], **headers: str) -> tuple[int, bytes]:
    """Ask for a stream; `seen` has its pieces as they come. Status, and all of it."""
    async with caller.session.post("/v1/chat/completions", data=body, headers=headers) as response:
        async for piece in response.content.iter_any():
            seen.append(piece)
            await asyncio.sleep(0)
        return response.status, b"".join(seen)


def operators(document: Mapping[str, Any]) -> list[str]:
    """Paths to GET that a key of scope `inference` does not open, as `/openapi.json` has them; `x` stands for each parameter."""
    asked = {path: route["get"]["security"] for path, route in document["paths"].items() if "get" in route}
    scopes = {path: {scope for way in ways for [scope] in way.values()} for path, ways in asked.items()}
    return [re.sub(r"\{\w+\}", "x", path) for path, needed in scopes.items() if needed and "inference" not in needed]


def directive(text: str, name: str) -> str:
    """What stands behind the one directive of this name."""
    (found,) = re.findall(rf"^\s*{name}\s+([^;]+);", text, re.MULTILINE)
    return str(found)
