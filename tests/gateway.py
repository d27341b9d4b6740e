"""A whole gateway inside a test: the real wiring behind the real server, on the test's own loop, on a free port.

    async with ChaosUpstream() as upstream, running_gateway(tmp_path, config=provider("mock", upstream.base_url)) as gateway:
        answer = await gateway.ask(chat("Hello"))

When it stops, nothing may be left: no task, thread, connection or file, no fault of ours, and no complaint of a library.
"""

import asyncio
import itertools
import json
import logging
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp
import h11
import http_sf
import msgspec

from sentinel_gateway.api.gateway import Faces
from sentinel_gateway.app import open_process
from sentinel_gateway.process import Process
from sentinel_gateway.serving import gateway_server
from sentinel_gateway.settings.load import load

ADMIN_KEY = "sk-sn-admin-of-the-tests"
_ADDRESSES = itertools.count()
DEADLINE = 30.0
"""Seconds after which a test fails instead of waiting on."""
PATIENCE = 10.0
"""Seconds for what the gateway itself soon does without: a busy machine is late, and few tests are about that."""
HOUR, DAY = 3_600, 86_400
CHAT = "/v1/chat/completions"
MODELS = ("mock-model", "mock-small", "mock-large")


def provider(name: str, base_url: str, *, more: str = "") -> str:
    """One provider as YAML below `providers:`. Its models are listed, so that it is never asked for them."""
    return f"  {name}: {{dialect: openai, base_url: '{base_url}', api_key: key-of-{name}, models: [{', '.join(MODELS)}]{more}}}\n"


def one_provider(base_url: str, *, more: str = "") -> str:
    """A configuration with the provider `mock` alone."""
    return f"providers:\n{provider('mock', base_url, more=more)}"


def chat(text: str, /, model: str = "mock-model", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def until(condition: Callable[[], object], seconds: float = DEADLINE) -> float:
    """Wait for something that happens elsewhere on this loop; seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, f"it did not happen within {seconds:g} s"
        await asyncio.sleep(0.002)
    return time.monotonic() - start


async def away_from_the_end_of(span: int, seconds: float = 30.0) -> None:
    """Returns when the hour or the day (UTC) goes on for so long at least: what is counted by it begins anew at its end."""
    left = span - time.time() % span
    if left < seconds:
        await asyncio.sleep(left + 0.1)


@dataclass
class Sse:
    """A stream of server-sent events, read strictly: one `data:` line an event, comments in between."""

    chunks: list[Any] = field(default_factory=list)
    comments: int = 0
    told: dict[str, str] = field(default_factory=dict)
    """What stands in comments at the end, as headers would."""
    done: bool = False

    @classmethod
    def read(cls, body: bytes) -> Self:
        stream = cls()
        assert body.endswith(b"\n\n"), f"the last event is not complete: {body[-80:]!r}"
        for block in body.removesuffix(b"\n\n").split(b"\n\n"):
            assert not stream.done, f"something after [DONE]: {block!r}"
            assert b"\n" not in block, block
            if block.startswith(b": x-"):
                name, _, value = block.decode().removeprefix(": ").partition(": ")
                stream.told[name] = value
            elif block.startswith(b":"):
                assert not stream.told, "nothing but the end comes after what a head would have told"
                stream.comments += 1
            elif block == b"data: [DONE]":
                stream.done = True
            else:
                assert block.startswith(b"data: "), block
                stream.chunks.append(json.loads(block.removeprefix(b"data: ")))
        return stream

    @property
    def error(self) -> dict[str, Any] | None:
        """The error event that ends it."""
        *others, last = self.chunks
        assert not any("error" in chunk for chunk in others), "an error stands before the end"
        return last.get("error")

    @property
    def usages(self) -> list[dict[str, Any]]:
        """The usage chunks."""
        return [chunk["usage"] for chunk in self.chunks if chunk["choices"] == []]

    def text(self, choice: int = 0) -> str:
        """What the deltas of one choice say, joined."""
        deltas = [c["delta"] for chunk in self.chunks for c in chunk.get("choices", ()) if c["index"] == choice]
        return "".join(delta.get("content") or "" for delta in deltas)


@dataclass
class Answer:
    """One answer. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def sse(self) -> Sse:
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8", (self.status, self.body[:200])
        return Sse.read(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The members of OpenAI's error object; there are always these four, and nothing beside it."""
        document = self.json
        assert document.keys() == {"error"}, document
        error: dict[str, Any] = document["error"]
        assert error.keys() == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        return error

    @property
    def tiers(self) -> dict[str, dict[str, Any]]:
        """Cache-Status, as RFC 9211 has it parsed: the parameters of each member by its name, in order."""
        members = http_sf.parse(self.headers["cache-status"].encode("ascii"), tltype="list")
        return {str(name): {key: _plain(value) for key, value in params.items()} for name, params in members}

    @property
    def cache(self) -> str:
        return self.headers["x-cache"]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, http_sf.Token) else value


class Wire:
    """A connection that sends exactly what it is given; answers are read by h11, which shares no code with the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self) -> bytes:
        """What came; nothing at the end."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read(1 << 18)
            except ConnectionResetError:
                return b""

    async def read_until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readuntil(mark)

    async def answer(self, method: str = "POST") -> Answer:
        """The next answer."""
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        if self._unread:
            client.receive_data(self._unread)
        head, body = None, b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await self.read())
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
        self._unread = client.trailing_data[0]
        assert head is not None
        return Answer(head.status_code, {name.decode(): value.decode("latin-1") for name, value in head.headers}, body)

    async def ended(self) -> bool:
        """The server closes the connection, and says nothing more."""
        return await self.read() == b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        """Leave without a goodbye."""
        self.writer.transport.abort()


