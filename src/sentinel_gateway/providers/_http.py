"""The one HTTP client that all upstream calls go through: pooled, bounded in bytes and in time, and strict.

`HttpClient` gives whole replies and byte streams and raises `UpstreamError`s; nothing above knows what a connection is
(`_connection.py`). It never follows a redirect, keeps no cookie, asks for no compression and refuses it if it comes, reads no
proxy settings from the environment, and sends only the headers that it is given plus its own. What an answer *means* is read
elsewhere.
"""

import asyncio
import contextlib
import re
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from copy import copy
from io import BytesIO
from types import TracebackType
from typing import Final, Self

from sentinel_gateway.core.via import written
from sentinel_gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable, let_go
from sentinel_gateway.ports import Unsent, UpstreamCall
from sentinel_gateway.providers._connection import (
    ROOM_SIZE,
    BrokenOff,
    Connection,
    Disconnected,
    Headers,
    Origin,
    TransportError,
    connect,
)
from sentinel_gateway.providers._deadlines import Limit, Timeouts
from sentinel_gateway.providers._errors import MAX_READ, UpstreamTooLong, read_failure
from sentinel_gateway.providers._provider import OK
from sentinel_gateway.providers._tls import verifying_tls
from sentinel_gateway.providers._url import read_url

MIB: Final = 1024 * 1024
MAX_REPLY_BYTES: Final = 32 * MIB
MAX_STREAM_BYTES: Final = 256 * MIB
"""A stream is passed on, not kept, so it may be longer than a reply: a chunk carries some 200 bytes for each token."""
KEEP_ALIVE_SECONDS: Final = 15.0
STALE_SECONDS: Final = 1.0
"""A pooled connection that the provider had already closed fails within a round trip. One that fails later was at work."""
EVENTS: Final = "text/event-stream"
"""What is accepted where a stream is asked for."""
DRAINING: Final = Timeouts(first_byte=0.05, total=0.05)

_UNSENDABLE: Final = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")


