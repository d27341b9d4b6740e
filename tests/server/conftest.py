"""A real server in a thread, an app that tells what reached it, and a client that speaks raw bytes.

Answers are read by h11, which shares no code with the server and is strict.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote_to_bytes

import h11
import msgspec
import pytest
import uvloop

from sentinel_gateway.api.bounds import ServerLimits
from sentinel_gateway.api.connection import GatewayProtocol
from sentinel_gateway.api.server import Drain, GatewayServer, Hooks, build_server
from sentinel_gateway.core.record import Record

DEADLINE = 30.0
"""Seconds after which a test fails instead of waiting on."""
SHORT = ServerLimits(header_timeout=0.3, body_timeout=0.3, write_timeout=0.3, keep_alive=0.3, max_connections=500)
PATIENT = ServerLimits()
GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"


def post(body: bytes, path: bytes = b"/echo", headers: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n%b" % (path, len(body), headers, body)


@dataclass
class Seen:
    """A request as the app saw it. `body` is None until it was complete."""

    scope: dict
    body: bytes | None = None


@dataclass
class App:
    """Tells what it was asked; its path says what it does."""

    seen: list[Seen] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def paths(self) -> list[str]:
        return [seen.scope["path"] for seen in self.seen]

    async def __call__(self, scope, receive, send):
        seen = Seen(scope)
        self.seen.append(seen)
        path = scope["path"].rstrip("/")
        await getattr(self, "_" + path.rpartition("/")[2], self._echo)(seen, receive, send)

    async def _echo(self, seen, receive, send):
        seen.body = await self._body(seen, receive)
        if seen.body is not None:
            told = {name: str(seen.scope[name]) for name in ("method", "path", "raw_path", "query_string", "http_version")}
            body = msgspec.json.encode(told | {"body": seen.body.decode("latin-1")})
            await whole(send, 200, body)

    async def _body(self, seen, receive):
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(seen.scope["path"])
                return None
            body += message["body"]
            if not message["more_body"]:
                return body

    async def _early(self, seen, receive, send):
        await whole(send, 413, b'{"error": {}}')

    async def _wait(self, seen, receive, send):
        """Reads nothing until released."""
        await self.release.wait()
        await self._echo(seen, receive, send)

    async def _stay(self, seen, receive, send):
        """Never answers; notices that its caller leaves."""
        await self._body(seen, receive)
        leaving = await receive()
        self.left.append(leaving["type"])

    async def _stream(self, seen, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _flood(self, seen, receive, send):
        """32 MiB, in pieces, as fast as they are read."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 25))]})
        for number in range(512):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": number < 511})
        leaving = await receive()
        self.left.append(leaving["type"])

    async def _slab(self, seen, receive, send):
        """16 MiB in one piece."""
        await whole(send, 200, bytes(1 << 24))

    async def _nothing(self, seen, receive, send):
        """An answer without a body, and so without a length."""
        status = int(seen.scope["query_string"])
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def _split(self, seen, receive, send):
        """A header that would become two."""
        split = b"a" + unquote_to_bytes(seen.scope["query_string"]) + b"x-forged: b"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", split), (b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _crash(self, seen, receive, send):
        raise ValueError("sk-secret")

    async def _crash_late(self, seen, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"123", "more_body": True})
        raise ValueError("sk-secret")