def post(body: bytes | dict[str, Any], path: str = CHAT, *, headers: str = "") -> bytes:
    """A POST as it goes over the wire. `headers` as lines that end in CRLF."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}{own}\r\n".encode("latin-1") + raw


@dataclass
class Gateway:
    """A running gateway and a client for it."""

    process: Process
    port: int
    config: Path
    session: aiohttp.ClientSession

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> dict[str, str]:
        """The headers of an administrator."""
        return {"authorization": f"Bearer {ADMIN_KEY}"}

    async def wait(self, seconds: float) -> None:
        """As if so long had gone by: what it has answered is on its disk, and by this clock it does all that it does in time."""
        await self.process.tiers._far.flush()  # noqa: SLF001 - nobody else need wait for that
        self.process.clock.put_forward(seconds)

    async def request(self, method: str, path: str, **how: Any) -> Answer:
        """Any request; `how` as aiohttp has it."""
        async with asyncio.timeout(DEADLINE), self.session.request(method, path, **how) as response:
            body = await response.read()
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            assert name.lower() not in headers, f"the header {name} came twice"
            headers[name.lower()] = value
        return Answer(response.status, headers, body)

    @asynccontextmanager
    async def elsewhere(self) -> AsyncIterator["Gateway"]:
        """The same gateway for a client at an address that nobody else has."""
        number = next(_ADDRESSES)
        here = aiohttp.TCPConnector(local_addr=(f"127.1.{number // 250}.{number % 250 + 1}", 0))
        async with aiohttp.ClientSession(self.base_url, connector=here) as session:
            yield replace(self, session=session)

    async def key(self, **fields: Any) -> str:
        """The text of a new client key."""
        made = await self.request("POST", "/admin/keys", json={"name": "test"} | fields, headers=self.admin)
        assert made.status == 201, made.body
        text: str = made.json["key"]
        return text

    async def get(self, path: str, **how: Any) -> Answer:
        return await self.request("GET", path, **how)

    async def ask(self, body: dict[str, Any] | bytes, path: str = CHAT, /, **headers: str) -> Answer:
        """POST a body. `x_cache_ttl="0"` sends that header."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request("POST", path, data=raw, headers=sent)

    async def ask_in_time(self, body: dict[str, Any], **headers: str) -> tuple[dict[str, Any], Answer]:
        """As `ask`, for what is not stored; asks anew if the disk was late, as it may be on a busy machine. The body, too."""
        for attempt in range(50):
            asked = body | {"attempt": attempt}
            answer = await self.ask(asked, **headers)
            if "tier-down" not in answer.headers["cache-status"]:
                return asked, answer
        raise AssertionError("the disk is always late")

    async def connect(self, *, receive_buffer: int | None = None) -> Wire:
        """A connection; with a small buffer what is not read stays with the gateway."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return Wire(*await asyncio.open_connection(sock=sock, limit=1 << 22 if receive_buffer is None else receive_buffer))

    async def reload(self, config: str | None = None) -> Answer:
        """Reload, with another configuration if there is one."""
        if config is not None:
            self.config.write_text(config)
        return await self.request("POST", "/admin/reload", headers=self.admin)

    async def stored(self) -> int:
        """Answers kept, in whichever tier holds more; clears them."""
        answer = await self.request("POST", "/admin/cache/clear", headers=self.admin)
        assert answer.status == 200, answer.body
        cleared: int = answer.json["cleared"]
        return cleared

    def managed(self) -> set[tuple[str, str]]:
        """Method and path of every route of the management app, as it was built: /openapi.json may not tell of all."""
        app: Any = self.process._wiring.app  # noqa: SLF001 - there is no other list
        manage = next(cell for cell in _closure(app) if callable(cell) and cell.__name__ == "manage")
        [observed] = _closure(manage)
        routes = observed._app.routes  # noqa: SLF001 - as above
        found = {(method, route.path_format) for route in routes for method in route.methods}
        assert len(found) > 20
        return found

    def posts(self) -> set[tuple[str, str]]:
        """The same of the faces."""
        app: Any = self.process._wiring.app  # noqa: SLF001 - as above
        faces = next(cell for cell in _closure(app) if isinstance(cell, Faces))
        paths = [face._route.__self__ for face in (faces.openai, faces.anthropic)]  # noqa: SLF001 - as above
        found = {("POST", post.route) for path in paths for post in path._posts.values()}  # noqa: SLF001 - as above
        assert len(found) > 5
        return found

    def places(self) -> float:
        """Requests that hold a place of admission now."""
        return self.metric("sentinel_in_flight")

    def metric(self, sample: str) -> float:
        """One sample of the exposition text, written as there; 0 if there is none."""
        text = self.process._wiring._render_metrics()[0].decode()  # noqa: SLF001 - a request for it would change it
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == sample]
        return float(values[0]) if values else 0.0


def _closure(function: Any) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__]


class _Complaints(logging.Handler):
    """What libraries say that nobody should have to read."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def running_tasks() -> frozenset[Any]:
    """Tasks of this loop, but for those of the tests' runner."""
    return frozenset(task for task in asyncio.all_tasks() if not task.get_coro().__qualname__.startswith("TestRunner."))