class Endpoint:
    """Where a provider takes one kind of request, and what every request there carries. `url` as configured, good or bad."""

    __slots__ = ("_heads", "headers", "host", "once", "origin", "provider", "target", "through", "timeouts", "traceparent")

    def __init__(self, provider: str, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> None:
        self.provider = provider
        self.headers = headers
        self.timeouts = timeouts
        self.once = False
        """A request goes out on one connection, and on no other if that has ended."""
        self.traceparent = ""
        self.through = ""
        """The gateways that a request has come through before this one."""
        self.origin, self.host, self.target = read_url(url)
        self._heads: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<Endpoint {self.provider} {self.host}{self.target}>"

    def serving(self, call: UpstreamCall) -> "Endpoint":
        """The same, for a call that may take less time than others, must not be sent again, came through others or is traced."""
        if call.deadlines is None and not call.once and not call.through and not call.traceparent:
            return self
        own = copy(self)
        own.once, own.traceparent = call.once, call.traceparent
        if call.through:
            own.through, own._heads = call.through, {}  # noqa: SLF001 - a copy of this one
        if call.deadlines is not None:
            own.timeouts = self.timeouts.within(call.deadlines)
        return own

    def head(self, body: bytes | None, request_id: str, accept: str, own: Mapping[str, str]) -> bytes:
        """What a request begins with, up to its `body` (POST; GET if None). `own`: the client's headers."""
        method = "GET" if body is None else "POST"
        shared = self._heads.get((method, accept)) or self._shared(method, accept, own)
        named = f"X-Request-Id: {request_id}\r\n" if request_id else ""
        traced = f"Traceparent: {self.traceparent}\r\n" if self.traceparent else ""
        sized = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{shared}{named}{traced}{sized}\r\n".encode("latin-1")

    def _shared(self, method: str, accept: str, own: Mapping[str, str]) -> str:
        """The lines that all requests begin with."""
        via = {"Via": f"{self.through}, {own['Via']}"} if self.through else {}
        merged = {
            name.lower(): (name, value)
            for source in (own, via, {"Accept": accept}, self.headers)
            for name, value in source.items()
        }
        lines = [f"{method} {self.target} HTTP/1.1", f"Host: {self.host}", *(": ".join(line) for line in merged.values())]
        if any(_UNSENDABLE.search(line) for line in lines):
            raise UpstreamUnreachable(
                f"{self.provider} can't be asked: its base_url or a header of its configuration holds what HTTP can't carry."
            )
        shared = self._heads[method, accept] = "".join(f"{line}\r\n" for line in lines)
        return shared


class HttpClient:
    """The connections to all providers. `via` is what this gateway is called there, so that a loop can be told.

    Idle connections are kept for `keep_alive` seconds.
    """

    def __init__(self, *, via: str, version: str, keep_alive: float = KEEP_ALIVE_SECONDS) -> None:
        self._keep_alive = keep_alive
        self._own = {"Via": written([via]), "User-Agent": f"sentinel/{version}", "Accept-Encoding": "identity"}
        self._tls: ssl.SSLContext | None = None
        self._idle: defaultdict[Origin, dict[Connection, None]] = defaultdict(dict)
        """By origin; the one that has been idle for longest is the first."""
        self._all: set[Connection] = set()
        self._room = memoryview(bytearray(ROOM_SIZE))
        self._sweeping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "closed" if self._tls is None else f"open, {len(self._all)} connections"
        return f"<HttpClient {self._own['Via']!r} {state}>"

    async def open(self) -> None:
        """Must be awaited on the loop that makes the calls."""
        self._loop = asyncio.get_running_loop()  # asked for each time, it takes a system call
        self._tls = await asyncio.to_thread(verifying_tls)

    async def close(self) -> None:
        """End every connection, at once."""
        self._tls = None
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._all):
            connection.abort()
        await asyncio.sleep(0)  # the loop closes them in its next turn

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def send(
        self, endpoint: Endpoint, body: bytes | None, *, request_id: str = "", accept: str = "application/json"
    ) -> "ByteStream":
        """Send `body` (POST; GET if None); returns when the status is known, whatever it is.

        The caller owns the stream, and reads it whole or closes it.

        Providers close idle connections, sometimes just as we send; then the same request goes out once more.

        A completion isn't idempotent, so this needs reason to believe that the request was never read: the connection came
        from the pool, it ended before the first byte of an answer, and it did so within `STALE_SECONDS`. Where that is not reason
        enough, the endpoint says `once`.
        """
        head, origin, started = endpoint.head(body, request_id, accept, self._own), endpoint.origin, self._loop.time()
        if origin is None:
            raise UpstreamUnreachable(f"{endpoint.provider} can't be reached: its base_url isn't an HTTP URL.")
        try:
            pooled = await self._take(origin, started)
            while True:
                connection = pooled or await self._connect(origin, endpoint)
                stream = ByteStream(connection, endpoint, self._release, started=started)
                try:
                    connection.ask(head, body or b"")
                    while not connection.status:
                        await connection.news()
                    break
                except BaseException as error:
                    stream.close()
                    unread = isinstance(error, Disconnected) and connection is pooled and not connection.answered
                    if not unread or endpoint.once or self._loop.time() - started > STALE_SECONDS:
                        raise
                    pooled = None
        except TransportError as error:
            raise read_failure(error, endpoint.provider, endpoint.timeouts) from error
        stream.status, stream.headers = connection.status, connection.headers
        encoding = stream.headers.get(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            stream.close()
            raise UpstreamBroken(f"{endpoint.provider} compressed its answer, which it was asked not to do.")
        return stream

    async def _connect(self, origin: Origin, endpoint: Endpoint) -> Connection:
        within = min(endpoint.timeouts.connect, endpoint.timeouts.answer[1])
        try:
            connection = await connect(origin, self._opened(endpoint), self._forget, self._room, within=within)
        except asyncio.CancelledError as exc:
            raise Unsent from exc
        if connection.is_open:
            self._all.add(connection)
        try:
            self._opened(endpoint)
        except UpstreamUnreachable:
            connection.abort()
            raise
        return connection

    def _opened(self, endpoint: Endpoint) -> ssl.SSLContext:
        if self._tls is None:
            raise UpstreamUnreachable(f"{endpoint.provider} can't be asked: the gateway is stopping.")
        return self._tls

    # --- the pool ---

    async def _take(self, origin: Origin, now: float) -> Connection | None:
        """The one used last. It has been idle for a turn of the loop: what a provider says beyond its answer is seen by then."""
        idle = self._idle[origin]
        while idle:
            connection, _ = idle.popitem()
            if now <= connection.idle_since:
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError as exc:
                    connection.abort()
                    raise Unsent from exc
            if connection.is_open and now < connection.idle_since + self._keep_alive:
                return connection
            connection.abort()
        return None

    def _release(self, connection: Connection) -> None:
        """The exchange is over. The connection stays only if all of its answer was read."""
        if not connection.reusable or not connection.at_end or self._tls is None:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle[connection.origin][connection] = None
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._keep_alive, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long: providers do so, too, and then without telling."""
        now, self._sweeping = self._loop.time(), None
        for connection in [one for idle in self._idle.values() for one in idle]:
            if now >= connection.idle_since + self._keep_alive:
                connection.abort()
        if any(self._idle.values()):
            self._sweeping = self._loop.call_later(self._keep_alive, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._idle[connection.origin].pop(connection, None)


class ByteStream:
    """An answer under way: status, headers, and bytes as they arrive. Ends itself when a limit of time has run out."""

    __slots__ = ("_connection", "_endpoint", "_release", "_room", "_watchdog", "headers", "status")

    headers: Headers

    def __init__(
        self, connection: Connection, endpoint: Endpoint, release: Callable[[Connection], None], *, started: float
    ) -> None:
        self.status = 0
        self._connection: Connection | None = connection
        self._endpoint = endpoint
        self._release = release
        self._room = MAX_STREAM_BYTES
        self._watchdog = connection.watchdog
        self._watchdog.watch(endpoint.timeouts, started=started, expire=self._expire)

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else "ended" if self._connection.at_end else "open"
        return f"<ByteStream {self._endpoint.provider} {self.status} {state}>"

    @property
    def whole(self) -> bool:
        """The answer has come to its own end, and was read to it; at a broken connection's it is not."""
        return self._connection is not None and self._connection.at_end

    async def read(self) -> bytes:
        """The bytes that have arrived since; b"" at the end, be it a proper one or a broken connection."""
        connection = self._connection
        if connection is None:
            return b""
        self._watchdog.wait()
        try:
            while (data := connection.take()) is None:
                await connection.news()
        except BrokenOff as end:
            let_go(end)
            data = b""
        except TransportError as error:
            raise self._meaning(error) from error
        self._watchdog.rest()
        self._room -= len(data)
        if self._room < 0:
            raise UpstreamBroken(f"{self._endpoint.provider} sent more than {MAX_STREAM_BYTES // MIB} MiB in one stream.")
        return data

    async def pipe(self, into: Callable[[bytes], bool]) -> None:
        """Give `into` bytes as they arrive, until it returns False, or until `read` has something else to tell."""
        connection, watchdog = self._connection, self._watchdog
        if connection is None:
            return

        def hear(data: bytes) -> bool:
            watchdog.heard()
            self._room -= len(data)
            return into(data) and self._room >= 0

        watchdog.wait()
        await connection.pipe(hear)
        watchdog.rest()

    async def read_whole(self, most: int = MAX_REPLY_BYTES) -> bytes:
        """All of it, for an answer that is not a stream, which is closed with it.

        Raises `UpstreamTooLong` for more than `most` bytes. An error is read as far as it may tell its reason: what is longer
        tells none, and stays the error that its status says.
        """
        connection = self._connection
        if connection is None:
            return b""
        failed = self.status != OK
        if failed:
            most = MAX_READ
        try:
            # all of it has come with its head, as most answers do
            whole = connection.take() if connection.reusable else await self._gather(connection, most)
        finally:
            self.close()
        if whole is not None and len(whole) <= most:
            return whole
        if failed:
            return b""
        provider = self._endpoint.provider
        raise UpstreamTooLong(f"{provider} sent an answer of more than {most // MIB} MiB: ask for less at a time.")

    async def _gather(self, connection: Connection, most: int) -> bytes | None:
        """What comes, to its end or until it is more than `most` bytes; None if more is announced."""
        announced = self.headers.get(b"content-length", b"")
        size = int(announced) if announced.isdigit() else 0
        if size > most:
            return None
        whole = BytesIO()  # pieces in a list would all be held twice when they are joined
        try:
            while size <= most and (piece := connection.take()) != b"":
                if piece is None:
                    await connection.news()
                else:
                    whole.write(piece)
                    size = whole.tell()
        except TransportError as error:
            raise self._meaning(error) from error
        return whole.getvalue()

    async def drain(self) -> None:
        """After the last word: wait a moment for the end of the body, so that the connection can be used again."""
        connection = self._connection
        if connection is None or connection.at_end:
            return
        self._watchdog.watch(DRAINING, started=asyncio.get_running_loop().time(), expire=self._expire)
        with contextlib.suppress(TransportError, UpstreamTimeout):
            while await connection.read():
                pass

    def close(self) -> None:
        """End it. The connection is kept only if the body was read to its end; else it is closed at once."""
        connection, self._connection = self._connection, None
        if connection is not None:  # else the watchdog may be over the next call by now
            self._watchdog.stop()
            self._release(connection)

    def _expire(self, limit: Limit) -> None:
        if self._connection is not None:
            self._connection.fail(self._endpoint.timeouts.exceeded(self._endpoint.provider, limit))

    def _meaning(self, error: TransportError) -> UpstreamError:
        return read_failure(error, self._endpoint.provider, self._endpoint.timeouts)
