"""The one HTTP client that all upstream calls go through: pooled, bounded in bytes and in time, and strict.

Nothing above knows which library is below: `HttpClient` gives whole replies and byte streams and raises `UpstreamError`s.
It never follows a redirect, keeps no cookie, asks for no compression and refuses it if it comes, reads no proxy settings from
the environment, and sends only the headers that it is given plus its own three. What an answer *means* is read elsewhere.
"""

import asyncio
import errno
import functools
import io
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from sentinel_gateway.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from sentinel_gateway.providers._deadlines import Limit, Timeouts, Watchdog
from sentinel_gateway.providers._errors import TransportErrors

MIB: Final = 1024 * 1024
MAX_REPLY_BYTES: Final = 32 * MIB
MAX_STREAM_BYTES: Final = 256 * MIB
"""A stream is passed on, not kept, so it may be longer than a reply: a chunk carries some 200 bytes for each token."""
MAX_HEADER_BYTES: Final = 16 * 1024
"""Of one header; there may be `MAX_HEADERS` of them."""
MAX_HEADERS: Final = 100
READ_BYTES: Final = 64 * 1024
"""Twice as much may wait unread for a slow caller before the provider is made to wait."""
LARGE_BODY_BYTES: Final = MIB
KEEP_ALIVE_SECONDS: Final = 15
DNS_SECONDS: Final = 30
STALE_SECONDS: Final = 1.0
"""A pooled connection that the provider had already closed fails within a round trip. One that fails later was at work."""
DRAIN_SECONDS: Final = 0.05

_METADATA_ADDRESSES: Final = frozenset({"fd00:ec2::254", "100.100.100.200", "192.0.0.192"})
"""Cloud metadata services outside the link-local ranges."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a provider takes one kind of request, and what every request there carries."""

    provider: str
    url: URL
    headers: Mapping[str, str]
    timeouts: Timeouts