@asynccontextmanager
async def running_gateway(
    folder: Path,
    *,
    environ: Mapping[str, str | None] | None = None,
    config: str = "",
    semantic: bool = False,
    alone: bool = True,
    patient: bool = True,
) -> AsyncIterator[Gateway]:
    """Start a gateway whose state lives in `folder`, and stop it. `config` is the text of its YAML file.

    One that runs within another is not `alone`: whether anything is left is then for the outer one to tell. One that is not
    `patient` does without its disk and its model as soon as it does elsewhere.

    A variable that is None in `environ` is not set. The `semantic` tier is off unless asked for: most tests ask questions that
    differ in a name only. No hit is explored unless that is asked for: it would be another answer now and then. No target is
    asked twice by one request, and none is passed over: most tests are about what one failure looks like.
    """
    file = folder / "sentinel.yaml"
    file.touch(mode=0o600)
    file.write_text(config)
    variables = {
        "SENTINEL_DATA_DIR": str(folder / "data"),
        "SENTINEL_ADMIN_KEY": ADMIN_KEY,
        "LOG_LEVEL": "error",
        "PORT": "0",
        "SENTINEL_SERVER__DRAIN_NOTICE": "0",
        "SENTINEL_CACHE__SEMANTIC__ENABLED": str(semantic),
        "SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0",
        "SENTINEL_ROUTING__RETRY_BUDGET": "0",
        "SENTINEL_ROUTING__COOL_DOWN": "0",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000000",
        **(environ or {}),
    }
    given = {name: value for name, value in variables.items() if value is not None}
    reading = partial(load, given, cwd=folder, config=file)
    loaded = reading()
    before = _Held.now(folder)
    complaints = _Complaints()
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    async with open_process(reading, loaded) as process:
        if patient:
            _be_patient(process)
        for logger in loggers:
            logger.addHandler(complaints)
        server = gateway_server(process, loaded.settings)
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started or serving.done())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)  # here they are meant for the run of the tests
        session = aiohttp.ClientSession(f"http://127.0.0.1:{server.port}")
        gateway = Gateway(process, server.port, file, session)
        try:
            yield gateway
            faults = gateway.metric('sentinel_events_total{event="internal_error"}')
        finally:
            await session.close()
            server.end()
            done, _ = await asyncio.wait({serving}, timeout=DEADLINE)
            for connection in list(server.server_state.connections):
                connection.transport.abort()  # of a test that failed: the next ones need not wait for them
            await serving
            for logger in loggers:
                logger.removeHandler(complaints)
    assert done, "it did not stop by itself"
    assert faults == 0, "a fault of ours was answered"
    assert complaints.lines == []
    if alone:
        await before.wait_until_back()


