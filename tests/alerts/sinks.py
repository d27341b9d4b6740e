"""Where alerts arrive in tests: an HTTP server that verifies signatures by itself and fails on request, and a mail server."""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

import standardwebhooks
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass
class Arrived:
    """A request that came. Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def verify_as_receivers_do(self) -> None:
        """By the specification's own library, which also refuses what was signed more than 5 minutes ago."""
        assert standardwebhooks.Webhook(SECRET).verify(self.body, self.headers) == self.json

    def verify(self, secret: str = SECRET) -> None:
        """By the words of the specification, and by no code of ours."""
        signed = b".".join([self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), self.body])
        key = base64.b64decode(secret.removeprefix("whsec_"))
        version, _, found = self.headers["webhook-signature"].partition(",")
        assert version == "v1"
        assert base64.b64decode(found) == hmac.new(key, signed, hashlib.sha256).digest()


@dataclass
class HttpSink:
    """`script` are the statuses to answer with, then 204; while not `answering` it says nothing."""

    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)
    script: deque[int] = field(default_factory=deque)
    location: str = ""
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.arrived.append(Arrived(request.method, request.path_qs, headers, body))
        status = self.script.popleft() if self.script else 204
        await self.answering.wait()
        return web.Response(status=status, headers={"location": self.location} if self.location else {})


@asynccontextmanager
async def http_sink() -> AsyncIterator[HttpSink]:
    sink = HttpSink()
    sink.answering.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", sink.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sink.port = runner.addresses[0][1]
    try:
        yield sink
    finally:
        await runner.cleanup()


class _Kept(MessageHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)


@contextmanager
def mail_sink(port: int) -> Iterator[list[Message]]:
    """A mail server without TLS; what came."""
    kept = _Kept()
    controller = Controller(kept, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield kept.mails
    finally:
        controller.stop()