class Reply(msgspec.Struct, frozen=True):
    """A whole answer, whatever its status. Header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Attempt:
    """What became known of an attempt while its connection was chosen."""

    __slots__ = ("connected",)

    def __init__(self) -> None:
        self.connected = False
        """It opened a connection of its own instead of using a pooled one."""


_attempt: ContextVar[_Attempt] = ContextVar("attempt")


class HttpClient:
    """The connections to all providers. `node` names this gateway in `Via`, so that a loop can be told."""

    def __init__(self, *, node: str, version: str) -> None:
        self._headers = {
            hdrs.VIA: f"1.1 sentinel-{node}",
            hdrs.USER_AGENT: f"sentinel/{version}",
            hdrs.ACCEPT_ENCODING: "identity",
        }
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<HttpClient {self._headers[hdrs.VIA]!r} {'closed' if self._session is None else 'open'}>"

    async def open(self) -> None:
        """Must be awaited on the loop that makes the calls."""
        connector = aiohttp.TCPConnector(
            ssl=await asyncio.to_thread(verifying_tls),
            limit=0,  # the gateway bounds what is in flight where requests come in; a second queue here would hide it
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ttl_dns_cache=DNS_SECONDS,
            socket_factory=_open_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    async def close(self) -> None:
        """End every connection, at once."""
        session, self._session = self._session, None
        if session is not None and session.connector is not None:
            await session.connector.close(abort_ssl=True)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def fetch(self, endpoint: Endpoint, body: bytes | None, *, request_id: str = "") -> Reply:
        """Send `body` (POST; GET if None) and read the whole answer, whatever its status."""
        with TransportErrors(endpoint.provider, endpoint.timeouts):
            async with asyncio.timeout(endpoint.timeouts.answer[1]):
                response = await self._send(endpoint, body, request_id, accept="application/json")
                try:
                    raw = await _read_whole(response, endpoint.provider)
                finally:
                    _end(response)
        return Reply(response.status, response.headers, raw)

    async def stream(self, endpoint: Endpoint, body: bytes, *, request_id: str = "") -> "ByteStream":
        """Send `body`; returns when the status is known. The caller owns the stream and must close it."""
        started = asyncio.get_running_loop().time()
        with TransportErrors(endpoint.provider, endpoint.timeouts):
            async with asyncio.timeout(endpoint.timeouts.answer[1]):
                response = await self._send(endpoint, body, request_id, accept="text/event-stream")
        return ByteStream(response, endpoint, started=started)

    async def _send(self, endpoint: Endpoint, body: bytes | None, request_id: str, *, accept: str) -> aiohttp.ClientResponse:
        headers = {hdrs.ACCEPT: accept, **endpoint.headers}
        if body is not None:
            headers[hdrs.CONTENT_TYPE] = "application/json"
        if request_id:
            headers["x-request-id"] = request_id
        response = await self._send_again_if_stale(endpoint, headers, body)
        encoding = response.headers.get(hdrs.CONTENT_ENCODING, "identity")
        if encoding.lower() not in {"identity", ""}:
            _end(response)
            raise UpstreamBroken(f"{endpoint.provider} compressed its answer, which it was asked not to do.")
        return response

    async def _send_again_if_stale(
        self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        """Providers close idle connections, sometimes just as we send; then the same request goes out once more.

        A completion isn't idempotent, so this needs reason to believe that the request was never read: the connection came
        from the pool, it ended before the first byte of an answer, and it did so within `STALE_SECONDS`.
        """
        loop = asyncio.get_running_loop()
        started, attempt = loop.time(), _Attempt()
        _attempt.set(attempt)
        try:
            return await self._request(endpoint, headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except aiohttp.ClientConnectionError:
            if attempt.connected or loop.time() - started > STALE_SECONDS:
                raise
        return await self._request(endpoint, headers, body)

    async def _request(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes | None) -> aiohttp.ClientResponse:
        if self._session is None:
            raise UpstreamUnreachable(f"{endpoint.provider} can't be asked: the gateway is stopping.")
        return await self._session.request(
            hdrs.METH_GET if body is None else hdrs.METH_POST,
            endpoint.url,
            headers=headers,
            data=io.BytesIO(body) if body is not None and len(body) > LARGE_BODY_BYTES else body,
            allow_redirects=False,
            timeout=_connect_within(endpoint.timeouts.connect),
        )


class ByteStream:
    """An answer under way: status, headers, and bytes as they arrive. Ends itself when a limit of time has run out."""

    __slots__ = ("_content", "_errors", "_provider", "_response", "_room", "_timeouts", "_watchdog")

    def __init__(self, response: aiohttp.ClientResponse, endpoint: Endpoint, *, started: float) -> None:
        self._response = response
        self._content = response.content
        self._provider = endpoint.provider
        self._room = MAX_STREAM_BYTES
        self._errors = TransportErrors(endpoint.provider, endpoint.timeouts)
        self._timeouts = endpoint.timeouts
        self._watchdog = Watchdog(endpoint.timeouts, started=started, expire=self._expire)

    def __repr__(self) -> str:
        return f"<ByteStream {self._provider} {self.status} {'ended' if self._content.is_eof() else 'open'}>"

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self) -> bytes:
        """The bytes that have arrived since; b"" at the end, be it a proper one or a broken connection."""
        self._watchdog.wait()
        try:
            data = await self._content.readany()
        except aiohttp.ClientPayloadError:
            data = b""
        except (aiohttp.ClientError, OSError):
            with self._errors:  # entered only now: once a chunk would cost half a microsecond
                raise
        self._watchdog.rest()
        self._room -= len(data)
        if self._room < 0:
            raise UpstreamBroken(f"{self._provider} sent more than {MAX_STREAM_BYTES // MIB} MiB in one stream.")
        return data

    async def read_whole(self) -> bytes:
        """All of it, for an answer that turned out not to be a stream."""
        self._watchdog.wait()
        with self._errors:
            return await _read_whole(self._response, self._provider)

    async def drain(self) -> None:
        """After the last word: wait a moment for the end of the body, so that the connection can be used again."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, UpstreamTimeout):
            return

    def close(self) -> None:
        """End it. The connection is kept only if the body was read to its end; else it is closed at once."""
        self._watchdog.stop()
        _end(self._response)

    def _expire(self, limit: Limit) -> None:
        self._content.set_exception(self._timeouts.exceeded(self._provider, limit))
        _end(self._response)


async def _read_whole(response: aiohttp.ClientResponse, provider: str) -> bytes:
    pieces: list[bytes] = []
    room = MAX_REPLY_BYTES - (response.content_length or 0)
    if room >= 0:
        room = MAX_REPLY_BYTES
        while room >= 0 and (piece := await response.content.readany()):
            pieces.append(piece)
            room -= len(piece)
    if room < 0:
        raise UpstreamBroken(f"{provider} sent an answer of more than {MAX_REPLY_BYTES // MIB} MiB.")
    return b"".join(pieces)


def _end(response: aiohttp.ClientResponse) -> None:
    connection = response.connection
    if connection is not None and connection.transport is not None and not response.content.is_eof():
        # Not `close`: under TLS that says goodbye first, and waits for an answer from a side that is busy generating.
        connection.transport.abort()
    response.close()


def verifying_tls() -> ssl.SSLContext:
    """Certificates by the system's authorities, or by SSL_CERT_FILE. Reads files."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    """The only limit that the library keeps for us: it alone knows when it opens a connection.

    `sock_connect` takes in the TLS handshake, and costs nothing where a pooled connection is used.
    """
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds)


def _open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Called for each address that is tried, after its name was resolved: a name may have moved since it was configured."""
    family, kind, protocol, _, where = address
    ip = ipaddress.ip_address(where[0].partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or str(ip) in _METADATA_ADDRESSES:
        raise PermissionError(errno.EACCES, "link-local and cloud metadata addresses are refused")
    _attempt.get().connected = True
    return socket.socket(family, kind, protocol)