def _be_patient(process: Process) -> None:
    stores, semantic = process.stores, process.semantic
    for one in (stores.tiers._far, stores.counter, stores.embedder, semantic and semantic.index):  # noqa: SLF001 - no setting
        limits = getattr(one, "_limits", None)
        patient = {name: PATIENCE for name in ("deadline", "short_deadline") if hasattr(limits, name)}
        if patient:
            one._limits = msgspec.structs.replace(limits, **patient)  # noqa: SLF001 - as above
    file = stores.state.file
    for store in (file._reading, file._writing, stores.once._store):  # noqa: SLF001 - as above
        store._deadline = PATIENCE  # noqa: SLF001 - as above
    stores.state.ring.current = PATIENCE


@dataclass(frozen=True)
class _Held:
    """What the program holds, as far as a gateway in `folder` may hold it."""

    folder: Path
    tasks: frozenset[Any]
    threads: frozenset[str]
    files: Counter[str]
    """How many of each: a socket that another gateway's client opens anew may get another number."""

    @classmethod
    def now(cls, folder: Path) -> Self:
        # The loop's own pool of threads stays for the next who needs it.
        threads = frozenset(
            thread.name for thread in threading.enumerate() if not thread.name.startswith(("asyncio_", "uvloop_"))
        )
        return cls(folder, running_tasks(), threads, _open_files(folder))

    def left_over(self) -> list[str]:
        now = _Held.now(self.folder)
        tasks = [repr(task) for task in now.tasks - self.tasks]
        return [*tasks, *(now.threads - self.threads), *(now.files - self.files)]

    async def wait_until_back(self) -> None:
        left: list[str] = []

        def back() -> bool:
            left[:] = self.left_over()
            return left == []

        with suppress(AssertionError):  # the one below says what is left
            await until(back)
        # As it was seen then: a gateway that several tests share may have something open by now.
        assert left == [], left


def _open_files(folder: Path) -> Counter[str]:
    """Open files by their names; sockets and pipes are one name each."""
    files: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing itself
            name = str(link.readlink())
            # A gateway that several tests share opens what it keeps when it gets to it: it may be in the midst of another's life.
            if "/data/" not in name or name.startswith(str(folder)):
                files[name.partition(":[")[0]] += 1
    return files


def header_lines(headers: Iterable[tuple[str, str]]) -> str:
    """Headers as `post` takes them."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers)
