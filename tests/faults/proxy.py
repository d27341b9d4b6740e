"""A TCP proxy with faults, to stand between the gateway and any server: it does to a connection what networks do.

    async with FaultProxy(redis_port) as proxy:
        ...                                    # clients connect to proxy.port
        proxy.answers.fault = Fault(delay=0.08, jitter=0.02)
        await proxy.refuse()
        assert proxy.did["delayed"] > 100

All may be switched while connections are open. What it did is counted, because a fault that did not happen proves nothing.
"""

import asyncio
import errno
import os
import random
import socket
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.servers import a_port

READ = 1 << 16
HELD = 256
"""Batches on their way in one direction of a connection; more stay with their sender."""
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing drops what was not sent, and the other side is told by RST."""


@dataclass(frozen=True)
class Fault:
    """What befalls the bytes that go one way. A batch is what one read brought. Chances are from 0 to 1, times are seconds."""

    delay: float = 0.0
    """Every batch comes so much later."""
    jitter: float = 0.0
    """And by chance up to so much more; the order stays."""
    freeze: bool = False
    """Nothing passes, and nothing is closed; what was held back passes later."""
    reset: float = 0.0
    """The chance of a batch that the connection is reset instead."""
    trickle: float = 0.0
    """Bytes pass one by one, so far apart."""
    truncate: int | None = None
    """Each connection passes so many bytes more, and is then closed."""
    garbage: float = 0.0
    """The chance of a batch that others, as many, stand in for its bytes."""


SOUND = Fault()


class Way:
    """One direction through the proxy. `fault` may be set at any time, for all connections."""

    def __init__(self) -> None:
        self._fault = SOUND
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault.freeze:
            self._flows.clear()
        else:
            self._flows.set()

    @property
    def flows(self) -> bool:
        return self._flows.is_set()

    async def flow(self) -> None:
        """Wait until bytes may pass."""
        await self._flows.wait()


class FaultProxy:
    """Listens on a loopback port of its own while the context is open, and passes on to `port`.

    `requests` is the way to the server, `answers` the way back. `did` counts: connected, refusing, unanswering (how often it was
    told to), delayed, frozen, garbled (batches), trickled (bytes), reset, half-closed, truncated (connections).
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self.did: Counter[str] = Counter()
        self.requests, self.answers = Way(), Way()
        self.chance = random.Random(seed)
        self.port = 0
        self._server = ("127.0.0.1", port)
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._links: set[_Link] = set()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop_accepting()
        await self.reset()

    @property
    def open(self) -> int:
        """Connections that pass through it now."""
        return len(self._links)

    async def refuse(self) -> None:
        """Nobody listens any more: who connects is refused at once. What is open stays open."""
        self._stop_accepting()
        with socket.socket() as probe:
            refusal = probe.connect_ex(("127.0.0.1", self.port))
        assert refusal == errno.ECONNREFUSED, os.strerror(refusal)
        self.did["refusing"] += 1

    async def blackhole(self) -> None:
        """Who connects is told nothing at all, as behind a firewall that drops. What is open stays open."""
        self._stop_accepting()
        self._listener = self._bound()
        self._listener.listen(0)
        while await self._is_answered():  # the kernel answers until its queue is full
            pass
        self.did["unanswering"] += 1

    async def accept(self) -> None:
        """Take connections again."""
        self._stop_accepting()
        self._listen()

    async def reset(self) -> None:
        """End every open connection by RST, on both sides."""
        for link in list(self._links):
            await link.reset()

    def half_close(self) -> None:
        """Tell every client that no more answers come; what it sends still reaches the server."""
        for link in self._links:
            link.end_answers()

    def heal(self) -> None:
        """Bytes pass as they should."""
        self.requests.fault = self.answers.fault = SOUND

    def _bound(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        self._bind(listener)
        return listener

    def _bind(self, listener: socket.socket) -> None:
        """To its port, which must not be another's while it refuses."""
        while not self.port:
            port = a_port()
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                self.port = port
                return
        listener.bind(("127.0.0.1", self.port))

    def _listen(self) -> None:
        self._listener = self._bound()
        self._listener.listen(1024)
        asyncio.get_running_loop().add_reader(self._listener, self._accept_one, self._listener)

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has left already
            return
        link = _Link(self, client)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))

    def _stop_accepting(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
        for sock in (*self._fillers, *([self._listener] if self._listener else ())):
            sock.close()
        self._fillers, self._listener = [], None

    async def _is_answered(self) -> bool:
        filler = socket.socket()
        filler.setblocking(False)
        self._fillers.append(filler)
        try:
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_connect(filler, ("127.0.0.1", self.port))
        except TimeoutError:
            return False
        return True

    async def _connect(self) -> socket.socket:
        """A connection to the server."""
        server = socket.socket()
        server.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(server, self._server)
        except BaseException:
            server.close()
            raise
        return server


class _Link:
    """One client's connection, and ours to the server for it."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.task = asyncio.create_task(self._serve())

    async def reset(self) -> None:
        self._proxy.did["reset"] += 1
        self._break()
        self.task.cancel()
        await asyncio.wait({self.task})
        self._close()  # again, for a task that had not even begun

    def end_answers(self) -> None:
        self._proxy.did["half-closed"] += 1
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def _break(self) -> None:
        for sock in self._sockets():
            with suppress(OSError):  # closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)

    def _close(self) -> None:
        for sock in self._sockets():
            sock.close()

    def _sockets(self) -> list[socket.socket]:
        return [self._client] if self._server is None else [self._client, self._server]

    async def _serve(self) -> None:
        """Pass on both ways until both have ended, or either breaks."""
        proxy = self._proxy
        try:
            self._server = server = await proxy._connect()  # noqa: SLF001 - its other half
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            proxy.did["connected"] += 1
            async with asyncio.TaskGroup() as both:
                both.create_task(_Stream(proxy, proxy.requests, self._client, server).run())
                both.create_task(_Stream(proxy, proxy.answers, server, self._client).run())
        except* _Reset:
            proxy.did["reset"] += 1
            self._break()
        except* _Cut:
            proxy.did["truncated"] += 1
        except* OSError:  # one side has gone without a goodbye, and so does the other
            self._break()
        finally:
            self._close()


class _Reset(Exception):
    """Chance wants this connection reset."""


class _Cut(Exception):
    """All that may pass has passed."""


class _Stream:
    """What goes one way on one connection."""

    def __init__(self, proxy: FaultProxy, way: Way, source: socket.socket, target: socket.socket) -> None:
        self._proxy = proxy
        self._way = way
        self._source, self._target = source, target
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(HELD)
        self._known, self._passed = SOUND, 0

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _read(self) -> None:
        due, data = 0.0, b"-"
        while data:
            try:
                data = await self._loop.sock_recv(self._source, READ)
            except OSError as exc:
                await self._queue.put((due, exc))
                return
            fault = self._way.fault
            if data and (fault.delay or fault.jitter):
                self._proxy.did["delayed"] += 1
            due = max(due, self._loop.time() + fault.delay + fault.jitter * self._proxy.chance.random())
            await self._queue.put((due, data))

    async def _write(self) -> None:
        while True:
            due, data = await self._queue.get()
            wait = due - self._loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if not self._way.flows:
                self._proxy.did["frozen"] += 1
                await self._way.flow()
            if isinstance(data, OSError):
                raise data
            if not data:
                with suppress(OSError):
                    self._target.shutdown(socket.SHUT_WR)
                return
            await self._pass_on(data, self._way.fault)

    async def _pass_on(self, data: bytes, fault: Fault) -> None:
        chance, did = self._proxy.chance, self._proxy.did
        if fault is not self._known:
            self._known, self._passed = fault, 0
        if chance.random() < fault.reset:
            raise _Reset
        if chance.random() < fault.garbage:
            did["garbled"] += 1
            data = chance.randbytes(len(data))
        cut = fault.truncate is not None and self._passed + len(data) > fault.truncate
        if cut:
            data = data[: fault.truncate - self._passed]
        self._passed += len(data)
        pieces = [bytes([byte]) for byte in data] if fault.trickle else [data]
        for piece in pieces:
            await self._loop.sock_sendall(self._target, piece)
            if fault.trickle:
                did["trickled"] += 1
                await asyncio.sleep(fault.trickle)
        if cut:
            raise _Cut