async def whole(send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Gauge:
    open: int = 0
    total: int = 0
    refusals: list[int] = field(default_factory=list)

    def opened(self) -> None:
        self.open += 1
        self.total += 1

    def closed(self) -> None:
        self.open -= 1

    def refused(self, record: Record) -> None:
        self.refusals.append(record.status)


class Loop(uvloop.Loop):
    """Its clock can be put forward; timers that are set stay where they were."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Running:
    """A server in its own thread."""

    def __init__(self, limits: ServerLimits) -> None:
        self.app = App()
        self.gauge = Gauge()
        self.loop: Loop
        hooks = Hooks(self.gauge, drain=list, reload=list)
        drain = Drain(notice=0.0, timeout=0.2)
        self.server: GatewayServer = build_server(self.app, host="127.0.0.1", port=0, limits=limits, drain=drain, hooks=hooks)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        until(lambda: self.server.started)
        self.port = self.server.port

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.server.serve()

    def do(self, action: Callable[[], object]) -> None:
        self.loop.call_soon_threadsafe(action)

    def put_forward(self, seconds: float) -> None:
        """As if so long had gone by: who is late by then is cut. For tests that would else have to be in time themselves."""
        done = threading.Event()

        def forward() -> None:
            self.loop.ahead += seconds
            for connection in self.connections:
                connection._look()  # noqa: SLF001 - its timer goes by the system's clock
            done.set()

        self.do(forward)
        assert done.wait(DEADLINE)

    @property
    def connections(self) -> list[GatewayProtocol]:
        return list(self.server.server_state.connections)

    def reads(self, what: str, connections: int = 1) -> None:
        """Returns once so many have sent part of what they send: a "head" or a "body"."""
        until(lambda: [one._stage for one in self.connections].count(what) == connections)  # noqa: SLF001 - nobody else asks

    def stop(self) -> None:
        with suppress(RuntimeError):  # it was stopped before: its loop is closed
            self.do(self.server.end)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def connect(self) -> "Wire":
        return Wire(self.port)

    def ask(self, *sent: bytes, methods: tuple[str, ...] = ()) -> list["Answer"]:
        """Send, then read all there is until the server closes."""
        with self.connect() as wire:
            for part in sent:
                wire.send(part)
            return wire.answers(methods)


def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    @property
    def json(self):
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, str | None]:
        return self.json["error"]


class Wire:
    """A connection that sends exactly what it is given."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.was_reset = False
        self._early = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.was_reset = True

    def read(self) -> bytes:
        """What came; nothing at the end."""
        try:
            return self.socket.recv(1 << 18)
        except ConnectionResetError:
            self.was_reset = True
            return b""

    def read_until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            more = self.read()
            assert more, f"the connection ended before {mark!r}: {data!r}"
            data += more
        return data

    def rest(self) -> bytes:
        """Everything until the server closes."""
        data = b""
        while more := self.read():
            data += more
        return data

    def answers(self, methods: tuple[str, ...] = ()) -> list[Answer]:
        return parse(self.rest(), methods)

    def trickle(self, data: bytes, *, every: float) -> float:
        """Send byte by byte until the server has had enough; seconds that it took."""
        start = time.monotonic()
        self.socket.settimeout(every)
        for byte in data:
            self.send(bytes([byte]))
            try:
                self._early += (more := self.socket.recv(1 << 16))
            except TimeoutError:
                continue
            except ConnectionResetError:
                self.was_reset = True
                break
            if not more:
                break
        else:
            pytest.fail("the server took it all")
        self.socket.settimeout(DEADLINE)
        return time.monotonic() - start

    @property
    def trickled(self) -> list[Answer]:
        return parse(self._early)


def parse(data: bytes, methods: tuple[str, ...] = ()) -> list[Answer]:
    """Answers, in order, read as strictly as h11 does. `methods` are those of the requests, GET where not given."""
    answers: list[Answer] = []
    while data:
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        client.receive_data(b"")
        answer, data = _next_answer(client)
        if answer is None:
            break
        answers.append(answer)
    return answers


def _next_answer(client: h11.Connection) -> tuple[Answer | None, bytes]:
    answer = None
    while True:
        try:
            event = client.next_event()
        except h11.RemoteProtocolError as error:
            if "without sending complete" not in str(error):
                raise
            return answer, b""
        match event:
            case h11.InformationalResponse():
                continue
            case h11.Response():
                headers = {name.decode(): value.decode() for name, value in event.headers}
                answer = Answer(event.status_code, headers, b"", complete=False)
            case h11.Data():
                answer.body += bytes(event.data)
            case h11.EndOfMessage():
                answer.complete = True
                return answer, client.trailing_data[0]
            case _:
                return answer, b""


@pytest.fixture(scope="module")
def hurried() -> Iterator[Running]:
    """A server whose deadlines are all 0.3 s."""
    server = Running(SHORT)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    """A server with the limits of production."""
    server = Running(PATIENT)
    yield server
    server.stop()


@pytest.fixture
def start() -> Iterator[Callable[[ServerLimits], Running]]:
    """start(limits) is a server of one's own."""
    running: list[Running] = []

    def run(limits: ServerLimits) -> Running:
        running.append(Running(limits))
        return running[-1]

    yield run
    for server in running:
        server.stop()
