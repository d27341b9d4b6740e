"""One HTTP/1.1 connection to a provider: how it is opened, and what comes on it. What an answer means is read elsewhere.

A connection carries one exchange at a time: `ask`, a `status`, `read` to the end, and then it may be asked again if `reusable`.
"""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

import httptools
from aiohappyeyeballs import AddrInfoType, start_connection

from sentinel_gateway.providers._deadlines import Watchdog

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 100
READ_SIZE: Final = 16 * 1024
"""So much is read at a time, but over TLS. The loop by itself reads a quarter of a megabyte, to wait here for a slow caller."""
READ_AHEAD_BYTES: Final = 8 * 1024
"""So much may wait unread for a slow caller; once there is more, the provider is made to wait. Over TLS one read brings more."""
TLS_READ_SIZE: Final = 256 * 1024
"""What uvloop reads at a time of a connection over TLS; it takes no wishes."""
ROOM_SIZE: Final = TLS_READ_SIZE + 16 * 1024
"""For all that one read over TLS may decipher: what it has brought, and the record of which it has brought the rest."""
ONE_WRITE_BYTES: Final = 64 * 1024
"""A body up to here is copied behind its head, to leave in one write."""
EYEBALLS_DELAY: Final = 0.25
"""Seconds after which the next address of a name is tried beside the one before (RFC 8305)."""
BODILESS: Final = frozenset({204, 304})
INTERIM: Final = range(100, 200)
Headers = dict[bytes, bytes]
"""Of an answer, as they came; but for the names, which are in lower case. What was told twice is joined by a comma."""

_METADATA_ADDRESSES: Final = frozenset({"fd00:ec2::254", "100.100.100.200", "192.0.0.192"})
"""Cloud metadata services outside the link-local ranges."""


class TransportError(Exception):
    """The connection did not do what it should have done."""


class NoAddress(TransportError):
    """The host's name leads nowhere."""


class ConnectFailed(TransportError):
    """No address accepted a connection, or none may be used."""


class ConnectTimeout(TransportError):
    """No connection in time."""


class CertificateRefused(TransportError):
    """The provider's certificate is not valid for its name, or nobody vouches for it."""


class HandshakeFailed(TransportError):
    """TLS could not be agreed on."""


class Disconnected(TransportError):
    """The connection ended before the head of an answer was complete."""


class BrokenOff(TransportError):
    """The connection ended in the middle of an answer."""


class NotHttp(TransportError):
    """What came is not a sound HTTP answer."""


class Origin(NamedTuple):
    """Whom a connection leads to. `tls` as in https."""

    host: str
    port: int
    tls: bool


