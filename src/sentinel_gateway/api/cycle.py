"""One request and its answer on a connection: uvicorn's, with the cases that it leaves open.

An answer may come before the request's body has ended, an HTTP/1.0 caller can't read chunks, and what the app doesn't answer
is answered here in the shape of every other error.
"""

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from sentinel_gateway.api.exchange import JSON, SANE_ID, Header, error_headers
from sentinel_gateway.api.wire.openai import error_body
from sentinel_gateway.errors import InternalError, RequestError

BODILESS: Final = frozenset({204, 304})
"""Statuses whose answer ends with its head, whatever the head says."""
SHORT_BODY: Final = 65536
"""Bytes. A body of this length is read to its end even if nobody wants it; after a longer one the connection is closed."""


class Cycle(RequestResponseCycle):
    """One request and its answer.

    `send` is written anew: the head waits for the first piece of the body and leaves with it in one write, which halves what
    the kernel costs. An app here sends that piece at once, or the caller would wait for the head as well.
    """

    _head = b""
    _bodiless = False

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.response_complete:
            return
        if self.response_started:
            self._send_body(message.get("body", b""), last=not message.get("more_body", False))
        else:
            self._hold_head(message["status"], message["headers"])

    def _hold_head(self, status: int, headers: Iterable[Header]) -> None:
        if self.more_body:
            self._answer_early()
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            if name == b"content-length":
                self.chunked_encoding, self.expected_content_length = False, int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value != b"close"
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        self._bodiless = self.scope["method"] == "HEAD" or status in BODILESS
        if self.chunked_encoding is None and not self._bodiless:
            self._frame(lines)
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        if not self._head.count(b"\n") == self._head.count(b"\r") == len(lines) or b"\0" in self._head:
            raise RuntimeError("a header of the answer holds a line break or a NUL")

    def _frame(self, lines: list[bytes]) -> None:
        """How a body without a given length ends: by chunks, or for HTTP/1.0, which knows none, by the connection's end."""
        if self.scope["http_version"] == "1.0":
            self.keep_alive = False
        else:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")

    def _send_body(self, body: bytes, *, last: bool) -> None:
        if self._bodiless:
            body = b""
        elif self.chunked_encoding:
            body = b"%b%b" % (b"%x\r\n%b\r\n" % (len(body), body) if body else b"", b"0\r\n\r\n" if last else b"")
        elif self.chunked_encoding is not None:
            self._count(len(body), last=last)
        head, self._head = self._head, b""
        self.transport.write(head + body if head else body)
        if last:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _count(self, size: int, *, last: bool) -> None:
        """An answer that is not as long as its head says would run into the next one."""
        self.expected_content_length -= size
        if self.expected_content_length < 0 or (last and self.expected_content_length > 0):
            raise RuntimeError("the answer is not as long as its Content-Length")

    def _answer_early(self) -> None:
        """The body has not ended. A caller that was never told to continue may even leave it out."""
        length = next((value for name, value in self.scope["headers"] if name == b"content-length"), None)
        if self.waiting_for_100_continue or length is None or int(length) > SHORT_BODY:
            self.keep_alive = False
        self.transport = _Lingering(self.transport)

    async def send_500_response(self) -> None:
        error = InternalError("The gateway failed on this request.")
        headers, body = render(error, self.scope["headers"])
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class _CanLinger(Protocol):
    def linger(self) -> None: ...


class _Lingering(asyncio.Transport):
    """The transport of an early answer: closing it is left to the connection, which still has to read."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        cast("_CanLinger", self._transport.get_protocol()).linger()


def render(error: RequestError, received: Iterable[Header]) -> tuple[list[Header], bytes]:
    """Headers and body of an error that the app does not answer, and after which the connection is closed."""
    asked = next((value for name, value in received if name == b"x-request-id"), b"")
    request_id = asked if SANE_ID.fullmatch(asked) else b"req_" + os.urandom(16).hex().encode("ascii")
    body = error_body(error)
    length = (b"content-length", b"%d" % len(body))
    return [JSON, length, (b"connection", b"close"), (b"x-request-id", request_id), *error_headers(error)], body