class Connection(asyncio.BufferedProtocol):
    """See the module. `on_lost` is told when the connection has ended, whatever it was doing.

    `room`, of `ROOM_SIZE`, is where the loop puts what has come. All connections of a loop may share it: what is in it is read
    at once.

    When a provider hangs up, uvloop throws away what has come over TLS and was not given to us yet, and that may be an answer's
    end. So nothing is left with it that it does not count: the room takes all that can be deciphered. And while ciphertext waits
    there, because we wait for a slow caller, the socket is not read: neither is the end. So over TLS up to `ROOM_SIZE` more than
    `READ_AHEAD_BYTES` wait for the caller, and up to `TLS_READ_SIZE` behind them.
    """

    __slots__ = (
        "_ended",
        "_eof",
        "_failure",
        "_hear",
        "_lines",
        "_loop",
        "_on_lost",
        "_parser",
        "_paused",
        "_pieces",
        "_room",
        "_transport",
        "_unframed",
        "_unread",
        "_waiter",
        "answered",
        "headers",
        "idle_since",
        "origin",
        "reusable",
        "status",
        "watchdog",
    )

    _transport: asyncio.Transport
    headers: Headers
    """Once there is a `status`."""

    def __init__(self, origin: Origin, on_lost: Callable[["Connection"], None], room: memoryview) -> None:
        self.origin = origin
        self._room = room if origin.tls else room[:READ_SIZE]
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self.watchdog = Watchdog(self._loop)
        """Over the exchange under way."""
        self._waiter: asyncio.Future[None] | None = None
        self._hear: Callable[[bytes], bool] | None = None
        """Who is given a body's bytes as they arrive."""
        self.idle_since = 0.0
        """The loop's time; of a connection that is not in use."""
        self._eof = False
        self._failure: Exception | None = None
        self._pieces: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._begin()
        self._ended = True

    def _begin(self) -> None:
        """What one exchange leaves to the next; nothing of it is unread by then, and none has failed."""
        self.answered = False
        """Something of the answer has come."""
        self.reusable = False
        """The answer has come to its end, and the connection may carry another."""
        self.status = 0
        """Of the answer, once its head is complete."""
        self._lines: list[tuple[bytes, bytes]] = []
        """Headers and trailers so far."""
        self._unframed = 0
        """Bytes that came since the last piece of a body: of the head, of trailers, between chunks."""
        self._ended = False
        """Nothing more may come."""

    def __repr__(self) -> str:
        state = "idle" if self.at_end else self.status or "waiting"
        return f"<Connection {self.origin.host}:{self.origin.port} {state}>"

    # --- one exchange ---

    def ask(self, head: bytes, body: bytes) -> None:
        """Send a request. Not before the exchange before it has ended."""
        self._begin()
        if self._transport.is_closing():
            self._failure = Disconnected("it had ended before")
        elif len(body) <= ONE_WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    async def read(self) -> bytes:
        """What has come of the body since; b"" at its end. Raises as `news`."""
        while (data := self.take()) is None:
            await self.news()
        return data

    def take(self) -> bytes | None:
        """As `read`, without waiting: None if nothing has come."""
        pieces = self._pieces
        if not pieces:
            return b"" if self._ended else None
        data = b"".join(pieces)  # of one piece, that piece
        pieces.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def pipe(self, into: Callable[[bytes], bool]) -> None:
        """Give `into` a body's bytes as they arrive, until it returns False, or until `take` has something else to tell.

        It also ends once much has come at a time.
        """
        if self._pieces or self._ended or self._failure is not None:
            return
        self._hear = into
        try:
            await self.news()
        finally:
            self._hear = None

    @property
    def at_end(self) -> bool:
        """The whole answer has come and was read."""
        return self._ended and not self._pieces

    def fail(self, error: Exception) -> None:
        """End the exchange: who waits for it gets this error. The connection is closed."""
        if self._failure is None and not self._ended:
            self._failure = error
            self._wake()
        self.abort()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def abort(self) -> None:
        """Close it, now. Under TLS without a goodbye: a provider that is busy generating would not answer it."""
        self._transport.abort()

    def news(self) -> asyncio.Future[None]:
        """Done as soon as something has come, or the connection has ended.

        Raises if it had failed before: `Disconnected`, `BrokenOff`, `NotHttp`, or what `fail` was given.
        """
        if self._failure is not None:
            raise self._failure
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what comes ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's transport reads and writes
        if self.origin.tls:
            transport.set_read_buffer_limits(high=1, low=0)  # type: ignore[attr-defined] # bytes that are not deciphered yet
        else:
            self._transport.set_write_buffer_limits(0)  # a request goes out at once, not in the next turn of the loop

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - what the loop would like
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended:
            self.abort()  # nobody asked
            return
        self.answered = True
        self._unframed += nbytes
        try:
            self._parser.feed_data(self._room[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            found = error.__context__ if isinstance(error.__context__, NotHttp) else error
            self.fail(NotHttp(str(found)))
        if self._unframed > MAX_HEAD_BYTES and not self._ended:
            self.fail(NotHttp(f"a head or trailers of more than {MAX_HEAD_BYTES} bytes"))
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            if self._hear is not None and self._pieces:
                try:  # of one who sends as fast as we read, what comes next is left to the next turn: others wait as well
                    if self._hear(self.take() or b"") and nbytes < READ_SIZE and not self._ended:
                        return
                except Exception as exc:  # noqa: BLE001 - broad: there is nobody above; it is raised where the end of this is waited for
                    waiter.set_exception(exc)
                    return
            waiter.set_result(None)  # once for all that has come together
        if self._pieces and not self._ended:  # which nobody has taken
            self._unread += nbytes
            if self._unread > READ_AHEAD_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def eof_received(self) -> None:
        self._eof = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._failure is None and not self._ended:
            if self._eof and self._lasts_until_close():
                self._ended = True
            else:
                self._failure = BrokenOff(str(exc)) if self.status else Disconnected(str(exc))
        self.reusable = False
        self._wake()
        self.watchdog.close()
        del self._parser  # which holds us
        self._on_lost(self)

    def on_message_begin(self) -> None:
        if self._ended:
            raise NotHttp("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        lines = self._lines
        lines.append((name.lower(), value))
        if len(lines) > MAX_HEADERS:
            raise NotHttp(f"more than {MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status in INTERIM:
            self._lines.clear()
        elif status < INTERIM.start:
            raise NotHttp(f"the status {status}")
        else:
            self.status, self.headers = status, _headers(self._lines)  # what comes behind are trailers, which could pass for them

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._unframed = 0

    def on_message_complete(self) -> None:
        if self.status:
            self._ended = True
            # An answer may come before all of the request has left; the next one would go out behind what is left of it.
            self.reusable = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()

    def _lasts_until_close(self) -> bool:
        """An answer has begun that tells in no other way where it ends."""
        if not self.status or self.status in BODILESS:
            return False
        headers = self.headers
        return b"content-length" not in headers and headers.get(b"transfer-encoding", b"identity").lower() == b"identity"


def _headers(lines: list[tuple[bytes, bytes]]) -> Headers:
    headers = dict(lines)
    if len(headers) < len(lines):
        headers = {}
        for name, value in lines:
            headers[name] = b"%b, %b" % (headers[name], value) if name in headers else value
    return headers


async def connect(
    origin: Origin, tls: ssl.SSLContext, on_lost: Callable[[Connection], None], room: memoryview, *, within: float
) -> Connection:
    """An open connection, its TLS handshake done; raises a `TransportError`. `within` in seconds."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within):
            sock = await _open(origin)
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(origin, on_lost, room),
                    sock=sock,
                    ssl=tls if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                    ssl_handshake_timeout=within if origin.tls else None,
                )
            except BaseException:
                sock.close()
                raise
    except TimeoutError as exc:
        raise ConnectTimeout from exc
    except ssl.SSLCertVerificationError as exc:
        raise CertificateRefused(str(exc)) from exc
    except OSError as exc:
        raise (HandshakeFailed if origin.tls else ConnectFailed)(str(exc)) from exc
    return connection


async def _open(origin: Origin) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise NoAddress(str(exc)) from exc
    if not addresses:
        raise NoAddress("its name has none")
    try:
        return await start_connection(addresses, happy_eyeballs_delay=EYEBALLS_DELAY, socket_factory=_socket)
    except OSError as exc:
        raise ConnectFailed(str(exc)) from exc


def _socket(address: AddrInfoType) -> socket.socket:
    """For each address that is tried, after its name was resolved: a name may have moved since it was configured."""
    family, kind, protocol, _, where = address
    ip = ipaddress.ip_address(str(where[0]).partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or str(ip) in _METADATA_ADDRESSES:
        raise PermissionError(errno.EACCES, "link-local and cloud metadata addresses are refused")
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
